//! One version of a job's settings + discovered groups -> the targets by these settings.

use super::unstable::Unstable;
use crate::config::{ScrapeConfig, settings_hash};
use crate::discovery::TargetGroup;
use crate::labels::Labels;
use crate::mailbox::ForcedError;
use crate::target::{self, JobTargets, Target};
use ahash::AHashMap;
use ringscrape_cluster::member::ZoneId;
use std::cell::OnceCell;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use tracing::{info, warn};

/// Failed targets that are logged one by one after a change; the rest is counted.
const FAILED_LOGGED_MAX: usize = 3;

/// A job's settings, and what they make of its groups.
pub(super) struct Version {
    pub(super) config: Arc<ScrapeConfig>,
    /// Of the settings: nodes with equal ones share the job's targets.
    pub(super) hash: u64,
    /// Since when this node has them, in ms since the Unix epoch.
    pub(super) since_ms: i64,
    /// All discovered targets, whoever scrapes them, by key.
    pub(super) found: AHashMap<u64, Arc<Target>>,
    /// Why all of them fail.
    pub(super) forced: Option<ForcedError>,
    /// The shards were told something else of all targets.
    pub(super) changes_all: bool,
    pub(super) dropped: Vec<Labels>,
    pub(super) dropped_count: u64,
    pub(super) failed_count: u64,
    pub(super) limit_exceeded: bool,
    /// How many targets there are, by zone and index of the replica.
    pub(super) zones: BTreeMap<(ZoneId, u8), u64>,
    /// How many have a position on the ring that is not their key, by position.
    places: AHashMap<u64, u32>,
    /// Targets whose position is another one's, too.
    merged: u64,
    unstable: Unstable,
    labels: OnceCell<HashSet<Labels>>,
}

impl Version {
    pub(super) fn new(config: Arc<ScrapeConfig>, since_ms: i64) -> Self {
        Self {
            hash: settings_hash(&config),
            config,
            since_ms,
            found: AHashMap::new(),
            forced: None,
            changes_all: false,
            dropped: Vec::new(),
            dropped_count: 0,
            failed_count: 0,
            limit_exceeded: false,
            zones: BTreeMap::new(),
            places: AHashMap::new(),
            merged: 0,
            unstable: Unstable::default(),
            labels: OnceCell::new(),
        }
    }

    /// Whether a target with these labels is among the targets.
    pub(super) fn has_labels(&self, labels: &Labels) -> bool {
        let all = || self.found.values().map(|target| target.labels.clone());
        self.labels.get_or_init(|| all().collect()).contains(labels)
    }

    /// Builds the targets from the groups. Targets that stay the same keep their `Arc`.
    /// `is_newest`: what became of the discovered targets is logged.
    pub(super) fn build(&mut self, groups: &[Arc<TargetGroup>], is_newest: bool) {
        let built = target::targets(&self.config, groups);
        self.report(&built, is_newest);
        let forced = built.target_limit_exceeded.then(|| ForcedError {
            cause: "target_limit",
            message: format!(
                "target_limit exceeded (number of targets: {}, limit: {})",
                built.targets.len() / usize::from(self.config.replication_factor),
                self.config.target_limit
            )
            .into(),
        });
        self.changes_all |= self.forced != forced;
        self.forced = forced;
        let before = std::mem::take(&mut self.found);
        let kept = |target: Arc<Target>| {
            let key = target.key.0;
            let known = before.get(&key).filter(|known| same(known, &target));
            (key, known.cloned().unwrap_or(target))
        };
        self.found = built.targets.into_iter().map(kept).collect();
        if is_newest
            && self.config.is_clustered
            && let Some(label) = self.unstable.observe(&before, &self.found)
        {
            warn!(
                job = self.config.job_name,
                label,
                "a label of targets keeps changing while all else stays: each time the target gets \
                 another owner in the cluster; name it in the job's `clustering: \
                 {{exclude_labels: […]}}`, or those that last in `key_labels`"
            );
        }
        self.labels = OnceCell::new();
        self.zones.clear();
        self.places.clear();
        for target in self.found.values() {
            let spot = &target.spot;
            let zone = (spot.zone, spot.replica.index);
            *self.zones.entry(zone).or_default() += 1;
            if spot.key != target.key {
                *self.places.entry(spot.key.0).or_default() += 1;
            }
        }
        let shared = self.places.values().filter(|count| **count > 1);
        let merged = shared.map(|count| u64::from(*count)).sum();
        if is_newest && merged > self.merged {
            warn!(
                job = self.config.job_name,
                targets = merged,
                "targets have equal values in all labels that decide who scrapes them: those go to \
                 one node together; all are scraped"
            );
        }
        self.merged = merged;
    }

    /// Whether a target has this position on the ring.
    pub(super) fn has_place(&self, place: u64) -> bool {
        let found = self.found.get(&place);
        found.is_some_and(|target| target.spot.key.0 == place) || self.places.contains_key(&place)
    }

    /// Why each scrape of a target fails.
    pub(super) fn forced_error(&self, target: &Target) -> Option<ForcedError> {
        let blocked = target.blocked.as_deref().map(|reason| ForcedError {
            cause: "blocked",
            message: reason.into(),
        });
        self.forced.clone().or(blocked)
    }

    /// Remembers and logs what became of the discovered targets.
    fn report(&mut self, built: &JobTargets, is_newest: bool) {
        let name = &self.config.job_name;
        if is_newest && built.failed_count > self.failed_count {
            for failed in built.failed.iter().take(FAILED_LOGGED_MAX) {
                warn!(job = name, reason = %failed.reason, labels = ?failed.discovered.as_slice(),
                    "a discovered target cannot be scraped");
            }
            warn!(
                job = name,
                targets = built.failed_count,
                "discovered targets cannot be scraped"
            );
        }
        if is_newest && built.target_limit_exceeded && !self.limit_exceeded {
            warn!(
                job = name,
                targets = built.targets.len(),
                limit = self.config.target_limit,
                "target_limit exceeded: all targets of the job fail"
            );
        }
        if is_newest && built.targets.len() != self.found.len() {
            info!(
                job = name,
                targets = built.targets.len(),
                dropped = built.dropped_count,
                "targets of the job changed"
            );
        }
        self.dropped.clone_from(&built.dropped);
        self.dropped_count = built.dropped_count;
        self.failed_count = built.failed_count;
        self.limit_exceeded = built.target_limit_exceeded;
    }
}

/// Whether two targets with one key, so with equal labels and URL, are equal in all else too.
pub(super) fn same(known: &Arc<Target>, target: &Arc<Target>) -> bool {
    Arc::ptr_eq(known, target)
        || (Arc::ptr_eq(&known.scrape_config, &target.scrape_config)
            || known.scrape_config == target.scrape_config)
            && known.interval_ms == target.interval_ms
            && known.timeout_ms == target.timeout_ms
            && known.blocked == target.blocked
            && known.spot == target.spot
            && known.discovered == target.discovered
}
