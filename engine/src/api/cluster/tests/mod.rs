//! Fixed members and targets -> the JSON that people and programs get, by way of HTTP.

use super::peers::{self, Answering, Peers};
use super::*;
use crate::api::{ApiOptions, Health, Query, TargetStatus, router};
use crate::config::Config;
use crate::labels::Labels;
use crate::target::{Target, targets};
use ringscrape_cluster::member::{
    Founder, HeavyTarget, JobId, JobVersion, Member, Planned, Stage, ZoneId,
};
use ringscrape_cluster::state::messages::{Crash, Side};
use ringscrape_cluster::state::snapshot::{self, CrashStatus, MemberStatus, Snapshot};
use ringscrape_cluster::view::Active;
use ringscrape_cluster::{Replica, Timeline, View};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use tokio::sync::mpsc;

mod http;
mod replicas;

const NOW_MS: i64 = 1_800_000_000_000;

/// `count` targets of job `node`, and one of job `own`.
fn some_targets(count: u32) -> Vec<Arc<Target>> {
    let text = "scrape_configs:\n- job_name: node\n- job_name: own\n";
    let config = Config::parse(Path::new("c.yml"), text, &|_| None).unwrap();
    let job = |index: usize, addresses: Vec<String>| {
        let group = crate::discovery::TargetGroup {
            source: "s".into(),
            targets: (addresses.iter())
                .map(|address| Labels::from_pairs([("__address__", address.as_str())]))
                .collect(),
            labels: Labels::from_pairs([("rack", format!("r{index}"))]),
        };
        targets(&config.scrape_configs[index], &[Arc::new(group)]).targets
    };
    let mut all = job(0, (0..count).map(|n| format!("10.0.0.{n}:9100")).collect());
    all.extend(job(1, vec!["127.0.0.1:9100".to_owned()]));
    all
}

fn stage(is_active: bool, weight: u32, config_hash: u64) -> Stage {
    Stage {
        from_ms: NOW_MS - 100_000,
        is_active,
        weight,
        jobs: [JobVersion {
            job: JobId::new("node"),
            config_hash,
            since_ms: NOW_MS - 200_000,
        }]
        .into(),
        heavy: [].into(),
    }
}

fn view(members: &[(&str, Stage)]) -> Arc<View> {
    let active = |(name, stage): &(&str, Stage)| Active {
        name: Arc::from(*name),
        zone: Arc::from(""),
        stage: stage.clone(),
    };
    Arc::new(View::new(members.iter().map(active).collect()))
}

fn plain(names: &[&str]) -> Arc<View> {
    let members: Vec<_> = names
        .iter()
        .map(|name| (*name, stage(true, 1, 1)))
        .collect();
    view(&members)
}

/// b joined ten seconds ago, c joins in ten.
fn three() -> Arc<Timeline> {
    Arc::new(Timeline::new(
        "a".into(),
        vec![
            (NOW_MS - 60_000, plain(&["a"])),
            (NOW_MS - 10_000, plain(&["a", "b"])),
            (NOW_MS + 10_000, plain(&["a", "b", "c"])),
        ],
    ))
}

fn fleet(timeline: Option<Arc<Timeline>>, count: u32) -> Fleet {
    Fleet {
        me: "a".into(),
        now_ms: NOW_MS,
        targets: some_targets(count),
        timeline,
        local_jobs: BTreeSet::from(["own".to_owned()]),
        peers: None,
    }
}

