//! A scrape request -> the response of that target, with its fault if it has one.

use std::collections::HashMap;
use std::time::Duration;

use hdrhistogram::Histogram;

use super::args::{ExpositionFormat, FleetArgs};
use super::faults::Fault;
use super::report::{FleetReport, OffGrid, Spread};
use super::sd::{self, Listeners};
use super::slots;
use crate::body::{self, Churn, Encoder, Format, Rest, Skeleton, gzip_around};
use crate::http::request::Request;
use crate::http::server::{Handler, Manner, Reply, wall_ns};
use crate::profile::{Profile, families};
use crate::scheme::{CYCLE_MAX, place};
use crate::sys;

/// Below this many places a cycle is not worth its memory and bodies are rendered each time.
const CYCLE_MIN: u32 = 8;
const OFF_GRID_MAX: usize = 100;
/// Unit of arrival times.
const TICK_NS: u64 = 10_000;

#[derive(Default)]
struct Target {
    completed: u64,
    requests: u64,
    /// In units of 10 us since the fleet's start, ascending.
    arrivals: Vec<u32>,
}

/// The handler of a fleet's server.
pub(super) struct Serving {
    args: FleetArgs,
    file_sd: String,
    skeleton: Skeleton,
    encoder: Encoder,
    targets: Vec<Target>,
    /// Key: see `key`.
    cache: HashMap<u64, Rest>,
    cached_bytes: usize,
    cache_bytes_max: usize,
    start_ns: u64,
    scrapes: u64,
    completed: u64,
    faults: u64,
    body_bytes: u64,
    scratch: Vec<u8>,
}

impl Serving {
    pub(super) fn new(args: &FleetArgs, file_sd: String, _listeners: &Listeners) -> Serving {
        let churn = match args.profile {
            Profile::Churn => Churn::from_percent(args.churn_percent),
            _ => None,
        };
        // Two series are the fleet's own.
        let families = families(args.profile, args.series as usize - 2);
        let mut skeleton = Skeleton::new(&families, CYCLE_MAX, churn);
        drop(families);
        let mut encoder = Encoder::new();
        let mut scratch = Vec::new();
        let host = args.unlike.then(|| body::host(0));
        skeleton.render(0, Format::Text, host.as_deref(), &mut scratch);
        let one = encoder.rest(&scratch, !args.no_gzip).bytes.len();
        let cache_bytes_max = args.cache_mib as usize * 1024 * 1024;
        let copies = if args.unlike {
            args.targets as usize
        } else {
            1
        };
        let mut cycle = (cache_bytes_max / one / copies).min(CYCLE_MAX as usize) as u32;
        if cycle < CYCLE_MIN {
            cycle = if args.unlike { CYCLE_MAX } else { CYCLE_MIN };
        }
        if let Some(churn) = churn {
            cycle = (cycle / churn.life).max(2) * churn.life;
        }
        skeleton.set_cycle(cycle);
        let mut serving = Serving {
            args: args.clone(),
            file_sd,
            skeleton,
            encoder,
            targets: (0..args.targets).map(|_| Target::default()).collect(),
            cache: HashMap::new(),
            cached_bytes: 0,
            cache_bytes_max,
            start_ns: wall_ns(),
            scrapes: 0,
            completed: 0,
            faults: 0,
            body_bytes: 0,
            scratch,
        };
        if args.prerender && !args.unlike {
            for place in 0..cycle {
                for format in [Format::Text, Format::OpenMetrics] {
                    serving.rest(0, place, format, !args.no_gzip);
                }
            }
        }
        serving
    }

    fn age(&self) -> Duration {
        Duration::from_nanos(wall_ns().saturating_sub(self.start_ns))
    }

    fn rest(&mut self, target: u32, place: u32, format: Format, gzip: bool) -> Rest {
        let owner = if self.args.unlike { target } else { 0 };
        let key = u64::from(owner) << 16
            | u64::from(place) << 2
            | u64::from(gzip) << 1
            | u64::from(format == Format::OpenMetrics);
        if let Some(rest) = self.cache.get(&key) {
            return rest.clone();
        }
        self.scratch.clear();
        let host = self.args.unlike.then(|| body::host(target));
        self.skeleton
            .render(place, format, host.as_deref(), &mut self.scratch);
        let rest = self.encoder.rest(&self.scratch, gzip);
        if self.cached_bytes + rest.bytes.len() <= self.cache_bytes_max {
            self.cached_bytes += rest.bytes.len();
            self.cache.insert(key, rest.clone());
        }
        rest
    }

