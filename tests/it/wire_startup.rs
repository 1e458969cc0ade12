//! The start-up packet: every form of its parameters, every size, however it arrives.

use serde_json::json;

use crate::support::alike::{Alike, tags};
use crate::support::cluster::Postgres;
use crate::support::holds::DB;
use crate::support::message::{self, Message, untagged};
use crate::support::proxy::Proxy;
use crate::support::script::Script;
use crate::support::wire::Wire;

/// `MAX_STARTUP_PACKET_LENGTH` of the server, which does not count the length word.
const LARGEST: usize = 10_000 + 4;

/// What the server took from the start-up packet.
const TAKEN: &str = "SELECT name, setting FROM pg_settings WHERE source = 'client' ORDER BY name";

/// A start-up packet whose names and values are not text.
fn startup_of_bytes(parameters: &[(&str, &[u8])]) -> Vec<u8> {
    let mut body = 196_608_u32.to_be_bytes().to_vec();
    for (name, value) in parameters {
        body.extend([name.as_bytes(), &[0], value, &[0]].concat());
    }
    body.push(0);
    untagged(&body)
}

/// A start-up packet of exactly this length, its length word included.
fn startup_of_length(length: usize) -> Vec<u8> {
    let with = |filler: &str| {
        let options = format!("-c my.filler={filler}");
        message::startup(&[
            ("user", "postgres"),
            ("database", DB),
            ("options", &options),
        ])
    };
    let packet = with(&"f".repeat(length - with("").len()));
    assert_eq!(packet.len(), length);
    packet
}

/// Logs in and asks what the server made of it; a refusal is all there is otherwise.
async fn login_and_ask(wire: &mut Wire, packet: &[u8], question: &str) -> Vec<Message> {
    wire.send(packet).await;
    let mut answer = Vec::new();
    while let Some(message) = wire.try_read().await {
        let tag = message.tag;
        answer.push(message);
        if tag == b'Z' {
            answer.extend(wire.query(question).await);
            break;
        }
    }
    answer
}

#[tokio::test]
async fn options_arrive_in_every_form() {
    let postgres = Postgres::start().await;
    let alike = Alike::start(&postgres).await;
    for options in [
        "-c work_mem=1MB",
        "-cwork_mem=1MB",
        "--work_mem=1MB",
        "--work-mem=1MB",
        "-c work_mem=1MB --geqo=off -c search_path=a,b",
        r"-c search_path=with\ a\ space,\\backslash --my.name=\ ",
        "  -c   work_mem=1MB   ",
        "-c work_mem=1MB -c work_mem=2MB",
        "-S 1024 -F",
        "-c",
        "--work_mem",
        "-c nonsense",
        "-c work_mem=much",
        "not an option",
        "",
    ] {
        let packet = message::startup(&[
            ("user", "postgres"),
            ("database", DB),
            ("options", options),
            ("DateStyle", "German"),
            ("extra_float_digits", "2"),
        ]);
        alike
            .connections(options, async |wire: &mut Wire| {
                login_and_ask(wire, &packet, TAKEN).await
            })
            .await;
    }
}

/// Drivers send them in two writes, networks in as many as they like (pgbouncer #1058).
#[tokio::test]
async fn a_startup_packet_may_come_byte_by_byte() {
    let postgres = Postgres::start().await;
    let alike = Alike::start(&postgres).await;
    let packet = message::startup(&[("user", "postgres"), ("database", DB)]);
    let answer = alike.connections("byte by byte", async |wire: &mut Wire| {
        for byte in &packet[..packet.len() - 1] {
            wire.send(&[*byte]).await;
            tokio::task::yield_now().await;
        }
        login_and_ask(wire, &packet[packet.len() - 1..], TAKEN).await
    });
    assert!(tags(&answer.await).ends_with("ZTCZ"));
}

/// One byte more and the server closes; so does the proxy, which says why (pgbouncer #1058).
#[tokio::test]
async fn the_largest_startup_packet_is_taken_and_one_byte_more_is_not() {
    let postgres = Postgres::start().await;
    let alike = Alike::start(&postgres).await;
    let proxy = &alike.proxy;
    let largest = startup_of_length(LARGEST);
    let answer = alike.connections("the largest", async |wire: &mut Wire| {
        login_and_ask(
            wire,
            &largest,
            "SELECT length(current_setting('my.filler'))",
        )
        .await
    });
    assert!(tags(&answer.await).ends_with("TDCZ"));

    let larger = startup_of_length(LARGEST + 1);
    for peer in [postgres.addr(), proxy.addr()] {
        let mut wire = Wire::connect(peer).await;
        wire.send(&larger).await;
        assert_eq!(wire.read_raw_to_end().await, b"");
    }
}

