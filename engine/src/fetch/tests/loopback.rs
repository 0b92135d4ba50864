//! The fetcher, on every driver, against servers that behave well, badly and strangely.

use super::server::*;
use super::{exposition, gzip};
use crate::fetch::*;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

/// Makes each function a test on each driver.
macro_rules! on_every_driver {
    ($($name:ident)*) => {
        mod on_epoll {
            $(#[test] fn $name() { super::$name::<crate::fetch::Epoll>(); })*
        }
        mod on_ring {
            use super::Loopback;
            $(#[test] fn $name() {
                if crate::fetch::Uring::is_there() {
                    super::$name::<crate::fetch::Uring>();
                }
            })*
        }
    };
}

on_every_driver! {
    a_connection_is_kept_between_scrapes
    a_connection_closed_between_scrapes_is_replaced
    a_server_that_drops_every_request_fails_after_one_retry
    a_status_other_than_200_fails_and_keeps_the_connection
    a_hang_in_any_phase_ends_with_the_deadline
    truncated_and_damaged_bodies_fail
    endless_bodies_and_bombs_stop_at_the_limit
    an_answer_in_single_bytes
    an_answer_that_the_close_ends
    ipv6
    refused_connections_name_the_address_and_the_next_one_is_tried
    redirects_are_followed
    redirects_that_end_in_failure
    two_thousand_at_once
    the_duration_ends_with_the_arrival_not_with_the_reading
    bytes_end_a_wait_only_if_they_shall
    a_target_that_is_forgotten_says_nothing_more
}

/// The body and whether the connection was reused.
fn take_ok<D: Loopback>(client: &mut Client<D>, id: u32) -> (Vec<u8>, bool) {
    let (given, result) = client.sink.take(id);
    let stats = result.unwrap_or_else(|error| panic!("{error}"));
    (given.body, stats.connection_reused)
}

fn a_connection_is_kept_between_scrapes<D: Loopback>() {
    let bodies = [exposition(100), exposition(300_000), exposition(20_000)];
    let plain = ok("", &bodies[0]);
    let zipped = ok("Content-Encoding: gzip\r\n", &gzip(&bodies[1]));
    let mut chunked = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\
                        Transfer-Encoding: chunked\r\n\r\n"
        .to_vec();
    for chunk in bodies[2].chunks(777) {
        chunked.extend(format!("{:x}\r\n", chunk.len()).bytes());
        chunked.extend_from_slice(chunk);
        chunked.extend(b"\r\n");
    }
    chunked.extend(b"0\r\n\r\n");
    let server = Server::new(move |listener| {
        let requests = answer(&listener, &[plain, zipped, chunked]);
        assert!(requests[0].starts_with("GET /metrics HTTP/1.1\r\nHost: 127.0.0.1:"));
        assert!(requests.iter().all(|request| *request == requests[0]));
    });
    let mut client = Client::<D>::new();
    for (n, body) in bodies.into_iter().enumerate() {
        client.fetch(7, server.address);
        assert_eq!(take_ok(&mut client, 7), (body, n > 0));
    }
    server.join();
}

fn a_connection_closed_between_scrapes_is_replaced<D: Loopback>() {
    // Whether the client hears of it before its next scrape, or only by failing to use it.
    for hears in [true, false] {
        let (taken, wait_taken) = channel();
        let (closed, wait_closed) = channel();
        let server = Server::new(move |listener| {
            let mut stream = accept_one(&listener);
            read_request(&mut stream);
            stream.write_all(&ok("", b"a 1\n")).unwrap();
            wait_taken.recv().unwrap();
            drop(stream);
            closed.send(()).unwrap();
            answer(&listener, &[ok("", b"a 2\n")]);
        });
        let mut client = Client::<D>::new();
        client.fetch(0, server.address);
        assert_eq!(take_ok(&mut client, 0), (b"a 1\n".to_vec(), false));
        assert_eq!(client.fetcher.connections(), 1);
        taken.send(()).unwrap();
        wait_closed.recv().unwrap();
        if hears {
            client.run_until(|client| client.fetcher.connections() == 0);
        }
        client.fetch(0, server.address);
        assert_eq!(take_ok(&mut client, 0), (b"a 2\n".to_vec(), false));
        server.join();
    }
}

