//! Pipelines as drivers send them, errors in the middle of them, and what is mixed into them.
//!
//! Each conversation is held with the server and through the proxy, and compared byte for byte.

use serde_json::json;

use crate::support::alike::{Alike, tags};
use crate::support::cluster::Postgres;
use crate::support::holds::DB;
use crate::support::message::{bind, close, describe, execute, flush, parse, query, sync};
use crate::support::proxy::Proxy;
use crate::support::wire::Wire;

async fn both() -> (Postgres, Alike) {
    let mut postgres = Postgres::start().await;
    postgres.execute("CREATE TABLE t (n int PRIMARY KEY)").await;
    let alike = Alike::start(&postgres).await;
    (postgres, alike)
}

/// A statement that fails when it is executed, and not before.
const FAILS: &str = "SELECT 1 / (random() * 0)::int";

/// Parse, Bind and Execute of the unnamed statement.
fn extended(sql: &str) -> Vec<u8> {
    [parse("", sql), bind("", "", &[]), execute("", 0)].concat()
}

/// The session has nothing open that a drain would wait for.
async fn assert_quiescent(proxy: &Proxy) {
    proxy.hold_drained(DB, json!({})).await;
    proxy.open(DB).await;
}

/// Every Sync is a boundary, and every error skips to the next one, whatever the status was (pgx
/// batches, libpq's pipeline mode, npgsql; pgbouncer #759, duckgres #718).
#[tokio::test]
async fn each_of_many_syncs_is_answered_and_an_error_skips_to_its_own() {
    let (_postgres, alike) = both().await;
    let mut batch = Vec::new();
    for n in 0..300 {
        batch.extend(match n % 5 {
            0 => extended(&format!("SELECT {n}")),
            1 => [extended("SELECT 1/0"), extended("SELECT 'skipped'")].concat(),
            2 => parse("", "not sql"),
            3 => [
                extended("BEGIN"),
                extended("SELECT nothing"),
                extended("ROLLBACK"),
            ]
            .concat(),
            _ => [describe(b'S', "missing"), query("ROLLBACK"), flush()].concat(),
        });
        batch.extend(sync());
        batch.extend(query("ROLLBACK"));
    }
    let talk = async |wire: &mut Wire| wire.units(&batch, 600).await;
    let answer = alike.sessions("many units", talk).await;
    assert_eq!(tags(&answer).matches('Z').count(), 600);
    assert_quiescent(&alike.proxy).await;
}

/// Postgrex sends a Query behind Bind and Execute without a Sync (pgdog #1356): it is answered, or
/// swallowed when the Execute fails, and either way all go on.
#[tokio::test]
async fn a_simple_query_inside_an_extended_batch_is_answered_or_swallowed() {
    let (_postgres, alike) = both().await;
    let good = [extended("SELECT 1"), query("SELECT 2")].concat();
    let talk = async |wire: &mut Wire| wire.units(&good, 1).await;
    let answer = alike.sessions("no error", talk).await;
    assert_eq!(tags(&answer), "12DCTDCZ");

    let bad = [extended(FAILS), query("SELECT 'swallowed'")].concat();
    let talk = async |wire: &mut Wire| {
        let mut answer = wire.up_to(b'E', &bad).await;
        answer.extend(wire.units(&sync(), 1).await);
        answer.extend(wire.query("SELECT 'served'").await);
        answer
    };
    let answer = alike.sessions("an error", talk).await;
    assert_eq!(tags(&answer), "12EZTDCZ");
    assert_quiescent(&alike.proxy).await;
}

/// An ErrorResponse is passed on at once, before any Sync asks for it (multigres #1274).
#[tokio::test]
async fn an_error_in_a_batch_arrives_before_its_sync_is_sent() {
    let (_postgres, alike) = both().await;
    let talk = async |wire: &mut Wire| {
        let mut answer = wire.up_to(b'E', &parse("", "not sql")).await;
        answer.extend(
            wire.units(&[extended("SELECT 'skipped'"), sync()].concat(), 1)
                .await,
        );
        answer
    };
    assert_eq!(tags(&alike.sessions("an error", talk).await), "EZ");
}

