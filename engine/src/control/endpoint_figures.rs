//! What the shards say of endpoints -> the text of `/metrics` about remote write.

use crate::metrics::table;
use crate::metrics::{EndpointFigures, Exposition, ShardFigures};
use crate::remote_write::progress::seconds_left;
use crate::remote_write::stats::LATENCY_BUCKETS_S;
use crate::remote_write::{Compression, DropCause, Message};
use std::collections::BTreeMap;

pub(super) fn write(out: &mut Exposition, shards: &[ShardFigures]) {
    let newest_ms = shards
        .iter()
        .map(|shard| shard.highest_timestamp_ms)
        .max()
        .unwrap_or(0);
    out.sample(&table::HIGHEST_TIMESTAMP, &[], newest_ms as f64 / 1e3);
    let mut endpoints: BTreeMap<&str, Vec<&EndpointFigures>> = BTreeMap::new();
    for endpoint in shards.iter().flat_map(|shard| &shard.endpoints) {
        endpoints
            .entry(&endpoint.identity)
            .or_default()
            .push(endpoint);
    }
    let mut add = |metric, value: fn(&EndpointFigures) -> u64| {
        for (name, parts) in &endpoints {
            let labels = [("remote_name", *name), ("url", parts[0].url.as_str())];
            let total: u64 = parts.iter().copied().map(value).sum();
            out.sample(metric, &labels, total as f64);
        }
    };
    add(&table::RW_SAMPLES, |one| one.stats.samples_sent);
    add(&table::RW_EXEMPLARS, |one| one.stats.exemplars);
    add(&table::RW_METADATA, |one| one.stats.metadata_sent);
    add(&table::RW_METADATA_FAILED, |one| one.stats.metadata_failed);
    add(&table::RW_RETRIED, |one| one.stats.samples_retried);
    add(&table::RW_RESENT, |one| one.stats.samples_resent);
    add(&table::RW_BYTES, |one| one.stats.bytes_sent);
    add(&table::RW_PENDING, |one| one.stats.samples_pending);
    add(&table::RW_IN_FLIGHT, |one| {
        u64::from(one.stats.requests_in_flight)
    });
    for (metric, failed) in [(&table::RW_FAILED, true), (&table::RW_DROPPED, false)] {
        for (name, parts) in &endpoints {
            for cause in DropCause::ALL
                .into_iter()
                .filter(|cause| cause.is_failure() == failed)
            {
                let dropped = |part: &&EndpointFigures| part.stats.samples_dropped[cause as usize];
                let total: u64 = parts.iter().map(dropped).sum();
                let labels = [
                    ("remote_name", *name),
                    ("url", &parts[0].url),
                    ("cause", cause.name()),
                ];
                out.sample(metric, &labels, total as f64);
            }
        }
    }
    for (name, parts) in &endpoints {
        for (class, result) in ["network", "1xx", "2xx", "3xx", "4xx", "5xx"]
            .iter()
            .enumerate()
        {
            let total: u64 = parts.iter().map(|part| part.stats.requests[class]).sum();
            let labels = [
                ("remote_name", *name),
                ("url", &parts[0].url),
                ("result", *result),
            ];
            out.sample(&table::RW_REQUESTS, &labels, total as f64);
        }
    }
    for (name, parts) in &endpoints {
        let labels = [("remote_name", *name), ("url", parts[0].url.as_str())];
        let mut counts = [0; LATENCY_BUCKETS_S.len() + 1];
        for part in parts {
            for (sum, count) in counts.iter_mut().zip(part.stats.latency.counts) {
                *sum += count;
            }
        }
        let sum_us: u64 = parts.iter().map(|part| part.stats.latency.sum_us).sum();
        out.histogram(
            &table::RW_LATENCY,
            &labels,
            &LATENCY_BUCKETS_S,
            &counts,
            sum_us as f64 / 1e6,
        );
    }
    for (name, parts) in &endpoints {
        let labels = [("remote_name", *name), ("url", parts[0].url.as_str())];
        let sent = parts
            .iter()
            .map(|part| part.stats.timestamp_ms_highest_sent)
            .max()
            .unwrap_or(0);
        out.sample(&table::RW_HIGHEST_SENT, &labels, sent as f64 / 1e3);
    }
    for (name, parts) in &endpoints {
        let labels = [("remote_name", *name), ("url", parts[0].url.as_str())];
        let lag_ms = parts.iter().map(|part| part.lag_ms).max().unwrap_or(0);
        out.sample(&table::RW_LAG, &labels, lag_ms as f64 / 1e3);
    }
    let mut most = |metric, value: fn(&EndpointFigures) -> u32| {
        for (name, parts) in &endpoints {
            let labels = [("remote_name", *name), ("url", parts[0].url.as_str())];
            let most = parts.iter().copied().map(value).max().unwrap_or(0);
            out.sample(metric, &labels, f64::from(most));
        }
    };
    most(&table::RW_SHARDS, |one| one.requests_bound);
    most(&table::RW_SHARDS_MIN, |one| one.requests_bounds.0);
    most(&table::RW_SHARDS_MAX, |one| one.requests_bounds.1);
    for (name, parts) in &endpoints {
        for compression in [Compression::Snappy, Compression::Zstd] {
            let labels = [
                ("remote_name", *name),
                ("url", parts[0].url.as_str()),
                ("compression", compression.name()),
            ];
            let uses = |part: &&&EndpointFigures| part.stats.form.compression == compression;
            let shards = parts.iter().filter(uses).count();
            out.sample(&table::RW_COMPRESSION, &labels, shards as f64);
        }
    }
    for (name, parts) in &endpoints {
        for (message, text) in [(Message::V1, "1.0"), (Message::V2, "2.0")] {
            let url = parts[0].url.as_str();
            let labels = [("remote_name", *name), ("url", url), ("message", text)];
            let sends = |part: &&&EndpointFigures| part.stats.form.message == message;
            let shards = parts.iter().filter(sends).count();
            out.sample(&table::RW_MESSAGE, &labels, shards as f64);
        }
    }
    left(out, &endpoints);
}

/// What endpoints have not acknowledged.
fn left(out: &mut Exposition, endpoints: &BTreeMap<&str, Vec<&EndpointFigures>>) {
    let mut add = |metric, value: fn(&[&EndpointFigures]) -> f64| {
        for (name, parts) in endpoints {
            let labels = [("remote_name", *name), ("url", parts[0].url.as_str())];
            out.sample(metric, &labels, value(parts));
        }
    };
    add(&table::RW_LEFT_BYTES, |parts| {
        parts.iter().map(|part| part.left.bytes).sum::<u64>() as f64
    });
    add(&table::RW_LEFT_SAMPLES, |parts| left_samples(parts) as f64);
    add(&table::RW_LEFT_SECONDS, |parts| {
        let fewer_per_s = parts.iter().map(|part| part.samples_fewer_per_s).sum();
        let lag_ms = parts.iter().map(|part| part.lag_ms).max().unwrap_or(0);
        seconds_left(lag_ms, left_samples(parts), fewer_per_s).unwrap_or(f64::INFINITY)
    });
}

fn left_samples(parts: &[&EndpointFigures]) -> u64 {
    parts.iter().map(|part| part.left.samples).sum()
}
