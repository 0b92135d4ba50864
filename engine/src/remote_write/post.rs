//! Requests of all shards' queues for one endpoint -> HTTP POSTs -> answers back to the shards.
//!
//! **Runs on**: control thread (tokio). One `Poster` per endpoint. Shards hand requests over by a
//! bounded channel (`try_send`; when it is full they keep the request and try again), and take
//! answers without waiting: what is in that channel is bounded by what they have sent.
//!
//! How many requests are on their way follows the receiver: see `pace`. A `Retry-After` holds for
//! the endpoint, whichever shard's request it answered.
//!
//! Headers: remote write 1.0, <https://prometheus.io/docs/specs/prw/remote_write_spec/>, and 2.0,
//! <https://prometheus.io/docs/specs/prw/remote_write_spec_2_0/>; for 1.0 as zstd those of
//! VictoriaMetrics' remote write protocol, which is the same but for the compression.
//! Redirects are not followed: they would take credentials elsewhere.

use super::pace::{Ended, Load, Pace};
use super::permits::deal;
use super::queue::Request;
use super::request::{Compression, Message};
use super::retry::{RETRY_AFTER_MS_MAX, SendResult, Written, retry_after_ms};
use super::window::RequestId;
use crate::config::Endpoint;
use crate::service::reach;
use reqwest::header::{
    CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER, USER_AGENT,
};
use std::collections::{HashMap, VecDeque};
use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use url::Url;

/// Bytes of an answer that are read; its reason is there.
const ANSWER_BYTES_MAX: usize = 8 << 10;
/// `Content-Type` of a 2.0 message.
const CONTENT_TYPE_V2: &str = "application/x-protobuf;proto=io.prometheus.write.v2.Request";
/// How often requests are dealt out anew, while no answer changes how many there may be.
const DEAL_INTERVAL: Duration = Duration::from_secs(1);

/// A request from a shard.
#[derive(Debug)]
pub struct ShardRequest {
    /// Index of the shard.
    pub shard: usize,
    /// What to send.
    pub request: Request,
    /// Samples that wait in the shard's queue, for dealing out permits.
    pub backlog_samples: u64,
}

/// What a shard is told.
#[derive(Debug)]
pub enum ToShard {
    /// A request has ended.
    Ended {
        /// Of the request.
        id: RequestId,
        /// How.
        result: SendResult,
        /// From its start to its end, microseconds.
        elapsed_us: u64,
    },
    /// How many requests may be on their way from now on.
    Allowance {
        /// The shard's; 1 before the first word.
        requests: u32,
        /// The endpoint's, of all shards together.
        bound: u32,
    },
}

