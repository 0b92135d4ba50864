//! What only the ring has: buffers that run short, operations that outlive their connection.

use super::exposition;
use super::server::*;
use crate::fetch::*;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

/// Answers each connection's first request when all of `count` have asked.
fn answer_all(listener: &TcpListener, count: usize, response: &[u8]) -> Vec<TcpStream> {
    let mut streams: Vec<_> = (0..count).map(|_| accept_one(listener)).collect();
    for stream in &mut streams {
        assert!(!read_request(stream).is_empty());
    }
    for stream in &mut streams {
        stream.write_all(response).unwrap();
    }
    streams
}

#[test]
fn responses_that_wait_do_not_keep_others_from_the_buffers() {
    if !Uring::is_there() {
        return;
    }
    const TARGETS: usize = 200;
    // Each in several buffers, all together in many more than there are.
    let body = exposition(50_000);
    assert!(TARGETS * body.len() > 4 * usize::from(Uring::BUFFERS) * 16 * 1024);
    let response = ok("", &body);
    let (done, wait_done) = channel();
    let server = Server::new(move |listener| {
        let streams = answer_all(&listener, TARGETS, &response);
        wait_done.recv().unwrap();
        drop(streams);
    });
    let mut client = Client::<Uring>::with_limits(FetcherLimits {
        responses_max: 3,
        ..FetcherLimits::default()
    });
    for id in 0..TARGETS as u32 {
        client.start(id, &[server.address]);
    }
    client.finish();
    for id in 0..TARGETS as u32 {
        let (given, result) = client.sink.take(id);
        assert!(result.is_ok() && given.body == body);
    }
    // The last one may be with the fetcher still.
    let (free, slots) = client.fetcher.driver_mut().free_buffers_and_slots();
    assert!(free >= Uring::BUFFERS - 1 && slots == TARGETS);
    // Connections that were read without the ring are watched again.
    done.send(()).unwrap();
    client.run_until(|client| client.fetcher.connections() == 0);
    client.poll_until(|client| {
        client.fetcher.driver_mut().free_buffers_and_slots() == (Uring::BUFFERS, 0)
    });
    server.join();
}

#[test]
fn connections_closed_in_every_phase_leave_nothing_behind() {
    if !Uring::is_there() {
        return;
    }
    const ROUNDS: u32 = 200;
    let server = Server::new(|listener| {
        let serve = |mut stream: TcpStream| {
            // Parts, so that the client closes between them; its number is the first in the path.
            let request = read_request(&mut stream);
            let body = exposition(30_000);
            let response = ok("", &[request.as_bytes(), &body].concat());
            let gone = response
                .chunks(7000)
                .any(|part| stream.write_all(part).is_err());
            let _ = gone || stream.read(&mut [0]).is_ok();
        };
        let threads: Vec<_> = (0..ROUNDS)
            .map(|_| {
                let stream = accept_one(&listener);
                std::thread::spawn(move || serve(stream))
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
    });
    let mut client = Client::<Uring>::new();
    for round in 0..ROUNDS {
        client.start(round, &[server.address]);
        // Not at all: nothing of it is submitted, and its descriptor's number is the next one's.
        for _ in 0..round % 7 {
            let short = Some(Duration::from_micros(200));
            client.fetcher.wait(short, true).unwrap();
            let now = client.now();
            client.fetcher.poll(now, &mut client.sink).unwrap();
        }
        if round % 5 > 0 {
            client.fetcher.forget(round);
        }
    }
    client.finish();
    for round in (0..ROUNDS).filter(|round| round % 5 == 0) {
        let (given, result) = client.sink.take(round);
        result.unwrap();
        assert!(given.body.starts_with(b"GET /metrics HTTP/1.1\r\n"));
        assert!(given.body.ends_with(&exposition(30_000)));
        client.fetcher.forget(round);
    }
    client.poll_until(|client| {
        client.fetcher.driver_mut().free_buffers_and_slots() == (Uring::BUFFERS, 0)
    });
    server.join();
}

#[test]
fn the_driver_ends_with_operations_under_way() {
    if !Uring::is_there() {
        return;
    }
    let (accepted, wait_accepted) = channel();
    let server = Server::new(move |listener| {
        let mut streams: Vec<_> = (0..20).map(|_| accept_one(&listener)).collect();
        for stream in &mut streams {
            read_request(stream);
        }
        accepted.send(()).unwrap();
        for stream in &mut streams {
            assert_eq!(stream.read(&mut [0]).unwrap_or(0), 0);
        }
    });
    let mut client = Client::<Uring>::new();
    for id in 0..20 {
        client.start(id, &[server.address]);
    }
    client.run_until(|_| wait_accepted.try_recv().is_ok());
    // And some that are queued only.
    for id in 20..30 {
        client.start(id, &[server.address]);
    }
    let begin = Instant::now();
    drop(client);
    assert!(begin.elapsed() < Duration::from_millis(400));
    server.join();
}
