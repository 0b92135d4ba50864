//! Requests to an etcd of one or more endpoints -> answers, or why there is none.
//!
//! Spoken to by its HTTP gateway. The endpoint that answered last is asked first. A read goes on to
//! the next endpoint after any failure; a write only if it was certainly not made.

use super::http::{Answer, Endpoint, HttpError, endpoints};
use super::wire::{Authenticated, Refusal, decode};
use crate::service::settings::EtcdSettings;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;
use tokio::time::{Instant, timeout};
use tracing::debug;

/// How long one request may take, its connection included.
const REQUEST_PATIENCE: Duration = Duration::from_secs(4);
/// How long a question is tried at all.
const PATIENCE: Duration = Duration::from_secs(6);
/// Pause after all endpoints failed; doubled with each round, up to eight times.
const PAUSE: Duration = Duration::from_millis(50);
/// Largest answer that is read.
const BODY_BYTES_MAX: usize = 1 << 30;

/// gRPC codes.
mod code {
    pub(super) const INVALID_ARGUMENT: u32 = 3;
    pub(super) const PERMISSION_DENIED: u32 = 7;
    pub(super) const RESOURCE_EXHAUSTED: u32 = 8;
    pub(super) const FAILED_PRECONDITION: u32 = 9;
    pub(super) const OUT_OF_RANGE: u32 = 11;
    pub(super) const UNAUTHENTICATED: u32 = 16;
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Failure {
    /// Nothing was done.
    Unreachable(String),
    /// It may have been done.
    Lost(String),
    /// The revision asked for is not there any more.
    Compacted,
    /// An answer or a request is too large for the other side.
    TooLarge(String),
    /// Nothing was done, nor will be.
    Refused(String),
}

impl Failure {
    pub(super) fn text(&self) -> String {
        match self {
            Self::Unreachable(text) | Self::Lost(text) | Self::Refused(text) => text.clone(),
            Self::TooLarge(text) => text.clone(),
            Self::Compacted => "the revision was compacted".to_owned(),
        }
    }
}

/// Whether a request changes something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Read,
    Write,
}

/// The way to an etcd.
pub(super) struct Client {
    endpoints: Vec<Endpoint>,
    /// Which endpoint answered last.
    current: AtomicUsize,
    tries: u32,
    dial_timeout_ms: u64,
    username: String,
    password: String,
    /// What the user's name and password were exchanged for.
    token: Mutex<Option<String>>,
}

impl Client {
    /// # Errors
    /// What the operator has to change.
    pub(super) fn new(settings: &EtcdSettings) -> Result<Self, String> {
        Ok(Self {
            endpoints: endpoints(settings)?,
            current: AtomicUsize::new(0),
            tries: settings.max_retries.max(1),
            dial_timeout_ms: settings.dial_timeout_ms,
            username: settings.username.clone(),
            password: settings.password.clone(),
            token: Mutex::new(None),
        })
    }

    /// Asks, over all endpoints.
    pub(super) async fn ask<T: DeserializeOwned>(
        &self,
        path: &str,
        question: &Value,
        kind: Kind,
    ) -> Result<T, Failure> {
        let until = Instant::now() + PATIENCE;
        let mut tried = 0;
        loop {
            tried += 1;
            let answer = self.ask_current(path, question).await;
            let failure = match answer {
                Ok(body) => return decode(&body).map_err(Failure::Lost),
                Err(failure) => failure,
            };
            let goes_on = match &failure {
                Failure::Unreachable(_) => true,
                Failure::Lost(_) => kind == Kind::Read,
                Failure::Compacted | Failure::TooLarge(_) | Failure::Refused(_) => false,
            };
            let is_last = tried >= self.tries.max(self.endpoints.len() as u32);
            if !goes_on || is_last || Instant::now() >= until {
                return Err(failure);
            }
            debug!(
                error = failure.text(),
                "etcd does not answer; the next endpoint is tried"
            );
            self.go_on();
            let rounds = tried / self.endpoints.len() as u32;
            if tried.is_multiple_of(self.endpoints.len() as u32) {
                tokio::time::sleep(PAUSE * (1 << rounds.min(3))).await;
            }
        }
    }

    /// Asks the endpoint that answered last, once.
    pub(super) async fn ask_once<T: DeserializeOwned>(
        &self,
        path: &str,
        question: &Value,
    ) -> Result<T, Failure> {
        let body = self.ask_current(path, question).await?;
        decode(&body).map_err(Failure::Lost)
    }

    /// Another endpoint's turn.
    pub(super) fn go_on(&self) {
        self.current.fetch_add(1, Relaxed);
    }

    async fn ask_current(&self, path: &str, question: &Value) -> Result<Vec<u8>, Failure> {
        let reading = async {
            let mut response = self.open(path, question).await?;
            let mut body = Vec::new();
            loop {
                match response.chunk().await {
                    Ok(Some(chunk)) if body.len() + chunk.len() > BODY_BYTES_MAX => {
                        return Err(Failure::TooLarge("an answer of gigabytes".to_owned()));
                    }
                    Ok(Some(chunk)) => body.extend_from_slice(&chunk),
                    Ok(None) => return Ok(body),
                    Err(error) => return Err(Failure::Lost(self.at(error))),
                }
            }
        };
        let late = || format!("no answer within {REQUEST_PATIENCE:?}");
        let answer = timeout(REQUEST_PATIENCE, reading).await;
        answer.unwrap_or_else(|_| Err(Failure::Lost(self.at(late()))))
    }

