//! `PUT`, `POST` and `DELETE` of configurations -> changes of the store, checked and written down.

use super::access::{Caller, Role};
use super::answers::Refusal;
use super::changes::{self, Wanted, What};
use super::conditions::tag;
use super::lists::flag;
use super::reads::{aside, name_of, parameters, service, tags};
use super::view::{BatchRequest, BatchView, OutcomeView};
use super::{Service, answers, audit, body};
use crate::api::router::Context;
use crate::clock;
use crate::service::store::{
    Applied, Change, Condition, Configs, Outcome, StoreError, StoreHandle,
};
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// What a path holds before the name of a configuration to be changed.
const CONFIG: &str = "/agent/api/v1/config/";
/// Most bytes of a batch.
const BATCH_BYTES_MAX: u64 = 64 << 20;
/// Most changes of a batch.
const BATCH_CHANGES_MAX: usize = 20_000;
/// How long a store may take for a change.
const STORE_PATIENCE: Duration = Duration::from_secs(60);
/// How long an answer waits until this node's own lists show the change.
const ECHO_PATIENCE: Duration = Duration::from_secs(1);

/// How long it is waited before a change is tried again that another one has overtaken.
const RETRY_PAUSES_MS: [u64; 6] = [0, 20, 40, 80, 160, 320];

/// Who asks for a change, and of what.
struct Asked {
    service: Service,
    caller: Caller,
    parts: Parts,
    parameters: HashMap<String, String>,
    is_dry_run: bool,
}

impl Asked {
    async fn read(context: &Context, request: Request) -> Result<(Self, Body), Refusal> {
        let Some(service) = service(context).await? else {
            return Err(answers::no_store());
        };
        let (parts, body) = request.into_parts();
        let caller = (service.access)
            .allow(&parts, Role::Write, context.options.lifecycle)
            .map_err(|denied| answers::denied(&denied))?;
        let parameters = parameters(&parts.uri)?;
        let is_dry_run = flag(&parameters, "dry_run");
        let is_dry_run = is_dry_run.map_err(|text| answers::bad_request(&text))?;
        let asked = Self {
            service,
            caller,
            parts,
            parameters,
            is_dry_run,
        };
        Ok((asked, body))
    }

    /// The revision of `name`, as far as this node knows.
    fn revision(&self, name: &str) -> Option<u64> {
        let state = self.service.store.state.borrow();
        state
            .configs
            .by_name
            .get(name)
            .map(|stored| stored.revision)
    }

    /// What the request says must hold for a change of `name`.
    fn condition(&self, name: &str) -> Result<Condition, Refusal> {
        let current = self.revision(name);
        tags(&self.parts.headers)?
            .for_change(current)
            .ok_or_else(|| {
                let text = changes::conflict(name, current);
                answers::error(StatusCode::PRECONDITION_FAILED, &text)
            })
    }
}

pub(super) async fn put(
    State(context): State<Context>,
    request: Request,
) -> Result<Response, Refusal> {
    let (asked, body) = Asked::read(&context, request).await?;
    let name = name_of(&asked.parts.uri, CONFIG)?;
    let managed_by = asked.parameters.get("managed_by").cloned();
    if let Some(label) = &managed_by {
        changes::check_label(label).map_err(|text| answers::bad_request(&text))?;
    }
    let text = body::text(body, asked.service.config_bytes_max).await?;
    let wanted = Wanted {
        condition: asked.condition(&name)?,
        name: name.into(),
        what: What::Put {
            text: text.into(),
            managed_by,
        },
    };
    let is_dry_run = asked.is_dry_run;
    let view = change(&context, asked, vec![wanted], Kind::Put).await?;
    if is_dry_run {
        return Ok(answers::data(&view));
    }
    let change = view.changes.first();
    let outcome = change.map(|change| change.outcome);
    let mut response = answers::success(match outcome {
        Some(OutcomeView::Created) => StatusCode::CREATED,
        _ => StatusCode::OK,
    });
    let revision = match outcome {
        Some(OutcomeView::Unchanged) => change.and_then(|change| change.revision_before),
        _ => Some(view.revision),
    };
    if let Some(Ok(value)) = revision.map(|revision| HeaderValue::try_from(tag(revision))) {
        response.headers_mut().insert(header::ETAG, value);
    }
    Ok(response)
}

pub(super) async fn delete(
    State(context): State<Context>,
    request: Request,
) -> Result<Response, Refusal> {
    let (asked, _) = Asked::read(&context, request).await?;
    let name = name_of(&asked.parts.uri, CONFIG)?;
    let wanted = Wanted {
        condition: asked.condition(&name)?,
        name: name.into(),
        what: What::Delete,
    };
    let is_dry_run = asked.is_dry_run;
    let view = change(&context, asked, vec![wanted], Kind::Delete).await?;
    Ok(match is_dry_run {
        true => answers::data(&view),
        false => answers::success(StatusCode::OK),
    })
}

pub(super) async fn batch(
    State(context): State<Context>,
    request: Request,
) -> Result<Response, Refusal> {
    let (asked, body) = Asked::read(&context, request).await?;
    let text = body::text(body, BATCH_BYTES_MAX).await?;
    let wanted = aside(move || of_text(&text)).await??;
    let view = change(&context, asked, wanted, Kind::Batch).await?;
    aside(move || answers::data(&view)).await
}

