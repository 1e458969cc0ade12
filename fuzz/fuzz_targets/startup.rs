//! First packets of strangers.
#![no_main]

#[path = "../bodies/startup.rs"]
mod body;
#[allow(dead_code, reason = "each target needs its own part of it")]
#[path = "../../tests/model/mod.rs"]
mod model;

libfuzzer_sys::fuzz_target!(|data: &[u8]| body::run(data));
