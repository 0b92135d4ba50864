//! Arbitrary bytes -> a node's datagrams, forged and authentic, without a panic.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ringscrape_cluster::fuzz::gossip_packet(data));
