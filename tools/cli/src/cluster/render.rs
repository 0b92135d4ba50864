//! What the API says of a cluster -> text for a terminal.

use crate::text::{ago, line, or_dash, table, words};
use ringscrape_engine::api::cluster::{
    ClusterView, MemberState, MemberView, OwnerView, OwnersView, TargetsView, WhatIfView,
};
use std::fmt::Write;

/// `ringscrape cluster status`.
pub(super) fn status(view: &ClusterView) -> String {
    let mut text = String::new();
    if view.enabled {
        let name = match view.name.as_str() {
            "" => "without a name".to_owned(),
            name => name.to_owned(),
        };
        let founded = view.founded_ms.map_or("not joined yet".to_owned(), |ms| {
            format!("founded {}", ago(ms, view.now_ms))
        });
        line(
            &mut text,
            &format!("cluster {name}, {founded}, as {} sees it", view.this_node),
        );
    } else {
        line(
            &mut text,
            &format!("{} runs without a cluster", view.this_node),
        );
    }
    for fault in faults(view) {
        line(&mut text, &format!("! {fault}"));
    }
    if !view.waits_for.is_empty() {
        line(
            &mut text,
            &format!("{} waits for {}", view.this_node, view.waits_for),
        );
    }
    text.push('\n');
    let mut rows = vec![words(&[
        "NODE",
        "STATE",
        "RING",
        "TARGETS",
        "SAMPLES/S",
        "WEIGHT",
        "ZONE",
        "HEARD",
        "CLOCK",
        "NEXT CHANGE",
        "ADDRESS",
    ])];
    rows.extend(view.members.iter().map(|member| member_row(view, member)));
    table(&mut text, &rows, &[2, 3, 4, 5]);
    let unowned = match view.targets_unowned {
        0 => String::new(),
        count => format!(", {count} of them scraped by nobody"),
    };
    line(&mut text, &format!("\n{} targets{unowned}", view.targets));
    if !view.moves.is_empty() {
        line(&mut text, "\nchanges of the last hour:");
        let mut rows = vec![words(&["WHEN", "WHAT", "NODES", "MOVED", "FROM -> TO"])];
        for one in &view.moves {
            let flows: Vec<String> = (one.flows.iter())
                .map(|flow| {
                    let (from, to) = (nobody(flow.from.as_deref()), nobody(flow.to.as_deref()));
                    format!("{from} -> {to}: {}", flow.targets)
                })
                .collect();
            rows.push(vec![
                ago(one.at_ms, view.now_ms),
                one.cause.clone(),
                one.nodes.join(", "),
                one.targets.to_string(),
                flows.join("; "),
            ]);
        }
        table(&mut text, &rows, &[3]);
    }
    warnings(&mut text, &view.warnings);
    text
}

/// What is wrong with the cluster.
pub(super) fn faults(view: &ClusterView) -> Vec<String> {
    let mut faults = Vec::new();
    if view.is_isolated {
        faults.push(format!(
            "{} is isolated: it sees less than half of the members, keeps its share and takes over \
             nothing; look at the network between the nodes",
            view.this_node
        ));
    }
    if view.is_standing_still {
        faults.push(format!(
            "{} stood still and scrapes nothing until a peer answers",
            view.this_node
        ));
    }
    for (state, text) in [
        (MemberState::Suspect, "does not answer"),
        (MemberState::Dead, "is dead: others have its targets"),
    ] {
        let of_state = view.members.iter().filter(|member| member.state == state);
        faults.extend(of_state.map(|member| format!("{} {text}", member.name)));
    }
    if view.targets_refused > 0 {
        faults.push(format!(
            "no node has room for {} targets (--cluster.samples-per-second-max)",
            view.targets_refused
        ));
    }
    if view.targets_unowned > 0 {
        faults.push(format!("nobody scrapes {} targets", view.targets_unowned));
    }
    for job in &view.drift {
        let others = job.versions.iter().filter(|version| !version.is_in_force);
        let nodes: Vec<&str> = others
            .flat_map(|version| &version.nodes)
            .map(String::as_str)
            .collect();
        faults.push(format!(
            "job {} has other settings, or is missing, on {}: they own nothing of it",
            job.job,
            nodes.join(", ")
        ));
    }
    faults
}

