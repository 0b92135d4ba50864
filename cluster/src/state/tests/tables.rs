//! Tables by themselves: merging depends neither on order nor on repetition.

use super::network::START_MS;
use crate::member::{Founder, Member, Stage};
use crate::state::messages::{Crash, Delta, Side, Summary};
use crate::state::table::{KEEP_MS, Table};
use proptest::prelude::*;
use std::sync::Arc;

const FOUNDER: Founder = Founder {
    founded_ms: START_MS,
    id: 1,
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
            Entry::Member(member) => table.put(member.clone(), START_MS),
            Entry::Crash(crash) => table.put_crash(crash.clone(), START_MS),
        };
    }
}

fn contents(table: &Table) -> (Vec<Member>, Vec<Crash>) {
    let members = table.members().map(|member| (**member).clone());
    let crashes = table.crashes().map(|crash| (**crash).clone());
    (members.collect(), crashes.collect())
}

fn summary(table: &Table) -> Summary {
    Summary {
        name: "x".into(),
        incarnation: 1,
        gossip_address: ([127, 0, 0, 1], 1).into(),
        founder: Some(FOUNDER),
        unix_ms: START_MS,
        members: table.known(),
        crashes: table.crash_hashes(),
    }
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
        let to_a = b.delta_for(FOUNDER, &summary(&a));
        take(&mut a, to_a);
        let to_b = a.delta_for(FOUNDER, &summary(&b));
        take(&mut b, to_b);
        prop_assert_eq!(contents(&a), contents(&both));
        prop_assert_eq!(contents(&b), contents(&both));
        prop_assert_eq!(a.digest(), b.digest());
        let nothing = a.delta_for(FOUNDER, &summary(&b));
        prop_assert!(nothing.members.is_empty() && nothing.crashes.is_empty());
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
