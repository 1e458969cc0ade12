//! In open mode the bytes of both directions pass unchanged and in order.
//!
//! A scene is a piece of protocol that behaves alike each time. It is played three times: direct,
//! through the proxy, and through the proxy with a tap behind it, which shows that what one end
//! sent is what the other end got.

mod scenes;

use std::net::SocketAddr;

use self::scenes::{Batch, Scene, Until};
use crate::support::alike::masked;
use crate::support::cluster::Postgres;
use crate::support::message::{self, Message};
use crate::support::poll::{SOON, until};
use crate::support::proxy::Proxy;
use crate::support::tap::Tap;
use crate::support::wire::Wire;

/// What the scenes read; only they write to it, and they roll back.
const SCHEMA: &str = "
    CREATE TABLE items (id int PRIMARY KEY, name text);
    INSERT INTO items SELECT n, 'item ' || n FROM generate_series(1, 1000) n;
    CREATE FUNCTION speak(text) RETURNS int LANGUAGE plpgsql AS
        $$ BEGIN RAISE NOTICE '%', $1 USING DETAIL = 'd', HINT = 'h'; RETURN 1; END $$";

/// Everything that a client was sent during a scene, login included.
struct Transcript {
    sent: Vec<u8>,
    received: Vec<Message>,
}

#[tokio::test]
async fn every_protocol_feature_reads_the_same_as_direct() {
    let mut postgres = Postgres::start().await;
    postgres.execute(SCHEMA).await;
    let proxy = Proxy::start(&postgres).await;
    for scene in scenes::all() {
        let direct = play(postgres.addr(), &scene, "same").await;
        let proxied = play(proxy.addr(), &scene, "same").await;
        assert_same(&scene, &masked(direct.received), &masked(proxied.received));
    }
}

#[tokio::test]
async fn what_one_end_sends_is_what_the_other_end_gets() {
    let mut postgres = Postgres::start().await;
    postgres.execute(SCHEMA).await;
    let tap = Tap::start(postgres.addr()).await;
    let proxy = Proxy::before(
        &format!("postgres://postgres@{}/?sslmode=disable", tap.addr()),
        &[],
    )
    .await;
    for (number, scene) in scenes::all().into_iter().enumerate() {
        let mark = format!("scene {number:03}");
        let transcript = play(proxy.addr(), &scene, &mark).await;
        let recording = tap.ended_connection(&mark).await;
        assert!(
            recording.after_startup() == transcript.sent,
            "{}: the server got {} bytes, the client had sent {}",
            scene.name,
            recording.after_startup().len(),
            transcript.sent.len()
        );
        // Only the secret of the key is the proxy's own.
        let served = masked(messages(&recording.backend));
        assert_same(&scene, &served, &masked(transcript.received));
    }
}

#[tokio::test]
async fn every_password_exchange_passes_through() {
    let hba = [
        "local all all trust",
        "host all plain 127.0.0.1/32 password",
        "host all digest 127.0.0.1/32 md5",
        "host all scram 127.0.0.1/32 scram-sha-256",
        "host all postgres 127.0.0.1/32 trust",
    ];
    let mut postgres = Postgres::start_with(&[], &hba).await;
    postgres
        .execute(
            "CREATE USER plain PASSWORD 'secret'; CREATE USER scram PASSWORD 'secret';
             SET password_encryption = md5; CREATE USER digest PASSWORD 'secret'",
        )
        .await;
    let proxy = Proxy::start(&postgres).await;
    for user in ["plain", "digest", "scram"] {
        for password in ["secret", "wrong"] {
            let mut both = Vec::new();
            for addr in [postgres.addr(), proxy.addr()] {
                let parameters = [("user", user), ("database", "postgres")];
                both.push(
                    match Wire::login_with(addr, &parameters, Some(password)).await {
                        Ok(wire) => masked(wire.greeting),
                        Err(error) => vec![error],
                    },
                );
            }
            assert_eq!(both[0], both[1], "{user} with password {password}");
        }
    }
}

