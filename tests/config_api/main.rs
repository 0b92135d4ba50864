//! A node with a store of its own, clients of its API and `config-sync` from a shell -> what is
//! stored, what is scraped, and what was refused.

mod api;
mod sync;
mod tls;

use ringscrape_tests::engine::{Engine, Running, ringscrape};
use ringscrape_tests::{http, wait};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;

/// How long anything may take here.
const LIMIT: Duration = Duration::from_secs(30);

/// A node with the scraping service, and a directory for files.
struct Node {
    running: Running,
    dir: TempDir,
}

/// What a command left.
struct Ran {
    code: Option<i32>,
    out: String,
    errors: String,
}

impl Ran {
    #[track_caller]
    fn expect(self, code: i32) -> Self {
        let (out, errors) = (&self.out, &self.errors);
        assert_eq!(self.code, Some(code), "out:\n{out}\nerrors:\n{errors}");
        self
    }
}

impl Node {
    fn start(extra: &[&str]) -> Self {
        let dir = TempDir::new().expect("cannot make a temporary directory");
        let config = "global: {scrape_interval: 1s, scrape_timeout: 900ms}\n\
                      scraping_service: {enabled: true, kvstore: {store: local}}\n";
        let file = dir.path().join("config.yml");
        std::fs::write(&file, config).expect("cannot write a configuration file");
        let address = ringscrape_tests::net::free_address();
        let mut running = Running::start_on(Engine::Ringscrape, dir.path(), &file, address, extra);
        running.wait_ready();
        Self { running, dir }
    }

    fn ask(
        &self,
        method: &str,
        path: &str,
        body: &str,
        headers: &[(&str, &str)],
    ) -> http::Response {
        let path = format!("/agent/api/v1/{path}");
        http::send(self.running.address, method, &path, headers, body).expect("an answer")
    }

    fn names(&self) -> Vec<String> {
        let list = self.ask("GET", "configs", "", &[]).json();
        let names = list["data"]["configs"].as_array().expect("a list").iter();
        names
            .map(|name| name.as_str().unwrap_or_default().to_owned())
            .collect()
    }

    /// Waits until a list of the API is as wanted.
    #[track_caller]
    fn wait_for(&self, path: &str, wanted: impl Fn(&Value) -> bool) {
        let mut last = Value::Null;
        let found = wait::within(LIMIT, || {
            last = self.ask("GET", path, "", &[]).json()["data"].take();
            wanted(&last).then_some(())
        });
        assert!(found.is_some(), "{path} is {last:#}");
    }

    /// A directory with these files.
    fn files(&self, name: &str, files: &[(&str, &str)]) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::create_dir_all(&path).expect("cannot make a directory");
        for (file, text) in files {
            std::fs::write(path.join(file), text).expect("cannot write a file");
        }
        path
    }

    /// `ringscrape config-sync`, against this node if no other address is given.
    fn sync(&self, directory: &Path, arguments: &[&str]) -> Ran {
        let address = format!("http://{}", self.running.address);
        let mut command = Command::new(ringscrape());
        if arguments.contains(&"--address") {
            return run(command.arg("config-sync").arg(directory).args(arguments));
        }
        command
            .arg("config-sync")
            .arg(directory)
            .arg("--address")
            .arg(address);
        run(command.args(arguments))
    }
}

fn run(command: &mut Command) -> Ran {
    let output = command.output().expect("cannot start the program");
    Ran {
        code: output.status.code(),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        errors: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// A configuration with one job and no endpoint.
fn with_job(job: &str) -> String {
    format!("scrape_configs:\n- job_name: {job}\n")
}
