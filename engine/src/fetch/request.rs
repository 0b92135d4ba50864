//! A target's URL and its job's settings -> the bytes of its scrape request.
//!
//! What all targets of a job have in common is kept once ([`RequestSettings`]); a target keeps its
//! path and host only.
//! Source: Prometheus scrape/scrape.go (`acceptHeader`, `targetScraper.scrape`).

use crate::config::{ScrapeProtocol, ScrapeRules};
use crate::service::settings::Networks;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::sync::Arc;

/// What all requests of a job with one timeout share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestSettings {
    /// Header fields behind `Host`, with the blank line that ends the head.
    fields: Box<str>,
    /// Uncompressed bytes at which a body fails the scrape; `u64::MAX` if there is no limit.
    pub body_size_limit_bytes: u64,
    /// Whether 301, 302, 303, 307 and 308 are followed.
    pub follow_redirects: bool,
    /// For a missing or unknown Content-Type.
    pub fallback_scrape_protocol: Option<ScrapeProtocol>,
    /// Where connections may lead; `None`: anywhere.
    pub networks: Option<Arc<Networks>>,
}

impl RequestSettings {
    /// Settings for the targets of a job whose scrapes may take `scrape_timeout_ms`.
    pub fn new(rules: &ScrapeRules, scrape_timeout_ms: u64) -> RequestSettings {
        let encoding = match rules.enable_compression {
            true => "gzip",
            false => "identity",
        };
        let fields = format!(
            "User-Agent: ringscrape/{}\r\nAccept: {}\r\nAccept-Encoding: {encoding}\r\n\
             X-Prometheus-Scrape-Timeout-Seconds: {}\r\n\r\n",
            env!("CARGO_PKG_VERSION"),
            accept(&rules.scrape_protocols),
            scrape_timeout_ms as f64 / 1000.0,
        );
        RequestSettings {
            fields: fields.into(),
            body_size_limit_bytes: match rules.body_size_limit_bytes {
                0 => u64::MAX,
                limit => limit,
            },
            follow_redirects: rules.follow_redirects,
            fallback_scrape_protocol: rules.fallback_scrape_protocol,
            networks: rules.networks.clone(),
        }
    }
}

/// The `Accept` header for `protocols`, byte for byte as Prometheus sends it: weights fall by 0.1
/// from 0.6 in order of preference, and anything is accepted last.
pub fn accept(protocols: &[ScrapeProtocol]) -> String {
    let mut header = String::new();
    let mut weight = 6;
    for protocol in protocols {
        let media_type = match protocol {
            ScrapeProtocol::OpenMetricsText1_0_0 => {
                "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8"
            }
            ScrapeProtocol::OpenMetricsText0_0_1 => "application/openmetrics-text;version=0.0.1",
            ScrapeProtocol::PrometheusText1_0_0 => "text/plain;version=1.0.0;escaping=allow-utf-8",
            ScrapeProtocol::PrometheusText0_0_4 => "text/plain;version=0.0.4",
            ScrapeProtocol::PrometheusProto => {
                "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;\
                 encoding=delimited"
            }
        };
        let _ = write!(header, "{media_type};q=0.{weight},");
        weight -= 1;
    }
    let _ = write!(header, "*/*;q=0.{weight}");
    header
}

/// A URL that can't be written into a request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// The path is not absolute or holds a character that must be escaped.
    #[error(
        "invalid path {0:?}: it must begin with '/' and hold escaped, printable ASCII characters"
    )]
    Path(String),
    /// The host is empty or holds a character that no host has.
    #[error("invalid host {0:?}: it must be HOST or HOST:PORT")]
    Host(String),
}

/// The request of one target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchRequest {
    host: Box<str>,
    path: Box<str>,
    settings: Arc<RequestSettings>,
}

impl FetchRequest {
    /// Whether a connection to `address` may be made.
    pub fn allows(&self, address: IpAddr) -> bool {
        let networks = self.settings.networks.as_ref();
        networks.is_none_or(|networks| networks.allows(address))
    }

