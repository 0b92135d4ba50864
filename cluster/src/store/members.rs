//! The member table -> whose word counts, and whether enough have given it.

use crate::state::{MemberState, Snapshot};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A member that was found dead counts for so long.
pub const MEMORY_MS: i64 = 60 * 60 * 1_000;

/// Who is asked, and whose word counts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Members {
    /// Those of whom a majority is needed.
    pub counted: BTreeSet<Arc<str>>,
    /// How many of them seem to be there.
    pub present: usize,
    /// All but this node that seem to be there, counted or not.
    pub others: Vec<Arc<str>>,
    /// Those counted that nobody has found dead.
    pub living: BTreeSet<Arc<str>>,
    /// Who has left by plan.
    pub left: BTreeSet<Arc<str>>,
}

impl Members {
    /// `None`: this node has not found its cluster yet.
    pub fn of(snapshot: &Snapshot, now_ms: i64) -> Option<Self> {
        snapshot.founder?;
        let mut members = Self::default();
        for status in &snapshot.members {
            let member = &status.member;
            let is_counted = match status.state {
                MemberState::Active | MemberState::Leaving | MemberState::Suspect => true,
                MemberState::Joining | MemberState::Left => false,
                MemberState::Dead => snapshot.crashes.iter().any(|crash| {
                    let crash = &crash.crash;
                    crash.name == member.name
                        && crash.incarnation == member.incarnation
                        && crash.made_ms.saturating_add(MEMORY_MS) > now_ms
                }),
            };
            let is_present = matches!(
                status.state,
                MemberState::Active | MemberState::Leaving | MemberState::Joining
            );
            if member.name != snapshot.me && status.state == MemberState::Left {
                members.left.insert(member.name.clone());
            }
            if is_counted && status.state != MemberState::Dead {
                members.living.insert(member.name.clone());
            }
            if is_counted {
                members.counted.insert(member.name.clone());
                members.present += usize::from(is_present);
            }
            if is_present && member.name != snapshot.me {
                members.others.push(member.name.clone());
            }
        }
        Some(members)
    }

    /// How many make a majority.
    pub fn majority(&self) -> usize {
        self.counted.len() / 2 + 1
    }

    /// Whether a majority seems to be there.
    pub fn is_majority_present(&self) -> bool {
        !self.counted.is_empty() && self.present >= self.majority()
    }

    /// Nobody has given their word yet.
    pub fn ballot(&self) -> Ballot {
        Ballot {
            counted: self.counted.clone(),
            given: BTreeSet::new(),
        }
    }
}

/// Members that counted lately, for a node that is started again: who starts alone does not know
/// the others' table, and must not take itself for all of the cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Remembered {
    /// When each last counted, by this node's clock.
    last_ms: BTreeMap<Arc<str>, i64>,
}

impl Remembered {
    /// What [`Self::list`] gave.
    pub fn of(list: &[(Arc<str>, i64)]) -> Self {
        let last_ms = list.iter().cloned().collect();
        Self { last_ms }
    }

    /// Names, and when each last counted.
    pub fn list(&self) -> Vec<(Arc<str>, i64)> {
        let all = self.last_ms.iter();
        all.map(|(name, ms)| (name.clone(), *ms)).collect()
    }

    /// Notes who counts, and adds to them who did within the last hour and has not left by plan.
    /// Whether the names are others than before.
    pub fn complete(&mut self, members: &mut Members, me: &Arc<str>, now_ms: i64) -> bool {
        let before: Vec<Arc<str>> = self.last_ms.keys().cloned().collect();
        for name in &members.living {
            self.last_ms.insert(name.clone(), now_ms);
        }
        self.last_ms.retain(|name, last_ms| {
            // A clock that was ahead.
            *last_ms = (*last_ms).min(now_ms);
            !members.left.contains(name) && last_ms.saturating_add(MEMORY_MS) > now_ms
        });
        for name in self.last_ms.keys() {
            if members.counted.insert(name.clone()) {
                let is_present = name == me || members.others.contains(name);
                members.present += usize::from(is_present);
            }
        }
        !self.last_ms.keys().eq(&before)
    }
}

/// Who has given their word.
#[derive(Debug, Clone)]
pub struct Ballot {
    counted: BTreeSet<Arc<str>>,
    given: BTreeSet<Arc<str>>,
}

impl Ballot {
    /// A member has. Whose word does not count, or has counted, changes nothing.
    pub fn give(&mut self, name: &Arc<str>) {
        if self.counted.contains(name) {
            self.given.insert(name.clone());
        }
    }

    /// Whether a majority has.
    pub fn is_won(&self) -> bool {
        self.given.len() > self.counted.len() / 2
    }

    /// For people.
    pub fn score(&self) -> String {
        format!(
            "{} of {} members, {} are needed",
            self.given.len(),
            self.counted.len(),
            self.counted.len() / 2 + 1
        )
    }
}
