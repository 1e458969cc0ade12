//! Who is one too many is told so, by kind of limit, and takes nothing from those who are not.

use std::net::SocketAddr;

use crate::support::cluster::Postgres;
use crate::support::holds::DB;
use crate::support::message::{self, Message};
use crate::support::poll::{SOON, eventually, until};
use crate::support::proxy::Proxy;
use crate::support::script::Script;
use crate::support::wire::Wire;

async fn log_in(proxy: &Proxy, user: &str, database: &str) -> Result<Wire, Message> {
    let parameters = [("user", user), ("database", database)];
    Wire::login_with(proxy.addr(), &parameters, None).await
}

/// The text of a refusal, which has to be FATAL and 53300.
async fn refused(proxy: &Proxy, user: &str, database: &str) -> String {
    match log_in(proxy, user, database).await {
        Ok(_) => panic!("{user} got into {database}"),
        Err(error) => too_many(&error),
    }
}

fn too_many(error: &Message) -> String {
    assert_eq!(error.sqlstate(), "53300", "{error:?}");
    assert_eq!(error.field(b'V').as_deref(), Some("FATAL"));
    error.field(b'M').expect("a message")
}

async fn limited(proxy: &Proxy, limit: &str) -> u64 {
    let text = proxy.admin().get("/metrics").await.text;
    let name = format!("pgdrain_limited_total{{limit=\"{limit}\"}} ");
    let line = text.lines().find_map(|line| line.strip_prefix(&name));
    line.map_or(0, |count| count.parse().expect("a number"))
}

#[tokio::test]
async fn a_database_and_a_user_have_so_many_sessions() {
    let mut postgres = Postgres::start().await;
    postgres.execute("CREATE DATABASE other").await;
    postgres.execute("CREATE USER anna").await;
    let settings = [
        ("LIMITS_CONNECTIONS_PER_DATABASE", "3"),
        ("LIMITS_CONNECTIONS_PER_USER", "2"),
    ];
    let proxy = Proxy::start_set(&postgres, &settings).await;
    // Whoever the server turns away has no place.
    for _ in 0..5 {
        let error = log_in(&proxy, "nobody", DB).await.err();
        assert_eq!(error.expect("no such role").sqlstate(), "28000");
    }
    let mut first = log_in(&proxy, "anna", DB).await.expect("free");
    let _second = log_in(&proxy, "anna", DB).await.expect("free");
    let text = refused(&proxy, "anna", DB).await;
    assert_eq!(text, "too many connections for role \"anna\"");
    let text = refused(&proxy, "anna", "other").await;
    assert_eq!(text, "too many connections for role \"anna\"");
    let _third = log_in(&proxy, "postgres", DB).await.expect("free");
    let text = refused(&proxy, "postgres", DB).await;
    assert_eq!(text, format!("too many connections for database \"{DB}\""));
    let _elsewhere = log_in(&proxy, "postgres", "other").await.expect("free");
    assert_eq!(limited(&proxy, "connections_per_user").await, 2);
    assert_eq!(limited(&proxy, "connections_per_database").await, 1);

    assert_eq!(first.query_one("SELECT 'served'").await, "served");
    drop(first);
    eventually("a free place", SOON, async || {
        log_in(&proxy, "anna", DB).await.ok()
    })
    .await;
}

