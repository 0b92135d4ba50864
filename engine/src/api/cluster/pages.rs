//! A filter and a place in the list -> one page of the fleet's targets.

use super::fleet::{Fleet, why_unowned};
use super::ownership::{key_text, label_map, why_alone};
use super::view::{HealthView, JobTargets, NextOwner, TargetView, TargetsView};
use crate::target::Target;
use std::collections::{BTreeMap, HashMap};

/// Targets of a page if the request does not say.
const LIMIT_DEFAULT: usize = 100;
/// Most targets of a page.
const LIMIT_MAX: usize = 1_000;

/// What somebody wants to see of the targets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct PageQuery {
    /// Owned by this node.
    node: Option<String>,
    /// Of this job.
    job: Option<String>,
    /// In this state.
    pub(crate) state: Option<StateWord>,
    /// With this text, in lower case, in the URL or in the value of a label.
    search: Option<String>,
    offset: usize,
    limit: usize,
}

/// What the `state` parameter selects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StateWord {
    /// By the last scrape: `up`, `down` or `unknown`.
    Health(&'static str),
    /// Nobody scrapes it.
    Unowned,
    /// A change of its owner is agreed.
    Moving,
}

impl PageQuery {
    /// Reads the parameters of a request.
    ///
    /// # Errors
    /// Which one is wrong, and what it may be.
    pub(crate) fn parse(parameters: &HashMap<String, String>) -> Result<Self, String> {
        let text = |name: &str| {
            parameters
                .get(name)
                .filter(|text| !text.is_empty())
                .cloned()
        };
        let number = |name: &str, default: usize| match text(name) {
            None => Ok(default),
            Some(text) => text
                .parse::<usize>()
                .map_err(|_| format!("{name}={text:?} is no number")),
        };
        let state = match text("state").as_deref() {
            None => None,
            Some("up") => Some(StateWord::Health("up")),
            Some("down") => Some(StateWord::Health("down")),
            Some("unknown") => Some(StateWord::Health("unknown")),
            Some("unowned") => Some(StateWord::Unowned),
            Some("moving") => Some(StateWord::Moving),
            Some(other) => {
                return Err(format!(
                    "state={other:?} is none of up, down, unknown, unowned, moving"
                ));
            }
        };
        Ok(Self {
            node: text("node"),
            job: text("job"),
            state,
            search: text("search").map(|text| text.to_lowercase()),
            offset: number("offset", 0)?,
            limit: number("limit", LIMIT_DEFAULT)?.clamp(1, LIMIT_MAX),
        })
    }

    fn fits(&self, fleet: &Fleet, target: &Target, health: &HashMap<u64, HealthView>) -> bool {
        if (self.job.as_ref()).is_some_and(|job| *job != target.scrape_config.job_name) {
            return false;
        }
        if (self.node.as_ref()).is_some_and(|node| fleet.owner(target) != Some(node)) {
            return false;
        }
        if !self
            .search
            .as_ref()
            .is_none_or(|text| contains(target, text))
        {
            return false;
        }
        match self.state {
            None => true,
            Some(StateWord::Unowned) => fleet.owner(target).is_none(),
            Some(StateWord::Moving) => fleet.tenure(target).next.is_some(),
            Some(StateWord::Health(word)) => {
                let health = health.get(&target.key.0);
                health.is_some_and(|health| health.health == word)
            }
        }
    }
}

fn contains(target: &Target, text: &str) -> bool {
    target.scrape_url.to_lowercase().contains(text)
        || (target.labels.iter()).any(|(_, value)| value.to_lowercase().contains(text))
}

/// The page. `health` is by key; what is not in it stays open.
pub(crate) fn page(
    fleet: &mut Fleet,
    query: &PageQuery,
    health: &HashMap<u64, HealthView>,
) -> TargetsView {
    fleet.sort();
    let fleet = &*fleet;
    let mut jobs = BTreeMap::<&str, u64>::new();
    for target in &fleet.targets {
        *jobs.entry(&target.scrape_config.job_name).or_default() += 1;
    }
    let mut matched = 0;
    let mut targets = Vec::new();
    for target in (fleet.targets.iter()).filter(|target| query.fits(fleet, target, health)) {
        if matched >= query.offset && targets.len() < query.limit {
            targets.push(target_view(fleet, target, health));
        }
        matched += 1;
    }
    TargetsView {
        this_node: fleet.me.to_string(),
        now_ms: fleet.now_ms,
        total: fleet.targets.len() as u64,
        matched: matched as u64,
        offset: query.offset as u64,
        jobs: (jobs.into_iter())
            .map(|(name, targets)| JobTargets {
                name: name.to_owned(),
                targets,
            })
            .collect(),
        targets,
        warnings: Vec::new(),
    }
}

fn target_view(fleet: &Fleet, target: &Target, health: &HashMap<u64, HealthView>) -> TargetView {
    let tenure = fleet.tenure(target);
    TargetView {
        job: target.scrape_config.job_name.clone(),
        url: target.scrape_url.clone(),
        key: key_text(target),
        labels: label_map(target),
        interval_ms: target.interval_ms,
        why_unowned: match (&tenure.owner, fleet.view()) {
            (None, Some(view)) => why_unowned(view, target),
            (None, None) => why_alone(target),
            _ => String::new(),
        },
        owner: tenure.owner.map(|name| name.to_string()),
        next: tenure.next.map(|(from_ms, owner)| NextOwner {
            owner: owner.map(|name| name.to_string()),
            from_ms,
        }),
        health: health.get(&target.key.0).cloned(),
    }
}
