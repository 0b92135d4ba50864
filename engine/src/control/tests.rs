//! Jobs of several nodes with one timeline: each slot is one node's, by the settings agreed on.

use super::jobs::{Change, Configured, Jobs};
use super::shard_of;
use crate::config::{Config, settings_hash};
use crate::discovery::{JobUpdate, TargetGroup};
use crate::labels::Labels;
use crate::mailbox::{Assignment, Ending};
use proptest::prelude::*;
use ringscrape_cluster::member::{JobId, JobVersion, Stage};
use ringscrape_cluster::view::Active;
use ringscrape_cluster::{Timeline, View};
use ringscrape_wal::definition::Route;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

mod replicas;

const SHARDS: usize = 2;
const TARGETS: usize = 30;
/// How long before it holds a change is known, and when nodes look again after it.
const LEAD_MS: i64 = 3_000;
const LATE_MS: i64 = 7;

/// The settings of the only job. 1: another interval, and some targets less; 2: one label more.
fn config(version: usize) -> Config {
    let more = [
        "",
        "  scrape_interval: 30s\n  relabel_configs: [{source_labels: [__address__], \
         regex: 'h[0-7]:1', action: drop}]\n",
        "  relabel_configs: [{target_label: more, replacement: x}]\n",
        "  clustering: {enabled: false}\n",
        "  clustering: {replication_factor: 2, replica_label: r}\n",
    ];
    let text = format!("scrape_configs:\n- job_name: j\n{}", more[version]);
    Config::parse(Path::new("/r.yml"), &text, &|_| None).unwrap()
}

fn hash(version: usize) -> u64 {
    settings_hash(&config(version).scrape_configs[0])
}

fn groups(targets: usize) -> JobUpdate {
    let address = |n| Labels::from_pairs([("__address__", format!("h{n}:1"))]);
    JobUpdate {
        job_name: "j".into(),
        groups: vec![Arc::new(TargetGroup {
            source: "0".into(),
            targets: (0..targets).map(address).collect(),
            labels: Labels::default(),
        })],
        complete: true,
    }
}

fn view(members: &[(&str, &[JobVersion])]) -> Arc<View> {
    let active = |(name, jobs): &(&str, &[JobVersion])| Active {
        name: Arc::from(*name),
        zone: "".into(),
        stage: Stage {
            from_ms: 0,
            is_active: true,
            weight: 1,
            jobs: (*jobs).into(),
            heavy: [].into(),
        },
    };
    Arc::new(View::new(members.iter().map(active).collect()))
}

/// A node, and what its shards would scrape.
struct Node {
    name: &'static str,
    jobs: Jobs,
    route: Arc<Route>,
    /// What the shards were told last, by key, and what follows it.
    told: BTreeMap<u64, (Assignment, Option<Assignment>)>,
    /// Messages since this was last taken.
    messages: Vec<(u64, Option<Assignment>, Option<Ending>)>,
}

impl Node {
    fn new(name: &'static str, version: usize, now_ms: i64) -> Self {
        let mut node = Self {
            name,
            jobs: Jobs::new(SHARDS),
            route: Arc::new(Route {
                id: 1,
                endpoints: Box::default(),
            }),
            told: BTreeMap::new(),
            messages: Vec::new(),
        };
        node.timeline(vec![(0, view(&[]))], now_ms);
        assert!(node.jobs.unanswered(true).is_empty(), "there is no job yet");
        node.configure(version, now_ms);
        assert_eq!(
            node.jobs.unanswered(true).len(),
            node.jobs.job_versions().len()
        );
        node.discover(TARGETS, now_ms);
        assert!(node.jobs.unanswered(true).is_empty());
        node
    }

    fn configured(&self, version: usize) -> Vec<Configured> {
        let configs = config(version).scrape_configs;
        let configured = |config| Configured {
            config,
            route: self.route.clone(),
            of: None,
            nth: 0,
        };
        configs.into_iter().map(configured).collect()
    }

    fn configure(&mut self, version: usize, now_ms: i64) {
        let configured = self.configured(version);
        let changes = self.jobs.apply(&configured, 0, now_ms);
        self.take(changes, now_ms);
    }

    fn discover(&mut self, targets: usize, now_ms: i64) {
        let changes = self.jobs.update(groups(targets), now_ms);
        self.take(changes, now_ms);
    }

    fn timeline(&mut self, views: Vec<(i64, Arc<View>)>, now_ms: i64) {
        let timeline = Timeline::new(self.name.into(), views);
        let changes = self.jobs.set_timeline(Some(Arc::new(timeline)), now_ms);
        self.take(changes, now_ms);
    }

