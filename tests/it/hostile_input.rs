//! Strangers send anything: their connection ends, with an ErrorResponse where the protocol allows
//! one, memory stays bounded, and others are served all the while.

use std::net::SocketAddr;

use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};

use crate::support::cluster::Postgres;
use crate::support::message::{self, Message, tagged, untagged};
use crate::support::poll::{SOON, until};
use crate::support::proxy::Proxy;
use crate::support::wire::Wire;

/// What memory may grow by while strangers try to fill it, far below what they announce.
const GROWTH_KIB: u64 = 48 << 10;

/// A well-behaved session that was there before, and has to be served after each attempt.
struct Witness {
    addr: SocketAddr,
    wire: Wire,
}

impl Witness {
    async fn arrive(proxy: &Proxy) -> Self {
        Self {
            addr: proxy.addr(),
            wire: proxy.session("postgres").await,
        }
    }

    /// The old session is served, and a new one too.
    async fn is_served(&mut self) {
        assert_eq!(self.wire.query_one("SELECT 'old'").await, "old");
        let mut new = Wire::login(self.addr, "postgres", "postgres").await;
        assert_eq!(new.query_one("SELECT 'new'").await, "new");
    }
}

/// What a stranger may read before the connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Farewell {
    /// One ErrorResponse that says FATAL.
    Error,
    /// Nothing, or an ErrorResponse: it cannot be told whether Postgres is being spoken at all.
    Any,
    /// Nothing: a cancel request is never answered, or it would tell who guesses well.
    Nothing,
}

impl Farewell {
    fn check(self, name: &str, messages: &[Message]) {
        let fatal = |message: &Message| {
            message.tag == b'E' && message.field(b'V').as_deref() == Some("FATAL")
        };
        let as_allowed = match (self, messages) {
            (Self::Error, [one]) => fatal(one),
            (Self::Any, []) => true,
            (Self::Any, [one]) => fatal(one),
            (Self::Nothing, messages) => messages.is_empty(),
            (Self::Error | Self::Any, _) => false,
        };
        assert!(
            as_allowed,
            "{name}: {self:?} was expected, but got {messages:?}"
        );
    }
}

