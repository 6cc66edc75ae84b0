//! Fuzzes `bodies_zone::zone_scan`.
#![no_main]

#[allow(dead_code)]
#[path = "../bodies_zone.rs"]
mod bodies;

libfuzzer_sys::fuzz_target!(|data: &[u8]| bodies::zone_scan(data));