    /// As a shard takes them.
    fn take(&mut self, changes: Vec<Change>, now_ms: i64) {
        for (shard, (removed, added)) in changes.into_iter().flat_map(|c| c.into_iter().enumerate())
        {
            for removal in removed {
                assert_eq!(shard_of(removal.key, SHARDS), shard);
                self.told.remove(&removal.key);
                self.messages
                    .push((removal.key, None, Some(removal.series)));
            }
            for assignment in added {
                let key = assignment.target.key.0;
                assert_eq!(shard_of(key, SHARDS), shard);
                let message = (key, Some(assignment.clone()), None);
                self.messages.push(message);
                if let Some((first, second)) = self.told.get_mut(&key)
                    && let Some(due) = second.take_if(|next| next.slots.from_ms <= now_ms)
                {
                    *first = due;
                }
                match self.told.get_mut(&key) {
                    Some((first, second))
                        if first.slots.until.as_ref().map(|until| until.at_ms)
                            == Some(assignment.slots.from_ms) =>
                    {
                        *second = Some(assignment);
                    }
                    _ => {
                        self.told.insert(key, (assignment, None));
                    }
                }
            }
        }
    }

    /// The settings by which a target's slot is scraped here.
    fn scrapes(&self, key: u64, slot_ms: i64) -> Vec<u64> {
        let Some((first, second)) = self.told.get(&key) else {
            return Vec::new();
        };
        let covers = |assignment: &&Assignment| {
            let until = assignment.slots.until.as_ref();
            assignment.slots.from_ms <= slot_ms && until.is_none_or(|until| slot_ms < until.at_ms)
        };
        let all = [Some(first), second.as_ref()].into_iter().flatten();
        all.filter(covers)
            .map(|assignment| settings_hash(&assignment.target.scrape_config))
            .collect()
    }

    fn versions(&self) -> Vec<JobVersion> {
        self.jobs.job_versions().to_vec()
    }
}

fn keys(version: usize) -> BTreeSet<u64> {
    let job = &config(version).scrape_configs[0];
    let built = crate::target::targets(job, &groups(TARGETS).groups);
    built.targets.iter().map(|target| target.key.0).collect()
}

/// What one node does at a change: whether it is active, and its settings from then on.
type Act = (bool, usize);

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// Nodes join, leave and change the job's settings at agreed times: at each slot time one node
    /// scrapes a target, the one that the view names, by the settings that it names.
    #[test]
    fn each_slot_is_scraped_once_by_the_settings_agreed_on(
        acts in prop::collection::vec(
            prop::array::uniform3((prop::bool::weighted(0.7), 0usize..3)), 1..6),
    ) {
        let start_ms = 1_000_000;
        let mut nodes = ["a", "b", "c"].map(|name| Node::new(name, 0, start_ms));
        let all_keys: [BTreeSet<u64>; 3] = [keys(0), keys(1), keys(2)];
        let mut views = vec![(0, view(&[("a", &nodes[0].versions())]))];
        for node in &mut nodes {
            node.timeline(views.clone(), start_ms);
        }
        let mut now_ms = start_ms;
        for acts in acts {
            // Some reload first; all agree on a time; all look again after it.
            now_ms += 4_000;
            let acts: [Act; 3] = acts;
            for (node, (_, version)) in nodes.iter_mut().zip(acts) {
                node.configure(version, now_ms);
            }
            let versions: Vec<_> = nodes.iter().map(Node::versions).collect();
            let mut members = Vec::new();
            for ((node, versions), (is_active, _)) in nodes.iter().zip(&versions).zip(acts) {
                if is_active {
                    members.push((node.name, &versions[..]));
                }
            }
            let switch_ms = now_ms + LEAD_MS;
            views.push((switch_ms, view(&members)));
            for node in &mut nodes {
                node.timeline(views.clone(), now_ms + 1);
            }
            let timeline = Timeline::new("".into(), views.clone());
            for slot_ms in [now_ms + 2, switch_ms - 1, switch_ms, switch_ms + LATE_MS,
                switch_ms + 900, switch_ms + 3_900]
            {
                if slot_ms == switch_ms + LATE_MS {
                    for node in &mut nodes {
                        node.timeline(views.clone(), slot_ms);
                    }
                }
                let view = timeline.view_at(slot_ms);
                let agreed = view.job(JobId::new("j")).map(|job| job.config_hash);
                for key in all_keys.iter().flatten() {
                    let mut scraped: Vec<_> = Vec::new();
                    for node in &nodes {
                        let by = node.scrapes(*key, slot_ms);
                        scraped.extend(by.into_iter().map(|by| (node.name, by)));
                    }
                    let has = (0..3).find(|version| Some(hash(*version)) == agreed);
                    let wanted = has.filter(|version| all_keys[*version].contains(key));
                    let owner = view
                        .owner(JobId::new("j"), ringscrape_cluster::TargetKey(*key))
                        .filter(|_| wanted.is_some());
                    let wanted: Vec<_> = owner.into_iter().zip(agreed).collect();
                    prop_assert_eq!(scraped, wanted, "at {} of {}", slot_ms, switch_ms);
                }
            }
            now_ms = switch_ms + 4_000;
            // Nothing is told twice.
            for node in &mut nodes {
                node.messages.clear();
                node.timeline(views.clone(), now_ms);
                node.discover(TARGETS, now_ms);
                prop_assert_eq!(node.messages.len(), 0);
            }
        }
    }
}

