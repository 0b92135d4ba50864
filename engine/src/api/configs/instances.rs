//! Stored configurations and targets -> Grafana Agent's lists of instances and of targets.
//!
//! Its docs/sources/static/api, "List current running instances of metrics subsystem" and "List
//! current scrape targets of metrics subsystem": this node's only.

use super::answers::{self, Refusal};
use super::reads;
use crate::api::router::{Context, ask};
use crate::api::{Health, Query, TargetStatus, json};
use axum::extract::State;
use axum::http::request::Parts;
use axum::response::Response;
use serde_json::{Value, json};
use std::collections::HashMap;

/// The configurations that run on this node, by name, each with its jobs.
async fn running(context: &Context) -> Result<Vec<(String, Vec<String>)>, Refusal> {
    let question = |answer| Query::Configs {
        names: None,
        answer,
    };
    let configs = ask(context, question).await?.configs.into_iter();
    let running = configs.filter(|(_, config)| config.refusals.is_empty());
    Ok(running.map(|(name, config)| (name, config.jobs)).collect())
}

pub(super) async fn instances(
    State(context): State<Context>,
    parts: Parts,
) -> Result<Response, Refusal> {
    reads::may_read(&context, &parts).await?;
    let names = running(&context).await?.into_iter().map(|(name, _)| name);
    Ok(answers::data(&names.collect::<Vec<_>>()))
}

pub(super) async fn targets(
    State(context): State<Context>,
    parts: Parts,
) -> Result<Response, Refusal> {
    reads::may_read(&context, &parts).await?;
    let mut instances = HashMap::new();
    for (name, jobs) in running(&context).await? {
        instances.extend(jobs.into_iter().map(|job| (job, name.clone())));
    }
    let view = ask(&context, Query::Targets).await?;
    let of = |status: &TargetStatus| instances.get(status.job()).map_or("", String::as_str);
    let mut list = view.statuses;
    list.sort_by(|a, b| (of(a), a.job()).cmp(&(of(b), b.job())));
    let list: Vec<Value> = list
        .iter()
        .map(|status| target(status, of(status)))
        .collect();
    Ok(answers::data(&list))
}

/// Its instances and targets of logs, of which there are none here: the agent says so, too, where
/// it has no `logs` block.
pub(super) async fn nothing(
    State(context): State<Context>,
    parts: Parts,
) -> Result<Response, Refusal> {
    reads::may_read(&context, &parts).await?;
    Ok(answers::data(&Value::Array(Vec::new())))
}

fn target(status: &TargetStatus, instance: &str) -> Value {
    let target = &status.target;
    json!({
        "instance": instance,
        "target_group": status.job(),
        "endpoint": target.scrape_url,
        "state": match status.health {
            Health::Unknown => "unknown",
            Health::Up => "up",
            Health::Down => "down",
        },
        "labels": json::labels_object(target.labels.iter()),
        "discovered_labels": json::labels_object(target.discovered.iter()),
        "last_scrape": json::timestamp(status.last_scrape_ms),
        "scrape_duration_ms": (status.last_duration_s * 1e3) as i64,
        "scrape_error": status.last_error,
    })
}
