//! Control plane state -> the JSON of Prometheus' HTTP API.

use super::{Health, JobView, TargetStatus};
use crate::config::format_duration;
use serde_json::{Map, Value, json};
use std::time::{Duration, UNIX_EPOCH};

/// Which targets `/api/v1/targets` shows: its `state` parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum StateFilter {
    /// Scraped ones.
    Active,
    /// Those that relabelling dropped.
    Dropped,
    /// Both.
    #[default]
    Any,
    /// Neither: an unknown word.
    Neither,
}

impl StateFilter {
    /// Reads the parameter as Prometheus does: in any case; empty is `any`.
    pub(crate) fn parse(text: &str) -> Self {
        match text.to_ascii_lowercase().as_str() {
            "active" => Self::Active,
            "dropped" => Self::Dropped,
            "any" | "" => Self::Any,
            _ => Self::Neither,
        }
    }
}

/// The `data` of `/api/v1/targets`.
///
/// Shape after Prometheus docs/querying/api.md, "Targets".
pub(crate) fn targets(
    statuses: &[TargetStatus],
    jobs: &[JobView],
    filter: StateFilter,
    pool: Option<&str>,
) -> Value {
    let wanted = |job: &str| pool.is_none_or(|pool| pool == job);
    let mut active = Vec::new();
    if matches!(filter, StateFilter::Active | StateFilter::Any) {
        active.extend(
            statuses
                .iter()
                .filter(|s| wanted(s.job()))
                .map(active_target),
        );
    }
    let mut dropped = Vec::new();
    let mut counts = Map::new();
    for job in jobs.iter().filter(|job| wanted(&job.name)) {
        counts.insert(job.name.clone(), json!(job.dropped_count));
        if matches!(filter, StateFilter::Dropped | StateFilter::Any) {
            dropped.extend(job.dropped.iter().map(|labels| {
                json!({"discoveredLabels": labels_object(labels.iter()), "scrapePool": job.name})
            }));
        }
    }
    json!({
        "activeTargets": active,
        "droppedTargets": dropped,
        "droppedTargetCounts": counts,
    })
}

fn active_target(status: &TargetStatus) -> Value {
    let target = &status.target;
    json!({
        "discoveredLabels": labels_object(target.discovered.iter()),
        "labels": labels_object(target.labels.iter()),
        "scrapePool": status.job(),
        "scrapeUrl": target.scrape_url,
        "globalUrl": target.scrape_url,
        "lastError": status.last_error,
        "lastScrape": timestamp(status.last_scrape_ms),
        "lastScrapeDuration": status.last_duration_s,
        "health": match status.health {
            Health::Unknown => "unknown",
            Health::Up => "up",
            Health::Down => "down",
        },
        "scrapeInterval": format_duration(target.interval_ms),
        "scrapeTimeout": format_duration(target.timeout_ms),
    })
}

pub(super) fn labels_object<'a>(labels: impl Iterator<Item = (&'a str, &'a str)>) -> Value {
    Value::Object(
        labels
            .map(|(name, value)| (name.to_owned(), json!(value)))
            .collect(),
    )
}

/// RFC 3339 in UTC; a target never scraped has Go's zero time, as in Prometheus.
pub(super) fn timestamp(ms: Option<i64>) -> String {
    match ms.and_then(|ms| u64::try_from(ms).ok()) {
        Some(ms) => {
            humantime::format_rfc3339_millis(UNIX_EPOCH + Duration::from_millis(ms)).to_string()
        }
        None => "0001-01-01T00:00:00Z".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_state_shows_nothing() {
        assert_eq!(StateFilter::parse("Active"), StateFilter::Active);
        assert_eq!(StateFilter::parse(""), StateFilter::Any);
        assert_eq!(StateFilter::parse("up"), StateFilter::Neither);
        let job = JobView {
            name: "a".to_owned(),
            dropped: vec![crate::labels::Labels::from_pairs([("x", "y")])],
            dropped_count: 1,
        };
        let shown = |filter| targets(&[], std::slice::from_ref(&job), filter, None);
        assert_eq!(
            shown(StateFilter::Any)["droppedTargets"]
                .as_array()
                .unwrap()
                .len(),
            1
        );
        assert!(
            shown(StateFilter::Neither)["droppedTargets"]
                .as_array()
                .unwrap()
                .is_empty()
        );
        assert_eq!(shown(StateFilter::Any)["droppedTargetCounts"]["a"], 1);
    }

    #[test]
    fn times_are_printed_as_prometheus_does() {
        assert_eq!(timestamp(None), "0001-01-01T00:00:00Z");
        assert_eq!(timestamp(Some(1_000)), "1970-01-01T00:00:01.000Z");
    }
}
