//! Two replicas of each target -> each slot of each is one node's, and no node has both.

use super::*;

/// Index into `config`.
const REPLICATED: usize = 4;

/// Which of the nodes scrape a slot of each replica, by target.
fn owners(nodes: &[&Node], slot_ms: i64) -> BTreeMap<u64, [Vec<&'static str>; 2]> {
    let mut owners = BTreeMap::<u64, [Vec<&str>; 2]>::new();
    for node in nodes {
        for (key, (first, next)) in &node.told {
            let spot = &first.target.spot;
            assert!(next.is_none() || next.as_ref().map(|next| next.target.spot) == Some(*spot));
            let of_target = owners.entry(first.target.common_key.0).or_default();
            let of_replica = &mut of_target[usize::from(spot.replica.index)];
            of_replica.extend(node.scrapes(*key, slot_ms).iter().map(|_| node.name));
        }
    }
    owners
}

#[test]
fn no_node_has_both_replicas_and_each_has_one_owner() {
    let mut nodes = ["a", "b", "c"].map(|name| Node::new(name, REPLICATED, 1_000));
    let of: Vec<_> = nodes.iter().map(Node::versions).collect();
    let two = view(&[("a", &of[0]), ("b", &of[1])]);
    let three = view(&[("a", &of[0]), ("b", &of[1]), ("c", &of[2])]);
    let one = view(&[("c", &of[2])]);
    let views = vec![(0, two), (10_000, three), (20_000, one)];
    for at_ms in [2_000, 10_001, 20_001] {
        for node in &mut nodes {
            node.timeline(views.clone(), at_ms);
        }
        let shared = owners(&nodes.each_ref(), at_ms);
        assert_eq!(shared.len(), TARGETS);
        for [first, second] in shared.values() {
            match at_ms {
                20_001 => assert_eq!((&first[..], second.len()), (&["c"][..], 0)),
                _ => {
                    assert_eq!((first.len(), second.len()), (1, 1));
                    assert_ne!(first, second);
                }
            }
        }
    }
    // Of the second replica, which nobody has any more, the series end.
    let mut endings = BTreeMap::<u8, Vec<&Ending>>::new();
    for node in &nodes {
        for (_, message, _) in &node.messages {
            let Some(told) = message else { continue };
            if let Some(until) = told.slots.until.as_ref().filter(|one| one.at_ms == 20_000) {
                let index = told.target.spot.replica.index;
                endings.entry(index).or_default().push(&until.series);
            }
        }
    }
    assert!(endings[&1].iter().all(|ending| **ending == Ending::End));
    assert!(
        endings[&0]
            .iter()
            .all(|ending| **ending == Ending::Move(Some("c".into())))
    );
}

#[test]
fn a_node_alone_scrapes_the_first_replica() {
    let mut a = Node::new("a", REPLICATED, 1_000);
    let changes = a.jobs.set_timeline(None, 2_000);
    a.take(changes, 2_000);
    assert_eq!(a.told.len(), TARGETS);
    let indexes = a
        .told
        .values()
        .map(|(told, _)| told.target.spot.replica.index);
    assert!(indexes.max() == Some(0));
}
