//! A node's address, a path and parameters -> the `data` of its answer.

use crate::http::{AccessArguments, Http};
use hyper::Method;
use serde_json::Value;
use std::time::Duration;

/// How long a node may take; it may have to ask others, and gives them two seconds.
const PATIENCE: Duration = Duration::from_secs(15);
/// Longest part of an answer that is no JSON to be shown.
const SHOWN_CHARS_MAX: usize = 200;

/// One node's API.
pub(crate) struct Client(Http);

/// Why there is no answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The node answered, and said no.
    Refused { url: String, reason: String },
    /// It did not answer.
    Unreachable { url: String, reason: String },
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Refused { url, reason } => write!(f, "{url} says: {reason}"),
            Self::Unreachable { url, reason } => write!(
                f,
                "no answer from {url}: {reason}; name a running node with --address (its \
                 --web.listen-address)"
            ),
        }
    }
}

impl Client {
    /// `address`: `http://host:port` or `https://host:port`; without a scheme: the former.
    pub(crate) fn new(address: &str, access: &AccessArguments) -> Result<Self, Failure> {
        let http = Http::new(address, access, PATIENCE);
        http.map(Self).map_err(|reason| Failure::Unreachable {
            url: address.to_owned(),
            reason,
        })
    }

    pub(super) fn address(&self) -> &str {
        self.0.address()
    }

    pub(crate) fn get(&self, path: &str, parameters: &[(&str, &str)]) -> Result<Value, Failure> {
        self.send(Method::GET, path, parameters)
    }

    pub(super) fn post(&self, path: &str) -> Result<Value, Failure> {
        self.send(Method::POST, path, &[])
    }

    fn send(
        &self,
        method: Method,
        path: &str,
        parameters: &[(&str, &str)],
    ) -> Result<Value, Failure> {
        let url = self.0.url(path, parameters);
        let sent = url.and_then(|url| self.0.send(method, &url, &[], String::new()));
        let (status, text) = sent.map_err(|reason| self.unreachable(reason))?;
        data(status, &text).map_err(|reason| Failure::Refused {
            url: self.address().to_owned(),
            reason,
        })
    }

    fn unreachable(&self, reason: String) -> Failure {
        Failure::Unreachable {
            url: self.address().to_owned(),
            reason,
        }
    }
}

/// The `data` of a response, or what it says instead.
fn data(status: u16, text: &str) -> Result<Value, String> {
    let mut answer: Value = serde_json::from_str(text).unwrap_or_default();
    if status == 200 && answer["status"] == "success" {
        return Ok(answer["data"].take());
    }
    match answer["error"].as_str() {
        Some(error) => Err(error.to_owned()),
        None if status == 401 => Err(
            "status 401: it asks for a user and a password (--username, \
                                      --password-file)"
                .to_owned(),
        ),
        None => {
            let shown: String = text.trim().chars().take(SHOWN_CHARS_MAX).collect();
            Err(format!("status {status}: {shown}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_an_answer_says() {
        let good = r#"{"status": "success", "data": {"a": 1}}"#;
        assert_eq!(data(200, good), Ok(json!({"a": 1})));
        let bad = r#"{"status": "error", "error": "no such node"}"#;
        assert_eq!(data(404, bad), Err("no such node".to_owned()));
        assert_eq!(data(404, "\n"), Err("status 404: ".to_owned()));
        let long = data(500, &"x".repeat(1_000)).unwrap_err();
        assert_eq!(long.len(), "status 500: ".len() + SHOWN_CHARS_MAX);
    }

    #[test]
    fn nobody_there_is_told_from_a_no() {
        // A port that was just free: nobody listens on it.
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        drop(listener);
        let client = Client::new(&address, &AccessArguments::default());
        let client = client.unwrap_or_else(|error| panic!("{error}"));
        let failure = client.get("/api/v1/cluster", &[]).unwrap_err();
        assert!(matches!(failure, Failure::Unreachable { .. }), "{failure}");
        assert!(failure.to_string().contains("--address"), "{failure}");
    }
}
