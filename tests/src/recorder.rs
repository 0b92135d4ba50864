//! Remote-write requests -> every sample received, by request path, answered as scripted.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::server::{After, Request, Server, answer};
use crate::write_request;
pub use crate::write_request::{Histogram, Labels, Series};

/// The bits that mark a series as ended. Source: Prometheus `model/value`.
pub const STALE_BITS: u64 = 0x7ff0_0000_0000_0002;

/// One received sample.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// Names and values in the order in which they were sent.
    pub labels: Arc<Labels>,
    /// The float's bits, so that NaNs stay apart.
    pub value_bits: u64,
    /// Milliseconds since the epoch.
    pub timestamp_ms: i64,
}

impl Sample {
    /// The value of a label, if it is there.
    pub fn label(&self, name: &str) -> Option<&str> {
        self.labels
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, value)| value.as_str())
    }

    /// The metric name, or nothing.
    pub fn name(&self) -> &str {
        self.label("__name__").unwrap_or("")
    }

    /// Whether this is a staleness marker.
    pub fn is_stale(&self) -> bool {
        self.value_bits == STALE_BITS
    }

    /// The value as a float.
    pub fn value(&self) -> f64 {
        f64::from_bits(self.value_bits)
    }
}

/// What a request is answered with.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Status code; only 2xx answers record the samples.
    pub status: u16,
    /// Waited before answering.
    pub delay: Duration,
    /// Retry-After in seconds, if any.
    pub retry_after: Option<u32>,
    /// The body, as an explanation.
    pub body: String,
}

impl Answer {
    /// An immediate answer with that status and no more.
    pub fn status(status: u16) -> Self {
        Self {
            status,
            delay: Duration::ZERO,
            retry_after: None,
            body: String::new(),
        }
    }
}

#[derive(Debug, Default)]
struct State {
    by_path: HashMap<String, Vec<Sample>>,
    histograms: HashMap<String, Vec<(Arc<Labels>, Histogram)>>,
    arrivals: HashMap<String, Vec<(Instant, usize)>>,
    known: HashMap<Labels, Arc<Labels>>,
    requests: u64,
    refused: u64,
    violations: Vec<String>,
}

/// A running receiver. Dropping it stops it.
#[derive(Debug)]
pub struct Recorder {
    server: Server,
    state: Arc<Mutex<State>>,
}

impl Recorder {
    /// Takes everything and answers 204.
    pub fn start() -> Self {
        Self::scripted(|_| Answer::status(204))
    }

    /// Answers request number 1, 2, … as `script` says.
    pub fn scripted(script: impl Fn(u64) -> Answer + Send + Sync + 'static) -> Self {
        Self::scripted_on(0, script)
    }

    /// The same at a given port.
    pub fn scripted_on(port: u16, script: impl Fn(u64) -> Answer + Send + Sync + 'static) -> Self {
        let state = Arc::new(Mutex::new(State::default()));
        let shared = Arc::clone(&state);
        let host = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let server = Server::start(&[host], port, move |request, stream| {
            let number = {
                let mut state = shared.lock().map_err(|_| io::Error::other("poisoned"))?;
                state.requests += 1;
                state.requests
            };
            let reply = script(number);
            if !reply.delay.is_zero() {
                std::thread::sleep(reply.delay);
            }
            {
                let mut state = shared.lock().map_err(|_| io::Error::other("poisoned"))?;
                if (200..300).contains(&reply.status) {
                    state.record(request);
                } else {
                    state.refused += 1;
                }
            }
            let retry = reply.retry_after.map(|seconds| seconds.to_string());
            let mut headers = Vec::new();
            if let Some(retry) = &retry {
                headers.push(("Retry-After", retry.as_str()));
            }
            answer(stream, reply.status, &headers, reply.body.as_bytes())?;
            Ok(After::KeepAlive)
        });
        Self { server, state }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// The URL to write to; `path` keeps writers apart.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}/{path}", self.address())
    }

    /// Samples written to `path` so far, in order of arrival.
    pub fn samples(&self, path: &str) -> Vec<Sample> {
        self.lock()
            .by_path
            .get(&format!("/{path}"))
            .cloned()
            .unwrap_or_default()
    }

    /// Native histograms written to `path` so far, in order of arrival.
    pub fn histograms(&self, path: &str) -> Vec<(Arc<Labels>, Histogram)> {
        let state = self.lock();
        let histograms = state.histograms.get(&format!("/{path}"));
        histograms.cloned().unwrap_or_default()
    }

    /// Hands the samples written to `path` so far to `look`, without a copy.
    pub fn with<T>(&self, path: &str, look: impl FnOnce(&[Sample]) -> T) -> T {
        let state = self.lock();
        look(
            state
                .by_path
                .get(&format!("/{path}"))
                .map_or(&[], Vec::as_slice),
        )
    }

