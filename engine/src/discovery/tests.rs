//! Real files and a real HTTP service on loopback -> the updates that a receiver sees.

use super::*;
use crate::config::Config;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// Longest wait for something that must happen.
const LONG: Duration = Duration::from_secs(20);
/// Wait for something that must not happen.
const SHORT: Duration = Duration::from_millis(600);

fn config(text: &str) -> Config {
    Config::parse(Path::new("c.yml"), text, &|_| None).unwrap_or_else(|error| panic!("{error}"))
}

fn run<F: Future>(test: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(test)
}

struct Seen(mpsc::Receiver<JobUpdate>);

impl Seen {
    async fn next(&mut self) -> JobUpdate {
        tokio::time::timeout(LONG, self.0.recv())
            .await
            .expect("an update")
            .expect("open")
    }

    /// Updates until one shows exactly these addresses.
    async fn until(&mut self, addresses: &[&str]) -> JobUpdate {
        loop {
            let update = self.next().await;
            if shown(&update) == addresses {
                return update;
            }
        }
    }

    async fn none(&mut self) {
        let update = tokio::time::timeout(SHORT, self.0.recv()).await;
        assert!(update.is_err(), "{update:?}");
    }
}

fn shown(update: &JobUpdate) -> Vec<&str> {
    let targets = update.groups.iter().flat_map(|group| &group.targets);
    targets.map(|target| target.get("__address__")).collect()
}

fn start(text: &str) -> (Discovery, Seen) {
    let (sender, receiver) = mpsc::channel(1);
    let mut discovery = Discovery::new(sender);
    discovery.apply(&config(text).scrape_configs);
    (discovery, Seen(receiver))
}

#[test]
fn static_targets_come_at_once_and_change_on_reload() {
    run(async {
        let job = |targets: &str| {
            format!(
                "scrape_configs:\n- job_name: a\n  static_configs:\n  - {{targets: [{targets}], \
                 labels: {{x: y}}}}\n  - {{targets: ['z:1']}}\n"
            )
        };
        let (mut discovery, mut seen) = start(&job("'h:1', 'h:2'"));
        let update = seen.next().await;
        assert_eq!(
            (shown(&update), update.complete),
            (vec!["h:1", "h:2", "z:1"], true)
        );
        assert_eq!(update.groups[0].labels.get("x"), "y");
        assert_eq!(
            (
                update.groups[0].source.as_str(),
                update.groups[1].source.as_str()
            ),
            ("0", "1")
        );
        discovery.apply(&config(&job("'h:1', 'h:2'")).scrape_configs);
        seen.none().await;
        discovery.apply(&config(&job("'h:3'")).scrape_configs);
        seen.until(&["h:3", "z:1"]).await;
        // The job goes and comes back: its targets are told again.
        discovery.apply(&config("").scrape_configs);
        discovery.apply(&config(&job("'h:3'")).scrape_configs);
        seen.until(&["h:3", "z:1"]).await;
    });
}

#[test]
fn a_job_without_targets_says_so() {
    run(async {
        let (_discovery, mut seen) = start("scrape_configs: [{job_name: a}]");
        let update = seen.next().await;
        assert_eq!((update.groups.len(), update.complete), (0, true));
    });
}