#[tokio::test]
async fn an_address_has_so_many_connections_and_may_always_cancel() {
    let mut postgres = Postgres::start().await;
    let settings = [("LIMITS_CONNECTIONS_PER_ADDRESS", "2")];
    let proxy = Proxy::start_set(&postgres, &settings).await;
    let parameters = [("user", "postgres"), ("database", DB)];
    let (here, elsewhere) = ([127, 0, 0, 2], [127, 0, 0, 3]);
    let addr = proxy.addr();
    // A connection counts from its first moment, and this one is long seen when the next is served.
    let silent = Wire::connect_from(here, addr).await;
    let mut session = Wire::connect_from(here, addr).await;
    session.log_in(&parameters, None).await.expect("free");
    let mut refused = Wire::connect_from(here, addr).await;
    let error = refused.log_in(&parameters, None).await;
    let text = too_many(&error.expect_err("one too many"));
    assert_eq!(text, "too many connections from this address");
    drop(refused);
    let mut other = Wire::connect_from(elsewhere, addr).await;
    other
        .log_in(&parameters, None)
        .await
        .expect("another address");

    session
        .send(&message::query("SELECT pg_advisory_lock(1), pg_sleep(600)"))
        .await;
    let running = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
    until("a running statement", SOON, async || {
        postgres.count(running).await == 1
    })
    .await;
    let (pid, secret) = session.key();
    let mut cancel = Wire::connect_from(here, addr).await;
    cancel.send(&message::cancel_request(pid, &secret)).await;
    assert!(cancel.read_to_end().await.is_empty());
    let answer = session.read_until_ready().await;
    assert_eq!(
        answer
            .iter()
            .find(|it| it.tag == b'E')
            .expect("an error")
            .sqlstate(),
        "57014"
    );

    // Beyond twice the limit nothing is read at all.
    let mut surplus = Vec::new();
    let unread = async || {
        surplus.push(Wire::connect_from(here, addr).await);
        for wire in &mut surplus {
            let rest = tokio::time::timeout(SOON / 400, wire.read_raw_to_end()).await;
            if rest.is_ok_and(|rest| rest.is_empty()) {
                return true;
            }
        }
        false
    };
    until("a connection that is closed unread", SOON, unread).await;
    assert!(limited(&proxy, "connections_per_address").await >= 2);
    drop(surplus);
    drop(silent);
    eventually("a free place", SOON, async || {
        let mut wire = Wire::connect_from(here, addr).await;
        wire.send(&message::startup(&parameters)).await;
        // One that is closed unread says nothing.
        let first = wire.try_read().await?;
        (first.tag == b'R').then_some(())
    })
    .await;
}

#[tokio::test]
async fn those_who_say_nothing_make_room_for_those_who_come() {
    let postgres = Postgres::start().await;
    let proxy = Proxy::start_set(&postgres, &[("LIMITS_LOGINS", "3")]).await;
    let mut silent = Vec::new();
    for number in 0..8_usize {
        let mut wire = Wire::connect(proxy.addr()).await;
        wire.send(&[0, 0, 0][..number % 4]).await;
        silent.push(wire);
        // Nobody is kept out by them.
        let mut session = proxy.session(DB).await;
        assert_eq!(session.query_one("SELECT 'served'").await, "served");
    }
    // No more than three are left, the last ones.
    for wire in &mut silent[..5] {
        assert!(wire.read_raw_to_end().await.is_empty());
    }
    assert!(limited(&proxy, "logins").await >= 5);
}

#[tokio::test]
async fn so_many_log_in_at_once() {
    let mut slow = Script::listen().await;
    let upstream = format!("postgres://{}", slow.addr());
    let proxy = Proxy::before_set(&upstream, &[("LIMITS_LOGINS", "2")]).await;
    let startup = message::startup(&[("user", "anna"), ("database", "shop")]);
    let mut servers = Vec::new();
    let mut clients = Vec::new();
    for _ in 0..2 {
        let mut client = Wire::connect(proxy.addr()).await;
        client.send(&startup).await;
        servers.push(slow.accept().await);
        clients.push(client);
    }
    let text = refused(&proxy, "anna", "shop").await;
    assert_eq!(text, "sorry, too many clients already");
    // One that is logged in makes room.
    servers[0].greet(7, b"abcd").await;
    clients[0].read_until_ready().await;
    let mut client = Wire::connect(proxy.addr()).await;
    client.send(&startup).await;
    let mut server = slow.accept().await;
    server.greet(8, b"abcd").await;
    client.read_until_ready().await;
}

#[tokio::test]
async fn limits_that_are_reloaded_count_who_is_there_already() {
    let postgres = Postgres::start().await;
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    let write = |text: &str| std::fs::write(file.path(), text).expect("writable");
    write("");
    let path = file.path().display().to_string();
    let proxy = Proxy::start_with(&postgres, &["--config", &path]).await;
    let _first = proxy.session(DB).await;
    write("[limits]\nconnections_per_user = 1\n");
    proxy.signal(pgdrain::cli::demo::cluster::process::Signal::Hangup);
    until("the new limit", SOON, async || {
        log_in(&proxy, "postgres", DB).await.is_err()
    })
    .await;
    assert!(limited(&proxy, "connections_per_user").await >= 1);
}

