//! Reads that go to a standby while their database reads only, and those that cannot.

use std::path::PathBuf;

use pgdrain::cli::demo::cluster::Shutdown;
use serde_json::json;

use crate::support::auth::Files;
use crate::support::cluster::Postgres;
use crate::support::holds::DB;
use crate::support::message::{Message, bind, describe, execute, parse, query, sync};
use crate::support::poll::{PATIENCE, SOON, until};
use crate::support::proxy::Proxy;
use crate::support::wire::Wire;

/// Where the statement runs: any function of `pg_` would keep it at the server.
const WHERE: &str = "SELECT current_setting('in_hot_standby')";

const HBA: [&str; 3] = [
    "local all all trust",
    "host all all 127.0.0.1/32 trust",
    "host replication all 127.0.0.1/32 trust",
];

/// A server and a standby that follows it.
async fn pair() -> (Postgres, Postgres) {
    let mut server = Postgres::start_with(&[], &HBA).await;
    server
        .execute("CREATE TABLE t (a int); INSERT INTO t VALUES (1); CREATE USER anna PASSWORD 'hush'; CREATE USER passed; GRANT SELECT ON t TO anna")
        .await;
    let mut standby = Postgres::start_with(&[], &HBA).await;
    standby.stop(Shutdown::Fast).await.expect("stopped");
    let data: PathBuf = standby.dir().join("data");
    let old = standby.dir().join("old");
    std::fs::rename(&data, old).expect("a directory of ours");
    let mut copy = standby.command("pg_basebackup");
    copy.args([
        "-h",
        "127.0.0.1",
        "-U",
        "postgres",
        "-R",
        "-X",
        "stream",
        "-c",
        "fast",
        "-p",
    ]);
    copy.arg(server.addr().port().to_string())
        .arg("-D")
        .arg(&data);
    let copied = copy.output().expect("pg_basebackup");
    assert!(copied.status.success(), "{copied:?}");
    let settings = data.join("postgresql.auto.conf");
    let mut text = std::fs::read_to_string(&settings).expect("settings");
    text += &format!(
        "unix_socket_directories = '{}'\n",
        standby.socket_dir().display()
    );
    std::fs::write(&settings, text).expect("settings");
    standby.start().await.expect("a standby");
    (server, standby)
}

/// In front of both; `rules` and what else goes with them.
async fn proxy(files: &Files, (server, standby): (&Postgres, &Postgres), rest: &str) -> Proxy {
    let users = files.write("users", "\"anna\" \"hush\"\n");
    let auth = format!(
        "users_file = '{users}'\n[[auth.rules]]\nuser = 'passed'\nmethod = 'pass-through'\n\
         [[auth.rules]]\nuser = 'postgres'\nmethod = 'trust'\n\
         [[auth.rules]]\nmethod = 'scram-sha-256'\n\
         [databases.{DB}]\nread_upstream = 'postgres://postgres@{}'\n{rest}\n",
        standby.addr()
    );
    files.proxy(server, &auth).await
}

async fn read_only(proxy: &Proxy) {
    let path = format!("/v1/databases/{DB}/mode");
    let body = json!({"mode": "read_only", "writes": "queue", "for": "5m"});
    proxy.admin().put(&path, body).await.expect(202);
}

async fn until_at(session: &mut Wire, wanted: &str) {
    // A task logs in while the first reads go to the server.
    until(
        &format!("reads with in_hot_standby = {wanted}"),
        PATIENCE,
        async || session.query_one(WHERE).await == wanted,
    )
    .await;
}

#[tokio::test]
async fn reads_go_to_the_standby_and_come_back() {
    let (server, standby) = pair().await;
    let files = Files::new();
    let proxy = proxy(&files, (&server, &standby), "").await;
    let mut anna = proxy.log_in("anna", "hush").await.expect("in");
    assert_eq!(anna.query_one(WHERE).await, "off", "while it is open");
    read_only(&proxy).await;
    until_at(&mut anna, "on").await;
    assert_eq!(anna.query_one("SELECT a FROM t").await, "1");
    assert_eq!(anna.query_one("SELECT current_user").await, "anna");
    // An error is the server's own.
    let refused = anna.query("SELECT b FROM t").await;
    assert_eq!(refused[0].sqlstate(), "42703");
    // A transaction is one of the server's.
    anna.execute("BEGIN").await;
    assert_eq!(anna.query_one(WHERE).await, "off");
    anna.execute("COMMIT").await;
    // Who proves itself to the server stays there.
    let mut passed = proxy.log_in("passed", "").await.expect("in");
    for _ in 0..3 {
        assert_eq!(passed.query_one(WHERE).await, "off");
    }
    proxy.open(DB).await;
    until_at(&mut anna, "off").await;
    assert_eq!(anna.query_one(WHERE).await, "off");
}