/// The changes of a batch's text.
fn of_text(text: &str) -> Result<Vec<Wanted>, Refusal> {
    let bad = |text: String| answers::bad_request(&text);
    let batch: BatchRequest = serde_json::from_str(text)
        .map_err(|error| bad(format!("could not unmarshal the batch: {error}")))?;
    if batch.changes.len() > BATCH_CHANGES_MAX {
        return Err(bad(format!(
            "a batch has at most {BATCH_CHANGES_MAX} changes"
        )));
    }
    if let Some(label) = &batch.managed_by {
        changes::check_label(label).map_err(bad)?;
    }
    changes::of_batch(batch).map_err(|faults| answers::faults(&faults, true))
}

/// What kind of request it is, for messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Put,
    Delete,
    Batch,
}

impl Kind {
    fn doing(self) -> &'static str {
        match self {
            Self::Put => "failed to put config",
            Self::Delete => "error deleting configuration",
            Self::Batch => "failed to apply the batch",
        }
    }
}

/// Checks the changes, and makes them unless it is a dry run. It is done to its end even if nobody
/// waits for the answer any more.
async fn change(
    context: &Context,
    asked: Asked,
    wanted: Vec<Wanted>,
    kind: Kind,
) -> Result<BatchView, Refusal> {
    let shared = context.configs.clone();
    let task = tokio::spawn(async move {
        let mut index = shared.jobs.clone().lock_owned().await;
        let store_error =
            |error: &StoreError| answers::store_error(&asked.service, kind.doing(), error);
        let known = asked.service.store.state.borrow().configs.clone();
        let mut is_fresh = asked.is_dry_run || changes::is_behind(&wanted, &known);
        let mut pauses = RETRY_PAUSES_MS.into_iter();
        let mut wanted = wanted;
        let (configs, applied) = loop {
            let configs: Arc<Configs> = match is_fresh {
                true => (asked.service.store.read().await).map_err(|error| store_error(&error))?,
                false => known.clone(),
            };
            let (service, stored, is_dry_run) =
                (asked.service.clone(), configs.clone(), asked.is_dry_run);
            let (checked, checked_wanted, checked_index) = aside(move || {
                let checked = match changes::check(&wanted, &stored, &mut index, &service) {
                    faults if !faults.is_empty() => Err(faults),
                    _ if is_dry_run => changes::foresee(&wanted, &stored),
                    _ => Ok(Vec::new()),
                };
                (checked, wanted, index)
            })
            .await?;
            (wanted, index) = (checked_wanted, checked_index);
            let foreseen =
                checked.map_err(|faults| answers::faults(&faults, kind == Kind::Batch))?;
            if asked.is_dry_run {
                return Ok(BatchView {
                    revision: configs.revision,
                    dry_run: true,
                    changes: foreseen,
                });
            }
            let changed_by = &asked.caller.name;
            let changes = changes::for_store(&wanted, &configs, changed_by, clock::now_ms());
            let error = match apply(&asked.service.store, changes).await {
                Ok(applied) => break (configs, applied),
                Err(error) => error,
            };
            // Somebody was faster, and only the owner's label was to be kept: with the new one.
            let is_overtaken = matches!(&error, StoreError::Conflict { name, revision }
                if changes::may_try_again(&wanted, name, *revision));
            let Some(pause_ms) = pauses.next().filter(|_| is_overtaken) else {
                audit::failed(&asked.caller, &wanted, &error);
                return Err(store_error(&error));
            };
            tokio::time::sleep(Duration::from_millis(pause_ms)).await;
            is_fresh = true;
        };
        count(&shared.counters, &applied.outcomes);
        let (caller, revision) = (asked.caller.clone(), applied.revision);
        // Thousands of lines of the log take their time.
        let changes = aside(move || {
            let changes = changes::done(&wanted, &configs, &applied.outcomes);
            audit::made(&caller, &changes, revision);
            changes
        })
        .await?;
        see(&asked.service.store, revision).await;
        // Only now may the next one look which job names are taken.
        drop(index);
        Ok(BatchView {
            revision,
            dry_run: false,
            changes,
        })
    });
    task.await.unwrap_or_else(|error| {
        Err(answers::error(
            StatusCode::INTERNAL_SERVER_ERROR,
            &error.to_string(),
        ))
    })
}

async fn apply(store: &StoreHandle, changes: Vec<Change>) -> Result<Applied, StoreError> {
    if changes.is_empty() {
        let revision = store.state.borrow().configs.revision;
        return Ok(Applied {
            revision,
            outcomes: Vec::new(),
        });
    }
    let late = || StoreError::Unconfirmed("no answer in time".to_owned());
    (tokio::time::timeout(STORE_PATIENCE, store.apply(changes)).await)
        .unwrap_or_else(|_| Err(late()))
}

fn count(counters: &super::Counters, outcomes: &[Outcome]) {
    for outcome in outcomes {
        let counter = match outcome {
            Outcome::Created => &counters.created,
            // Grafana Agent does not tell a text that is there already from another one.
            Outcome::Updated | Outcome::Unchanged => &counters.updated,
            Outcome::Deleted => &counters.deleted,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// Waits until this node's lists show what was just changed by way of it.
async fn see(store: &StoreHandle, revision: u64) {
    let mut state = store.state.clone();
    let shown = state.wait_for(|state| state.configs.revision >= revision);
    // Without it the lists are late, not wrong.
    let _ = tokio::time::timeout(ECHO_PATIENCE, shown).await;
}