#[test]
fn files_are_followed_and_bad_ones_keep_their_targets() {
    run(async {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            // As tools do: a new file moved over the old one.
            std::fs::write(folder.path().join("tmp"), text).unwrap();
            std::fs::rename(folder.path().join("tmp"), folder.path().join(name)).unwrap();
        };
        write("a.json", r#"[{"targets": ["a:1"], "labels": {"l": "1"}}]"#);
        write("b.yml", "- targets: ['b:1']\n");
        write("ignored.txt", "x");
        let path = folder.path().display();
        let (discovery, mut seen) = start(&format!(
            "scrape_configs:\n- job_name: a\n  file_sd_configs:\n  - files: ['{path}/*.json', \
             '{path}/b.yml', '{path}/none/*.yml']\n    refresh_interval: 1h\n"
        ));
        let update = seen.next().await;
        assert_eq!(
            (shown(&update), update.complete),
            (vec!["a:1", "b:1"], true)
        );
        let group = &update.groups[0];
        assert_eq!(
            group.labels.get("__meta_filepath"),
            format!("{path}/a.json")
        );
        assert_eq!(group.labels.get("l"), "1");
        assert_eq!(group.source, format!("{path}/a.json:0"));

        write("a.json", r#"[{"targets": ["a:2"]}]"#);
        write("c.json", r#"[{"targets": ["c:1"]}]"#);
        seen.until(&["a:2", "b:1", "c:1"]).await;

        let errors = || discovery.counters().file_read_errors.load(Relaxed);
        assert_eq!(errors(), 0);
        write("a.json", "[{");
        std::fs::write(folder.path().join("b.yml"), "- targets: ['b:2']\n").unwrap();
        seen.until(&["a:2", "b:2", "c:1"]).await;
        assert!(errors() > 0);

        std::fs::remove_file(folder.path().join("c.json")).unwrap();
        seen.until(&["a:2", "b:2"]).await;
        // Reading the files is no change: it would go on for ever.
        let before = errors();
        seen.none().await;
        assert!(errors() <= before + 1);
    });
}

#[test]
fn a_source_goes_on_through_a_reload() {
    run(async {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().display();
        std::fs::write(folder.path().join("a.yml"), "- targets: ['a:1']\n").unwrap();
        let job = |more: &str| {
            config(&format!(
                "scrape_configs:\n- job_name: a\n  file_sd_configs:\n  - files: ['{path}/a.yml']\n\
                 {more}"
            ))
        };
        let (sender, receiver) = mpsc::channel(1);
        let (mut discovery, mut seen) = (Discovery::new(sender), Seen(receiver));
        discovery.apply(&job("").scrape_configs);
        seen.until(&["a:1"]).await;
        discovery.apply(&job("  sample_limit: 5\n").scrape_configs);
        seen.none().await;
        // A new source that doesn't answer: the known targets stay, and static ones wait for it.
        let (silent, _port) = listener().await;
        let with_http = format!(
            "  static_configs: [{{targets: ['s:1']}}]\n  http_sd_configs: [{{url: '{silent}'}}]\n"
        );
        discovery.apply(&job(&with_http).scrape_configs);
        seen.none().await;
        let update = seen.next().await;
        assert_eq!(
            (shown(&update), update.complete),
            (vec!["s:1", "a:1"], false)
        );
    });
}

async fn listener() -> (String, TcpListener) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    (
        format!("http://{}/targets", listener.local_addr().unwrap()),
        listener,
    )
}

/// Answers each request with what `answer` holds; remembers the last request.
fn serve(listener: TcpListener, answer: Arc<Mutex<String>>, request: Arc<Mutex<String>>) {
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut bytes = Vec::new();
            let mut buffer = [0; 4096];
            while !bytes.ends_with(b"\r\n\r\n") {
                match stream.read(&mut buffer).await {
                    Ok(length @ 1..) => bytes.extend_from_slice(&buffer[..length]),
                    _ => break,
                }
            }
            *request.lock().unwrap() = String::from_utf8_lossy(&bytes).to_ascii_lowercase();
            let text = answer.lock().unwrap().clone();
            let _ = stream.write_all(text.as_bytes()).await;
        }
    });
}

fn response(status: &str, content_type: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {length}\r\n\
         Connection: close\r\n\r\n{body}"
    )
}

#[test]
fn services_are_asked_and_bad_answers_keep_the_targets() {
    run(async {
        let (url, listener) = listener().await;
        let first = response("200 OK", "application/json", r#"[{"targets": ["a:1"]}]"#);
        let answer = Arc::new(Mutex::new(first));
        let request = Arc::new(Mutex::new(String::new()));
        serve(listener, answer.clone(), request.clone());
        let with_password = url.replace("http://", "http://user:secret@");
        let (discovery, mut seen) = start(&format!(
            "scrape_configs:\n- job_name: a\n  http_sd_configs:\n  - url: {with_password}\n    \
             refresh_interval: 100ms\n"
        ));
        let update = seen.next().await;
        assert_eq!((shown(&update), update.complete), (vec!["a:1"], true));
        assert_eq!(update.groups[0].labels.get("__meta_url"), url);
        assert_eq!(update.groups[0].source, format!("{url}:0"));
        let asked = request.lock().unwrap().clone();
        assert!(asked.starts_with("get /targets http/1.1\r\n"), "{asked}");
        assert!(
            asked.contains("x-prometheus-refresh-interval-seconds: 0.1\r\n"),
            "{asked}"
        );
        assert!(asked.contains("accept: application/json\r\n"), "{asked}");
        assert!(asked.contains("authorization: basic "), "{asked}");

        let failures = || discovery.counters().http_failures.load(Relaxed);
        for bad in [
            response("500 Oops", "application/json", "[]"),
            response("200 OK", "text/plain", "[]"),
            response("200 OK", "application/json", "[{"),
            "nonsense\r\n\r\n".to_owned(),
        ] {
            let before = failures();
            *answer.lock().unwrap() = bad;
            // The second failure from here saw the bad answer from its start.
            let failing = async {
                while failures() < before + 2 {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            };
            tokio::time::timeout(LONG, failing)
                .await
                .expect("failures are counted");
            assert!(seen.0.try_recv().is_err());
        }
        *answer.lock().unwrap() = response("200 OK", "application/json; charset=utf-8", "[]");
        seen.until(&[]).await;
    });
}
