//! What an exchange tells and asks -> the table and what is known of the peer; the table -> what
//! to tell and ask.
//!
//! Tables are compared by hashes of their parts, so that an exchange costs what differs: the asker
//! sends a sketch; the answerer lists its entries in the parts that differ; the asker sends what
//! the answerer lacks, and the names of what it lacks itself.

use super::messages::{Cluster, Crash, Delta, Part, Sketch, Summary, Wants};
use super::table::{self, Put};
use super::{Event, State, plan};
use crate::limits::is_incarnation;
use crate::now::Now;
use std::collections::HashSet;
use std::sync::Arc;

/// Clocks that differ by more are warned about,
const SKEW_MS: i64 = 500;
/// and again after they have differed by less than this.
const SKEW_SETTLED_MS: i64 = 400;

impl State {
    /// Who this node is, to be sent in an exchange. `to`: the other side, if it is known.
    pub fn summary(&self, to: Option<&str>, now: Now) -> Summary {
        let of_them = to.and_then(|name| self.table.member(name));
        let in_time = of_them.filter(|member| plan::is_in_time(member, now));
        Summary {
            name: self.own.name.clone(),
            incarnation: self.own.incarnation,
            gossip_address: self.own.gossip_address,
            cluster: self.cluster(),
            unix_ms: now.unix_ms,
            is_published: self.start.is_published,
            digest: self.digest(),
            has_of_you: in_time.map(|member| (member.incarnation, member.version)),
        }
    }

    /// Hashes of the parts of the table: the first word of an exchange.
    pub fn sketch(&self) -> Sketch {
        self.table.sketch()
    }

    /// What the asker of an exchange is told: all, if it has nothing of this cluster; else what
    /// this node has where the tables differ.
    pub fn answer(&self, theirs: &Summary, sketch: &Sketch) -> (Delta, Part) {
        let Some(mine) = self.cluster() else {
            return (Delta::nothing(None), Part::default());
        };
        match theirs.cluster {
            Some(other) if other.founder == mine.founder => {
                let is_same = theirs.digest == self.digest_in(other.size_class);
                let part = if is_same {
                    Part::default()
                } else {
                    self.table.part(sketch)
                };
                (Delta::nothing(Some(mine)), part)
            }
            other => (self.all_for(mine, other, theirs), Part::default()),
        }
    }

    /// What the answerer lacks, and what this node wants of it.
    pub fn counter(&self, theirs: &Summary, part: &Part) -> (Delta, Wants) {
        let Some(mine) = self.cluster() else {
            return (Delta::nothing(None), Wants::default());
        };
        match theirs.cluster {
            Some(other) if other.founder == mine.founder => self.table.counter(mine, part),
            other => (self.all_for(mine, other, theirs), Wants::default()),
        }
    }

    /// What the asker wants.
    pub fn requested(&self, theirs: &Summary, wants: &Wants) -> Delta {
        let is_same = |mine: &Cluster| {
            let other = theirs.cluster;
            other.is_some_and(|other| other.founder == mine.founder)
        };
        match self.cluster().filter(is_same) {
            Some(mine) => self.table.wanted(mine, wants),
            None => Delta::nothing(self.cluster()),
        }
    }

    /// Only who is going to join needs the table.
    fn all_for(&self, mine: Cluster, other: Option<Cluster>, theirs: &Summary) -> Delta {
        if other.is_some_and(|other| other.is_before(&mine)) {
            Delta::nothing(Some(mine))
        } else {
            self.table.all(mine, theirs)
        }
    }

    /// A peer told in an exchange what this node lacked. To be called before `heard` with the
    /// summary that came with it.
    pub fn merge(&mut self, delta: Delta, now: Now) {
        self.notice_standstill(now);
        if self.start.is_refused || !self.meet(&delta, now) {
            return;
        }
        // Who is about to be forgotten with its crash entry does not come back without it.
        let is_over = |crash: &&Arc<Crash>| table::is_over(crash, now.unix_ms);
        let over = delta.crashes.iter().filter(is_over);
        let over: HashSet<(Arc<str>, u64)> = over
            .map(|one| (one.name.clone(), one.incarnation))
            .collect();
        // Members first: what a crash entry is about decides whether it is needed.
        for member in delta.members {
            if Some(member.founder) != self.founder()
                || over.contains(&(member.name.clone(), member.incarnation))
            {
                continue;
            }
            if member.name == self.own.name && self.start.is_published {
                self.defend_name(&member, now);
                continue;
            }
            let put = self.table.put(member.clone(), now.unix_ms);
            self.is_stale |= put == Put::Matters;
            if put != Put::Known && member.name != self.own.name {
                // A life that the table tells of first gets the time to speak.
                self.peers.present(&member.name, member.incarnation, now);
                self.note_lateness(&member, now);
            }
        }
        for crash in delta.crashes {
            self.is_changed |= self.table.put_crash(crash, now.unix_ms);
        }
        self.settle(now);
    }

    /// A peer told in an exchange who it is and what it knows of this node.
    ///
    /// `round_trip_ms`: from sending a frame to this answer; `None` if this was no answer. If that
    /// was all that the peer had to tell, [`State::answered`] is to be called then.
    pub fn heard(&mut self, theirs: &Summary, round_trip_ms: Option<u64>, now: Now) {
        self.notice_standstill(now);
        if theirs.name == self.own.name {
            self.meet_namesake(theirs);
            self.refresh(now);
            return;
        }
        if !is_incarnation(theirs.incarnation, now.unix_ms) {
            return;
        }
        if self.founder().is_some() && !theirs.is_published {
            // As long as it has not entered, its former incarnation counts.
            return;
        }
        let mine = self.founder();
        let same = theirs.cluster.filter(|other| Some(other.founder) == mine);
        if let Some(same) = same {
            self.start.size_class = self.start.size_class.max(same.size_class);
        }
        let Some(peer) = self.peers.present(&theirs.name, theirs.incarnation, now) else {
            return;
        };
        peer.take(theirs, round_trip_ms, now);
        if same.is_some() {
            peer.seen = peer.seen.max(theirs.has_of_you);
        }
        if let Some(skew_ms) = peer.skew_ms {
            let is_far = skew_ms.saturating_abs() > SKEW_MS;
            if is_far && !peer.is_skew_told {
                let name = theirs.name.clone();
                self.events.push(Event::SkewWarning { name, skew_ms });
            }
            let is_near = skew_ms.saturating_abs() < SKEW_SETTLED_MS;
            peer.is_skew_told = is_far || peer.is_skew_told && !is_near;
        }
        self.settle(now);
    }

    /// A peer has told all that this node lacked, in answer to what it sent so long ago.
    pub fn answered(&mut self, round_trip_ms: u64, now: Now) {
        self.notice_standstill(now);
        self.wake(round_trip_ms, now);
        self.settle(now);
    }
}