    fn scrape(&mut self, target: u32, request: &Request<'_>) -> Reply {
        let age = self.age();
        let since_start = request.arrival_ns.saturating_sub(self.start_ns) / TICK_NS;
        let state = &mut self.targets[target as usize];
        state
            .arrivals
            .push(u32::try_from(since_start).unwrap_or(u32::MAX));
        state.requests += 1;
        self.scrapes += 1;
        let n = state.completed + 1;
        let fault = self
            .args
            .faults
            .of(target)
            .filter(|_| self.args.faults.strikes(state.requests, age));
        self.faults += u64::from(fault.is_some());
        if fault == Some(Fault::Status500) {
            return Reply::new("500 Internal Server Error", "text/plain", b"on purpose\n");
        }
        let format = match self.args.format {
            ExpositionFormat::Text => Format::Text,
            ExpositionFormat::Openmetrics => Format::OpenMetrics,
            ExpositionFormat::Auto if takes_openmetrics(request.headers.accept) => {
                Format::OpenMetrics
            }
            ExpositionFormat::Auto => Format::Text,
        };
        let gzip = !self.args.no_gzip && takes_gzip(request.headers.accept_encoding);
        let number = self.args.first_target + target;
        let place = place(number, n, self.skeleton.cycle());
        let rest = self.rest(number, place, format, gzip);
        let mut reply = response(number, n, format, gzip, rest, self.args.unlike);
        reply.manner = match fault {
            None | Some(Fault::Status500) => Manner::Plain,
            Some(Fault::Slow) => Manner::Late(self.args.faults.slow_delay),
            Some(Fault::Dribble) => Manner::Dribble(self.args.faults.slow_delay),
            Some(Fault::Truncate) => Manner::Cut,
            Some(Fault::Down) => Manner::HangUp,
        };
        reply
    }

    /// The report; with `since`, the slots count only what arrived in that last span.
    pub(super) fn report(&self, since: Option<Duration>) -> FleetReport {
        let age = self.age();
        let from = since.map_or(0, |since| {
            (age.saturating_sub(since).as_micros() / 10) as u32
        });
        let interval = (self.args.scrape_interval.as_micros() / 10) as u32;
        let mut lateness = Histogram::<u64>::new(3).expect("BUG: 3 digits are allowed");
        let mut jitter = lateness.clone();
        let mut report = FleetReport {
            targets: self.args.targets,
            series_per_target: self.args.series,
            seconds: age.as_secs_f64(),
            scrape_interval_seconds: self.args.scrape_interval.as_secs_f64(),
            scrapes: self.scrapes,
            completed: self.completed,
            faults: self.faults,
            body_bytes: self.body_bytes,
            targets_scraped: 0,
            slots_missed: 0,
            slots_doubled: 0,
            lateness: Spread::default(),
            jitter: Spread::default(),
            off_grid: Vec::new(),
            cpu_us_per_scrape: 0.0,
        };
        for (target, state) in self.targets.iter().enumerate() {
            let start = state.arrivals.partition_point(|at| *at < from);
            let slots = slots::measure(&state.arrivals[start..], interval);
            report.targets_scraped += u32::from(!slots.jitter.is_empty());
            report.slots_missed += slots.missed;
            report.slots_doubled += slots.doubled;
            // The first arrivals alone define the phase: one or two say nothing about jitter.
            if slots.jitter.len() > 1 {
                for (late, off) in slots.lateness.iter().zip(&slots.jitter) {
                    lateness.saturating_record(u64::from(*late));
                    jitter.saturating_record(u64::from(*off));
                }
            }
            if slots.missed + slots.doubled > 0 && report.off_grid.len() < OFF_GRID_MAX {
                report.off_grid.push(OffGrid {
                    instance: sd::instance(target as u32),
                    missed: slots.missed,
                    doubled: slots.doubled,
                });
            }
        }
        report.lateness = Spread::of(&lateness, 0.01);
        report.jitter = Spread::of(&jitter, 0.01);
        report.cpu_us_per_scrape = sys::thread_cpu_seconds() * 1e6 / self.scrapes.max(1) as f64;
        report
    }

    /// When each target was scraped in the last span: by `instance`, how long ago in ms.
    fn arrivals(&self, since: Duration) -> Reply {
        let age = (self.age().as_micros() / 10) as u32;
        let from = age.saturating_sub((since.as_micros() / 10) as u32);
        let mut ago_ms = serde_json::Map::new();
        for (target, state) in self.targets.iter().enumerate() {
            let start = state.arrivals.partition_point(|at| *at < from);
            let each = state.arrivals[start..].iter();
            let list: Vec<f64> = each.map(|at| f64::from(age - at) / 100.0).collect();
            ago_ms.insert(sd::instance(target as u32), list.into());
        }
        let json = serde_json::Value::Object(ago_ms).to_string();
        Reply::new("200 OK", "application/json", json.as_bytes())
    }
}