/// Settings that no request can be made of.
#[derive(Debug, thiserror::Error)]
pub enum PostError {
    /// The URL cannot be used.
    #[error("cannot send to remote_write url of endpoint {identity:?}: {reason}")]
    Url {
        /// The endpoint.
        identity: String,
        /// What is wrong.
        reason: String,
    },
    /// A header cannot be used.
    #[error("cannot send header {name:?} of endpoint {identity:?}: not a valid name or value")]
    Header {
        /// The endpoint.
        identity: String,
        /// Its name.
        name: String,
    },
    /// The HTTP client does not start.
    #[error("cannot start the HTTP client: {0}")]
    Client(#[source] reqwest::Error),
}

/// The network side of one endpoint.
#[derive(Debug)]
pub struct Poster {
    call: Arc<Call>,
    pace: Pace,
}

/// What all requests to one endpoint share.
#[derive(Debug)]
struct Call {
    client: reqwest::Client,
    url: Url,
    headers: HeaderMap,
    timeout: Duration,
    secrets: Vec<String>,
}

impl Poster {
    /// Prepares what requests to `endpoint` have in common. `version`: for the User-Agent header.
    ///
    /// # Errors
    /// A URL that is not `http://host…`, or a header that HTTP does not allow. Neither error text
    /// holds credentials.
    pub fn new(endpoint: &Endpoint, version: &str) -> Result<Self, PostError> {
        let bad_url = |reason: &str| PostError::Url {
            identity: endpoint.identity.clone(),
            reason: reason.to_owned(),
        };
        let url = Url::parse(&endpoint.url).map_err(|error| bad_url(&error.to_string()))?;
        if url.scheme() != "http" || !url.has_host() {
            return Err(bad_url("it must begin with http:// and name a host"));
        }
        if let Some(networks) = &endpoint.networks {
            reach::check(networks, &url).map_err(|reason| bad_url(&reason))?;
        }
        let secrets = secrets_of(endpoint, &url);
        let mut headers = HeaderMap::new();
        for (name, value) in &endpoint.headers {
            let bad_header = || PostError::Header {
                identity: endpoint.identity.clone(),
                name: name.clone(),
            };
            let key = HeaderName::from_bytes(name.as_bytes()).map_err(|_| bad_header())?;
            let mut value = HeaderValue::from_str(value).map_err(|_| bad_header())?;
            value.set_sensitive(true);
            headers.append(key, value);
        }
        // Ours win: a request must say what it is.
        headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static("application/x-protobuf"),
        );
        if let Ok(agent) = HeaderValue::from_str(&format!("ringscrape/{version}")) {
            headers.insert(USER_AGENT, agent);
        }
        let client = reqwest::Client::builder();
        let client = match &endpoint.networks {
            Some(networks) => reach::confine(client, networks),
            None => client,
        };
        let client = client
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .tcp_nodelay(true)
            .pool_idle_timeout(Duration::from_secs(5 * 60))
            .build()
            .map_err(PostError::Client)?;
        Ok(Self {
            call: Arc::new(Call {
                client,
                url,
                headers,
                timeout: Duration::from_millis(endpoint.remote_timeout_ms.max(1)),
                secrets,
            }),
            pace: Pace::new(
                endpoint.queue.requests_in_flight_min,
                endpoint.queue.requests_in_flight_max,
            ),
        })
    }

    /// Sends what comes in until all senders of `requests` are gone and everything has ended.
    ///
    /// `shards[i]` is told what becomes of the requests of shard `i`. Never more are on their way
    /// than the receiver bears, see `pace`, and none while it asked for a pause; what comes beyond
    /// waits here, first come, first served. Cancelling it leaves requests without an answer:
    /// whether they arrived is unknown.
    pub async fn run(
        self,
        mut requests: mpsc::Receiver<ShardRequest>,
        shards: Vec<mpsc::UnboundedSender<ToShard>>,
    ) {
        let Self { call, mut pace } = self;
        let began = Instant::now();
        let now_us = || began.elapsed().as_micros() as u64;
        let mut dealer = Dealer::new(shards.len());
        let mut waiting = VecDeque::new();
        let mut in_flight = JoinSet::new();
        let mut owners = HashMap::new();
        let mut open = true;
        let mut ticks = tokio::time::interval(DEAL_INTERVAL);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while open || !waiting.is_empty() || !in_flight.is_empty() {
            let paused_us = pace.paused_until_us().saturating_sub(now_us());
            tokio::select! {
                next = requests.recv(), if open => match next {
                    None => open = false,
                    Some(next) => {
                        dealer.backlog(next.shard, next.backlog_samples);
                        waiting.push_back(next);
                    }
                },
                Some(ended) = in_flight.join_next_with_id(), if !in_flight.is_empty() => {
                    let (task, result, elapsed_us) = match ended {
                        Ok((task, (result, elapsed_us))) => (task, result, elapsed_us),
                        // A shard that gets no answer waits for ever.
                        Err(error) => (error.id(), SendResult::Failed(error.to_string()), 0),
                    };
                    if let Some(owner) = owners.remove(&task) {
                        let Owner { shard, id, started_us, bytes } = owner;
                        pace.ended(Ended {
                            started_us,
                            ended_us: now_us(),
                            bytes,
                            load: load(&result),
                            retry_after_us: asked_pause_us(&result),
                        });
                        tell(&shards, shard, ToShard::Ended { id, result, elapsed_us });
                        if pace.bound() != dealer.bound {
                            dealer.deal(pace.bound(), &shards);
                        }
                    }
                }
                _ = ticks.tick() => {
                    dealer.deal(pace.bound(), &shards);
                    dealer.forget_half();
                }
                () = tokio::time::sleep(Duration::from_micros(paused_us)),
                    if paused_us > 0 && !waiting.is_empty() => {}
            }
            while !waiting.is_empty()
                && pace.may_start(now_us(), in_flight.len())
                && let Some(next) = waiting.pop_front()
            {
                let call = call.clone();
                let owner = Owner {
                    shard: next.shard,
                    id: next.request.id,
                    started_us: now_us(),
                    bytes: next.request.body.len() as u64,
                };
                let task = in_flight.spawn(async move {
                    let started = Instant::now();
                    let result = call.post(next.request).await;
                    (result, started.elapsed().as_micros() as u64)
                });
                pace.started(in_flight.len());
                owners.insert(task.id(), owner);
            }
        }
    }
}

