//! Arbitrary files in the directory of a log -> recovery, readers and tools, without a panic.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ringscrape_wal::fuzz::directory(data));
