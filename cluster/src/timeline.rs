//! Views, each from a slot time on -> from when to when a node owns a target.

use crate::key::TargetKey;
use crate::member::JobId;
use crate::spot::Spot;
use crate::view::{JobRing, View};
use std::sync::Arc;

/// Who owns what, now and as far ahead as it is agreed. Immutable.
#[derive(Debug, Clone)]
pub struct Timeline {
    /// The node that looks.
    me: Arc<str>,
    /// Sorted by the slot time that they hold from; the first holds for all before, too.
    views: Vec<(i64, Arc<View>)>,
}

/// The slots of a target that a node owns: those at or after `from_ms` and before `until_ms`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    /// `i64::MIN`: as far back as is known.
    pub from_ms: i64,
    /// `None`: as far ahead as is known.
    pub until_ms: Option<i64>,
    /// Who owned it before; `None`: nobody, or not known.
    pub before: Option<Arc<str>>,
    /// Who owns it after; `None`: nobody, or this node on.
    pub after: Option<Arc<str>>,
}

impl Timeline {
    /// `views`: at least one, sorted, times unique.
    pub fn new(me: Arc<str>, views: Vec<(i64, Arc<View>)>) -> Self {
        debug_assert!(!views.is_empty(), "BUG: a timeline without a view");
        debug_assert!(
            views.is_sorted_by(|a, b| a.0 < b.0),
            "BUG: views not sorted"
        );
        Self { me, views }
    }

    /// The node that looks.
    pub fn me(&self) -> &Arc<str> {
        &self.me
    }

    /// The views, each with the slot time that it holds from.
    pub fn views(&self) -> &[(i64, Arc<View>)] {
        &self.views
    }

    /// Whether it has the very same views as another one.
    pub fn is_same(&self, other: &Self) -> bool {
        let mut pairs = self.views.iter().zip(&other.views);
        self.views.len() == other.views.len()
            && pairs.all(|(a, b)| a.0 == b.0 && Arc::ptr_eq(&a.1, &b.1))
    }

    /// What holds at a slot time.
    pub fn view_at(&self, slot_ms: i64) -> &Arc<View> {
        let after = self
            .views
            .partition_point(|(from_ms, _)| *from_ms <= slot_ms);
        &self.views[after.saturating_sub(1)].1
    }

    /// When the next change after `now_ms` takes effect.
    pub fn next_change_ms(&self, now_ms: i64) -> Option<i64> {
        let after = self
            .views
            .partition_point(|(from_ms, _)| *from_ms <= now_ms);
        self.views.get(after).map(|(from_ms, _)| *from_ms)
    }

    /// The first window of a target without zone and replicas, by the settings `config_hash` of
    /// its job, that this node owns and that is not over at `now_ms`. `None`: as far as is known it
    /// owns none.
    pub fn window(
        &self,
        job: JobId,
        config_hash: u64,
        key: TargetKey,
        now_ms: i64,
    ) -> Option<Window> {
        self.of_job(job).window(config_hash, key, now_ms)
    }

    /// What it says of one job, for the windows of many targets.
    pub fn of_job(&self, job: JobId) -> JobTimeline<'_> {
        let mut steps = Vec::with_capacity(self.views.len());
        for (from_ms, view) in &self.views {
            let ring = view.job(job);
            steps.push(JobStep {
                from_ms: *from_ms,
                view,
                ring,
                me: view.index_of(&self.me),
            });
        }
        JobTimeline { steps }
    }
}

/// A timeline as the targets of one job see it.
#[derive(Debug)]
pub struct JobTimeline<'a> {
    steps: Vec<JobStep<'a>>,
}

#[derive(Debug)]
struct JobStep<'a> {
    from_ms: i64,
    view: &'a View,
    ring: Option<&'a JobRing>,
    /// The node that looks.
    me: Option<u32>,
}

impl JobStep<'_> {
    /// The index of who owns a target.
    fn owner(&self, config_hash: u64, spot: &Spot) -> Option<u32> {
        let ring = self.ring?;
        let owner = ring.owner_of(spot)?;
        // With other settings it is another target.
        let is_same = ring.config_hash == config_hash;
        (is_same || Some(owner) != self.me).then_some(owner)
    }

    fn name(&self, owner: Option<u32>) -> Option<Arc<str>> {
        owner.map(|index| self.view.members()[index as usize].name.clone())
    }
}

impl JobTimeline<'_> {
    /// As [`Timeline::window`]; allocates nothing.
    pub fn window(&self, config_hash: u64, key: TargetKey, now_ms: i64) -> Option<Window> {
        self.window_of(config_hash, &Spot::plain(key), now_ms)
    }

    /// The same, of a target in a zone, or of one of its replicas.
    pub fn window_of(&self, config_hash: u64, spot: &Spot, now_ms: i64) -> Option<Window> {
        let mut window = None::<Window>;
        let mut before = None;
        for (index, step) in self.steps.iter().enumerate() {
            let owner = step.owner(config_hash, spot);
            let is_mine = owner.is_some() && owner == step.me;
            match (&mut window, is_mine) {
                (None, true) => {
                    window = Some(Window {
                        from_ms: if index == 0 { i64::MIN } else { step.from_ms },
                        until_ms: None,
                        before: before.and_then(|(step, owner): (&JobStep, _)| step.name(owner)),
                        after: None,
                    });
                }
                (Some(open), false) => {
                    // A window that ended before now does not count.
                    if step.from_ms <= now_ms {
                        window = None;
                    } else {
                        open.until_ms = Some(step.from_ms);
                        open.after = step.name(owner);
                        return window;
                    }
                }
                _ => {}
            }
            before = Some((step, owner));
        }
        window
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::member::{JobVersion, Stage};
    use crate::view::Active;

    const JOB: JobId = JobId(7);
    const HASH: u64 = 70;

    fn view(names: &[&str]) -> Arc<View> {
        let active = |name: &&str| Active {
            name: Arc::from(*name),
            zone: Arc::from(""),
            stage: Stage {
                from_ms: 0,
                is_active: true,
                weight: 1,
                jobs: [JobVersion {
                    job: JOB,
                    config_hash: HASH,
                    since_ms: 0,
                }]
                .into(),
                heavy: [].into(),
            },
        };
        Arc::new(View::new(names.iter().map(active).collect()))
    }

    #[test]
    fn windows_of_a_join_and_a_leave() {
        let views = vec![
            (0, view(&["a"])),
            (1_000, view(&["a", "b"])),
            (2_000, view(&["b"])),
        ];
        let a = Timeline::new("a".into(), views.clone());
        let b = Timeline::new("b".into(), views);
        let mut moved_at_once = 0;
        for key in (0..1_000).map(|n| TargetKey::new("job", &n.to_string(), [])) {
            let of_a = a.window(JOB, HASH, key, 500).unwrap();
            let of_b = b.window(JOB, HASH, key, 500).unwrap();
            assert_eq!(of_a.from_ms, i64::MIN);
            assert_eq!(
                (of_a.until_ms, of_a.after.as_deref()),
                (Some(of_b.from_ms), Some("b"))
            );
            assert_eq!((of_b.until_ms, of_b.before.as_deref()), (None, Some("a")));
            assert!([1_000, 2_000].contains(&of_b.from_ms));
            moved_at_once += usize::from(of_b.from_ms == 1_000);
            assert_eq!(a.window(JOB, HASH, key, 2_000), None);
            assert_eq!(a.window(JOB, HASH + 1, key, 500), None, "other settings");
        }
        assert!((400..600).contains(&moved_at_once), "{moved_at_once}");
    }
}
