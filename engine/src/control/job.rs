//! One job: its settings, its groups, and what the shards know of its targets -> what they have to
//! be told.

use super::jobs::{Change, Configured};
use super::ownership::{JobVersions, Ownership, Share};
use super::shard_of;
use super::version::{Version, same};
use crate::discovery::TargetGroup;
use crate::mailbox::{Assignment, Ending, ForcedError, OwnSlots, Removal};
use crate::target::Target;
use ahash::AHashMap;
use ringscrape_cluster::member::{JobId, JobVersion};
use ringscrape_cluster::timeline::JobTimeline;
use ringscrape_wal::definition::Route;
use std::net::IpAddr;
use std::sync::Arc;
use tracing::warn;

/// A job of the configuration, or one that is in force still.
pub(super) struct Job {
    pub(super) name: String,
    pub(super) id: JobId,
    pub(super) groups: Vec<Arc<TargetGroup>>,
    /// Each source of the job has answered once.
    pub(super) has_answered: bool,
    /// Oldest first, at least one. The last is that of the configuration; the others are in force
    /// until the cluster switches.
    pub(super) versions: Vec<Version>,
    pub(super) is_removed: bool,
    /// What the shards know, by key.
    pub(super) told: AHashMap<u64, Told>,
    /// The stored configuration that it comes from; `None`: the file.
    pub(super) of: Option<Arc<str>>,
    /// Which one of its configuration or of the file it is.
    pub(super) nth: usize,
    /// Why all targets fail, whatever they are.
    pub(super) over: Option<ForcedError>,
    /// The shards are to be told of all targets anew: of another route, or of `over`.
    pub(super) tells_all: bool,
    route: Arc<Route>,
    /// How often was looked what is to be told.
    look: u64,
    has_warned_loopback: bool,
}

/// What a shard knows of a target.
pub(super) struct Told {
    target: Arc<Target>,
    slots: OwnSlots,
    /// What goes on where `slots` end.
    next: Option<Box<(Arc<Target>, OwnSlots)>>,
    /// When it was last looked at.
    look: u64,
}

/// What a shard is to know of a target.
struct Wanted<'a> {
    version: &'a Version,
    target: &'a Arc<Target>,
    slots: OwnSlots,
}

impl Job {
    pub(super) fn new(version: Version) -> Self {
        let name = version.config.job_name.clone();
        Self {
            id: JobId::new(&name),
            name,
            groups: Vec::new(),
            has_answered: false,
            versions: vec![version],
            is_removed: false,
            told: AHashMap::new(),
            of: None,
            nth: 0,
            over: None,
            tells_all: false,
            route: Arc::new(Route {
                id: 0,
                endpoints: Box::default(),
            }),
            look: 0,
            has_warned_loopback: false,
        }
    }

    /// Whether it is the same already.
    pub(super) fn is_as(&self, wanted: &Configured) -> bool {
        let newest = self.versions.last();
        !self.is_removed
            && newest.is_some_and(|newest| Arc::ptr_eq(&newest.config, &wanted.config))
            && Arc::ptr_eq(&self.route, &wanted.route)
            && self.of == wanted.of
    }

    /// What this node says of it in the cluster; `None`: it does not share it.
    pub(super) fn shared_version(&self) -> Option<JobVersion> {
        let newest = self.versions.last()?;
        (!self.is_removed && newest.config.is_clustered).then_some(JobVersion {
            job: self.id,
            config_hash: newest.hash,
            since_ms: newest.since_ms,
        })
    }

    /// Takes over what is beside the settings.
    pub(super) fn configure(&mut self, wanted: &Configured) {
        self.nth = wanted.nth;
        self.tells_all |= !Arc::ptr_eq(&self.route, &wanted.route);
        self.route = wanted.route.clone();
        if self.of != wanted.of {
            self.tells_all |= self.over.take().is_some();
            self.of.clone_from(&wanted.of);
        }
    }

