//! See `harness::capture`.
#![no_main]

#[path = "../../profiler/tests/fuzz_support/mod.rs"]
mod harness;

libfuzzer_sys::fuzz_target!(|data: &[u8]| harness::capture(data));