#[test]
fn owners_say_since_when_and_who_is_next() {
    let mut fleet = fleet(Some(three()), 200);
    let timeline = fleet.timeline.clone().unwrap();
    let all = owners(
        &mut fleet,
        &TargetQuery::parse("job=node").unwrap(),
        Some("b"),
    )
    .unwrap();
    assert_eq!((all.matched, all.owners.len()), (200, 100));
    let [old, now, next] = [0, 1, 2].map(|index| &timeline.views()[index].1);
    let mut joined = 0;
    for found in &all.owners {
        let key = u64::from_str_radix(&found.key, 16).unwrap();
        let owner = |view: &View| {
            let owner = view.owner(JobId::new("node"), ringscrape_cluster::TargetKey(key));
            owner.map(str::to_owned)
        };
        assert_eq!(found.owner, owner(now));
        let moved = owner(old) != owner(now);
        assert_eq!(found.since_ms, moved.then_some(NOW_MS - 10_000));
        assert_eq!(found.before, if moved { owner(old) } else { None });
        let moves = (owner(next) != owner(now)).then(|| NextOwner {
            owner: owner(next),
            from_ms: NOW_MS + 10_000,
        });
        assert_eq!(found.next, moves);
        joined += usize::from(moves.is_some());
        let without = found.without.as_ref().unwrap();
        assert_eq!((&*without.node, without.owner.as_deref()), ("b", Some("a")));
    }
    assert!((10..70).contains(&joined), "{joined}");
    let own = TargetQuery::parse("{job=\"own\"}").unwrap();
    let own = owners(&mut fleet, &own, None).unwrap();
    assert_eq!(own.owners[0].owner.as_deref(), Some("a"));
    assert!(own.owners[0].why.contains("clustering is off"));
}

#[test]
fn reasons() {
    let why = |view: Arc<View>| {
        let timeline = Arc::new(Timeline::new("a".into(), vec![(0, view)]));
        let mut fleet = fleet(Some(timeline), 1);
        let query = TargetQuery::parse("job=node").unwrap();
        owners(&mut fleet, &query, None).unwrap().owners[0]
            .why
            .clone()
    };
    assert_eq!(why(view(&[])), "no active member has job node");
    let idle = view(&[("a", stage(true, 0, 1))]);
    assert_eq!(
        why(idle),
        "the active members that have job node all have weight 0"
    );
    assert!(why(plain(&["a"])).contains("a: it is the only active member"));
    assert!(why(plain(&["a", "b"])).contains("its token is the next on the ring"));
    let drifted = [
        ("a", stage(true, 1, 1)),
        ("b", stage(true, 1, 1)),
        ("c", stage(true, 1, 2)),
    ];
    assert!(
        why(view(&drifted))
            .ends_with("1 other members have other settings of the job and own nothing of it")
    );
    let mut heavy = stage(true, 1, 1);
    heavy.heavy = [HeavyTarget {
        key: some_targets(1)[0].key.0,
        job: JobId::new("node"),
        zone: ZoneId::NONE,
        replica: Replica::ONLY,
        samples_per_s: 900,
    }]
    .into();
    let text = why(view(&[("a", heavy), ("b", stage(true, 1, 1))]));
    assert!(text.contains("900 samples/s"), "{text}");
    let mut level = stage(true, 1, 1);
    level.heavy = [HeavyTarget::rest(ZoneId::NONE, 0, 5_000)].into();
    let text = why(view(&[("a", level), ("b", stage(true, 1, 1))]));
    assert!(text.contains("at one level of samples for all"), "{text}");
}

/// One target, 900 samples a second, in a zone.
fn zoned(members: &[(&str, &str, u32)]) -> Fleet {
    let mut fleet = fleet(None, 1);
    let mut target = (*fleet.targets[0]).clone();
    target.zone_name = "eu".into();
    target.spot.zone = ZoneId::new("eu");
    let listed = HeavyTarget {
        key: target.spot.key.0,
        job: target.job,
        zone: target.spot.zone,
        replica: Replica::ONLY,
        samples_per_s: 900,
    };
    fleet.targets = vec![Arc::new(target)];
    let active = |(name, zone, budget): &(&str, &str, u32)| {
        let mut stage = stage(true, 1, 1);
        stage.heavy = [HeavyTarget::budget(*budget), listed].into();
        Active {
            name: Arc::from(*name),
            zone: Arc::from(*zone),
            stage,
        }
    };
    let view = Arc::new(View::new(members.iter().map(active).collect()));
    fleet.timeline = Some(Arc::new(Timeline::new("a".into(), vec![(0, view)])));
    fleet
}

