//! A node's address, a path and parameters -> the `data` of its answer.

use crate::text::causes;
use serde_json::Value;
use std::time::Duration;
use tokio::runtime::Runtime;

/// How long a node may take; it may have to ask others, and gives them two seconds.
const PATIENCE: Duration = Duration::from_secs(15);
/// Longest part of an answer that is no JSON to be shown.
const SHOWN_CHARS_MAX: usize = 200;

/// One node's API.
pub(crate) struct Client {
    address: String,
    runtime: Runtime,
    http: reqwest::Client,
}

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
    /// `address`: `http://host:port`, or without the scheme.
    pub(crate) fn new(address: &str) -> Result<Self, Failure> {
        let address = address.trim_end_matches('/');
        let address = match address.contains("://") {
            true => address.to_owned(),
            false => format!("http://{address}"),
        };
        let unusable = |reason: String| Failure::Unreachable {
            url: address.clone(),
            reason,
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| unusable(error.to_string()))?;
        let http = reqwest::Client::builder()
            .timeout(PATIENCE)
            .build()
            .map_err(|error| unusable(error.to_string()))?;
        Ok(Self {
            address,
            runtime,
            http,
        })
    }

    pub(super) fn address(&self) -> &str {
        &self.address
    }

    pub(crate) fn get(&self, path: &str, parameters: &[(&str, &str)]) -> Result<Value, Failure> {
        let url = self.url(path, parameters)?;
        self.send(self.http.get(url))
    }

    pub(super) fn post(&self, path: &str) -> Result<Value, Failure> {
        let url = self.url(path, &[])?;
        self.send(self.http.post(url))
    }

    fn url(&self, path: &str, parameters: &[(&str, &str)]) -> Result<reqwest::Url, Failure> {
        let text = format!("{}{path}", self.address);
        let result = match parameters {
            [] => reqwest::Url::parse(&text),
            _ => reqwest::Url::parse_with_params(&text, parameters),
        };
        result.map_err(|error| self.unreachable(error.to_string()))
    }

    fn send(&self, request: reqwest::RequestBuilder) -> Result<Value, Failure> {
        let answered = self.runtime.block_on(async {
            let response = request.send().await?;
            let status = response.status();
            Ok((status, response.text().await?))
        });
        let (status, text) = answered
            .map_err(|error: reqwest::Error| self.unreachable(causes(&error.without_url())))?;
        data(status.as_u16(), &text).map_err(|reason| Failure::Refused {
            url: self.address.clone(),
            reason,
        })
    }

    fn unreachable(&self, reason: String) -> Failure {
        Failure::Unreachable {
            url: self.address.clone(),
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
    fn an_address_may_lack_its_scheme() {
        let client = Client::new("10.0.0.1:9095/").unwrap_or_else(|error| panic!("{error}"));
        let url = client
            .url("/api/v1/cluster/owner", &[("target", "a b&c")])
            .unwrap();
        assert_eq!(
            url.as_str(),
            "http://10.0.0.1:9095/api/v1/cluster/owner?target=a+b%26c"
        );
    }

    #[test]
    fn nobody_there_is_told_from_a_no() {
        // A port that was just free: nobody listens on it.
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        drop(listener);
        let client = Client::new(&address).unwrap_or_else(|error| panic!("{error}"));
        let failure = client.get("/api/v1/cluster", &[]).unwrap_err();
        assert!(matches!(failure, Failure::Unreachable { .. }), "{failure}");
        assert!(failure.to_string().contains("--address"), "{failure}");
    }
}