    /// `host`: `HOST` or `HOST:PORT`, an IPv6 address in brackets; it becomes the `Host` field and
    /// the base of redirects. `path`: path and query, escaped, from `/`.
    ///
    /// # Errors
    /// Something in them would break the request apart.
    pub fn new(
        host: &str,
        path: &str,
        settings: Arc<RequestSettings>,
    ) -> Result<FetchRequest, RequestError> {
        if !path.starts_with('/') || !path.bytes().all(|b| b.is_ascii_graphic() && b != b'#') {
            return Err(RequestError::Path(path.to_owned()));
        }
        let in_host = |b: u8| b.is_ascii_graphic() && !b"/?#@\\".contains(&b);
        if host.is_empty() || !host.bytes().all(in_host) {
            return Err(RequestError::Host(host.to_owned()));
        }
        Ok(FetchRequest {
            host: host.into(),
            path: path.into(),
            settings,
        })
    }

    /// Host and, if given, port, as in the `Host` field.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Path and query.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// What the job's requests share.
    pub fn settings(&self) -> &Arc<RequestSettings> {
        &self.settings
    }

    /// Writes the whole request into `buffer`, cleared first.
    pub fn write(&self, buffer: &mut Vec<u8>) {
        buffer.clear();
        for part in [
            "GET ",
            &self.path,
            " HTTP/1.1\r\nHost: ",
            &self.host,
            "\r\n",
            &self.settings.fields,
        ] {
            buffer.extend_from_slice(part.as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fetch::tests::rules;

    #[test]
    fn accept_as_prometheus() {
        use ScrapeProtocol::*;
        assert_eq!(
            accept(&[
                OpenMetricsText1_0_0,
                OpenMetricsText0_0_1,
                PrometheusText1_0_0,
                PrometheusText0_0_4
            ]),
            "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
             application/openmetrics-text;version=0.0.1;q=0.5,\
             text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,\
             text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
        );
        assert_eq!(
            accept(&[PrometheusText0_0_4]),
            "text/plain;version=0.0.4;q=0.6,*/*;q=0.5"
        );
        assert_eq!(
            accept(&[PrometheusProto, OpenMetricsText1_0_0, PrometheusText0_0_4]),
            "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;\
             encoding=delimited;q=0.6,\
             application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,\
             text/plain;version=0.0.4;q=0.4,*/*;q=0.3"
        );
        assert_eq!(accept(&[]), "*/*;q=0.6");
    }

    #[test]
    fn request_bytes() {
        let mut rules = rules();
        rules.scrape_protocols = vec![ScrapeProtocol::PrometheusText0_0_4];
        for (timeout_ms, compress, seconds, encoding) in [
            (10_000, true, "10", "gzip"),
            (500, false, "0.5", "identity"),
            (1, true, "0.001", "gzip"),
        ] {
            rules.enable_compression = compress;
            let settings = Arc::new(RequestSettings::new(&rules, timeout_ms));
            let request = FetchRequest::new("[::1]:9100", "/metrics?a=b", settings).unwrap();
            let mut bytes = b"rest".to_vec();
            request.write(&mut bytes);
            assert_eq!(
                String::from_utf8(bytes).unwrap(),
                format!(
                    "GET /metrics?a=b HTTP/1.1\r\nHost: [::1]:9100\r\n\
                     User-Agent: ringscrape/{}\r\n\
                     Accept: text/plain;version=0.0.4;q=0.6,*/*;q=0.5\r\n\
                     Accept-Encoding: {encoding}\r\n\
                     X-Prometheus-Scrape-Timeout-Seconds: {seconds}\r\n\r\n",
                    env!("CARGO_PKG_VERSION")
                )
            );
        }
    }

    #[test]
    fn what_would_break_a_request_is_refused() {
        let settings = Arc::new(RequestSettings::new(&rules(), 1000));
        for path in [
            "",
            "metrics",
            "/a b",
            "/a\r\nX: y",
            "/\u{e4}",
            "/a#b",
            "/\0",
        ] {
            let result = FetchRequest::new("h", path, settings.clone());
            assert_eq!(result, Err(RequestError::Path(path.to_owned())));
        }
        for host in ["", "a b", "a\r\nX: y", "user@h", "h/x", "\u{e4}"] {
            let result = FetchRequest::new(host, "/", settings.clone());
            assert_eq!(result, Err(RequestError::Host(host.to_owned())));
        }
    }
}
