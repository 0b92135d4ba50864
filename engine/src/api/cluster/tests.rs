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
use ringscrape_cluster::{Timeline, View};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use tokio::sync::mpsc;

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
        samples_per_s: 900,
    }]
    .into();
    let text = why(view(&[("a", heavy), ("b", stage(true, 1, 1))]));
    assert!(text.contains("900 samples/s"), "{text}");
    let mut level = stage(true, 1, 1);
    level.heavy = [HeavyTarget::rest(ZoneId::NONE, 5_000)].into();
    let text = why(view(&[("a", level), ("b", stage(true, 1, 1))]));
    assert!(text.contains("at one level of samples for all"), "{text}");
}

/// One target, 900 samples a second, in a zone.
fn zoned(members: &[(&str, &str, u32)]) -> Fleet {
    let mut fleet = fleet(None, 1);
    let mut target = (*fleet.targets[0]).clone();
    (target.zone, target.zone_name) = (ZoneId::new("eu"), "eu".into());
    let listed = HeavyTarget {
        key: target.place.0,
        job: target.job,
        zone: target.zone,
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

/// Another node that says how all of its targets are, and how much it logs.
#[derive(Debug)]
struct OtherNode;

impl Peers for OtherNode {
    fn ask(&self, node: &str, question: Vec<u8>) -> Answering {
        let is_there = node == "b";
        Box::pin(async move {
            if !is_there {
                return Err("no connection".to_owned());
            }
            let (queries, asked) = mpsc::channel(8);
            tokio::spawn(answer_all(asked));
            Ok(peers::answer(&queries, &question).await)
        })
    }
}

/// Plays the control loop.
async fn answer_all(mut asked: mpsc::Receiver<Query>) {
    while let Some(query) = asked.recv().await {
        match query {
            Query::Cluster(answer) => {
                let (view, mut fleet) = some_view();
                fleet.peers = Some(Arc::new(OtherNode));
                answer.send((view, fleet)).ok().unwrap();
            }
            Query::Fleet(answer) => {
                let mut fleet = some_view().1;
                fleet.peers = Some(Arc::new(OtherNode));
                fleet.timeline = Some(Arc::new(Timeline::new(
                    "a".into(),
                    vec![(0, plain(&["a", "b", "gone"]))],
                )));
                answer.send(fleet).ok().unwrap();
            }
            Query::Health { keys, answer } => {
                let targets = some_targets(10).into_iter();
                let wanted = |key: u64| keys.as_ref().is_none_or(|keys| keys.contains(&key));
                let status = |target: Arc<Target>| TargetStatus {
                    health: match target.labels.get("instance") {
                        "10.0.0.3:9100" => Health::Down,
                        _ => Health::Up,
                    },
                    target,
                    last_error: "refused".to_owned(),
                    last_scrape_ms: Some(NOW_MS - 1),
                    last_duration_s: 0.25,
                };
                let found = targets.filter(|one| wanted(one.key.0)).map(status);
                answer.send(found.collect()).unwrap();
            }
            Query::Overview(answer) => {
                let view = OverviewView {
                    samples_per_second: 1_234.5,
                    ..OverviewView::default()
                };
                answer.send(view).unwrap();
            }
            Query::Drain { is_drained, answer } => {
                let result = if is_drained {
                    Ok(())
                } else {
                    Err("not drained".to_owned())
                };
                answer.send(result).unwrap();
            }
            other => panic!("{other:?}"),
        }
    }
}

struct Api {
    url: String,
    client: reqwest::Client,
}

impl Api {
    async fn start(lifecycle: bool) -> Self {
        let (queries, asked) = mpsc::channel(8);
        tokio::spawn(answer_all(asked));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let options = ApiOptions {
            lifecycle,
            ..ApiOptions::default()
        };
        let api = router(queries, options, Arc::default());
        tokio::spawn(async move { axum::serve(listener, api).await });
        Self {
            url,
            client: reqwest::Client::new(),
        }
    }

    async fn get(&self, path: &str) -> (u16, Value) {
        let url = format!("{}{path}", self.url);
        let response = self.client.get(url).send().await.unwrap();
        let status = response.status().as_u16();
        let text = response.text().await.unwrap();
        (status, serde_json::from_str(&text).unwrap())
    }

    async fn post(&self, path: &str, origin: &str) -> u16 {
        let url = format!("{}{path}", self.url);
        let request = self.client.post(url).header("Origin", origin);
        request.send().await.unwrap().status().as_u16()
    }
}

#[tokio::test]
async fn the_page_of_the_cluster() {
    let api = Api::start(false).await;
    let (status, answer) = api.get("/api/v1/cluster?scope=all").await;
    assert_eq!(status, 200, "{answer}");
    let golden: Value = serde_json::from_str(include_str!("tests/cluster.json")).unwrap();
    let text = serde_json::to_string_pretty(&answer).unwrap();
    assert_eq!(answer, golden, "{text}");
    let read: ClusterView = serde_json::from_value(answer["data"].clone()).unwrap();
    assert_eq!(read.members.len(), 4);
    let (_, peers) = api.get("/api/v0/web/peers").await;
    let golden = json!([
        {"name": "a", "addr": "10.0.0.1:7946", "isSelf": true, "state": "terminating"},
        {"name": "b", "addr": "10.0.0.1:7946", "isSelf": false, "state": "participant"},
        {"name": "c", "addr": "10.0.0.1:7946", "isSelf": false, "state": "viewer"},
    ]);
    assert_eq!(peers, golden, "the dead are not listed");
}

#[tokio::test]
async fn pages_of_targets() {
    let api = Api::start(false).await;
    let (_, own) = api.get("/api/v1/cluster/targets?limit=1000").await;
    let list = own["data"]["targets"].as_array().unwrap();
    assert_eq!((list.len(), own["data"]["total"].as_u64()), (11, Some(11)));
    for target in list {
        assert_eq!(
            target["health"].is_null(),
            target["owner"] != "a",
            "{target}"
        );
    }
    let (_, all) = api
        .get("/api/v1/cluster/targets?limit=1000&scope=all")
        .await;
    for target in all["data"]["targets"].as_array().unwrap() {
        assert_eq!(
            target["health"].is_null(),
            target["owner"] == "gone",
            "{target}"
        );
    }
    assert_eq!(all["data"]["warnings"], json!(["gone: no connection"]));
    let (_, page) = api.get("/api/v1/cluster/targets?offset=9&limit=1").await;
    assert_eq!(page["data"]["targets"][0], list.get(9).cloned().unwrap());
    let (_, down) = api
        .get("/api/v1/cluster/targets?state=down&scope=all")
        .await;
    assert_eq!(down["data"]["matched"], 1);
    assert_eq!(down["data"]["targets"][0]["health"]["lastError"], "refused");
    let (_, found) = api
        .get("/api/v1/cluster/targets?search=0.7:&job=node")
        .await;
    assert_eq!(
        found["data"]["targets"][0]["url"],
        "http://10.0.0.7:9100/metrics"
    );
    let (_, of_node) = api.get("/api/v1/cluster/targets?node=gone").await;
    let owners = of_node["data"]["targets"].as_array().unwrap();
    assert!(!owners.is_empty() && owners.iter().all(|target| target["owner"] == "gone"));
    for bad in ["state=ill", "limit=x", "scope=none"] {
        let (status, answer) = api.get(&format!("/api/v1/cluster/targets?{bad}")).await;
        assert_eq!(
            (status, &answer["errorType"]),
            (400, &json!("bad_data")),
            "{answer}"
        );
    }
}

#[tokio::test]
async fn owner_and_what_if_by_http() {
    let api = Api::start(false).await;
    let (status, one) = api
        .get("/api/v1/cluster/owner?target=10.0.0.7:9100&without=a")
        .await;
    assert_eq!(status, 200, "{one}");
    assert_eq!(one["data"]["matched"], 1);
    assert_eq!(one["data"]["owners"][0]["without"]["node"], "a");
    for (path, expected) in [
        ("owner?target=http://nowhere/", 404),
        ("owner", 400),
        ("owner?target=10.0.0.7:9100&without=x", 400),
        ("what-if", 400),
        ("what-if?leave=x", 404),
        ("what-if?leave=b", 200),
    ] {
        let (status, answer) = api.get(&format!("/api/v1/cluster/{path}")).await;
        assert_eq!(status, expected, "{path}: {answer}");
    }
}

#[tokio::test]
async fn draining_needs_permission_and_the_same_origin() {
    let closed = Api::start(false).await;
    assert_eq!(closed.post("/api/v1/cluster/drain", &closed.url).await, 403);
    let open = Api::start(true).await;
    assert_eq!(open.post("/api/v1/cluster/drain", &open.url).await, 200);
    assert_eq!(open.post("/api/v1/cluster/undrain", &open.url).await, 409);
    assert_eq!(
        open.post("/api/v1/cluster/drain", "http://evil.example")
            .await,
        403
    );
    let get = open
        .client
        .get(format!("{}/api/v1/cluster/drain", open.url));
    assert_eq!(get.send().await.unwrap().status().as_u16(), 405);
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
