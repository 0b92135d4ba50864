//! Arbitrary bytes -> the HTTP response reader, without a panic and within bounds.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ringscrape_engine::fetch::fuzz::http_response(data));
