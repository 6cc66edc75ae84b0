//! Fuzzes `bodies_expression::expression`.
#![no_main]

#[allow(dead_code)]
#[path = "../bodies_expression.rs"]
mod bodies;

libfuzzer_sys::fuzz_target!(|data: &[u8]| bodies::expression(data));
