//! One configuration and its bodies, given to Debian's prometheus agent and to ringscrape -> the
//! same series, values and staleness markers at the receiver, or an explained difference.

mod case;
mod compare;
mod run;
mod script;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Mutex, OnceLock};

use ringscrape_tests::engine::Engine;
use ringscrape_tests::{exporter, net};

use case::Case;
use run::Outcome;

fn folder() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/corpus"))
}

/// The corpus, or the cases whose name contains `RINGSCRAPE_TEST_CASE`.
fn corpus() -> Vec<Case> {
    let only = std::env::var("RINGSCRAPE_TEST_CASE").unwrap_or_default();
    let mut cases = case::read_corpus(&folder());
    cases.retain(|case| case.name.contains(&only) && (!case.ipv6 || exporter::has_ipv6()));
    cases
}

/// The targets' port; held while a run lasts.
static PORT: Mutex<u16> = Mutex::new(0);

fn run(engine: Engine) -> (Outcome, u16) {
    let mut port = PORT
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    if *port == 0 {
        *port = net::free_address().port();
    }
    (run::run(engine, &corpus(), *port), *port)
}

/// The reference's outcome, made once.
fn reference() -> &'static Outcome {
    static REFERENCE: OnceLock<Outcome> = OnceLock::new();
    REFERENCE.get_or_init(|| run(Engine::Agent).0)
}

/// Runs `engine` and lists, by case, what differs from the reference beyond what `expected` says.
fn unexplained(engine: Engine, expected: impl Fn(&Case) -> Vec<String>) -> Vec<String> {
    let reference = reference();
    let (outcome, port) = run(engine);
    let mut report = Vec::new();
    for case in corpus() {
        let lines_of = |outcome: &Outcome| {
            let samples = outcome
                .samples
                .get(&case.name)
                .map_or(&[][..], Vec::as_slice);
            compare::lines(&case, samples, outcome.start_ms, port)
        };
        let (left, right) = (lines_of(reference), lines_of(&outcome));
        assert!(
            !left.is_empty(),
            "{}: the reference sent nothing",
            case.name
        );
        let found = compare::difference(&left, &right);
        let mut rest = compare::difference(&expected(&case), &found);
        for line in &mut rest {
            let (sign, text) = line.split_at(1);
            let meaning = if sign == "+" {
                "unexplained:"
            } else {
                "expected, not there:"
            };
            *line = format!("  {meaning}{text}");
        }
        if !rest.is_empty() {
            report.push(format!("{}:\n{}", case.name, rest.join("\n")));
        }
    }
    let cases = corpus();
    for (name, samples) in &outcome.samples {
        let Some(case) = cases.iter().find(|case| case.name == *name) else {
            report.push(format!(
                "{} samples without the job of a case: {name:?}",
                samples.len()
            ));
            continue;
        };
        for series in compare::disorder(case, samples, outcome.start_ms) {
            report.push(format!("{name}: out of order: {series}"));
        }
    }
    report.extend(
        outcome
            .violations
            .iter()
            .map(|fault| format!("remote write: {fault}")),
    );
    report
}

#[test]
fn reference_differs_in_nothing_from_itself() {
    if !Engine::Agent.is_there() {
        return;
    }
    let report = unexplained(Engine::Agent, |_| Vec::new());
    assert!(report.is_empty(), "{}", report.join("\n"));
}

#[test]
fn ringscrape_differs_from_the_reference_only_as_explained() {
    if !Engine::Agent.is_there() || Engine::subject() == Engine::Agent {
        return;
    }
    let report = unexplained(Engine::Ringscrape, |case| {
        case.differences
            .iter()
            .flat_map(|difference| difference.lines.clone())
            .collect()
    });
    assert!(report.is_empty(), "{}", report.join("\n"));
}

#[test]
fn corpus_is_large_enough_and_its_differences_are_explained() {
    let cases = case::read_corpus(&folder());
    assert!(cases.len() >= 50, "only {} cases", cases.len());
    let text = std::fs::read_to_string(folder().join("DIFFERENCES.md")).expect("DIFFERENCES.md");
    let explained: BTreeSet<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("## "))
        .map(str::trim)
        .collect();
    let used: BTreeSet<&str> = cases
        .iter()
        .flat_map(|case| {
            case.differences
                .iter()
                .map(|difference| difference.id.as_str())
        })
        .collect();
    assert_eq!(
        used, explained,
        "used in cases | headings of DIFFERENCES.md"
    );
}

/// For writing cases, with `RINGSCRAPE_TEST_PRINT` set: prints what the reference sends, or, with
/// `RINGSCRAPE_TEST_DIFFERENCES` set too, what differs now in the form in which a case states it.
#[test]
fn print_outcome() {
    if std::env::var_os("RINGSCRAPE_TEST_PRINT").is_none() {
        return;
    }
    let reference = reference();
    let port = *PORT.lock().expect("BUG: not poisoned here");
    let subject = std::env::var_os("RINGSCRAPE_TEST_DIFFERENCES").map(|_| run(Engine::Ringscrape));
    for case in corpus() {
        let lines_of = |outcome: &Outcome| {
            let samples = outcome
                .samples
                .get(&case.name)
                .map_or(&[][..], Vec::as_slice);
            compare::lines(&case, samples, outcome.start_ms, port)
        };
        let mut lines = lines_of(reference);
        if let Some((outcome, _)) = &subject {
            lines = compare::difference(&lines, &lines_of(outcome));
        }
        if !lines.is_empty() {
            eprintln!("=== {}\n{}", case.name, lines.join("\n"));
        }
    }
}
