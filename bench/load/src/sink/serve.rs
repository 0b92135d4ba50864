//! A remote write request -> an answer, its samples verified.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::args::SinkArgs;
use super::protocol::{Decompressor, Protocol};
use super::report::{ProtocolUse, SinkReport, SinkWindow};
use super::verify::Verifier;
use crate::error::Error;
use crate::fleet::Spread;
use crate::http::request::Request;
use crate::http::server::{Handler, Manner, Reply, wall_ns};
use crate::profile::scatter;
use crate::sys;

/// Live reports do not judge what is younger than this.
const SETTLE_MS: i64 = 15_000;

/// The handler of a sink's server.
pub(super) struct Receiving {
    args: SinkArgs,
    /// Set from outside: as in the time that the flags name.
    told_down: Arc<AtomicBool>,
    verifier: Verifier,
    decompressor: Decompressor,
    /// By the protocol's number.
    used: [ProtocolUse; Protocol::ALL.len()],
    start_ns: u64,
    first_sample_ms: u64,
    posts: u64,
    requests: u64,
    faults: u64,
    wire_bytes: u64,
    /// Requests, wire bytes and samples at the start of the current window.
    window: (u64, u64, u64),
}

impl Receiving {
    pub(super) fn new(args: &SinkArgs, told_down: Arc<AtomicBool>) -> Result<Receiving, Error> {
        Ok(Receiving {
            args: args.clone(),
            told_down,
            verifier: Verifier::new(args.expectations()?),
            decompressor: Decompressor::new(),
            used: Protocol::ALL.map(|protocol| ProtocolUse {
                protocol: protocol.name().to_owned(),
                ..ProtocolUse::default()
            }),
            start_ns: wall_ns(),
            first_sample_ms: 0,
            posts: 0,
            requests: 0,
            faults: 0,
            wire_bytes: 0,
            window: (0, 0, 0),
        })
    }

    fn age(&self) -> Duration {
        Duration::from_nanos(wall_ns().saturating_sub(self.start_ns))
    }

    fn down(&self) -> bool {
        let by_flag = self.args.down_from.is_some_and(|from| {
            let age = self.age();
            age >= from && age < from + self.args.down_for
        });
        by_flag || self.told_down.load(Ordering::Relaxed)
    }

    fn write(&mut self, request: &Request<'_>) -> Reply {
        self.posts += 1;
        if self.down() {
            self.faults += 1;
            let mut reply = Reply::new("503 Service Unavailable", "text/plain", b"");
            reply.manner = Manner::HangUp;
            return reply;
        }
        let lot = (scatter(self.posts) % 1_000_000) as f64 / 1e4;
        let refused = lot < self.args.fault_share;
        let mut headers = String::new();
        if !refused || self.args.fault_stored {
            match self.store(request) {
                Ok(written) => headers = written,
                Err(reply) => return reply,
            }
        }
        let mut reply = if refused {
            self.faults += 1;
            let retry = self.args.retry_after.map_or(String::new(), |after| {
                format!("Retry-After: {}\r\n", after.as_secs())
            });
            let status = format!("{} On Purpose", self.args.fault_status);
            Reply::with_headers(&status, &retry, b"refused on purpose\n")
        } else {
            let status = if self.args.answer == 204 {
                "204 No Content"
            } else {
                "200 OK"
            };
            Reply::with_headers(status, &headers, b"")
        };
        if !self.args.delay.is_zero() {
            reply.manner = Manner::Late(self.args.delay);
        }
        reply
    }

    /// Takes a request; gives the headers that the answer must have.
    fn store(&mut self, request: &Request<'_>) -> Result<String, Reply> {
        let refuse = |status, text: &str| Err(Reply::new(status, "text/plain", text.as_bytes()));
        let protocol = Protocol::of(&request.headers);
        let Some(protocol) = protocol.filter(|it| self.args.accept.contains(it)) else {
            return refuse(
                "415 Unsupported Media Type",
                "this content type or encoding is not taken\n",
            );
        };
        let plain = match self.decompressor.plain(protocol, request.body) {
            Ok(plain) => plain,
            Err(reason) => {
                self.verifier.refuse();
                return refuse("400 Bad Request", &format!("{reason}\n"));
            }
        };
        let now_ms = request.arrival_ns / 1_000_000;
        let before = self.verifier.totals;
        // Only Prometheus' specifications ask for sorted labels.
        self.verifier.order_matters = protocol != Protocol::Zstd1;
        let result = match protocol {
            Protocol::Snappy1 | Protocol::Zstd1 => self.verifier.request(plain, now_ms as i64),
            Protocol::Snappy2 => self.verifier.request_v2(plain, now_ms as i64),
        };
        let after = self.verifier.totals;
        if self.first_sample_ms == 0 && after.samples > 0 {
            self.first_sample_ms = now_ms;
        }
        if let Err(error) = result {
            // The verifier has counted it.
            return refuse("400 Bad Request", &format!("{error}\n"));
        }
        self.requests += 1;
        self.wire_bytes += request.body.len() as u64;
        let used = &mut self.used[protocol as usize];
        used.requests += 1;
        used.samples += after.samples - before.samples;
        used.wire_bytes += request.body.len() as u64;
        used.plain_bytes += plain.len() as u64;
        if protocol != Protocol::Snappy2 {
            return Ok(String::new());
        }
        // Source: remote write 2.0, "Required Written Response Headers".
        Ok(format!(
            "X-Prometheus-Remote-Write-Samples-Written: {}\r\n\
             X-Prometheus-Remote-Write-Histograms-Written: {}\r\n\
             X-Prometheus-Remote-Write-Exemplars-Written: {}\r\n",
            after.samples - before.samples,
            after.extras.histograms - before.extras.histograms,
            after.extras.exemplars - before.extras.exemplars
        ))
    }

