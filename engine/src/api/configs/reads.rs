//! `GET` of configurations -> names, pages, or one text without its secrets.

use super::access::Role;
use super::answers::Refusal;
use super::conditions::{Tags, tag};
use super::lists::{self, Page};
use super::view::ListView;
use super::{Service, answers, names, scrub};
use crate::api::Query;
use crate::api::cluster::peers;
use crate::api::router::{Context, ask};
use crate::service::status::ConfigStatus;
use crate::service::store::{Configs, StoreError};
use axum::extract::{Query as UrlQuery, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use std::collections::HashMap;
use std::sync::Arc;

/// What a path holds before a configuration's name.
pub(super) const CONFIGS: &str = "/agent/api/v1/configs/";

/// The service, if it is on.
pub(super) async fn service(context: &Context) -> Result<Option<Service>, Refusal> {
    Ok(ask(context, Query::Service).await?)
}

/// The parameters of a request.
pub(super) fn parameters(uri: &Uri) -> Result<HashMap<String, String>, Refusal> {
    match UrlQuery::try_from_uri(uri) {
        Ok(UrlQuery(parameters)) => Ok(parameters),
        Err(error) => Err(answers::bad_request(&error.to_string())),
    }
}

/// The name in a path that begins with `before`.
pub(super) fn name_of(uri: &Uri, before: &str) -> Result<String, Refusal> {
    let segment = uri.path().strip_prefix(before).unwrap_or_default();
    names::decode(segment).map_err(|text| answers::bad_request(&text))
}

pub(super) fn tags(headers: &HeaderMap) -> Result<Tags, Refusal> {
    let field = |name| headers.get(name).map(HeaderValue::as_bytes);
    Tags::parse(field(header::IF_MATCH), field(header::IF_NONE_MATCH))
        .map_err(|text| answers::bad_request(&text))
}

fn is_allowed(service: &Service, parts: &Parts, context: &Context) -> Result<(), Refusal> {
    let allowed = (service.access).allow(parts, Role::Read, context.options.lifecycle);
    allowed
        .map(|_| ())
        .map_err(|denied| answers::denied(&denied))
}

/// Whether a request that shows something of stored configurations may be answered; without the
/// service there are none.
pub(super) async fn may_read(context: &Context, parts: &Parts) -> Result<(), Refusal> {
    match service(context).await? {
        Some(service) => is_allowed(&service, parts, context),
        None => Ok(()),
    }
}

/// What is stored, as this node knows it; while the store does not answer, only who takes what may
/// be old gets it.
fn known(service: &Service, takes_stale: bool, doing: &str) -> Result<Arc<Configs>, Refusal> {
    let state = service.store.state.borrow();
    if state.is_connected || takes_stale {
        return Ok(state.configs.clone());
    }
    let error = StoreError::NotConnected(state.last_error.clone());
    Err(answers::store_error(service, doing, &error))
}

/// Why the store does not answer; `None`: it does.
fn silence(service: &Service) -> Option<String> {
    let state = service.store.state.borrow();
    (!state.is_connected).then(|| state.last_error.clone())
}

fn tagged(mut response: Response, revision: u64) -> Response {
    if let Ok(value) = HeaderValue::try_from(tag(revision)) {
        response.headers_mut().insert(header::ETAG, value);
    }
    response
}

fn not_modified(revision: u64) -> Response {
    tagged(StatusCode::NOT_MODIFIED.into_response(), revision)
}

pub(super) async fn list(
    State(context): State<Context>,
    request: Request,
) -> Result<Response, Refusal> {
    let Some(service) = service(&context).await? else {
        return Err(answers::no_store());
    };
    let (parts, _) = request.into_parts();
    is_allowed(&service, &parts, &context)?;
    let parameters = parameters(&parts.uri)?;
    let bad = |text: String| answers::bad_request(&text);
    let page = Page::parse(&parameters).map_err(bad)?;
    let takes_stale = lists::flag(&parameters, "stale").map_err(bad)?;
    if page.as_ref().is_some_and(|page| page.has_contents) && !is_readable(&context, &service) {
        return Err(answers::unreadable());
    }
    let configs = known(&service, takes_stale, "failed to list configs")?;
    let has_status = page.as_ref().is_some_and(|page| page.has_status);
    // How they are doing changes without a revision.
    if !has_status && tags(&parts.headers)?.has_copy(configs.revision) {
        return Ok(not_modified(configs.revision));
    }
    let revision = configs.revision;
    let view = match page {
        None => lists::all_names(&configs),
        Some(page) => {
            let mut view = aside(move || lists::page(&configs, &page)).await?;
            view.store_error = silence(&service);
            if has_status {
                add_status(&context, &mut view).await?;
                return aside(move || answers::data(&view)).await;
            }
            view
        }
    };
    let answer = aside(move || answers::data(&view)).await?;
    Ok(tagged(answer, revision))
}

/// How configurations are doing, on all nodes.
async fn statuses(context: &Context, names: Vec<String>) -> Result<Vec<ConfigStatus>, Refusal> {
    let found = peers::config_status(&context.queries, Some(names)).await;
    found.ok_or_else(|| answers::error(StatusCode::SERVICE_UNAVAILABLE, "ringscrape is stopping"))
}

async fn add_status(context: &Context, view: &mut ListView) -> Result<(), Refusal> {
    let found = statuses(context, view.configs.clone()).await?;
    let mut by_name: HashMap<String, ConfigStatus> = found
        .into_iter()
        .map(|status| (status.name.clone(), status))
        .collect();
    for item in view.items.iter_mut().flatten() {
        item.status = by_name.remove(&item.name);
    }
    Ok(())
}

/// How one configuration is doing: also one that is deleted, as long as a node has it.
pub(super) async fn status(
    State(context): State<Context>,
    request: Request,
) -> Result<Response, Refusal> {
    let Some(service) = service(&context).await? else {
        return Err(answers::no_store());
    };
    let (parts, _) = request.into_parts();
    is_allowed(&service, &parts, &context)?;
    let path = parts.uri.path();
    let segment = path.strip_prefix(CONFIGS).unwrap_or_default();
    let segment = segment.strip_suffix("/status").unwrap_or(segment);
    let name = names::decode(segment).map_err(|text| answers::bad_request(&text))?;
    match statuses(&context, vec![name.clone()]).await?.pop() {
        Some(status) => Ok(answers::data(&status)),
        None => Err(answers::missing(&name)),
    }
}

/// Runs `work` where it may take its time.
pub(super) async fn aside<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Refusal> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| answers::error(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()))
}

