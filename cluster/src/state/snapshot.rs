//! All that a status page shows of a node's state.

use super::State;
use super::messages::Crash;
use crate::member::{Founder, Member};
use crate::now::Now;
use serde::Serialize;
use std::sync::Arc;

/// What a node knows at one moment.
#[derive(Debug, Clone, Serialize)]
pub struct Snapshot {
    /// The node that looks.
    pub me: Arc<str>,
    /// Of the node that looks.
    pub incarnation: u64,
    /// Its cluster; `None` as long as it looks for one.
    pub founder: Option<Founder>,
    /// Of the table: equal on nodes that know the same.
    pub digest: u64,
    /// Whether it reaches too few to judge who is dead.
    pub is_isolated: bool,
    /// Whether it waits for a peer's answer after it stood still.
    pub is_standing_still: bool,
    /// Why it does not scrape yet; `None`: it does, or is leaving.
    pub waits_for: Option<WaitsFor>,
    /// Sorted by name, this node among them.
    pub members: Vec<MemberStatus>,
    /// Who was found dead, the newest first.
    pub crashes: Vec<CrashStatus>,
}

/// What has to happen before a node scrapes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum WaitsFor {
    /// Answers from other nodes.
    Cluster,
    /// The first answer of discovery.
    Discovery,
    /// More nodes.
    Size,
    /// Others to know of its change, or that time to come.
    Agreement,
}

/// A member as this node sees it.
#[derive(Debug, Clone, Serialize)]
pub struct MemberStatus {
    /// What it says of itself.
    pub member: Arc<Member>,
    /// What it does.
    pub state: MemberState,
    /// When this node last heard of it, in ms since the Unix epoch; `None`: never, or it is this
    /// node.
    pub last_contact_ms: Option<i64>,
    /// Its clock minus this one's.
    pub skew_ms: Option<i64>,
    /// Of the last exchange with it.
    pub round_trip_ms: Option<u64>,
    /// Whether it knows the newest entry of this node.
    pub is_up_to_date: bool,
}

/// What a member does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum MemberState {
    /// It does not scrape yet.
    Joining,
    /// It scrapes.
    Active,
    /// It scrapes until an agreed time.
    Leaving,
    /// It has left by plan.
    Left,
    /// The failure detector does not reach it; not judged yet.
    Suspect,
    /// It was found dead.
    Dead,
}

impl MemberState {
    /// As it is called in metrics and pages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Joining => "joining",
            Self::Active => "active",
            Self::Leaving => "leaving",
            Self::Left => "left",
            Self::Suspect => "suspect",
            Self::Dead => "dead",
        }
    }
}

/// A crash entry.
#[derive(Debug, Clone, Serialize)]
pub struct CrashStatus {
    /// What it says.
    pub crash: Arc<Crash>,
    /// Whether it counts: not if its accuser was found dead by a larger side.
    pub is_valid: bool,
}

impl State {
    /// For status pages.
    pub fn snapshot(&self, now: Now) -> Snapshot {
        let members = self.table.members();
        let is_valid = |crash: &Arc<Crash>| {
            let valid = self.dead.of(&crash.name, crash.incarnation);
            valid.iter().any(|other| other == crash)
        };
        let mut crashes: Vec<CrashStatus> = self
            .table
            .crashes()
            .map(|crash| CrashStatus {
                crash: crash.clone(),
                is_valid: is_valid(crash),
            })
            .collect();
        crashes.sort_by_key(|status| std::cmp::Reverse(status.crash.made_ms));
        Snapshot {
            me: self.own.name.clone(),
            incarnation: self.own.incarnation,
            founder: self.founder(),
            digest: self.digest(),
            is_isolated: self.is_isolated,
            is_standing_still: self.stood_still_ms.is_some(),
            waits_for: self.waits_for(now),
            members: members.map(|member| self.status(member, now)).collect(),
            crashes,
        }
    }

    fn status(&self, member: &Arc<Member>, now: Now) -> MemberStatus {
        let is_me = member.name == self.own.name;
        let peer = self.peers.get(&member.name);
        let own = self.table.member(&self.own.name);
        let entry = own.map(|own| (own.incarnation, own.version));
        MemberStatus {
            member: member.clone(),
            state: self.member_state(member, now),
            last_contact_ms: peer.and_then(|peer| peer.contact).map(|at| at.unix_ms),
            skew_ms: peer.and_then(|peer| peer.skew_ms),
            round_trip_ms: peer.and_then(|peer| peer.round_trip_ms),
            is_up_to_date: is_me
                || peer.is_some_and(|peer| entry.is_some_and(|entry| peer.has_seen(entry))),
        }
    }

    fn member_state(&self, member: &Member, now: Now) -> MemberState {
        let is_active = member.stage_at(now.unix_ms).is_active;
        let will_be = member.next.as_ref().map(|next| next.stage.is_active);
        let is_me = member.name == self.own.name;
        let is_down = self
            .peers
            .get(&member.name)
            .is_some_and(|p| p.is_told && !p.is_up);
        if self.is_dead(member) {
            MemberState::Dead
        } else if !is_me && is_down && (is_active || will_be == Some(true)) {
            MemberState::Suspect
        } else if is_active && will_be == Some(false) {
            MemberState::Leaving
        } else if is_active {
            MemberState::Active
        } else if will_be == Some(false) || is_down || self.has_left(member) {
            MemberState::Left
        } else {
            MemberState::Joining
        }
    }

    /// A stage that was active once has a weight, or jobs.
    fn has_left(&self, member: &Member) -> bool {
        member.next.is_none() && (member.now.weight > 0 || !member.now.jobs.is_empty())
    }

    fn waits_for(&self, now: Now) -> Option<WaitsFor> {
        if !self.start.is_published && self.founder().is_none() {
            return Some(WaitsFor::Cluster);
        }
        let own = self.table.member(&self.own.name);
        let own = own.filter(|_| self.start.is_published);
        if own.is_some_and(|own| own.stage_at(now.unix_ms).is_active) {
            return None;
        }
        match &self.wish {
            None => Some(WaitsFor::Discovery),
            Some(wish) if !wish.is_active => None,
            Some(_) if own.is_none() => Some(WaitsFor::Cluster),
            Some(_) if own.is_some_and(|own| own.next.is_none()) => Some(WaitsFor::Size),
            Some(_) => Some(WaitsFor::Agreement),
        }
    }
}