    /// The answer to a question, its body yet to be read. Its status was a good one.
    pub(super) async fn open(&self, path: &str, question: &Value) -> Result<Answer, Failure> {
        let mut is_renewed = false;
        loop {
            let token = self.token().await?;
            let answer = self.post(path, question, token.as_deref()).await;
            match answer {
                Err((code::UNAUTHENTICATED, _)) if token.is_some() && !is_renewed => {
                    // A token has its time, and ends with a server that forgets it.
                    is_renewed = true;
                    *self.lock_token() = None;
                }
                answer => return answer.map_err(|(_, failure)| failure),
            }
        }
    }

    async fn token(&self) -> Result<Option<String>, Failure> {
        if self.username.is_empty() {
            return Ok(None);
        }
        let known = self.lock_token().clone();
        if known.is_some() {
            return Ok(known);
        }
        let question = json!({"name": self.username, "password": self.password});
        let answer = self.post("auth/authenticate", &question, None).await;
        let mut response = answer.map_err(|(_, failure)| failure)?;
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(Failure::Unreachable)? {
            body.extend_from_slice(&chunk);
        }
        let token = decode::<Authenticated>(&body).map_err(Failure::Unreachable)?;
        *self.lock_token() = Some(token.token.clone());
        Ok(Some(token.token))
    }

    fn lock_token(&self) -> std::sync::MutexGuard<'_, Option<String>> {
        let locked = self.token.lock();
        locked.unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// An error bears the gRPC code, 0 if there is none.
    async fn post(
        &self,
        path: &str,
        question: &Value,
        token: Option<&str>,
    ) -> Result<Answer, (u32, Failure)> {
        let current = self.current.load(Relaxed) % self.endpoints.len();
        let question = question.to_string();
        let endpoint = &self.endpoints[current];
        let sent = endpoint.post(path, token, question, self.dial_timeout_ms);
        let mut response = sent.await.map_err(|error| match error {
            HttpError::Unsent(text) => (0, Failure::Unreachable(text)),
            HttpError::Lost(text) => (0, Failure::Lost(text)),
        })?;
        let status = response.status;
        if (200..300).contains(&status) {
            return Ok(response);
        }
        let mut body = Vec::new();
        while let Ok(Some(chunk)) = response.chunk().await {
            body.extend_from_slice(&chunk);
            if body.len() > 64 << 10 {
                break;
            }
        }
        let refusal = decode::<Refusal>(&body).unwrap_or_default();
        let text = match refusal.message.is_empty() {
            true => self.at(format!("answered {status}")),
            false => refusal.message,
        };
        Err((refusal.code, failure_of(refusal.code, status, text)))
    }

    /// A text with the endpoint that it is about.
    fn at(&self, text: String) -> String {
        let current = self.current.load(Relaxed) % self.endpoints.len();
        format!("{}: {text}", self.endpoints[current].url)
    }
}

/// What an error of etcd means for the request.
fn failure_of(grpc_code: u32, status: u16, text: String) -> Failure {
    match grpc_code {
        code::OUT_OF_RANGE if text.contains("compacted") => Failure::Compacted,
        code::RESOURCE_EXHAUSTED if text.contains("larger than max") => Failure::TooLarge(text),
        code::INVALID_ARGUMENT if text.contains("too large") => Failure::TooLarge(text),
        code::INVALID_ARGUMENT
        | code::PERMISSION_DENIED
        | code::RESOURCE_EXHAUSTED
        | code::FAILED_PRECONDITION
        | code::OUT_OF_RANGE
        | code::UNAUTHENTICATED => Failure::Refused(text),
        // It refused before it began.
        _ if text.contains("no leader") => Failure::Unreachable(text),
        // No etcd's gateway: what is there knows no such path.
        0 if status == 404 => Failure::Refused(format!("{text}: no etcd 3.4 or later")),
        _ => Failure::Lost(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_errors_mean() {
        let of = |code, text: &str| failure_of(code, 500, text.to_owned());
        assert_eq!(
            of(11, "mvcc: required revision has been compacted"),
            Failure::Compacted
        );
        assert!(matches!(
            of(3, "request is too large"),
            Failure::TooLarge(_)
        ));
        assert!(matches!(of(3, "too many operations"), Failure::Refused(_)));
        assert!(matches!(
            of(8, "database space exceeded"),
            Failure::Refused(_)
        ));
        assert!(matches!(of(14, "request timed out"), Failure::Lost(_)));
        assert!(matches!(
            of(14, "etcdserver: no leader"),
            Failure::Unreachable(_)
        ));
        assert!(matches!(failure_of(0, 502, "x".into()), Failure::Lost(_)));
    }
}