/// First packets that are wrong in themselves: no more bytes have to come.
fn bad_openings() -> Vec<(&'static str, Vec<u8>, Farewell)> {
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
            with_length(10_001),
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
fn bad_messages() -> Vec<(&'static str, Vec<u8>)> {
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

#[tokio::test]
async fn a_bad_first_packet_ends_its_connection_only() {
    let postgres = Postgres::start().await;
    let proxy = Proxy::start(&postgres).await;
    let mut witness = Witness::arrive(&proxy).await;
    for (name, bytes, farewell) in bad_openings() {
        let mut stranger = Wire::connect(proxy.addr()).await;
        stranger.send(&bytes).await;
        farewell.check(name, &stranger.read_to_end().await);
        witness.is_served().await;
    }
}

#[tokio::test]
async fn a_first_packet_cut_short_ends_its_connection_only() {
    let postgres = Postgres::start().await;
    let proxy = Proxy::start(&postgres).await;
    let mut witness = Witness::arrive(&proxy).await;
    let whole = message::startup(&[("user", "postgres"), ("database", "postgres")]);
    for length in 0..whole.len() {
        let mut stranger = Wire::connect(proxy.addr()).await;
        stranger.send(&whole[..length]).await;
        stranger.close_write().await;
        Farewell::Any.check(&format!("{length} bytes"), &stranger.read_to_end().await);
    }
    witness.is_served().await;
}

#[tokio::test]
async fn a_bad_message_ends_its_session_with_an_error() {
    let postgres = Postgres::start().await;
    let proxy = Proxy::start(&postgres).await;
    let mut witness = Witness::arrive(&proxy).await;
    for (name, bytes) in bad_messages() {
        let mut stranger = proxy.session("postgres").await;
        stranger.send(&bytes).await;
        Farewell::Error.check(name, &stranger.read_to_end().await);
        witness.is_served().await;
    }
}

#[tokio::test]
async fn a_bad_answer_to_a_password_request_ends_the_login() {
    let hba = [
        "local all all trust",
        "host all asked 127.0.0.1/32 scram-sha-256",
        "host all postgres 127.0.0.1/32 trust",
    ];
    let mut postgres = Postgres::start_with(&[], &hba).await;
    postgres
        .execute("CREATE USER asked PASSWORD 'secret'")
        .await;
    let proxy = Proxy::start(&postgres).await;
    let mut witness = Witness::arrive(&proxy).await;
    let answers = [
        ("a Query instead", message::query("SELECT 1")),
        ("an empty answer", message::password(b"")),
        (
            "no mechanism's name",
            message::password(b"NO-SUCH\0\0\0\0\0"),
        ),
        ("a length below four", vec![b'p', 0, 0, 0, 3]),
        (
            "a length beyond any password",
            vec![b'p', 0x7f, 255, 255, 255],
        ),
    ];
    for (name, answer) in answers {
        let mut stranger = Wire::connect(proxy.addr()).await;
        stranger
            .send(&message::startup(&[
                ("user", "asked"),
                ("database", "postgres"),
            ]))
            .await;
        assert_eq!(stranger.expect(b'R').await.body[..4], 10_u32.to_be_bytes());
        stranger.send(&answer).await;
        Farewell::Any.check(name, &stranger.read_to_end().await);
        witness.is_served().await;
    }
}

#[tokio::test]
async fn bytes_sent_ahead_of_the_answer_about_encryption_end_the_connection() {
    let postgres = Postgres::start().await;
    let proxy = Proxy::start(&postgres).await;
    let startup = message::startup(&[("user", "postgres"), ("database", "postgres")]);
    for request in [message::ssl_request(), message::gssenc_request()] {
        let mut stranger = Wire::connect(proxy.addr()).await;
        stranger.send(&[request, startup.clone()].concat()).await;
        // The answer may have been on its way already; a session must not follow it.
        let rest = stranger.read_raw_to_end().await;
        let rest = rest.strip_prefix(b"N").unwrap_or(&rest);
        assert!(
            matches!(rest.first(), None | Some(b'E')),
            "got {}",
            rest.escape_ascii()
        );
    }
    // Nor does anybody keep the proxy busy with the same question.
    let mut stranger = Wire::connect(proxy.addr()).await;
    let mut answered = 0;
    while stranger.try_send(&message::ssl_request()).await.is_ok() {
        if stranger.try_read_byte().await != Some(b'N') {
            break;
        }
        answered += 1;
        assert!(answered < 10, "SSLRequest is answered again and again");
    }
    Witness::arrive(&proxy).await.is_served().await;
}

#[tokio::test]
async fn random_first_packets_end_their_connections_only() {
    let postgres = Postgres::start().await;
    let proxy = Proxy::start(&postgres).await;
    let mut witness = Witness::arrive(&proxy).await;
    let before = proxy.resident_kib();
    for seed in 0..300 {
        let mut random = StdRng::seed_from_u64(seed);
        let mut stranger = Wire::connect(proxy.addr()).await;
        // The peer may have closed before it has seen all of it.
        drop(stranger.try_send(&random_opening(&mut random)).await);
        stranger.close_write().await;
        // Whatever is said, it ends. (The seed is printed when it does not.)
        println!("seed {seed}");
        drop(stranger.read_raw_to_end().await);
        if seed % 20 == 0 {
            witness.is_served().await;
        }
    }
    assert_bounded(&proxy, before);
}

#[tokio::test]
async fn random_messages_end_their_sessions_only() {
    let postgres = Postgres::start().await;
    let proxy = Proxy::start(&postgres).await;
    let mut witness = Witness::arrive(&proxy).await;
    let before = proxy.resident_kib();
    for seed in 0..100 {
        let mut random = StdRng::seed_from_u64(seed);
        let mut stranger = proxy.session("postgres").await;
        for _ in 0..random.random_range(1..10) {
            drop(stranger.try_send(&random_message(&mut random)).await);
        }
        stranger.close_write().await;
        println!("seed {seed}");
        drop(stranger.read_raw_to_end().await);
        if seed % 20 == 0 {
            witness.is_served().await;
        }
    }
    assert_bounded(&proxy, before);
}

#[tokio::test]
async fn hundreds_who_stop_in_the_middle_keep_nobody_waiting() {
    let mut postgres = Postgres::start().await;
    let proxy = Proxy::start(&postgres).await;
    let mut witness = Witness::arrive(&proxy).await;
    let before = proxy.resident_kib();
    let startup = message::startup(&[("user", "postgres"), ("database", "postgres")]);
    let query = message::query("SELECT 'never sent whole'");
    let mut strangers = Vec::new();
    for number in 0..400_usize {
        // Before login there is no server connection yet; after it there is one each.
        let mut stranger = if number % 4 == 0 {
            proxy.session("postgres").await
        } else {
            Wire::connect(proxy.addr()).await
        };
        let unfinished = if number % 4 == 0 { &query } else { &startup };
        stranger
            .send(&unfinished[..number % unfinished.len()])
            .await;
        strangers.push(stranger);
        if number % 50 == 0 {
            witness.is_served().await;
        }
    }
    assert_bounded(&proxy, before);
    drop(strangers);
    witness.is_served().await;
    let client = postgres.connect("postgres").await;
    until(
        "the server connections of those who left to end",
        SOON,
        async || {
            let left =
                "SELECT FROM pg_stat_activity WHERE query = '' AND backend_type = 'client backend'
             AND datname = 'postgres' AND state = 'idle'";
            client.query(left, &[]).await.unwrap().is_empty()
        },
    )
    .await;
}

#[tokio::test]
async fn an_announced_gigabyte_takes_no_memory() {
    let postgres = Postgres::start().await;
    let proxy = Proxy::start(&postgres).await;
    let mut witness = Witness::arrive(&proxy).await;
    let before = proxy.resident_kib();
    let mut strangers = Vec::new();
    for tag in [b'Q', b'P', b'B', b'd', b'F'] {
        let mut stranger = proxy.session("postgres").await;
        // Postgres itself takes nearly as much in one message.
        let header = [&[tag], 1_000_000_000_u32.to_be_bytes().as_slice()].concat();
        stranger.send(&header).await;
        for _ in 0..32 {
            stranger.send(&[b'x'; 1 << 20]).await;
        }
        strangers.push(stranger);
        assert_bounded(&proxy, before);
        witness.is_served().await;
    }
}

#[tokio::test]
async fn a_client_that_does_not_read_slows_its_server_down_and_fills_no_memory() {
    let mut postgres = Postgres::start().await;
    let proxy = Proxy::start(&postgres).await;
    let mut witness = Witness::arrive(&proxy).await;
    let watcher = postgres.connect("postgres").await;
    let before = proxy.resident_kib();
    let mut reader = proxy.session("postgres").await;
    let (pid, _) = reader.key();
    reader
        .send(&message::query(
            "SELECT repeat('r', 1000000) FROM generate_series(1, 200)",
        ))
        .await;
    let stuck =
        format!("SELECT FROM pg_stat_activity WHERE pid = {pid} AND wait_event = 'ClientWrite'");
    until("the server to wait for its client", SOON, async || {
        !watcher.query(&stuck, &[]).await.unwrap().is_empty()
    })
    .await;
    assert_bounded(&proxy, before);
    witness.is_served().await;
    let answer = reader.read_until_ready().await;
    assert_eq!(
        answer.iter().filter(|message| message.tag == b'D').count(),
        200
    );
    assert_bounded(&proxy, before);
}

fn assert_bounded(proxy: &Proxy, before: u64) {
    let now = proxy.resident_kib();
    assert!(
        now < before + GROWTH_KIB,
        "memory grew from {before} KiB to {now} KiB"
    );
}

/// Garbage, or a good packet with a few bytes changed: the latter reaches deeper.
fn random_opening(random: &mut StdRng) -> Vec<u8> {
    let good = [
        message::startup(&[("user", "postgres"), ("database", "postgres")]),
        message::ssl_request(),
        message::gssenc_request(),
        message::cancel_request(4711, b"1234"),
    ];
    let bytes = good[random.random_range(0..good.len())].clone();
    spoil(random, bytes)
}

fn random_message(random: &mut StdRng) -> Vec<u8> {
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
