//! Requests about the cluster -> questions to the control loop and other nodes -> JSON.
//!
//! Whatever looks at every target runs on a thread for blocking work: the control loop stays free.

use super::peers::{self, Answer, Question};
use super::view::{ClusterView, HealthView, TargetsView};
use super::{Fleet, MemberState, PageQuery, StateWord, TargetQuery, owners, page, status, what_if};
use crate::api::Query;
use crate::api::router::{Context, ask, is_lifecycle_refused};
use axum::Router;
use axum::extract::{Query as UrlQuery, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde::Serialize;
use std::collections::{BTreeMap, HashMap};

type Parameters = UrlQuery<HashMap<String, String>>;

/// The routes of this file.
pub(in crate::api) fn routes() -> Router<Context> {
    Router::new()
        .route("/api/v0/web/peers", get(alloy_peers))
        .route("/api/v1/overview", get(overview))
        .route("/api/v1/cluster", get(cluster))
        .route("/api/v1/cluster/owner", get(owner))
        .route("/api/v1/cluster/what-if", get(what_if_leaves))
        .route("/api/v1/cluster/targets", get(targets))
        .route("/api/v1/cluster/configs", get(configs))
        .route("/api/v1/cluster/drain", post(drain))
        .route("/api/v1/cluster/undrain", post(undrain))
}

fn success(data: &impl Serialize) -> Response {
    axum::Json(serde_json::json!({ "status": "success", "data": data })).into_response()
}

/// Prometheus' envelope of errors.
fn failure(status: StatusCode, kind: &str, text: &str) -> Response {
    let body = serde_json::json!({ "status": "error", "errorType": kind, "error": text });
    (status, axum::Json(body)).into_response()
}

fn bad_data(text: &str) -> Response {
    failure(StatusCode::BAD_REQUEST, "bad_data", text)
}

/// Runs `work` where it may take its time.
async fn aside<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Response> {
    tokio::task::spawn_blocking(work).await.map_err(|error| {
        failure(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            &error.to_string(),
        )
    })
}

/// A parameter that is there and not empty.
fn parameter<'a>(parameters: &'a HashMap<String, String>, name: &str) -> Option<&'a str> {
    let text = parameters.get(name).map(String::as_str);
    text.filter(|text| !text.is_empty())
}

/// Whether other nodes are to be asked, too.
fn asks_all(parameters: &HashMap<String, String>) -> Result<bool, String> {
    match parameter(parameters, "scope") {
        None | Some("self") => Ok(false),
        Some("all") => Ok(true),
        Some(other) => Err(format!("scope={other:?} is none of self, all")),
    }
}

async fn overview(State(context): State<Context>) -> Result<Response, Response> {
    Ok(success(&ask(&context, Query::Overview).await?))
}

async fn cluster_view(context: &Context) -> Result<(ClusterView, Fleet), Response> {
    let (mut view, fleet) = ask(context, Query::Cluster).await?;
    aside(move || {
        status::count_targets(&mut view, &fleet);
        (view, fleet)
    })
    .await
}

async fn cluster(
    State(context): State<Context>,
    UrlQuery(parameters): Parameters,
) -> Result<Response, Response> {
    let all = asks_all(&parameters).map_err(|text| bad_data(&text))?;
    let (mut view, fleet) = cluster_view(&context).await?;
    let own = ask(&context, Query::Overview).await?;
    let mut rates = HashMap::from([(view.this_node.clone(), own.samples_per_second)]);
    if let Some(peers) = fleet.peers.filter(|_| all) {
        let others = view.members.iter().filter(|member| {
            !member.is_self && !matches!(member.state, MemberState::Dead | MemberState::Suspect)
        });
        let questions = others.map(|member| (member.name.clone(), Question::Figures));
        for (node, result) in peers::ask_all(&peers, questions.collect()).await {
            match result {
                Ok(Answer::Figures { samples_per_second }) => {
                    rates.insert(node, samples_per_second);
                }
                Ok(_) => view
                    .warnings
                    .push(format!("{node}: it answered something else")),
                Err(reason) => view.warnings.push(format!("{node}: {reason}")),
            }
        }
    }
    for member in &mut view.members {
        member.samples_per_second = rates.get(&member.name).copied();
    }
    Ok(success(&view))
}

async fn alloy_peers(State(context): State<Context>) -> Result<Response, Response> {
    let (view, _) = cluster_view(&context).await?;
    Ok(axum::Json(status::alloy_peers(&view)).into_response())
}

async fn owner(
    State(context): State<Context>,
    UrlQuery(parameters): Parameters,
) -> Result<Response, Response> {
    let text = parameter(&parameters, "target").unwrap_or_default();
    let query = TargetQuery::parse(text).map_err(|text| bad_data(&text))?;
    let without = parameter(&parameters, "without").map(str::to_owned);
    let mut fleet = ask(&context, Query::Fleet).await?;
    let found = aside(move || owners(&mut fleet, &query, without.as_deref())).await?;
    let found = found.map_err(|text| bad_data(&text))?;
    if found.matched == 0 {
        let text = format!(
            "this node's discovery knows no target {text:?}; /api/v1/cluster/targets lists those \
             it knows"
        );
        return Err(failure(StatusCode::NOT_FOUND, "not_found", &text));
    }
    Ok(success(&found))
}