/// pgjdbc sends `BEGIN` with the first statement in one batch (odyssey PR #476), and with autosave
/// a simple `SAVEPOINT` ahead of the Sync (pgpool test 132).
#[tokio::test]
async fn begin_and_savepoints_pass_inside_the_batch_of_the_statement() {
    let (_postgres, alike) = both().await;
    let talk = async |wire: &mut Wire| {
        let first = [
            extended("BEGIN"),
            extended("INSERT INTO t VALUES (1)"),
            sync(),
        ]
        .concat();
        let mut answer = wire.units(&first, 1).await;
        let autosave = [
            query("SAVEPOINT PGJDBC_AUTOSAVE"),
            extended("INSERT INTO t VALUES (1)"),
            sync(),
        ];
        answer.extend(wire.units(&autosave.concat(), 2).await);
        answer.extend(wire.query("ROLLBACK TO SAVEPOINT PGJDBC_AUTOSAVE").await);
        let between = [
            parse("", "SELECT 1"),
            query("SAVEPOINT a"),
            extended("SELECT 2"),
            sync(),
        ];
        answer.extend(wire.units(&between.concat(), 2).await);
        answer.extend(wire.query("ROLLBACK").await);
        answer
    };
    alike.sessions("pgjdbc", talk).await;
    assert_quiescent(&alike.proxy).await;
}

/// Npgsql puts the reset of a pooled connection in front of its next user's first command, in one
/// flight: what the session had is gone for that command, and the answers are two.
#[tokio::test]
async fn a_reset_goes_ahead_of_the_next_users_first_command() {
    let (_postgres, alike) = both().await;
    let left_behind = [
        query("SET work_mem = '7MB'"),
        query("PREPARE kept AS SELECT 1; CREATE TEMP TABLE mine (n int); LISTEN news"),
        query("DECLARE c CURSOR WITH HOLD FOR SELECT 1; SELECT pg_advisory_lock(7)"),
    ]
    .concat();
    let question = "SELECT current_setting('work_mem'), to_regclass('mine'), \
        (SELECT count(*) FROM pg_prepared_statements), (SELECT count(*) FROM pg_cursors), \
        (SELECT count(*) FROM pg_listening_channels())";
    let next = [query("DISCARD ALL"), extended(question), sync()].concat();
    let talk = async |wire: &mut Wire| {
        let mut answer = wire.units(&left_behind, 3).await;
        answer.extend(wire.units(&next, 2).await);
        answer
    };
    let answer = alike.sessions("a reset", talk).await;
    assert!(tags(&answer).ends_with("CZ12DCZ"), "{}", tags(&answer));
    assert_quiescent(&alike.proxy).await;
    let locks = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'";
    let mut other = alike.proxy.session(DB).await;
    assert_eq!(other.query_one(locks).await, "0");
}

#[tokio::test]
async fn one_query_may_hold_many_transactions() {
    let (_postgres, alike) = both().await;
    for sql in [
        "BEGIN; INSERT INTO t VALUES (1); ROLLBACK; SELECT 1",
        "SELECT 1; BEGIN; SELECT 2; COMMIT; BEGIN; SELECT 3; ROLLBACK",
        "SELECT 1; COMMIT; SELECT 2; BEGIN",
        "COMMIT; BEGIN; SELECT 1/0; COMMIT",
        "ROLLBACK AND CHAIN; ROLLBACK",
        "SELECT 1;;; ; SELECT 2",
    ] {
        let talk = async |wire: &mut Wire| {
            let units = [query(sql), query("SELECT 'next'"), query("ROLLBACK")].concat();
            wire.units(&units, 3).await
        };
        alike.sessions(sql, talk).await;
    }
    assert_quiescent(&alike.proxy).await;
}

/// Pools send an empty query as a probe, in a failed transaction too; nobody answers it but the
/// server (pgpool 4.7.2).
#[tokio::test]
async fn an_empty_query_in_a_failed_transaction_is_answered_by_the_server() {
    let (_postgres, alike) = both().await;
    let talk = async |wire: &mut Wire| {
        let units = [
            query("BEGIN; SAVEPOINT s; SELECT 1/0"),
            query(""),
            query(";"),
            [parse("", ""), bind("", "", &[]), execute("", 0), sync()].concat(),
            query("SELECT 1"),
            query("ROLLBACK TO s"),
            query("COMMIT"),
        ];
        wire.units(&units.concat(), units.len()).await
    };
    alike.sessions("probes", talk).await;
    assert_quiescent(&alike.proxy).await;
}

