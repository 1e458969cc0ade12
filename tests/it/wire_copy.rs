//! COPY in all its forms: how it ends, how it fails, and what is sent while it runs.
//!
//! Each conversation is held with the server and through the proxy, and compared byte for byte.

use serde_json::json;

use crate::support::alike::{Alike, tags};
use crate::support::cluster::Postgres;
use crate::support::holds::DB;
use crate::support::message::{
    bind, copy_data, copy_done, copy_fail, execute, flush, parse, query, sync,
};
use crate::support::wire::Wire;

const COPY: &str = "COPY t FROM STDIN";

async fn both() -> (Postgres, Alike) {
    let mut postgres = Postgres::start().await;
    postgres.execute("CREATE TABLE t (n int, s text)").await;
    let alike = Alike::start(&postgres).await;
    (postgres, alike)
}

/// COPY by the extended protocol, without a Sync.
fn extended_copy() -> Vec<u8> {
    [parse("", COPY), bind("", "", &[]), execute("", 0)].concat()
}

fn good() -> Vec<u8> {
    copy_data(b"1\tone\n")
}

fn bad() -> Vec<u8> {
    copy_data(b"no number\tx\n")
}

/// Sends all of it in one write and reads so many ReadyForQuery; then the session has to be at a
/// boundary, for the server and for a drain.
async fn blind(alike: &Alike, name: &str, messages: &[Vec<u8>], units: usize) -> String {
    let bytes = messages.concat();
    let talk = async |wire: &mut Wire| {
        let mut answer = wire.units(&bytes, units).await;
        answer.extend(wire.query("SELECT 'next'").await);
        if wire.peer_is(alike.proxy.addr()) {
            alike.proxy.hold_drained(DB, json!({})).await;
            alike.proxy.open(DB).await;
        }
        answer
    };
    let answer = tags(&alike.sessions(name, talk).await);
    let next = answer.strip_suffix("TDCZ");
    next.unwrap_or_else(|| panic!("{name}: {answer}"))
        .to_owned()
}

#[tokio::test]
async fn a_copy_that_is_sent_without_waiting_reads_as_it_should() {
    let (_postgres, alike) = both().await;
    let cases: [(&str, Vec<Vec<u8>>, usize, &str); 14] = [
        (
            "simple",
            vec![query(COPY), good(), good(), copy_done()],
            1,
            "GCZ",
        ),
        ("nothing", vec![query(COPY), copy_done()], 1, "GCZ"),
        (
            "given up",
            vec![query(COPY), good(), copy_fail("why")],
            1,
            "GEZ",
        ),
        (
            "given up at once",
            vec![query(COPY), copy_fail("")],
            1,
            "GEZ",
        ),
        (
            "data behind an error",
            vec![query(COPY), bad(), good(), good(), copy_done(), copy_done()],
            1,
            "GEZ",
        ),
        (
            "data behind a refusal",
            vec![query("COPY nowhere FROM STDIN"), good(), copy_done()],
            1,
            "EZ",
        ),
        (
            "Syncs and Flushes inside",
            vec![
                query(COPY),
                sync(),
                good(),
                flush(),
                sync(),
                good(),
                copy_done(),
            ],
            1,
            "GCZ",
        ),
        (
            "extended",
            vec![extended_copy(), good(), copy_done(), sync()],
            1,
            "12GCZ",
        ),
        (
            "extended, with a Sync ahead of the data",
            vec![extended_copy(), sync(), good(), copy_done(), sync()],
            1,
            "12GCZ",
        ),
        (
            "extended, given up",
            vec![extended_copy(), good(), copy_fail("why"), sync()],
            1,
            "12GEZ",
        ),
        (
            "extended, data behind an error",
            vec![extended_copy(), bad(), good(), copy_done(), sync()],
            1,
            "12GEZ",
        ),
        (
            "extended, a batch behind it",
            vec![
                extended_copy(),
                good(),
                copy_done(),
                extended_select(),
                sync(),
            ],
            1,
            "12GC12DCZ",
        ),
        (
            "two in one Query",
            vec![
                query(&format!("{COPY}; SELECT 1; {COPY}")),
                good(),
                copy_done(),
                good(),
                copy_done(),
            ],
            1,
            "GCTDCGCZ",
        ),
        (
            "the second of two fails",
            vec![
                query(&format!("{COPY}; {COPY}; SELECT 1")),
                good(),
                copy_done(),
                bad(),
                copy_done(),
            ],
            1,
            "GCGEZ",
        ),
    ];
    for (name, messages, units, expected) in cases {
        assert_eq!(
            blind(&alike, name, &messages, units).await,
            expected,
            "{name}"
        );
    }
}

