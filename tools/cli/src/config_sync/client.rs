//! A node's address and a token -> what its store has, and changes of it.

use crate::http::{AccessArguments, Http};
use hyper::Method;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE};
use ringscrape_engine::api::configs::{BatchRequest, BatchView, ConfigView, ListView};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::path::Path;
use std::time::Duration;
use url::Url;

/// How long a node may take; its store may take a minute.
const PATIENCE: Duration = Duration::from_secs(90);
/// Configurations asked for at once.
const PAGE: &str = "5000";
/// Longest part of an answer that is no JSON to be shown.
const SHOWN_CHARS_MAX: usize = 200;

/// Why something was not done.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// Somebody said no.
    No(String),
    /// No answer came.
    Unreachable(String),
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::No(text) | Self::Unreachable(text) => f.write_str(text),
        }
    }
}

/// One node's API.
pub(super) struct Client {
    configs: Url,
    token: Option<String>,
    http: Http,
}

impl Client {
    /// `address`: `http://host:port` or `https://host:port`; without a scheme: the former.
    pub(super) fn new(
        address: &str,
        token_file: Option<&Path>,
        access: &AccessArguments,
    ) -> Result<Self, Failure> {
        let http = Http::new(address, access, PATIENCE).map_err(Failure::No)?;
        let configs = http.url("/agent/api/v1/configs", &[]);
        let token = token_file.map(read_token).transpose();
        Ok(Self {
            configs: configs.map_err(Failure::No)?,
            token: token.map_err(Failure::No)?,
            http,
        })
    }

    /// All that is stored, and the store's revision.
    pub(super) fn list(&self) -> Result<(Vec<ConfigView>, u64), Failure> {
        let mut found = Vec::new();
        let mut after = None::<String>;
        loop {
            let mut url = self.configs.clone();
            url.query_pairs_mut().append_pair("limit", PAGE);
            if let Some(after) = &after {
                url.query_pairs_mut().append_pair("after", after);
            }
            let page: ListView = self.send(Method::GET, &url, String::new())?;
            let (Some(items), Some(revision)) = (page.items, page.revision) else {
                return Err(Failure::No(format!(
                    "{} lists names only: it is no ringscrape, or an older one",
                    self.configs
                )));
            };
            found.extend(items);
            match page.next {
                Some(next) if after.as_ref() != Some(&next) => after = Some(next),
                _ => return Ok((found, revision)),
            }
        }
    }

    /// Makes changes, or asks what they would do.
    pub(super) fn batch(&self, batch: &BatchRequest, dry_run: bool) -> Result<BatchView, Failure> {
        let body = serde_json::to_string(batch).map_err(|error| Failure::No(error.to_string()))?;
        let mut url = self.configs.clone();
        if dry_run {
            url.query_pairs_mut().append_pair("dry_run", "true");
        }
        let view: BatchView = self.send(Method::POST, &url, body)?;
        if view.changes.len() != batch.changes.len() {
            let text = format!("{} told of other changes than asked for", self.configs);
            return Err(Failure::No(text));
        }
        Ok(view)
    }

    fn send<T: DeserializeOwned>(
        &self,
        method: Method,
        url: &Url,
        body: String,
    ) -> Result<T, Failure> {
        let bearer = self.token.as_ref().map(|token| format!("Bearer {token}"));
        let mut headers = Vec::new();
        headers.extend(bearer.as_deref().map(|value| (AUTHORIZATION, value)));
        if !body.is_empty() {
            headers.push((CONTENT_TYPE, "application/json"));
        }
        let sent = self.http.send(method, url, &headers, body);
        let (status, text) = sent.map_err(|reason| {
            Failure::Unreachable(format!(
                "no answer from {}: {reason}; name a running node with --address (its \
                 --web.listen-address)",
                self.configs
            ))
        })?;
        data(status, &text)
            .map_err(|reason| Failure::No(format!("{} says: {reason}", self.configs)))
    }
}

fn read_token(path: &Path) -> Result<String, String> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| format!("cannot read the token {}: {error}", path.display()))?;
    let token = text.trim();
    if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(format!("{} holds no token", path.display()));
    }
    Ok(token.to_owned())
}

/// The `data` of a response, or what it says instead.
fn data<T: DeserializeOwned>(status: u16, text: &str) -> Result<T, String> {
    let mut answer: Value = serde_json::from_str(text).unwrap_or_default();
    let inner = answer["data"].take();
    if status == 200 && answer["status"] == "success" {
        return serde_json::from_value(inner)
            .map_err(|error| format!("something that this release does not understand: {error}"));
    }
    let Some(error) = inner["error"].as_str() else {
        if status == 401 {
            return Err(
                "status 401: it asks for a user and a password (--username, \
                        --password-file), or for a token that it knows (--token-file)"
                    .to_owned(),
            );
        }
        let shown: String = text.trim().chars().take(SHOWN_CHARS_MAX).collect();
        return Err(format!("status {status}: {shown}"));
    };
    Err(match status {
        401 | 403 => format!("{error} (--token-file gives a token, --cert-file a certificate)"),
        412 => format!(
            "conflict, nothing was changed: {error}; look at who changed it, and run this again"
        ),
        503 => format!("{error}; run this again to see"),
        _ => error.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_answer_says() {
        let good = r#"{"status": "success", "data": {"configs": ["a"]}}"#;
        assert_eq!(data::<ListView>(200, good).unwrap().configs, ["a"]);
        let no = |status, text: &str| data::<ListView>(status, text).unwrap_err();
        let bad = r#"{"status": "error", "data": {"error": "odd"}}"#;
        assert_eq!(no(400, bad), "odd");
        assert!(no(412, bad).starts_with("conflict, nothing was changed: odd"));
        assert!(no(401, bad).contains("--token-file"));
        assert_eq!(no(404, "nothing\n"), "status 404: nothing");
        assert!(no(200, r#"{"status": "success", "data": 1}"#).contains("does not understand"));
    }

    #[test]
    fn a_token_is_one_word() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        std::fs::write(&path, "abc\n").unwrap();
        assert_eq!(read_token(&path), Ok("abc".to_owned()));
        for wrong in ["", "\n", "a b", "a\nb"] {
            std::fs::write(&path, wrong).unwrap();
            assert!(read_token(&path).is_err(), "{wrong:?}");
        }
    }
}
