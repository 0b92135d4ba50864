//! Replicas against a plain model: any order, any number of times, partitions, lost nodes.

mod removals;

use super::*;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

const NOW_MS: i64 = 1_700_000_000_000;

fn entry(name: u8, revision: u64, node: u8, text: Option<u8>) -> Arc<Entry> {
    Arc::new(Entry {
        name: format!("n{name}").into(),
        version: Version {
            revision,
            node: format!("node-{node}").into(),
        },
        knows: Vec::new(),
        written_ms: NOW_MS,
        content: text.map(|text| Content {
            text: format!("{text}").into(),
            managed_by: String::new(),
            changed_by: String::new(),
            changed_ms: 0,
        }),
    })
}

fn any_entry() -> impl Strategy<Value = Arc<Entry>> {
    let text = prop::option::of(0..3_u8);
    (0..4_u8, 1..5_u64, 0..3_u8, text)
        .prop_map(|(name, revision, node, text)| entry(name, revision, node, text))
}

fn merge(replica: &mut Replica, entries: &[Arc<Entry>]) {
    merge_held(replica, held(entries));
}

fn merge_held(replica: &mut Replica, held: Vec<Held>) {
    let verdict = replica.judge(held);
    replica.take(&verdict);
}

fn held(entries: &[Arc<Entry>]) -> Vec<Held> {
    entries.iter().cloned().map(Held::from).collect()
}

fn all(replica: &Replica) -> Vec<Arc<Entry>> {
    replica.entries().cloned().collect()
}

/// Members without what no majority needs.
fn known(counted: &[&str], others: &[&str]) -> Members {
    let names = |names: &[&str]| names.iter().map(|name| Arc::from(*name)).collect();
    Members {
        counted: names(counted),
        living: names(counted),
        present: counted.len(),
        others: others.iter().map(|name| Arc::from(*name)).collect(),
        left: BTreeSet::new(),
    }
}

#[test]
fn who_is_started_alone_does_not_take_itself_for_all() {
    let me: Arc<str> = "a".into();
    let mut remembered = Remembered::default();
    let mut three = known(&["a", "b", "c"], &["b", "c"]);
    assert!(remembered.complete(&mut three, &me, NOW_MS));
    assert!(!remembered.complete(&mut three, &me, NOW_MS + 5));
    assert_eq!(three, known(&["a", "b", "c"], &["b", "c"]), "nothing new");
    // After a start, with nobody there.
    let mut again = Remembered::of(&remembered.list());
    let mut alone = known(&["a"], &[]);
    again.complete(&mut alone, &me, NOW_MS + 10);
    assert_eq!((alone.counted.len(), alone.present), (3, 1));
    assert!(!alone.is_majority_present());
    let mut two = known(&[], &["b"]); // It has not joined yet.
    again.complete(&mut two, &me, NOW_MS + 20);
    assert_eq!((two.counted.len(), two.present), (3, 2));
    assert!(two.is_majority_present());
    // One leaves by plan, the other one stays away; a clock that was ahead counts as right.
    let mut left = known(&["a"], &[]);
    left.left.insert("b".into());
    assert!(again.complete(&mut left, &me, NOW_MS - 1_000));
    assert_eq!((left.counted.len(), left.present), (2, 1));
    let mut later = known(&["a"], &[]);
    assert!(again.complete(&mut later, &me, NOW_MS + MEMORY_MS));
    assert_eq!((later.counted.len(), later.present), (1, 1));
}

fn replica(node: usize) -> Replica {
    Replica::new(format!("node-{node}").into())
}

