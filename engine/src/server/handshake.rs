//! A connection -> the same with TLS and whose certificate the client showed, or an end.

use super::figures::Figures;
use super::identity::Identity;
use crate::clock;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tracing::{debug, warn};

/// How long hands are shaken.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long what a plain client says is taken, so that it gets to read the answer.
const PLAIN_PATIENCE: Duration = Duration::from_secs(1);
/// What TLS begins with: a record of a handshake (RFC 8446, 5.1).
const HANDSHAKE: u8 = 22;
/// At most one refused handshake in this time is a warning.
const WARN_EVERY_MS: u64 = 10_000;

const PLAIN_ANSWER: &[u8] = b"HTTP/1.1 400 Bad Request\r\n\
    Content-Type: text/plain; charset=utf-8\r\n\
    Content-Length: 44\r\n\
    Connection: close\r\n\r\n\
    this port speaks TLS: use https in its URL.\n";

/// A connection with TLS.
pub(super) struct Shaken {
    pub(super) stream: TlsStream<TcpStream>,
    pub(super) certificate: Option<Arc<Identity>>,
}

enum Refused {
    /// Nothing came: somebody looked whether the port is open.
    Nothing,
    Plain,
    Because(String),
}

/// Shakes hands, or notes why not.
pub(super) async fn shake(
    mut socket: TcpStream,
    address: SocketAddr,
    acceptor: &TlsAcceptor,
    figures: &Figures,
) -> Option<Shaken> {
    let shaking = async {
        let mut first = [0];
        match socket.peek(&mut first).await {
            Ok(0) => return Err(Refused::Nothing),
            Ok(_) if first[0] == HANDSHAKE => {}
            Ok(_) => {
                answer_plain(&mut socket).await;
                return Err(Refused::Plain);
            }
            Err(error) => return Err(Refused::Because(error.to_string())),
        }
        let stream = acceptor.accept(socket).await;
        let stream = stream.map_err(|error| Refused::Because(error.to_string()))?;
        let shown = stream.get_ref().1.peer_certificates();
        let identity = shown
            .and_then(<[_]>::first)
            .map(|own| Identity::read(own).map(Arc::new))
            .transpose();
        Ok(Shaken {
            certificate: identity.map_err(Refused::Because)?,
            stream,
        })
    };
    let reason = match timeout(PATIENCE, shaking).await {
        Ok(Ok(shaken)) => {
            Figures::add(&figures.handshakes);
            return Some(shaken);
        }
        Ok(Err(Refused::Nothing)) => return None,
        Ok(Err(Refused::Plain)) => {
            Figures::add(&figures.handshakes_plain);
            return None;
        }
        Ok(Err(Refused::Because(reason))) => {
            Figures::add(&figures.handshakes_refused);
            reason
        }
        Err(_) => {
            Figures::add(&figures.handshakes_timed_out);
            format!("not done within {PATIENCE:?}")
        }
    };
    if is_worth_a_warning() {
        warn!(from = %address.ip(), reason, "a TLS handshake failed; more are not told for 10 s");
    } else {
        debug!(from = %address.ip(), reason, "a TLS handshake failed");
    }
    None
}

/// Says what is wrong to who speaks plain HTTP.
async fn answer_plain(socket: &mut TcpStream) {
    let saying = async {
        socket.write_all(PLAIN_ANSWER).await?;
        socket.shutdown().await?;
        // A socket that is closed with bytes unread takes the answer back.
        let mut rest = [0; 1 << 10];
        while socket.read(&mut rest).await? > 0 {}
        Ok::<(), std::io::Error>(())
    };
    let _ = timeout(PLAIN_PATIENCE, saying).await;
}

fn is_worth_a_warning() -> bool {
    static SAID_MS: AtomicU64 = AtomicU64::new(0);
    let now_ms = clock::monotonic_ms().max(1);
    let said_ms = SAID_MS.load(Ordering::Relaxed);
    let is_due = said_ms == 0 || now_ms >= said_ms.saturating_add(WARN_EVERY_MS);
    if is_due {
        SAID_MS.store(now_ms, Ordering::Relaxed);
    }
    is_due
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_to_plain_clients_is_as_long_as_it_says() {
        let text = std::str::from_utf8(PLAIN_ANSWER).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())));
    }
}
