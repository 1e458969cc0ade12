//! In read-only mode the server itself refuses writes, in every session, and the client notices nothing of
//! that: its own value of the setting is what it is shown, and what it has afterwards.

use pgdrain::cli::demo::cluster::process::{self, Signal};
use serde_json::json;

use crate::support::cluster::Postgres;
use crate::support::holds::DB;
use crate::support::message::{self, Message};
use crate::support::poll::{PATIENCE, SOON, until};
use crate::support::proxy::Proxy;
use crate::support::tool;
use crate::support::wire::Wire;

const SHOW: &str = "SHOW default_transaction_read_only";

async fn started(postgres: &Postgres) -> Proxy {
    Proxy::start(postgres).await
}

async fn read_only(proxy: &Proxy) {
    let path = format!("/v1/databases/{DB}/mode");
    let mode = json!({"mode": "read_only", "writes": "queue"});
    proxy.admin().put(&path, mode).await.expect(202);
}

/// For how many sessions the server enforces it, and for how many not yet.
async fn enforcement(proxy: &Proxy) -> (Option<u64>, Option<u64>) {
    let of = proxy.status(DB).await["holds"][0]["enforcement"].clone();
    (of["enforced"].as_u64(), of["pending"].as_u64())
}

/// Waits until the server enforces it for so many sessions, and for none not.
async fn until_enforced(proxy: &Proxy, sessions: u64) {
    until("every session enforced", SOON, async || {
        enforcement(proxy).await == (Some(sessions), Some(0))
    })
    .await;
}

/// Nothing was said of the setting.
fn assert_untold(answer: &[Message]) {
    let told = answer
        .iter()
        .find(|it| it.tag == b'S' && it.body.starts_with(b"default_transaction_read_only\0"));
    assert!(told.is_none(), "{told:?}");
}

/// A row of one column, and nothing about the setting.
async fn one(wire: &mut Wire, sql: &str) -> String {
    let answer = wire.query(sql).await;
    assert_untold(&answer);
    let row = answer.iter().find(|it| it.tag == b'D');
    let row = row.unwrap_or_else(|| panic!("{sql}: {answer:?}"));
    row.columns().swap_remove(0).expect("not NULL")
}

/// Roles that begin with other values, and functions that escape and write unseen.
async fn made(postgres: &mut Postgres) {
    postgres
        .execute(
            "CREATE TABLE t (n int);
             CREATE ROLE reader LOGIN; ALTER ROLE reader SET default_transaction_read_only = on;
             CREATE ROLE app LOGIN; GRANT ALL ON t TO app, reader;
             CREATE FUNCTION escape() RETURNS text LANGUAGE plpgsql AS
             $$ BEGIN RETURN set_config('default_transaction_read_only', 'off', false); END $$;
             CREATE FUNCTION hidden_write() RETURNS int LANGUAGE plpgsql AS
             $$ BEGIN INSERT INTO t VALUES (1); RETURN 1; END $$;",
        )
        .await;
}

async fn each_has_its_own_value_again(mut postgres: Postgres) {
    made(&mut postgres).await;
    let proxy = started(&postgres).await;
    let mut sessions = Vec::new();
    for (user, sets, own) in [
        ("app", None, "off"),
        ("app", Some("SET default_transaction_read_only = on"), "on"),
        ("reader", None, "on"),
        (
            "reader",
            Some("SET default_transaction_read_only = off"),
            "off",
        ),
    ] {
        let mut wire = Wire::login(proxy.addr(), user, DB).await;
        if let Some(sets) = sets {
            wire.execute(sets).await;
        }
        sessions.push((wire, own));
    }
    for _ in 0..3 {
        read_only(&proxy).await;
        until_enforced(&proxy, 4).await;
        for (wire, _) in &mut sessions {
            assert_eq!(one(wire, SHOW).await, "on");
            assert_eq!(one(wire, "SHOW transaction_read_only").await, "on");
        }
        // One that comes during the mode, and is shown its own value.
        let mut late = Wire::login(proxy.addr(), "app", DB).await;
        assert_eq!(late.parameters()["default_transaction_read_only"], "off");
        assert_eq!(one(&mut late, SHOW).await, "on");
        sessions.push((late, "off"));
        proxy.open(DB).await;
        for (wire, own) in &mut sessions {
            assert_eq!(one(wire, SHOW).await, *own);
        }
        let (late, _) = sessions.pop().expect("it was pushed");
        drop(late);
        until("the late one gone", SOON, async || {
            proxy.sessions(DB).await.len() == 4
        })
        .await;
    }
    let (app, _) = &mut sessions[0];
    app.execute("INSERT INTO t VALUES (2)").await;
    app.execute("RESET ALL").await;
    assert_eq!(one(app, SHOW).await, "off");
}

#[tokio::test]
async fn each_session_is_enforced_and_has_its_own_value_again() {
    each_has_its_own_value_again(Postgres::start().await).await;
}

