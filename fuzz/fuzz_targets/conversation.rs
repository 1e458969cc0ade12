//! Conversations between a client and a server.
#![no_main]

#[path = "../bodies/conversation.rs"]
mod body;
#[allow(dead_code, reason = "each target needs its own part of it")]
#[path = "../../tests/model/mod.rs"]
mod model;

libfuzzer_sys::fuzz_target!(|data: &[u8]| body::run(data));
