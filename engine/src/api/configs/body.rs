//! A request's body -> its text, as long as it is no longer than allowed.

use super::answers::{self, Refusal};
use axum::body::Body;
use axum::http::StatusCode;
use futures_util::StreamExt;
use std::time::Duration;
use tokio::time::timeout;

/// How long a body may take to arrive: who waits for one has a place among few connections.
const PATIENCE: Duration = Duration::from_secs(30);

/// Reads all of it.
///
/// # Errors
/// The answer to a body that is too long, too slow, ends early or is not UTF-8.
pub(super) async fn text(body: Body, bytes_max: u64) -> Result<String, Refusal> {
    let read = timeout(PATIENCE, read(body, bytes_max)).await;
    read.unwrap_or_else(|_| {
        let text = format!("the body did not arrive within {} s", PATIENCE.as_secs());
        Err(answers::error(StatusCode::REQUEST_TIMEOUT, &text))
    })
}

async fn read(body: Body, bytes_max: u64) -> Result<String, Refusal> {
    let mut bytes = Vec::new();
    let mut parts = body.into_data_stream();
    while let Some(part) = parts.next().await {
        let part = part.map_err(|error| {
            answers::bad_request(&format!("the body did not arrive as a whole: {error}"))
        })?;
        if (bytes.len() + part.len()) as u64 > bytes_max {
            let text = format!("the body is longer than {bytes_max} bytes");
            return Err(answers::error(StatusCode::PAYLOAD_TOO_LARGE, &text));
        }
        bytes.extend_from_slice(&part);
    }
    String::from_utf8(bytes)
        .map_err(|_| answers::bad_request("could not unmarshal config: the body is not UTF-8"))
}