/// Of a request on its way.
struct Owner {
    shard: usize,
    id: RequestId,
    started_us: u64,
    bytes: u64,
}

/// Deals requests out to the shards.
struct Dealer {
    backlogs: Vec<u64>,
    allowances: Vec<u32>,
    /// What was dealt out last.
    bound: u32,
}

impl Dealer {
    fn new(shards: usize) -> Self {
        Self {
            backlogs: vec![0; shards],
            allowances: vec![1; shards],
            bound: 0,
        }
    }

    fn backlog(&mut self, shard: usize, samples: u64) {
        if let Some(backlog) = self.backlogs.get_mut(shard) {
            *backlog = samples;
        }
    }

    fn deal(&mut self, bound: u32, shards: &[mpsc::UnboundedSender<ToShard>]) {
        let changed = self.bound != bound;
        self.bound = bound;
        for (shard, requests) in deal(bound, &self.backlogs).into_iter().enumerate() {
            if changed || self.allowances[shard] != requests {
                self.allowances[shard] = requests;
                tell(shards, shard, ToShard::Allowance { requests, bound });
            }
        }
    }

    /// A shard that sends nothing more has no backlog soon.
    fn forget_half(&mut self) {
        for backlog in &mut self.backlogs {
            *backlog /= 2;
        }
    }
}

/// What an answer says of the receiver's load.
fn load(result: &SendResult) -> Load {
    match result {
        SendResult::Status { code, .. } => match code {
            200..=299 => Load::Fine,
            429 => Load::Limited,
            408 | 425 | 500.. => Load::Failing,
            _ => Load::Unknown,
        },
        SendResult::TimedOut | SendResult::Failed(_) => Load::Failing,
    }
}

/// How long the receiver wants no request at all.
fn asked_pause_us(result: &SendResult) -> Option<u64> {
    match (load(result), result) {
        (
            Load::Limited | Load::Failing,
            SendResult::Status {
                retry_after_ms: Some(wish_ms),
                ..
            },
        ) => Some((*wish_ms).min(RETRY_AFTER_MS_MAX) * 1_000),
        _ => None,
    }
}

/// A shard that is gone does not want to know.
fn tell(shards: &[mpsc::UnboundedSender<ToShard>], shard: usize, message: ToShard) {
    if let Some(sender) = shards.get(shard) {
        let _ = sender.send(message);
    }
}

