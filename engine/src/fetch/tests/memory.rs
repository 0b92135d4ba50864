//! The fetcher on a driver in memory: random bodies, splits, pauses and limits against the body
//! itself, and faults that a real system seldom shows.

use super::scripted::{Act, Client, ok};
use super::{exposition, gzip, parts};
use crate::fetch::*;
use proptest::prelude::*;

/// Lines of the lengths given; the last one without its end, if so.
fn lines(lengths: &[usize], open_end: bool) -> Vec<u8> {
    let mut body = Vec::new();
    for (n, length) in lengths.iter().enumerate() {
        body.extend((0..*length).map(|at| b'a' + ((n + at) % 26) as u8));
        body.push(b'\n');
    }
    if open_end {
        body.pop();
    }
    body
}

proptest! {
    /// Whatever the form, the splits, the pauses, the budget and the sink's appetite: the sink is
    /// given the body, once, and nothing is left held.
    #[test]
    fn the_sink_gets_the_body(
        lengths in prop::collection::vec(prop_oneof![4 => 0_usize..100, 1 => 0_usize..6000], 0..80),
        open_end in any::<bool>(),
        zipped in any::<bool>(),
        form in 0_u8..3,
        chunks in prop::collection::vec(prop_oneof![1_usize..20, 1_usize..5000], 1..5),
        cuts in prop::collection::vec(prop_oneof![1_usize..20, 1_usize..9000], 1..6),
        pauses in any::<u64>(),
        headroom in prop_oneof![Just(0_usize), 0_usize..300, Just(8192)],
        room in 1_usize..9000,
        poll_bytes_max in prop_oneof![1_usize..10_000, Just(1 << 18)],
        lines_left in 0_usize..3,
        whole_body_bytes_max in prop_oneof![Just(0), 1_usize..100_000, Just(1 << 20)],
        collected_bytes_max in prop_oneof![0_usize..2000, Just(16 << 20)],
    ) {
        let body = lines(&lengths, open_end);
        let content = if zipped { gzip(&body) } else { body.clone() };
        let mut data = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n".to_vec();
        if zipped {
            data.extend(b"Content-Encoding: gzip\r\n");
        }
        match form {
            0 => data.extend(format!("Content-Length: {}\r\n\r\n", content.len()).bytes()),
            1 => data.extend(b"Transfer-Encoding: chunked\r\n\r\n"),
            _ => data.extend(b"\r\n"),
        }
        if form == 1 {
            for chunk in parts(&content, &chunks) {
                data.extend(format!("{:x}\r\n", chunk.len()).bytes());
                data.extend_from_slice(chunk);
                data.extend(b"\r\n");
            }
            data.extend(b"0\r\n\r\n");
        } else {
            data.extend_from_slice(&content);
        }
        let mut acts = Vec::new();
        for (n, part) in parts(&data, &cuts).into_iter().enumerate() {
            acts.push(Act::Bytes(part.to_vec()));
            if pauses >> (n % 64) & 1 == 1 {
                acts.push(Act::Pause);
            }
        }
        if form == 2 {
            acts.push(Act::Close);
        }
        let limits = FetcherLimits {
            poll_bytes_max,
            whole_body_bytes_max,
            collected_bytes_max,
            ..FetcherLimits::default()
        };
        let mut client = Client::new(limits, headroom, room);
        client.sink.lines_left = lines_left;
        client.script(acts);
        client.fetch(3);
        let (given, result) = client.sink.take(3);
        let stats = result.unwrap();
        prop_assert_eq!(given.body, body);
        prop_assert_eq!(stats.wire_bytes, data.len() as u64);
        prop_assert!(client.fetcher.holds_nothing());
        prop_assert_eq!(client.fetcher.driver_mut().open, usize::from(form != 2));
    }
}

