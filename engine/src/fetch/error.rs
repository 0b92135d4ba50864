//! What can go wrong with a fetch -> words that users of Prometheus know, and a label for metrics.

use super::inflate::GzipError;
use super::response::ResponseError;
use std::fmt;
use std::net::SocketAddr;

/// How far a fetch had come. Displayed as what it was doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// A redirect's host name is with the resolver.
    Resolve,
    /// The connection is being made.
    Connect(SocketAddr),
    /// The request is being sent.
    Send,
    /// The request is sent, nothing has come back.
    Wait,
    /// As `Wait`, or an answer is there, but as many responses as allowed are being read.
    Queue,
    /// Within the response head.
    Head,
    /// Within the body.
    Body {
        /// Bytes of the body so far, uncompressed (but for a gzip body that is inflated at its
        /// end).
        body_bytes: u64,
    },
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Phase::Resolve => f.write_str("resolving the host of a redirect"),
            Phase::Connect(address) => write!(f, "connecting to {address}"),
            Phase::Send => f.write_str("sending the request"),
            Phase::Wait => f.write_str("waiting for the response"),
            Phase::Queue => f.write_str("waiting for a receive buffer, too many bodies in flight"),
            Phase::Head => f.write_str("reading the response head"),
            Phase::Body { body_bytes } => write!(f, "reading the body, {body_bytes} bytes so far"),
        }
    }
}

/// Why a fetch failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    /// No address to connect to.
    #[error("dial tcp: lookup {host}: {reason}")]
    Resolve {
        /// The host asked for.
        host: String,
        /// What the resolver said.
        reason: String,
    },
    /// The job may not connect to any of the addresses; the first one.
    #[error(
        "{} is in none of the networks that stored configurations may reach \
         (`scraping_service.allow_networks`)",
        address.ip()
    )]
    Network {
        /// The address.
        address: SocketAddr,
    },
    /// No connection to any of the addresses; the first one's error.
    #[error("dial tcp {address}: connect: {}", errno_text(*.errno))]
    Connect {
        /// The address.
        address: SocketAddr,
        /// `errno` of connect(2).
        errno: i32,
    },
    /// No socket could be opened.
    #[error("dial tcp {address}: socket: {}{}", errno_text(*.errno), files_hint(*.errno))]
    Socket {
        /// The address.
        address: SocketAddr,
        /// `errno` of socket(2) and what follows it.
        errno: i32,
    },
    /// All connections that the limit of open files leaves to a shard are busy.
    #[error(
        "{0} connections are in use, all that the limit of open files allows: raise it (ulimit -n, \
         LimitNOFILE=)"
    )]
    ConnectionsMax(usize),
    /// The connection broke.
    #[error("connection to {address} failed: {} (while {phase})", errno_text(*.errno))]
    Connection {
        /// The server's address.
        address: SocketAddr,
        /// `errno`.
        errno: i32,
        /// How far the fetch had come.
        phase: Phase,
    },
    /// The scrape's time was up.
    #[error("context deadline exceeded (while {0})")]
    Timeout(Phase),
    /// Not HTTP, or not complete.
    #[error("{error} (while {phase})")]
    Response {
        /// What was wrong.
        error: ResponseError,
        /// How far the fetch had come.
        phase: Phase,
    },
    /// Another status than 200.
    #[error("server returned HTTP status {status}{}{reason}", if reason.is_empty() { "" } else { " " })]
    Status {
        /// The status code.
        status: u16,
        /// The server's reason phrase, may be empty.
        reason: String,
    },
    /// A redirect that can't be followed.
    #[error("{0}")]
    Redirect(String),
    /// A compression that was not asked for.
    #[error("server sent Content-Encoding {0:?}, which was not asked for")]
    ContentEncoding(&'static str),
    /// The compressed body is damaged.
    #[error("{0}")]
    Gzip(GzipError),
    /// No dialect to read the body in; it was read to its end and had at least one byte.
    #[error("{reason}")]
    ContentType {
        /// What is wrong with the Content-Type.
        reason: String,
        /// Uncompressed size of the body.
        body_bytes: u64,
    },
    /// The body reached `body_size_limit`.
    #[error("body size limit exceeded (body_size_limit)")]
    BodySizeLimit,
    /// Lines that the reader of the body can't take in parts.
    #[error("a line, or the comments before a sample, is longer than {0} bytes")]
    LineTooLong(usize),
    /// All incomplete lines of a shard together hit their bound.
    #[error("too many incomplete lines in flight: {0} bytes in this shard")]
    CarryLimit(usize),
    /// The sink refused the body.
    #[error("{message}")]
    Body {
        /// For metrics.
        cause: &'static str,
        /// For people.
        message: String,
    },
}

