//! Protocol 3.0 and 3.2, how the version is negotiated, and cancel keys of every length.

use crate::support::alike::{Alike, tags};
use crate::support::cluster::Postgres;
use crate::support::holds::DB;
use crate::support::message::{self, Message};
use crate::support::poll::{SOON, until};
use crate::support::proxy::Proxy;
use crate::support::script::{Opening, Script, greeting, opening};
use crate::support::wire::Wire;

const V3_0: u32 = 3 << 16;
const V3_2: u32 = V3_0 + 2;
const V3_9999: u32 = V3_0 + 9999;

/// Start-up packets of all versions, each without and with options of the protocol.
fn packets() -> Vec<(String, Vec<u8>)> {
    let mut packets = Vec::new();
    for version in [V3_0, V3_0 + 1, V3_2, V3_0 + 3, V3_9999] {
        let known = [("user", "postgres"), ("database", DB)];
        let unknown = [("_pq_.unheard_of", "1"), ("_pq_.command_tag", "")];
        for parameters in [known.to_vec(), [known, unknown].concat()] {
            let name = format!("3.{} with {} parameters", version - V3_0, parameters.len());
            packets.push((name, message::startup_version(version, &parameters)));
        }
    }
    packets
}

/// Whatever a client asks for, it is answered as directly: once, and with the same options refused
/// (pgdog #578, pgbouncer #1460). The session works in any case.
async fn negotiates_as_the_server_does(postgres: &Postgres) {
    let alike = Alike::start(postgres).await;
    for (name, packet) in packets() {
        let answer = alike.connections(&name, async |wire: &mut Wire| {
            wire.send(&packet).await;
            let mut answer = wire.read_until_ready().await;
            answer.extend(wire.query("SELECT 1").await);
            answer
        });
        let answer = answer.await;
        let negotiations = answer.iter().filter(|message| message.tag == b'v').count();
        assert!(negotiations <= 1, "{name}: {answer:?}");
        assert!(tags(&answer).ends_with("ZTDCZ"), "{name}: {answer:?}");
    }
}

/// Logs in with this version; the session and its key.
async fn session_of_version(proxy: &Proxy, version: u32) -> Wire {
    let mut wire = Wire::connect(proxy.addr()).await;
    let packet = message::startup_version(version, &[("user", "postgres"), ("database", DB)]);
    wire.send(&packet).await;
    wire.greeting = wire.read_until_ready().await;
    wire
}

/// The key of a session of this version has the server's length, and cancels.
async fn key_cancels(postgres: &mut Postgres, version: u32, length: usize) {
    let proxy = Proxy::start(postgres).await;
    let mut wire = session_of_version(&proxy, version).await;
    let (pid, secret) = wire.key();
    assert_eq!(secret.len(), length);
    wire.send(&message::query("SELECT pg_sleep(600)")).await;
    until_it_sleeps(postgres, pid).await;
    let wrong = secret.iter().map(|byte| !byte).collect();
    for guess in [wrong, vec![0; 4], [&secret[..], &[0]].concat()] {
        Wire::cancel(proxy.addr(), (pid, guess)).await;
    }
    until_it_sleeps(postgres, pid).await;
    Wire::cancel(proxy.addr(), (pid, secret)).await;
    let answer = wire.read_until_ready().await;
    let error = answer
        .iter()
        .find(|message| message.tag == b'E')
        .map(Message::sqlstate);
    assert_eq!(error.as_deref(), Some("57014"));
}

async fn until_it_sleeps(postgres: &mut Postgres, pid: u32) {
    let watcher = postgres.connect(DB).await;
    let sleeps =
        format!("SELECT FROM pg_stat_activity WHERE pid = {pid} AND wait_event = 'PgSleep'");
    until("a statement to sleep", SOON, async || {
        !watcher
            .query(&sleeps, &[])
            .await
            .expect("an answer")
            .is_empty()
    })
    .await;
}

#[tokio::test]
async fn every_minor_version_is_negotiated_as_postgres_15_does() {
    let postgres = Postgres::start().await;
    negotiates_as_the_server_does(&postgres).await;
}

#[tokio::test]
async fn every_minor_version_is_negotiated_as_postgres_17_does() {
    if let Some(postgres) = Postgres::of_version("17", &[]).await {
        negotiates_as_the_server_does(&postgres).await;
    }
}

#[tokio::test]
async fn every_minor_version_is_negotiated_as_postgres_18_does() {
    if let Some(postgres) = Postgres::of_version("18", &[]).await {
        negotiates_as_the_server_does(&postgres).await;
    }
}

#[tokio::test]
async fn a_key_of_postgres_17_has_four_bytes_and_cancels() {
    if let Some(mut postgres) = Postgres::of_version("17", &[]).await {
        key_cancels(&mut postgres, V3_2, 4).await;
    }
}

#[tokio::test]
async fn a_key_of_postgres_18_has_32_bytes_for_those_who_ask_for_3_2_and_cancels() {
    if let Some(mut postgres) = Postgres::of_version("18", &[]).await {
        key_cancels(&mut postgres, V3_2, 32).await;
        key_cancels(&mut postgres, V3_0, 4).await;
    }
}

/// A key is opaque: any length that the protocol allows is given on, and asked for with the
/// server's own secret.
#[tokio::test]
async fn keys_of_four_to_256_bytes_are_opaque() {
    let mut script = Script::listen().await;
    let proxy = Proxy::before(&format!("postgres://postgres@{}", script.addr()), &[]).await;
    for length in [4, 5, 31, 32, 255, 256] {
        let theirs: Vec<u8> = (0..length)
            .map(|n| u8::try_from(n).expect("a byte"))
            .collect();
        let mut wire = Wire::connect(proxy.addr()).await;
        let packet = message::startup_version(V3_2, &[("user", "u"), ("database", "scripted")]);
        wire.send(&packet).await;
        let mut server = script.accept_session("scripted").await;
        server.wire.send(&greeting(4242, &theirs)).await;
        wire.greeting = wire.read_until_ready().await;
        let (pid, secret) = wire.key();
        assert_eq!((pid, secret.len()), (4242, length));
        assert_ne!(secret, theirs, "the server's secret is not for clients");

        wire.send(&message::query("SELECT 1")).await;
        server.wire.expect(b'Q').await;
        let cancel = Wire::cancel(proxy.addr(), (pid, secret));
        let serve = async {
            let mut canceller = script.accept().await;
            let packet = canceller.wire.next_startup().await.expect("a packet");
            opening(&packet)
        };
        let ((), packet) = tokio::join!(cancel, serve);
        assert_eq!(
            packet,
            Opening::Cancel {
                pid: 4242,
                secret: theirs
            }
        );
    }
}

#[tokio::test]
async fn a_key_that_no_protocol_allows_ends_the_login() {
    let mut script = Script::listen().await;
    let proxy = Proxy::before(&format!("postgres://postgres@{}", script.addr()), &[]).await;
    for length in [0, 3, 257] {
        let mut wire = Wire::connect(proxy.addr()).await;
        wire.send(&message::startup(&[
            ("user", "u"),
            ("database", "scripted"),
        ]))
        .await;
        let mut server = script.accept_session("scripted").await;
        server.wire.send(&greeting(4242, &vec![1; length])).await;
        let answer = wire.read_to_end().await;
        let last = answer.last().expect("an error");
        assert_eq!(
            (last.tag, last.sqlstate()),
            (b'E', "08P01".into()),
            "{length} bytes"
        );
    }
}
