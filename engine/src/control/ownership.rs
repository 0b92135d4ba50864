//! The cluster's timeline + the versions of a job -> the slots of a target that this node scrapes.
//!
//! Pure. A job's targets by one version of its settings are this node's in the windows of that
//! version; so a change of settings takes effect at the slot at which the cluster switches.

use super::version::Version;
use crate::mailbox::{Ending, OwnSlots, Until};
use crate::target::Target;
use ringscrape_cluster::member::JobId;
use ringscrape_cluster::timeline::{JobTimeline, Window};
use ringscrape_cluster::view::JobRing;
use ringscrape_cluster::{Timeline, View};
use std::sync::Arc;

/// What decides who scrapes a target, at one moment.
#[derive(Clone, Copy)]
pub(super) struct Ownership<'a> {
    /// `None`: this node alone.
    pub(super) timeline: Option<&'a Timeline>,
    /// The timeline before, if this one has just come.
    pub(super) before: Option<&'a Timeline>,
    pub(super) now_ms: i64,
}

/// A job's settings, oldest first; the last is the configuration's.
#[derive(Clone, Copy)]
pub(super) struct JobVersions<'a> {
    pub(super) id: JobId,
    pub(super) versions: &'a [Version],
    /// The job is not in the configuration any more.
    pub(super) is_removed: bool,
    /// Its part of the timeline.
    pub(super) timeline: Option<&'a JobTimeline<'a>>,
}

/// A version's slots of a target.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Share {
    /// Index of the version.
    pub(super) version: usize,
    pub(super) slots: OwnSlots,
}