#[test]
fn zones_and_budgets_are_told() {
    let of_first = |fleet: &mut Fleet| {
        let query = TargetQuery::parse("job=node").unwrap();
        let first = owners(fleet, &query, None).unwrap().owners.remove(0);
        (first.owner.unwrap_or_default(), first.why)
    };
    for (members, owner, said) in [
        (
            [("a", "us", 2_000), ("b", "eu", 2_000)],
            "b",
            "in the target's zone eu",
        ),
        (
            [("a", "us", 2_000), ("b", "eu", 800)],
            "a",
            "the target's zone eu is full",
        ),
        (
            [("a", "us", 800), ("b", "", 2_000)],
            "b",
            "no member is in the target's zone eu",
        ),
        (
            [("a", "us", 800), ("b", "eu", 899)],
            "",
            "no member has room for it",
        ),
    ] {
        let (found, why) = of_first(&mut zoned(&members));
        assert!(found == owner && why.contains(said), "{found}: {why}");
    }
    let mut refusing = zoned(&[("a", "us", 800), ("b", "eu", 899)]);
    let (refused, url) = refused_targets(&refusing);
    assert_eq!((refused, url), (1, refusing.targets[0].scrape_url.clone()));
    let mut status = ClusterView::default();
    status::count_targets(&mut status, &refusing);
    assert_eq!((status.targets_unowned, status.targets_refused), (1, 1));
    let query = PageQuery::parse(&std::collections::HashMap::from([(
        "state".into(),
        "unowned".into(),
    )]))
    .unwrap();
    let found = page(&mut refusing, &query, &std::collections::HashMap::new());
    assert_eq!(found.matched, 1);
    assert!(
        found.targets[0]
            .why_unowned
            .contains("--cluster.samples-per-second-max")
    );
}

#[test]
fn what_if_counts_what_moves() {
    let fleet = fleet(Some(three()), 200);
    let without = what_if(&fleet, "b").unwrap();
    let of = |name: &str| without.nodes.iter().find(|node| node.name == name).unwrap();
    assert_eq!(of("a").before + of("b").before, 200);
    assert_eq!((of("a").after, of("b").after), (200, 0));
    assert_eq!((without.moved, without.unowned), (of("b").before, 0));
    let error = what_if(&fleet, "x").unwrap_err();
    assert_eq!(error, "\"x\" is no active member; these are: a, b");
    let mut alone = fleet;
    alone.timeline = Some(Arc::new(Timeline::new(
        "a".into(),
        vec![(0, plain(&["a"]))],
    )));
    let nobody = what_if(&alone, "a").unwrap();
    assert_eq!((nobody.moved, nobody.unowned), (200, 200));
    alone.timeline = None;
    assert!(
        what_if(&alone, "a")
            .unwrap_err()
            .contains("without a cluster")
    );
}

fn member(name: &str, state: snapshot::MemberState, next: Option<Planned>) -> MemberStatus {
    let is_active = state != snapshot::MemberState::Joining;
    MemberStatus {
        member: Arc::new(Member {
            name: name.into(),
            incarnation: 1_700_000_000_000,
            version: 3,
            founder: FOUNDER,
            gossip_address: "10.0.0.1:7946".parse().unwrap(),
            http_address: "10.0.0.1:9095".into(),
            zone: "eu-1".into(),
            software: "0.1.0".into(),
            now: stage(is_active, 2, if name == "b" { 9 } else { 1 }),
            next,
        }),
        state,
        last_contact_ms: (name != "a").then_some(NOW_MS - 250),
        skew_ms: (name != "a").then_some(-12),
        round_trip_ms: (name != "a").then_some(3),
        is_up_to_date: true,
    }
}

const FOUNDER: Founder = Founder {
    founded_ms: 1_700_000_000_000,
    id: 0xab,
};

