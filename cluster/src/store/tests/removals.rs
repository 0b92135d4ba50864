//! Removals against a plain model: members that are away for long, come anew, and have clocks that
//! are wrong by any time.

use super::*;
use std::ops::Range;

const DAY_MS: u64 = 24 * 60 * 60 * 1_000;
const LIFETIME_DAYS: u64 = REMOVAL_LIFETIME_MS / DAY_MS;
const MEMBERS: usize = 4;

#[derive(Debug, Clone)]
enum Event {
    /// A member that reaches a majority writes; what its clock says.
    Write {
        by: usize,
        name: u8,
        is_removal: bool,
        clock_ms: i64,
    },
    /// So many days pass with these members running and reaching each other.
    Pass { days: u64, running: Vec<bool> },
    /// A member comes back with an empty disk, when all are there.
    Renew(usize),
    /// The same, and it goes before it has a mark: cut off, or stopped.
    Visit { node: usize, is_stopped: bool },
}

fn event() -> impl Strategy<Value = Event> {
    // All but the year.
    let clock_ms = prop_oneof![
        Just(NOW_MS),
        -(REVISION_MAX as i64)..REVISION_MAX as i64,
        (0..400_i64).prop_map(|days| NOW_MS + days * DAY_MS as i64),
    ];
    prop_oneof![
        4 => (0..MEMBERS, 0..3_u8, any::<bool>(), clock_ms).prop_map(
            |(by, name, is_removal, clock_ms)| Event::Write { by, name, is_removal, clock_ms }
        ),
        4 => (1..45_u64, prop::collection::vec(prop::bool::weighted(0.8), MEMBERS))
            .prop_map(|(days, running)| Event::Pass { days, running }),
        1 => (0..MEMBERS).prop_map(Event::Renew),
        1 => (0..MEMBERS, any::<bool>())
            .prop_map(|(node, is_stopped)| Event::Visit { node, is_stopped }),
    ]
}

struct World {
    replicas: Vec<Replica>,
    running: Vec<bool>,
    /// Of each, its highest revision after it last caught up.
    touched: Vec<Option<u64>>,
    /// Texts by name, as confirmed.
    model: BTreeMap<Arc<str>, Option<u8>>,
    texts: u8,
    /// Days since each member last ran with a majority.
    away: Vec<u64>,
    /// Members that had to forget.
    forgot: usize,
}

impl World {
    fn new() -> Self {
        Self {
            replicas: (0..MEMBERS).map(replica).collect(),
            running: vec![true; MEMBERS],
            touched: vec![None; MEMBERS],
            model: BTreeMap::new(),
            texts: 0,
            away: vec![0; MEMBERS],
            forgot: 0,
        }
    }

    fn there(&self) -> Vec<usize> {
        let all: Range<usize> = 0..MEMBERS;
        all.filter(|node| self.running[*node]).collect()
    }

    fn has_majority(&self) -> bool {
        self.there().len() * 2 > MEMBERS
    }

    /// Two members compare until they are equal; who is stale forgets.
    fn compare(&mut self, a: usize, b: usize) {
        for (a, b) in [(a, b), (b, a)] {
            let marks = [a, b].map(|node| self.replicas[node].past().mark);
            let (mut one, mut other) = (self.replicas[a].clone(), self.replicas[b].clone());
            sync(&mut one, &mut other);
            (self.replicas[a], self.replicas[b]) = (one, other);
            for (node, mark) in [(a, marks[0]), (b, marks[1])] {
                // A mark of 0 says that it is not known.
                let had_mark = mark.is_some_and(|mark| mark > 0);
                if had_mark && self.replicas[node].past().mark.is_none() {
                    assert!(self.away[node] >= LIFETIME_DAYS - 2, "{}", self.away[node]);
                    self.touched[node] = None;
                    self.forgot += 1;
                }
            }
        }
    }

    /// A day: all that are there catch up with all others, twice as in a moment, and time passes.
    fn pass(&mut self) {
        let there = self.there();
        if !self.has_majority() {
            self.away.iter_mut().for_each(|days| *days += 1);
            return;
        }
        for round in 0..2 {
            for &node in &there {
                for &other in there.iter().filter(|other| **other != node) {
                    self.compare(node, other);
                }
                let elapsed_ms = if round == 0 { 0 } else { DAY_MS };
                if let Some(touched) = self.touched[node] {
                    self.replicas[node].in_touch(touched, elapsed_ms);
                }
                self.touched[node] = Some(self.replicas[node].revision());
            }
        }
        for node in 0..MEMBERS {
            self.away[node] = match there.contains(&node) {
                true => 0,
                false => self.away[node] + 1,
            };
        }
        self.check(&there);
    }

    fn check(&self, there: &[usize]) {
        for &node in there {
            for (name, text) in &self.model {
                let entry = self.replicas[node].get(name);
                let content = entry.and_then(|entry| entry.content.as_ref());
                let found = content.map(|content| content.text.to_string());
                assert_eq!(found, text.map(|text| text.to_string()), "{node}: {name}");
            }
        }
    }

