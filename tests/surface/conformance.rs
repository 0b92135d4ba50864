//! Remote write 2.0 -> one case per rule that the specification makes for senders.
//!
//! Source: <https://prometheus.io/docs/specs/prw/remote_write_spec_2_0/>, 2.0-rc.4: what a sender
//! MUST and MUST NOT; each case names the section it is of. The engine runs twice: to a receiver of
//! 2.0 that fails now and then, and to one that takes 1.0 alone; all cases look at what these got.
//!
//! **On purpose otherwise**, as what is logged is not to be lost for one bad series: a request that
//! is refused (400) is sent in parts, never again as it was; 401, 403 and 404 are taken for faults
//! of the configuration, and repeated slowly; and "out of order" is read from an error's text,
//! where a sample may have arrived before.

mod run;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

use ringscrape_tests::engine::Running;
use ringscrape_tests::recorder::STALE_BITS;
use ringscrape_tests::write_request_v2::{self as v2, Series};
use tempfile::TempDir;

use self::run::{CONTENT_TYPE, FAILING, FIRST, SECOND, Seen};
use crate::{LIMIT, ringscrape};

/// Looks at every request of the first run, and at its message.
fn every_request(look: impl Fn(&Seen, &v2::Request)) {
    let Some(run) = &*SECOND else { return };
    assert!(run.seen.len() > 10, "{} requests", run.seen.len());
    for seen in &run.seen {
        look(seen, &seen.decoded());
    }
}

/// Looks at every series of the first run that was taken, and at its labels.
fn every_series(look: impl Fn(&[(String, String)], &Series)) {
    let Some(run) = &*SECOND else { return };
    let all = run.series();
    assert!(all.len() > 20, "{} series", all.len());
    for (labels, series) in all {
        look(&labels, &series);
    }
}

// "Protocol".

#[test]
fn the_body_is_a_protobuf_message_in_binary_form_compressed_with_snappy_blocks() {
    // Both decoders are strict; the framed format begins with ff 06 00 00 "sNaPpY".
    every_request(|seen, _| assert!(!seen.request.body.starts_with(&[0xff, 6, 0, 0])));
}

#[test]
fn the_message_of_2_0_is_supported() {
    every_request(|_, message| assert!(!message.series.is_empty()));
}

#[test]
fn requests_are_posts_to_the_url_path_as_given() {
    every_request(|seen, _| {
        assert_eq!(
            (&*seen.request.method, &*seen.request.target),
            ("POST", "/some/path")
        );
    });
}

#[test]
fn the_reserved_headers_are_sent() {
    every_request(|seen, _| {
        for name in [
            "content-encoding",
            "content-type",
            "x-prometheus-remote-write-version",
            "user-agent",
        ] {
            let headers = seen.request.headers.iter();
            let count = headers.filter(|(have, _)| have == name).count();
            assert_eq!(count, 1, "{name}");
        }
        assert_eq!(seen.request.header("x-own"), Some("mine"));
    });
}

#[test]
fn reserved_headers_cannot_be_configured() {
    let Some(engine) = ringscrape() else { return };
    for name in [
        "Content-Encoding",
        "content-type",
        "X-Prometheus-Remote-Write-Version",
        "User-Agent",
    ] {
        let config =
            format!("remote_write:\n- url: http://127.0.0.1:9/\n  headers: {{{name}: x}}\n");
        let dir = TempDir::new().expect("cannot make a temporary directory");
        let mut running = Running::start(engine, dir.path(), &config, &[]);
        assert!(!running.process.wait(LIMIT).success(), "{name} is accepted");
        assert!(running.process.log().contains(name));
    }
}

#[test]
fn the_content_encoding_is_snappy() {
    every_request(|seen, _| assert_eq!(seen.request.header("content-encoding"), Some("snappy")));
}

#[test]
fn the_content_type_names_the_message() {
    every_request(|seen, _| assert_eq!(seen.request.header("content-type"), Some(CONTENT_TYPE)));
}

#[test]
fn the_version_is_2_0_0_and_to_receivers_of_1_0_it_is_0_1_0() {
    const VERSION: &str = "x-prometheus-remote-write-version";
    every_request(|seen, _| assert_eq!(seen.request.header(VERSION), Some("2.0.0")));
    let Some(first) = &*FIRST else { return };
    let snappy = first.seen.iter().filter(|seen| {
        let plain = seen.request.header("content-type") == Some("application/x-protobuf");
        plain && seen.request.header("content-encoding") == Some("snappy")
    });
    let versions: Vec<_> = snappy.map(|seen| seen.request.header(VERSION)).collect();
    assert!(versions.len() > 3 && versions.iter().all(|it| *it == Some("0.1.0")));
    assert_eq!(first.seen[0].status, 415, "2.0 was offered first");
}