proptest! {
    #[test]
    fn merging_is_commutative_associative_and_idempotent(
        a in prop::collection::vec(any_entry(), 0..8),
        b in prop::collection::vec(any_entry(), 0..8),
        c in prop::collection::vec(any_entry(), 0..8),
    ) {
        let merged = |parts: &[&[Arc<Entry>]]| {
            let mut replica = replica(0);
            for part in parts {
                merge(&mut replica, part);
            }
            all(&replica)
        };
        let ab_c = merged(&[&a, &b, &c]);
        prop_assert_eq!(&merged(&[&c, &b, &a]), &ab_c);
        prop_assert_eq!(&merged(&[&b, &a, &a, &c, &b]), &ab_c);
        let bc = merged(&[&b, &c]);
        prop_assert_eq!(&merged(&[&a, &bc]), &ab_c);
        let together: Vec<_> = [a, b, c].concat();
        prop_assert_eq!(&merged(&[&together]), &ab_c);
        // The model: of each name the highest version.
        for name in together.iter().map(|entry| &entry.name) {
            let of_name = together.iter().filter(|entry| entry.name == *name);
            let highest = of_name.map(|entry| &entry.version).max().unwrap();
            let kept = ab_c.iter().find(|entry| entry.name == *name).unwrap();
            prop_assert_eq!(&kept.version, highest);
        }
    }

    #[test]
    fn two_that_exchange_have_the_same(
        a in prop::collection::vec(any_entry(), 0..12),
        b in prop::collection::vec(any_entry(), 0..12),
    ) {
        let (mut one, mut other) = (replica(0), replica(1));
        merge(&mut one, &a);
        merge(&mut other, &b);
        let mut model = one.clone();
        merge(&mut model, &all(&other));
        prop_assert!(sync(&mut one, &mut other));
        prop_assert_eq!(all(&one), all(&model));
        prop_assert_eq!(all(&other), all(&model));
        prop_assert_eq!(one.differences(&other.digest()), None);
    }

    #[test]
    fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
        for start in [&[][..], &[TAG, 2]] {
            let bytes = [start, &bytes].concat();
            let _ = (Question::read(&bytes), Answer::read(&bytes));
        }
    }
}

/// As two members do it, by their messages. Whether they ended equal.
fn sync(one: &mut Replica, other: &mut Replica) -> bool {
    for _ in 0..20 {
        let question = Question::Compare(one.digest()).write();
        let Some(Question::Compare(digest)) = Question::read(&question) else {
            return false;
        };
        match other.meet(&digest) {
            Meeting::Good => {}
            Meeting::TheyAreStale => {
                *one = Replica::new(one.me().clone());
                continue;
            }
            Meeting::WeAreStale => return false,
        }
        let Some(known) = other.differences(&digest) else {
            return true;
        };
        let answer = Answer::Different {
            digest: other.digest(),
            known,
        };
        let Some(Answer::Different { digest, known }) = Answer::read(&answer.write()) else {
            return false;
        };
        match one.meet(&digest) {
            Meeting::Good => {}
            Meeting::WeAreStale => {
                *one = Replica::new(one.me().clone());
                continue;
            }
            Meeting::TheyAreStale => return false,
        }
        let exchange = one.exchange(&digest, &known);
        if exchange == Exchange::default() {
            return true;
        }
        if other.finds_stale(one.past().mark, &exchange.entries) {
            *one = Replica::new(one.me().clone());
            continue;
        }
        merge_held(other, exchange.entries);
        let told = exchange.wanted.iter().filter_map(|name| other.held(name));
        merge_held(one, told.collect());
    }
    false
}

/// What a node that has an entry writes after it.
fn next(entry: &Entry, revision: u64, node: u8, text: Option<u8>) -> Arc<Entry> {
    let mut next = (*self::entry(1, revision, node, text)).clone();
    next.knows = entry.known_by_next();
    Arc::new(next)
}

#[test]
fn only_writers_that_do_not_know_of_each_other_are_reported() {
    let mut replica = replica(0);
    let first = entry(1, 10, 0, Some(1));
    merge(&mut replica, std::slice::from_ref(&first));
    let second = next(&first, 20, 1, Some(2));
    // One that was made after another one that never came here.
    let fourth = next(&next(&second, 30, 2, Some(3)), 40, 1, None);
    for entry in [&second, &fourth] {
        let verdict = replica.judge(held(std::slice::from_ref(entry)));
        assert_eq!((verdict.taken.len(), verdict.lost.len()), (1, 0));
        assert!(replica.take(&verdict).is_empty());
    }
    // Of the same time as `second`: it loses, and is reported once.
    let rival = next(&first, 35, 2, Some(3));
    for times in [1, 0] {
        let verdict = replica.judge(held(std::slice::from_ref(&rival)));
        assert!(verdict.taken.is_empty() && verdict.beaten.len() == 1);
        let lost = replica.take(&verdict);
        assert_eq!(lost.len(), times);
        assert!(lost.iter().all(|lost| lost.loser == rival));
    }
}

#[test]
fn a_loser_is_reported_also_if_the_other_side_wrote_twice() {
    let mut replica = replica(0);
    let rival = entry(1, 15, 0, Some(1));
    merge(&mut replica, std::slice::from_ref(&rival));
    let first = entry(1, 20, 1, Some(2));
    let second = next(&first, 30, 1, Some(3));
    let verdict = replica.judge(held(std::slice::from_ref(&second)));
    let lost = replica.take(&verdict);
    assert_eq!(lost.len(), 1);
    assert_eq!((&lost[0].loser, &lost[0].winner), (&rival, &second));
}