fn member_row(view: &ClusterView, member: &MemberView) -> Vec<String> {
    let next = member.next_change.as_ref().map_or("-".to_owned(), |next| {
        let agreed = if next.is_agreed {
            ""
        } else {
            ", not agreed yet"
        };
        format!("{} {}{agreed}", next.what, ago(next.at_ms, view.now_ms))
    });
    let heard = match (member.is_self, member.last_contact_ms) {
        (false, Some(ms)) => ago(ms, view.now_ms),
        _ => "-".to_owned(),
    };
    vec![
        format!("{}{}", member.name, if member.is_self { " *" } else { "" }),
        member.state.as_str().to_owned(),
        format!("{:.1} %", member.ring_share * 100.0),
        member.targets.to_string(),
        member
            .samples_per_second
            .map_or("-".to_owned(), |rate| format!("{rate:.0}")),
        member.weight.to_string(),
        or_dash(&member.zone),
        heard,
        member
            .clock_skew_ms
            .map_or("-".to_owned(), |ms| format!("{ms:+} ms")),
        next,
        or_dash(&member.http_address),
    ]
}

/// `ringscrape cluster owner`.
pub(super) fn owners(view: &OwnersView) -> String {
    let mut text = String::new();
    for (index, one) in view.owners.iter().enumerate() {
        if index > 0 {
            text.push('\n');
        }
        owner(&mut text, view, one);
    }
    let more = view.matched.saturating_sub(view.owners.len() as u64);
    if more > 0 {
        line(
            &mut text,
            &format!("\n{more} more targets fit; say more of the target"),
        );
    }
    text
}

fn owner(text: &mut String, view: &OwnersView, one: &OwnerView) {
    line(
        text,
        &format!("{} (job {}, key {})", one.url, one.job, one.key),
    );
    line(
        text,
        &format!("  owner    {}", nobody(one.owner.as_deref())),
    );
    line(text, &format!("  why      {}", one.why));
    let since = match one.since_ms {
        Some(ms) => format!(
            "{}, before that {}",
            ago(ms, view.now_ms),
            nobody(one.before.as_deref())
        ),
        None => "as long as this node remembers".to_owned(),
    };
    line(text, &format!("  since    {since}"));
    let next = match &one.next {
        Some(next) => {
            let from = ago(next.from_ms, view.now_ms);
            format!("{} {from}", nobody(next.owner.as_deref()))
        }
        None => "no change is agreed".to_owned(),
    };
    line(text, &format!("  next     {next}"));
    if let Some(without) = &one.without {
        let owner = nobody(without.owner.as_deref());
        line(text, &format!("  without  {}: {owner}", without.node));
    }
}

/// `ringscrape cluster what-if`.
pub(super) fn what_if(view: &WhatIfView) -> String {
    let mut text = String::new();
    line(
        &mut text,
        &format!(
            "if {} left, {} of {} targets would move, and nobody would scrape {}\n",
            view.leave, view.moved, view.targets, view.unowned
        ),
    );
    let mut rows = vec![words(&["NODE", "NOW", "THEN", "DIFFERENCE"])];
    for node in &view.nodes {
        rows.push(vec![
            node.name.clone(),
            node.before.to_string(),
            node.after.to_string(),
            format!("{:+}", i128::from(node.after) - i128::from(node.before)),
        ]);
    }
    table(&mut text, &rows, &[1, 2, 3]);
    text
}

/// `ringscrape cluster drain`.
pub(super) fn drained(is_undone: bool) -> String {
    match is_undone {
        false => {
            "draining: the others take the targets at a time that is being agreed; \
                  `ringscrape cluster status` shows it, --undo takes targets again\n"
        }
        true => "the node takes targets again, at a time that is being agreed\n",
    }
    .to_owned()
}

