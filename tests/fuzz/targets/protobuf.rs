//! Arbitrary bytes -> the reader of protobuf bodies, whole and in windows, without a panic.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ringscrape_engine::fuzz::protobuf(data));
