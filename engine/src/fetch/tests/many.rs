//! Many targets, few connections: what an idle one costs, which one is closed for another, and
//! whether what is held is counted.

use super::scripted::{Act, Client, ok};
use super::{exposition, gzip};
use crate::fetch::*;

#[test]
fn a_hundred_thousand_idle_connections() {
    const TARGETS: u32 = 100_000;
    let mut client = Client::new(FetcherLimits::default(), 0, 1000);
    for id in 0..TARGETS {
        client.script(vec![Act::Bytes(ok(b"a 1\n", ""))]);
        client.fetch(id);
        client.sink.take(id).1.unwrap();
    }
    assert_eq!(client.fetcher.connections(), TARGETS as usize);
    let held = client.fetcher.memory_use();
    let each = held.connections_bytes / TARGETS as usize;
    // The vector may have grown to twice its length.
    assert!(each <= 300, "{each} bytes");
    assert_eq!(held.bodies_bytes, 0);
    assert!(held.pooled_bytes <= 256 << 10, "{held:?}");
}

#[test]
fn scraped_in_turn_most_connections_are_kept() {
    const TARGETS: u32 = 30;
    const CONNECTIONS: u32 = 20;
    let limits = FetcherLimits {
        connections_max: CONNECTIONS as usize,
        ..FetcherLimits::default()
    };
    let mut client = Client::new(limits, 0, 1000);
    let mut reused = 0;
    for round in 0..10 {
        for id in 0..TARGETS {
            // Enough for as many scrapes as the connection may live to see.
            let response = || [Act::Bytes(ok(b"a 1\n", "")), Act::Pause, Act::Pause];
            client.script((0..10).flat_map(|_| response()).collect());
            client.fetch(id);
            let stats = client.sink.take(id).1.unwrap();
            reused += u32::from(stats.connection_reused && round > 0);
            client.unscript();
            assert!(client.fetcher.connections() <= CONNECTIONS as usize);
        }
    }
    // At best all but one of the kept ones serve every round.
    assert!(reused >= 9 * (CONNECTIONS - 1), "{reused}");
}

#[test]
fn what_bodies_hold_is_counted() {
    let content = gzip(&exposition(20_000));
    let response = ok(&content, "Content-Encoding: gzip\r\n");
    let head_bytes = response.len() - content.len();
    let (part, rest) = response.split_at(head_bytes + 1000);
    for (whole_body_bytes_max, expected) in [(1 << 20, 1000..=1000), (0, 40_000..=100_000)] {
        let limits = FetcherLimits {
            whole_body_bytes_max,
            ..FetcherLimits::default()
        };
        let mut client = Client::new(limits, 0, 64 * 1024);
        let acts = [part, rest].map(|part| Act::Bytes(part.to_vec()));
        let [first, second] = acts;
        client.script(vec![first, Act::Pause, Act::Pause, second]);
        client.start(0, &["10.0.0.1:1"]);
        // Connected, sent; then the first part.
        while !matches!(client.fetcher.phase(0), Some(Phase::Body { .. })) {
            client.poll();
        }
        let held = client.fetcher.memory_use();
        assert!(expected.contains(&held.bodies_bytes), "{held:?}");
        client.settle();
        client.sink.take(0).1.unwrap();
        assert_eq!(client.fetcher.memory_use().bodies_bytes, 0);
    }
}