fn a_server_that_drops_every_request_fails_after_one_retry<D: Loopback>() {
    let server = Server::new(|listener| {
        let mut stream = accept_one(&listener);
        read_request(&mut stream);
        stream.write_all(&ok("", b"a 1\n")).unwrap();
        read_request(&mut stream);
        drop(stream);
        read_request(&mut accept_one(&listener));
    });
    let mut client = Client::<D>::new();
    client.fetch(0, server.address);
    take_ok(&mut client, 0);
    client.fetch(0, server.address);
    let error = client.sink.error(0).to_string();
    assert!(error.contains("EOF: the server closed"), "{error}");
    server.join();
}

fn a_status_other_than_200_fails_and_keeps_the_connection<D: Loopback>() {
    let server = Server::new(|listener| {
        let head = "HTTP/1.1 500 Internal Server Error\r\n";
        let short = format!("{head}Content-Length: 5\r\n\r\noops\n").into_bytes();
        let long = format!("{head}Content-Length: 200000\r\n\r\n").into_bytes();
        let long = [long, vec![b'x'; 200_000]].concat();
        let mut stream = accept_one(&listener);
        for response in [short, ok("", b"a 1\n"), long] {
            read_request(&mut stream);
            // The long one is not read to its end.
            let _ = stream.write_all(&response);
        }
    });
    let mut client = Client::<D>::new();
    let words = "server returned HTTP status 500 Internal Server Error";
    client.fetch(0, server.address);
    assert_eq!(client.sink.error(0).to_string(), words);
    client.fetch(0, server.address);
    assert_eq!(take_ok(&mut client, 0), (b"a 1\n".to_vec(), true));
    client.fetch(0, server.address);
    assert_eq!(client.sink.error(0).to_string(), words);
    assert_eq!(client.fetcher.connections(), 0);
    server.join();
}

fn a_hang_in_any_phase_ends_with_the_deadline<D: Loopback>() {
    let half = ok("", b"a 1\nb 2\n");
    let half = half[..half.len() - 2].to_vec();
    for (sent, words) in [
        (b"".to_vec(), "waiting for the response"),
        (b"HTTP/1.1 200 O".to_vec(), "reading the response head"),
        (half, "reading the body, 6 bytes so far"),
    ] {
        let (done, wait_done) = channel();
        let (sent_all, wait_sent) = channel();
        let server = Server::new(move |listener| {
            let mut stream = accept_one(&listener);
            read_request(&mut stream);
            stream.write_all(&sent).unwrap();
            sent_all.send(()).unwrap();
            wait_done.recv().unwrap();
            // The client has closed.
            assert_eq!(stream.read(&mut [0]).unwrap_or(0), 0);
        });
        let mut client = Client::<D>::new();
        client.start(0, &[server.address]);
        client.run_until(|_| wait_sent.try_recv().is_ok());
        let expected = format!("context deadline exceeded (while {words})");
        client.run_until(|client| client.fetcher.phase(0).unwrap().to_string() == words);
        client.fetcher.timeout(0, &mut client.sink);
        assert_eq!(client.sink.error(0).to_string(), expected);
        assert_eq!(client.fetcher.connections(), 0);
        done.send(()).unwrap();
        server.join();
        // Late or repeated deadlines are nothing.
        client.fetcher.timeout(0, &mut client.sink);
        client.fetcher.timeout(99, &mut client.sink);
        assert_eq!(client.sink.ended, 1);
    }
}

fn truncated_and_damaged_bodies_fail<D: Loopback>() {
    let zipped = ok("Content-Encoding: gzip\r\n", &gzip(&exposition(1000)));
    let cut_gzip = ok(
        "Content-Encoding: gzip\r\n",
        &gzip(&exposition(1000))[..100],
    );
    let mut flipped = zipped.clone();
    let len = flipped.len();
    flipped[len - 1] ^= 1;
    let chunked = |rest: &str| {
        format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n{rest}")
            .into_bytes()
    };
    let plain = ok("", &exposition(1000));
    for (response, words, cause) in [
        (
            plain[..500].to_vec(),
            "before the end of the body",
            "closed",
        ),
        (
            zipped[..200].to_vec(),
            "before the end of the body",
            "closed",
        ),
        (
            chunked("4\r\na 1\n\r\n"),
            "before the end of the body",
            "closed",
        ),
        (
            chunked("4\r\na 1\n\r\nzz\r\n"),
            "chunk size missing",
            "malformed_response",
        ),
        (
            b"HTTP/1.1 200 OK\r\n".to_vec(),
            "inside the response head",
            "closed",
        ),
        (
            b"220 smtp ready\r\n".to_vec(),
            "begins with \"2\"",
            "malformed_response",
        ),
        (cut_gzip, "gzip: unexpected EOF", "gzip"),
        (flipped, "gzip: invalid length", "gzip"),
    ] {
        let server = Server::new(move |listener| {
            answer(&listener, &[response]);
        });
        let mut client = Client::<D>::new();
        client.fetch(0, server.address);
        let error = client.sink.error(0);
        assert!(error.to_string().contains(words), "{error}");
        assert_eq!(error.cause(), cause, "{error}");
        assert_eq!(client.fetcher.connections(), 0);
        server.join();
    }
}

