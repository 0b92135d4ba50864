//! A loopback address and a path -> the body of a GET. Blocking, one connection per request.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::error::Error;

const TIMEOUT: Duration = Duration::from_secs(5);
const BODY_BYTES_MAX: u64 = 256 << 20;

/// Fetches `path` from `address`; takes 200 only.
///
/// # Errors
/// `Http` with what came instead: no connection, a timeout of 5 s, another status.
pub(crate) fn get(address: SocketAddr, path: &str) -> Result<Vec<u8>, Error> {
    get_within(address, path, TIMEOUT)
}

/// Same, from a peer that needs up to `patience` for its answer.
///
/// # Errors
/// As `get`.
pub(crate) fn get_within(
    address: SocketAddr,
    path: &str,
    patience: Duration,
) -> Result<Vec<u8>, Error> {
    let fail = |reason: String| Error::Http {
        url: format!("http://{address}{path}"),
        reason,
    };
    let io = |error: std::io::Error| fail(error.to_string());
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT).map_err(io)?;
    stream.set_read_timeout(Some(patience)).map_err(io)?;
    stream.set_write_timeout(Some(TIMEOUT)).map_err(io)?;
    let request = format!("GET {path} HTTP/1.0\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).map_err(io)?;
    let mut answer = Vec::new();
    stream
        .take(BODY_BYTES_MAX)
        .read_to_end(&mut answer)
        .map_err(io)?;
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut response = httparse::Response::new(&mut headers);
    match response.parse(&answer) {
        Ok(httparse::Status::Complete(head)) if response.code == Some(200) => {
            Ok(answer.split_off(head))
        }
        Ok(httparse::Status::Complete(_)) => Err(fail(format!(
            "status {}",
            response.code.unwrap_or_default()
        ))),
        _ => Err(fail("no HTTP response".into())),
    }
}
