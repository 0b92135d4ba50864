//! Requests about stored configurations -> the store's answers: Grafana Agent's API, and more.
//!
//! Paths, methods, envelopes and status codes are those of Grafana Agent 0.4x in its scraping
//! service mode (its docs/sources/static/api), so that its clients work. What it lacks is beside
//! it: revisions and conditions, pages with contents, batches, dry runs, tokens, an audit log. See
//! `docs/config-api.md`.

mod access;
mod access_file;
mod answers;
mod audit;
mod body;
mod changes;
mod conditions;
mod instances;
mod jobs;
mod lists;
mod names;
mod reads;
mod routes;
mod scrub;
#[cfg(test)]
mod tests;
pub(crate) mod trial;
mod view;
mod writes;
mod yaml_text;

pub use access::Access;
pub(super) use routes::routes;
pub use view::*;

use crate::api::router::Context;
use crate::service::store::StoreHandle;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use jobs::JobIndex;
use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::Mutex;

/// Whether a request that shows something of stored configurations may be answered; else what it is
/// answered.
pub(super) async fn may_read(context: &Context, parts: &Parts) -> Result<(), Response> {
    let allowed = reads::may_read(context, parts).await;
    allowed.map_err(IntoResponse::into_response)
}

/// Whether `text` is YAML, and a mapping: what can be told without a node's rules.
///
/// # Errors
/// Where it is not.
pub fn check_syntax(text: &str) -> Result<(), String> {
    scrub::scrubbed("", text).map(|_| ())
}

/// By what rules the text of a configuration is read.
pub trait Validate: Debug + Send + Sync {
    /// The names of its jobs, none of which the node's own file has. Asked for the same text again,
    /// it answers at once.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    fn jobs(&self, name: &Arc<str>, text: &Arc<str>) -> Result<Vec<String>, Vec<String>>;
}

/// The scraping service, as the control loop hands it to the API.
#[derive(Debug, Clone)]
pub struct Service {
    /// Where configurations are stored.
    pub store: StoreHandle,
    /// How they are read; the same `Arc` as long as the rules are the same.
    pub rules: Arc<dyn Validate>,
    /// Who may ask.
    pub access: Arc<Access>,
    /// Whether texts can be read, without their secrets.
    pub is_readable: bool,
    /// Whether the store is kept by this cluster's own nodes.
    pub is_embedded: bool,
    /// Most bytes of one text.
    pub config_bytes_max: u64,
    /// Most configurations; 0 = no limit.
    pub configs_max: u64,
}

/// Changes that were made by way of this node.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    created: AtomicU64,
    updated: AtomicU64,
    deleted: AtomicU64,
}

impl Counters {
    /// Created, updated (with the same text, too) and deleted configurations.
    pub(crate) fn read(&self) -> [u64; 3] {
        [&self.created, &self.updated, &self.deleted].map(|one| one.load(Ordering::Relaxed))
    }
}

/// What requests share.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    pub(crate) counters: Counters,
    /// Held by the one that changes configurations, so that no two of this node take one job name.
    jobs: Arc<Mutex<JobIndex>>,
}