/// Two nodes that share the job, and the views they were told.
fn two_nodes() -> (Node, Node, Vec<(i64, Arc<View>)>) {
    let (mut a, mut b) = (Node::new("a", 0, 1_000), Node::new("b", 0, 1_000));
    let views = vec![(0, view(&[("a", &a.versions()), ("b", &b.versions())]))];
    a.timeline(views.clone(), 2_000);
    b.timeline(views.clone(), 2_000);
    assert_eq!(a.told.len() + b.told.len(), TARGETS);
    a.messages.clear();
    b.messages.clear();
    (a, b, views)
}

#[test]
fn a_join_moves_its_share_and_tells_no_more() {
    let (mut a, mut b, mut views) = two_nodes();
    let mut c = Node::new("c", 0, 3_000);
    assert!(c.told.is_empty());
    let (of_a, of_b, of_c) = (a.versions(), b.versions(), c.versions());
    let joined = view(&[("a", &of_a), ("b", &of_b), ("c", &of_c)]);
    views.push((10_000, joined));
    for node in [&mut a, &mut b, &mut c] {
        node.timeline(views.clone(), 7_000);
    }
    let moved = a.messages.len() + b.messages.len();
    assert_eq!(moved, c.told.len());
    assert!(moved > 0 && moved < TARGETS * 2 / 3);
    for (_, message, _) in a.messages.iter().chain(&b.messages) {
        let until = message.as_ref().unwrap().slots.until.clone().unwrap();
        assert_eq!(until.at_ms, 10_000);
        assert_eq!(until.series, Ending::Move(Some("c".into())));
    }
    assert!(
        c.told
            .values()
            .all(|(told, _)| { told.slots.from_ms == 10_000 && !told.slots.after_crash })
    );
    // The shards let go by themselves.
    let (had, moved) = (a.jobs.active_count(), a.messages.len());
    a.messages.clear();
    a.timeline(views.clone(), 10_001);
    assert!(a.messages.is_empty());
    assert_eq!(a.jobs.active_count(), had - moved);
    // It does not come after all: what was to go stays.
    let mut b_stays = views.clone();
    b_stays.pop();
    b.messages.clear();
    b.timeline(b_stays, 9_000);
    assert!(
        b.messages
            .iter()
            .all(|(_, message, _)| { message.as_ref().unwrap().slots.until.is_none() })
    );
}

#[test]
fn a_crash_is_taken_over_from_where_it_was() {
    let (mut a, b, mut views) = two_nodes();
    views.push((50_000, view(&[("a", &a.versions())])));
    a.timeline(views.clone(), 53_000);
    assert_eq!(a.messages.len(), b.told.len());
    for (_, message, _) in &a.messages {
        let slots = &message.as_ref().unwrap().slots;
        assert_eq!((slots.from_ms, slots.after_crash), (50_000, true));
    }
    // Told once: a change of something else does not count the missed slots again.
    a.messages.clear();
    a.route = Arc::new(Route {
        id: 2,
        endpoints: Box::default(),
    });
    a.configure(0, 54_000);
    assert_eq!(a.messages.len(), TARGETS);
    for (_, message, _) in &a.messages {
        assert!(!message.as_ref().unwrap().slots.after_crash);
    }
    // A node that has just come takes its share from now on: it cannot tell what was missed.
    let mut fresh = Node::new("a", 0, 60_000);
    fresh.timeline(views, 60_000);
    assert!(
        fresh
            .told
            .values()
            .all(|(told, _)| { (told.slots.from_ms, told.slots.after_crash) == (60_000, false) })
    );
}

#[test]
fn a_node_that_is_dead_for_the_others_lets_go_without_markers() {
    let (mut a, b, mut views) = two_nodes();
    let scraped = a.told.len();
    views.push((50_000, view(&[("b", &b.versions())])));
    a.timeline(views, 51_000);
    assert_eq!(a.messages.len(), scraped);
    assert!(
        a.messages
            .iter()
            .all(|(_, _, ending)| *ending == Some(Ending::Move(None)))
    );
    assert!(a.told.is_empty());
}

