//! A question about targets' owners -> the answer: who, why, since when, and who if a node leaves.

use super::find::TargetQuery;
use super::fleet::{Fleet, owner_in, which, why_unowned};
use super::view::{NextOwner, OwnerView, OwnersView, WhatIfNode, WhatIfView, WithoutView};
use crate::target::Target;
use ringscrape_cluster::View;
use ringscrape_cluster::view::{Active, PlacedBy, ZoneFit};
use std::collections::BTreeMap;

/// Owners that one answer holds.
pub(super) const OWNERS_MAX: usize = 100;

/// Who owns the targets that `query` means; `without`: and who would if that node left.
///
/// # Errors
/// `without` is no active member.
pub(crate) fn owners(
    fleet: &mut Fleet,
    query: &TargetQuery,
    without: Option<&str>,
) -> Result<OwnersView, String> {
    fleet.sort();
    let left = without
        .map(|node| Ok::<_, String>((node, after_leave(fleet, node)?)))
        .transpose()?;
    let mut matched = 0;
    let mut owners = Vec::new();
    for target in fleet.targets.iter().filter(|target| query.fits(target)) {
        matched += 1;
        if owners.len() < OWNERS_MAX {
            let left = left.as_ref().map(|(node, view)| (*node, view));
            owners.push(owner_of(fleet, target, left));
        }
    }
    Ok(OwnersView {
        this_node: fleet.me.to_string(),
        now_ms: fleet.now_ms,
        matched,
        owners,
    })
}

fn owner_of(fleet: &Fleet, target: &Target, left: Option<(&str, &View)>) -> OwnerView {
    let tenure = fleet.tenure(target);
    let without = left.map(|(node, view)| WithoutView {
        node: node.to_owned(),
        owner: owner_after(fleet, view, target).map(str::to_owned),
    });
    OwnerView {
        job: target.scrape_config.job_name.clone(),
        url: target.scrape_url.clone(),
        key: key_text(target),
        labels: label_map(target),
        why: why(fleet, target),
        owner: tenure.owner.map(|name| name.to_string()),
        since_ms: tenure.since_ms,
        before: tenure.before.map(|name| name.to_string()),
        next: tenure.next.map(|(from_ms, owner)| NextOwner {
            owner: owner.map(|name| name.to_string()),
            from_ms,
        }),
        without,
    }
}

/// One sentence.
fn why(fleet: &Fleet, target: &Target) -> String {
    let Some(view) = fleet.view() else {
        return why_alone(target);
    };
    let name = &target.scrape_config.job_name;
    if fleet.is_local(target) {
        return format!("clustering is off for job {name}: each node scrapes it for itself");
    }
    let job = target.job;
    let (Some(agreed), Some(owner)) = (view.job(job), owner_in(view, target)) else {
        return why_unowned(view, target);
    };
    let with = |member: &&Active| {
        let version = member.stage.job(job);
        version.is_some_and(|version| version.config_hash == agreed.config_hash)
    };
    let count = view.members().iter().filter(with).count();
    let place = match count {
        1 => "it is the only active member with the agreed settings of the job".to_owned(),
        _ => why_there(view, target),
    };
    let mut text = format!("of {count} members that agree on job {name}, {owner}: {place}");
    if target.spot.replica.count > 1 {
        text.insert_str(0, &which(target));
    }
    if agreed.others > 0 {
        text.push_str(&format!(
            "; {} other members have other settings of the job and own nothing of it",
            agreed.others
        ));
    }
    text
}

/// Why this node scrapes a target that runs without a cluster, or not.
pub(super) fn why_alone(target: &Target) -> String {
    match target.spot.replica.count {
        0 | 1 => "this node runs without a cluster: it scrapes all of its targets".to_owned(),
        _ => format!(
            "{}this node runs without a cluster: it scrapes replica 0 of its targets",
            which(target)
        ),
    }
}

