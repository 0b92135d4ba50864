//! What the control loop knows of the cluster -> `/api/v1/cluster`.

use super::fleet::Fleet;
use super::view::{
    AlloyPeer, ClusterView, DriftVersion, DriftView, MemberState, MemberView, MoveView, NextChange,
};
use ringscrape_cluster::member::{HeavyTarget, JobId, Member, Stage};
use ringscrape_cluster::state::snapshot::{self, MemberStatus, Snapshot, WaitsFor};
use ringscrape_cluster::{Ring, View};
use std::collections::{BTreeMap, HashMap};

/// The page of a node without a cluster: itself, owning everything.
pub(crate) fn alone(fleet: &Fleet) -> ClusterView {
    ClusterView {
        enabled: false,
        this_node: fleet.me.to_string(),
        now_ms: fleet.now_ms,
        is_ready: true,
        members: vec![MemberView {
            name: fleet.me.to_string(),
            is_self: true,
            state: MemberState::Participant,
            weight: 1,
            software: env!("CARGO_PKG_VERSION").to_owned(),
            ring_share: 1.0,
            last_contact_ms: Some(fleet.now_ms),
            ..MemberView::default()
        }],
        ..ClusterView::default()
    }
}

/// What the page shows beside the table.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Setup<'a> {
    /// `--cluster.name`.
    pub(crate) name: &'a str,
    /// `--cluster.wait-for-size`.
    pub(crate) minimum_size: u32,
    /// This node's jobs.
    pub(crate) jobs: &'a [&'a str],
}

/// The page of a node in a cluster. `view`: what holds at `now_ms`.
pub(crate) fn of_snapshot(
    snapshot: &Snapshot,
    view: &View,
    setup: Setup<'_>,
    moves: Vec<MoveView>,
    now_ms: i64,
) -> ClusterView {
    let weights = view
        .members()
        .iter()
        .map(|one| (&*one.name, one.stage.weight));
    let ring = Ring::new(weights);
    let shares: HashMap<&str, f64> = ring.shares().into_iter().collect();
    let member = |status: &MemberStatus| {
        let share = shares.get(&*status.member.name).copied().unwrap_or(0.0);
        member_view(snapshot, status, share, now_ms)
    };
    ClusterView {
        enabled: true,
        name: setup.name.to_owned(),
        this_node: snapshot.me.to_string(),
        now_ms,
        founded_ms: snapshot.founder.map(|founder| founder.founded_ms),
        founder_id: (snapshot.founder).map_or(String::new(), |one| format!("{:016x}", one.id)),
        is_isolated: snapshot.is_isolated,
        is_standing_still: snapshot.is_standing_still,
        is_ready: !matches!(snapshot.waits_for, Some(WaitsFor::Cluster | WaitsFor::Size)),
        waits_for: snapshot.waits_for.map_or("", waits_for).to_owned(),
        minimum_size: setup.minimum_size,
        members: snapshot.members.iter().map(member).collect(),
        moves,
        drift: drift(view, setup.jobs),
        ..ClusterView::default()
    }
}

fn waits_for(what: WaitsFor) -> &'static str {
    match what {
        WaitsFor::Cluster => "answers from other nodes",
        WaitsFor::Discovery => "the first answer of discovery",
        WaitsFor::Size => "more nodes",
        WaitsFor::Agreement => "the time at which its change takes effect",
    }
}

fn member_view(
    snapshot: &Snapshot,
    status: &MemberStatus,
    ring_share: f64,
    now_ms: i64,
) -> MemberView {
    let member = &status.member;
    let stage = member.stage_at(now_ms);
    let is_self = member.name == snapshot.me;
    let crash = (snapshot.crashes.iter()).find(|one| {
        let crash = &one.crash;
        one.is_valid && crash.name == member.name && crash.incarnation == member.incarnation
    });
    MemberView {
        name: member.name.to_string(),
        is_self,
        state: state(status.state),
        gossip_address: member.gossip_address.to_string(),
        http_address: member.http_address.to_string(),
        incarnation: member.incarnation,
        zone: member.zone.to_string(),
        weight: stage.weight,
        samples_per_second_max: (stage.heavy.iter())
            .find(|told| told.job == HeavyTarget::BUDGET)
            .map(|told| told.samples_per_s),
        heavy_targets: stage.heavy.iter().filter(|told| told.is_target()).count() as u64,
        software: member.software.to_string(),
        ring_share,
        next_change: next_change(member, now_ms),
        last_contact_ms: if is_self {
            Some(now_ms)
        } else {
            status.last_contact_ms
        },
        clock_skew_ms: status.skew_ms,
        dead_since_ms: crash.map(|one| one.crash.until_ms),
        accused_by: crash.map_or(String::new(), |one| one.crash.by.to_string()),
        ..MemberView::default()
    }
}

