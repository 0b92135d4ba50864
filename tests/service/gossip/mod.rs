//! Nodes that keep the store themselves die, are cut off, write against each other and come anew ->
//! what was confirmed stays, all end equal, and what nobody changed is scraped on.

mod nodes;

use std::collections::BTreeMap;
use std::sync::Arc;

use nodes::{CONFIGS, Net, Slots, TARGETS, name};
use ringscrape_cluster::store::Version;

use super::{LIMIT, one_at_a_time, until};

/// Less than what a change takes on the network, and more than a comparison does.
const SMALL_PACKET_BYTES: usize = 900;

/// A job without targets; `padding` is what keeps the text from being small when compressed.
fn config(job: &str, padding: usize) -> String {
    // Source: Marsaglia, Xorshift RNGs, 2003.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut digits = String::new();
    while digits.len() < padding {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        digits.push_str(&format!("{state:016x}"));
    }
    format!("scrape_configs: [{{job_name: {job}}}]\n# {digits}\n")
}

/// Three nodes that share the fleet.
fn start() -> Option<Net> {
    let mut net = Net::new()?;
    (0..3).for_each(|node| net.start(node));
    let made = until("a majority is there", LIMIT, || {
        let made = net.put_all(1, &net.fleet_configs());
        (made.status != 503).then_some(made)
    });
    assert_eq!(made.status, 200, "{}", made.text);
    net.shared("the fleet is shared", &[0, 1, 2]);
    net.rounds(1);
    assert_flawless(&net.slots(), "started");
    Some(net)
}

fn assert_flawless(slots: &Slots, when: &str) {
    let Slots { missed, doubled } = slots;
    assert!(missed.is_empty(), "{when}: slots missed: {missed:?}");
    assert!(doubled.is_empty(), "{when}: slots doubled: {doubled:?}");
}

/// Nothing was missed or doubled after `before`.
fn assert_same(before: &Slots, net: &Net, when: &str) {
    let after = net.slots();
    assert_eq!(after.missed, before.missed, "{when}: slots missed");
    assert_eq!(after.doubled, before.doubled, "{when}: slots doubled");
}

#[test]
fn what_a_majority_stored_outlives_nodes_and_reaches_new_ones() {
    let _one = one_at_a_time();
    let Some(mut net) = start() else {
        return;
    };
    let taken = net.change(0, "PUT", "thief", &config("fleet-03", 0));
    assert_eq!(taken.status, 400, "{}", taken.text);
    assert!(taken.text.contains("fleet-03"), "{}", taken.text);

    let orphans = net.instances(2);
    net.kill(2);
    // At once: nobody knows yet that it is dead.
    assert_eq!(net.change(0, "PUT", "a", &config("a0", 0)).status, 201);
    assert_eq!(net.change(1, "PUT", "a", &config("a1", 0)).status, 200);
    assert_eq!(net.change(0, "PUT", "b", &config("b", 0)).status, 201);
    assert_eq!(net.change(1, "DELETE", "b", "").status, 200);
    net.shared("two take over", &[0, 1]);
    net.start(2);
    let list = net.converged("the dead node is back, and has all of it");
    assert_eq!(list.len(), CONFIGS + 1, "{list:?}");
    assert!(list.contains_key("a") && !list.contains_key("b"));
    net.shared("three share", &[0, 1, 2]);
    net.rounds(1);
    let Slots { missed, doubled } = net.slots();
    for (instance, count) in missed.iter().chain(&doubled) {
        assert!(
            *count <= 1 && orphans.contains(instance),
            "{instance}: {count} slots missed or doubled"
        );
    }

    let before = net.slots();
    net.start(3);
    assert_eq!(net.converged("a new node has all of it"), list);
    net.shared("four share", &[0, 1, 2, 3]);
    net.rounds(2);
    assert_same(&before, &net, "a new node");

    (0..4).for_each(|node| net.kill(node));
    net.start(1);
    let (alone, _) = net.list(1).expect("a node that is ready answers");
    assert_eq!(alone, list, "it is all on the disk");
    net.shared("one has all", &[1]);
    let refused = net.change(1, "PUT", "a", &config("alone", 0));
    assert_eq!(refused.status, 503, "one of four: {}", refused.text);
    let metric =
        |net: &Net, name: &str| net.metric(1, &format!("ringscrape_config_store_{name}"), &[]);
    let figures = |net: &Net| ["up", "from_disk", "entries"].map(|name| metric(net, name));
    let entries = list.len() as f64;
    assert_eq!(figures(&net), [0.0, 1.0, entries]);
    assert_eq!(metric(&net, "last_success_timestamp_seconds"), 0.0);
    [0, 2, 3].into_iter().for_each(|node| net.start(node));
    assert_eq!(net.converged("all are back"), list);
    assert_eq!(figures(&net), [1.0, 0.0, entries]);
    assert!(metric(&net, "last_success_timestamp_seconds") > 0.0);
    assert_eq!(net.change(3, "PUT", "a", &config("a2", 0)).status, 200);
    let after = net.converged("and take changes");
    assert!(after["a"] > list["a"]);
}