    fn write(&mut self, by: usize, name: u8, is_removal: bool, clock_ms: i64) {
        let there = self.there();
        if !self.has_majority() || !there.contains(&by) {
            return;
        }
        there.iter().for_each(|other| {
            if *other != by {
                self.compare(by, *other);
            }
        });
        self.texts = self.texts.wrapping_add(1);
        let text = (!is_removal).then_some(self.texts);
        let mut new = (*entry(name, 1, 0, text)).clone();
        let own = &self.replicas[by];
        new.version = own.next_version();
        new.written_ms = clock_ms;
        new.knows = own
            .get(&new.name)
            .map_or_else(Vec::new, |one| one.known_by_next());
        self.model.insert(new.name.clone(), text);
        let new = Arc::new(new);
        for node in there {
            merge(&mut self.replicas[node], std::slice::from_ref(&new));
        }
    }

    /// A member comes with an empty disk, takes all, and goes.
    fn visit(&mut self, node: usize, is_stopped: bool) {
        self.running = vec![true; MEMBERS];
        self.pass();
        self.replicas[node] = replica(node);
        self.touched[node] = None;
        for other in (0..MEMBERS).filter(|other| *other != node) {
            self.compare(node, other);
        }
        if is_stopped {
            // Its file has the entries only.
            let held: Vec<Held> = self.replicas[node].all_held().collect();
            self.replicas[node] = replica(node);
            let past = Past {
                mark: (!held.is_empty()).then_some(0),
                ..Past::default()
            };
            self.replicas[node].recall(past);
            merge_held(&mut self.replicas[node], held);
        }
        self.running[node] = false;
    }

    fn removals(&self) -> usize {
        let all = self.replicas.iter().flat_map(Replica::entries);
        all.filter(|entry| entry.content.is_none()).count()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Who was not away for long never has to forget, whatever any clock says; nothing that was
    /// removed comes back, and nothing that was stored goes.
    #[test]
    fn removals_hold_and_are_forgotten_without_clocks(
        events in prop::collection::vec(event(), 1..20)
    ) {
        let mut world = World::new();
        for event in events {
            match event {
                Event::Write { by, name, is_removal, clock_ms } => {
                    world.write(by, name, is_removal, clock_ms);
                }
                Event::Pass { days, running } => {
                    world.running = running;
                    (0..days).for_each(|_| world.pass());
                }
                Event::Visit { node, is_stopped } => world.visit(node, is_stopped),
                Event::Renew(node) => {
                    world.running = vec![true; MEMBERS];
                    world.pass();
                    world.replicas[node] = replica(node);
                    world.touched[node] = None;
                    world.pass();
                }
            }
        }
        world.running = vec![true; MEMBERS];
        world.pass();
        // How old a removal is does not begin anew: not even with a new member each ten days.
        for days in 0..2 * LIFETIME_DAYS {
            if days % 10 == 0 {
                let node = (days / 10) as usize % MEMBERS;
                world.replicas[node] = replica(node);
                world.touched[node] = None;
            }
            world.pass();
        }
        prop_assert_eq!(world.removals(), 0);
        for node in 1..MEMBERS {
            let (one, other) = (&world.replicas[0], &world.replicas[node]);
            prop_assert_eq!(one.differences(&other.digest()), None);
        }
    }
}

#[test]
fn who_was_away_for_too_long_forgets() {
    let mut world = World::new();
    world.write(0, 0, false, NOW_MS);
    world.pass();
    world.running = vec![true, true, true, false];
    world.write(1, 0, true, REVISION_MAX as i64);
    (0..LIFETIME_DAYS + 3).for_each(|_| world.pass());
    assert_eq!(world.replicas[0].entries().count(), 0, "it is forgotten");
    assert_eq!(world.replicas[3].entries().count(), 1, "it was not told");
    world.running = vec![true; MEMBERS];
    world.pass();
    assert_eq!(world.forgot, 1);
    assert!(world.replicas.iter().all(|one| one.entries().count() == 0));
}

#[test]
fn what_is_forgotten_does_not_come_back_through_who_has_no_mark() {
    for is_stopped in [false, true] {
        let mut world = World::new();
        world.write(0, 0, false, NOW_MS);
        world.visit(3, is_stopped);
        world.write(1, 0, true, NOW_MS);
        (0..LIFETIME_DAYS + 3).for_each(|_| world.pass());
        assert_eq!(world.replicas[0].entries().count(), 0, "it is forgotten");
        assert_eq!(world.replicas[3].entries().count(), 1, "it was not told");
        // One that is new meets it first.
        world.replicas[2] = replica(2);
        world.touched[2] = None;
        world.running = vec![true; MEMBERS];
        world.compare(2, 3);
        world.pass();
        assert!(world.replicas.iter().all(|one| one.entries().count() == 0));
    }
}

#[test]
fn old_removals_are_of_use_but_not_told_again() {
    let (mut one, mut other) = (replica(0), replica(1));
    let old = entry(1, 10, 0, Some(1));
    let removal = entry(1, 20, 0, None);
    merge(&mut one, std::slice::from_ref(&removal));
    one.in_touch(20, REMOVAL_LIFETIME_MS - 1);
    assert_eq!(one.differences(&other.digest()), None);
    merge(&mut other, std::slice::from_ref(&old));
    assert!(sync(&mut other, &mut one));
    assert_eq!(
        all(&other),
        std::slice::from_ref(&removal),
        "it came with its age"
    );
    one.in_touch(20, 1);
    other.in_touch(20, 1);
    assert_eq!((all(&one).len(), all(&other).len()), (0, 0));
    assert!(
        one.judge(vec![Held {
            entry: removal,
            age_ms: REMOVAL_LIFETIME_MS
        }])
        .taken
        .is_empty()
    );
}
