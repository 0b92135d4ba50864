//! A `Location` field -> the request of the next hop.

use super::error::FetchError;
use super::request::FetchRequest;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use url::{Host, Url};

/// Most requests made for one scrape, as in Go's net/http: the tenth answer must not redirect.
const REQUESTS_MAX: u8 = 10;

/// Where a redirect leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Hop {
    /// The next request.
    pub(super) request: Arc<FetchRequest>,
    /// Who serves it.
    pub(super) authority: Authority,
}

/// The server of a hop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Authority {
    /// The one before.
    Same,
    /// An address, written as such.
    Address(SocketAddr),
    /// A name to resolve, and the port.
    Name(String, u16),
}

/// Whether `status` asks to go elsewhere with a GET.
pub(super) fn is_redirect(status: u16) -> bool {
    matches!(status, 301 | 302 | 303 | 307 | 308)
}

/// The hop that `location`, in the answer to request number `requests` (from 1), asks for.
pub(super) fn hop(request: &FetchRequest, location: &str, requests: u8) -> Result<Hop, FetchError> {
    if requests >= REQUESTS_MAX {
        return Err(FetchError::Redirect(format!(
            "stopped after {REQUESTS_MAX} redirects"
        )));
    }
    let fault = |reason: String| {
        let shown: String = location.chars().take(200).collect();
        FetchError::Redirect(format!("failed to follow Location {shown:?}: {reason}"))
    };
    let base = format!("http://{}{}", request.host(), request.path());
    let base = Url::parse(&base).map_err(|error| fault(error.to_string()))?;
    let next = base
        .join(location)
        .map_err(|error| fault(error.to_string()))?;
    if next.scheme() != "http" {
        return Err(fault(format!("unsupported scheme {:?}", next.scheme())));
    }
    let (Some(host), Some(port)) = (next.host(), next.port_or_known_default()) else {
        return Err(fault("no host".to_owned()));
    };
    let host_field = match next.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_string(),
    };
    let path = match next.query() {
        Some(query) => format!("{}?{query}", next.path()),
        None => next.path().to_owned(),
    };
    let request = FetchRequest::new(&host_field, &path, request.settings().clone())
        .map_err(|error| fault(error.to_string()))?;
    let same = (base.host(), base.port_or_known_default()) == (Some(host.clone()), Some(port));
    let authority = match host {
        _ if same => Authority::Same,
        Host::Ipv4(ip) => Authority::Address(SocketAddr::new(IpAddr::V4(ip), port)),
        Host::Ipv6(ip) => Authority::Address(SocketAddr::new(IpAddr::V6(ip), port)),
        Host::Domain(name) => Authority::Name(name.to_owned(), port),
    };
    Ok(Hop {
        request: Arc::new(request),
        authority,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fetch::tests::request;

    #[test]
    fn locations() {
        let base = request("exporter.example:9100", "/metrics?a=b");
        let name = |name: &str, port| Authority::Name(name.to_owned(), port);
        for (location, host, path, authority) in [
            ("/other", "exporter.example:9100", "/other", Authority::Same),
            ("x?c=d", "exporter.example:9100", "/x?c=d", Authority::Same),
            (
                "?c=d",
                "exporter.example:9100",
                "/metrics?c=d",
                Authority::Same,
            ),
            ("//h/x", "h", "/x", name("h", 80)),
            (
                "http://exporter.example:9100",
                "exporter.example:9100",
                "/",
                Authority::Same,
            ),
            (
                "http://exporter.example/x",
                "exporter.example",
                "/x",
                name("exporter.example", 80),
            ),
            (
                "http://127.0.0.1:1/x y",
                "127.0.0.1:1",
                "/x%20y",
                Authority::Address("127.0.0.1:1".parse().unwrap()),
            ),
            (
                "http://[::1]/",
                "[::1]",
                "/",
                Authority::Address("[::1]:80".parse().unwrap()),
            ),
        ] {
            let hop = hop(&base, location, 1).unwrap();
            assert_eq!(
                (hop.request.host(), hop.request.path()),
                (host, path),
                "{location}"
            );
            assert_eq!(hop.authority, authority, "{location}");
        }
    }

    #[test]
    fn what_is_not_followed() {
        let base = request("h", "/");
        for (location, requests, words) in [
            ("https://h/", 1, "unsupported scheme \"https\""),
            ("file:///etc/passwd", 1, "unsupported scheme \"file\""),
            ("http://", 1, "empty host"),
            ("http://h:99999/", 1, "invalid port"),
            ("/", 10, "stopped after 10 redirects"),
        ] {
            let error = hop(&base, location, requests).unwrap_err();
            assert!(error.to_string().contains(words), "{error}");
            assert_eq!(error.cause(), "redirect");
        }
        assert!(hop(&base, "/", 9).is_ok());
    }
}
