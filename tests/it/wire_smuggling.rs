//! The proxy and the server agree on where each message begins, whatever a client sends.
//!
//! A message inside of another must not run, and one behind another must not be overlooked: either
//! would let a transaction slip past a hold.

use serde_json::json;

use crate::support::alike::{Alike, tags};
use crate::support::cluster::Postgres;
use crate::support::holds::DB;
use crate::support::message::{
    bind, copy_data, copy_fail, describe, execute, flush, parse, query, sync, tagged, terminate,
};
use crate::support::wire::Wire;

/// Lengths that no message of a client has: the server's limit is `MaxAllocSize - 1`.
const IMPOSSIBLE: [u32; 8] = [0, 1, 2, 3, 0x3fff_ffff, 0x7fff_ffff, 0x8000_0000, u32::MAX];

fn extended(sql: &str) -> Vec<u8> {
    [
        parse("", sql),
        bind("", "", &[]),
        describe(b'P', ""),
        execute("", 0),
        sync(),
    ]
    .concat()
}

/// Everything is answered the same way, wherever the stream is cut.
#[tokio::test]
async fn a_conversation_may_be_cut_at_every_byte() {
    let postgres = Postgres::start().await;
    let alike = Alike::start(&postgres).await;
    let stream = [
        query("SELECT 1"),
        extended("SELECT 2"),
        query("BEGIN"),
        query("COMMIT"),
    ]
    .concat();
    let mut direct = Wire::login(postgres.addr(), "postgres", DB).await;
    let expected = direct.units(&stream, 4).await;
    let mut session = alike.proxy.session(DB).await;
    for cut in 1..stream.len() {
        session.send(&stream[..cut]).await;
        // So that it is not joined again on its way.
        tokio::task::yield_now().await;
        assert_eq!(
            session.units(&stream[cut..], 4).await,
            expected,
            "cut at {cut}"
        );
    }
    for byte in &stream {
        session.send(&[*byte]).await;
    }
    assert_eq!(session.units(&[], 4).await, expected, "byte by byte");
}

/// Messages inside of other messages are data: to the server, and to the proxy, which has nothing
/// to wait for behind them.
#[tokio::test]
async fn a_message_inside_of_another_is_not_one() {
    let mut postgres = Postgres::start().await;
    postgres.execute("CREATE TABLE t (n int)").await;
    let alike = Alike::start(&postgres).await;
    let inner = [
        query("INSERT INTO t VALUES (1)"),
        extended("INSERT INTO t VALUES (2)"),
    ]
    .concat();
    let hidden = String::from_utf8_lossy(&inner).replace('\0', " ");
    for (name, outer, expected) in [
        (
            "stray CopyData",
            [copy_data(&inner), query("")].concat(),
            "IZ",
        ),
        (
            "stray CopyDone",
            [tagged(b'c', &inner), query("")].concat(),
            "IZ",
        ),
        (
            "stray CopyFail",
            [copy_fail(&hidden), query("")].concat(),
            "IZ",
        ),
        ("Sync with a body", tagged(b'S', &inner), "EZ"),
        (
            "Flush with a body",
            [tagged(b'H', &inner), sync()].concat(),
            "EZ",
        ),
        (
            "Query with a second string",
            tagged(b'Q', &[b"\0", &inner[..]].concat()),
            "EZ",
        ),
        ("Query without an end", tagged(b'Q', b"SELECT 1"), "EZ"),
        (
            "Bind with a tail",
            [tagged(b'B', &[&[0; 8], &inner[..]].concat()), sync()].concat(),
            "EZ",
        ),
        (
            "Execute of nothing",
            [tagged(b'E', b""), sync()].concat(),
            "EZ",
        ),
        (
            "Describe of nothing",
            [tagged(b'D', b"x\0"), sync()].concat(),
            "EZ",
        ),
        (
            "Function call with a tail",
            tagged(b'F', &[&[0; 12], &inner[..]].concat()),
            "EZ",
        ),
    ] {
        let talk = async |wire: &mut Wire| {
            let mut answer = wire.units(&outer, 1).await;
            answer.extend(wire.query("SELECT count(*) FROM t").await);
            if wire.peer_is(alike.proxy.addr()) {
                alike.proxy.hold_drained(DB, json!({})).await;
                alike.proxy.open(DB).await;
            }
            answer
        };
        let answer = alike.sessions(name, talk).await;
        assert_eq!(tags(&answer), format!("{expected}TDCZ"), "{name}");
        assert_eq!(
            answer[answer.len() - 3].columns(),
            [Some("0".into())],
            "{name}"
        );
    }
}

