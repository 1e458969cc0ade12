//! Strangers send anything: their connection ends, with an ErrorResponse where the protocol allows
//! one, memory stays bounded, and others are served all the while.

mod garbage;

use std::net::SocketAddr;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use self::garbage::{bad_messages, bad_openings, random_message, random_opening};
use crate::support::cluster::Postgres;
use crate::support::message::{self, Message};
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