fn endless_bodies_and_bombs_stop_at_the_limit<D: Loopback>() {
    for bomb in [false, true] {
        let server = Server::new(move |listener| {
            let mut stream = accept_one(&listener);
            read_request(&mut stream);
            let head = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n";
            stream.write_all(head.as_bytes()).unwrap();
            if bomb {
                // 256 MiB, at most, of one line each 10 bytes.
                stream.write_all(b"Content-Encoding: gzip\r\n\r\n").unwrap();
                let block = gzip(&b"a_bomb 17\n".repeat(1 << 20));
                let sent = (0..25).all(|_| stream.write_all(&block).is_ok());
                assert!(!sent || stream.read(&mut [0]).unwrap_or(0) == 0);
            } else {
                stream
                    .write_all(b"Content-Length: 10000000000\r\n\r\n")
                    .unwrap();
                while stream.write_all(&exposition(100_000)).is_ok() {}
            }
        });
        let mut client = Client::<D>::new();
        client.rules.body_size_limit_bytes = 10_000_000;
        client.fetch(0, server.address);
        let (given, result) = client.sink.take(0);
        assert_eq!(result, Err(FetchError::BodySizeLimit));
        assert!(given.body.len() < 10_000_000);
        server.join();
    }
}

fn an_answer_in_single_bytes<D: Loopback>() {
    let body = exposition(2000);
    for zipped in [false, true] {
        let response = match zipped {
            true => ok("Content-Encoding: gzip\r\n", &gzip(&body)),
            false => ok("", &body),
        };
        let server = Server::new(move |listener| {
            let mut stream = accept_one(&listener);
            read_request(&mut stream);
            for byte in response {
                stream.write_all(&[byte]).unwrap();
            }
        });
        let mut client = Client::<D>::new();
        client.fetch(0, server.address);
        assert_eq!(take_ok(&mut client, 0).0, body);
        server.join();
    }
}

fn an_answer_that_the_close_ends<D: Loopback>() {
    let server = Server::new(|listener| {
        let head = b"HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\n".to_vec();
        answer(&listener, &[[head, exposition(200_000)].concat()]);
    });
    let mut client = Client::<D>::new();
    client.fetch(0, server.address);
    assert_eq!(take_ok(&mut client, 0).0, exposition(200_000));
    assert_eq!(client.fetcher.connections(), 0);
    server.join();
}

fn ipv6<D: Loopback>() {
    let script = |listener: TcpListener| {
        let requests = answer(&listener, &[ok("", b"a 1\n")]);
        assert!(requests[0].contains("\r\nHost: [::1]:"), "{}", requests[0]);
    };
    let Ok(server) = Server::at("[::1]:0", script) else {
        println!("skipped: no IPv6 on loopback here");
        return;
    };
    let mut client = Client::<D>::new();
    client.fetch(0, server.address);
    take_ok(&mut client, 0);
    server.join();
}

/// An address at which nothing listens.
fn dead_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
}

fn refused_connections_name_the_address_and_the_next_one_is_tried<D: Loopback>() {
    let dead = dead_address();
    let mut client = Client::<D>::new();
    client.fetch(0, dead);
    let error = client.sink.error(0);
    let words = format!("dial tcp {dead}: connect: connection refused");
    assert_eq!(
        (error.to_string(), error.cause()),
        (words, "connection_refused")
    );

    let server = Server::new(|listener| {
        answer(&listener, &[ok("", b"a 1\n"), ok("", b"a 2\n")]);
    });
    for reused in [false, true] {
        client.start(0, &[dead, server.address]);
        client.finish();
        assert_eq!(take_ok(&mut client, 0).1, reused);
    }
    server.join();
}

