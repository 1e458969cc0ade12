//! What strangers send: first packets and messages that are wrong on purpose, and at random.

use rand::rngs::StdRng;
use rand::{Rng, RngExt};

use super::Farewell;
use crate::support::message::{self, tagged, untagged};

/// First packets that are wrong in themselves: no more bytes have to come.
pub(super) fn bad_openings() -> Vec<(&'static str, Vec<u8>, Farewell)> {
    let version = 196_608_u32.to_be_bytes();
    let with_length = |length: u32| [length.to_be_bytes(), version].concat();
    let open = |text: &[u8]| untagged(&[&version, text].concat());
    vec![
        ("length 0", with_length(0), Farewell::Any),
        (
            "length 4, the length itself only",
            with_length(4),
            Farewell::Any,
        ),
        ("length 7, half a code", with_length(7), Farewell::Any),
        (
            "length beyond Postgres's limit",
            with_length(10_005),
            Farewell::Any,
        ),
        ("length 2 GiB", with_length(0x7fff_ffff), Farewell::Any),
        ("length 4 GiB", with_length(0xffff_ffff), Farewell::Any),
        (
            "an HTTP request",
            b"GET / HTTP/1.1\r\nHost: db\r\n\r\n".to_vec(),
            Farewell::Any,
        ),
        (
            "a TLS hello",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(),
            Farewell::Any,
        ),
        (
            "protocol 2.0",
            message::startup_version(2 << 16, &[("user", "u")]),
            Farewell::Error,
        ),
        (
            "protocol 4.0",
            message::startup_version(4 << 16, &[("user", "u")]),
            Farewell::Error,
        ),
        (
            "protocol 0.0",
            message::startup_version(0, &[("user", "u")]),
            Farewell::Error,
        ),
        (
            "an unknown request code",
            untagged(&80_877_199_u32.to_be_bytes()),
            Farewell::Error,
        ),
        ("no parameters, no end", open(b""), Farewell::Error),
        ("no user", open(b"\0"), Farewell::Error),
        ("an empty user", open(b"user\0\0\0"), Farewell::Error),
        ("a name without a value", open(b"user\0"), Farewell::Error),
        (
            "a value without an end",
            open(b"user\0postgres"),
            Farewell::Error,
        ),
        (
            "bytes behind the end",
            open(b"user\0postgres\0\0database\0postgres\0"),
            Farewell::Error,
        ),
        (
            "a cancel request for nobody",
            message::cancel_request(1, b"none"),
            Farewell::Nothing,
        ),
        (
            "a cancel request too short",
            untagged(&80_877_102_u32.to_be_bytes()),
            Farewell::Any,
        ),
        (
            "a cancel request without secret",
            message::cancel_request(1, b""),
            Farewell::Any,
        ),
        (
            "a cancel request too long",
            message::cancel_request(1, &[7; 5000]),
            Farewell::Any,
        ),
    ]
}

/// Messages after login that break the framing, so that nothing behind them can be understood.
pub(super) fn bad_messages() -> Vec<(&'static str, Vec<u8>)> {
    let with_length = |tag: u8, length: u32| [&[tag], length.to_be_bytes().as_slice()].concat();
    vec![
        ("a Query of length 0", with_length(b'Q', 0)),
        ("a Query of length 3", with_length(b'Q', 3)),
        ("a Sync of length 1", with_length(b'S', 1)),
        ("a Query of 2 GiB", with_length(b'Q', 0x7fff_ffff)),
        ("a Query of 4 GiB", with_length(b'Q', 0xffff_ffff)),
        ("a Sync of 1 GiB", with_length(b'S', 1 << 30)),
        ("type 0", with_length(0, 4)),
        ("type 255", with_length(255, 4)),
        ("a type of the server's", tagged(b'Z', b"I")),
        (
            "a startup message again",
            message::startup(&[("user", "postgres")]),
        ),
    ]
}

/// Garbage, or a good packet with a few bytes changed: the latter reaches deeper.
pub(super) fn random_opening(random: &mut StdRng) -> Vec<u8> {
    let good = [
        message::startup(&[("user", "postgres"), ("database", "postgres")]),
        message::ssl_request(),
        message::gssenc_request(),
        message::cancel_request(4711, b"1234"),
    ];
    let bytes = good[random.random_range(0..good.len())].clone();
    spoil(random, bytes)
}

pub(super) fn random_message(random: &mut StdRng) -> Vec<u8> {
    let good = [
        message::query("SELECT 1"),
        message::parse("s", "SELECT $1"),
        message::bind("p", "s", &[Some("1")]),
        message::describe(b'S', "s"),
        message::execute("p", 1),
        message::close(b'P', "p"),
        message::function_call(177, &[Some(b"\0\0\0\x01"), None]),
        message::copy_data(b"data"),
        message::copy_fail("reason"),
        message::password(b"secret"),
        message::sync(),
        message::flush(),
    ];
    let bytes = good[random.random_range(0..good.len())].clone();
    spoil(random, bytes)
}

fn spoil(random: &mut StdRng, mut bytes: Vec<u8>) -> Vec<u8> {
    match random.random_range(0..4) {
        0 => {
            bytes.resize(random.random_range(1..2000), 0);
            random.fill_bytes(&mut bytes);
        }
        1 => bytes.truncate(random.random_range(0..bytes.len())),
        2 => bytes.extend_from_within(random.random_range(0..bytes.len())..),
        _ => {
            for _ in 0..random.random_range(1..4) {
                let place = random.random_range(0..bytes.len());
                bytes[place] = random.random();
            }
        }
    }
    bytes
}