fn extended_select() -> Vec<u8> {
    [parse("", "SELECT 1"), bind("", "", &[]), execute("", 0)].concat()
}

/// While it reads data the server ignores Syncs; those behind data that it refused it answers. Only
/// the server knows which they are (pgbouncer #1471): the session counts as busy from there on.
#[tokio::test]
async fn syncs_behind_data_that_is_refused_are_answered_and_never_miscounted() {
    let (_postgres, alike) = both().await;
    for (name, start) in [("simple", query(COPY)), ("extended", extended_copy())] {
        let start = [start, flush()].concat();
        for (data, syncs) in [
            (
                vec![good(), sync(), bad(), sync(), good(), sync(), copy_done()],
                2,
            ),
            (vec![bad(), sync(), sync(), sync(), copy_done()], 3),
            (vec![good(), sync(), sync(), bad(), copy_done(), sync()], 1),
        ] {
            // A Query is answered by its own; an Execute by the first Sync.
            let ready = syncs + usize::from(name == "simple");
            let talk = async |wire: &mut Wire| {
                let mut answer = wire.up_to(b'G', &start).await;
                answer.extend(wire.units(&data.concat(), ready).await);
                answer.extend(wire.query("SELECT 'next'").await);
                if wire.peer_is(alike.proxy.addr()) {
                    let drain = alike.proxy.hold_in_vain(DB, json!({"wait": "10ms"})).await;
                    assert_eq!(drain["outcome"], "exhausted", "{drain}");
                }
                answer
            };
            alike.sessions(name, talk).await;
        }
    }
}

/// Anything else inside COPY data makes the server end the session.
#[tokio::test]
async fn a_message_that_has_no_place_in_copy_data_ends_the_session() {
    let (_postgres, alike) = both().await;
    for intruder in [
        query("SELECT 1"),
        parse("", "SELECT 1"),
        execute("", 0),
        query(""),
    ] {
        let talk = async |wire: &mut Wire| {
            let mut answer = wire.up_to(b'G', &query(COPY)).await;
            wire.send(&[good(), intruder.clone(), good(), copy_done()].concat())
                .await;
            answer.extend(wire.read_to_end().await);
            answer
        };
        let answer = alike.sessions("an intruder", talk).await;
        assert_eq!(answer.last().map(|last| last.tag), Some(b'E'), "{answer:?}");
    }
}

#[tokio::test]
async fn much_data_passes_in_both_directions() {
    let (_postgres, alike) = both().await;
    let rows = 30_000;
    let line = "d".repeat(1000);
    let data: Vec<u8> = (0..rows)
        .flat_map(|n| copy_data(format!("{n}\t{line}\n").as_bytes()))
        .collect();
    let talk = async |wire: &mut Wire| {
        let mut answer = wire
            .up_to(b'G', &query("BEGIN; TRUNCATE t; COPY t FROM STDIN"))
            .await;
        answer.extend(wire.units(&[data.clone(), copy_done()].concat(), 1).await);
        answer.extend(
            wire.query("SELECT count(*), sum(length(s)), sum(n) FROM t")
                .await,
        );
        answer.extend(wire.query("COPY t TO STDOUT").await);
        answer.extend(
            wire.query("COPY (SELECT s FROM t ORDER BY n DESC) TO STDOUT BINARY")
                .await,
        );
        answer.extend(wire.query("ROLLBACK").await);
        answer
    };
    let answer = alike.sessions("30 MB there and 60 MB back", talk).await;
    let copied = answer.iter().filter(|message| message.tag == b'd').count();
    assert!(copied > 2 * rows, "{copied}");
}