/// `ringscrape cluster targets`.
pub(super) fn targets(view: &TargetsView) -> String {
    let mut text = String::new();
    let mut rows = vec![words(&[
        "JOB",
        "OWNER",
        "HEALTH",
        "LAST SCRAPE",
        "URL",
        "ERROR",
    ])];
    for target in &view.targets {
        let health = target.health.as_ref();
        let mut owner = nobody(target.owner.as_deref()).to_owned();
        if let Some(next) = &target.next {
            let _ = write!(owner, " -> {}", nobody(next.owner.as_deref()));
        }
        let last = health.and_then(|health| health.last_scrape_ms);
        let error = health.filter(|health| health.health == "down");
        rows.push(vec![
            target.job.clone(),
            owner,
            health.map_or("-".to_owned(), |health| health.health.clone()),
            last.map_or("-".to_owned(), |ms| ago(ms, view.now_ms)),
            target.url.clone(),
            error.map_or(String::new(), |health| health.last_error.clone()),
        ]);
    }
    table(&mut text, &rows, &[]);
    let last = view.offset + view.targets.len() as u64;
    let first = if view.targets.is_empty() {
        last
    } else {
        view.offset + 1
    };
    line(
        &mut text,
        &format!(
            "\n{first} to {last} of {} ({} in all)",
            view.matched, view.total
        ),
    );
    warnings(&mut text, &view.warnings);
    text
}

fn warnings(text: &mut String, warnings: &[String]) {
    for warning in warnings {
        line(text, &format!("! {warning}"));
    }
}