#[tokio::test]
async fn a_refused_login_reads_the_same_as_direct() {
    let postgres = Postgres::start().await;
    let proxy = Proxy::start(&postgres).await;
    let logins: [&[(&str, &str)]; 5] = [
        &[("user", "nobody here"), ("database", "postgres")],
        &[("user", "postgres"), ("database", "nowhere")],
        &[("user", "postgres")],
        &[
            ("user", "postgres"),
            ("options", "-c no.such_setting_in = -c"),
        ],
        &[("user", "postgres"), ("client_encoding", "martian")],
    ];
    for parameters in logins {
        let mut both = Vec::new();
        for addr in [postgres.addr(), proxy.addr()] {
            let mut wire = Wire::connect(addr).await;
            wire.send(&message::startup(parameters)).await;
            let mut answer = Vec::new();
            while let Some(message) = wire.try_read().await {
                let ready = message.tag == b'Z';
                answer.push(message);
                if ready {
                    break;
                }
            }
            both.push(masked(answer));
        }
        assert_eq!(both[0], both[1], "{parameters:?}");
    }
}

#[tokio::test]
async fn encryption_is_declined_with_one_byte_and_the_session_goes_on() {
    let postgres = Postgres::start().await;
    let proxy = Proxy::start(&postgres).await;
    let mut wire = Wire::connect(proxy.addr()).await;
    wire.send(&message::gssenc_request()).await;
    wire.expect_bytes(b"N").await;
    wire.send(&message::ssl_request()).await;
    wire.expect_bytes(b"N").await;
    wire.send(&message::startup(&[
        ("user", "postgres"),
        ("database", "postgres"),
    ]))
    .await;
    assert_eq!(
        wire.read_until_ready().await[0].bytes(),
        message::authentication_ok()
    );
}

#[tokio::test]
async fn a_client_may_send_ahead_of_its_login() {
    let postgres = Postgres::start().await;
    let proxy = Proxy::start(&postgres).await;
    let startup = message::startup(&[("user", "postgres"), ("database", "postgres")]);
    for length in [10, 300_000] {
        let ahead = message::query(&format!("SELECT length('{}')", "a".repeat(length)));
        let mut both = Vec::new();
        for addr in [postgres.addr(), proxy.addr()] {
            let mut wire = Wire::connect(addr).await;
            wire.send(&[startup.clone(), ahead.clone()].concat()).await;
            let greeting = wire.read_until_ready().await;
            both.push([masked(greeting), wire.read_until_ready().await].concat());
        }
        assert_eq!(both[0], both[1], "a query of {length} bytes");
    }
}

#[tokio::test]
async fn a_newer_minor_protocol_is_negotiated_by_the_server() {
    let postgres = Postgres::start().await;
    let proxy = Proxy::start(&postgres).await;
    let parameters = [
        ("user", "postgres"),
        ("database", "postgres"),
        ("_pq_.unheard_of", "1"),
    ];
    let mut both = Vec::new();
    for addr in [postgres.addr(), proxy.addr()] {
        let mut wire = Wire::connect(addr).await;
        wire.send(&message::startup_version(196_608 + 9999, &parameters))
            .await;
        both.push(masked(wire.read_until_ready().await));
    }
    assert_eq!(both[0], both[1]);
}

#[tokio::test]
async fn the_process_id_is_the_servers_and_the_secret_is_not() {
    let postgres = Postgres::start().await;
    let tap = Tap::start(postgres.addr()).await;
    let proxy = Proxy::before(
        &format!("postgres://postgres@{}/?sslmode=disable", tap.addr()),
        &[],
    )
    .await;
    let parameters = [
        ("user", "postgres"),
        ("database", "postgres"),
        ("application_name", "the key"),
    ];
    let login = Wire::login_with(proxy.addr(), &parameters, None).await;
    let mut wire = login.expect("a login");
    let (pid, secret) = wire.key();
    assert_eq!(
        wire.query_one("SELECT pg_backend_pid()").await,
        pid.to_string()
    );
    drop(wire);
    let recording = tap.ended_connection("the key").await;
    let key = messages(&recording.backend)
        .into_iter()
        .find(|message| message.tag == b'K');
    assert_ne!(key.expect("a key").body[4..], secret);
}

