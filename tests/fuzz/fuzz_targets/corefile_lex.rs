//! Fuzzes `bodies_corefile::corefile_lex`.
#![no_main]

#[allow(dead_code)]
#[path = "../bodies_corefile.rs"]
mod bodies;

libfuzzer_sys::fuzz_target!(|data: &[u8]| bodies::corefile_lex(data));
