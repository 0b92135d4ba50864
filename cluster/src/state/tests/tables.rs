//! Tables by themselves: merging depends neither on order nor on repetition.

use super::network::START_MS;
use super::own;
use crate::exchange::{Body, Frame};
use crate::limits::{
    CRASHES_MAX, DELTA_BYTES_MAX, FIRST_FRAME_BYTES_MAX, FRAME_BYTES_MAX, HEAVY_MAX, JOBS_MAX,
    MEMBERS_MAX, NUMBER_MAX, TEXT_BYTES_MAX, WEIGHT_MAX,
};
use crate::member::{Founder, HeavyTarget, JobId, JobVersion, Member, Planned, Stage};
use crate::name::NAME_BYTES_MAX;
use crate::now::Now;
use crate::packet::OVERHEAD_BYTES;
use crate::state::State;
use crate::state::messages::{Cluster, Crash, Delta, Known, Part, Side, Sketch};
use crate::state::table::{KEEP_MS, Put, Table};
use proptest::prelude::*;
use std::sync::Arc;

const FOUNDER: Founder = Founder {
    founded_ms: START_MS,
    id: 1,
};
const NOW: Now = Now {
    unix_ms: START_MS,
    monotonic_ms: 1,
};
const CLUSTER: Cluster = Cluster {
    founder: FOUNDER,
    size_class: 0,
};

fn members() -> impl Strategy<Value = Member> {
    let parts = ("[a-d]", 0u64..3, 0u64..3, any::<bool>(), 0u32..2);
    parts.prop_map(|(name, incarnation, version, is_active, weight)| Member {
        name: name.as_str().into(),
        incarnation,
        version,
        founder: FOUNDER,
        gossip_address: ([127, 0, 0, 1], 1).into(),
        http_address: "".into(),
        zone: "".into(),
        software: "".into(),
        now: Stage {
            from_ms: START_MS,
            is_active,
            weight,
            jobs: [].into(),
            heavy: [].into(),
        },
        next: None,
    })
}

fn crashes() -> impl Strategy<Value = Crash> {
    let parts = ("[a-d]", 0u64..3, "[a-d]", 0u64..2, 0i64..40);
    parts.prop_map(|(name, incarnation, by, by_incarnation, ms)| Crash {
        name: name.as_str().into(),
        incarnation,
        until_ms: START_MS + ms,
        made_ms: START_MS + ms / 2,
        by: by.as_str().into(),
        by_incarnation,
        side: Side {
            members: 2,
            lowest: by.as_str().into(),
        },
    })
}

#[derive(Debug, Clone)]
enum Entry {
    Member(Arc<Member>),
    Crash(Arc<Crash>),
}

fn entries() -> impl Strategy<Value = Vec<Entry>> {
    let entry = prop_oneof![
        members().prop_map(|member| Entry::Member(Arc::new(member))),
        crashes().prop_map(|crash| Entry::Crash(Arc::new(crash))),
    ];
    prop::collection::vec(entry, 0..60)
}

fn put_all<'a>(table: &mut Table, entries: impl IntoIterator<Item = &'a Entry>) {
    for entry in entries {
        match entry {
            Entry::Member(member) => table.put(member.clone(), START_MS) != Put::Known,
            Entry::Crash(crash) => table.put_crash(crash.clone(), START_MS),
        };
    }
}

fn contents(table: &Table) -> (Vec<Member>, Vec<Crash>) {
    let members = table.members().map(|member| (**member).clone());
    let crashes = table.crashes().map(|crash| (**crash).clone());
    (members.collect(), crashes.collect())
}

/// One exchange; returns whether it carried anything.
fn exchange(asker: &mut Table, answerer: &mut Table) -> bool {
    if asker.digest() == answerer.digest() {
        return false;
    }
    let part = answerer.part(&asker.sketch());
    let (delta, wants) = asker.counter(CLUSTER, &part);
    let is_news = !delta.is_nothing();
    take(answerer, delta);
    let delta = answerer.wanted(CLUSTER, &wants);
    let is_news = is_news || !delta.is_nothing();
    take(asker, delta);
    is_news
}