impl Ownership<'_> {
    /// The slots of a target that are this node's: those that come first, and those that follow
    /// them by another version without a gap. `told_from_ms`: where the slots began that the shard
    /// has been told of, if they are not over.
    pub(super) fn shares(
        &self,
        job: JobVersions<'_>,
        key: u64,
        told_from_ms: Option<i64>,
    ) -> (Option<Share>, Option<Share>) {
        let (mut first, mut second) = (None::<(usize, Window)>, None::<(usize, Window)>);
        for (index, version) in job.versions.iter().enumerate() {
            let Some(target) = version.found.get(&key) else {
                continue;
            };
            let Some(window) = self.window(job, version, target) else {
                continue;
            };
            match &first {
                Some((_, have)) if have.from_ms <= window.from_ms => {
                    second = Some((index, window));
                }
                _ => second = first.replace((index, window)),
            }
        }
        let follows = |next: &(usize, Window)| {
            let first = first.as_ref();
            first.is_some_and(|(_, first)| first.until_ms == Some(next.1.from_ms))
        };
        let second = second.filter(follows).map(|(version, window)| Share {
            version,
            slots: OwnSlots {
                from_ms: window.from_ms,
                after_crash: false,
                until: self.until(job, version, key, window),
            },
        });
        let first = first.map(|(version, window)| {
            let (from_ms, after_crash) = self.from(&window, told_from_ms);
            Share {
                version,
                slots: OwnSlots {
                    from_ms,
                    after_crash,
                    until: self.until(job, version, key, window),
                },
            }
        });
        (first, second)
    }

    /// Whether a version other than the newest is still in force, or will be.
    pub(super) fn is_needed(&self, job: JobVersions<'_>, version: &Version) -> bool {
        let Some(timeline) = self.timeline else {
            return false;
        };
        match version.config.is_clustered {
            true => self
                .coming(timeline)
                .any(|(_, view)| my_hash(timeline, view, job.id) == Some(version.hash)),
            false => self.alone(timeline, job, version).is_some(),
        }
    }

    fn window(&self, job: JobVersions<'_>, version: &Version, target: &Target) -> Option<Window> {
        let is_clustered = self.timeline.is_some() && version.config.is_clustered;
        if !is_clustered && target.spot.replica.index > 0 {
            // One node is not two.
            return None;
        }
        match (self.timeline, job.timeline) {
            (Some(_), Some(of_job)) if version.config.is_clustered => {
                of_job.window_of(version.hash, &target.spot, self.now_ms)
            }
            (Some(timeline), _) => self.alone(timeline, job, version),
            (None, _) => self.newest(job, version).then(|| window(i64::MIN, None)),
        }
    }

    /// When this node scrapes all targets of a job that is not shared: as long as it does not say
    /// in the cluster that it shares it.
    fn alone(
        &self,
        timeline: &Timeline,
        job: JobVersions<'_>,
        version: &Version,
    ) -> Option<Window> {
        let says = |view: &View| my_hash(timeline, view, job.id);
        let newest = job.versions.last()?;
        if self.newest(job, version) {
            let mut coming = self.coming(timeline);
            let (from_ms, _) = coming.find(|(_, view)| says(view).is_none())?;
            return Some(window(from_ms, None));
        }
        if job.is_removed || !newest.config.is_clustered {
            return None;
        }
        let mut coming = self.coming(timeline);
        let until = coming.find(|(_, view)| says(view) == Some(newest.hash));
        let until_ms = until.map(|(from_ms, _)| from_ms);
        let is_over = until_ms.is_some_and(|until_ms| until_ms <= self.now_ms);
        (!is_over).then(|| window(i64::MIN, until_ms))
    }

    /// The version is the configuration's.
    fn newest(&self, job: JobVersions<'_>, version: &Version) -> bool {
        let newest = job.versions.last();
        !job.is_removed && newest.is_some_and(|newest| newest.hash == version.hash)
    }

    /// The present view and those after it.
    fn coming<'t>(&self, timeline: &'t Timeline) -> impl Iterator<Item = (i64, &'t View)> {
        let views = timeline.views();
        let after = views.partition_point(|(from_ms, _)| *from_ms <= self.now_ms);
        let coming = &views[after.saturating_sub(1)..];
        coming.iter().map(|(from_ms, view)| (*from_ms, &**view))
    }

    /// The first slot time that is scraped, and whether it came by a crash.
    fn from(&self, window: &Window, told_from_ms: Option<i64>) -> (i64, bool) {
        if window.from_ms > self.now_ms {
            return (window.from_ms, false);
        }
        if let Some(told_ms) = told_from_ms.filter(|told_ms| *told_ms <= self.now_ms) {
            return (told_ms, false);
        }
        // It became this node's in the past, at a time when this node was there and did not know:
        // only crashes come so. Else it is a target that has just been found, or a node that has
        // just come.
        let me = |timeline: &&Timeline| {
            let view = timeline.view_at(window.from_ms);
            is_active(timeline, view)
        };
        // If the owner before is still there, as when a crash made other settings of a job win, it
        // has scraped those slots.
        let is_gone = |name: &Arc<str>| {
            let view = self.timeline.map(|timeline| timeline.view_at(self.now_ms));
            view.is_some_and(|view| view.members().iter().all(|one| one.name != *name))
        };
        let after_crash =
            window.before.as_ref().is_some_and(is_gone) && self.before.as_ref().is_some_and(me);
        match after_crash {
            true => (window.from_ms, true),
            false => (self.now_ms, false),
        }
    }

    /// Where the slots end, and what becomes of the series.
    fn until(
        &self,
        job: JobVersions<'_>,
        version: usize,
        key: u64,
        window: Window,
    ) -> Option<Until> {
        let at_ms = window.until_ms?;
        let agreed = self.timeline?.view_at(at_ms).job(job.id);
        let alone = job
            .versions
            .last()
            .filter(|newest| !newest.config.is_clustered);
        let next = match agreed {
            Some(ring) => job
                .versions
                .iter()
                .find(|version| version.hash == ring.config_hash),
            None => alone,
        };
        let target = job.versions[version].found.get(&key)?;
        let is_nobodys =
            |ring: &JobRing| ring.is_refused(&target.spot) || ring.is_spare(&target.spot);
        let is_nobodys = agreed.is_some_and(is_nobodys);
        let series = match (next, window.after) {
            _ if is_nobodys => Ending::End,
            // By the settings that are in force then there is no such target.
            (Some(next), _) if !next.found.contains_key(&key) => {
                match next.has_labels(&target.labels) {
                    true => Ending::Succeeded,
                    false => Ending::End,
                }
            }
            (_, Some(node)) => Ending::Move(Some(node)),
            (None, None) if agreed.is_none() => Ending::End,
            (_, None) => Ending::Move(None),
        };
        Some(Until { at_ms, series })
    }
}

/// The settings of a job that this node says it has.
fn my_hash(timeline: &Timeline, view: &View, job: JobId) -> Option<u64> {
    let me = timeline.me();
    let members = view.members();
    let index = members.binary_search_by(|member| member.name.cmp(me));
    let version = members[index.ok()?].stage.job(job)?;
    Some(version.config_hash)
}

fn is_active(timeline: &Timeline, view: &View) -> bool {
    let me = timeline.me();
    let found = view
        .members()
        .binary_search_by(|member| member.name.cmp(me));
    found.is_ok()
}

fn window(from_ms: i64, until_ms: Option<i64>) -> Window {
    Window {
        from_ms,
        until_ms,
        before: None,
        after: None,
    }
}