/// asyncpg and postgres.js prepare with Flush and no Sync (asyncpg PR #493, pgdog #164, pgcat
/// PR #953), and go on with a portal that keeps the transaction open (pgdog #1332).
#[tokio::test]
async fn a_batch_may_be_flushed_in_pieces_and_read_from_a_portal_that_stays() {
    let (_postgres, alike) = both().await;
    let rows = "SELECT n FROM generate_series(1, 10) n";
    let talk = async |wire: &mut Wire| {
        let prepare = [parse("p", rows), describe(b'S', "p"), flush()].concat();
        let mut answer = wire.up_to(b'T', &prepare).await;
        let open = [bind("c", "p", &[]), execute("c", 3), flush()].concat();
        answer.extend(wire.up_to(b's', &open).await);
        answer.extend(wire.up_to(b's', &[execute("c", 3), flush()].concat()).await);
        let other = [bind("", "p", &[]), execute("", 2), flush()].concat();
        answer.extend(wire.up_to(b's', &other).await);
        answer.extend(wire.up_to(b'C', &[execute("c", 0), flush()].concat()).await);
        answer.extend(wire.units(&[close(b'P', "c"), sync()].concat(), 1).await);
        answer.extend(wire.units(&[execute("c", 0), sync()].concat(), 1).await);
        answer
    };
    alike.sessions("flushes", talk).await;
    assert_quiescent(&alike.proxy).await;
}

#[tokio::test]
async fn cursors_and_portals_are_read_in_pieces_over_many_messages() {
    let (_postgres, alike) = both().await;
    let talk = async |wire: &mut Wire| {
        let declare = "DECLARE h CURSOR WITH HOLD FOR SELECT n FROM generate_series(1, 20) n";
        let mut answer = wire.query(&format!("BEGIN; {declare}; COMMIT")).await;
        answer.extend(wire.query("FETCH 5 FROM h").await);
        let portal = [query("BEGIN"), parse("s", "TABLE pg_am"), sync()].concat();
        answer.extend(wire.units(&portal, 2).await);
        answer.extend(wire.units(&[bind("p", "s", &[]), sync()].concat(), 1).await);
        for rows in [1, 2, 1, 0, 1] {
            answer.extend(wire.units(&[execute("p", rows), sync()].concat(), 1).await);
        }
        answer.extend(wire.query("COMMIT; FETCH ALL FROM h; CLOSE h").await);
        answer
    };
    alike.sessions("cursors", talk).await;
    assert_quiescent(&alike.proxy).await;
}

/// Names are the server's business: nothing is hashed (odyssey #1345), and what one session
/// prepared, or failed to, is no other's (pgdog PR #876, #913; proxysql #6197).
#[tokio::test]
async fn prepared_statements_keep_their_names_and_their_sessions() {
    let (_postgres, alike) = both().await;
    let names: Vec<String> = (0..500).map(|n| format!("statement {n}")).collect();
    let talk = async |wire: &mut Wire| {
        let prepare = names.iter().enumerate();
        let prepare: Vec<u8> = prepare
            .flat_map(|(n, name)| parse(name, &format!("SELECT {n}, '{name}'")))
            .collect();
        let mut answer = wire.units(&[prepare, sync()].concat(), 1).await;
        let run = names.iter().rev();
        let run: Vec<u8> = run
            .flat_map(|name| [bind("", name, &[]), execute("", 0)].concat())
            .collect();
        answer.extend(wire.units(&[run, sync()].concat(), 1).await);
        answer.extend(wire.query("PREPARE fails AS SELECT * FROM nowhere").await);
        answer.extend(wire.query("EXECUTE \"statement 7\"").await);
        answer
    };
    alike.sessions("names", talk).await;
    let mut other = alike.proxy.session(DB).await;
    assert_eq!(tags(&other.query("EXECUTE \"statement 7\"").await), "EZ");
}

/// Nobody serves an old description (multigres PR #1431), and a plan that must not change is
/// refused by the server alone (pgbouncer #1038).
#[tokio::test]
async fn a_table_that_changed_is_described_anew() {
    let (mut postgres, alike) = both().await;
    let mut session = alike.proxy.session(DB).await;
    let prepare = [parse("s", "TABLE t"), describe(b'S', "s"), sync()].concat();
    let before = session.units(&prepare, 1).await;
    assert_eq!(before[2].body[..2], [0, 1]);
    postgres.execute("ALTER TABLE t ADD COLUMN more text").await;
    let run = [bind("", "s", &[]), execute("", 0), sync()].concat();
    let answer = session.units(&run, 1).await;
    assert_eq!(
        (tags(&answer).as_str(), answer[0].sqlstate().as_str()),
        ("EZ", "0A000")
    );
    let anew = [parse("again", "TABLE t"), describe(b'S', "again"), sync()].concat();
    for session in [&mut session, &mut alike.proxy.session(DB).await] {
        assert_eq!(session.units(&anew, 1).await[2].body[..2], [0, 2]);
    }
}
