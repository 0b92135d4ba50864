//! The queue's rules for 2.0 messages: what an answer says that was written, and receivers of 1.0.

use super::decode::{TimeSeries, decode_body, decode_v2};
use super::queue::{Bench, name, small, source, status};
use crate::config::{CompressionChoice, Endpoint, ProtobufMessage};
use crate::remote_write::request::{Form, uncompress};
use crate::remote_write::retry::Written;
use crate::remote_write::{Compression, DropCause, Message, Notice, Request, SendResult};

fn second() -> Endpoint {
    Endpoint {
        protobuf_message: ProtobufMessage::Version2,
        compression: CompressionChoice::Auto,
        send_metadata: true,
        ..small()
    }
}

/// An answer of a 2.0 receiver.
fn written(code: u16, reason: &str, samples: u64) -> SendResult {
    SendResult::Status {
        code,
        retry_after_ms: None,
        reason: reason.to_owned(),
        written: Some(Written {
            samples,
            ..Written::default()
        }),
    }
}

fn taken(request: &Request) -> SendResult {
    written(204, "", request.samples.into())
}

fn series(request: &Request) -> Vec<TimeSeries> {
    decode_body(&request.body).series
}

#[test]
fn metadata_goes_with_the_series_and_in_no_request_of_its_own() {
    let mut bench = Bench::new(second());
    let source = source(0, 10);
    bench.scrape(&source);
    let request = bench.one();
    assert_eq!(request.form, Form::v2(Compression::Snappy));
    let raw = uncompress(&request.body, Compression::Snappy);
    let kinds: Vec<u64> = decode_v2(&raw)
        .0
        .metadata
        .iter()
        .map(|it| it.kind)
        .collect();
    assert_eq!(kinds, [2, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    bench.answer(&request, &taken(&request));
    for _ in 0..10 {
        assert!(bench.after_ms(60_000).is_empty());
    }
    let mut silent = Bench::new(Endpoint {
        send_metadata: false,
        ..second()
    });
    silent.scrape(&source);
    let raw = uncompress(&silent.one().body, Compression::Snappy);
    assert!(decode_v2(&raw).0.metadata.iter().all(|it| it.kind == 0));
}

/// Of each answer that says so: the same batch again, at once and in order, as 1.0, and 1.0 from
/// then on; in time with metadata requests.
#[test]
fn a_receiver_of_1_0_gets_the_same_batch_as_1_0() {
    for (refusal, text) in [
        (status(415, "what?"), "415: what?"),
        (status(400, ""), "400:"),
        (status(204, ""), "204:"),
    ] {
        let mut bench = Bench::new(second());
        let sources = [source(0, 10), source(1, 10)];
        for source in &sources {
            bench.scrape(source);
        }
        let requests = bench.poll();
        assert_eq!(requests.len(), 2);
        assert!(requests.iter().all(|it| it.form.message == Message::V2));
        let sent: Vec<_> = requests.iter().map(series).collect();
        for request in &requests {
            bench.answer(request, &refusal);
        }
        bench.scrape(&sources[0]);
        let again = bench.poll();
        assert!(
            again
                .iter()
                .all(|it| it.form == Form::v1(Compression::Zstd))
        );
        assert_eq!(again.iter().map(series).collect::<Vec<_>>(), sent);
        let fell_back = Notice::FellBack {
            answer: text.to_owned(),
        };
        assert_eq!(bench.queue.take_notices(), [fell_back], "said once");
        for request in &again {
            bench.answer(request, &status(204, ""));
        }
        let next = bench.one();
        assert_eq!(next.form.message, Message::V1);
        bench.answer(&next, &status(204, ""));
        let stats = bench.queue.stats();
        assert_eq!((stats.samples_sent, stats.samples_failed()), (30, 0));
        let metadata = bench.after_ms(60_000);
        assert_eq!(metadata.len(), 1);
        assert_eq!(
            (metadata[0].samples, metadata[0].form.message),
            (0, Message::V1)
        );
    }
}

#[test]
fn new_settings_try_2_0_again() {
    let mut bench = Bench::new(second());
    bench.scrape(&source(0, 10));
    let request = bench.one();
    bench.answer(&request, &status(415, ""));
    let again = bench.one();
    bench.answer(&again, &status(204, ""));
    let now = bench.now();
    bench.queue.reconfigure(second().into(), now);
    bench.scrape(&source(0, 10));
    assert_eq!(bench.one().form.message, Message::V2);
}

#[test]
fn what_a_receiver_has_not_written_is_counted_and_said_once() {
    let mut bench = Bench::new(second());
    for _ in 0..3 {
        bench.scrape(&source(0, 10));
        let request = bench.one();
        bench.answer(&request, &written(200, "", 7));
    }
    assert_eq!(bench.dropped(DropCause::NotWritten), 9);
    let stats = bench.queue.stats();
    assert_eq!((stats.samples_sent, stats.samples_failed()), (21, 9));
    let notice = Notice::NotWritten {
        samples: 3,
        of: 10,
        answer: "200:".to_owned(),
    };
    assert_eq!(bench.queue.take_notices(), [notice]);
    // More than there was is not more.
    bench.scrape(&source(0, 10));
    let request = bench.one();
    bench.answer(&request, &written(200, "", u64::MAX));
    assert_eq!(bench.queue.stats().samples_sent, 31);
}

#[test]
fn a_refusal_that_says_the_rest_was_written_is_believed() {
    let mut bench = Bench::new(second());
    bench.scrape(&source(0, 10));
    let request = bench.one();
    bench.answer(&request, &written(400, "label value too long", 9));
    assert!(bench.poll().is_empty());
    assert_eq!(bench.dropped(DropCause::Refused), 1);
    let stats = bench.queue.stats();
    assert_eq!((stats.samples_sent, stats.requests_partly_stored), (9, 1));
    let notices = bench.queue.take_notices();
    assert!(
        matches!(&notices[..], [Notice::NotWritten { samples: 1, of: 10, answer }]
            if answer.contains("too long")),
        "{notices:?}"
    );
}

#[test]
fn what_had_arrived_before_and_is_refused_for_it_counts_as_resent() {
    let mut bench = Bench::new(second());
    bench.scrape(&source(0, 10));
    let request = bench.one();
    bench.answer(&request, &SendResult::TimedOut);
    let again = bench.after_ms(1_000).remove(0);
    bench.answer(&again, &written(400, "out of order sample", 4));
    let stats = bench.queue.stats();
    assert_eq!((stats.samples_sent, stats.samples_resent), (4, 6));
    assert_eq!(stats.samples_failed(), 0);
}

#[test]
fn halving_finds_what_is_refused() {
    let mut bench = Bench::new(second());
    for key in 0..3 {
        bench.scrape(&source(key, 3));
    }
    let receiver = |series: &[TimeSeries]| match series.iter().any(|one| name(one) == "m1") {
        true => written(400, "m1 is not welcome", 0),
        false => written(204, "", series.len() as u64),
    };
    bench.run(receiver);
    assert_eq!(bench.dropped(DropCause::Refused), 3);
    assert_eq!(bench.queue.stats().samples_sent, 6);
    let is_m1 = |notice: &Notice| matches!(notice, Notice::Dropped { series, .. } if series.contains("__name__=\"m1\""));
    assert!(bench.queue.take_notices().iter().all(is_m1));
}

#[test]
fn a_413_makes_smaller_requests_of_the_same_samples() {
    let mut bench = Bench::new(second());
    bench.scrape(&source(0, 10));
    let receiver = |series: &[TimeSeries]| match series.len() {
        0..=3 => written(204, "", series.len() as u64),
        _ => status(413, "too large"),
    };
    bench.run(receiver);
    let stats = bench.queue.stats();
    assert_eq!((stats.samples_sent, stats.samples_per_send), (10, 2));
}