fn is_readable(context: &Context, service: &Service) -> bool {
    context.options.reads_configs || service.is_readable
}

/// The `data` of one configuration.
#[derive(Debug, Serialize)]
struct OneView {
    value: String,
}

pub(super) async fn one(
    State(context): State<Context>,
    request: Request,
) -> Result<Response, Refusal> {
    let Some(service) = service(&context).await? else {
        return Err(match context.options.reads_configs {
            true => answers::no_store(),
            false => answers::unreadable(),
        });
    };
    let (parts, _) = request.into_parts();
    is_allowed(&service, &parts, &context)?;
    if !is_readable(&context, &service) {
        return Err(answers::unreadable());
    }
    let name = name_of(&parts.uri, CONFIGS)?;
    let parameters = parameters(&parts.uri)?;
    let takes_stale = lists::flag(&parameters, "stale");
    let takes_stale = takes_stale.map_err(|text| answers::bad_request(&text))?;
    let configs = known(
        &service,
        takes_stale,
        &format!("failed to get config {name}"),
    )?;
    let Some(config) = configs.by_name.get(name.as_str()).cloned() else {
        return Err(answers::missing(&name));
    };
    if tags(&parts.headers)?.has_copy(config.revision) {
        return Ok(not_modified(config.revision));
    }
    let revision = config.revision;
    match aside(move || scrub::scrubbed(&config.name, &config.text)).await? {
        Ok(value) => Ok(tagged(answers::data(&OneView { value }), revision)),
        Err(reason) => {
            let text = format!("failed to unmarshal config {name}: {reason}");
            Err(answers::error(StatusCode::INTERNAL_SERVER_ERROR, &text))
        }
    }
}
