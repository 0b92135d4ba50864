//! Scheme, address, path and parameters of a target -> what to connect to and what to send.
//!
//! Source: Go package `net/url`: `URL.String`, `Values.Encode`, `parseHost`, which is what
//! Prometheus builds a target's URL with. The address is a `host`, `host:port` or `[ipv6]:port`;
//! no port is added to it, only the connection uses the scheme's.

/// A target's URL in the parts that a request needs.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TargetUrl {
    /// `http`.
    pub scheme: String,
    /// A name or an address to resolve; IPv6 without brackets, possibly with a `%zone`.
    pub host: String,
    /// The port given, else the scheme's.
    pub port: u16,
    /// For the Host header: as given, without a zone.
    pub authority: String,
    /// For the request line: begins with `/`, percent-encoded, ASCII only.
    pub path_and_query: String,
}

const HTTP_PORT: u16 = 80;

impl TargetUrl {
    /// `query`: encoded, without `?`. Beside the URL: why it can't be used, if so.
    pub(super) fn new(
        scheme: &str,
        address: &str,
        path: &str,
        query: &str,
    ) -> (Self, Option<String>) {
        let (host, port, blocked) = match split(address) {
            Ok((host, port)) => (host, port, None),
            Err(cause) => (
                String::new(),
                0,
                Some(format!("address {address:?}: {cause}")),
            ),
        };
        let blocked = match scheme {
            "http" => blocked,
            "https" => Some("https is not supported by this version of ringscrape".into()),
            other => Some(format!("scheme {other:?} is not supported; use http")),
        };
        let mut path_and_query = encode_path(path);
        if path_and_query.is_empty() {
            path_and_query.push('/');
        }
        if !query.is_empty() {
            path_and_query.push('?');
            path_and_query.push_str(query);
        }
        let authority = match (address.find('%'), address.find(']')) {
            // Might hold anything, and isn't used.
            _ if blocked.is_some() => String::new(),
            (Some(zone), Some(end)) if zone < end => {
                format!("{}{}", &address[..zone], &address[end..])
            }
            _ if address.is_ascii() => address.to_owned(),
            _ => address.replacen(address.split(':').next().unwrap_or_default(), &host, 1),
        };
        let scheme = scheme.to_owned();
        (
            Self {
                scheme,
                host,
                port,
                authority,
                path_and_query,
            },
            blocked,
        )
    }
}

/// Host and port of an address.
fn split(address: &str) -> Result<(String, u16), &'static str> {
    let (host, port) = match address.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']').ok_or("the bracket is not closed")?;
            let bare = host.split('%').next().unwrap_or_default();
            if bare.parse::<core::net::Ipv6Addr>().is_err() {
                return Err("what stands in brackets is not an IPv6 address");
            }
            match port {
                "" => (host.to_owned(), ""),
                _ => (
                    host.to_owned(),
                    port.strip_prefix(':').ok_or("no `:` before the port")?,
                ),
            }
        }
        None => {
            let (host, port) = address.split_once(':').unwrap_or((address, ""));
            if port.contains(':') {
                return Err("an IPv6 address must stand in brackets");
            }
            (name(host)?, port)
        }
    };
    let digits = port.bytes().all(|b| b.is_ascii_digit());
    match port {
        "" => Ok((host, HTTP_PORT)),
        _ if !digits => Err("the port is not a number"),
        _ => Ok((host, port.parse().map_err(|_| "the port is above 65535")?)),
    }
}

/// A host name or IPv4 address; names with other letters in their ASCII form (IDNA).
fn name(host: &str) -> Result<String, &'static str> {
    const INVALID: &str = "the host name is not valid";
    if host.is_empty() {
        return Err("the host name is empty");
    }
    if !host.is_ascii() {
        return match ::url::Host::parse(host) {
            Ok(::url::Host::Domain(name)) => Ok(name),
            _ => Err(INVALID),
        };
    }
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=".contains(&b);
    if host.bytes().all(allowed) {
        Ok(host.to_owned())
    } else {
        Err(INVALID)
    }
}

/// The whole URL as Go's `URL.String` writes it.
pub(super) fn display(scheme: &str, address: &str, path: &str, query: &str) -> String {
    let colon = if scheme.is_empty() { "" } else { ":" };
    let question = if query.is_empty() { "" } else { "?" };
    let host = percent_encode(address, |b| b"-._~!$&'()*+,;=:[]<>\"".contains(&b));
    format!(
        "{scheme}{colon}//{host}{}{question}{query}",
        encode_path(path)
    )
}

/// An absolute path; an empty one stays empty.
fn encode_path(path: &str) -> String {
    let encoded = percent_encode(path, |b| b"-._~$&+,/:;=@".contains(&b));
    if encoded.is_empty() || encoded.starts_with('/') {
        encoded
    } else {
        format!("/{encoded}")
    }
}

/// `k=v&k=v2`, in the order given; keys should be sorted.
pub(super) fn encode_query(params: &[(String, Vec<String>)]) -> String {
    let mut query = String::new();
    for (name, values) in params {
        for value in values {
            if !query.is_empty() {
                query.push('&');
            }
            query.push_str(&encode_component(name));
            query.push('=');
            query.push_str(&encode_component(value));
        }
    }
    query
}

fn encode_component(text: &str) -> String {
    // A space is a plus here; a plus is not, so the order of the two steps doesn't matter.
    percent_encode(text, |b| b"-._~ ".contains(&b)).replace(' ', "+")
}

fn percent_encode(text: &str, is_plain: impl Fn(u8) -> bool) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || is_plain(byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}