impl Call {
    async fn post(&self, to_send: Request) -> SendResult {
        let mut headers = self.headers.clone();
        let form = to_send.form;
        let (version_name, version) = match (form.message, form.compression) {
            (Message::V2, _) => ("x-prometheus-remote-write-version", "2.0.0"),
            (Message::V1, Compression::Snappy) => ("x-prometheus-remote-write-version", "0.1.0"),
            (Message::V1, Compression::Zstd) => ("x-victoriametrics-remote-write-version", "1"),
        };
        let version_name = HeaderName::from_static(version_name);
        headers.insert(version_name, HeaderValue::from_static(version));
        if form.message == Message::V2 {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE_V2));
        }
        let encoding = HeaderValue::from_static(form.compression.name());
        headers.insert(CONTENT_ENCODING, encoding);
        let mut request = self
            .client
            .post(self.url.clone())
            .headers(headers)
            .timeout(self.timeout)
            .body(to_send.body);
        if to_send.attempt > 0 {
            request = request.header("Retry-Attempt", to_send.attempt);
        }
        let mut response = match request.send().await {
            Ok(response) => response,
            Err(error) => return self.failed(error),
        };
        let code = response.status().as_u16();
        let retry_after_ms = response
            .headers()
            .get(RETRY_AFTER)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| retry_after_ms(value, unix_ms()));
        // A 1.0 receiver may have such headers from elsewhere.
        let written = match form.message {
            Message::V1 => None,
            Message::V2 => written(response.headers()),
        };
        // Read to the end, if it is near, so that the connection can be used again. The status
        // counts, also if the rest never comes.
        let mut answer = Vec::new();
        while answer.len() < ANSWER_BYTES_MAX
            && let Ok(Some(chunk)) = response.chunk().await
        {
            let room = ANSWER_BYTES_MAX - answer.len();
            answer.extend_from_slice(&chunk[..chunk.len().min(room)]);
        }
        SendResult::Status {
            code,
            retry_after_ms,
            reason: self.redacted(&String::from_utf8_lossy(&answer)),
            written,
        }
    }

    fn failed(&self, error: reqwest::Error) -> SendResult {
        if error.is_timeout() {
            return SendResult::TimedOut;
        }
        // The URL may hold credentials, and the causes say more than the outermost text.
        let error = error.without_url();
        let mut text = error.to_string();
        let mut cause = error.source();
        while let Some(inner) = cause {
            text.push_str(": ");
            text.push_str(&inner.to_string());
            cause = inner.source();
        }
        SendResult::Failed(self.redacted(&text))
    }

    /// Takes out credentials that a receiver, or an error, repeats.
    fn redacted(&self, text: &str) -> String {
        self.secrets
            .iter()
            .fold(text.trim().to_owned(), |text, secret| {
                text.replace(secret.as_str(), "<secret>")
            })
    }
}

/// What a receiver says that it has written; `None` if it says nothing.
fn written(headers: &HeaderMap) -> Option<Written> {
    let number = |name| {
        let text = headers.get(name)?.to_str().ok()?;
        text.trim().parse::<u64>().ok()
    };
    let samples = number("x-prometheus-remote-write-samples-written");
    let histograms = number("x-prometheus-remote-write-histograms-written");
    let exemplars = number("x-prometheus-remote-write-exemplars-written");
    samples.or(histograms).or(exemplars)?;
    Some(Written {
        samples: samples.unwrap_or_default(),
        histograms: histograms.unwrap_or_default(),
        exemplars: exemplars.unwrap_or_default(),
    })
}

/// Texts that must not be shown: the URL's password, and values of headers that carry credentials.
fn secrets_of(endpoint: &Endpoint, url: &Url) -> Vec<String> {
    let mut secrets: Vec<String> = url.password().map(str::to_owned).into_iter().collect();
    for (name, value) in &endpoint.headers {
        let name = name.to_ascii_lowercase();
        let words = ["auth", "cookie", "key", "secret", "token", "password"];
        if words.iter().any(|word| name.contains(word)) {
            secrets.push(value.clone());
            // `Bearer TOKEN`: the token alone is as bad.
            secrets.extend(value.split_ascii_whitespace().last().map(str::to_owned));
        }
    }
    secrets.retain(|secret| secret.len() >= 4);
    secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    secrets
}

#[allow(clippy::disallowed_methods)] // `Retry-After` may be a date.
fn unix_ms() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as i64)
}
