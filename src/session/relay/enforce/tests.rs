//! A scripted server is told, and says this or that.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{
    AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf, duplex,
};
use tokio::task::JoinSet;

use super::*;
use crate::audit::Audit;
use crate::config::{Blocked, Config, Source, Surroundings, Then};
use crate::gate::Gate;
use crate::gate::mode::{HoldSpec, Holder};
use crate::metrics::Metrics;
use crate::server::cancel::Cancels;
use crate::server::connect::{Endpoint, Route};
use crate::session::registry::{Activity, Login, Session, Sessions, Signals};
use crate::session::relay::{Common, End};
use crate::tasks::Tasks;
use crate::tls::stream::Peer;

/// One end of a connection in memory.
struct Pipe(DuplexStream);

impl AsyncRead for Pipe {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.get_mut().0).poll_write(cx, buf)
    }
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_flush(cx)
    }
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_shutdown(cx)
    }
}

impl Socket for Pipe {
    fn peer_has_closed(&self, _cx: &mut Context<'_>) -> bool {
        false
    }
    fn has_unsent(&self) -> bool {
        false
    }
}

/// A session, and what is at its two ends.
struct Play {
    gate: Arc<Gate>,
    session: Arc<Session>,
    client: DuplexStream,
    server: DuplexStream,
    running: JoinSet<End>,
}

fn config() -> Arc<Config> {
    let source = Source::new(None)
        .flag("--upstream", "upstream.url", "postgres://db")
        .flag("--state-dir", "state_dir", "/nowhere");
    let loaded = source.load(&Surroundings::default());
    Arc::new(loaded.expect("a server is all it needs").config)
}

impl Play {
    /// In read-only mode from the beginning.
    fn read_only() -> Play {
        let play = Play::open();
        play.hold();
        play
    }

    fn open() -> Play {
        let (tasks, metrics) = (Tasks::new(), Arc::new(Metrics::new()));
        let audit = Arc::new(Audit::in_memory());
        let gate = Arc::new(Gate::new("d", tasks.clone(), Arc::clone(&metrics), audit));
        let session = Sessions::default().add(Login {
            database: "d".into(),
            user: "u".into(),
            application_name: "".into(),
            replication: None,
            held_by_holds: true,
            pass: None,
            client: Peer::Unix,
            route: Route::plain(Endpoint::Unix("/nowhere".into())),
            server_key: None,
            client_key: None,
        });
        let ((client, near), (server, far)) = (duplex(1 << 16), duplex(1 << 16));
        let relay = Relay::new(
            (Pipe(near), BytesMut::new()),
            (Pipe(far), BytesMut::new()),
            Arc::clone(&session),
            (Arc::clone(&gate), Vec::new()),
            config(),
            Arc::new(Common {
                tasks,
                metrics,
                cancels: Cancels::new(1),
            }),
        );
        let mut running = JoinSet::new();
        running.spawn(relay.run());
        Play {
            gate,
            session,
            client,
            server,
            running,
        }
    }

    fn hold(&self) {
        let spec = HoldSpec {
            sqlstate: None,
            duration: Duration::from_secs(3600),
            then: Then::Open,
            read_only: true,
            blocked: Blocked::Queue,
            first_stage: Duration::ZERO,
            client_deadline: Duration::from_secs(60),
            by: String::new(),
            reason: None,
        };
        self.gate.hold(Holder::Operator, spec);
        self.session.signal(Signals::READ_ONLY);
    }

    fn end(&self) {
        self.gate.end_hold(Holder::Operator, None);
        self.session.signal(Signals::READ_ONLY);
    }

    /// The statements that the server is told by us, up to its Sync.
    async fn orders(&mut self) -> Vec<String> {
        let mut orders = Vec::new();
        loop {
            let (tag, body) = self.server_reads().await;
            match tag {
                b'S' => return orders,
                b'P' => {
                    let text = body.strip_prefix(b"__pgdrain\0").expect("our name");
                    let text = text.split(|byte| *byte == 0).next().expect("a text");
                    orders.push(String::from_utf8_lossy(text).into_owned());
                }
                b'B' | b'E' | b'C' => {}
                other => panic!("{} {body:?}", char::from(other)),
            }
        }
    }

