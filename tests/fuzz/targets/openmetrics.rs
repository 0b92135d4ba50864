//! Arbitrary bytes -> the OpenMetrics parser, without a panic and within bounds.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ringscrape_engine::fuzz::openmetrics(data));
