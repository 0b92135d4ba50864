//! A scripted receiver of remote write 2.0, or of 1.0 alone -> what the engine sent it.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, Instant};

use ringscrape_tests::engine::{Engine, Running};
use ringscrape_tests::exporter::{Exporter, Page};
use ringscrape_tests::server::{self, Request, Server};
use ringscrape_tests::wait;
use ringscrape_tests::write_request_v2::{self as v2, Series};
use tempfile::TempDir;

use crate::{LIMIT, ringscrape};

pub(super) const CONTENT_TYPE: &str = "application/x-protobuf;proto=io.prometheus.write.v2.Request";
/// Scrapes that must have been sent when the run ends.
const SCRAPES: u64 = 9;
/// Which requests get 500; after how many the next one that is new gets 400.
pub(super) const FAILING: std::ops::Range<usize> = 2..5;
const REFUSED_AFTER: usize = 7;

/// A request, what it was answered, and when it came.
pub(super) struct Seen {
    pub(super) request: Request,
    pub(super) status: u16,
    pub(super) at: Instant,
}

impl Seen {
    fn plain(&self) -> Vec<u8> {
        let plain = snap::raw::Decoder::new().decompress_vec(&self.request.body);
        plain.expect("snappy in block format")
    }

    pub(super) fn decoded(&self) -> v2::Request {
        v2::decode(&self.plain()).expect("a 2.0 message")
    }
}

/// What a receiver got, and what the engine says of it.
pub(super) struct Run {
    pub(super) seen: Vec<Seen>,
    /// Samples that the engine has given up.
    pub(super) failed: f64,
}

impl Run {
    /// All series of requests that were taken, with their labels, in the order of arrival.
    pub(super) fn series(&self) -> Vec<(Vec<(String, String)>, Series)> {
        let taken = self.seen.iter().filter(|seen| seen.status < 300);
        let series = taken.flat_map(|seen| {
            let request = seen.decoded();
            let labelled = |one: &Series| (request.labels(one), one.clone());
            request.series.iter().map(labelled).collect::<Vec<_>>()
        });
        series.collect()
    }

    /// The samples of a metric.
    pub(super) fn samples(&self, name: &str) -> Vec<(u64, i64, i64)> {
        let named = |labels: &[(String, String)]| {
            labels
                .iter()
                .any(|(n, value)| n == "__name__" && value == name)
        };
        let all = self.series().into_iter();
        let all = all.filter(|(labels, _)| named(labels));
        all.flat_map(|(_, series)| series.samples).collect()
    }
}

/// To a receiver of 2.0.
pub(super) static SECOND: LazyLock<Option<Run>> =
    LazyLock::new(|| ringscrape().map(|it| run(it, true)));
/// To a receiver of 1.0.
pub(super) static FIRST: LazyLock<Option<Run>> =
    LazyLock::new(|| ringscrape().map(|it| run(it, false)));

/// `gone` is exposed up to the third scrape; the other target answers no more after it.
fn exporter() -> Exporter {
    Exporter::start(|scrape| {
        let number = scrape.number;
        if scrape.request.path() == "/short" {
            let mut page = Page::text(format!("short {number}\n"));
            page.status = if number > 3 { 500 } else { 200 };
            return page;
        }
        let mut body = format!(
            "# HELP done Things done.\n# TYPE done counter\n\
             done_total{{z=\"1\",a=\"größer\",empty=\"\"}} {number} # {{trace_id=\"abc\"}} 0.5\n\
             # HELP level_bytes How high.\n# TYPE level_bytes gauge\n# UNIT level_bytes bytes\n\
             level_bytes {number}\n\
             # TYPE odd gauge\nodd NaN\n"
        );
        if number <= 3 {
            body.push_str("# TYPE gone gauge\ngone 1\n");
        }
        body.push_str("# EOF\n");
        Page {
            content_type: "application/openmetrics-text; version=1.0.0; charset=utf-8".to_owned(),
            ..Page::text(body)
        }
    })
}

/// Runs the engine until all its scrapes have been sent.
fn run(engine: Engine, takes_second: bool) -> Run {
    let exporter = exporter();
    let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
    let shared = seen.clone();
    let host = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let receiver = Server::start(&[host], 0, move |request, stream| {
        let mut seen = shared.lock().expect("BUG: never poisoned");
        let is_second = request.header("content-type") == Some(CONTENT_TYPE);
        let is_new = request.header("retry-attempt").is_none();
        let refused = seen.iter().filter(|one| one.status == 400).count();
        let status = match seen.len() {
            _ if is_second != takes_second => 415,
            at if takes_second && FAILING.contains(&at) => 500,
            at if takes_second && at >= REFUSED_AFTER && is_new && refused == 0 => 400,
            _ => 200,
        };
        seen.push(Seen {
            request: request.clone(),
            status,
            at: Instant::now(),
        });
        let samples = match (is_second, status) {
            (true, 200) => seen.last().map(Seen::decoded),
            _ => None,
        };
        drop(seen);
        let samples = samples.unwrap_or_default();
        let count = |series: &Series| series.samples.len();
        let exemplars = |series: &Series| series.exemplars.len();
        let samples_written = samples.series.iter().map(count).sum::<usize>().to_string();
        let written = samples.series.iter().map(exemplars).sum::<usize>();
        let exemplars_written = written.to_string();
        let headers = [
            (
                "X-Prometheus-Remote-Write-Samples-Written",
                &*samples_written,
            ),
            ("X-Prometheus-Remote-Write-Histograms-Written", "0"),
            (
                "X-Prometheus-Remote-Write-Exemplars-Written",
                &*exemplars_written,
            ),
        ];
        // A receiver of 1.0 says nothing of the kind.
        let headers = if is_second { &headers[..] } else { &[] };
        // The text of a success means nothing, whatever it is.
        server::answer(stream, status, headers, b"error: out of order sample")
    });
    let address = exporter.address();
    let config = format!(
        "global: {{scrape_interval: 1s, scrape_timeout: 900ms}}\n\
         remote_write:\n- url: http://{}/some/path\n\
         \x20 protobuf_message: io.prometheus.write.v2.Request\n\
         \x20 compression: snappy\n\
         \x20 send_exemplars: true\n\
         \x20 headers: {{X-Own: mine}}\n\
         \x20 queue_config: {{batch_send_deadline: 100ms, min_backoff: 100ms}}\n\
         scrape_configs:\n- job_name: one\n  static_configs:\n\
         \x20 - {{targets: ['{address}'], labels: {{own: yes}}}}\n\
         - job_name: two\n  metrics_path: /short\n  static_configs: [{{targets: ['{address}']}}]\n",
        receiver.address(),
    );
    let dir = TempDir::new().expect("cannot make a temporary directory");
    let mut running = Running::start(engine, dir.path(), &config, &[]);
    let limit = Duration::from_secs(60);
    let scraped = || (exporter.count(host, "/metrics") >= SCRAPES).then_some(());
    wait::until("all scrapes were made", limit, String::new, scraped);
    let failed = running.metric("prometheus_remote_storage_samples_failed_total", &[]);
    assert!(running.process.terminate(LIMIT).success());
    let seen = std::mem::take(&mut *seen.lock().expect("BUG: never poisoned"));
    Run { seen, failed }
}