    async fn server_reads(&mut self) -> (u8, Vec<u8>) {
        message(&mut self.server).await.expect("a message")
    }

    async fn server_says(&mut self, bytes: &[u8]) {
        self.server.write_all(bytes).await.expect("there is room");
    }

    /// The server obeys the order to refuse writes; the client's own value, and that after a reset.
    async fn refuses(&mut self, own: &str, reset: &str) {
        assert_eq!(
            self.orders().await,
            [
                "SHOW default_transaction_read_only",
                "RESET default_transaction_read_only",
                "SHOW default_transaction_read_only",
                "SET default_transaction_read_only = on"
            ]
        );
        let told = if own == "off" { told("on") } else { Vec::new() };
        let rows = [shown(own), done("RESET"), shown(reset), done("SET")];
        self.server_says(&[rows.concat(), told, ready(b'I')].concat())
            .await;
    }

    /// The same for the order to do as the client has set.
    async fn obeys(&mut self, order: &str) {
        let show = "SHOW default_transaction_read_only";
        assert_eq!(self.orders().await, [order, show]);
        let answer = [done("RESET"), shown("off"), told("off"), ready(b'I')];
        self.server_says(&answer.concat()).await;
    }

    async fn ended(&mut self) -> End {
        let ended = self.running.join_next().await;
        ended.expect("one").expect("no panic")
    }