#[test]
fn the_user_agent_names_the_sender_and_its_version() {
    every_request(|seen, _| {
        let agent = seen.request.header("user-agent").unwrap_or("");
        let version = agent.strip_prefix("ringscrape/").unwrap_or("");
        assert!(
            version.starts_with(|first: char| first.is_ascii_digit()),
            "{agent}"
        );
    });
}

// "Response".

#[test]
fn the_body_of_a_success_is_ignored() {
    let Some(run) = &*SECOND else { return };
    // Each success came with a text that reads as an error.
    let mut taken = BTreeSet::new();
    for seen in run.seen.iter().filter(|seen| seen.status == 200) {
        assert!(
            taken.insert(&seen.request.body),
            "sent again after a success"
        );
    }
}

#[test]
fn nothing_is_taken_for_unwritten_when_a_1_0_message_is_answered_without_headers() {
    let Some(first) = &*FIRST else { return };
    assert_eq!(first.failed, 0.0);
}

#[test]
fn what_is_refused_with_4xx_is_not_sent_again_as_it_was() {
    let Some(run) = &*SECOND else { return };
    let at = run.seen.iter().position(|seen| seen.status == 400);
    let (refused, later) = run.seen[at.expect("one is refused")..]
        .split_first()
        .expect("BUG: it is there");
    let same = |seen: &&Seen| seen.request.body == refused.request.body;
    assert_eq!(later.iter().filter(same).count(), 0);
}

// "Retries & Backoff".

#[test]
fn a_5xx_is_retried() {
    let Some(run) = &*SECOND else { return };
    for failed in &run.seen[FAILING] {
        assert_eq!(failed.status, 500);
        let body = &failed.request.body;
        let taken = |seen: &&Seen| seen.status == 200 && seen.request.body == *body;
        assert_eq!(run.seen.iter().filter(taken).count(), 1);
    }
}

#[test]
fn retries_back_off() {
    let Some(run) = &*SECOND else { return };
    let mut attempts: BTreeMap<&Vec<u8>, Vec<Instant>> = BTreeMap::new();
    for seen in &run.seen {
        attempts
            .entry(&seen.request.body)
            .or_default()
            .push(seen.at);
    }
    let mut repeated = 0;
    for times in attempts.values() {
        let mut pause_ms = 100;
        for pair in times.windows(2) {
            // `min_backoff`, doubled each time.
            assert!(
                pair[1] - pair[0] >= Duration::from_millis(pause_ms),
                "{times:?}"
            );
            (pause_ms, repeated) = (pause_ms * 2, repeated + 1);
        }
    }
    assert!(repeated >= FAILING.len());
}

// "Protobuf Message".

#[test]
fn timestamps_are_int64_milliseconds_and_values_float64() {
    // The decoder takes nothing else; and they are times of today.
    every_series(|_, series| {
        for (_, timestamp_ms, _) in &series.samples {
            assert!((1_600_000_000_000..4_000_000_000_000).contains(timestamp_ms));
        }
    });
}

#[test]
fn every_series_has_labels_refs_in_pairs() {
    every_request(|_, message| {
        for series in &message.series {
            assert!(!series.labels_refs.is_empty() && series.labels_refs.len() % 2 == 0);
        }
    });
}

#[test]
fn every_series_has_samples_or_histograms_and_not_both() {
    every_request(|_, message| {
        for series in &message.series {
            assert!((series.histograms == 0) != series.samples.is_empty());
        }
    });
}

// "Symbols".

#[test]
fn symbols_begin_with_the_empty_text() {
    every_request(|_, message| assert_eq!(message.symbols.first().map(String::as_str), Some("")));
}

#[test]
fn symbols_are_deduplicated() {
    every_request(|_, message| {
        let distinct: BTreeSet<_> = message.symbols.iter().collect();
        assert_eq!(distinct.len(), message.symbols.len());
    });
}

#[test]
fn references_point_to_symbols_that_are_there() {
    every_request(|_, message| assert_eq!(message.bad_refs(), 0));
}

// "Series Labels".

