//! Arbitrary bytes -> frames of a node's streams, without a panic.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ringscrape_cluster::fuzz::exchange_frames(data));