    async fn until(&self, enforcement: Enforcement) {
        let looks = async {
            while self.session.enforcement() != enforcement {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let end = tokio::time::timeout(Duration::from_secs(30), looks).await;
        end.unwrap_or_else(|_| panic!("{:?}", self.session.enforcement()));
    }

    async fn client_sends(&mut self, bytes: &[u8]) {
        self.client.write_all(bytes).await.expect("there is room");
    }

    /// The client's next message is this one.
    async fn client_gets(&mut self, wanted: &[u8]) {
        let mut got = vec![0; wanted.len()];
        let read = self.client.read_exact(&mut got);
        let read = tokio::time::timeout(Duration::from_secs(30), read).await;
        read.expect("in time").expect("so many bytes");
        assert_eq!(got, wanted, "{}", got.escape_ascii());
    }

    /// A query goes through, and the client has got nothing else before.
    async fn works(&mut self) {
        let query = tagged(b'Q', b"SELECT 1\0");
        self.client_sends(&query).await;
        assert_eq!(self.server_reads().await, (b'Q', b"SELECT 1\0".to_vec()));
        let answer = [tagged(b'C', b"SELECT 1\0"), ready(b'I')].concat();
        self.server_says(&answer).await;
        self.client_gets(&answer).await;
    }

    /// Neither end is told anything.
    async fn assert_silent(&mut self) {
        let mut byte = [0];
        let read = tokio::time::timeout(
            Duration::from_millis(500),
            self.server.read_exact(&mut byte),
        );
        assert!(read.await.is_err(), "the server got {byte:?}");
        let read = tokio::time::timeout(
            Duration::from_millis(500),
            self.client.read_exact(&mut byte),
        );
        assert!(read.await.is_err(), "the client got {byte:?}");
    }
}

async fn message(from: &mut DuplexStream) -> Option<(u8, Vec<u8>)> {
    let read = async {
        let mut header = [0; 5];
        from.read_exact(&mut header).await.ok()?;
        let length = u32::from_be_bytes([header[1], header[2], header[3], header[4]]);
        let mut body = vec![0; length as usize - 4];
        from.read_exact(&mut body).await.ok()?;
        Some((header[0], body))
    };
    let read = tokio::time::timeout(Duration::from_secs(30), read).await;
    read.expect("a message in time")
}

fn tagged(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).expect("test messages are short");
    [&[tag][..], &length.to_be_bytes(), body].concat()
}

fn ready(status: u8) -> Vec<u8> {
    tagged(b'Z', &[status])
}

fn told(value: &str) -> Vec<u8> {
    tagged(
        b'S',
        format!("default_transaction_read_only\0{value}\0").as_bytes(),
    )
}

/// The answers to the messages of one statement.
fn done(tag: &str) -> Vec<u8> {
    let tag = tagged(b'C', format!("{tag}\0").as_bytes());
    let closed = tagged(b'3', b"");
    [
        tagged(b'1', b""),
        tagged(b'2', b""),
        tag,
        closed.clone(),
        closed,
    ]
    .concat()
}

/// The same of a `SHOW`.
fn shown(value: &str) -> Vec<u8> {
    let length = u32::try_from(value.len()).expect("short").to_be_bytes();
    let row = tagged(b'D', &[&[0, 1][..], &length, value.as_bytes()].concat());
    let done = done("SHOW");
    // Behind ParseComplete and BindComplete.
    [&done[..10], &row, &done[10..]].concat()
}

fn error(sqlstate: &str) -> Vec<u8> {
    let body = format!("SERROR\0VERROR\0C{sqlstate}\0Mno\0\0");
    [tagged(b'E', body.as_bytes()), ready(b'I')].concat()
}

const RESET: &str = "RESET default_transaction_read_only";

#[tokio::test(start_paused = true)]
async fn a_session_is_enforced_before_anything_of_it_starts_and_gets_its_value_back() {
    let mut play = Play::read_only();
    play.client_sends(&tagged(b'Q', b"INSERT\0")).await;
    play.refuses("off", "off").await;
    play.until(Enforcement::Enforced).await;
    play.assert_silent().await;
    play.end();
    play.obeys(RESET).await;
    assert_eq!(play.server_reads().await.1, b"INSERT\0");
    play.until(Enforcement::No).await;
    let answer = [tagged(b'C', b"INSERT 0 1\0"), ready(b'I')].concat();
    play.server_says(&answer).await;
    play.client_gets(&answer).await;
    play.works().await;
}

#[tokio::test(start_paused = true)]
async fn an_idle_session_follows_every_change_of_the_mode() {
    let mut play = Play::open();
    for _ in 0..3 {
        play.works().await;
        play.hold();
        play.refuses("off", "off").await;
        play.until(Enforcement::Enforced).await;
        assert_eq!(play.session.activity(), Activity::Idle);
        play.end();
        play.obeys(RESET).await;
        play.until(Enforcement::No).await;
    }
    play.works().await;
}

#[tokio::test(start_paused = true)]
async fn a_session_in_a_transaction_is_pending_up_to_its_end() {
    let mut play = Play::open();
    play.client_sends(&tagged(b'Q', b"BEGIN\0")).await;
    play.server_reads().await;
    play.server_says(&[tagged(b'C', b"BEGIN\0"), ready(b'T')].concat())
        .await;
    play.hold();
    play.until(Enforcement::Pending).await;
    play.client_sends(&tagged(b'Q', b"COMMIT\0")).await;
    assert_eq!(play.server_reads().await.1, b"COMMIT\0");
    play.server_says(&[tagged(b'C', b"COMMIT\0"), ready(b'I')].concat())
        .await;
    play.refuses("off", "off").await;
    play.until(Enforcement::Enforced).await;
    assert_eq!(play.gate.permits(), 0);
}

#[tokio::test(start_paused = true)]
async fn each_client_gets_back_what_it_had_and_is_told_nothing() {
    // Its own, that of a new session, and what is sent for it.
    let asks = "SELECT pg_catalog.set_config(name, 'off', false) FROM pg_catalog.pg_settings \
                WHERE name OPERATOR(pg_catalog.=) 'default_transaction_read_only' \
                AND source OPERATOR(pg_catalog.=) 'session'";
    for (own, reset, order) in [
        ("off", "off", Some(RESET)),
        ("on", "on", Some(RESET)),
        ("off", "on", Some(asks)),
        ("on", "off", None),
    ] {
        let mut play = Play::read_only();
        play.refuses(own, reset).await;
        play.until(Enforcement::Enforced).await;
        play.end();
        let show = "SHOW default_transaction_read_only";
        let orders: Vec<&str> = order.into_iter().chain([show]).collect();
        assert_eq!(play.orders().await, orders);
        let back = if order.is_some() {
            done("RESET")
        } else {
            Vec::new()
        };
        let told = if own == "off" {
            told("off")
        } else {
            Vec::new()
        };
        let answer = [back, shown(own), told, ready(b'I')];
        play.server_says(&answer.concat()).await;
        play.works().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_is_told_when_its_own_value_has_changed_meanwhile() {
    let mut play = Play::read_only();
    play.refuses("on", "on").await;
    play.until(Enforcement::Enforced).await;
    play.end();
    // The server's configuration was changed.
    play.obeys(RESET).await;
    play.client_gets(&told("off")).await;
    play.works().await;
}

#[tokio::test(start_paused = true)]
async fn an_escape_is_undone_at_once_and_the_client_sees_its_own_value_alone() {
    let mut play = Play::read_only();
    play.refuses("off", "off").await;
    play.until(Enforcement::Enforced).await;
    let zone = tagged(b'S', b"TimeZone\0UTC\0");
    for byte in [zone.clone(), told("off")].concat() {
        play.server_says(&[byte]).await;
    }
    play.client_gets(&zone).await;
    play.until(Enforcement::Pending).await;
    play.refuses("off", "off").await;
    play.until(Enforcement::Enforced).await;
    play.end();
    play.obeys(RESET).await;
    play.works().await;
}

#[tokio::test(start_paused = true)]
async fn a_mode_that_ends_while_the_server_is_told_is_undone_behind_it() {
    let mut play = Play::read_only();
    play.client_sends(&tagged(b'Q', b"SELECT 2\0")).await;
    tokio::task::yield_now().await;
    play.end();
    play.refuses("off", "off").await;
    play.obeys(RESET).await;
    assert_eq!(play.server_reads().await.1, b"SELECT 2\0");
}

#[tokio::test(start_paused = true)]
async fn an_order_that_failed_is_given_again_at_once_and_then_each_second() {
    let mut play = Play::read_only();
    for _ in 0..3 {
        play.orders().await;
        play.server_says(&error("57014")).await;
    }
    play.until(Enforcement::Pending).await;
    let before = Instant::now();
    play.refuses("off", "off").await;
    assert!(before.elapsed() >= Duration::from_millis(900));
    play.until(Enforcement::Enforced).await;
    play.end();
    play.obeys(RESET).await;
    play.works().await;
}

#[tokio::test(start_paused = true)]
async fn where_the_server_never_obeys_the_session_stays_pending_and_goes_on_behind_the_mode() {
    let mut play = Play::read_only();
    play.client_sends(&tagged(b'Q', b"SELECT 3\0")).await;
    for _ in 0..TRIES_MAX * ROUNDS_MAX {
        play.orders().await;
        play.server_says(&error("42501")).await;
    }
    play.assert_silent().await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    play.assert_silent().await;
    assert_eq!(play.session.enforcement(), Enforcement::Pending);
    play.end();
    assert_eq!(play.server_reads().await.1, b"SELECT 3\0");
    play.until(Enforcement::No).await;
}

#[tokio::test(start_paused = true)]
async fn who_cannot_be_given_its_value_back_has_to_connect_anew() {
    let mut play = Play::read_only();
    play.refuses("off", "off").await;
    play.until(Enforcement::Enforced).await;
    play.end();
    play.client_sends(&tagged(b'Q', b"SELECT 4\0")).await;
    for _ in 0..TRIES_MAX * ROUNDS_MAX {
        play.orders().await;
        play.server_says(&error("42501")).await;
    }
    let (tag, body) = message(&mut play.client).await.expect("an error");
    assert_eq!(tag, b'E');
    assert!(body.windows(5).any(|it| it == b"57P01"));
    assert_eq!(play.server_reads().await.0, b'X');
}

#[tokio::test(start_paused = true)]
async fn a_server_that_has_half_a_message_is_told_when_it_has_all_of_it() {
    let mut play = Play::open();
    let query = tagged(b'Q', b"SELECT 5\0");
    play.client_sends(&query[..7]).await;
    let mut half = [0; 7];
    play.server.read_exact(&mut half).await.expect("a part");
    play.hold();
    play.until(Enforcement::Pending).await;
    play.assert_silent().await;
    play.end();
    play.client_sends(&query[7..]).await;
    let mut rest = vec![0; query.len() - 7];
    play.server.read_exact(&mut rest).await.expect("the rest");
    let answer = [tagged(b'C', b"SELECT 1\0"), ready(b'I')].concat();
    play.hold();
    play.server_says(&answer).await;
    play.client_gets(&answer).await;
    play.refuses("off", "off").await;
    play.until(Enforcement::Enforced).await;
}

#[tokio::test(start_paused = true)]
async fn a_mode_that_ends_in_the_middle_of_a_message_lets_it_on_and_a_part_keeps_no_drain_waiting()
{
    let mut play = Play::read_only();
    play.refuses("off", "off").await;
    play.until(Enforcement::Enforced).await;
    let unknown = tagged(b'z', b"of no known type");
    play.client_sends(&unknown[..7]).await;
    let mut part = [0; 7];
    play.server.read_exact(&mut part).await.expect("the front");
    play.end();
    play.client_sends(&unknown[7..12]).await;
    let mut part = [0; 5];
    play.server.read_exact(&mut part).await.expect("the middle");
    assert_eq!(play.gate.permits(), 0);
    play.client_sends(&unknown[12..]).await;
    let mut part = vec![0; unknown.len() - 12];
    play.server.read_exact(&mut part).await.expect("the rest");
    assert_eq!(play.gate.permits(), 1);
    let answer = [error("08P01"), ready(b'I')].concat();
    play.server_says(&answer).await;
    play.client_gets(&answer).await;
    play.obeys("RESET default_transaction_read_only").await;
    play.until(Enforcement::No).await;
    play.works().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_sent_in_the_middle_of_a_notice_is_answered_behind_it() {
    let notice = tagged(b'N', b"SNOTICE\0Mof something else\0\0");
    let query = tagged(b'Q', b"SELECT 1\0");
    let answer = [tagged(b'C', b"SELECT 1\0"), ready(b'I')].concat();
    for written in [false, true] {
        let mut play = Play::read_only();
        play.refuses("off", "off").await;
        play.until(Enforcement::Enforced).await;
        play.server_says(&notice[..3]).await;
        play.client_gets(&notice[..3]).await;
        play.client_sends(&query).await;
        assert_eq!(play.server_reads().await.0, b'Q');
        if written {
            // It waits, and the client knows of nothing.
            play.server_says(&[&notice[3..], &error("25006")].concat())
                .await;
            play.client_gets(&notice[3..]).await;
            play.assert_silent().await;
            play.end();
            play.obeys(RESET).await;
            assert_eq!(play.server_reads().await.0, b'Q');
            play.server_says(&answer).await;
        } else {
            play.server_says(&[&notice[3..], &answer].concat()).await;
            play.client_gets(&notice[3..]).await;
        }
        play.client_gets(&answer).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_meanwhile_is_followed_by_its_server() {
    let mut play = Play::read_only();
    play.client_sends(&tagged(b'X', b"")).await;
    play.client.shutdown().await.expect("shut");
    play.refuses("off", "off").await;
    assert_eq!(play.server_reads().await.0, b'X');
    play.server.shutdown().await.expect("shut");
    assert_eq!(play.ended().await, End::ServerClosed);
}

#[tokio::test(start_paused = true)]
async fn the_last_words_of_a_server_that_dies_meanwhile_are_for_the_client() {
    let mut play = Play::read_only();
    play.orders().await;
    let words = tagged(b'E', b"SFATAL\0VFATAL\0C57P01\0Mgone\0\0");
    play.server_says(&words).await;
    play.server.shutdown().await.expect("shut");
    let mut got = Vec::new();
    play.client.read_to_end(&mut got).await.expect("an end");
    assert_eq!(got, words);
    play.client.shutdown().await.expect("shut");
    assert_eq!(play.ended().await, End::ServerClosed);
}

#[tokio::test(start_paused = true)]
async fn a_held_client_is_told_in_time_also_when_the_server_is_silent() {
    let mut play = Play::open();
    // Held before the session has looked at the mode.
    play.works().await;
    play.hold();
    play.refuses("off", "off").await;
    play.until(Enforcement::Enforced).await;
    play.client_sends(&tagged(b'Q', b"INSERT\0")).await;
    play.assert_silent().await;
    play.server_says(&told("off")).await;
    play.orders().await;
    let (tag, body) = tokio::time::timeout(Duration::from_secs(120), async {
        let mut header = [0; 5];
        play.client.read_exact(&mut header).await.expect("an error");
        let mut body = vec![0; usize::from(header[4]) - 4];
        play.client.read_exact(&mut body).await.expect("an error");
        (header[0], body)
    })
    .await
    .expect("in time");
    assert_eq!(tag, b'E');
    assert!(body.windows(5).any(|it| it == b"55P03"));
}