fn take(table: &mut Table, delta: Delta) {
    put_all(
        table,
        &delta
            .members
            .into_iter()
            .map(Entry::Member)
            .collect::<Vec<_>>(),
    );
    put_all(
        table,
        &delta
            .crashes
            .into_iter()
            .map(Entry::Crash)
            .collect::<Vec<_>>(),
    );
}

proptest! {
    #[test]
    fn order_and_repetition_change_nothing(
        entries in entries(),
        again in prop::collection::vec(any::<prop::sample::Index>(), 0..20),
        shuffled in any::<u64>(),
    ) {
        let mut a = Table::default();
        put_all(&mut a, &entries);
        let mut other = entries.clone();
        if !entries.is_empty() {
            other.extend(again.iter().map(|index| entries[index.index(entries.len())].clone()));
        }
        // Any order: by a hash of the place.
        let mut places: Vec<usize> = (0..other.len()).collect();
        places.sort_by_key(|place| (*place as u64 ^ shuffled).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mut b = Table::default();
        put_all(&mut b, places.iter().map(|place| &other[*place]));
        prop_assert_eq!(contents(&a), contents(&b));
        prop_assert_eq!(a.digest(), b.digest());
    }

    #[test]
    fn one_exchange_makes_tables_equal(left in entries(), right in entries()) {
        let (mut a, mut b) = (Table::default(), Table::default());
        put_all(&mut a, &left);
        put_all(&mut b, &right);
        let mut both = Table::default();
        put_all(&mut both, left.iter().chain(&right));
        exchange(&mut a, &mut b);
        prop_assert_eq!(contents(&a), contents(&both));
        prop_assert_eq!(contents(&b), contents(&both));
        prop_assert_eq!(a.digest(), b.digest());
        prop_assert!(!exchange(&mut a, &mut b));
        let different = contents(&Table::default()) != contents(&a);
        prop_assert_eq!(different, a.digest() != 0);
    }

    /// What was forgotten is not taken in again; what is dead stays dead as long as it is known.
    #[test]
    fn nothing_comes_back(entries in entries(), after_ms in 0..30 * KEEP_MS) {
        let now_ms = START_MS + after_ms;
        let mut table = Table::default();
        put_all(&mut table, &entries);
        let old = contents(&table);
        table.forget("me", now_ms);
        let mut left = contents(&table);
        left.1.sort_by_key(|crash| format!("{crash:?}"));
        for member in &old.0 {
            table.put(Arc::new(member.clone()), now_ms);
            let is_gone = !left.0.contains(member);
            let of_dead = old.1.iter().any(|c| {
                c.name == member.name && c.incarnation == member.incarnation
            });
            let is_back = table.member(&member.name).is_some_and(|have| **have == *member);
            prop_assert!(!is_gone || !is_back || of_dead && member.now.is_active);
        }
        let mut table = Table::default();
        put_all(&mut table, &entries);
        table.forget("me", now_ms);
        for crash in &old.1 {
            table.put_crash(Arc::new(crash.clone()), now_ms);
        }
        let mut again = contents(&table);
        again.1.sort_by_key(|crash| format!("{crash:?}"));
        prop_assert_eq!(again, left);
    }
}

/// Entries of the largest size: together more than a frame takes. Each exchange carries a part.
#[test]
fn a_table_larger_than_a_frame_goes_in_parts() {
    let job = |n: usize| JobVersion {
        job: JobId(u64::MAX - JOBS_MAX as u64 + n as u64),
        config_hash: u64::MAX,
        since_ms: NUMBER_MAX as i64,
    };
    let heavy = |n: usize| HeavyTarget {
        zone: crate::member::ZoneId(u64::MAX),
        replica: crate::Replica {
            index: u8::MAX,
            count: u8::MAX,
        },
        job: JobId(u64::MAX),
        key: u64::MAX - HEAVY_MAX as u64 + n as u64,
        samples_per_s: u32::MAX,
    };
    let stage = Stage {
        from_ms: START_MS,
        is_active: true,
        weight: WEIGHT_MAX,
        jobs: (0..JOBS_MAX).map(job).collect(),
        heavy: (0..HEAVY_MAX).map(heavy).collect(),
    };
    let (mut a, mut b) = (Table::default(), Table::default());
    for n in 0..16 {
        let name = format!("{n:0width$}", width = NAME_BYTES_MAX);
        let member = Member {
            name: name.as_str().into(),
            incarnation: 1,
            version: 1,
            founder: FOUNDER,
            gossip_address: ([127, 0, 0, 1], 1).into(),
            http_address: "h".repeat(TEXT_BYTES_MAX).into(),
            zone: name.as_str().into(),
            software: name.as_str().into(),
            now: stage.clone(),
            next: Some(Planned {
                stage: stage.clone(),
                is_agreed: true,
                proposed_ms: START_MS,
            }),
        };
        a.put(Arc::new(member), START_MS);
    }
    let mut exchanges = 0;
    while a.digest() != b.digest() {
        exchanges += 1;
        assert!(exchanges < 40);
        let part = b.part(&a.sketch());
        let (delta, wants) = a.counter(CLUSTER, &part);
        let summary = State::new(own("x"), NOW).summary(None, NOW);
        let body = Body::Counter(summary, delta.clone(), wants);
        let frame = Frame {
            asker: u64::MAX,
            answerer: u64::MAX,
            body,
        };
        let plain = frame.write();
        assert!(
            plain.len() + OVERHEAD_BYTES <= FRAME_BYTES_MAX,
            "{}",
            plain.len()
        );
        assert_eq!(Frame::read(&plain), Ok(frame));
        take(&mut b, delta);
    }
    assert!(exchanges > 4, "one frame took all");
}

/// As many members and crash entries as there may be: what is listed of them fits, too.
#[test]
fn a_table_with_all_there_may_be_can_be_told() {
    let known = |place| Known {
        place,
        incarnation: NUMBER_MAX,
        version: NUMBER_MAX,
        hash: u64::MAX,
    };
    let top = u64::MAX - 100_000;
    let part = Part {
        differs: vec![u8::MAX; 32],
        members: (0..MEMBERS_MAX as u64).map(|n| known(top + n)).collect(),
        crashes: (0..CRASHES_MAX as u64).map(|n| top + n).collect(),
    };
    let summary = State::new(own("x"), NOW).summary(None, NOW);
    let nothing = Delta::nothing(Some(CLUSTER));
    let frame = Frame {
        asker: u64::MAX,
        answerer: u64::MAX,
        body: Body::Answer(summary.clone(), nothing, part),
    };
    let plain = frame.write();
    assert_eq!(Frame::read(&plain), Ok(frame));
    // An answer never carries both, but a counter carries wants beside a delta.
    assert!(plain.len() + DELTA_BYTES_MAX + OVERHEAD_BYTES <= FRAME_BYTES_MAX);
    let largest = Sketch(vec![0; 256 * 4]);
    let first = Frame {
        asker: u64::MAX,
        answerer: 0,
        body: Body::Compare(summary, largest),
    };
    assert!(first.write().len() + OVERHEAD_BYTES <= FIRST_FRAME_BYTES_MAX);
}

#[test]
fn a_full_table_takes_no_more_and_stays_as_it_is() {
    let mut table = Table::default();
    let crash = |n: usize| Crash {
        name: format!("n{n}").as_str().into(),
        incarnation: 1,
        until_ms: START_MS,
        made_ms: START_MS,
        by: "x".into(),
        by_incarnation: 1,
        side: Side {
            members: 2,
            lowest: "x".into(),
        },
    };
    for n in 0..CRASHES_MAX {
        assert!(table.put_crash(Arc::new(crash(n)), START_MS));
    }
    let digest = table.digest();
    assert!(!table.put_crash(Arc::new(crash(CRASHES_MAX)), START_MS));
    assert_eq!(table.digest(), digest);
    table.forget("x", START_MS + 2 * KEEP_MS);
    assert_eq!(table.digest(), 0);
    assert!(table.put_crash(
        Arc::new(Crash {
            made_ms: START_MS + 2 * KEEP_MS,
            ..crash(1)
        }),
        START_MS + 2 * KEEP_MS
    ));
}