#[tokio::test]
async fn a_client_that_does_not_read_is_ended_where_that_is_set() {
    let mut postgres = Postgres::start().await;
    let settings = [("LIMITS_CLIENT_STALLED", "300ms"), ("CLIENT_GONE", "never")];
    let proxy = Proxy::start_set(&postgres, &settings).await;
    let mut witness = proxy.session(DB).await;
    let mut reader = proxy.session(DB).await;
    let (pid, _) = reader.key();
    let long = "SELECT repeat('r', 1000000) FROM generate_series(1, 100000)";
    reader.send(&message::query(long)).await;
    // Its statement would run for ever: it is cancelled, and its backend ends.
    postgres.until_gone(pid).await;
    assert_eq!(limited(&proxy, "client_stalled").await, 1);
    assert!(proxy.log().contains("does not read"), "{}", proxy.log());
    assert_eq!(witness.query_one("SELECT 'served'").await, "served");
    drop(reader);
}

#[tokio::test]
async fn half_a_statement_keeps_nobody_waiting() {
    let mut postgres = Postgres::start().await;
    postgres.execute("CREATE TABLE t (n int)").await;
    let proxy = Proxy::start(&postgres).await;
    let mut slow = proxy.session(DB).await;
    let insert = message::query("INSERT INTO t VALUES (1)");
    for byte in &insert[..insert.len() - 1] {
        slow.send(&[*byte]).await;
    }
    // All but the last byte is there: the database is drained nevertheless.
    proxy.hold_drained(DB, serde_json::json!({})).await;
    slow.send(&insert[insert.len() - 1..]).await;
    proxy.until_held(DB, 1).await;
    assert_eq!(postgres.count("SELECT count(*) FROM t").await, 0);
    proxy.open(DB).await;
    let answer = slow.read_until_ready().await;
    assert!(
        answer.iter().all(|message| message.tag != b'E'),
        "{answer:?}"
    );
    assert_eq!(postgres.count("SELECT count(*) FROM t").await, 1);
}

/// The next probe of each TCP connection between these two ports (zero is any), in seconds:
/// `proc_pid_net(5)`, timer 2 is keepalive's and counts hundredths.
fn probes(from: u16, to: u16) -> Vec<u64> {
    let table = std::fs::read_to_string("/proc/net/tcp").expect("Linux");
    let port = |field: &str| {
        let (_, port) = field.split_once(':').expect("an address and a port");
        u16::from_str_radix(port, 16).expect("a port")
    };
    let line = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (here, there) = (port(fields[1]), port(fields[2]));
        let (kind, when) = fields[5].split_once(':').expect("a timer");
        let when = u64::from_str_radix(when, 16).expect("a time") / 100;
        let meant = |port, wanted| wanted == 0 || port == wanted;
        (meant(here, from) && meant(there, to) && kind == "02").then_some(when)
    };
    table.lines().skip(1).filter_map(line).collect()
}

#[tokio::test]
async fn the_kernel_probes_clients_and_servers_as_configured() {
    let postgres = Postgres::start().await;
    let settings = [
        ("TCP_KEEPALIVE_IDLE", "3333s"),
        ("TCP_USER_TIMEOUT", "20days"),
    ];
    let proxy = Proxy::start_set(&postgres, &settings).await;
    let session = proxy.session(DB).await.into_stream();
    let client: SocketAddr = session.local_addr().expect("connected");
    let probed = |after: &u64| (3000..=3333).contains(after);
    let of_client = probes(proxy.addr().port(), client.port());
    assert!(
        matches!(&of_client[..], [one] if probed(one)),
        "{of_client:?}"
    );
    let of_servers = probes(0, postgres.addr().port());
    assert!(of_servers.iter().any(probed), "{of_servers:?}");
}