#[tokio::test]
async fn a_cancel_request_reaches_the_statement_and_a_wrong_secret_does_not() {
    let mut postgres = Postgres::start().await;
    let proxy = Proxy::start(&postgres).await;
    let watcher = postgres.connect("postgres").await;
    let mut both = Vec::new();
    for addr in [postgres.addr(), proxy.addr()] {
        let mut wire = Wire::login(addr, "postgres", "postgres").await;
        let (pid, secret) = wire.key();
        wire.send(&message::query("SELECT pg_sleep(600)")).await;
        let active =
            format!("SELECT FROM pg_stat_activity WHERE pid = {pid} AND wait_event = 'PgSleep'");
        until("the statement to run", SOON, async || {
            !watcher.query(&active, &[]).await.unwrap().is_empty()
        })
        .await;

        let wrong = secret.iter().map(|byte| !byte).collect();
        Wire::cancel(addr, (pid, wrong)).await;
        assert!(
            !watcher.query(&active, &[]).await.unwrap().is_empty(),
            "cancelled by a stranger"
        );
        Wire::cancel(addr, (pid, secret)).await;
        let answer = wire.read_until_ready().await;
        let error = answer
            .iter()
            .find(|message| message.tag == b'E')
            .expect("an error");
        assert_eq!(error.sqlstate(), "57014");
        both.push(answer);
    }
    assert_eq!(both[0], both[1]);
}

#[tokio::test]
async fn a_notification_reaches_a_session_that_is_idle() {
    let mut postgres = Postgres::start().await;
    let proxy = Proxy::start(&postgres).await;
    let mut wire = proxy.session("postgres").await;
    wire.execute("LISTEN news").await;
    postgres.execute("NOTIFY news, 'it happened'").await;
    let notification = wire.expect(b'A').await;
    assert_eq!(notification.body[4..], *b"news\0it happened\0");
}

#[tokio::test]
async fn a_client_that_only_stops_sending_still_gets_its_answer() {
    let postgres = Postgres::start().await;
    let proxy = Proxy::start(&postgres).await;
    let mut both = Vec::new();
    for addr in [postgres.addr(), proxy.addr()] {
        let mut wire = Wire::login(addr, "postgres", "postgres").await;
        wire.send(&message::query("SELECT repeat('x', 3000000)"))
            .await;
        wire.close_write().await;
        both.push(wire.read_to_end().await);
    }
    assert!(both[0] == both[1], "{:?} is not {:?}", both[0], both[1]);
}

/// Plays a scene in a session of its own, to its end. `name` is the application name.
async fn play(addr: SocketAddr, scene: &Scene, name: &str) -> Transcript {
    let parameters = [
        ("user", "postgres"),
        ("database", "postgres"),
        ("application_name", name),
    ];
    let login = Wire::login_with(addr, &parameters, None).await;
    let mut wire = login.unwrap_or_else(|error| panic!("{}: {error:?}", scene.name));
    let mut transcript = Transcript {
        sent: Vec::new(),
        received: wire.greeting.clone(),
    };
    for Batch { bytes, until } in &scene.batches {
        wire.send(bytes).await;
        transcript.sent.extend(bytes);
        match until {
            Until::Ready(count) => {
                for _ in 0..*count {
                    transcript.received.extend(wire.read_until_ready().await);
                }
            }
            Until::Tag(tag) => loop {
                let message = wire.read().await;
                let found = message.tag == *tag;
                transcript.received.push(message);
                if found {
                    break;
                }
            },
            Until::End => transcript.received.extend(wire.read_to_end().await),
        }
    }
    if scene.says_goodbye() {
        wire.send(&message::terminate()).await;
        transcript.sent.extend(message::terminate());
        transcript.received.extend(wire.read_to_end().await);
    }
    transcript
}

fn assert_same(scene: &Scene, expected: &[Message], found: &[Message]) {
    for (number, (expected, found)) in expected.iter().zip(found).enumerate() {
        assert_eq!(expected, found, "{}: message {number}", scene.name);
    }
    assert_eq!(
        expected.len(),
        found.len(),
        "{}: number of messages",
        scene.name
    );
}

/// Splits what a server sent.
fn messages(mut bytes: &[u8]) -> Vec<Message> {
    let mut messages = Vec::new();
    while let Some((header, rest)) = bytes.split_first_chunk::<5>() {
        let length = u32::from_be_bytes([header[1], header[2], header[3], header[4]]);
        let (body, rest) = rest.split_at(length as usize - 4);
        messages.push(Message {
            tag: header[0],
            body: body.to_vec(),
        });
        bytes = rest;
    }
    messages
}
