//! Arbitrary bytes -> the log reader, without a panic and within bounds.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ringscrape_wal::fuzz::reader(data));