#[tokio::test]
async fn each_session_is_enforced_and_has_its_own_value_again_on_18() {
    if let Some(postgres) = Postgres::of_version("18", &[]).await {
        each_has_its_own_value_again(postgres).await;
    }
}

async fn an_escape_is_undone(mut postgres: Postgres) {
    made(&mut postgres).await;
    let proxy = started(&postgres).await;
    let mut wire = Wire::login(proxy.addr(), "app", DB).await;
    read_only(&proxy).await;
    until_enforced(&proxy, 1).await;
    for escape in ["RESET ALL", "DISCARD ALL", "SELECT escape()"] {
        for _ in 0..3 {
            let answer = wire.query(escape).await;
            assert!(answer.iter().all(|it| it.tag != b'E'), "{answer:?}");
            assert_untold(&answer);
            assert_eq!(one(&mut wire, SHOW).await, "on", "behind {escape}");
        }
    }
    until_enforced(&proxy, 1).await;
    proxy.open(DB).await;
    assert_eq!(one(&mut wire, SHOW).await, "off");
    wire.execute("INSERT INTO t VALUES (3)").await;
    assert_eq!(postgres.count("SELECT count(*) FROM t").await, 1);
}

#[tokio::test]
async fn an_escape_is_undone_before_the_next_transaction() {
    an_escape_is_undone(Postgres::start().await).await;
}

#[tokio::test]
async fn an_escape_is_undone_before_the_next_transaction_on_18() {
    if let Some(postgres) = Postgres::of_version("18", &[]).await {
        an_escape_is_undone(postgres).await;
    }
}

#[tokio::test]
async fn a_transaction_that_is_older_ends_as_it_began() {
    let mut postgres = Postgres::start().await;
    made(&mut postgres).await;
    let proxy = started(&postgres).await;
    let mut wire = Wire::login(proxy.addr(), "app", DB).await;
    wire.execute("BEGIN").await;
    read_only(&proxy).await;
    until("a pending session", SOON, async || {
        enforcement(&proxy).await == (Some(0), Some(1))
    })
    .await;
    wire.execute("INSERT INTO t VALUES (4)").await;
    wire.execute("COMMIT").await;
    until_enforced(&proxy, 1).await;
    assert_eq!(postgres.count("SELECT count(*) FROM t").await, 1);
    assert_eq!(one(&mut wire, SHOW).await, "on");
}

fn tags(answer: &[Message]) -> String {
    answer.iter().map(|it| char::from(it.tag)).collect()
}

/// Executes the statement of this name.
fn run(statement: &str) -> Vec<u8> {
    [
        message::bind("", statement, &[]),
        message::execute("", 0),
        message::sync(),
    ]
    .concat()
}

#[tokio::test]
async fn what_the_client_prepared_without_a_name_survives() {
    let mut postgres = Postgres::start().await;
    made(&mut postgres).await;
    let proxy = started(&postgres).await;
    let mut wire = proxy.session(DB).await;
    let parse = |name: &str, sql: &str| [message::parse(name, sql), message::sync()].concat();
    let cursor = "DECLARE c CURSOR WITH HOLD FOR SELECT 5";
    wire.execute(cursor).await;
    // A simple query would take it away.
    wire.units(&parse("", "SELECT 7"), 1).await;
    read_only(&proxy).await;
    until_enforced(&proxy, 1).await;
    // Nobody knows what it is, so that it waits.
    wire.send(&run("")).await;
    proxy.until_held(DB, 1).await;
    proxy.open(DB).await;
    let answer = wire.read_until_ready().await;
    assert_eq!(tags(&answer), "2DCZ", "{answer:?}");

    // The same in the mode, around an order that is given again.
    read_only(&proxy).await;
    until_enforced(&proxy, 1).await;
    wire.units(&parse("escape", "SELECT escape()"), 1).await;
    wire.units(&parse("", "SELECT 7"), 1).await;
    let answer = wire.units(&run("escape"), 1).await;
    assert_eq!(tags(&answer), "2DCZ", "{answer:?}");
    until_enforced(&proxy, 1).await;
    let answer = wire.units(&run(""), 1).await;
    assert_eq!(tags(&answer), "2DCZ", "{answer:?}");
    proxy.open(DB).await;
    assert_eq!(wire.query_one("FETCH c").await, "5");
}