#[test]
fn what_discovery_loses_ends_where_it_is_scraped() {
    let (mut a, mut b, _) = two_nodes();
    for node in [&mut a, &mut b] {
        node.discover(TARGETS / 2, 3_000);
        assert!(
            node.messages
                .iter()
                .all(|(_, _, ending)| *ending == Some(Ending::End))
        );
    }
    assert_eq!(a.messages.len() + b.messages.len(), TARGETS / 2);
    a.messages.clear();
    a.discover(TARGETS, 4_000);
    let came: Vec<_> = a.messages.iter().collect();
    assert!(!came.is_empty());
    assert!(
        came.iter()
            .all(|(_, message, _)| message.as_ref().unwrap().slots.from_ms == 4_000)
    );
}

#[test]
fn targets_that_new_settings_lack_end_when_they_take_effect() {
    let (mut a, mut b, mut views) = two_nodes();
    let gone: BTreeSet<u64> = keys(0).difference(&keys(1)).copied().collect();
    for node in [&mut a, &mut b] {
        node.configure(1, 5_000);
        assert!(node.messages.is_empty(), "not yet in force");
    }
    views.push((9_000, view(&[("a", &a.versions()), ("b", &b.versions())])));
    let mut ended = BTreeSet::new();
    for node in [&mut a, &mut b] {
        node.timeline(views.clone(), 6_000);
        for (key, (first, second)) in &node.told {
            let until = first.slots.until.clone().unwrap();
            assert_eq!(until.at_ms, 9_000);
            if until.series == Ending::End {
                assert!(second.is_none());
                ended.insert(*key);
            } else {
                let second = second.as_ref().unwrap();
                assert_eq!(
                    (second.slots.from_ms, second.target.interval_ms),
                    (9_000, 30_000)
                );
            }
        }
    }
    assert_eq!(ended, gone);
}

#[test]
fn a_job_that_is_removed_everywhere_ends_and_one_that_stays_elsewhere_moves() {
    let (mut a, b, mut views) = two_nodes();
    let changes = a.jobs.apply(&[], 0, 5_000);
    a.take(changes, 5_000);
    assert!(a.messages.is_empty(), "the cluster still counts on it");
    assert!(a.versions().is_empty());
    let mut elsewhere = views.clone();
    elsewhere.push((9_000, view(&[("a", &[]), ("b", &b.versions())])));
    a.timeline(elsewhere, 6_000);
    let scraped = a.told.len();
    let series = |node: &Node| -> Vec<_> {
        let told = node.told.values();
        told.map(|(told, _)| told.slots.until.clone().unwrap().series)
            .collect()
    };
    assert_eq!(series(&a), vec![Ending::Move(Some("b".into())); scraped]);
    views.push((9_000, view(&[("a", &[]), ("b", &[])])));
    a.timeline(views.clone(), 7_000);
    assert_eq!(series(&a), vec![Ending::End; scraped]);
    a.messages.clear();
    a.timeline(views, 9_001);
    assert!(a.messages.is_empty());
    assert_eq!(a.jobs.figures().len(), 0);
}

#[test]
fn a_job_that_is_not_shared_is_each_nodes_own() {
    let mut a = Node::new("a", 3, 1_000);
    assert!(a.versions().is_empty());
    assert_eq!(a.told.len(), TARGETS);
    // Sharing it begins when the cluster has agreed on it, without a gap.
    a.configure(0, 2_000);
    let views = vec![(0, view(&[])), (6_000, view(&[("a", &a.versions())]))];
    assert_eq!(a.told.len(), TARGETS);
    a.timeline(views.clone(), 3_000);
    for key in keys(0) {
        assert_eq!(a.scrapes(key, 5_999), [hash(3)]);
        assert_eq!(a.scrapes(key, 6_000), [hash(0)]);
    }
    a.timeline(views, 6_001);
    assert!(a.told.values().all(|(told, _)| told.slots.until.is_some()));
    assert_eq!(a.jobs.active_count(), TARGETS);
}

#[test]
fn without_a_cluster_everything_is_scraped_from_now_on() {
    let mut a = Node::new("a", 0, 1_000);
    assert!(a.told.is_empty());
    let changes = a.jobs.set_timeline(None, 2_000);
    a.take(changes, 2_000);
    assert_eq!(a.told.len(), TARGETS);
    a.messages.clear();
    a.configure(1, 3_000);
    let ended = a.messages.iter().filter(|(_, _, ending)| ending.is_some());
    assert_eq!(ended.count(), keys(0).len() - keys(1).len());
    let changed = |(told, next): &(Assignment, Option<Assignment>)| {
        told.target.interval_ms == 30_000 && told.slots.until.is_none() && next.is_none()
    };
    assert!(a.told.values().all(changed));
}
