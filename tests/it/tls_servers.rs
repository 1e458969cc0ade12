//! Servers that encrypt: `sslmode` means what it means to libpq, for every connection of ours.

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::certificates::{Authority, text};
use crate::support::cluster::Postgres;
use crate::support::holds::DB;
use crate::support::message;
use crate::support::poll::{SOON, eventually, within};
use crate::support::proxy::Proxy;
use crate::support::script::Script;
use crate::support::tap::Tap;
use crate::support::wire::Wire;

const USER: &str = "postgres";

/// A URL of this server by its name, with these parameters.
fn url(port: u16, parameters: &str) -> String {
    format!("postgres://postgres@localhost:{port}/?{parameters}")
}

/// Logs in and asks whether the server's connection is encrypted; a SQLSTATE when refused.
async fn encrypted(proxy: &Proxy) -> Result<bool, String> {
    let mut wire = Wire::connect(proxy.addr()).await;
    wire.send(&message::startup(&[("user", USER), ("database", DB)]))
        .await;
    let answer = wire.read_login().await;
    let last = answer.last().expect("an answer");
    if last.tag == b'E' {
        return Err(last.sqlstate());
    }
    let sql = "select ssl from pg_stat_ssl where pid = pg_backend_pid()";
    Ok(wire.query_one(sql).await == "t")
}

async fn through(port: u16, parameters: &str) -> Result<bool, String> {
    let settings = [("UPSTREAM_CONNECT_RETRY", "100ms")];
    let proxy = Proxy::before_set(&url(port, parameters), &settings).await;
    encrypted(&proxy).await
}

const UNREACHABLE: &str = "57P03";

#[tokio::test]
async fn each_mode_means_what_it_means_to_libpq() {
    let (ours, others) = (Authority::new("ours"), Authority::new("others"));
    let mut with = Postgres::start().await;
    with.encrypt(&ours.sign("server", &["localhost"]), None)
        .await;
    let without = Postgres::start().await;
    let mut elsewhere = Postgres::start().await;
    elsewhere
        .encrypt(&ours.sign("server", &["db.example.com"]), None)
        .await;
    let ports = [&with, &without, &elsewhere].map(|postgres| postgres.addr().port());
    let (known, unknown) = (ours.root(), others.root());
    let (known, unknown) = (text(&known), text(&unknown));
    let (yes, no) = (Ok(true), Ok(false));
    let fails = || Err(UNREACHABLE.to_owned());
    for (mode, root, expected) in [
        ("disable", "", [no.clone(), no.clone(), no.clone()]),
        ("allow", "", [no.clone(), no.clone(), no.clone()]),
        ("prefer", "", [yes.clone(), no.clone(), yes.clone()]),
        // A root file is looked at in every mode; "prefer" then goes on without encryption.
        ("prefer", unknown, [no.clone(), no.clone(), no.clone()]),
        ("require", "", [yes.clone(), fails(), yes.clone()]),
        ("require", known, [yes.clone(), fails(), yes.clone()]),
        ("require", unknown, [fails(), fails(), fails()]),
        ("verify-ca", known, [yes.clone(), fails(), yes.clone()]),
        ("verify-ca", unknown, [fails(), fails(), fails()]),
        ("verify-full", known, [yes.clone(), fails(), fails()]),
        ("verify-full", unknown, [fails(), fails(), fails()]),
    ] {
        let root_parameter = match root {
            "" => String::new(),
            root => format!("&sslrootcert={root}"),
        };
        let parameters = format!("sslmode={mode}{root_parameter}");
        for (port, expected) in ports.into_iter().zip(expected) {
            let seen = through(port, &parameters).await;
            assert_eq!(seen, expected, "{parameters} at {port} of {ports:?}");
        }
    }
}

#[tokio::test]
async fn allow_and_prefer_go_the_other_way_when_they_are_refused() {
    let authority = Authority::new("ours");
    for (rule, mode, expected) in [("hostssl", "allow", true), ("hostnossl", "prefer", false)] {
        let rule = format!("{rule} all all all trust");
        let hba = ["local all all trust", "hostssl all admin all trust", &rule];
        let mut postgres = Postgres::start_with(&[], &["host all all all trust"]).await;
        postgres
            .encrypt(&authority.sign("server", &["localhost"]), None)
            .await;
        let client = postgres.connect("postgres").await;
        let row = client
            .query_one("show hba_file", &[])
            .await
            .expect("a setting");
        std::fs::write(row.get::<_, String>(0), hba.join("\n")).expect("writable");
        client
            .batch_execute("select pg_reload_conf()")
            .await
            .expect("allowed");
        let port = postgres.addr().port();
        eventually("the new rules", SOON, async || {
            let seen = through(port, &format!("sslmode={mode}")).await;
            (seen == Ok(expected)).then_some(())
        })
        .await;
        let only = if expected { "disable" } else { "require" };
        let refused = through(port, &format!("sslmode={only}")).await;
        assert_eq!(refused, Err("28000".to_owned()), "{rule}");
    }
}

