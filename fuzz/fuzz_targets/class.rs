//! Query strings.
#![no_main]

#[path = "../bodies/class.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|data: &[u8]| body::run(data));