impl FetchError {
    /// A short label for metrics, from a fixed set (but for what a sink gives in `Body`).
    pub fn cause(&self) -> &'static str {
        match self {
            FetchError::Resolve { .. } => "resolve",
            FetchError::Network { .. } => "network",
            FetchError::Connect { errno, .. } => match *errno {
                libc::ECONNREFUSED => "connection_refused",
                libc::ENETUNREACH | libc::EHOSTUNREACH => "unreachable",
                libc::EADDRNOTAVAIL => "no_local_port",
                libc::ETIMEDOUT => "timeout_connect",
                _ => "connect",
            },
            FetchError::Socket { errno, .. } => match *errno {
                libc::EMFILE | libc::ENFILE => "no_file_descriptor",
                libc::ENOBUFS | libc::ENOMEM => "no_memory",
                _ => "socket",
            },
            FetchError::ConnectionsMax(_) => "no_file_descriptor",
            FetchError::Connection { .. } => "connection",
            FetchError::Timeout(phase) => match phase {
                Phase::Resolve => "timeout_resolve",
                Phase::Connect(_) => "timeout_connect",
                Phase::Send => "timeout_send",
                Phase::Wait => "timeout_wait",
                Phase::Queue => "timeout_queue",
                Phase::Head => "timeout_head",
                Phase::Body { .. } => "timeout_body",
            },
            FetchError::Response { error, .. } => match error {
                ResponseError::NoResponse
                | ResponseError::HeadTruncated
                | ResponseError::BodyTruncated => "closed",
                _ => "malformed_response",
            },
            FetchError::Status { .. } => "http_status",
            FetchError::Redirect(_) => "redirect",
            FetchError::ContentEncoding(_) => "content_encoding",
            FetchError::Gzip(_) => "gzip",
            FetchError::ContentType { .. } => "content_type",
            FetchError::BodySizeLimit => "body_size_limit",
            FetchError::LineTooLong(_) => "line_too_long",
            FetchError::CarryLimit(_) => "carry_limit",
            FetchError::Body { cause, .. } => cause,
        }
    }
}

/// The system's words for an error, as Go writes them: "connection refused".
fn errno_text(errno: i32) -> String {
    let mut text = std::io::Error::from_raw_os_error(errno).to_string();
    if let Some(end) = text.rfind(" (os error") {
        text.truncate(end);
    }
    if let Some(first) = text.get_mut(..1) {
        first.make_ascii_lowercase();
    }
    text
}

fn files_hint(errno: i32) -> &'static str {
    match errno {
        libc::EMFILE => " (raise this process' limit: ulimit -n, LimitNOFILE=)",
        libc::ENFILE => " (raise the system's limit: sysctl fs.file-max)",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_prometheus() {
        let address = "127.0.0.1:9100".parse().unwrap();
        let refused = FetchError::Connect {
            address,
            errno: libc::ECONNREFUSED,
        };
        assert_eq!(
            refused.to_string(),
            "dial tcp 127.0.0.1:9100: connect: connection refused"
        );
        assert_eq!(refused.cause(), "connection_refused");
        let status = |reason: &str| FetchError::Status {
            status: 500,
            reason: reason.to_owned(),
        };
        assert_eq!(
            status("Internal Server Error").to_string(),
            "server returned HTTP status 500 Internal Server Error"
        );
        assert_eq!(status("").to_string(), "server returned HTTP status 500");
        assert_eq!(
            FetchError::Timeout(Phase::Body { body_bytes: 17 }).to_string(),
            "context deadline exceeded (while reading the body, 17 bytes so far)"
        );
        let files = FetchError::Socket {
            address,
            errno: libc::EMFILE,
        };
        assert!(files.to_string().contains("too many open files (raise"));
    }
}