#[tokio::test]
async fn half_a_statement_that_is_older_than_the_mode_waits_for_its_end() {
    let mut postgres = Postgres::start().await;
    made(&mut postgres).await;
    let proxy = started(&postgres).await;
    let mut wire = Wire::login(proxy.addr(), "app", DB).await;
    let insert = message::query("INSERT INTO t VALUES (5)");
    wire.send(&insert[..12]).await;
    until("half a statement there", SOON, async || {
        let sessions = proxy.sessions(DB).await;
        sessions[0]["bytes_in"].as_u64() >= Some(12)
    })
    .await;
    read_only(&proxy).await;
    until("a pending session", SOON, async || {
        enforcement(&proxy).await == (Some(0), Some(1))
    })
    .await;
    wire.send(&insert[12..]).await;
    proxy.until_held(DB, 1).await;
    assert_eq!(postgres.count("SELECT count(*) FROM t").await, 0);
    proxy.open(DB).await;
    let answer = wire.read_until_ready().await;
    assert_eq!(tags(&answer), "CZ", "{answer:?}");
    assert_eq!(one(&mut wire, SHOW).await, "off");
}

#[tokio::test]
async fn a_write_that_nobody_sees_is_refused_by_the_server() {
    let mut postgres = Postgres::start().await;
    made(&mut postgres).await;
    let proxy = started(&postgres).await;
    let mut wire = Wire::login(proxy.addr(), "app", DB).await;
    let path = format!("/v1/databases/{DB}/mode");
    let mode = json!({"mode": "read_only", "writes": "reject"});
    proxy.admin().put(&path, mode).await.expect(202);
    until_enforced(&proxy, 1).await;
    for hides in ["SELECT hidden_write()", "SELECT escape(), hidden_write()"] {
        let answer = wire.query(hides).await;
        let error = answer.iter().find(|it| it.tag == b'E').expect("an error");
        assert_eq!(error.sqlstate(), "25006", "{hides}");
        assert_untold(&answer);
        assert_eq!(one(&mut wire, SHOW).await, "on");
    }
    assert_eq!(postgres.count("SELECT count(*) FROM t").await, 0);
    proxy.open(DB).await;
    assert_eq!(one(&mut wire, "SELECT hidden_write()").await, "1");
}

#[tokio::test]
async fn clients_that_come_and_go_while_the_mode_does_leave_nothing_behind() {
    let postgres = Postgres::start().await;
    let proxy = started(&postgres).await;
    for round in 0..30 {
        let mut sessions = Vec::new();
        for _ in 0..4 {
            sessions.push(proxy.session(DB).await);
        }
        if round % 2 == 0 {
            read_only(&proxy).await;
        } else {
            proxy.open(DB).await;
        }
        // Some leave while the server is told, some are asked.
        sessions.truncate(2);
        let (last, first) = sessions.split_last_mut().expect("two");
        let on = if round % 2 == 0 { "on" } else { "off" };
        assert_eq!(one(last, SHOW).await, on);
        assert_eq!(one(&mut first[0], "SELECT 1").await, "1");
    }
    until("nobody left", SOON, async || {
        proxy.sessions(DB).await.is_empty()
    })
    .await;
}

#[tokio::test]
async fn libpq_takes_the_database_for_one_that_writes() {
    let postgres = Postgres::start().await;
    let proxy = started(&postgres).await;
    read_only(&proxy).await;
    let target = format!("dbname={DB} target_session_attrs=read-write");
    for _ in 0..3 {
        let psql = ["-X", "-A", "-t", "-c", SHOW, &target];
        assert_eq!(tool::run("psql", proxy.addr(), &psql).await.ok(), "on\n");
    }
}

/// Reads while the mode comes and goes; pgbench's client ends at its first error.
async fn pgbench_reads_on(protocol: &str) {
    let postgres = Postgres::start().await;
    let proxy = started(&postgres).await;
    let filled = tool::run("pgbench", proxy.addr(), &["-i", "-q", DB]).await;
    filled.ok();
    let run = [
        "-S", "-n", "-c", "8", "-j", "2", "-T", "600", "-M", protocol, DB,
    ];
    let mut running = tool::spawn("pgbench", proxy.addr(), &run);
    until("pgbench to be at work", PATIENCE, async || {
        proxy.status(DB).await["transactions_total"].as_u64() > Some(1000)
    })
    .await;
    for _ in 0..20 {
        let done = proxy.status(DB).await["transactions_total"].as_u64();
        read_only(&proxy).await;
        until_enforced(&proxy, 8).await;
        until("reads to go on", SOON, async || {
            let now = proxy.status(DB).await["transactions_total"].as_u64();
            now > done.map(|done| done + 50)
        })
        .await;
        proxy.open(DB).await;
        let ended = running.try_wait().expect("a child of ours");
        assert_eq!(ended, None, "it ended before its time");
    }
    let pid = running.id().expect("it runs");
    process::send(Signal::Alarm, &[pid]).expect("a shell");
    let left = tool::finish("pgbench", running).await.ok();
    assert!(left.contains("number of failed transactions: 0 "), "{left}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pgbench_reads_through_twenty_periods_simple() {
    pgbench_reads_on("simple").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pgbench_reads_through_twenty_periods_prepared() {
    pgbench_reads_on("prepared").await;
}
