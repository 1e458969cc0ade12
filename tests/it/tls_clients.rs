//! Clients that encrypt: how they begin, what is asked of them, and that nothing else changes.

use pgdrain::cli::demo::cluster::process::Signal;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::certificates::{Authority, Encrypting, text};
use crate::support::cluster::Postgres;
use crate::support::holds::DB;
use crate::support::message;
use crate::support::poll::{SOON, eventually, within};
use crate::support::proxy::Proxy;
use crate::support::wire::Wire;

const USER: &str = "postgres";

/// A proxy with a certificate, and more settings.
async fn proxy(postgres: &Postgres, authority: &Authority, settings: &[(&str, &str)]) -> Proxy {
    let pair = authority.sign("proxy", &["localhost"]);
    let all = [&pair.settings(), settings].concat();
    Proxy::start_set(postgres, &all).await
}

fn startup() -> Vec<u8> {
    message::startup(&[("user", USER), ("database", DB)])
}

#[tokio::test]
async fn both_ways_to_begin_lead_to_a_session() {
    let postgres = Postgres::start().await;
    let authority = Authority::new("ours");
    let proxy = proxy(&postgres, &authority, &[]).await;
    let tls = Encrypting::trusting(&authority, None);

    let mut direct = tls.session(proxy.addr(), USER, DB).await;
    assert_eq!(direct.query_one("select 1").await, "1");
    let mut asked = Wire::new(tls.asked(proxy.addr()).await.expect("a handshake"));
    asked.send(&startup()).await;
    asked.authenticate(USER, None).await.expect("let in");
    assert_eq!(asked.query_one("select 2").await, "2");
    // Who does not ask is not encrypted.
    let mut plain = proxy.session(DB).await;
    assert_eq!(plain.query_one("select 3").await, "3");
}

#[tokio::test]
async fn who_begins_with_the_handshake_names_the_protocol() {
    let postgres = Postgres::start().await;
    let authority = Authority::new("ours");
    let proxy = proxy(&postgres, &authority, &[]).await;

    let nameless = Encrypting::trusting(&authority, None).naming(&[]);
    let mut stream = nameless.direct(proxy.addr()).await.expect("a handshake");
    // The connection may be closed already.
    let _ = stream.write_all(&startup()).await;
    let mut answer = Vec::new();
    let _ = within("the end", SOON, stream.read_to_end(&mut answer)).await;
    assert_eq!(answer, b"");
    // Who asked first has named it so.
    let mut wire = Wire::new(nameless.asked(proxy.addr()).await.expect("a handshake"));
    wire.send(&startup()).await;
    wire.authenticate(USER, None).await.expect("let in");

    let other = Encrypting::trusting(&authority, None).naming(&["http/1.1"]);
    assert!(other.direct(proxy.addr()).await.is_err());
    assert!(other.asked(proxy.addr()).await.is_err());
}

#[tokio::test]
async fn each_mode_asks_what_it_says() {
    let postgres = Postgres::start().await;
    let (ours, others) = (Authority::new("ours"), Authority::new("others"));
    let (none, right) = (
        Encrypting::trusting(&ours, None),
        Encrypting::trusting(&ours, Some(&ours.sign("anna", &["postgres"]))),
    );
    let wrong = Encrypting::trusting(&ours, Some(&others.sign("postgres", &[])));
    for (mode, plain, without) in [
        ("disable", Some(""), None),
        ("allow", Some(""), Some("")),
        ("require", Some("28000"), Some("")),
        ("verify-ca", Some("28000"), Some("28000")),
    ] {
        let root = ours.root();
        let settings = [("TLS_MODE", mode), ("TLS_CLIENT_CA", text(&root))];
        let proxy = proxy(&postgres, &ours, &settings).await;

        let mut wire = Wire::connect(proxy.addr()).await;
        wire.send(&startup()).await;
        check(mode, "plain", plain, wire.read_login().await);

        match none.direct(proxy.addr()).await {
            Err(_) => assert_eq!(without, None, "{mode}"),
            Ok(stream) => {
                let mut wire = Wire::new(stream);
                wire.send(&startup()).await;
                check(mode, "encrypted", without, wire.read_login().await);
            }
        }
        // A certificate that we do not know ends the handshake, which the client may learn late.
        if let Ok(stream) = wrong.direct(proxy.addr()).await {
            let mut wire = Wire::new(stream);
            let _ = wire.try_send(&startup()).await;
            let answer = wire.read_raw_to_end().await;
            assert_eq!(answer, b"", "{mode}");
        }
        if mode == "disable" {
            let mut wire = Wire::connect(proxy.addr()).await;
            wire.send(&message::ssl_request()).await;
            assert_eq!(wire.try_read_byte().await, Some(b'N'));
            continue;
        }
        let mut wire = right.session(proxy.addr(), USER, DB).await;
        assert_eq!(wire.query_one("select 1").await, "1", "{mode}");
    }
}

