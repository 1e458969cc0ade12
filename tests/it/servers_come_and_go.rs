//! Where sessions go: one of several hosts, a server that comes late, a socket, a listed database.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use pgdrain::cli::demo::cluster::Shutdown;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UnixStream};
use tokio::task::JoinSet;

use crate::support::cluster::Postgres;
use crate::support::holds::DB;
use crate::support::message;
use crate::support::poll::{SOON, eventually, within};
use crate::support::proxy::Proxy;
use crate::support::wire::Wire;

/// Which server a session has come to.
async fn port(session: &mut Wire) -> String {
    session.query_one("SHOW port").await
}

async fn refused(proxy: &Proxy, database: &str) -> String {
    let parameters = [("user", "postgres"), ("database", database)];
    let refused = Wire::login_with(proxy.addr(), &parameters, None).await;
    refused.expect_err("a refusal").sqlstate()
}

#[tokio::test]
async fn the_first_host_that_answers_is_taken() {
    let (mut first, second) = (Postgres::start().await, Postgres::start().await);
    let url = format!("postgres://postgres@{},{}", first.addr(), second.addr());
    let proxy = Proxy::before(&url, &[]).await;
    let ports = [&first, &second].map(|postgres| postgres.addr().port().to_string());
    let mut session = proxy.session(DB).await;
    assert_eq!(port(&mut session).await, ports[0]);
    first.stop(Shutdown::Fast).await.expect("an end");
    let mut session = proxy.session(DB).await;
    assert_eq!(port(&mut session).await, ports[1]);
    proxy.hold_drained(DB, json!({})).await;
    proxy.open(DB).await;
    first.start().await.expect("a start");
    let mut session = proxy.session(DB).await;
    assert_eq!(port(&mut session).await, ports[0]);
}

#[tokio::test]
async fn the_watcher_shows_each_host_its_own_password() {
    let hba = [
        "local all all trust",
        "host all all 127.0.0.1/32 scram-sha-256",
    ];
    let mut first = Postgres::start().await;
    let second = Postgres::start_with(&[], &hba).await;
    let psql = second
        .command("psql")
        .args(["-qX", "-U", "postgres", "-h"])
        .arg(second.socket_dir())
        .args(["-p", &second.addr().port().to_string(), "-c"])
        .arg("ALTER USER postgres PASSWORD 'of the second'")
        .status();
    assert!(psql.expect("psql").success());
    first.stop(Shutdown::Fast).await.expect("an end");
    let dir = tempfile::tempdir().expect("a temporary directory");
    let passfile = dir.path().join("pgpass");
    let line = |postgres: &Postgres, password| {
        let addr = postgres.addr();
        format!("{}:{}:*:*:{password}\n", addr.ip(), addr.port())
    };
    let lines = line(&first, "of the first") + &line(&second, "of the second");
    fs::write(&passfile, lines).expect("room");
    fs::set_permissions(&passfile, fs::Permissions::from_mode(0o600)).expect("our file");

    let url = format!("postgres://postgres@{},{}", first.addr(), second.addr());
    let mut proxy = Proxy::not_started(&url);
    proxy.set("PGPASSFILE", &passfile.display().to_string());
    proxy.launch().await;
    let parameters = [("user", "postgres"), ("database", DB)];
    let session = Wire::login_with(proxy.addr(), &parameters, Some("of the second")).await;
    let _session = session.expect("a login");
    proxy.hold_drained(DB, json!({})).await;
}

#[tokio::test]
async fn a_server_that_comes_late_is_waited_for() {
    let mut postgres = Postgres::start().await;
    postgres.stop(Shutdown::Fast).await.expect("an end");
    let proxy = Proxy::start_set(&postgres, &[("UPSTREAM_CONNECT_RETRY", "60s")]).await;
    let mut early = Wire::connect(proxy.addr()).await;
    let startup = message::startup(&[("user", "postgres"), ("database", DB)]);
    early.send(&startup).await;
    // A second client shows that the first is being served, and in vain.
    early.assert_silent().await;
    postgres.start().await.expect("a start");
    early.read_until_ready().await;
    assert_eq!(early.query_one("SELECT 'late'").await, "late");
}

#[tokio::test]
async fn a_server_that_is_starting_up_is_waited_for() {
    let server = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let addr = server.local_addr().expect("an address");
    let starting = error(b"SFATAL\0VFATAL\0C57P03\0Mthe database system is starting up\0\0");
    let full = error(b"SFATAL\0VFATAL\0C53300\0Msorry, too many clients already\0\0");
    let mut serving = JoinSet::new();
    serving.spawn(async move {
        for answer in [&starting, &starting, &full] {
            let (mut client, _) = server.accept().await.expect("a connection");
            let mut startup = [0; 1024];
            let read = client.read(&mut startup).await.expect("a start-up packet");
            assert!(read > 0);
            client.write_all(answer).await.expect("sent");
        }
    });
    let url = format!("postgres://{addr}/{DB}?sslmode=disable");
    let proxy = Proxy::before(&url, &[]).await;
    assert_eq!(refused(&proxy, DB).await, "53300");
    within("the last of them", SOON, serving.join_next()).await;
}