    /// Makes these settings the newest ones.
    pub(super) fn take(&mut self, fresh: Version) {
        let same = |version: &Version| version.hash == fresh.hash;
        let Some(index) = self.versions.iter().position(same) else {
            return self.versions.push(fresh);
        };
        let mut known = self.versions.remove(index);
        if index < self.versions.len() {
            // They are back.
            known.since_ms = fresh.since_ms;
        }
        known.config = fresh.config;
        self.versions.push(known);
    }

    /// Builds the targets by all settings that are in force or will be.
    pub(super) fn build(&mut self) {
        let newest = self.versions.len() - 1;
        for (index, version) in self.versions.iter_mut().enumerate() {
            version.build(&self.groups, index == newest && !self.is_removed);
        }
    }

    /// Adds to `change` what the shards have to know for the targets to be scraped as `ownership`
    /// has it.
    pub(super) fn reconcile(&mut self, ownership: Ownership<'_>, change: &mut Change) {
        let of_job = ownership.timeline.map(|timeline| timeline.of_job(self.id));
        self.drop_versions(ownership, of_job.as_ref());
        self.warn_of_loopback(ownership);
        let changes_all = std::mem::take(&mut self.tells_all);
        self.look += 1;
        let mut told = std::mem::take(&mut self.told);
        told.retain(|_, told| told.settle(ownership.now_ms));
        let job = self.versions(of_job.as_ref());
        let mut looked_at = 0;
        for (index, version) in self.versions.iter().enumerate() {
            for key in version.found.keys() {
                // Once a key, by the first version that has it.
                let mut earlier = self.versions[..index].iter();
                if earlier.any(|version| version.found.contains_key(key)) {
                    continue;
                }
                let from_ms = told.get(key).map(|known| known.slots.from_ms);
                let (first, second) = ownership.shares(job, *key, from_ms);
                let wanted = |share| self.wanted(*key, share);
                if let Some(first) = first.and_then(wanted) {
                    let second = second.and_then(wanted);
                    let shard = shard_of(*key, change.len());
                    let added = &mut change[shard].1;
                    self.tell(first, second, changes_all, added, &mut told);
                    looked_at += 1;
                }
            }
        }
        if looked_at < told.len() {
            self.let_go(ownership, &mut told, change);
        }
        for version in &mut self.versions {
            version.changes_all = false;
        }
        self.told = told;
    }