proptest! {
    /// Two sides write, each after some of what there is; the model keeps all ancestors.
    #[test]
    fn who_knew_of_whom_is_known_exactly(
        writes in prop::collection::vec((0..12_u8, any::<prop::sample::Index>()), 1..30)
    ) {
        let mut all: Vec<(Arc<Entry>, BTreeSet<usize>)> = Vec::new();
        for (at, (node, after)) in writes.into_iter().enumerate() {
            // A node knows of its own last write, and may have seen a later one.
            let name = format!("node-{node}");
            let own = all.iter().rposition(|(entry, _)| *entry.version.node == *name);
            let seen = after.index(all.len() + 1).checked_sub(1);
            let before = own.max(seen);
            let knows_own = own.is_none_or(|own| before.is_some_and(|before| {
                before == own || all[before].1.contains(&own)
            }));
            if !knows_own {
                continue;
            }
            let revision = 10 * (at as u64 + 1);
            let (made, mut ancestors) = match before {
                None => (entry(1, revision, node, Some(0)), BTreeSet::new()),
                Some(before) => {
                    let (entry, ancestors) = &all[before];
                    (next(entry, revision, node, Some(0)), ancestors.clone())
                }
            };
            ancestors.extend(before);
            prop_assert!(made.is_sound());
            for (other, (entry, _)) in all.iter().enumerate() {
                prop_assert_eq!(made.is_unaware_of(entry), !ancestors.contains(&other));
            }
            all.push((made, ancestors));
        }
    }
}

#[test]
fn a_batch_is_exchanged_as_a_whole() {
    let text = "x".repeat(1 << 20);
    let of_batch = |batch: u64, name: u64| {
        let mut entry = (*entry(0, batch, 0, Some(0))).clone();
        entry.name = format!("{batch}-{name}").into();
        if let Some(content) = &mut entry.content {
            content.text = text.clone().into();
        }
        Arc::new(entry)
    };
    let entries = (1..=4).flat_map(|batch| (0..3).map(move |name| (batch, name)));
    let entries: Vec<_> = entries.map(|(batch, name)| of_batch(batch, name)).collect();
    let (mut one, mut other) = (replica(0), replica(1));
    merge(&mut one, &entries);
    for is_push in [true, false] {
        let exchange = match is_push {
            true => one.exchange(&other.digest(), &[]),
            false => {
                let known = one.differences(&other.digest()).unwrap();
                other.exchange(&one.digest(), &known)
            }
        };
        let count = exchange.entries.len() + exchange.wanted.len();
        assert_eq!(count, 6, "two batches of three: four are too large");
    }
    assert!(sync(&mut one, &mut other));
}

/// What happens in a cluster.
#[derive(Debug, Clone)]
enum Step {
    /// A member writes names; it first compares with whom it reaches.
    Write {
        by: usize,
        names: Vec<u8>,
        is_removal: bool,
    },
    /// From now on members reach only those of their own side.
    Split(Vec<bool>),
    Heal,
    /// Two members compare.
    Sync(usize, usize),
    /// A member loses its disk.
    Lose(usize),
}

const NODES: usize = 5;

fn step() -> impl Strategy<Value = Step> {
    let names = prop::collection::btree_set(0..4_u8, 1..3);
    prop_oneof![
        6 => (0..NODES, names, prop::bool::weighted(0.3)).prop_map(|(by, names, is_removal)| {
            Step::Write { by, names: names.into_iter().collect(), is_removal }
        }),
        2 => prop::collection::vec(any::<bool>(), NODES).prop_map(Step::Split),
        1 => Just(Step::Heal),
        3 => (0..NODES, 0..NODES).prop_map(|(a, b)| Step::Sync(a, b)),
        1 => (0..NODES).prop_map(Step::Lose),
    ]
}

struct Cluster {
    replicas: Vec<Replica>,
    sides: Vec<bool>,
    members: Members,
    /// By name the highest version that was confirmed.
    confirmed: BTreeMap<Arc<str>, Version>,
    written: Vec<Arc<Entry>>,
    texts: u8,
    losses: usize,
}

impl Cluster {
    fn reaches(&self, a: usize, b: usize) -> bool {
        self.sides[a] == self.sides[b]
    }

    fn sync(&mut self, a: usize, b: usize) -> bool {
        if a == b || !self.reaches(a, b) {
            return a == b;
        }
        let (mut one, mut other) = (self.replicas[a].clone(), self.replicas[b].clone());
        assert!(sync(&mut one, &mut other));
        (self.replicas[a], self.replicas[b]) = (one, other);
        true
    }