fn error(fields: &[u8]) -> Vec<u8> {
    let length = u32::try_from(fields.len() + 4).expect("short");
    [b"E", &length.to_be_bytes()[..], fields].concat()
}

#[tokio::test]
async fn a_server_that_does_not_come_is_not_waited_for_longer_than_set() {
    let mut postgres = Postgres::start().await;
    postgres.stop(Shutdown::Fast).await.expect("an end");
    let proxy = Proxy::start_set(&postgres, &[("UPSTREAM_CONNECT_RETRY", "300ms")]).await;
    assert_eq!(refused(&proxy, DB).await, "57P03");
    postgres.start().await.expect("a start");
    let mut session = proxy.session(DB).await;
    assert_eq!(session.query_one("SELECT 1").await, "1");
    // A server that dies under a session takes it along, and nothing else.
    postgres.crash().await.expect("an end");
    session.read_to_end().await;
    assert_eq!(refused(&proxy, DB).await, "57P03");
}

#[tokio::test]
async fn unix_sockets_serve_on_both_sides() {
    let postgres = Postgres::start().await;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let listen = format!("unix:{}:7777", dir.path().display());
    let upstream = format!(
        "postgres://postgres@/{DB}?host={}&port={}",
        postgres.socket_dir().display(),
        postgres.addr().port()
    );
    let mut proxy = Proxy::before(&upstream, &["--listen", &listen]).await;
    let path = dir.path().join(".s.PGSQL.7777");
    let mode = std::fs::metadata(&path).expect("a socket").permissions();
    assert_eq!(
        mode.mode() & 0o777,
        0o777,
        "for every user, as the server's"
    );
    let stream = UnixStream::connect(&path).await.expect("a socket");
    let mut local = Wire::new(stream);
    let startup = message::startup(&[("user", "postgres"), ("database", DB)]);
    local.send(&startup).await;
    local.greeting = local.read_until_ready().await;
    let mut tcp = proxy.session(DB).await;
    let unix = "SELECT count(*) FROM pg_stat_activity WHERE datname = 'postgres'
        AND backend_type = 'client backend' AND client_addr IS NULL";
    assert_eq!(local.query_one(unix).await, "2");

    local.execute("BEGIN").await;
    proxy.hold(DB, json!({})).await;
    let drain = proxy.drain(DB).await;
    assert_eq!(drain["waited_for"][0]["client"], "[local]", "{drain}");
    local.execute("COMMIT").await;
    proxy.until_drained(DB).await;
    local.send(&message::query("SELECT 1")).await;
    tcp.send(&message::query("SELECT 1")).await;
    proxy.until_held(DB, 2).await;
    proxy.open(DB).await;
    local.read_until_ready().await;
    tcp.read_until_ready().await;
    // Cancel requests find their way too.
    local.send(&message::query("SELECT pg_sleep(600)")).await;
    eventually("a statement to cancel", SOON, async || {
        let sleeps = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
        (tcp.query_one(sleeps).await == "1").then_some(())
    })
    .await;
    Wire::cancel(proxy.addr(), local.key()).await;
    let answer = local.read_until_ready().await;
    assert!(
        answer
            .iter()
            .any(|one| one.tag == b'E' && one.sqlstate() == "57014")
    );

    // A socket file that a crash left behind is in nobody's way; one in use is.
    proxy.launch().await;
    UnixStream::connect(&path).await.expect("a socket");
    let mut second = Proxy::not_started(&upstream);
    second.arg("--listen");
    second.arg(&listen);
    let ran = within("a second proxy", SOON, second.serve_in_vain()).await;
    assert_eq!(ran.code, Some(5), "{ran:?}");
    assert!(proxy.terminate().await.success());
    assert!(!path.exists(), "the file goes with the process");
}

#[tokio::test]
async fn where_databases_are_listed_only_they_pass() {
    let (mut main, mut other) = (Postgres::start().await, Postgres::start().await);
    main.execute("CREATE DATABASE shop").await;
    other.execute("CREATE DATABASE moved").await;
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    let text = format!(
        "[databases.shop]\n[databases.moved]\nupstream = 'postgres://postgres@{}'\n",
        other.addr()
    );
    fs::write(file.path(), text).expect("room");
    let path = file.path().display().to_string();
    let proxy = Proxy::start_with(&main, &["--config", &path]).await;
    assert_eq!(refused(&proxy, DB).await, "3D000");
    let mut shop = proxy.session("shop").await;
    assert_eq!(port(&mut shop).await, main.addr().port().to_string());
    let mut moved = proxy.session("moved").await;
    assert_eq!(port(&mut moved).await, other.addr().port().to_string());
    // Each is proved drained at its own server.
    for database in ["shop", "moved"] {
        proxy.hold_drained(database, json!({})).await;
    }
    let status = proxy.admin().get("/v1/status").await.expect(200);
    assert_eq!(status["databases"].as_array().map(Vec::len), Some(2));
}
