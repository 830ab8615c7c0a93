//! See `harness::perf_map`.
#![no_main]

#[path = "../../profiler/tests/fuzz_support/mod.rs"]
mod harness;

libfuzzer_sys::fuzz_target!(|data: &[u8]| harness::perf_map(data));
