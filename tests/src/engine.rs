//! A configuration -> a running scrape engine: ours, or Debian's `prometheus` in agent mode.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use crate::debian;
use crate::http;
use crate::net;
use crate::process::Process;
use crate::wait;

/// What scrapes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// The `ringscrape` binary built with these tests.
    Ringscrape,
    /// Debian's `prometheus --enable-feature=agent`: the reference.
    Agent,
}

impl Engine {
    /// What a suite is about: ringscrape, or the reference if `RINGSCRAPE_TEST_SUBJECT=agent`,
    /// which shows that the suite itself is right.
    pub fn subject() -> Self {
        match std::env::var("RINGSCRAPE_TEST_SUBJECT").as_deref() {
            Ok("agent") => Self::Agent,
            _ => Self::Ringscrape,
        }
    }

    /// Name for messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ringscrape => "ringscrape",
            Self::Agent => "prometheus agent",
        }
    }

    /// Whether it can run here; says why not. See [`debian::program`].
    pub fn is_there(self) -> bool {
        match self {
            Self::Ringscrape => true,
            Self::Agent => debian::program("prometheus", "prometheus").is_some(),
        }
    }

    fn command(self, dir: &Path, config: &Path, listen: SocketAddr) -> Command {
        let data = dir.join("data");
        match self {
            Self::Ringscrape => {
                let mut command = Command::new(ringscrape());
                command.arg("run");
                command.arg(format!("--config.file={}", config.display()));
                command.arg(format!("--storage.path={}", data.display()));
                command.arg(format!("--web.listen-address={listen}"));
                command
            }
            Self::Agent => {
                let mut command = Command::new("prometheus");
                command.arg("--enable-feature=agent");
                command.arg(format!("--config.file={}", config.display()));
                command.arg(format!("--storage.agent.path={}", data.display()));
                command.arg(format!("--web.listen-address={listen}"));
                command
            }
        }
    }
}

/// A started engine.
#[derive(Debug)]
pub struct Running {
    /// The process.
    pub process: Process,
    /// Where its API listens.
    pub address: SocketAddr,
    /// Its configuration file, in a directory that holds its storage as well.
    pub config: PathBuf,
    engine: Engine,
}

impl Running {
    /// Writes `config` into `dir` and starts the engine on it, with `/-/reload` enabled.
    /// `dir/data` is the storage.
    ///
    /// # Panics
    /// If the process cannot be started.
    pub fn start(engine: Engine, dir: &Path, config: &str, extra: &[&str]) -> Self {
        let path = dir.join("config.yml");
        std::fs::write(&path, config).expect("cannot write a configuration file");
        let mut flags = vec!["--web.enable-lifecycle"];
        flags.extend(extra);
        Self::start_on(engine, dir, &path, net::free_address(), &flags)
    }

    /// Starts the engine on a configuration file that is there already, with no flags but the
    /// necessary ones and `extra`.
    ///
    /// # Panics
    /// If the process cannot be started.
    pub fn start_on(
        engine: Engine,
        dir: &Path,
        config: &Path,
        address: SocketAddr,
        extra: &[&str],
    ) -> Self {
        let mut command = engine.command(dir, config, address);
        command.args(extra);
        let process = Process::spawn(engine.name(), &mut command);
        Self {
            process,
            address,
            config: config.to_owned(),
            engine,
        }
    }

    /// Waits until `/-/ready` says so.
    ///
    /// # Panics
    /// If the process ends or is not ready within 30 s.
    pub fn wait_ready(&mut self) {
        let what = format!("{} is ready", self.engine.name());
        let limit = Duration::from_secs(30);
        let (process, address) = (&mut self.process, self.address);
        let found = wait::within(limit, || {
            if !process.is_alive() {
                return Some(false);
            }
            http::get(address, "/-/ready")
                .is_ok_and(|r| r.status == 200)
                .then_some(true)
        });
        assert!(
            found == Some(true),
            "{what}: not within {limit:?}; {}",
            self.process.log_tail()
        );
    }

    /// `GET path` of its API.
    ///
    /// # Errors
    /// If it does not answer.
    pub fn get(&self, path: &str) -> io::Result<http::Response> {
        http::get(self.address, path)
    }

    /// The sum of one of its own metrics over all label sets that contain each of `labels`
    /// (`name="value"`); 0 if there is none.
    pub fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        let Ok(response) = self.get("/metrics") else {
            return 0.0;
        };
        sum_of_metric(&response.text(), name, labels)
    }
}

/// Own metrics that are above zero and whose name has one of each group of words; a group lists
/// its words with `|` between them.
pub fn metrics_above_zero(text: &str, groups: &[&str]) -> Vec<String> {
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .filter(|line| {
            let name = line.split(['{', ' ']).next().unwrap_or_default();
            let value = line
                .rsplit_once(' ')
                .and_then(|(_, value)| value.parse::<f64>().ok());
            value.is_some_and(|value| value > 0.0)
                && groups
                    .iter()
                    .all(|group| group.split('|').any(|word| name.contains(word)))
        })
        .map(str::to_owned)
        .collect()
}

/// The sum of the samples called `name` in an exposition whose label text holds each of `labels`.
pub fn sum_of_metric(text: &str, name: &str, labels: &[&str]) -> f64 {
    text.lines()
        .filter_map(|line| {
            let rest = line.strip_prefix(name)?;
            let (set, value) = match rest.strip_prefix('{') {
                Some(rest) => rest.rsplit_once("} ")?,
                None => ("", rest.strip_prefix(' ')?),
            };
            let value = value.split(' ').next()?.parse::<f64>().ok()?;
            labels
                .iter()
                .all(|label| set.contains(label))
                .then_some(value)
        })
        .sum()
}

/// The path of the `ringscrape` binary that belongs to these tests.
///
/// `RINGSCRAPE_BIN` if set (the test command sets it), else built once with cargo in the profile
/// that this test binary was built in.
///
/// # Panics
/// If it cannot be built.
pub fn ringscrape() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| match std::env::var_os("RINGSCRAPE_BIN") {
        Some(path) => PathBuf::from(path),
        None => build(),
    })
}

fn build() -> PathBuf {
    // A test runs as TARGET/PROFILE/deps/NAME-HASH.
    let me = std::env::current_exe().expect("a process knows its own path");
    let folder = me
        .parent()
        .and_then(Path::parent)
        .expect("a test binary lies in a deps folder");
    let profile = match folder.file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => "dev",
        Some(name) => name,
    };
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .args(["build", "--package", "ringscrape", "--profile", profile])
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .status();
    assert!(
        status.is_ok_and(|status| status.success()),
        "cannot build the ringscrape binary"
    );
    folder.join("ringscrape")
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str =
        "# TYPE a_b counter\na_b{x=\"1\",y=\"2\"} 3\na_b{x=\"2\"} 4\na_bc 5\nz_fail 0\n";

    #[test]
    fn sums_are_over_the_wanted_series() {
        assert_eq!(sum_of_metric(TEXT, "a_b", &[]), 7.0);
        assert_eq!(sum_of_metric(TEXT, "a_b", &["x=\"1\""]), 3.0);
        assert_eq!(sum_of_metric(TEXT, "a_bc", &[]), 5.0);
        assert_eq!(sum_of_metric(TEXT, "none", &[]), 0.0);
    }

    #[test]
    fn metrics_are_found_by_words() {
        assert_eq!(metrics_above_zero(TEXT, &["x|a_", "bc"]), ["a_bc 5"]);
        assert!(metrics_above_zero(TEXT, &["fail"]).is_empty());
    }
}
