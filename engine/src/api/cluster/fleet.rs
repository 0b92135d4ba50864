//! The targets that discovery knows + the timeline -> who owns each, before, now and next.

use super::peers::Peers;
use crate::target::Target;
use ringscrape_cluster::{Timeline, View};
use std::collections::BTreeSet;
use std::sync::Arc;

/// All that questions about targets are answered from, at one moment.
#[derive(Debug, Clone)]
pub(crate) struct Fleet {
    /// This node's name.
    pub(crate) me: Arc<str>,
    /// Its clock.
    pub(crate) now_ms: i64,
    /// All active targets that this node's discovery knows, whoever owns them.
    pub(crate) targets: Vec<Arc<Target>>,
    /// Who owns what; `None`: this node owns everything, there is no cluster.
    pub(crate) timeline: Option<Arc<Timeline>>,
    /// Jobs that each node scrapes for itself.
    pub(crate) local_jobs: BTreeSet<String>,
    /// How other nodes are asked; `None`: there is no cluster.
    pub(crate) peers: Option<Arc<dyn Peers>>,
}

/// Who owns a target, from when to when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tenure {
    pub(super) owner: Option<Arc<str>>,
    /// `None`: for as long as the timeline goes back.
    pub(super) since_ms: Option<i64>,
    pub(super) before: Option<Arc<str>>,
    /// The first agreed change of the owner: when, and to whom.
    pub(super) next: Option<(i64, Option<Arc<str>>)>,
}

impl Fleet {
    /// Sorts the targets by job and URL: the order in which they are shown.
    pub(super) fn sort(&mut self) {
        self.targets.sort_by(|a, b| {
            let order = |one: &Arc<Target>, other: &Arc<Target>| {
                let (one, other) = (&one.scrape_config, &other.scrape_config);
                one.job_name.cmp(&other.job_name)
            };
            order(a, b)
                .then_with(|| a.scrape_url.cmp(&b.scrape_url))
                .then_with(|| a.common_key.cmp(&b.common_key))
                .then_with(|| a.spot.replica.cmp(&b.spot.replica))
        });
    }

    /// Whether this node scrapes the target whatever the members are.
    pub(super) fn is_local(&self, target: &Target) -> bool {
        self.timeline.is_none() || self.local_jobs.contains(&target.scrape_config.job_name)
    }

    /// What holds now.
    pub(super) fn view(&self) -> Option<&Arc<View>> {
        Some(self.timeline.as_ref()?.view_at(self.now_ms))
    }

    /// Names of the other members that are active now.
    pub(super) fn other_members(&self) -> Vec<String> {
        let members = self.view().map(|view| view.members()).unwrap_or_default();
        let names = members.iter().map(|member| &member.name);
        let others = names.filter(|name| **name != self.me);
        others.map(|name| name.to_string()).collect()
    }

    /// Who owns a target now.
    pub(super) fn owner(&self, target: &Target) -> Option<&str> {
        match self.view() {
            Some(view) if !self.is_local(target) => owner_in(view, target),
            _ => (target.spot.replica.index == 0).then_some(&*self.me),
        }
    }

    /// Whether nobody scrapes a target now since no member has room for it.
    pub(super) fn is_refused(&self, target: &Target) -> bool {
        let view = self.view().filter(|_| !self.is_local(target));
        let ring = view.and_then(|view| view.job(target.job));
        ring.is_some_and(|ring| ring.is_refused(&target.spot))
    }

    /// Who owns a target, since when and until when.
    pub(super) fn tenure(&self, target: &Target) -> Tenure {
        let timeline = match &self.timeline {
            Some(timeline) if !self.is_local(target) => timeline,
            _ => {
                return Tenure {
                    owner: self.owner(target).map(Arc::from),
                    since_ms: None,
                    before: None,
                    next: None,
                };
            }
        };
        let views = timeline.views();
        let after = views
            .partition_point(|(from_ms, _)| *from_ms <= self.now_ms)
            .max(1);
        let (past, future) = views.split_at(after.min(views.len()));
        let owner = past.last().and_then(|(_, view)| owner_in(view, target));
        let mut since_ms = None;
        let mut before = None;
        let mut later_ms = None;
        for (from_ms, view) in past.iter().rev() {
            let then = owner_in(view, target);
            if then != owner {
                since_ms = later_ms;
                before = then;
                break;
            }
            later_ms = Some(*from_ms);
        }
        let next = future.iter().find_map(|(from_ms, view)| {
            let then = owner_in(view, target);
            (then != owner).then(|| (*from_ms, then.map(Arc::from)))
        });
        Tenure {
            owner: owner.map(Arc::from),
            since_ms,
            before: before.map(Arc::from),
            next,
        }
    }
}

/// Who owns a target as long as a view holds.
pub(super) fn owner_in<'a>(view: &'a View, target: &Target) -> Option<&'a str> {
    view.owner_of(target.job, &target.spot)
}

/// Which of its replicas a target is, to begin a sentence with; empty: it has no others.
pub(super) fn which(target: &Target) -> String {
    let replica = target.spot.replica;
    match replica.count {
        0 | 1 => String::new(),
        count => format!("replica {} (of {count}): ", replica.index),
    }
}

/// Why nobody owns a target of a job that is shared, as long as a view holds.
pub(super) fn why_unowned(view: &View, target: &Target) -> String {
    let name = &target.scrape_config.job_name;
    match view.job(target.job) {
        None => format!("no active member has job {name}"),
        Some(ring) if ring.is_spare(&target.spot) => format!(
            "{}each active member that has job {name} and a weight has another replica; it waits \
             for one more",
            which(target)
        ),
        Some(ring) if ring.is_refused(&target.spot) => {
            "no member has room for it: all would come above their \
             --cluster.samples-per-second-max"
                .to_owned()
        }
        Some(_) => format!("the active members that have job {name} all have weight 0"),
    }
}

/// How many targets nobody scrapes since no member has room for them, and the URL of one.
pub(crate) fn refused_targets(fleet: &Fleet) -> (u64, String) {
    let mut refused = fleet
        .targets
        .iter()
        .filter(|target| fleet.is_refused(target));
    let first = refused.next();
    let url = first.map_or(String::new(), |target| target.scrape_url.clone());
    (u64::from(first.is_some()) + refused.count() as u64, url)
}
