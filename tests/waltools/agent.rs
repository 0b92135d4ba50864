//! What Debian's prometheus agent has logged for a dead receiver -> arrives by `wal import`.

use crate::wal_with as wal;
use ringscrape_tests::engine::{Engine, Running};
use ringscrape_tests::exporter::{Exporter, Page};
use ringscrape_tests::recorder::{Answer, Recorder};
use ringscrape_tests::server::{After, Server, answer};
use ringscrape_tests::{net, wait};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;

/// How long anything may take here.
const LIMIT: Duration = Duration::from_secs(60);
/// Scrapes that the agent logs at least.
const SCRAPES: u64 = 8;
const SERIES: u64 = 40;

/// The log of an agent that has ended, and how many scrapes it was answered.
struct Backlog {
    dir: TempDir,
    scrapes: u64,
    instance: String,
}

impl Backlog {
    /// `None` where there is no Debian prometheus.
    fn make() -> Option<Self> {
        if !Engine::Agent.is_there() {
            return None;
        }
        let host = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let exporter = Exporter::start(|scrape| {
            let mut page = String::from("# TYPE x counter\n");
            for series in 0..SERIES {
                page.push_str(&format!("x{{series=\"{series}\"}} {}\n", scrape.number));
            }
            if scrape.number <= 4 {
                page.push_str("# TYPE ends gauge\nends 1\n");
            }
            Page::text(page)
        });
        let dir = TempDir::new().expect("cannot make a temporary directory");
        let config = format!(
            "global: {{scrape_interval: 1s, scrape_timeout: 900ms}}\n\
             remote_write: [{{url: 'http://{}/dead'}}]\n\
             scrape_configs:\n- job_name: node\n  static_configs: [{{targets: ['{}']}}]\n",
            net::free_address(),
            exporter.address()
        );
        // It would wait a minute for its receiver.
        let flags = ["--storage.remote.flush-deadline=1s"];
        let mut agent = Running::start(Engine::Agent, dir.path(), &config, &flags);
        agent.wait_ready();
        wait::until("the agent has scraped", LIMIT, String::new, || {
            (exporter.count(host, "/metrics") >= SCRAPES).then_some(())
        });
        // While it runs its log can be looked at.
        let output = wal(
            &["import", "--since=0", "--dry-run", "--output=json"],
            &dir.path().join("data"),
            &["--remote-write.url=http://127.0.0.1:9/"],
        );
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let view: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(view["in_use_by"], agent.process.id(), "{view}");
        assert!(view["series"].as_u64() >= Some(SERIES), "{view}");
        assert!(agent.process.terminate(LIMIT).success());
        Some(Self {
            scrapes: exporter.count(host, "/metrics"),
            instance: exporter.address().to_string(),
            dir,
        })
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }
}

