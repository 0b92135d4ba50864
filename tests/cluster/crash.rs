//! A node that is killed -> how soon others scrape its targets, and what was missed meanwhile.

use std::time::{Duration, Instant};

use crate::Stage;
use crate::load::Size;
use crate::node;
use crate::place::Place;
use crate::planned::three;

const SIZE: Size = Size {
    targets: 3_000,
    series: 10,
    interval_s: 10,
};
/// The default detection, with what the load of a test machine may add.
const DETECTION_MS: f64 = 3_000.0;

#[test]
fn a_killed_node_is_taken_over_within_the_detection_time() {
    let stage = Stage::new(SIZE, &Place::Loopback);
    let mut nodes = three(&stage, &[]);
    stage.fleet.wait_rounds(1);
    let orphans = nodes[1].instances();
    assert!(
        orphans.len() > SIZE.targets / 6,
        "{} targets",
        orphans.len()
    );
    let killed_at = Instant::now();
    nodes[1].kill();
    node::wait_shared(&nodes, SIZE.targets);
    // Each target is scraped by its new owner, and once more: a gap shows at its end.
    stage.fleet.wait_rounds(2);

    let before = Duration::from_secs(2 * SIZE.interval_s);
    let since = killed_at.elapsed();
    let arrivals = stage.fleet.arrivals_ago_ms(since + before);
    let killed_ago_ms = since.as_secs_f64() * 1e3;
    let interval_ms = SIZE.interval_s as f64 * 1e3;
    let (mut takeover_ms, mut overdue_ms) = (Vec::new(), Vec::new());
    for instance in &orphans {
        let ago = &arrivals[instance];
        let last = ago
            .iter()
            .copied()
            .filter(|ago| *ago > killed_ago_ms)
            .fold(f64::MAX, f64::min);
        let first = ago
            .iter()
            .copied()
            .filter(|ago| *ago <= killed_ago_ms)
            .fold(0.0, f64::max);
        assert!(first > 0.0, "{instance} is not scraped any more");
        takeover_ms.push(killed_ago_ms - first);
        // One interval after its last scrape it was due.
        overdue_ms.push((last - interval_ms - first).max(0.0));
    }
    print_spread(
        "from the kill to the first scrape by the new owner",
        &mut takeover_ms,
    );
    print_spread("of these, after it was due", &mut overdue_ms);
    let worst = overdue_ms.last().copied().unwrap_or_default();
    assert!(worst <= DETECTION_MS, "a target waited {worst:.0} ms");

    let seen = stage.fleet.report();
    eprintln!(
        "slots missed: {}, doubled: {}",
        seen["slots_missed"], seen["slots_doubled"]
    );
    let missed = seen["slots_missed"].as_u64().unwrap_or(u64::MAX);
    // A slot is longer than the detection: what was due meanwhile was scraped late, not missed.
    assert!(missed <= orphans.len() as u64, "{missed} slots missed");
    let survivors = seen["off_grid"].as_array().cloned().unwrap_or_default();
    for off in survivors {
        let instance = off["instance"].as_str().unwrap_or_default().to_owned();
        assert!(
            orphans.contains(&instance),
            "{off}: its owner was not killed"
        );
        assert!(off["missed"].as_u64() <= Some(1), "{off}");
    }
}

fn print_spread(what: &str, values_ms: &mut [f64]) {
    values_ms.sort_by(f64::total_cmp);
    let at = |share: f64| values_ms[((values_ms.len() - 1) as f64 * share) as usize];
    eprintln!(
        "{what}: p50 {:.0} ms, p99 {:.0} ms, max {:.0} ms",
        at(0.5),
        at(0.99),
        at(1.0)
    );
}