    /// For each request to `path` that was taken: when, and how many samples there were with it.
    pub fn arrivals(&self, path: &str) -> Vec<(Instant, usize)> {
        let state = self.lock();
        let arrivals = state.arrivals.get(&format!("/{path}"));
        arrivals.cloned().unwrap_or_default()
    }

    /// Counts what `pick` accepts among the samples written to `path`.
    pub fn count(&self, path: &str, pick: impl Fn(&Sample) -> bool) -> usize {
        let state = self.lock();
        let samples = state.by_path.get(&format!("/{path}"));
        samples.map_or(0, |samples| {
            samples.iter().filter(|sample| pick(sample)).count()
        })
    }

    /// Requests so far, and how many of them were not answered with 2xx.
    pub fn requests(&self) -> (u64, u64) {
        let state = self.lock();
        (state.requests, state.refused)
    }

    /// Forgets all samples and violations.
    pub fn clear(&self) {
        let mut state = self.lock();
        state.by_path.clear();
        state.arrivals.clear();
        state.violations.clear();
    }

    /// Breaches of the remote-write 1.0 specification seen so far.
    pub fn violations(&self) -> Vec<String> {
        self.lock().violations.clone()
    }

    /// Closes the receiver; connects are refused from here on.
    pub fn stop(&mut self) {
        self.server.stop();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state
            .lock()
            .expect("BUG: the recorder's state is never poisoned")
    }
}

impl State {
    fn record(&mut self, request: &Request) {
        // Remote write 1.0, or the same compressed as VictoriaMetrics takes it.
        let is_zstd = request.header("content-encoding") == Some("zstd");
        let (encoding, version) = if is_zstd {
            ("zstd", ("x-victoriametrics-remote-write-version", "1"))
        } else {
            ("snappy", ("x-prometheus-remote-write-version", "0.1.0"))
        };
        let expected = [
            ("content-encoding", encoding),
            ("content-type", "application/x-protobuf"),
            version,
        ];
        for (name, value) in expected {
            if request.header(name) != Some(value) {
                self.violate(format!("header {name}: {:?}", request.header(name)));
            }
        }
        let decoded = decode(request);
        match decoded {
            Ok(all) => {
                for series in all {
                    self.record_series(&request.target, series);
                }
                let path = &request.target;
                let samples = self.by_path.get(path).map_or(0, Vec::len);
                let arrivals = self.arrivals.entry(path.clone()).or_default();
                arrivals.push((Instant::now(), samples));
            }
            Err(error) => self.violate(error),
        }
    }

    fn record_series(&mut self, path: &str, series: write_request::Series) {
        let labels = match self.known.entry(series.labels) {
            Entry::Occupied(known) => Arc::clone(known.get()),
            Entry::Vacant(new) => {
                let labels = Arc::new(new.key().clone());
                let fault = fault_of(&labels);
                new.insert(Arc::clone(&labels));
                if let Some(fault) = fault {
                    self.violate(format!("{fault}: {labels:?}"));
                }
                labels
            }
        };
        let histograms = self.histograms.entry(path.to_owned()).or_default();
        histograms.extend(
            series
                .histograms
                .into_iter()
                .map(|one| (Arc::clone(&labels), one)),
        );
        let list = self.by_path.entry(path.to_owned()).or_default();
        for (value_bits, timestamp_ms) in series.samples {
            list.push(Sample {
                labels: Arc::clone(&labels),
                value_bits,
                timestamp_ms,
            });
        }
    }

    fn violate(&mut self, what: String) {
        if self.violations.len() < 20 {
            self.violations.push(what);
        }
    }
}

/// The series of a request: remote write 1.0, or the same compressed as VictoriaMetrics takes it.
///
/// # Errors
/// Says what is malformed.
pub fn decode(request: &Request) -> Result<Vec<Series>, String> {
    let encoding = request.header("content-encoding").unwrap_or("none");
    let plain = if encoding == "zstd" {
        zstd::stream::decode_all(&request.body[..]).map_err(|error| error.to_string())
    } else {
        let plain = snap::raw::Decoder::new().decompress_vec(&request.body);
        plain.map_err(|error| error.to_string())
    };
    plain
        .map_err(|error| format!("not {encoding}: {error}"))
        .and_then(|bytes| write_request::decode(&bytes))
}

fn fault_of(labels: &Labels) -> Option<&'static str> {
    if labels.windows(2).any(|pair| pair[0].0 == pair[1].0) {
        Some("label name twice")
    } else if labels.windows(2).any(|pair| pair[0].0 > pair[1].0) {
        Some("labels not sorted")
    } else if labels
        .iter()
        .any(|(name, value)| name.is_empty() || value.is_empty())
    {
        Some("empty label name or value")
    } else {
        None
    }
}