/// Runs the import; what it says as JSON.
fn import(data: &Path, more: &[&str], code: i32) -> serde_json::Value {
    let output = wal(&["import", "--output=json"], data, more);
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{more:?}: {errors}");
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// What has arrived of `x`: by series the values, in order of arrival, without repetitions. Times
/// rise with them.
fn arrived(recorder: &Recorder, path: &str) -> BTreeMap<String, Vec<u64>> {
    let mut found: BTreeMap<String, Vec<(i64, u64)>> = BTreeMap::new();
    for sample in recorder.samples(path) {
        if sample.name() == "x" && !sample.is_stale() {
            let series = sample.label("series").unwrap_or_default().to_owned();
            let list = found.entry(series).or_default();
            list.push((sample.timestamp_ms, sample.value() as u64));
        }
    }
    let values = |mut list: Vec<(i64, u64)>| {
        assert!(list.is_sorted(), "out of order: {list:?}");
        list.dedup();
        list.into_iter().map(|(_, value)| value).collect()
    };
    found
        .into_iter()
        .map(|(series, list)| (series, values(list)))
        .collect()
}

fn url(recorder: &Recorder, path: &str) -> String {
    format!("--remote-write.url={}", recorder.url(path))
}

#[test]
fn the_backlog_of_an_agent_arrives_whole_and_in_order() {
    let Some(backlog) = Backlog::make() else {
        return;
    };
    let recorder = Recorder::scripted(|request| match request {
        1 => Answer::status(503),
        3 => Answer {
            retry_after: Some(1),
            ..Answer::status(429)
        },
        _ => Answer::status(204),
    });
    let all = import(&backlog.data(), &[&url(&recorder, "all"), "--since=0"], 0);
    let found = arrived(&recorder, "all");
    assert_eq!(found.len() as u64, SERIES);
    let wanted: Vec<u64> = (1..=backlog.scrapes).collect();
    for (series, values) in &found {
        // The last scrape may have been answered and not been logged when the agent ended.
        let logged = &wanted[..values.len().max(wanted.len() - 1)];
        assert_eq!(values, logged, "series {series}");
    }
    let samples = recorder.samples("all");
    assert_eq!(all["endpoints"][0]["acknowledged"], samples.len());
    assert_eq!(all["endpoints"][0]["samples"], samples.len());
    let ups = samples.iter().filter(|sample| sample.name() == "up");
    assert!(ups.count() as u64 >= backlog.scrapes - 1);
    let ends = samples.iter().filter(|sample| sample.name() == "ends");
    let ends: Vec<bool> = ends.map(|sample| sample.is_stale()).collect();
    assert_eq!(ends, [false, false, false, false, true]);
    assert_eq!(recorder.violations(), Vec::<String>::new());

    // By a configuration file, from the fourth scrape on.
    let fourth = samples.iter().find(|s| s.name() == "x" && s.value() == 4.0);
    let fourth_ms = fourth.expect("the fourth scrape").timestamp_ms;
    let config = backlog.dir.path().join("new.yml");
    let text = format!(
        "global: {{external_labels: {{cluster: c1}}}}\n\
         remote_write:\n- {{name: main, url: '{}', write_relabel_configs: [\
         {{source_labels: [series], regex: '3', action: drop}}]}}\n\
         - {{name: other, url: 'http://127.0.0.1:9/'}}\n",
        recorder.url("some")
    );
    std::fs::write(&config, text).expect("cannot write a configuration");
    let file = format!("--config.file={}", config.display());
    let since = format!("--since={}", fourth_ms as f64 / 1e3);
    import(&backlog.data(), &[&file, "--endpoint=main", &since], 1);
    let found = arrived(&recorder, "some");
    assert_eq!(found.len() as u64, SERIES - 1);
    assert!(found.values().all(|values| values[0] == 4), "{found:?}");
    let samples = recorder.samples("some");
    assert!(
        samples
            .iter()
            .all(|sample| sample.label("cluster") == Some("c1"))
    );

    // As the receiver says.
    let instance = backlog.instance.clone();
    let server = Server::start(
        &[IpAddr::V4(Ipv4Addr::LOCALHOST)],
        0,
        move |request, stream| {
            assert!(request.query().contains("up"), "{}", request.query());
            let seconds = fourth_ms as f64 / 1e3;
            let body = serde_json::json!({"status": "success", "data": {
                "resultType": "vector",
                "result": [{
                    "metric": {"job": "node", "instance": instance},
                    "value": [0, format!("{seconds:.3}")],
                }],
            }});
            let json = [("Content-Type", "application/json")];
            answer(stream, 200, &json, body.to_string().as_bytes())?;
            Ok(After::KeepAlive)
        },
    );
    let ask = format!("--ask=http://{}", server.address());
    import(
        &backlog.data(),
        &[&url(&recorder, "asked"), &ask, "--overlap=500ms"],
        0,
    );
    let found = arrived(&recorder, "asked");
    assert!(found.len() as u64 == SERIES && found.values().all(|values| values[0] == 4));
    assert_eq!(recorder.violations(), Vec::<String>::new());

    damaged(&backlog);
}

/// A flipped byte costs what stands there, and is told.
fn damaged(backlog: &Backlog) {
    let segment = backlog.data().join("wal/00000000");
    let mut bytes = std::fs::read(&segment).expect("a segment");
    let middle = bytes
        .iter()
        .rposition(|byte| *byte != 0)
        .expect("not empty")
        / 2;
    bytes[middle] ^= 1;
    std::fs::write(&segment, bytes).expect("cannot write the segment");
    let recorder = Recorder::start();
    let view = import(&backlog.data(), &[&url(&recorder, "w"), "--since=0"], 1);
    let place = &view["damage"][0];
    assert!(
        place["file"]
            .as_str()
            .is_some_and(|file| file.ends_with("wal/00000000")),
        "{view}"
    );
    assert!(place["from"].as_u64() <= Some(middle as u64), "{view}");
    assert!(place["to"].as_u64() > Some(middle as u64), "{view}");
    let found = arrived(&recorder, "w");
    let whole = backlog.scrapes as usize - 1;
    assert!(
        found.values().all(|values| values.len() + 3 >= whole),
        "{found:?}"
    );
    assert!(found.len() as u64 == SERIES, "{}", found.len());
}

#[test]
fn an_import_needs_a_point_in_time_a_log_and_an_endpoint() {
    let dir = TempDir::new().expect("cannot make a temporary directory");
    let to = "--remote-write.url=http://127.0.0.1:9/";
    for (more, code, said) in [
        (&[to][..], 2, "--since"),
        (&["--since=0"], 2, "--remote-write.url"),
        (&[to, "--since=0"], 3, "--storage.agent.path"),
        (&["--remote-write.url=ftp://x/", "--since=0"], 3, "ftp"),
        (&[to, "--ask=http://127.0.0.1:9"], 3, "--ask"),
    ] {
        let output = wal(&["import"], dir.path(), more);
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{more:?}: {text}");
        assert!(text.contains(said), "{more:?}: {text}");
    }
}