    /// Everything received; `settled_ms` as in [`Verifier::sweep`], `None` for findings on arrival
    /// only.
    pub(super) fn report(&self, settled_ms: Option<i64>) -> SinkReport {
        let verifier = &self.verifier;
        let totals = verifier.totals;
        let findings = match settled_ms {
            Some(settled_ms) => verifier.sweep(settled_ms),
            None => verifier.findings,
        };
        let completeness = verifier.completeness(self.args.expect_targets, self.args.expect_series);
        let mut reasons = Vec::new();
        if !findings.clean() {
            reasons.push(findings.summary());
        }
        if totals.samples == 0 {
            reasons.push("no sample arrived".into());
        }
        let missing = completeness
            .targets_expected
            .saturating_sub(completeness.targets_seen);
        if missing > 0 {
            reasons.push(format!("{missing} targets never appeared"));
        }
        if completeness.samples_expected > completeness.samples_seen {
            let lacking = completeness.samples_expected - completeness.samples_seen;
            // The last scrape of each target may still be on its way.
            if lacking > completeness.targets_seen * self.args.expect_series {
                reasons.push(format!("{lacking} samples fewer than the scrapes had"));
            }
        }
        let (ups, downs) = verifier.ups_and_downs();
        let (series, table_bytes) = verifier.series();
        SinkReport {
            verified: reasons.is_empty(),
            reason: if reasons.is_empty() {
                "none".into()
            } else {
                reasons.join("; ")
            },
            seconds: self.age().as_secs_f64(),
            first_sample_ms: self.first_sample_ms,
            requests: self.requests,
            faults: self.faults,
            wire_bytes: self.wire_bytes,
            wire_bytes_per_sample: self.wire_bytes as f64 / totals.samples.max(1) as f64,
            protocols: self.protocols(),
            samples: totals.samples,
            samples_automatic: totals.automatic,
            series,
            markers: totals.markers,
            ups,
            downs,
            inexact_values: totals.inexact,
            unsorted_series: totals.unsorted,
            metadata: totals.extras.metadata,
            exemplars: totals.extras.exemplars,
            histograms: totals.extras.histograms,
            lag: Spread::of(&verifier.lag_ms, 1.0),
            findings,
            completeness,
            defects: verifier.defects.clone(),
            lost_scrapes: verifier.lost.clone(),
            table_bytes_per_series: table_bytes as f64 / series.max(1) as f64,
            cpu_ns_per_sample: sys::thread_cpu_seconds() * 1e9 / totals.samples.max(1) as f64,
        }
    }

    /// The protocols that were used.
    fn protocols(&self) -> Vec<ProtocolUse> {
        let used = self.used.iter().filter(|used| used.requests > 0);
        used.cloned().collect()
    }

    /// What came since the last call.
    fn take_window(&mut self) -> SinkWindow {
        let now = (self.requests, self.wire_bytes, self.verifier.totals.samples);
        let before = std::mem::replace(&mut self.window, now);
        let window = SinkWindow {
            requests: now.0 - before.0,
            wire_bytes: now.1 - before.1,
            samples: now.2 - before.2,
            lag: Spread::of(&self.verifier.window_lag_ms, 1.0),
        };
        self.verifier.window_lag_ms.reset();
        window
    }
}

fn json(value: &impl serde::Serialize) -> Reply {
    let json =
        serde_json::to_vec_pretty(value).expect("BUG: a report has string keys and finite numbers");
    Reply::new("200 OK", "application/json", &json)
}

impl Handler for Receiving {
    fn accepts(&mut self) -> bool {
        true
    }

    fn answer(&mut self, request: &Request<'_>) -> Reply {
        match (request.method, request.path) {
            ("POST", _) => self.write(request),
            ("GET", "/-/ready" | "/-/healthy") => Reply::new("200 OK", "text/plain", b"ready\n"),
            ("GET", "/report") => {
                json(&self.report(Some((wall_ns() / 1_000_000) as i64 - SETTLE_MS)))
            }
            ("GET", "/stats") => json(&self.report(None)),
            ("GET", "/window") => json(&self.take_window()),
            _ => Reply::new(
                "404 Not Found",
                "text/plain",
                b"POST remote write, or GET /report\n",
            ),
        }
    }

    fn completed(&mut self, _token: u64) {}
}
