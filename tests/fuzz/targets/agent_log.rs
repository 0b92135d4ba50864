//! Arbitrary bytes -> the reader of an agent's log, without a panic and within bounds.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ringscrape_wal::fuzz::agent(data));