    /// Compares with all that are reached. Whether they are a majority.
    fn catch_up(&mut self, by: usize) -> bool {
        let mut ballot = self.members.ballot();
        for node in 0..NODES {
            if self.sync(by, node) {
                ballot.give(&format!("node-{node}").into());
            }
        }
        ballot.is_won()
    }

    fn write(&mut self, by: usize, names: &[u8], is_removal: bool) {
        if !self.catch_up(by) {
            return;
        }
        self.check_confirmed(by);
        let version = self.replicas[by].next_version();
        let mut entries = Vec::new();
        for name in names {
            self.texts = self.texts.wrapping_add(1);
            let text = (!is_removal).then_some(self.texts);
            let mut new = (*entry(*name, 1, 0, text)).clone();
            new.version = version.clone();
            let former = self.replicas[by].get(&new.name);
            new.knows = former.map_or_else(Vec::new, |one| one.known_by_next());
            entries.push(Arc::new(new));
        }
        let mut ballot = self.members.ballot();
        for node in 0..NODES {
            if self.reaches(by, node) {
                merge(&mut self.replicas[node], &entries);
                ballot.give(&format!("node-{node}").into());
            }
        }
        if ballot.is_won() {
            for entry in &entries {
                self.confirmed.insert(entry.name.clone(), version.clone());
            }
        }
        self.written.extend(entries);
    }

    /// A member that has caught up with a majority has all that was confirmed.
    fn check_confirmed(&self, node: usize) {
        for (name, version) in &self.confirmed {
            let kept = self.replicas[node].get(name);
            assert!(kept.is_some_and(|kept| kept.version >= *version), "{name}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn what_a_majority_confirmed_is_never_lost_and_all_end_equal(
        steps in prop::collection::vec(step(), 1..40)
    ) {
        let names = (0..NODES).map(|node| Arc::from(format!("node-{node}")));
        let mut cluster = Cluster {
            replicas: (0..NODES).map(replica).collect(),
            sides: vec![true; NODES],
            members: Members { counted: names.collect(), present: NODES, ..Members::default() },
            confirmed: BTreeMap::new(),
            written: Vec::new(),
            texts: 0,
            losses: 0,
        };
        for step in steps {
            match step {
                Step::Write { by, names, is_removal } => cluster.write(by, &names, is_removal),
                Step::Split(sides) => cluster.sides = sides,
                Step::Heal => cluster.sides = vec![true; NODES],
                Step::Sync(a, b) => {
                    cluster.sync(a, b);
                }
                // One disk of five: a majority had it, so others have it still.
                Step::Lose(node) if cluster.losses == 0 && cluster.sides == [true; NODES] => {
                    cluster.losses += 1;
                    cluster.replicas[node] = replica(node);
                    cluster.catch_up(node);
                }
                Step::Lose(_) => {}
            }
        }
        cluster.sides = vec![true; NODES];
        prop_assert!(cluster.catch_up(0));
        for node in 1..NODES {
            cluster.sync(node, 0);
        }
        let first = all(&cluster.replicas[0]);
        for node in 0..NODES {
            prop_assert_eq!(&all(&cluster.replicas[node]), &first);
            cluster.check_confirmed(node);
        }
        // The model: the highest version of each name that was ever written.
        let mut highest: BTreeMap<Arc<str>, Arc<Entry>> = BTreeMap::new();
        for entry in &cluster.written {
            let known = highest.entry(entry.name.clone()).or_insert_with(|| entry.clone());
            if entry.version > known.version {
                *known = entry.clone();
            }
        }
        let expected: Vec<_> = highest.into_values().collect();
        prop_assert_eq!(first, expected);
    }
}

#[test]
fn a_majority_is_more_than_half_of_those_that_count() {
    for (count, needed) in [(1, 1), (2, 2), (3, 2), (4, 3), (5, 3)] {
        let counted: BTreeSet<Arc<str>> = (0..count).map(|n| Arc::from(format!("{n}"))).collect();
        let members = Members {
            counted,
            present: needed - 1,
            ..Members::default()
        };
        assert_eq!(members.majority(), needed);
        assert!(!members.is_majority_present());
        let mut ballot = members.ballot();
        ballot.give(&"stranger".into());
        for n in 0..needed {
            assert!(!ballot.is_won(), "{}", ballot.score());
            ballot.give(&format!("{n}").into());
            ballot.give(&format!("{n}").into());
        }
        assert!(ballot.is_won(), "{}", ballot.score());
    }
    assert!(!Members::default().ballot().is_won(), "nobody counts");
    assert!(!Members::default().is_majority_present());
}