#[test]
fn limits_of_lines_and_bodies() {
    let limits = FetcherLimits {
        line_bytes_max: 200_000,
        carry_bytes_max: 250_000,
        whole_body_bytes_max: 0,
        ..FetcherLimits::default()
    };
    for zipped in [false, true] {
        let respond = |body: Vec<u8>| match zipped {
            true => ok(&gzip(&body), "Content-Encoding: gzip\r\n"),
            false => ok(&body, ""),
        };
        let mut client = Client::new(limits, 100, 60_000);
        let keep = |data: Vec<u8>| vec![Act::Bytes(data)];
        client.script(keep(respond(lines(&[200_000], true))));
        client.fetch(0);
        assert_eq!(client.sink.take(0).0.body.len(), 200_000);
        client.fetcher.forget(0);
        client.script(keep(respond(lines(&[5, 300_000, 5], false))));
        client.fetch(0);
        let error = client.sink.error(0);
        assert_eq!(error, FetchError::LineTooLong(200_000), "gzip: {zipped}");

        // Two bodies that stop inside a line of 150,000 bytes are too much together, one is not.
        let mut data = respond(lines(&[4, 150_000], false));
        data.truncate(data.len() - if zipped { 12 } else { 1 });
        for id in [1, 2] {
            client.script(vec![Act::Bytes(data.clone())]);
            client.start(id, &["10.0.0.1:1"]);
        }
        client.settle();
        assert_eq!(client.fetcher.in_flight(), 1);
        assert_eq!(client.sink.error(2), FetchError::CarryLimit(250_000));

        client.rules.body_size_limit_bytes = 1000;
        for (size, fails) in [(999, false), (1000, true), (1001, true)] {
            client.script(keep(respond(lines(&[size - 1], false))));
            client.fetch(5);
            let result = client.sink.take(5).1;
            assert_eq!(result.is_err(), fails, "{size}");
            assert!(result.is_ok() || result == Err(FetchError::BodySizeLimit));
            client.fetcher.forget(5);
        }
        client.fetcher.forget(1);
        client.fetcher.forget(2);
        assert!(client.fetcher.holds_nothing());
    }
}

#[test]
fn content_types_that_fail_do_so_at_the_end_unless_the_body_is_empty() {
    let respond = |content_type: &str, body: &str| {
        let fields = format!("Content-Type: {content_type}\r\n");
        let head = format!(
            "HTTP/1.1 200 OK\r\n{fields}Content-Length: {}\r\n\r\n",
            body.len()
        );
        vec![Act::Bytes(format!("{head}{body}").into_bytes())]
    };
    let mut client = Client::new(FetcherLimits::default(), 0, 10);
    client.script(respond("text/html", "<html>\n</html>\n"));
    client.fetch(0);
    match client.sink.error(0) {
        FetchError::ContentType { reason, body_bytes } => {
            assert!(reason.contains("text/html"), "{reason}");
            assert_eq!(body_bytes, 15);
        }
        error => panic!("{error}"),
    }
    for (content_type, body, dialect) in [
        ("text/html", "", Dialect::Text),
        ("", "", Dialect::Text),
        (
            "application/openmetrics-text",
            "# EOF\n",
            Dialect::OpenMetrics,
        ),
    ] {
        client.fetcher.forget(0);
        client.script(respond(content_type, body));
        client.fetch(0);
        let (given, result) = client.sink.take(0);
        assert_eq!(given.dialect, Some(dialect));
        assert!(given.last && result.is_ok());
    }
    client.fetcher.forget(0);
    client.rules.fallback_scrape_protocol =
        Some(crate::config::ScrapeProtocol::PrometheusText0_0_4);
    client.script(respond("text/html", "a 1\n"));
    client.fetch(0);
    assert_eq!(client.sink.take(0).0.dialect, Some(Dialect::Text));
    client.fetcher.forget(0);
    client.script(vec![Act::Bytes(ok(b"x", "Content-Encoding: br\r\n"))]);
    client.fetch(0);
    assert_eq!(client.sink.error(0).cause(), "content_encoding");
}

#[test]
fn addresses_are_tried_in_turn_and_the_one_that_works_is_kept() {
    let mut client = Client::new(FetcherLimits::default(), 0, 100);
    let addresses = ["10.0.0.1:1", "10.0.0.2:1", "[::2]:1"];
    let driver = client.fetcher.driver_mut();
    driver
        .scripts
        .push_back(Err(OpenError::Connect(libc::ENETUNREACH)));
    driver
        .scripts
        .push_back(Ok(vec![Act::Fail(libc::ECONNREFUSED)]));
    driver
        .scripts
        .push_back(Ok(vec![Act::Bytes(ok(b"a 1\n", ""))]));
    client.start(0, &addresses);
    client.settle();
    assert!(!client.sink.take(0).1.unwrap().connection_reused);
    // All fail: the error is the first one's, which is now the one that worked.
    client.fetcher.forget(0);
    for errno in [libc::ECONNREFUSED, libc::EHOSTUNREACH, libc::ETIMEDOUT] {
        let acts = Ok(vec![Act::Fail(errno)]);
        client.fetcher.driver_mut().scripts.push_back(acts);
    }
    client.start(0, &addresses);
    client.settle();
    let error = client.sink.error(0);
    assert_eq!(
        error.to_string(),
        "dial tcp 10.0.0.1:1: connect: connection refused"
    );
    assert!(client.fetcher.holds_nothing());
    client.start(0, &[]);
    assert_eq!(
        client.sink.error(0).to_string(),
        "dial tcp: lookup h:1: no such host"
    );
}