impl Handler for Serving {
    fn accepts(&mut self) -> bool {
        true
    }

    fn answer(&mut self, request: &Request<'_>) -> Reply {
        let (path, query) = request.path.split_once('?').unwrap_or((request.path, ""));
        if request.method != "GET" {
            return Reply::new("405 Method Not Allowed", "text/plain", b"GET only\n");
        }
        let target = path
            .strip_prefix("/t/")
            .and_then(|rest| rest.strip_suffix("/metrics"))
            .and_then(|number| number.parse::<u32>().ok())
            .and_then(|number| number.checked_sub(self.args.first_target))
            .filter(|target| *target < self.args.targets);
        if let Some(target) = target {
            return self.scrape(target, request);
        }
        match path {
            "/sd" => Reply::new("200 OK", "application/json", self.file_sd.as_bytes()),
            "/-/ready" | "/-/healthy" => Reply::new("200 OK", "text/plain", b"ready\n"),
            "/report" => {
                let since = query
                    .strip_prefix("since_ms=")
                    .and_then(|ms| ms.parse().ok());
                let report = self.report(since.map(Duration::from_millis));
                let json = serde_json::to_vec_pretty(&report)
                    .expect("BUG: a report has string keys and finite numbers");
                Reply::new("200 OK", "application/json", &json)
            }
            "/arrivals" => {
                let since = query.strip_prefix("since_ms=");
                match since.and_then(|ms| ms.parse().ok()) {
                    Some(ms) => self.arrivals(Duration::from_millis(ms)),
                    None => Reply::new("400 Bad Request", "text/plain", b"since_ms=N is missing\n"),
                }
            }
            _ => Reply::new("404 Not Found", "text/plain", b"see /sd for the targets\n"),
        }
    }

    fn completed(&mut self, token: u64) {
        // Token 0 is what is not a whole scrape; else target + 1 and the body's length above it.
        let first = u64::from(self.args.first_target) + 1;
        let target = (token & 0xffff_ffff).checked_sub(first);
        let Some(target) = target.and_then(|at| self.targets.get_mut(at as usize)) else {
            return;
        };
        target.completed += 1;
        self.completed += 1;
        self.body_bytes += token >> 32;
    }
}

fn response(target: u32, n: u64, format: Format, gzip: bool, rest: Rest, unlike: bool) -> Reply {
    let host = unlike.then(|| body::host(target));
    let mut front = Vec::with_capacity(512);
    body::front(target, n, format, host.as_deref(), &mut front);
    let (before, back, back_len) = if gzip {
        let (before, back) = gzip_around(&front, &rest);
        (before, back, 8)
    } else {
        (front, [0; 8], 0)
    };
    let length = before.len() + rest.bytes.len() + back_len;
    let mut head = Vec::with_capacity(256 + before.len());
    head.extend_from_slice(b"HTTP/1.1 200 OK\r\nContent-Type: ");
    head.extend_from_slice(match format {
        Format::Text => b"text/plain; version=0.0.4; charset=utf-8".as_slice(),
        Format::OpenMetrics => b"application/openmetrics-text; version=1.0.0; charset=utf-8",
    });
    if gzip {
        head.extend_from_slice(b"\r\nContent-Encoding: gzip");
    }
    head.extend_from_slice(b"\r\nContent-Length: ");
    head.extend_from_slice(length.to_string().as_bytes());
    head.extend_from_slice(b"\r\n\r\n");
    head.extend_from_slice(&before);
    Reply {
        front: head,
        rest: Some(rest.bytes),
        back,
        back_len,
        manner: Manner::Plain,
        token: (length as u64) << 32 | (u64::from(target) + 1),
        close: false,
    }
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack
        .windows(needle.len())
        .any(|window| window == needle)
}

fn takes_gzip(accept_encoding: &[u8]) -> bool {
    contains(accept_encoding, b"gzip")
}

/// Whether one of the media ranges is OpenMetrics 1.0.0. Scrapers list it first when they take it,
/// so
/// the q values need no reading.
fn takes_openmetrics(accept: &[u8]) -> bool {
    accept.split(|byte| *byte == b',').any(|range| {
        contains(range, b"application/openmetrics-text") && contains(range, b"version=1.0.0")
    })
}