/// Compares how a login went: "" is a session, a SQLSTATE a refusal.
fn check(mode: &str, what: &str, expected: Option<&str>, answer: Vec<message::Message>) {
    let last = answer.last();
    let seen = last.map(|last| match last.tag {
        b'E' => last.sqlstate(),
        _ => String::new(),
    });
    assert_eq!(seen.as_deref(), expected, "{mode}, {what}: {answer:?}");
}

#[tokio::test]
async fn plaintext_behind_the_request_ends_the_connection() {
    let postgres = Postgres::start().await;
    let authority = Authority::new("ours");
    let proxy = proxy(&postgres, &authority, &[]).await;
    // CVE-2021-23214: what came in plaintext must not be taken for what was encrypted.
    let mut wire = Wire::connect(proxy.addr()).await;
    wire.send(&[message::ssl_request(), startup()].concat())
        .await;
    let answer = wire.read_to_end().await;
    assert_eq!(answer.len(), 1, "{answer:?}");
    assert_eq!(answer[0].sqlstate(), "08P01");
    // Nor what comes a moment later, in front of the handshake.
    let mut wire = Wire::connect(proxy.addr()).await;
    wire.send(&message::ssl_request()).await;
    assert_eq!(wire.try_read_byte().await, Some(b'S'));
    wire.send(&startup()).await;
    let answer = wire.read_raw_to_end().await;
    // An alert of TLS, and nothing of a session.
    assert!(answer.is_empty() || answer[0] == 0x15, "{answer:?}");
}

#[tokio::test]
async fn a_cancel_request_arrives_encrypted_or_not() {
    let mut postgres = Postgres::start().await;
    let authority = Authority::new("ours");
    let proxy = proxy(&postgres, &authority, &[("TLS_MODE", "require")]).await;
    let tls = Encrypting::trusting(&authority, None);
    for encrypted in [true, false] {
        let mut wire = tls.session(proxy.addr(), USER, DB).await;
        let (pid, secret) = wire.key();
        wire.send(&message::query("select pg_sleep(60)")).await;
        postgres.until_asleep(pid).await;
        if encrypted {
            let mut stream = tls.direct(proxy.addr()).await.expect("a handshake");
            let request = message::cancel_request(pid, &secret);
            stream.write_all(&request).await.expect("taken");
            let mut rest = Vec::new();
            let end = within("the end", SOON, stream.read_to_end(&mut rest)).await;
            assert_eq!(end.expect("an end in order"), 0);
        } else {
            Wire::cancel(proxy.addr(), (pid, secret)).await;
        }
        let answer = wire.read_until_ready().await;
        let error = answer.iter().find(|message| message.tag == b'E');
        assert_eq!(error.expect("cancelled").sqlstate(), "57014");
    }
}

#[tokio::test]
async fn a_held_client_waits_goes_on_and_leaves_as_a_plain_one_does() {
    let mut postgres = Postgres::start().await;
    postgres.execute("create table t (n int)").await;
    let authority = Authority::new("ours");
    let proxy = proxy(&postgres, &authority, &[]).await;
    let tls = Encrypting::trusting(&authority, None);
    let mut stays = tls.session(proxy.addr(), USER, DB).await;
    let mut leaves = tls.session(proxy.addr(), USER, DB).await;
    let mut vanishes = tls.session(proxy.addr(), USER, DB).await;

    proxy.hold_drained(DB, json!({"for": "60s"})).await;
    stays
        .send(&message::query("insert into t values (1)"))
        .await;
    leaves
        .send(&message::query("insert into t values (2)"))
        .await;
    vanishes
        .send(&message::query("insert into t values (3)"))
        .await;
    proxy.until_held(DB, 3).await;
    // One says so in TLS, the other closes its socket.
    leaves.close_write().await;
    drop(vanishes);
    proxy.until_held(DB, 1).await;
    proxy.open(DB).await;
    stays.read_until_ready().await;
    let mut direct = Wire::login(postgres.addr(), USER, DB).await;
    assert_eq!(
        direct
            .query_one("select string_agg(n::text, ',') from t")
            .await,
        "1"
    );
}

