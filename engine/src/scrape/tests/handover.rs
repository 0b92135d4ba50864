//! A target that moves between nodes looks to a receiver as one that stays.

use super::*;
use proptest::prelude::*;
use ringscrape_wal::handover::{decode, encode};

/// The same target on another node, with what this one hands over.
fn moved(from: &mut Harness) -> Harness {
    let mut to = Harness::new(ScrapeRules::clone(&from.state.rules));
    to.now_ms = from.now_ms;
    if let Some(scrape) = from.state.hand_over(&mut from.tables, from.now_ms) {
        let scrapes = decode(&encode(&[Arc::new(scrape)])).unwrap();
        assert_eq!(scrapes.len(), 1);
        assert_eq!(scrapes[0].timestamp_ms, from.now_ms);
        assert!(to.state.take_over(&scrapes[0]));
    }
    to
}

#[test]
fn nothing_ends_and_nothing_is_added_by_a_move() {
    let mut a = Harness::new(ScrapeRules::default());
    a.scrape("x 1\ny{k=\"v\"} 1\n");
    let mut b = moved(&mut a);
    let record = b.scrape("x 2\ny{k=\"v\"} 2\n");
    assert!(record.stale.is_empty());
    assert_eq!(b.stats().series_added, 0);
    assert!(
        !b.state.take_over(&state_of(&mut a)),
        "too late: it was scraped"
    );
}

#[test]
fn what_vanishes_across_a_move_ends() {
    let mut a = Harness::new(ScrapeRules::default());
    a.scrape("x 1\ny 1\n");
    let mut b = moved(&mut a);
    let record = b.scrape("# HELP y new\ny 2\nz 1\n");
    assert_eq!(names(&record.stale), ["x"]);
    assert_eq!(b.stats().series_added, 1);
    let mut c = moved(&mut b);
    assert_eq!(names(&c.fail().stale), ["y", "z"]);
    let mut d = moved(&mut c);
    assert!(d.scrape("y 1\n").stale.is_empty());
    assert_eq!(d.stats().series_added, 0, "known over a failure");
}

#[test]
fn a_target_that_was_not_scraped_goes_on_to_the_next_node() {
    let mut a = Harness::new(ScrapeRules::default());
    assert!(a.state.hand_over(&mut a.tables, 0).is_none());
    a.scrape("x 1\ny 1\n");
    let mut b = moved(&mut a);
    let mut c = moved(&mut b);
    assert_eq!(names(&c.scrape("x 1\n").stale), ["y"]);
    assert_eq!(c.stats().series_added, 0);
}

fn state_of(harness: &mut Harness) -> ringscrape_wal::scrape::Scrape {
    harness
        .state
        .hand_over(&mut harness.tables, harness.now_ms)
        .unwrap()
}

/// What a scrape comes to.
#[derive(Debug, Clone)]
enum Step {
    /// These series, and whether the body breaks off behind them.
    Body(Vec<(u8, bool)>, bool),
    Fail,
    Move,
}

fn step() -> impl Strategy<Value = Step> {
    let line = (0u8..10, prop::bool::weighted(0.1));
    prop_oneof![
        6 => (prop::collection::vec(line, 0..10), prop::bool::weighted(0.15))
            .prop_map(|(mut lines, broken)| {
                lines.sort_unstable();
                lines.dedup_by_key(|(series, _)| *series);
                Step::Body(lines, broken)
            }),
        1 => Just(Step::Fail),
        3 => Just(Step::Move),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// One target that stays and one that moves at random times: the same samples, markers and
    /// automatic series, whatever vanishes, comes, fails or breaks off between.
    #[test]
    fn a_move_is_not_seen(
        steps in prop::collection::vec(step(), 1..20),
        track_timestamps_staleness in any::<bool>(),
        drops in any::<bool>(),
    ) {
        let mut rules = ScrapeRules {
            track_timestamps_staleness,
            ..ScrapeRules::default()
        };
        if drops {
            rules.metric_relabel_configs =
                relabel(&[(Action::Drop, &["__name__"], "s[37]", "", "")]);
        }
        let mut stays = Harness::new(rules.clone());
        let mut moves = Harness::new(rules);
        for step in steps {
            let (want, have) = match step {
                Step::Move => {
                    moves = moved(&mut moves);
                    continue;
                }
                Step::Fail => (stays.fail(), moves.fail()),
                Step::Body(lines, broken) => {
                    // Newer than all before: the last explicit times do not move.
                    let now_ms = stays.now_ms + STEP_MS - 1;
                    let line = |(series, stamped): &(u8, bool)| match stamped {
                        true => format!("s{series} 1 {now_ms}\n"),
                        false => format!("s{series} 1\n"),
                    };
                    let mut body: String = lines.iter().map(line).collect();
                    body.push_str(if broken { "}broken\n" } else { "" });
                    (stays.scrape(&body), moves.scrape(&body))
                }
            };
            prop_assert_eq!(names(&have.stale), names(&want.stale));
            prop_assert_eq!(&have.samples, &want.samples);
            prop_assert_eq!(stays.stats().series_added, moves.stats().series_added);
        }
    }
}