/// The server reads no further than such a length, and says nothing; the proxy says why. Whole
/// messages ahead of it were sent and are answered, the rest is not looked at.
#[tokio::test]
async fn an_impossible_length_ends_the_session_behind_the_units_ahead_of_it() {
    let mut postgres = Postgres::start().await;
    postgres.execute("CREATE TABLE t (n int)").await;
    let alike = Alike::start(&postgres).await;
    let ahead = [query("SELECT 1"), extended("SELECT pg_sleep(0.01)")].concat();
    for length in IMPOSSIBLE {
        for tag in *b"QPBEDCSHFdcf" {
            let behind = query("INSERT INTO t VALUES (1)");
            let nonsense = [&[tag], length.to_be_bytes().as_slice(), &behind].concat();
            let all = [ahead.clone(), nonsense].concat();
            let mut direct = Wire::login(postgres.addr(), "postgres", DB).await;
            direct.send(&all).await;
            let mut expected = direct.read_to_end().await;
            let mut session = alike.proxy.session(DB).await;
            session.send(&all).await;
            let answer = session.read_to_end().await;
            let (last, before) = answer.split_last().expect("a last word");
            let name = format!("{} of length {length:#x}", char::from(tag));
            assert_eq!(last.sqlstate(), "08P01", "{name}");
            assert_eq!(last.field(b'V').as_deref(), Some("FATAL"), "{name}");
            expected.retain(|message| message.tag != b'E');
            assert_eq!(tags(before), tags(&expected), "{name}");
        }
    }
    assert_eq!(postgres.count("SELECT count(*) FROM t").await, 0);
}

/// Also where the header comes in pieces, of which the server has some already: what we tell the
/// server then must not complete it.
#[tokio::test]
async fn an_impossible_length_in_pieces_ends_the_session() {
    let mut postgres = Postgres::start().await;
    let alike = Alike::start(&postgres).await;
    for tag in *b"QPSd" {
        for (length, cut) in [(3, 1), (3, 4), (0, 2), (u32::MAX, 1), (0x7fff_0000, 2)] {
            let header = [&[tag], length_bytes(length).as_slice()].concat();
            let mut session = alike.proxy.session(DB).await;
            session.send(&header[..cut]).await;
            // A statement of somebody else passes the time that the first piece needs.
            assert_eq!(postgres.count("SELECT 1::bigint").await, 1);
            session.send(&header[cut..]).await;
            let answer = session.read_to_end().await;
            let last = answer.last().expect("a last word");
            assert_eq!(
                last.sqlstate(),
                "08P01",
                "{} {length:#x} {cut}",
                char::from(tag)
            );
            postgres.until_gone(session.key().0).await;
        }
    }
}

fn length_bytes(length: u32) -> [u8; 4] {
    length.to_be_bytes()
}

/// Each type of message that there may be, alone and with a statement behind it.
#[tokio::test]
async fn every_type_of_message_is_answered_as_directly() {
    let postgres = Postgres::start().await;
    let alike = Alike::start(&postgres).await;
    let every = (0..=u8::MAX).map(|tag| (tag, b"\0\0\0\0\0\0\0\0".as_slice()));
    let empty = b"QPBEDCSHFdcfXp".map(|tag| (tag, b"".as_slice()));
    for (tag, body) in every.chain(empty) {
        let stream = [
            tagged(tag, body),
            sync(),
            flush(),
            query("SELECT 1"),
            terminate(),
        ];
        let talk = async |wire: &mut Wire| {
            wire.send(&stream.concat()).await;
            wire.read_to_end().await
        };
        alike.sessions(&format!("type {tag}, {body:?}"), talk).await;
    }
}
