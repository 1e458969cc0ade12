//! Replication connections: their commands, both directions of COPY at once, and Postgres's own
//! tools.

use std::fs;

use serde_json::json;

use crate::support::alike::tags;
use crate::support::cluster::Postgres;
use crate::support::holds::DB;
use crate::support::message::{copy_data, copy_done, query};
use crate::support::proxy::Proxy;
use crate::support::tool;
use crate::support::wire::Wire;

const SETTINGS: [(&str, &str); 1] = [("wal_level", "logical")];

const HBA: [&str; 3] = [
    "local all all trust",
    "host all all 127.0.0.1/32 trust",
    "host replication all 127.0.0.1/32 trust",
];

async fn both() -> (Postgres, Proxy) {
    let mut postgres = Postgres::start_with(&SETTINGS, &HBA).await;
    postgres.execute("CREATE TABLE t (n int)").await;
    let proxy = Proxy::start(&postgres).await;
    (postgres, proxy)
}

/// A connection that speaks the streaming replication protocol.
async fn sender(addr: std::net::SocketAddr, replication: &str) -> Wire {
    let parameters = [
        ("user", "postgres"),
        ("database", DB),
        ("replication", replication),
    ];
    let login = Wire::login_with(addr, &parameters, None).await;
    login.unwrap_or_else(|error| panic!("{error:?}"))
}

#[tokio::test]
async fn commands_of_replication_are_answered_as_directly() {
    let (postgres, proxy) = both().await;
    for replication in ["database", "true", "on", "1"] {
        let mut both = Vec::new();
        for addr in [postgres.addr(), proxy.addr()] {
            let mut wire = sender(addr, replication).await;
            let identity = wire.query("IDENTIFY_SYSTEM").await;
            let mut answer = vec![tags(&identity), format!("{:?}", identity[1].columns()[0])];
            for command in [
                "SHOW wal_level",
                "SELECT 1",
                "NONSENSE",
                "TIMELINE_HISTORY 7",
            ] {
                answer.push(format!("{:?}", wire.query(command).await));
            }
            both.push(answer);
        }
        assert_eq!(both[0], both[1], "replication={replication}");
    }
}

/// Changes stream down while status goes up; the end of both leaves a usable session.
#[tokio::test]
async fn a_logical_stream_flows_in_both_directions_and_ends() {
    let (mut postgres, proxy) = both().await;
    let mut wire = sender(proxy.addr(), "database").await;
    let slot = "CREATE_REPLICATION_SLOT s TEMPORARY LOGICAL test_decoding";
    assert_eq!(tags(&wire.query(slot).await), "TDCZ");
    let start = query("START_REPLICATION SLOT s LOGICAL 0/0");
    assert!(tags(&wire.up_to(b'W', &start).await).ends_with('W'));
    postgres.execute("INSERT INTO t VALUES (1)").await;
    let (wanted, mut written) = ("INSERT: n[integer]:1", 0);
    loop {
        let change = wire.expect(b'd').await.body;
        if change[0] == b'w' {
            let end = change[9..17].try_into().expect("eight bytes");
            written = u64::from_be_bytes(end).max(written);
        }
        if String::from_utf8_lossy(&change).contains(wanted) {
            break;
        }
    }
    // Standby status update: written, flushed, applied, now, and a wish for an answer.
    let position = written.to_be_bytes();
    let status = [
        b"r".as_slice(),
        &position,
        &position,
        &position,
        &[0; 8],
        &[1],
    ]
    .concat();
    wire.send(&copy_data(&status)).await;
    while wire.expect(b'd').await.body[0] != b'k' {}
    // A stream is in no transaction: nobody waits for it.
    proxy.hold_drained(DB, json!({})).await;
    proxy.open(DB).await;
    let rest = wire.units(&copy_done(), 1).await;
    assert_eq!(tags(&rest).replace('d', ""), "cCCZ", "{rest:?}");
    assert_eq!(tags(&wire.query("SELECT 1").await), "TDCZ");
}

#[tokio::test]
async fn pg_recvlogical_receives_through_the_proxy() {
    let (mut postgres, proxy) = both().await;
    let create = ["-d", DB, "--slot=s", "--create-slot", "-P", "test_decoding"];
    tool::run("pg_recvlogical", proxy.addr(), &create)
        .await
        .ok();
    postgres
        .execute("INSERT INTO t SELECT generate_series(1, 5000)")
        .await;
    let client = postgres.connect(DB).await;
    let end = client
        .query_one("SELECT pg_current_wal_lsn()::text", &[])
        .await;
    let end: String = end.expect("a position").get(0);
    // One record behind it, so that the end is reached.
    postgres.execute("INSERT INTO t VALUES (-1)").await;
    let end = format!("--endpos={end}");
    let start = [
        "-d",
        DB,
        "--slot=s",
        "--start",
        "--no-loop",
        "-f",
        "-",
        &end,
    ];
    let changes = tool::run("pg_recvlogical", proxy.addr(), &start).await.ok();
    assert_eq!(changes.matches("INSERT: n[integer]:").count(), 5000);
}

#[tokio::test]
async fn pg_basebackup_copies_a_cluster_through_the_proxy() {
    let (_postgres, proxy) = both().await;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let target = dir.path().join("backup");
    let target = target.to_str().expect("a plain path");
    let backup = ["-D", target, "-X", "stream", "-c", "fast"];
    tool::run("pg_basebackup", proxy.addr(), &backup).await.ok();
    tool::run("pg_verifybackup", proxy.addr(), &[target])
        .await
        .ok();
}

#[tokio::test]
async fn pg_receivewal_receives_through_the_proxy() {
    let (mut postgres, proxy) = both().await;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let target = dir.path().to_str().expect("a plain path").to_owned();
    let slot = ["-D", &target, "--slot=other", "--create-slot"];
    tool::run("pg_receivewal", proxy.addr(), &slot).await.ok();
    // One that keeps what comes from now on.
    postgres
        .execute("SELECT pg_create_physical_replication_slot('w', true)")
        .await;
    let client = postgres.connect(DB).await;
    postgres
        .execute("INSERT INTO t SELECT generate_series(1, 1000)")
        .await;
    let end = client.query_one("SELECT pg_switch_wal()::text", &[]).await;
    let end: String = end.expect("a position").get(0);
    postgres.execute("INSERT INTO t VALUES (-1)").await;
    let end = format!("--endpos={end}");
    let receive = ["-D", &target, "--slot=w", "--no-loop", &end];
    tool::run("pg_receivewal", proxy.addr(), &receive)
        .await
        .ok();
    let segments = fs::read_dir(dir.path()).expect("a directory").count();
    assert!(segments > 0);
}
