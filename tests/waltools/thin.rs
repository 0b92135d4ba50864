//! An endpoint that is down beside one that is well -> disk for its own data only, and all of that
//! when it is back.

use super::printed;
use ringscrape_tests::engine::{Engine, Running};
use ringscrape_tests::exporter::{Exporter, Page};
use ringscrape_tests::recorder::Recorder;
use ringscrape_tests::{http, net, wait};
use std::path::Path;
use std::time::Duration;
use tempfile::TempDir;

/// How long anything may take here.
const LIMIT: Duration = Duration::from_secs(90);
/// Series of the job whose endpoint is well, and of the one whose endpoint is down.
const MANY: u64 = 2_000;
const FEW: u64 = 50;
/// Scrapes of each target in each run.
const SCRAPES: u64 = 25;

/// An exporter of values that do not compress; the series 0 is the scrape's number.
fn exporter(series: u64) -> Exporter {
    Exporter::start(move |scrape| {
        let mut page = format!("number {}\n", scrape.number);
        for one in 1..series {
            let value = (scrape.number * 7_919 + one) as f64 / 7.0;
            page.push_str(&format!("x{{series=\"{one}\"}} {value}\n"));
        }
        Page::text(page)
    })
}

fn config(exporter: &Exporter, job: &str, receiver: &str) -> String {
    format!(
        "scrape_configs:\n\
         - {{job_name: {job}, scrape_interval: 200ms, scrape_timeout: 190ms, \
         static_configs: [{{targets: ['{}']}}]}}\n\
         remote_write:\n- {{url: '{receiver}', queue_config: {{max_backoff: 1s}}}}\n",
        exporter.address()
    )
}

/// Sizes of the segments' files but the newest one, oldest first (bytes).
fn closed(dir: &Path) -> Vec<u64> {
    let entries = std::fs::read_dir(dir).expect("the log is there");
    let mut files: Vec<_> = entries
        .filter_map(|entry| {
            let path = entry.expect("an entry").path();
            let bytes = std::fs::metadata(&path).ok()?.len();
            (path.extension()? == "wal").then_some((path, bytes))
        })
        .collect();
    files.sort();
    files.pop();
    files.into_iter().map(|(_, bytes)| bytes).collect()
}

/// The numbers of the scrapes that arrived at `path`, as they came.
fn arrived(recorder: &Recorder, path: &str) -> Vec<u64> {
    recorder.with(path, |samples| {
        let numbers = samples.iter().filter(|one| one.name() == "number");
        let values = numbers.filter(|one| !one.is_stale());
        values.map(|one| one.value() as u64).collect()
    })
}

#[test]
fn an_endpoint_that_is_down_costs_disk_for_its_own_data_only() {
    let (many, few) = (exporter(MANY), exporter(FEW));
    let well = Recorder::start();
    let port = net::free_address().port();
    let dir = TempDir::new().expect("cannot make a temporary directory");
    let file = format!(
        "scraping_service:\n  enabled: true\n  kvstore: {{store: local}}\n  \
         allow_networks: [127.0.0.0/8]\n  limits: {{scrape_interval: 100ms}}\n{}",
        config(&many, "many", &well.url("w"))
    );
    let own = config(&few, "few", &format!("http://127.0.0.1:{port}/d"));
    let shard = dir.path().join("data/wal/shard-000");
    let start = || {
        let mut running = Running::start(Engine::Ringscrape, dir.path(), &file, &["--shards=1"]);
        running.wait_ready();
        running
    };
    let count = |exporter: &Exporter| {
        let host = std::net::Ipv4Addr::LOCALHOST.into();
        exporter.count(host, "/metrics")
    };
    // Each start begins a segment.
    let mut stops = Vec::new();
    let mut running = start();
    let answer = http::send(
        running.address,
        "PUT",
        "/agent/api/v1/config/few",
        &[],
        &own,
    );
    assert_eq!(answer.expect("an answer").status, 201);
    for life in 1..=3 {
        let state = || format!("{} and {} scrapes", count(&many), count(&few));
        wait::until("both are scraped", LIMIT, state, || {
            (count(&many).min(count(&few)) >= life * SCRAPES).then_some(())
        });
        assert!(running.process.terminate(LIMIT).success());
        stops.push(count(&few));
        running = start();
    }
    let (logged_many, logged_few) = (8 * MANY * 3 * SCRAPES, 8 * FEW * 3 * SCRAPES);
    let state = || format!("{:?} bytes in closed segments", closed(&shard));
    // Who is well has all of them, so that nothing of its own is to stay.
    wait::until("the segments are smaller", LIMIT, state, || {
        let sizes = closed(&shard);
        let bytes: u64 = sizes.iter().sum();
        // That of the last life is made smaller in this one.
        let thinned = running.metric("ringscrape_wal_thinned_segments_total", &[]);
        (sizes.len() >= 3 && bytes < logged_many / 5 && thinned >= 1.0).then_some(())
    });
    let bytes: u64 = closed(&shard).iter().sum();
    assert!(
        bytes < 5 * logged_few,
        "{bytes} bytes for about {logged_few} of its own"
    );
    assert!(bytes > logged_few / 2, "{bytes} bytes are too few");
    let gave_back = running.metric("ringscrape_wal_thinned_bytes_total", &[]);
    assert!(gave_back > (logged_many / 5) as f64, "{gave_back}");

    // One more life reads what was made smaller as its own.
    assert!(running.process.terminate(LIMIT).success());
    stops.push(count(&few));
    printed(&["verify"], &dir.path().join("data"), 0);
    let mut running = start();
    let back = Recorder::scripted_on(port, |_| ringscrape_tests::recorder::Answer::status(204));
    let last = count(&few) + 2;
    let state = || format!("{:?}, {stops:?}", arrived(&back, "d"));
    wait::until("it has everything", LIMIT, state, || {
        (arrived(&back, "d").last() >= Some(&last)).then_some(())
    });
    let numbers = arrived(&back, "d");
    assert!(
        numbers.windows(2).all(|pair| pair[0] < pair[1]),
        "not once, or not in order: {numbers:?}"
    );
    // What was asked for at a stop may not have been logged.
    let is_at_stop = |number: &u64| stops.iter().any(|at| number.abs_diff(*at) <= 1);
    let missing: Vec<u64> = (1..=last)
        .filter(|number| !is_at_stop(number) && numbers.binary_search(number).is_err())
        .collect();
    // A scrape that took too long has no number, and says so.
    let failed = back.with("d", |samples| {
        let up = samples.iter().filter(|one| one.name() == "up");
        up.filter(|one| one.value() == 0.0).count()
    });
    assert!(
        missing.len() <= failed,
        "{missing:?}, stopped at {stops:?}, {failed} scrapes failed"
    );
    assert!(running.process.terminate(LIMIT).success());
    for recorder in [&well, &back] {
        assert_eq!(recorder.violations(), Vec::<String>::new());
    }
}