fn redirect(status: &str, location: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status}\r\nLocation: {location}\r\nContent-Length: 4\r\n\r\nmove")
        .into_bytes()
}

fn redirects_are_followed<D: Loopback>() {
    let target = Server::new(|listener| {
        let requests = answer(&listener, &[ok("", b"a 1\n")]);
        assert!(requests[0].starts_with("GET /c?d=e HTTP/1.1\r\n"));
    });
    let to_name = format!("http://localhost:{}/c?d=e", target.address.port());
    let server = Server::new(move |listener| {
        let responses = [
            redirect("301 Moved Permanently", "/b"),
            redirect("307 Temporary Redirect", &to_name),
        ];
        let requests = answer(&listener, &responses);
        assert!(requests[1].starts_with("GET /b HTTP/1.1\r\n"));
    });
    let mut client = Client::<D>::new();
    client.start(0, &[server.address]);
    client.run_until(|client| !client.sink.wanted.is_empty());
    let port = target.address.port();
    assert_eq!(client.sink.wanted, [(0, "localhost".to_owned(), port)]);
    assert_eq!(client.fetcher.in_flight(), 1);
    let now = client.now();
    let addresses = || Ok(vec![target.address]);
    client
        .fetcher
        .resolved(0, "other", addresses(), now, &mut client.sink);
    client
        .fetcher
        .resolved(9, "localhost", addresses(), now, &mut client.sink);
    client
        .fetcher
        .resolved(0, "localhost", addresses(), now, &mut client.sink);
    client
        .fetcher
        .resolved(0, "localhost", addresses(), now, &mut client.sink);
    client.finish();
    assert_eq!(take_ok(&mut client, 0).0, b"a 1\n");
    server.join();
    target.join();
}

fn redirects_that_end_in_failure<D: Loopback>() {
    for (response, follow, words) in [
        (
            redirect("302 Found", "/again"),
            true,
            "stopped after 10 redirects",
        ),
        (redirect("302 Found", "/again"), false, "status 302 Found"),
        (redirect("302 Found", ""), true, "status 302 Found"),
        (
            redirect("304 Not Modified", "/x")[..].to_vec(),
            true,
            "status 304",
        ),
        (
            redirect("308 Permanent Redirect", "https://h/"),
            true,
            "unsupported scheme",
        ),
        (
            redirect("303 See Other", "http://h.invalid/"),
            true,
            "lookup h.invalid: no such host",
        ),
    ] {
        let (finished, wait_finished) = channel();
        let server = Server::new(move |listener| {
            let mut stream = accept_one(&listener);
            let mut requests = 0;
            while !read_request(&mut stream).is_empty() {
                requests += 1;
                stream.write_all(&response).unwrap();
            }
            finished.send(requests).unwrap();
        });
        let mut client = Client::<D>::new();
        client.rules.follow_redirects = follow;
        client.start(0, &[server.address]);
        client.run_until(|c| c.fetcher.in_flight() == 0 || !c.sink.wanted.is_empty());
        for (id, host, _) in std::mem::take(&mut client.sink.wanted) {
            let (now, reply) = (client.now(), Err("no such host".to_owned()));
            client
                .fetcher
                .resolved(id, &host, reply, now, &mut client.sink);
        }
        let error = client.sink.error(0).to_string();
        assert!(error.contains(words), "{error}");
        client.fetcher.forget(0);
        let requests: usize = wait_finished.recv().unwrap();
        assert_eq!(requests, if words.starts_with("stopped") { 10 } else { 1 });
        server.join();
    }
}

fn two_thousand_at_once<D: Loopback>() {
    const TARGETS: usize = 2000;
    let server = Server::new(|listener| {
        // All connections are open before the first answer.
        let mut streams: Vec<_> = (0..TARGETS).map(|_| accept_one(&listener)).collect();
        for round in 0..2 {
            let response = ok("", format!("round {round}\n").as_bytes());
            for stream in &mut streams {
                assert!(!read_request(stream).is_empty());
            }
            for stream in &mut streams {
                stream.write_all(&response).unwrap();
            }
        }
    });
    let mut client = Client::<D>::with_limits(FetcherLimits {
        responses_max: 100,
        ..FetcherLimits::default()
    });
    for round in 0..2 {
        for id in 0..TARGETS as u32 {
            client.start(id, &[server.address]);
        }
        client.finish();
        for id in 0..TARGETS as u32 {
            let body = format!("round {round}\n").into_bytes();
            assert_eq!(take_ok(&mut client, id), (body, round == 1));
        }
    }
    server.join();
}