#[test]
fn of_a_cut_cluster_one_side_takes_changes_and_conflicts_are_decided_alike() {
    let _one = one_at_a_time();
    let Some(net) = start() else {
        return;
    };
    // Of two first changes that do not know of each other the one of this node wins.
    let rank = |node: &usize| Version::after(0, &Arc::from(name(*node).as_str()));
    let minor = (0..3).max_by_key(rank).expect("there are three");
    let [one, other] = [(minor + 1) % 3, (minor + 2) % 3];
    let own = net.instances(minor);

    // It hears that all have the same, and what it then writes reaches nobody.
    net.narrow(minor, SMALL_PACKET_BYTES);
    let rivals = [
        ("x", "x-of-minor"),
        ("y", "y-of-minor"),
        ("minor", "shared"),
    ];
    let rivals = rivals.map(|(name, job)| (name.to_owned(), config(job, 4_000)));
    let unsure = net.put_all(minor, &rivals);
    assert_eq!(unsure.status, 503, "{}", unsure.text);
    assert!(unsure.text.contains("may still appear"), "{}", unsure.text);
    net.cut(minor);
    let (kept, _) = net.list(minor).expect("it answers still");
    let of_minor = kept["x"];
    assert_eq!((kept["y"], kept["minor"]), (of_minor, of_minor), "a batch");

    let refused = net.change(minor, "PUT", "late", &config("late", 0));
    assert_eq!(refused.status, 503, "{}", refused.text);
    for result in ["unconfirmed", "not_connected"] {
        let labels = ["operation=\"apply\"", &format!("result=\"{result}\"")];
        let count = net.metric(minor, "ringscrape_config_store_operations_total", &labels);
        assert!(count > 0.0, "{result}");
    }
    let x = net.change(one, "PUT", "x", &config("x-of-major", 0));
    assert_eq!(x.status, 201, "{}", x.text);
    assert_eq!(net.change(other, "PUT", "y", &config("y1", 0)).status, 201);
    let y = net.change(other, "PUT", "y", &config("y2", 0));
    assert_eq!(y.status, 200, "{}", y.text);
    let major = net.change(one, "PUT", "major", &config("shared", 0));
    assert_eq!(major.status, 201, "{}", major.text);
    assert!(x.revision < of_minor && of_minor < y.revision);
    net.shared("two take over", &[one, other]);
    net.rounds(2);

    net.heal();
    let list = net.converged("healed");
    let mut expected: BTreeMap<String, u64> = kept;
    expected.insert("y".to_owned(), y.revision);
    expected.insert("major".to_owned(), major.revision);
    assert_eq!(list, expected);
    net.shared("three share again", &[0, 1, 2]);
    for node in 0..3 {
        until("who came first keeps the job", LIMIT, || {
            let [first, second] = ["minor", "major"].map(|name| net.status(node, name));
            let (first, second) = (first?, second?);
            let reason = second["refusals"][0].as_str()?;
            let is_taken = reason.contains("\"shared\"") && reason.contains("\"minor\"");
            let is_all = second["applied"].as_object()?.len() == 3;
            (is_taken && is_all && first["is_running"] == true && second["is_running"] == false)
                .then_some(())
        });
    }

    let before = net.slots();
    net.rounds(2);
    assert_same(&before, &net, "healed");
    assert!(before.missed.is_empty(), "missed: {:?}", before.missed);
    // Cut off it cannot know that others scrape its targets, too.
    let foreign = before.doubled.keys().find(|one| !own.contains(*one));
    assert_eq!(foreign, None, "doubled though nobody was cut off from it");
    assert!(before.doubled.len() < TARGETS);

    // The audit log has both changes, and which one is gone.
    let logs: Vec<String> = (0..3).map(|node| net.log(node)).collect();
    let all = logs.concat();
    let has = |log: &str, words: &[&str]| {
        log.lines()
            .any(|line| words.iter().all(|word| line.contains(word)))
    };
    for (config, lost, winner, node) in [
        ("config=x", x.revision, of_minor, one),
        ("config=y", of_minor, y.revision, minor),
    ] {
        let lost = format!("lost_revision={lost} lost_node={} ", name(node));
        let winner = format!(" revision={winner} ");
        let words = ["audit:", "action=\"lost\"", config, &lost, &winner];
        assert!(has(&all, &words), "{words:?} are not in {all}");
    }
    // The names are quoted there.
    let of_x = format!("revision={}", x.revision);
    let words = ["configuration changed", "config=\"x\"", &of_x];
    assert!(has(&logs[one], &words), "{}", logs[one]);
    let of_minor = format!("revision {of_minor}");
    let words = ["configuration not changed", "config=\"x\"", &of_minor];
    assert!(has(&logs[minor], &words), "{}", logs[minor]);
}