/// Adds a line. What others sent loses its control characters: a terminal would obey them.
fn nobody(name: Option<&str>) -> &str {
    name.unwrap_or("nobody")
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringscrape_engine::api::cluster::{
        DriftVersion, DriftView, Flow, HealthView, MoveView, NextChange, NextOwner, TargetView,
        WhatIfNode, WithoutView,
    };

    const NOW_MS: i64 = 1_800_000_000_000;

    fn member(name: &str, state: MemberState) -> MemberView {
        MemberView {
            name: name.to_owned(),
            state,
            http_address: "10.0.0.1:9095".to_owned(),
            weight: 1,
            ring_share: 0.5,
            targets: 1_500,
            last_contact_ms: Some(NOW_MS - 250),
            ..MemberView::default()
        }
    }

    fn two() -> ClusterView {
        let mut a = member("a", MemberState::Participant);
        a.is_self = true;
        a.samples_per_second = Some(123_456.7);
        let mut b = member("b", MemberState::Dead);
        b.clock_skew_ms = Some(-12);
        b.zone = "eu\u{1b}[31m".to_owned();
        b.next_change = Some(NextChange {
            at_ms: NOW_MS + 3_200,
            what: "leave".to_owned(),
            is_agreed: false,
        });
        ClusterView {
            enabled: true,
            name: "blue".to_owned(),
            this_node: "a".to_owned(),
            now_ms: NOW_MS,
            founded_ms: Some(NOW_MS - 7_260_000),
            members: vec![a, b],
            targets: 3_000,
            targets_unowned: 2,
            moves: vec![MoveView {
                at_ms: NOW_MS - 65_000,
                cause: "crash".to_owned(),
                nodes: vec!["b".to_owned()],
                targets: 2,
                flows: vec![Flow {
                    from: Some("b".to_owned()),
                    to: None,
                    targets: 2,
                }],
            }],
            drift: vec![DriftView {
                job: "node".to_owned(),
                versions: vec![DriftVersion {
                    nodes: vec!["b".to_owned()],
                    ..DriftVersion::default()
                }],
            }],
            warnings: vec!["b: no connection".to_owned()],
            ..ClusterView::default()
        }
    }

    #[test]
    fn status_of_two() {
        let expected = "\
cluster blue, founded 2h1m ago, as a sees it
! b is dead: others have its targets
! nobody scrapes 2 targets
! job node has other settings, or is missing, on b: they own nothing of it

NODE  STATE          RING  TARGETS  SAMPLES/S  WEIGHT  ZONE     HEARD      CLOCK   \
         NEXT CHANGE                    ADDRESS
a *   participant  50.0 %     1500     123457       1  -        -          -       \
         -                              10.0.0.1:9095
b     dead         50.0 %     1500          -       1  eu [31m  250ms ago  -12 ms  \
         leave in 3.2s, not agreed yet  10.0.0.1:9095

3000 targets, 2 of them scraped by nobody

changes of the last hour:
WHEN      WHAT   NODES  MOVED  FROM -> TO
1m5s ago  crash  b          2  b -> nobody: 2
! b: no connection
";
        let found = status(&two());
        assert_eq!(found, expected, "{found}");
    }

    #[test]
    fn only_what_is_wrong_is_a_fault() {
        let mut view = two();
        view.members.truncate(1);
        view.drift.clear();
        view.targets_unowned = 0;
        assert!(faults(&view).is_empty());
        view.is_isolated = true;
        assert!(faults(&view)[0].contains("a is isolated"));
        view.is_isolated = false;
        view.members[0].state = MemberState::Suspect;
        assert_eq!(faults(&view), ["a does not answer"]);
    }

    #[test]
    fn an_owner_and_who_follows() {
        let view = OwnersView {
            this_node: "a".to_owned(),
            now_ms: NOW_MS,
            matched: 3,
            owners: vec![OwnerView {
                job: "node".to_owned(),
                url: "http://h:1/metrics".to_owned(),
                key: "00ff".to_owned(),
                owner: Some("a".to_owned()),
                why: "so it is".to_owned(),
                since_ms: Some(NOW_MS - 90_061_000),
                before: None,
                next: Some(NextOwner {
                    owner: Some("b".to_owned()),
                    from_ms: NOW_MS + 12_000,
                }),
                without: Some(WithoutView {
                    node: "a".to_owned(),
                    owner: None,
                }),
                ..OwnerView::default()
            }],
        };
        let expected = "\
http://h:1/metrics (job node, key 00ff)
  owner    a
  why      so it is
  since    1d1h ago, before that nobody
  next     b in 12s
  without  a: nobody

2 more targets fit; say more of the target
";
        assert_eq!(owners(&view), expected);
    }

    #[test]
    fn what_would_move() {
        let node = |name: &str, before, after| WhatIfNode {
            name: name.to_owned(),
            before,
            after,
        };
        let view = WhatIfView {
            leave: "a".to_owned(),
            targets: 30,
            moved: 10,
            unowned: 0,
            nodes: vec![node("a", 10, 0), node("bb", 20, 30)],
        };
        let expected = "\
if a left, 10 of 30 targets would move, and nobody would scrape 0

NODE  NOW  THEN  DIFFERENCE
a      10     0         -10
bb     20    30         +10
";
        assert_eq!(what_if(&view), expected);
    }

    #[test]
    fn a_page_of_targets() {
        let target = |url: &str, health: Option<HealthView>| TargetView {
            job: "node".to_owned(),
            url: url.to_owned(),
            owner: Some("a".to_owned()),
            health,
            ..TargetView::default()
        };
        let down = HealthView {
            health: "down".to_owned(),
            last_error: "refused\nreally".to_owned(),
            last_scrape_ms: Some(NOW_MS - 1_500),
            last_duration_s: 0.1,
        };
        let view = TargetsView {
            now_ms: NOW_MS,
            total: 9,
            matched: 5,
            offset: 3,
            targets: vec![target("http://a/", Some(down)), target("http://b/", None)],
            ..TargetsView::default()
        };
        let expected = "\
JOB   OWNER  HEALTH  LAST SCRAPE  URL        ERROR
node  a      down    1.5s ago     http://a/  refused really
node  a      -       -            http://b/

4 to 5 of 5 (9 in all)
";
        assert_eq!(targets(&view), expected);
    }
}
