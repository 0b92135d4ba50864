//! The fetcher's parts against plain models, and the whole against scripted servers.

use super::*;
use crate::config::{ScrapeProtocol, ScrapeRules};
use std::sync::Arc;

mod both_ways;
mod gzip;
mod loopback;
mod many;
mod memory;
mod response;
mod ring;
mod scripted;
mod server;
mod sink;

pub(super) fn rules() -> ScrapeRules {
    ScrapeRules {
        scrape_protocols: vec![
            ScrapeProtocol::OpenMetricsText1_0_0,
            ScrapeProtocol::PrometheusText0_0_4,
        ],
        ..ScrapeRules::default()
    }
}

pub(super) fn request(host: &str, path: &str) -> FetchRequest {
    let settings = Arc::new(RequestSettings::new(&rules(), 10_000));
    FetchRequest::new(host, path, settings).unwrap()
}

/// A well-formed text body of about `bytes` bytes.
pub(super) fn exposition(bytes: usize) -> Vec<u8> {
    let mut body = b"# HELP a Some counter.\n# TYPE a counter\n".to_vec();
    let mut n = 0;
    while body.len() < bytes {
        body.extend_from_slice(format!("a{{n=\"{n}\"}} {}\n", n * 17).as_bytes());
        n += 1;
    }
    body
}

pub(super) fn gzip(content: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

/// Cuts `data` into parts: lengths from `cuts`, in turn, at least 1.
pub(super) fn parts<'a>(data: &'a [u8], cuts: &[usize]) -> Vec<&'a [u8]> {
    let mut parts = Vec::new();
    let mut rest = data;
    for cut in cuts.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (part, after) = rest.split_at((*cut).clamp(1, rest.len()));
        parts.push(part);
        rest = after;
    }
    parts
}