#[test]
fn a_lost_connection_is_replaced_once() {
    let again = |how: Act| vec![Act::Bytes(ok(b"a 1\n", "")), how];
    for lost in [
        Act::Close,
        Act::Fail(libc::ECONNRESET),
        Act::Fail(libc::EPIPE),
    ] {
        let mut client = Client::new(FetcherLimits::default(), 0, 100);
        client.script(again(lost.clone()));
        client.fetch(0);
        assert!(client.sink.take(0).1.is_ok());
        // Lost again on the new connection: that is the target's failure.
        client.script(vec![Act::Close]);
        client.fetch(0);
        let error = client.sink.error(0);
        assert_eq!(error.cause(), "closed", "{error}");
        assert_eq!(client.fetcher.connections(), 0);
        client.script(again(lost.clone()));
        client.fetch(0);
        assert!(client.sink.take(0).1.is_ok());
        client.script(again(Act::Pause));
        client.fetch(0);
        assert!(!client.sink.take(0).1.unwrap().connection_reused);
        assert!(client.fetcher.holds_nothing());
    }
    // Not after the first byte of an answer.
    let mut client = Client::new(FetcherLimits::default(), 0, 100);
    client.script(vec![
        Act::Bytes(ok(b"a 1\n", "")),
        Act::Pause,
        Act::Pause,
        Act::Bytes(b"HTT".to_vec()),
        Act::Close,
    ]);
    client.fetch(0);
    client.sink.take(0).1.unwrap();
    client.start(0, &["10.0.0.1:1"]);
    client.settle();
    let error = client.sink.error(0).to_string();
    assert!(error.contains("inside the response head"), "{error}");
}

#[test]
fn out_of_descriptors_an_idle_connection_makes_room() {
    let mut client = Client::new(FetcherLimits::default(), 0, 100);
    client.script(vec![Act::Bytes(ok(b"a 1\n", ""))]);
    client.fetch(0);
    client.sink.take(0).1.unwrap();
    let driver = client.fetcher.driver_mut();
    driver
        .scripts
        .push_back(Err(OpenError::Socket(libc::EMFILE)));
    driver
        .scripts
        .push_back(Ok(vec![Act::Bytes(ok(b"a 1\n", ""))]));
    client.fetch(1);
    client.sink.take(1).1.unwrap();
    assert_eq!(client.fetcher.connections(), 1);
    client.fetcher.forget(1);
    client
        .fetcher
        .driver_mut()
        .scripts
        .push_back(Err(OpenError::Socket(libc::EMFILE)));
    client.fetch(2);
    let error = client.sink.error(2);
    assert_eq!(error.cause(), "no_file_descriptor");
    assert!(error.to_string().contains("too many open files"), "{error}");
    for (errno, cause) in [(libc::ENOBUFS, "no_memory"), (libc::EACCES, "socket")] {
        let script = Err(OpenError::Socket(errno));
        client.fetcher.driver_mut().scripts.push_back(script);
        client.fetch(2);
        assert_eq!(client.sink.error(2).cause(), cause);
    }
}

#[test]
fn responses_over_the_bound_wait_their_turn() {
    let limits = FetcherLimits {
        responses_max: 2,
        ..FetcherLimits::default()
    };
    let mut client = Client::new(limits, 0, 1000);
    let body = exposition(300);
    for id in 0..2 {
        let data = ok(&body, "");
        client.script(vec![Act::Bytes(data[..data.len() - 1].to_vec())]);
        client.start(id, &["10.0.0.1:1"]);
    }
    client.settle();
    for id in 2..6 {
        client.script(vec![Act::Bytes(ok(&body, ""))]);
        client.start(id, &["10.0.0.1:1"]);
    }
    client.settle();
    assert_eq!((client.fetcher.in_flight(), client.sink.ended), (6, 0));
    client.fetcher.timeout(4, &mut client.sink);
    assert_eq!(client.sink.error(4), FetchError::Timeout(Phase::Queue));
    let body_bytes = body.len() as u64 - 1;
    client.fetcher.timeout(0, &mut client.sink);
    let error = FetchError::Timeout(Phase::Body { body_bytes });
    assert_eq!(client.sink.error(0), error);
    client.settle();
    for id in [2, 3, 5] {
        let (given, result) = client.sink.take(id);
        assert_eq!((given.body, result.is_ok()), (body.clone(), true));
    }
    client.fetcher.forget(1);
    assert!(client.fetcher.holds_nothing());
}