#[tokio::test]
async fn bytes_that_are_no_utf8_pass_in_sql_and_in_names() {
    let mut postgres = Postgres::start().await;
    postgres
        .execute("CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
        .await;
    let mut creator = Wire::connect(postgres.addr()).await;
    creator
        .send(&startup_of_bytes(&[
            ("user", b"postgres"),
            ("database", b"latin"),
            ("client_encoding", b"LATIN1"),
        ]))
        .await;
    creator.read_until_ready().await;
    for sql in [
        b"CREATE USER \"j\xfcrg\"\0".as_slice(),
        b"CREATE DATABASE \"b\xe4r\" ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0\0",
    ] {
        let answer = creator.units(&message::tagged(b'Q', sql), 1).await;
        assert_eq!(tags(&answer), "CZ", "{answer:?}");
    }
    let alike = Alike::start(&postgres).await;
    let proxy = &alike.proxy;
    let packet = startup_of_bytes(&[
        ("user", b"j\xfcrg"),
        ("database", b"b\xe4r"),
        ("client_encoding", b"LATIN1"),
        ("application_name", b"\xff\xfe"),
    ]);
    let query = message::tagged(
        b'Q',
        b"SELECT current_user, current_database(), '\xe4\xff' x\0",
    );
    let answer = alike.connections("latin1", async |wire: &mut Wire| {
        wire.send(&packet).await;
        let mut answer = wire.read_until_ready().await;
        answer.extend(wire.units(&query, 1).await);
        answer
    });
    let answer = answer.await;
    let row = answer
        .iter()
        .find(|message| message.tag == b'D')
        .expect("a row");
    assert!(
        row.body.windows(4).any(|bytes| bytes == b"j\xfcrg"),
        "{row:?}"
    );
    assert!(row.body.ends_with(b"\xe4\xff"), "{row:?}");
    // The reports of the proxy live with it.
    let mut wire = Wire::connect(proxy.addr()).await;
    wire.send(&packet).await;
    wire.read_until_ready().await;
    let sessions = proxy.admin().get("/v1/status").await.expect(200);
    assert!(
        sessions["databases"]
            .as_array()
            .is_some_and(|all| !all.is_empty()),
        "{sessions}"
    );
}

/// The server cuts names to 63 bytes: who asks for a longer one is in the same database, and must
/// not slip past its gate.
#[tokio::test]
async fn a_name_that_the_server_cuts_is_held_with_the_database_that_it_means() {
    let name = "d".repeat(63);
    let mut postgres = Postgres::start().await;
    postgres.execute(&format!("CREATE DATABASE {name}; ")).await;
    let proxy = Proxy::start(&postgres).await;
    drop(proxy.session(&name).await);
    proxy.hold_drained(&name, json!({})).await;
    let mut session = proxy.session(&format!("{name}eee")).await;
    session
        .send(&message::query("SELECT current_database()"))
        .await;
    proxy.until_held(&name, 1).await;
    proxy.open(&name).await;
    let answer = session.read_until_ready().await;
    assert_eq!(answer[1].columns(), [Some(name)]);
}

#[tokio::test]
async fn what_is_refused_has_the_sqlstate_of_the_server() {
    let postgres = Postgres::start().await;
    let proxy = Proxy::start(&postgres).await;
    let version = |version: u32| message::startup_version(version, &[("user", "postgres")]);
    for (name, packet, sqlstate) in [
        ("protocol 4.0", version(4 << 16), "0A000"),
        ("a request nobody knows", version(80_877_199), "0A000"),
        ("no user", message::startup(&[("database", DB)]), "28000"),
        ("no end", untagged(b"\0\x03\0\0user\0postgres\0"), "08P01"),
    ] {
        for addr in [postgres.addr(), proxy.addr()] {
            let mut wire = Wire::connect(addr).await;
            wire.send(&packet).await;
            let answer = wire.read_to_end().await;
            assert_eq!(tags(&answer), "E", "{name}");
            assert_eq!(answer[0].sqlstate(), sqlstate, "{name}");
            assert_eq!(answer[0].field(b'V').as_deref(), Some("FATAL"), "{name}");
        }
    }
}

/// As `nc -N` does with a file of messages.
#[tokio::test]
async fn a_client_that_stops_sending_behind_its_first_packets_is_answered() {
    let postgres = Postgres::start().await;
    let alike = Alike::start(&postgres).await;
    let startup = message::startup(&[("user", "postgres"), ("database", DB)]);
    let all = [startup, message::query("SELECT 'answered'")].concat();
    let answer = alike.connections("all at once", async |wire: &mut Wire| {
        wire.send(&all).await;
        wire.close_write().await;
        wire.read_to_end().await
    });
    assert!(tags(&answer.await).ends_with("ZTDCZ"));
}

/// Triggers on login (since 17) may say as much as they like before the session is ready.
#[tokio::test]
async fn a_notice_of_any_length_may_come_during_the_login() {
    let mut script = Script::listen().await;
    let proxy = Proxy::before(&format!("postgres://postgres@{}", script.addr()), &[]).await;
    let notice = message::tagged(
        b'N',
        &[b"MTalk\0", vec![b'k'; 300_000].as_slice(), &[0, 0]].concat(),
    );
    let mut wire = Wire::connect(proxy.addr()).await;
    wire.send(&message::startup(&[
        ("user", "u"),
        ("database", "scripted"),
    ]))
    .await;
    let mut server = script.accept_session("scripted").await;
    let rest = [
        message::backend_key_data(7, b"abcd"),
        message::ready_for_query(b'I'),
    ]
    .concat();
    let login = [message::authentication_ok(), notice.clone(), rest].concat();
    server.wire.send(&login).await;
    let greeting = wire.read_until_ready().await;
    assert_eq!(tags(&greeting), "RNKZ");
    assert_eq!(greeting[1].bytes(), notice);
}