#[tokio::test]
async fn a_client_that_sends_no_more_still_reads_its_answer() {
    let postgres = Postgres::start().await;
    let authority = Authority::new("ours");
    let proxy = proxy(&postgres, &authority, &[]).await;
    let tls = Encrypting::trusting(&authority, None);
    let mut wire = tls.session(proxy.addr(), USER, DB).await;
    wire.send(&message::query("select 42 from pg_sleep(0.3)"))
        .await;
    wire.close_write().await;
    let answer = wire.read_to_end().await;
    let row = answer.iter().find(|message| message.tag == b'D');
    let columns = row.expect("the answer").columns();
    assert_eq!(columns, [Some("42".to_owned())]);
}

/// Supavisor #993: large messages both ways at once, each side sending before it reads.
#[tokio::test]
async fn large_messages_both_ways_do_not_wait_for_each_other() {
    let mut postgres = Postgres::start().await;
    postgres.execute("create table t (v text)").await;
    let authority = Authority::new("ours");
    let server = authority.sign("server", &["localhost"]);
    postgres.encrypt(&server, None).await;
    let proxy = proxy(&postgres, &authority, &[]).await;
    let tls = Encrypting::trusting(&authority, None);
    let stream = tls.session(proxy.addr(), USER, DB).await.into_stream();
    let (mut read, mut write) = tokio::io::split(stream);

    let value = "x".repeat(3 << 20);
    let statement = message::query(&format!("select '{value}', '{value}'"));
    let count = 8;
    let sending = async {
        for _ in 0..count {
            write.write_all(&statement).await.expect("taken");
        }
        write.flush().await.expect("taken");
    };
    let expected = count * 2 * value.len();
    let reading = async {
        let (mut read_so_far, mut chunk) = (0, vec![0; 64 << 10]);
        while read_so_far < expected {
            let length = read.read(&mut chunk).await.expect("an answer");
            assert_ne!(length, 0, "the end after {read_so_far} bytes");
            read_so_far += length;
        }
    };
    within("both", SOON * 3, async { tokio::join!(sending, reading) }).await;
}

#[tokio::test]
async fn new_certificates_are_shown_from_a_reload_on_and_broken_ones_change_nothing() {
    let postgres = Postgres::start().await;
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let pair = old.sign("proxy", &["localhost"]);
    let proxy = Proxy::start_set(&postgres, &pair.settings()).await;
    let (trusts_old, trusts_new) = (
        Encrypting::trusting(&old, None),
        Encrypting::trusting(&new, None),
    );
    let mut session = trusts_old.session(proxy.addr(), USER, DB).await;
    session.execute("create temp table mine (n int)").await;

    pair.replace_by(&new.sign("proxy", &["localhost"]));
    proxy.signal(Signal::Hangup);
    eventually("the new certificate", SOON, async || {
        trusts_new.direct(proxy.addr()).await.ok()
    })
    .await;
    assert!(trusts_old.direct(proxy.addr()).await.is_err());
    // The session is the same, and so is its server's.
    session.execute("insert into mine values (1)").await;

    std::fs::write(&pair.certificate, "nothing").expect("writable");
    proxy.signal(Signal::Hangup);
    eventually("the mistake in the log", SOON, async || {
        proxy
            .log()
            .contains("holds no PEM certificate")
            .then_some(())
    })
    .await;
    let mut wire = trusts_new.session(proxy.addr(), USER, DB).await;
    assert_eq!(wire.query_one("select 1").await, "1");
    session.execute("insert into mine values (2)").await;
}
