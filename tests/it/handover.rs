//! A restart loses nobody: the listening sockets go from one process to the next.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use pgdrain::cli::demo::cluster::process::Signal;
use serde_json::json;
use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinSet;

use crate::support::cluster::Postgres;
use crate::support::holds::DB;
use crate::support::message;
use crate::support::poll::{PATIENCE, SOON, eventually, until, within};
use crate::support::proxy::Proxy;
use crate::support::wire::Wire;

const ONE: &str = "SELECT 1";

/// Connects, asks one thing and leaves, again and again; any failure fails the test.
async fn come_and_go(addr: std::net::SocketAddr, stop: Arc<AtomicBool>, served: Arc<AtomicUsize>) {
    while !stop.load(Ordering::Relaxed) {
        let stream = TcpStream::connect(addr).await.expect("a listening socket");
        let mut session = Wire::new(stream);
        let login = session.log_in(&[("user", "postgres"), ("database", DB)], None);
        login.await.expect("a login");
        session.execute(ONE).await;
        session.send(&message::terminate()).await;
        served.fetch_add(1, Ordering::Relaxed);
    }
}

async fn come_and_go_locally(path: PathBuf, stop: Arc<AtomicBool>, served: Arc<AtomicUsize>) {
    while !stop.load(Ordering::Relaxed) {
        let stream = UnixStream::connect(&path).await.expect("a socket file");
        let mut session = Wire::new(stream);
        let login = session.log_in(&[("user", "postgres"), ("database", DB)], None);
        login.await.expect("a login");
        session.execute(ONE).await;
        session.send(&message::terminate()).await;
        served.fetch_add(1, Ordering::Relaxed);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_hand_overs_lose_no_client() {
    let postgres = Postgres::start().await;
    let directory = tempfile::tempdir().expect("a directory");
    let local = format!("unix:{}:6599", directory.path().display());
    let mut proxy = Proxy::start_with(&postgres, &["--listen", &local]).await;
    let addr = proxy.addr();
    let (stop, served) = (Arc::new(AtomicBool::new(false)), Arc::default());
    let mut clients = JoinSet::new();
    for _ in 0..3 {
        let come = come_and_go(addr, Arc::clone(&stop), Arc::clone(&served));
        clients.spawn(come);
    }
    let path = directory.path().join(".s.PGSQL.6599");
    let come = come_and_go_locally(path.clone(), Arc::clone(&stop), Arc::clone(&served));
    clients.spawn(come);
    for _ in 0..20 {
        let before = served.load(Ordering::Relaxed);
        let mut former = proxy.take_over(&[]).await;
        assert_eq!(proxy.addr(), addr);
        assert!(former.ended().await.success());
        until("clients to be served", SOON, async || {
            served.load(Ordering::Relaxed) > before + 3
        })
        .await;
        until("the former process to be forgotten", SOON, async || {
            proxy.admin().get("/v1/status").await.expect(200)["former"].is_null()
        })
        .await;
    }
    stop.store(true, Ordering::Relaxed);
    while let Some(ended) = within("a client to end", PATIENCE, clients.join_next()).await {
        ended.expect("no client failed");
    }
    assert!(path.exists());
    assert!(proxy.terminate().await.success());
    assert!(!path.exists(), "the last process removes the socket's file");
}

#[tokio::test]
async fn old_sessions_stay_where_they_are_until_they_end() {
    let postgres = Postgres::start().await;
    let mut proxy = Proxy::start(&postgres).await;
    let mut old = proxy.session(DB).await;
    old.execute("BEGIN").await;
    let mut former = proxy.take_over(&[]).await;
    let status = proxy.admin().get("/v1/status").await.expect(200);
    assert_eq!(status["former"]["pid"], former.pid(), "{status}");
    assert_eq!(status["former"]["sessions"], 1, "{status}");
    let shown = proxy.run(&["status"]).await;
    assert!(
        shown.stdout.contains(&format!("process {}", former.pid())),
        "{shown:?}"
    );
    old.execute("COMMIT").await;
    let mut new = proxy.session(DB).await;
    new.execute(ONE).await;

    // A third generation has to wait, and so have windows and migrations.
    let third = proxy.take_over_in_vain(&[]).await;
    assert_ne!(third.code, Some(0));
    assert!(
        third.stderr.contains("still serves 1 sessions"),
        "{third:?}"
    );
    new.execute(ONE).await;

    old.execute(ONE).await;
    old.send(&message::terminate()).await;
    assert!(former.ended().await.success());
    until("the former process to be forgotten", SOON, async || {
        proxy.admin().get("/v1/status").await.expect(200)["former"].is_null()
    })
    .await;
    new.execute(ONE).await;
    let mut next = proxy.take_over(&[]).await;
    drop(new);
    assert!(next.ended().await.success());
}

#[tokio::test]
async fn the_former_process_ends_when_its_time_is_over() {
    let postgres = Postgres::start().await;
    let mut proxy = Proxy::start(&postgres).await;
    let old = proxy.session(DB).await;
    let mut former = proxy.take_over(&["--old-for", "50ms"]).await;
    assert!(former.ended().await.success());
    let left = old.into_stream();
    drop(left);
    let mut old = proxy.session(DB).await;
    let mut former = proxy.take_over(&["--old-for", "1h"]).await;
    old.execute(ONE).await;
    former.signal(Signal::Terminate);
    assert!(former.ended().await.success());
}

/// A mistake in the new configuration touches nothing.
#[tokio::test]
async fn a_bad_configuration_fails_before_anything_is_handed_over() {
    let postgres = Postgres::start().await;
    let proxy = Proxy::start(&postgres).await;
    let vain = proxy.take_over_in_vain(&["--listen", "nowhere"]).await;
    assert_ne!(vain.code, Some(0), "{vain:?}");
    assert!(!proxy.log().contains("takes over"), "{}", proxy.log());
    proxy.session(DB).await.execute(ONE).await;

    // An address that cannot be had: the sockets were offered, and the former process goes on.
    let vain = proxy
        .take_over_in_vain(&["--listen", "192.0.2.1:6432"])
        .await;
    assert_ne!(vain.code, Some(0), "{vain:?}");
    assert!(vain.stderr.contains("192.0.2.1:6432"), "{vain:?}");
    eventually("the former process to go on", SOON, async || {
        proxy.log().contains("has gone").then_some(())
    })
    .await;
    proxy.session(DB).await.execute(ONE).await;
    proxy.hold(DB, json!({})).await;
    proxy.open(DB).await;
}

/// With nobody to take over from, it is a start like any other.
#[tokio::test]
async fn with_nobody_there_it_begins_as_usual() {
    let postgres = Postgres::start().await;
    let mut proxy = Proxy::start(&postgres).await;
    proxy.kill();
    proxy.arg("--take-over");
    proxy.launch().await;
    proxy.session(DB).await.execute(ONE).await;
}
