//! A throw-away cluster keeps what was committed over a crash, and leaves nothing when dropped.

use std::time::Instant;

use pgdrain::cli::demo::cluster::{Shutdown, process};

use crate::support::cluster::Postgres;
use crate::support::poll::{SOON, until};
use crate::support::wire::Wire;

#[tokio::test]
async fn what_was_committed_survives_every_way_to_end() {
    let began = Instant::now();
    let mut postgres = Postgres::start().await;
    println!("started in {:?}", began.elapsed());
    postgres
        .execute("CREATE TABLE t (n int); INSERT INTO t VALUES (1)")
        .await;

    postgres.restart().await.unwrap();
    postgres.execute("INSERT INTO t VALUES (2)").await;

    postgres.stop(Shutdown::Immediate).await.unwrap();
    postgres.start().await.unwrap();
    postgres.execute("INSERT INTO t VALUES (3)").await;

    postgres.crash().await.unwrap();
    assert_eq!(postgres.pid(), None);
    postgres.start().await.unwrap();
    let client = postgres.connect("postgres").await;
    let sum: i64 = client
        .query_one("SELECT sum(n) FROM t", &[])
        .await
        .unwrap()
        .get(0);
    assert_eq!(sum, 6);
}

#[tokio::test]
async fn a_crash_also_ends_a_backend_that_is_busy() {
    let mut postgres = Postgres::start().await;
    let client = postgres.connect("postgres").await;
    let pid: i32 = client
        .query_one("SELECT pg_backend_pid()", &[])
        .await
        .unwrap()
        .get(0);
    let busy = "SELECT sum(a) FROM generate_series(1, 1000000000) a";
    let statement = client.simple_query(busy);
    let (answer, ()) = tokio::join!(statement, async {
        postgres.crash().await.unwrap();
    });
    assert!(answer.is_err());
    assert!(process::is_gone(u32::try_from(pid).unwrap()));
}

#[tokio::test]
async fn nothing_is_left_after_drop_even_of_a_frozen_cluster() {
    let postgres = Postgres::start().await;
    let (pid, dir) = (postgres.pid().unwrap(), postgres.socket_dir().to_owned());
    assert!(dir.join("data").is_dir());
    process::send(process::Signal::Stop, &[pid]).unwrap();
    drop(postgres);
    assert!(process::is_gone(pid));
    assert!(!dir.exists());
}

#[tokio::test]
async fn a_cluster_that_is_kept_outlives_its_owner() {
    let cluster = Postgres::start().await.into_cluster();
    let (pid, addr) = (cluster.pid().unwrap(), cluster.addr());
    let dir = cluster.keep();
    let mut session = Wire::login(addr, "postgres", "postgres").await;
    assert_eq!(session.query_one("SELECT 1").await, "1");

    process::send(process::Signal::Quit, &[pid]).unwrap();
    until("the kept cluster to end", SOON, async || {
        process::is_gone(pid)
    })
    .await;
    std::fs::remove_dir_all(dir).unwrap();
}