#[test]
fn the_complete_set_of_labels_goes_with_each_sample() {
    let Some(run) = &*SECOND else { return };
    let labels = run.series().into_iter().map(|(labels, _)| labels);
    let done = labels.filter(|labels| labels.iter().any(|(_, value)| value == "done_total"));
    let names = |labels: Vec<(String, String)>| labels.into_iter().map(|(name, _)| name);
    let mut count = 0;
    for labels in done {
        let names: Vec<String> = names(labels).collect();
        assert_eq!(names, ["__name__", "a", "instance", "job", "own", "z"]);
        count += 1;
    }
    assert!(count > 3);
}

#[test]
fn label_names_are_not_repeated() {
    every_series(|labels, _| {
        let distinct: BTreeSet<_> = labels.iter().map(|(name, _)| name).collect();
        assert_eq!(distinct.len(), labels.len(), "{labels:?}");
    });
}

#[test]
fn label_names_are_sorted() {
    every_series(|labels, _| assert!(labels.is_sorted_by_key(|(name, _)| name), "{labels:?}"));
}

#[test]
fn no_label_name_or_value_is_empty() {
    // `empty=""` is exposed.
    every_series(|labels, _| {
        let empty = labels
            .iter()
            .any(|(name, value)| name.is_empty() || value.is_empty());
        assert!(!empty, "{labels:?}");
    });
}

#[test]
fn names_and_values_are_utf_8() {
    let Some(run) = &*SECOND else { return };
    // The decoder takes nothing else.
    let mut labels = run.series().into_iter().flat_map(|(labels, _)| labels);
    assert!(labels.any(|label| label == ("a".to_owned(), "größer".to_owned())));
}

// "Samples and Histogram Samples".

#[test]
fn samples_of_a_series_are_sent_in_timestamp_order() {
    let Some(run) = &*SECOND else { return };
    let mut newest: HashMap<Vec<(String, String)>, i64> = HashMap::new();
    for (labels, series) in run.series() {
        let newest = newest.entry(labels).or_insert(i64::MIN);
        for (_, timestamp_ms, _) in series.samples {
            assert!(timestamp_ms > *newest);
            *newest = timestamp_ms;
        }
    }
}

#[test]
fn a_series_that_ends_gets_a_stale_marker() {
    let Some(run) = &*SECOND else { return };
    // One is no longer exposed, the other's target fails.
    for name in ["gone", "short"] {
        let samples = run.samples(name);
        let (last, before) = samples.split_last().expect("samples");
        assert_eq!(last.0, STALE_BITS, "{name}");
        assert_eq!(before.len(), 3, "{name}");
    }
}

#[test]
fn the_stale_marker_is_used_for_nothing_else() {
    let Some(run) = &*SECOND else { return };
    let odd = run.samples("odd");
    let markers = odd
        .iter()
        .filter(|(bits, _, _)| *bits == STALE_BITS)
        .count();
    assert!(odd.len() > 3 && markers <= 1, "{markers} of {}", odd.len());
    assert!(
        odd.iter()
            .all(|(bits, _, _)| f64::from_bits(*bits).is_nan())
    );
}

// "Exemplars".

#[test]
fn exemplars_have_a_value_and_a_timestamp() {
    let Some(run) = &*SECOND else { return };
    let series = run.series().into_iter().map(|(_, series)| series);
    let exemplars: Vec<_> = series.flat_map(|series| series.exemplars).collect();
    assert!(!exemplars.is_empty());
    for exemplar in exemplars {
        assert_eq!(exemplar.value_bits, Some(0.5_f64.to_bits()));
        assert!(exemplar.timestamp_ms > Some(0));
    }
}

// What the specification only asks for (SHOULD), and what is relied on.

#[test]
fn metadata_goes_with_the_series() {
    let Some(run) = &*SECOND else { return };
    let mut kinds = BTreeMap::new();
    for seen in run.seen.iter().filter(|seen| seen.status == 200) {
        let message = seen.decoded();
        for series in &message.series {
            let labels = message.labels(series);
            let name = labels.iter().find(|(name, _)| name == "__name__");
            let name = name.map(|(_, value)| value.clone()).unwrap_or_default();
            let texts = series.metadata.map(|(kind, help, unit)| {
                (
                    kind,
                    message.symbol(help).to_owned(),
                    message.symbol(unit).to_owned(),
                )
            });
            kinds.insert(name, texts);
        }
    }
    let text = |kind, help: &str, unit: &str| Some(Some((kind, help.to_owned(), unit.to_owned())));
    assert_eq!(
        kinds.get("done_total").cloned(),
        text(1, "Things done.", "")
    );
    assert_eq!(
        kinds.get("level_bytes").cloned(),
        text(2, "How high.", "bytes")
    );
}