fn some_snapshot() -> Snapshot {
    let mut leave = stage(false, 2, 1);
    leave.from_ms = NOW_MS + 3_000;
    let next = |stage: Stage, is_agreed| {
        let proposed_ms = stage.from_ms;
        Some(Planned {
            stage,
            is_agreed,
            proposed_ms,
        })
    };
    let mut join = stage(true, 2, 1);
    join.from_ms = NOW_MS + 4_000;
    Snapshot {
        me: "a".into(),
        incarnation: 1_700_000_000_000,
        founder: Some(FOUNDER),
        digest: 5,
        is_isolated: false,
        is_standing_still: false,
        waits_for: None,
        members: vec![
            member("a", snapshot::MemberState::Leaving, next(leave, true)),
            member("b", snapshot::MemberState::Active, None),
            member("c", snapshot::MemberState::Joining, next(join, false)),
            member("d", snapshot::MemberState::Dead, None),
        ],
        crashes: vec![CrashStatus {
            crash: Arc::new(Crash {
                name: "d".into(),
                incarnation: 1_700_000_000_000,
                until_ms: NOW_MS - 5_000,
                made_ms: NOW_MS - 3_000,
                by: "b".into(),
                by_incarnation: 1,
                side: Side {
                    members: 3,
                    lowest: "a".into(),
                },
            }),
            is_valid: true,
        }],
    }
}

/// The cluster of the golden page.
pub(crate) fn some_view() -> (ClusterView, Fleet) {
    let now = view(&[("a", stage(true, 2, 1)), ("b", stage(true, 2, 9))]);
    let timeline = Arc::new(Timeline::new("a".into(), vec![(0, now.clone())]));
    let setup = status::Setup {
        name: "blue",
        minimum_size: 2,
        jobs: &["node", "own"],
    };
    let moves = vec![MoveView {
        at_ms: NOW_MS - 5_000,
        cause: "crash".to_owned(),
        nodes: vec!["d".to_owned()],
        targets: 7,
        flows: vec![Flow {
            from: Some("d".to_owned()),
            to: Some("a".to_owned()),
            targets: 7,
        }],
    }];
    let page = status::of_snapshot(&some_snapshot(), &now, setup, moves, NOW_MS);
    (page, fleet(Some(timeline), 10))
}

#[test]
fn a_node_without_a_cluster_owns_all() {
    let fleet = fleet(None, 10);
    let mut page = status::alone(&fleet);
    status::count_targets(&mut page, &fleet);
    assert_eq!((page.targets, page.targets_unowned), (11, 0));
    assert_eq!((page.members.len(), page.members[0].targets), (1, 11));
}

#[test]
fn moves_are_noted_once_and_for_an_hour() {
    let mut log = moves::MoveLog::default();
    let targets = || some_targets(100);
    let crashed = |name: &str, _: i64| name == "b";
    let mut views = vec![
        (NOW_MS - 60_000, plain(&["a"])),
        (NOW_MS - 10_000, plain(&["a", "b"])),
        (NOW_MS + 10_000, plain(&["a"])),
    ];
    let first = Timeline::new("a".into(), views.clone());
    for _ in 0..3 {
        log.observe(&first, crashed, targets, NOW_MS);
    }
    let [join] = &log.moves()[..] else {
        panic!("{:?}", log.moves());
    };
    assert_eq!(
        (&*join.cause, &*join.nodes.concat(), join.at_ms),
        ("join", "b", NOW_MS - 10_000)
    );
    assert_eq!(join.flows.len(), 1);
    let from_a = Flow {
        from: Some("a".to_owned()),
        to: Some("b".to_owned()),
        targets: join.targets,
    };
    assert_eq!(join.flows[0], from_a);
    log.observe(&first, crashed, targets, NOW_MS + 10_000);
    // A change that lies before one that is known.
    views.insert(
        2,
        (
            NOW_MS - 5_000,
            view(&[("a", stage(true, 3, 1)), ("b", stage(true, 1, 1))]),
        ),
    );
    log.observe(
        &Timeline::new("a".into(), views),
        crashed,
        targets,
        NOW_MS + 10_000,
    );
    let causes: Vec<String> = log.moves().into_iter().map(|one| one.cause).collect();
    assert_eq!(causes, ["crash", "weight", "join"]);
    assert_eq!(log.totals()["join"], join.targets);
    let empty = Timeline::new("a".into(), vec![(0, plain(&["a"]))]);
    log.observe(&empty, crashed, targets, NOW_MS + 3_600_000);
    assert_eq!(log.moves().len(), 1);
}