#[tokio::test]
async fn who_holds_state_stays_or_waits() {
    let (server, standby) = pair().await;
    let files = Files::new();
    let both = (&server, &standby);
    let stays = proxy(&files, both, "").await;
    let mut free = stays.log_in("postgres", "").await.expect("in");
    let mut bound = stays.log_in("postgres", "").await.expect("in");
    bound.execute("CREATE TEMP TABLE mine (a int)").await;
    read_only(&stays).await;
    until_at(&mut free, "on").await;
    assert_eq!(bound.query_one(WHERE).await, "off");
    assert_eq!(bound.query_one("SELECT count(*) FROM mine").await, "0");
    free.execute("SET work_mem = '1MB'").await;
    assert_eq!(free.query_one(WHERE).await, "off");
    free.execute("RESET work_mem").await;
    until_at(&mut free, "on").await;
    free.execute("SELECT pg_advisory_lock(1)").await;
    assert_eq!(free.query_one(WHERE).await, "off");

    let waits = proxy(&files, both, "read_stateful = 'wait'").await;
    let mut free = waits.log_in("postgres", "").await.expect("in");
    let mut bound = waits.log_in("postgres", "").await.expect("in");
    bound.execute("SET work_mem = '1MB'").await;
    read_only(&waits).await;
    until_at(&mut free, "on").await;
    bound.send(&query(WHERE)).await;
    waits.until_held(DB, 1).await;
    waits.open(DB).await;
    bound.read_until_ready().await;
}

#[tokio::test]
async fn batches_without_names_go_and_others_stay() {
    let (server, standby) = pair().await;
    let files = Files::new();
    let proxy = proxy(&files, (&server, &standby), "").await;
    let mut anna = proxy.log_in("anna", "hush").await.expect("in");
    read_only(&proxy).await;
    until_at(&mut anna, "on").await;
    let run = |name: &str| {
        [
            bind("", name, &[]),
            describe(b'P', ""),
            execute("", 0),
            sync(),
        ]
        .concat()
    };
    let found = |answer: Vec<Message>| {
        let row = answer.iter().find(|it| it.tag == b'D');
        row.map(|row| row.columns()[0].clone().unwrap_or_default())
    };
    let unnamed = [parse("", WHERE), run("")].concat();
    let answer = anna.units(&unnamed, 1).await;
    assert_eq!(found(answer).as_deref(), Some("on"));
    // What it prepared is not at the server, which says so.
    let answer = anna.units(&run(""), 1).await;
    assert_eq!(answer[0].sqlstate(), "26000");
    let named = [parse("s", WHERE), run("s")].concat();
    let answer = anna.units(&named, 1).await;
    assert_eq!(found(answer).as_deref(), Some("off"));
    // Now the server holds something for it.
    let answer = anna.units(&unnamed, 1).await;
    assert_eq!(found(answer).as_deref(), Some("off"));
}

#[tokio::test]
async fn a_standby_that_dies_is_done_without() {
    let (server, mut standby) = pair().await;
    let files = Files::new();
    let proxy = proxy(&files, (&server, &standby), "").await;
    let mut anna = proxy.log_in("anna", "hush").await.expect("in");
    read_only(&proxy).await;
    until_at(&mut anna, "on").await;
    standby.crash().await.expect("killed");
    assert_eq!(anna.query_one(WHERE).await, "off");
    standby.start().await.expect("started");
    until_at(&mut anna, "on").await;
}

#[tokio::test]
async fn a_standby_that_lags_is_not_read() {
    let (mut server, mut standby) = pair().await;
    let files = Files::new();
    let proxy = proxy(&files, (&server, &standby), "read_lag_max = '100ms'").await;
    let mut anna = proxy.log_in("anna", "hush").await.expect("in");
    standby.execute("SELECT pg_wal_replay_pause()").await;
    server.execute("INSERT INTO t VALUES (2)").await;
    read_only(&proxy).await;
    until("the standby is asked", SOON, async || {
        proxy.log().contains("its standby is not used")
    })
    .await;
    for _ in 0..3 {
        assert_eq!(anna.query_one(WHERE).await, "off");
    }
    assert!(
        !proxy.log().contains("login at a standby"),
        "nobody logs in"
    );
    standby.execute("SELECT pg_wal_replay_resume()").await;
    until_at(&mut anna, "on").await;
    assert_eq!(anna.query_one("SELECT count(*) FROM t").await, "2");
}

#[tokio::test]
async fn a_cancel_request_reaches_the_standby() {
    let (server, mut standby) = pair().await;
    let files = Files::new();
    let proxy = proxy(&files, (&server, &standby), "").await;
    let mut anna = proxy.log_in("anna", "hush").await.expect("in");
    read_only(&proxy).await;
    until_at(&mut anna, "on").await;
    let key = anna.key();
    let long = "SELECT count(*) FROM generate_series(1, 1000000000000)";
    anna.send(&query(long)).await;
    let seen = standby.connect(DB).await;
    let runs = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'anna' AND state = 'active'";
    until("it runs at the standby", SOON, async || {
        seen.query_one(runs, &[])
            .await
            .expect("asked")
            .get::<_, i64>(0)
            == 1
    })
    .await;
    Wire::cancel(proxy.addr(), key).await;
    let answer = anna.read_until_ready().await;
    let error = answer.iter().find(|it| it.tag == b'E').expect("an error");
    assert_eq!(error.sqlstate(), "57014");
}