#[test]
fn an_event_without_data_takes_no_slot() {
    let limits = FetcherLimits {
        responses_max: 1,
        ..FetcherLimits::default()
    };
    let mut client = Client::new(limits, 0, 1000);
    client.script(vec![Act::Pause]);
    client.fetch(0);
    client.script(vec![Act::Bytes(ok(b"a 1\n", ""))]);
    client.fetch(1);
    client.sink.take(1).1.unwrap();
    assert_eq!(client.fetcher.phase(0), Some(Phase::Wait));
}

#[test]
fn bytes_that_nobody_asked_for_end_a_connection() {
    // With the response.
    let mut client = Client::new(FetcherLimits::default(), 0, 1000);
    let data = [
        ok(b"a 1\n", ""),
        b"HTTP/1.1 408 Request Timeout\r\n\r\n".to_vec(),
    ]
    .concat();
    client.script(vec![Act::Bytes(data)]);
    client.fetch(0);
    client.sink.take(0).1.unwrap();
    assert_eq!(client.fetcher.connections(), 0);
    // After it.
    client.script(vec![
        Act::Bytes(ok(b"a 1\n", "")),
        Act::Pause,
        Act::Bytes(b"x".to_vec()),
    ]);
    client.fetch(0);
    client.sink.take(0).1.unwrap();
    assert_eq!(client.fetcher.connections(), 0);
}

#[test]
fn events_of_a_former_connection_are_not_those_of_the_present_one() {
    let mut client = Client::new(FetcherLimits::default(), 0, 1000);
    client.script(vec![Act::Bytes(ok(b"a 1\n", "Connection: close\r\n"))]);
    client.start(0, &["10.0.0.1:1"]);
    let token = client.fetcher.driver_mut().events[0].token;
    client.settle();
    client.sink.take(0).1.unwrap();
    client.script(vec![Act::Bytes(ok(b"a 1\n", ""))]);
    client.fetch(0);
    client.sink.take(0).1.unwrap();
    let closed = |token| Event {
        token,
        closed: true,
        readable: true,
    };
    client.fetcher.driver_mut().events.push(closed(token));
    client.settle();
    assert_eq!(client.fetcher.connections(), 1);
    client
        .fetcher
        .driver_mut()
        .events
        .push(closed(token + (1 << 32)));
    client.settle();
    assert_eq!(client.fetcher.connections(), 0);
}

#[test]
fn only_what_goes_on_soon_is_activity() {
    let mut client = Client::new(FetcherLimits::default(), 0, 1000);
    let response = ok(b"a 1\nb 2\n", "");
    let (first, rest) = response.split_at(10);
    let (second, last) = rest.split_at(rest.len() - 1);
    let parts = [first, second, last].map(|part| Act::Bytes(part.to_vec()));
    let [first, second, last] = parts;
    let refused = vec![Act::Fail(libc::ECONNREFUSED)];
    client.script(refused);
    client.script(vec![
        Act::Pause,
        first,
        Act::Pause,
        second,
        Act::Pause,
        last,
    ]);
    let mut activity = 0;
    let mut grown = |client: &Client| {
        let before = std::mem::replace(&mut activity, client.fetcher.activity());
        activity - before
    };
    client.start(0, &["10.0.0.1:1", "10.0.0.2:1"]);
    assert_eq!(grown(&client), 1, "a connection is being made");
    client.poll();
    assert_eq!(grown(&client), 1, "another one is");
    client.poll();
    assert_eq!(client.fetcher.phase(0), Some(Phase::Wait));
    assert_eq!(grown(&client), 0, "the target takes its time");
    client.poll();
    assert_eq!(grown(&client), 1, "a part of the head");
    client.poll();
    assert_eq!(grown(&client), 1, "all but the end of the body");
    client.poll();
    client.sink.take(0).1.unwrap();
    assert_eq!(grown(&client), 0, "the end");

    // A response that stops on its way is none any more, however often it is looked for.
    let part = response[..response.len() - 1].to_vec();
    client.script(vec![Act::Bytes(part)]);
    client.start(1, &["10.0.0.1:1"]);
    let event = client.fetcher.driver_mut().events[0];
    client.settle();
    assert_eq!(grown(&client), 2);
    for _ in 0..3 {
        client.fetcher.driver_mut().events.push(event);
        client.poll();
        assert!(matches!(client.fetcher.phase(1), Some(Phase::Body { .. })));
    }
    assert_eq!(grown(&client), 0, "nothing has arrived");
}