async fn what_if_leaves(
    State(context): State<Context>,
    UrlQuery(parameters): Parameters,
) -> Result<Response, Response> {
    let Some(leave) = parameter(&parameters, "leave").map(str::to_owned) else {
        return Err(bad_data("say which node leaves: what-if?leave=NODE"));
    };
    let fleet = ask(&context, Query::Fleet).await?;
    match aside(move || what_if(&fleet, &leave)).await? {
        Ok(view) => Ok(success(&view)),
        Err(text) => Err(failure(StatusCode::NOT_FOUND, "not_found", &text)),
    }
}

/// How stored configurations are doing on all nodes; `name`: only that one.
async fn configs(
    State(context): State<Context>,
    UrlQuery(mut parameters): Parameters,
    parts: Parts,
) -> Result<Response, Response> {
    crate::api::configs::may_read(&context, &parts).await?;
    let names = parameters.remove("name").map(|name| vec![name]);
    match peers::config_status(&context.queries, names).await {
        Some(configs) => Ok(success(&serde_json::json!({ "configs": configs }))),
        None => {
            let text = "no answer: ringscrape is stopping, or a shard is stuck";
            Err(failure(
                StatusCode::SERVICE_UNAVAILABLE,
                "unavailable",
                text,
            ))
        }
    }
}

async fn targets(
    State(context): State<Context>,
    UrlQuery(parameters): Parameters,
) -> Result<Response, Response> {
    let all = asks_all(&parameters).map_err(|text| bad_data(&text))?;
    let query = PageQuery::parse(&parameters).map_err(|text| bad_data(&text))?;
    let mut fleet = ask(&context, Query::Fleet).await?;
    let me = fleet.me.to_string();
    let peers = fleet.peers.clone().filter(|_| all);
    let mut health = HashMap::<u64, HealthView>::new();
    let mut warnings = Vec::new();
    // A filter by health needs the health of all targets; else that of the page will do.
    if let Some(StateWord::Health(word)) = query.state {
        let own = peers::statuses(&context.queries, None)
            .await
            .unwrap_or_default();
        health.extend(
            own.iter()
                .map(|one| (one.target.key.0, peers::health_view(one))),
        );
        if let Some(peers) = &peers {
            let others = fleet.other_members();
            let questions = others
                .into_iter()
                .map(|node| (node, Question::InHealth(word.to_owned())));
            let answers = peers::ask_all(peers, questions.collect()).await;
            take_health(answers, &mut health, &mut warnings);
        }
        let mut view = aside(move || page(&mut fleet, &query, &health)).await?;
        view.warnings = warnings;
        return Ok(success(&view));
    }
    let mut view = aside(move || page(&mut fleet, &query, &health)).await?;
    let mut by_owner = BTreeMap::<String, Vec<u64>>::new();
    for target in &view.targets {
        if let (Some(owner), Ok(key)) = (&target.owner, u64::from_str_radix(&target.key, 16)) {
            by_owner.entry(owner.clone()).or_default().push(key);
        }
    }
    let mut health = HashMap::new();
    if let Some(keys) = by_owner.remove(&me) {
        let own = peers::statuses(&context.queries, Some(keys))
            .await
            .unwrap_or_default();
        health.extend(
            own.iter()
                .map(|one| (one.target.key.0, peers::health_view(one))),
        );
    }
    if let Some(peers) = &peers {
        let questions = by_owner
            .into_iter()
            .map(|(node, keys)| (node, Question::Health(keys)));
        let answers = peers::ask_all(peers, questions.collect()).await;
        take_health(answers, &mut health, &mut warnings);
    }
    fill_health(&mut view, &health);
    view.warnings = warnings;
    Ok(success(&view))
}

fn fill_health(view: &mut TargetsView, health: &HashMap<u64, HealthView>) {
    for target in &mut view.targets {
        let key = u64::from_str_radix(&target.key, 16).ok();
        target.health = key.and_then(|key| health.get(&key).cloned());
    }
}

fn take_health(
    answers: Vec<(String, Result<Answer, String>)>,
    health: &mut HashMap<u64, HealthView>,
    warnings: &mut Vec<String>,
) {
    for (node, result) in answers {
        match result {
            Ok(Answer::Health { found, is_cut }) => {
                health.extend(found);
                if is_cut {
                    warnings.push(format!("{node}: it has more such targets than it lists"));
                }
            }
            Ok(_) => warnings.push(format!("{node}: it answered something else")),
            Err(reason) => warnings.push(format!("{node}: {reason}")),
        }
    }
}

async fn drain(State(context): State<Context>) -> Result<Response, Response> {
    set_drained(&context, true).await
}

async fn undrain(State(context): State<Context>) -> Result<Response, Response> {
    set_drained(&context, false).await
}

async fn set_drained(context: &Context, is_drained: bool) -> Result<Response, Response> {
    if is_lifecycle_refused(context) {
        let text = "draining over HTTP is off: start the node with --web.enable-lifecycle";
        return Err(failure(StatusCode::FORBIDDEN, "forbidden", text));
    }
    match ask(context, |answer| Query::Drain { is_drained, answer }).await? {
        Ok(()) => Ok(success(&serde_json::json!({ "drained": is_drained }))),
        Err(text) => Err(failure(StatusCode::CONFLICT, "unavailable", &text)),
    }
}
