//! Messages of clients.
#![no_main]

#[path = "../bodies/frontend.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|data: &[u8]| body::run(data));