    fn versions<'a>(&'a self, timeline: Option<&'a JobTimeline<'a>>) -> JobVersions<'a> {
        JobVersions {
            id: self.id,
            versions: &self.versions,
            is_removed: self.is_removed,
            timeline,
        }
    }

    fn wanted(&self, key: u64, share: Share) -> Option<Wanted<'_>> {
        let version = &self.versions[share.version];
        let target = version.found.get(&key)?;
        Some(Wanted {
            version,
            target,
            slots: share.slots,
        })
    }

    fn assignment(&self, wanted: &Wanted<'_>) -> Assignment {
        let forced = wanted.version.forced_error(wanted.target);
        Assignment {
            target: wanted.target.clone(),
            route: self.route.clone(),
            forced_error: forced.or_else(|| self.over.clone()),
            slots: wanted.slots.clone(),
        }
    }

    /// Adds what differs from what the shard knows.
    fn tell(
        &self,
        first: Wanted<'_>,
        second: Option<Wanted<'_>>,
        changes_all: bool,
        added: &mut Vec<Assignment>,
        told: &mut AHashMap<u64, Told>,
    ) {
        let unchanged = |want: &Wanted<'_>, target: &Arc<Target>, slots: &OwnSlots| {
            let same = !changes_all && !want.version.changes_all && want.slots == *slots;
            same && self::same(target, want.target)
        };
        let known = told.get_mut(&first.target.key.0);
        let known_next = known.as_ref().and_then(|known| known.next.as_deref());
        // The shard forgets what follows when it is told what comes first.
        let tell_first = match &known {
            None => true,
            Some(known) => {
                !unchanged(&first, &known.target, &known.slots)
                    || (second.is_none() && known_next.is_some())
            }
        };
        let tell_second = match (&second, known_next) {
            (None, _) => false,
            (Some(second), Some((target, slots))) => {
                tell_first || !unchanged(second, target, slots)
            }
            (Some(_), None) => true,
        };
        if !tell_first && !tell_second {
            if let Some(known) = known {
                known.look = self.look;
                known.target = first.target.clone();
            }
            return;
        }
        if tell_first {
            added.push(self.assignment(&first));
        }
        if let Some(second) = second.as_ref().filter(|_| tell_second) {
            added.push(self.assignment(second));
        }
        let kept = Told {
            target: first.target.clone(),
            slots: OwnSlots {
                after_crash: false,
                ..first.slots
            },
            next: second.map(|second| Box::new((second.target.clone(), second.slots))),
            look: self.look,
        };
        told.insert(kept.target.key.0, kept);
    }

    /// Removes what is not to be scraped here and was not looked at.
    fn let_go(
        &self,
        ownership: Ownership<'_>,
        told: &mut AHashMap<u64, Told>,
        change: &mut Change,
    ) {
        let newest = self.versions.last().filter(|_| !self.is_removed);
        let others = ownership.timeline.is_some_and(|timeline| {
            let view = timeline.view_at(ownership.now_ms);
            self.is_removed && view.job(self.id).is_some()
        });
        let view = ownership.timeline.map(|one| one.view_at(ownership.now_ms));
        let ring = view.and_then(|view| view.job(self.id));
        told.retain(|key, known| {
            if known.look == self.look {
                return true;
            }
            let spot = &known.target.spot;
            let is_nobodys = ring.is_some_and(|one| one.is_refused(spot) || one.is_spare(spot));
            let mut versions = self.versions.iter();
            let is_found = versions.any(|version| version.found.contains_key(key));
            let series = match newest {
                _ if is_nobodys => Ending::End,
                _ if others || (is_found && ownership.timeline.is_some()) => Ending::Move(None),
                Some(newest) if newest.has_labels(&known.target.labels) => Ending::Succeeded,
                _ => Ending::End,
            };
            let removal = Removal { key: *key, series };
            let shard = shard_of(*key, change.len());
            change[shard].0.push(removal);
            false
        });
    }

    fn drop_versions(&mut self, ownership: Ownership<'_>, of_job: Option<&JobTimeline<'_>>) {
        let job = self.versions(of_job);
        let each = job.versions.iter();
        let needed: Vec<bool> = each
            .map(|version| ownership.is_needed(job, version))
            .collect();
        let newest = needed.len() - 1;
        let mut index = 0;
        self.versions.retain(|_| {
            index += 1;
            needed[index - 1] || index - 1 == newest
        });
        if self.is_removed && !needed[newest] && self.versions.len() == 1 {
            // Nothing of it is in force.
            self.groups.clear();
            self.versions[0].found.clear();
        }
    }

    /// A loopback address means another process on each node.
    fn warn_of_loopback(&mut self, ownership: Ownership<'_>) {
        let Some(timeline) = ownership.timeline else {
            return;
        };
        let shared = timeline.view_at(ownership.now_ms).members().len() > 1;
        let Some(newest) = self.versions.last() else {
            return;
        };
        if self.has_warned_loopback || !shared || !newest.config.is_clustered {
            return;
        }
        if let Some(target) = newest.found.values().find(|target| is_loopback(target)) {
            self.has_warned_loopback = true;
            warn!(
                job = self.name,
                target = target.scrape_url,
                "a loopback address is another process on each node of the cluster, and one node \
                 scrapes it; set `clustering: {{enabled: false}}` in the job for each node to \
                 scrape its own"
            );
        }
    }
}

fn is_loopback(target: &Target) -> bool {
    let host = target
        .url
        .host
        .trim_start_matches('[')
        .trim_end_matches(']');
    match host.parse::<IpAddr>() {
        Ok(address) => address.is_loopback(),
        Err(_) => host == "localhost" || host.ends_with(".localhost"),
    }
}

impl Told {
    /// Goes on to what follows, if the first slots are over. False: nothing follows.
    fn settle(&mut self, now_ms: i64) -> bool {
        while self
            .slots
            .until
            .as_ref()
            .is_some_and(|until| until.at_ms <= now_ms)
        {
            let Some(next) = self.next.take() else {
                return false;
            };
            (self.target, self.slots) = *next;
        }
        true
    }
}