fn the_duration_ends_with_the_arrival_not_with_the_reading<D: Loopback>() {
    /// A shard that is busy elsewhere, for this long.
    const BUSY_NS: u64 = 50_000_000;
    /// The kernel begins to note times some while after the first socket that asks for them.
    const ROUNDS_MAX: usize = 40;
    let (sent, wait_sent) = channel();
    let server = Server::new(move |listener| {
        let mut stream = accept_one(&listener);
        while !read_request(&mut stream).is_empty() {
            stream.write_all(&ok("", b"a 1\n")).unwrap();
            sent.send(()).unwrap();
        }
    });
    let mut client = Client::<D>::new();
    client.fetch(0, server.address);
    take_ok(&mut client, 0);
    wait_sent.recv().unwrap();
    let mut ends_with_the_arrival = || {
        let begin_ns = client.now().monotonic_ns;
        client.start(0, &[server.address]);
        // The request goes out with the next wait or poll at the latest.
        client.fetcher.wait(Some(Duration::ZERO), false).unwrap();
        wait_sent.recv().unwrap();
        let arrived_ns = client.now().monotonic_ns;
        while client.now().monotonic_ns < arrived_ns + BUSY_NS {
            std::hint::spin_loop();
        }
        client.finish();
        let stats = client.sink.take(0).1.unwrap();
        let elapsed_ns = client.now().monotonic_ns - begin_ns;
        assert!(stats.connection_reused);
        stats.duration_ns < elapsed_ns - BUSY_NS / 2
    };
    assert!((0..ROUNDS_MAX).any(|_| ends_with_the_arrival()));
    drop(client);
    server.join();
}

fn bytes_end_a_wait_only_if_they_shall<D: Loopback>() {
    let (sent, wait_sent) = channel();
    let (go_on, wait_go_on) = channel();
    let server = Server::new(move |listener| {
        let mut stream = accept_one(&listener);
        read_request(&mut stream);
        let response = ok("", b"a 1\n");
        for part in response.chunks(response.len() - 1) {
            stream.write_all(part).unwrap();
            sent.send(()).unwrap();
            wait_go_on.recv().unwrap();
        }
    });
    let mut client = Client::<D>::new();
    client.start(0, &[server.address]);
    client.run_until(|_| wait_sent.try_recv().is_ok());
    client.run_until(|client| matches!(client.fetcher.phase(0), Some(Phase::Body { .. })));
    go_on.send(()).unwrap();
    wait_sent.recv().unwrap();
    let short = Duration::from_millis(2);
    let begin = Instant::now();
    client.fetcher.wait(Some(short), false).unwrap();
    assert!(begin.elapsed() >= short);
    client.fetcher.wait(None, true).unwrap();
    // The waker ends both; from another thread.
    let waker = client.fetcher.waker();
    let thread = std::thread::spawn(move || waker.end_wait());
    client.fetcher.wait(None, false).unwrap();
    thread.join().unwrap();
    client.finish();
    assert_eq!(take_ok(&mut client, 0).0, b"a 1\n");
    go_on.send(()).unwrap();
    server.join();
}

fn a_target_that_is_forgotten_says_nothing_more<D: Loopback>() {
    let (request, wait_request) = channel();
    let server = Server::new(move |listener| {
        let mut stream = accept_one(&listener);
        request.send(read_request(&mut stream)).unwrap();
        assert_eq!(stream.read(&mut [0]).unwrap_or(0), 0);
        answer(&listener, &[ok("", b"a 1\n")]);
    });
    let mut client = Client::<D>::new();
    client.start(0, &[server.address]);
    client.run_until(|_| wait_request.try_recv().is_ok());
    client.fetcher.forget(0);
    client.fetcher.forget(42);
    assert_eq!(
        (client.fetcher.in_flight(), client.fetcher.connections()),
        (0, 0)
    );
    assert_eq!(client.sink.ended, 0);
    // Its number may be used again at once.
    client.fetch(0, server.address);
    assert_eq!(take_ok(&mut client, 0).0, b"a 1\n");
    server.join();
}