#[tokio::test]
async fn what_openssl_believes_and_webpki_does_not_is_believed() {
    let authority = Authority::new("ours");
    // What `openssl req -x509` makes: an authority's certificate, with a common name alone.
    let pair = authority.self_signed("localhost", &[]);
    let mut postgres = Postgres::start().await;
    postgres.encrypt(&pair, None).await;
    let root = format!(
        "sslmode=verify-full&sslrootcert={}",
        text(&pair.certificate)
    );
    assert_eq!(through(postgres.addr().port(), &root).await, Ok(true));

    let mut named = Postgres::start().await;
    named.encrypt(&authority.sign("localhost", &[]), None).await;
    let root = authority.root();
    let root = format!("sslmode=verify-full&sslrootcert={}", text(&root));
    assert_eq!(through(named.addr().port(), &root).await, Ok(true));
}

#[tokio::test]
async fn our_own_connections_are_encrypted_too() {
    let authority = Authority::new("ours");
    let mut postgres = Postgres::start().await;
    postgres
        .encrypt(&authority.sign("server", &["localhost"]), None)
        .await;
    // A tap hears everything that is said to the server.
    let tap = Tap::start(postgres.addr()).await;
    let root = authority.root();
    let parameters = format!("sslmode=verify-full&sslrootcert={}", text(&root));
    let proxy = Proxy::before(&url(tap.addr().port(), &parameters), &[]).await;

    let mut wire = proxy.session(DB).await;
    wire.send(&message::query("select pg_sleep(60)")).await;
    postgres.until_asleep(wire.key().0).await;
    Wire::cancel(proxy.addr(), wire.key()).await;
    let answer = wire.read_until_ready().await;
    assert!(
        answer
            .iter()
            .any(|m| m.tag == b'E' && m.sqlstate() == "57014")
    );
    // Proved by the control connection.
    proxy.hold_drained(DB, json!({"for": "60s"})).await;
    proxy.open(DB).await;
    assert_eq!(wire.query_one("select 1").await, "1");

    let heard = tap.heard();
    assert!(heard.len() >= 3, "{} connections", heard.len());
    for said in heard {
        assert_eq!(said[..8], message::ssl_request()[..], "{said:?}");
        assert_eq!(said[8], 0x16, "a handshake");
    }
}

/// CVE-2021-23222, for each of the answers.
#[tokio::test]
async fn bytes_behind_the_servers_answer_end_the_connection() {
    for answer in [&b"SS"[..], b"SE\0\0\0\x04", b"NR", b"X", b"E\0\0\0\x04"] {
        let mut script = Script::listen().await;
        let settings = [("UPSTREAM_CONNECT_RETRY", "100ms")];
        let port = script.addr().port();
        let proxy = Proxy::before_set(&url(port, "sslmode=require"), &settings).await;
        let asking = encrypted(&proxy);
        let serving = async {
            loop {
                let mut stream = script.accept().await.wire.into_stream();
                let mut request = [0; 8];
                let read = within("a request", SOON, stream.read_exact(&mut request)).await;
                read.expect("a request for encryption");
                stream.write_all(answer).await.expect("taken");
                let mut rest = Vec::new();
                let _ = within("the end", SOON, stream.read_to_end(&mut rest)).await;
                assert_eq!(rest, b"", "after {answer:?}");
            }
        };
        let seen = tokio::select! {
            seen = asking => seen,
            () = serving => unreachable!("it serves for ever"),
        };
        assert_eq!(seen, Err(UNREACHABLE.to_owned()), "{answer:?}");
    }
}

#[tokio::test]
async fn a_server_that_wants_our_certificate_gets_it() {
    let authority = Authority::new("ours");
    let root = authority.root();
    let hba = [
        "local all all trust",
        "hostssl all postgres all cert",
        "hostnossl all postgres all trust",
    ];
    let mut postgres = Postgres::start_with(&[], &hba).await;
    postgres
        .encrypt(&authority.sign("server", &["localhost"]), Some(&root))
        .await;
    let own = authority.sign("postgres", &[]);
    let port = postgres.addr().port();
    let (certificate, key) = (text(&own.certificate), text(&own.key));
    let with = format!("sslmode=require&sslcert={certificate}&sslkey={key}");
    assert_eq!(through(port, &with).await, Ok(true));
    assert_eq!(
        through(port, "sslmode=require").await,
        Err("28000".to_owned())
    );
}

/// The first byte of a record that carries a handshake.
const HANDSHAKE: u8 = 0x16;

/// `sslnegotiation=direct` begins with the handshake and names the protocol, which servers know from 17
/// on; others end the connection, and nothing is sent to them in the clear instead.
#[tokio::test]
async fn servers_from_17_on_are_reached_by_the_handshake_at_once() {
    let authority = Authority::new("ours");
    let root = authority.root();
    let direct = format!(
        "sslmode=verify-full&sslrootcert={}&sslnegotiation=direct",
        text(&root)
    );
    let older = Some(Postgres::start().await);
    let newer = Postgres::of_version("17", &[]).await;
    for (server, expected) in [(older, Err(UNREACHABLE.to_owned())), (newer, Ok(true))] {
        let Some(mut postgres) = server else { continue };
        postgres
            .encrypt(&authority.sign("server", &["localhost"]), None)
            .await;
        let tap = Tap::start(postgres.addr()).await;
        assert_eq!(through(tap.addr().port(), &direct).await, expected);
        let heard = tap.heard();
        let begun = heard.iter().filter_map(|bytes| bytes.first());
        assert!(!heard.is_empty());
        assert!(begun.into_iter().all(|first| *first == HANDSHAKE));
    }
}