/// What decides on the owner of a target that has one.
fn why_there(view: &View, target: &Target) -> String {
    let Some(agreed) = view.job(target.job) else {
        return String::new();
    };
    let place = agreed.place(&target.spot);
    let heavy = view.members().iter().find_map(|member| {
        let mut heavy = member.stage.heavy.iter();
        heavy.find(|heavy| heavy.job == target.job && heavy.key == target.spot.key.0)
    });
    let by = match (place.by, heavy) {
        (PlacedBy::Cost, Some(heavy)) => format!(
            "the target costs much ({} samples/s) and is placed by its cost",
            heavy.samples_per_s
        ),
        (PlacedBy::Level, _) => "it is the next on the ring after the target's key that has room, \
                                 at one level of samples for all"
            .to_owned(),
        _ if target.spot.replica.index > 0 => {
            "it is the next on the ring after the replica's key without another replica".to_owned()
        }
        _ => "its token is the next on the ring after the target's key".to_owned(),
    };
    let zone = &target.zone_name;
    match place.zone {
        ZoneFit::Any => by,
        ZoneFit::Own => format!("in the target's zone {zone}, {by}"),
        ZoneFit::Empty => format!("no member is in the target's zone {zone}; {by}"),
        ZoneFit::Full => format!("the target's zone {zone} is full; {by}"),
    }
}

/// How many targets move, and where, if a node leaves as planned.
///
/// # Errors
/// `leave` is no active member.
pub(crate) fn what_if(fleet: &Fleet, leave: &str) -> Result<WhatIfView, String> {
    let after = after_leave(fleet, leave)?;
    let mut nodes = BTreeMap::<&str, WhatIfNode>::new();
    for member in fleet.view().into_iter().flat_map(|view| view.members()) {
        let name = member.name.to_string();
        nodes.insert(
            &member.name,
            WhatIfNode {
                name,
                ..WhatIfNode::default()
            },
        );
    }
    let mut result = WhatIfView {
        leave: leave.to_owned(),
        targets: fleet.targets.len() as u64,
        ..WhatIfView::default()
    };
    for target in fleet
        .targets
        .iter()
        .filter(|target| !fleet.is_local(target))
    {
        let owner = fleet.owner(target);
        let owner_then = owner_in(&after, target);
        if let Some(node) = owner.and_then(|owner| nodes.get_mut(owner)) {
            node.before += 1;
        }
        match owner_then.and_then(|owner| nodes.get_mut(owner)) {
            Some(node) => node.after += 1,
            None => result.unowned += 1,
        }
        result.moved += u64::from(owner != owner_then);
    }
    result.nodes = nodes.into_values().collect();
    Ok(result)
}

/// What holds once `leave` has left.
fn after_leave(fleet: &Fleet, leave: &str) -> Result<View, String> {
    let members = fleet.view().map_or(&[][..], |view| view.members());
    if !members.iter().any(|member| *member.name == *leave) {
        let names: Vec<&str> = members.iter().map(|member| &*member.name).collect();
        return Err(match names.is_empty() {
            true => "this node runs without a cluster: there is nobody to leave".to_owned(),
            false => format!(
                "{leave:?} is no active member; these are: {}",
                names.join(", ")
            ),
        });
    }
    let others = members.iter().filter(|member| *member.name != *leave);
    Ok(View::new(others.cloned().collect()))
}

fn owner_after<'a>(fleet: &'a Fleet, view: &'a View, target: &Target) -> Option<&'a str> {
    match fleet.is_local(target) {
        true => fleet.owner(target),
        false => owner_in(view, target),
    }
}

/// A target's key as it is written.
pub(super) fn key_text(target: &Target) -> String {
    format!("{:016x}", target.key.0)
}

/// Final labels for JSON.
pub(super) fn label_map(target: &Target) -> BTreeMap<String, String> {
    let own = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
    target.labels.iter().map(own).collect()
}