fn state(state: snapshot::MemberState) -> MemberState {
    match state {
        snapshot::MemberState::Joining => MemberState::Viewer,
        snapshot::MemberState::Active => MemberState::Participant,
        snapshot::MemberState::Leaving => MemberState::Draining,
        snapshot::MemberState::Left => MemberState::Terminating,
        snapshot::MemberState::Suspect => MemberState::Suspect,
        snapshot::MemberState::Dead => MemberState::Dead,
    }
}

/// A change that has not taken effect; one not agreed by its time is renewed with a later one.
fn next_change(member: &Member, now_ms: i64) -> Option<NextChange> {
    let next = member.next.as_ref()?;
    if next.is_agreed && next.stage.from_ms <= now_ms {
        return None;
    }
    Some(NextChange {
        at_ms: next.stage.from_ms,
        what: causes(&member.now, &next.stage).join(", "),
        is_agreed: next.is_agreed,
    })
}

/// In which respects a node changes.
pub(super) fn causes(before: &Stage, after: &Stage) -> Vec<&'static str> {
    match (before.is_active, after.is_active) {
        (false, true) => return vec!["join"],
        (true, false) => return vec!["leave"],
        _ => {}
    }
    let mut causes = Vec::new();
    if before.weight != after.weight {
        causes.push("weight");
    }
    if before.jobs != after.jobs {
        causes.push("jobs");
    }
    if before.heavy != after.heavy {
        causes.push("heavy");
    }
    causes
}

/// Jobs that not all active members have with the same settings.
fn drift(view: &View, names: &[&str]) -> Vec<DriftView> {
    let names: HashMap<JobId, &str> = names.iter().map(|name| (JobId::new(name), *name)).collect();
    let mut jobs: Vec<JobId> = (view.members().iter())
        .flat_map(|member| member.stage.jobs.iter().map(|version| version.job))
        .collect();
    jobs.sort_unstable();
    jobs.dedup();
    let mut drift = Vec::new();
    for job in jobs {
        let mut nodes = BTreeMap::<Option<u64>, Vec<String>>::new();
        for member in view.members() {
            let hash = member.stage.job(job).map(|version| version.config_hash);
            nodes.entry(hash).or_default().push(member.name.to_string());
        }
        if nodes.len() < 2 {
            continue;
        }
        let in_force = view.job(job).map(|agreed| agreed.config_hash);
        let mut versions: Vec<DriftVersion> = (nodes.into_iter())
            .map(|(hash, nodes)| DriftVersion {
                config_hash: hash.map_or(String::new(), |hash| format!("{hash:016x}")),
                is_in_force: hash.is_some() && hash == in_force,
                nodes,
            })
            .collect();
        versions.sort_by_key(|version| (!version.is_in_force, usize::MAX - version.nodes.len()));
        let name = names
            .get(&job)
            .map_or(format!("{:016x}", job.0), |name| (*name).to_owned());
        drift.push(DriftView {
            job: name,
            versions,
        });
    }
    drift.sort_by(|a, b| a.job.cmp(&b.job));
    drift
}

/// Fills in how many targets each member owns, by this node's discovery.
pub(crate) fn count_targets(view: &mut ClusterView, fleet: &Fleet) {
    let mut counts = HashMap::<&str, u64>::new();
    for target in &fleet.targets {
        match fleet.owner(target) {
            Some(owner) => *counts.entry(owner).or_default() += 1,
            None => {
                view.targets_unowned += 1;
                view.targets_refused += u64::from(fleet.is_refused(target));
            }
        }
    }
    view.targets = fleet.targets.len() as u64;
    for member in &mut view.members {
        member.targets = counts.get(member.name.as_str()).copied().unwrap_or(0);
    }
}

/// The members as Alloy's `/api/v0/web/peers` lists them.
pub(crate) fn alloy_peers(view: &ClusterView) -> Vec<AlloyPeer> {
    let peer = |member: &MemberView| {
        Some(AlloyPeer {
            name: member.name.clone(),
            addr: member.gossip_address.clone(),
            is_self: member.is_self,
            state: member.state.alloy()?.to_owned(),
        })
    };
    view.members.iter().filter_map(peer).collect()
}
