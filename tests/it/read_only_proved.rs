//! What is said of the read-only mode where something is out of the ordinary: a server that refuses writes by
//! itself, one that does not do as it is told, a statement that writes late, and a stricter hold.

use std::net::SocketAddr;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::support::cluster::Postgres;
use crate::support::holds::DB;
use crate::support::message;
use crate::support::poll::{PATIENCE, SOON, eventually, until, within};
use crate::support::proxy::Proxy;
use crate::support::reading::{INSERT, READ, read_only, rows, say, short, waits_and_goes_on};
use crate::support::standby::standby_of;
use crate::support::wire::Wire;

const TABLE: &str = "CREATE TABLE t (n int)";

const OWN: &str = "SHOW default_transaction_read_only";

/// Lets reads in alone, and gives the drain when it has come to an end.
async fn entering(proxy: &Proxy, mut options: Value) -> Value {
    options["mode"] = "read_only".into();
    let path = format!("/v1/databases/{DB}/mode");
    let answer = proxy.admin().put(&path, options).await.expect(202);
    let scope = answer["results"][0]["scope"].clone();
    eventually("the end of the drain", PATIENCE, async || {
        let status = proxy.status(DB).await;
        let holds = match scope.is_object() {
            true => status["scopes"][0]["holds"].clone(),
            false => status["holds"].clone(),
        };
        let holds = holds.as_array().expect("a list").clone();
        let hold = holds.into_iter().find(|it| it["mode"] == "read_only")?;
        let drain = hold["drain"].clone();
        (drain["outcome"].is_string() && drain["outcome"] != "draining").then_some(drain)
    })
    .await
}

fn detail(drain: &Value) -> &str {
    drain["detail"].as_str().expect("a sentence")
}

/// Where sessions begin read-only by the server's own settings, each has that afterwards.
#[tokio::test]
async fn a_server_whose_sessions_begin_read_only_is_entered_and_left_as_it_was() {
    let mut postgres = Postgres::start().await;
    postgres.execute(TABLE).await;
    for (on, off) in [
        (
            "ALTER SYSTEM SET default_transaction_read_only = on",
            "ALTER SYSTEM RESET default_transaction_read_only",
        ),
        (
            "ALTER DATABASE postgres SET default_transaction_read_only = on",
            "ALTER DATABASE postgres RESET default_transaction_read_only",
        ),
        (
            "ALTER ROLE postgres SET default_transaction_read_only = on",
            "ALTER ROLE postgres RESET default_transaction_read_only",
        ),
    ] {
        let mut admin = Wire::login(postgres.addr(), "postgres", DB).await;
        admin.execute(on).await;
        admin.execute("SELECT pg_reload_conf()").await;
        until("the setting", SOON, async || {
            let mut new = Wire::login(postgres.addr(), "postgres", DB).await;
            new.query_one(OWN).await == "on"
        })
        .await;
        let proxy = Proxy::start(&postgres).await;
        let mut as_it_is = proxy.session(DB).await;
        assert_eq!(say(&mut as_it_is, INSERT).await, "E:25006 Z:I", "{on}");
        let mut turned = proxy.session(DB).await;
        turned
            .execute("SET default_transaction_read_only = off")
            .await;
        turned.execute(INSERT).await;

        let drain = entering(&proxy, json!({})).await;
        assert_eq!(drain["outcome"], "drained", "{on}: {drain}");
        assert!(detail(&drain).contains("a write that was tried"), "{drain}");
        assert_eq!(drain["enforced"], 2, "{on}: {drain}");
        for session in [&mut as_it_is, &mut turned] {
            assert_eq!(session.query_one(OWN).await, "on");
            assert_eq!(say(session, READ).await, "T D C:SELECT 1 Z:I");
        }
        // Both wait: that the one would be refused anyway is said by the server.
        let before = rows_direct(&mut admin).await;
        as_it_is.send(&message::query(INSERT)).await;
        turned.send(&message::query(INSERT)).await;
        proxy.until_held(DB, 2).await;
        proxy.open(DB).await;
        let answer = within("an answer", SOON, as_it_is.read_until_ready()).await;
        assert_eq!(short(&answer), "E:25006 Z:I", "{on}");
        let answer = within("an answer", SOON, turned.read_until_ready()).await;
        assert_eq!(short(&answer), "C:INSERT 0 1 Z:I", "{on}");
        assert_eq!(rows_direct(&mut admin).await, before + 1);
        assert_eq!(as_it_is.query_one(OWN).await, "on");
        assert_eq!(turned.query_one(OWN).await, "off");
        turned.execute("RESET default_transaction_read_only").await;
        assert_eq!(turned.query_one(OWN).await, "on");

        admin
            .execute("SET default_transaction_read_only = off")
            .await;
        admin.execute(off).await;
        admin.execute("SELECT pg_reload_conf()").await;
        until("the setting to be gone", SOON, async || {
            let mut new = Wire::login(postgres.addr(), "postgres", DB).await;
            new.query_one(OWN).await == "off"
        })
        .await;
    }
}

async fn rows_direct(admin: &mut Wire) -> i64 {
    admin.query_one(READ).await.parse().expect("a count")
}

#[tokio::test]
async fn a_hot_standby_is_entered_and_says_itself_what_it_refuses() {
    let mut primary = Postgres::start_with(&[], &crate::support::standby::HBA).await;
    primary.execute(TABLE).await;
    let standby = standby_of(&primary).await;
    let proxy = Proxy::start(&standby).await;
    let mut session = proxy.session(DB).await;
    until("the table", SOON, async || {
        say(&mut session, READ).await == "T D C:SELECT 1 Z:I"
    })
    .await;
    let drain = entering(&proxy, json!({})).await;
    assert_eq!(drain["outcome"], "drained", "{drain}");
    assert!(detail(&drain).contains("a write that was tried"), "{drain}");
    let mut younger = proxy.session(DB).await;
    for session in [&mut session, &mut younger] {
        assert_eq!(say(session, READ).await, "T D C:SELECT 1 Z:I");
        assert_eq!(say(session, "BEGIN").await, "C:BEGIN Z:T");
        assert_eq!(say(session, READ).await, "T D C:SELECT 1 Z:T");
        assert_eq!(say(session, "COMMIT").await, "C:COMMIT Z:I");
    }
    session.send(&message::query(INSERT)).await;
    proxy.until_held(DB, 1).await;
    proxy.open(DB).await;
    let answer = within("an answer", SOON, session.read_until_ready()).await;
    assert_eq!(short(&answer), "E:25006 Z:I");
    assert_eq!(session.query_one(OWN).await, "off");
    // It takes writes once it is promoted.
    let mut admin = Wire::login(standby.addr(), "postgres", DB).await;
    admin.execute("SELECT pg_promote()").await;
    assert_eq!(say(&mut session, INSERT).await, "C:INSERT 0 1 Z:I");
}

/// Something in front of a server which tells it the opposite of what read-only mode tells it.
struct Liar {
    addr: SocketAddr,
    _accepting: JoinSet<()>,
}

impl Liar {
    async fn start(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let addr = listener.local_addr().expect("a listener has an address");
        let mut accepting = JoinSet::new();
        accepting.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                connections.spawn(lie(client, server));
            }
        });
        Self {
            addr,
            _accepting: accepting,
        }
    }
}

/// What it is told comes in one piece: it is far shorter than what is read at once.
async fn lie(client: TcpStream, server: SocketAddr) {
    let Ok(server) = TcpStream::connect(server).await else {
        return;
    };
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let up = async move {
        let mut buffer = vec![0; 64 << 10];
        while let Ok(length @ 1..) = from_client.read(&mut buffer).await {
            let bytes = &mut buffer[..length];
            let told = b"SET default_transaction_read_only = on";
            let at = bytes.windows(told.len()).position(|it| it == told);
            if let Some(at) = at {
                let end = at + told.len();
                bytes[end - 2..end].copy_from_slice(b"no");
            }
            if to_server.write_all(bytes).await.is_err() {
                break;
            }
        }
        drop(to_server.shutdown().await);
    };
    let down = tokio::io::copy(&mut from_server, &mut to_client);
    let ((), _copied) = tokio::join!(up, down);
}

#[tokio::test]
async fn a_server_that_lets_the_write_through_is_not_entered() {
    let mut postgres = Postgres::start().await;
    postgres
        .execute(
            "CREATE TABLE t (n int); \
             CREATE ROLE poor LOGIN; GRANT pg_read_all_stats TO poor; \
             REVOKE TEMP ON DATABASE postgres FROM PUBLIC",
        )
        .await;
    let liar = Liar::start(postgres.addr()).await;
    for (role, why) in [
        ("postgres", "was carried out, and rolled back"),
        ("poor", "may not make temporary tables"),
    ] {
        let url = format!("postgres://{role}@{}", liar.addr);
        let proxy = Proxy::before(&url, &[]).await;
        let mut session = proxy.session(DB).await;
        session.execute(READ).await;
        let ran = proxy.run(&["read-only", DB, "--wait", "5s"]).await;
        assert_eq!(ran.code, Some(6), "{ran:?}");
        let drain = proxy.drain(DB).await;
        assert_eq!(drain["outcome"], "writable", "{role}: {drain}");
        assert!(detail(&drain).contains(why), "{role}: {drain}");
        let said = format!("{}{}", ran.stdout, ran.stderr);
        assert!(said.contains("writable") && said.contains(why), "{ran:?}");
        assert!(proxy.log().contains("NOT read-only"), "{role}");
        // It stays on: what is seen to write waits all the same.
        assert_eq!(proxy.status(DB).await["mode"], "read_only");
        session.send(&message::query(INSERT)).await;
        proxy.until_held(DB, 1).await;
        proxy.open(DB).await;
        session.read_until_ready().await;
    }
    assert_eq!(rows(&mut postgres).await, 2);
    let left = "SELECT count(*) FROM pg_class WHERE relname = 'pgdrain_probe'";
    assert_eq!(postgres.count(left).await, 0);
}

/// The mode is over when the server comes to the write, so that it says nothing of the mode.
#[tokio::test]
async fn a_write_that_is_let_through_behind_the_end_of_the_mode_is_no_alarm() {
    let mut postgres = Postgres::start().await;
    let slow = "CREATE FUNCTION slow() RETURNS event_trigger LANGUAGE plpgsql AS
        $$ BEGIN PERFORM pg_advisory_xact_lock(1); END $$;
        CREATE EVENT TRIGGER slow ON ddl_command_start EXECUTE FUNCTION slow()";
    postgres.execute(TABLE).await;
    postgres.execute(slow).await;
    let liar = Liar::start(postgres.addr()).await;
    let url = format!("postgres://postgres@{}", liar.addr);
    let proxy = Proxy::before(&url, &[]).await;
    proxy.session(DB).await.execute(READ).await;
    let mut locks = Wire::login(postgres.addr(), "postgres", DB).await;
    locks.execute("SELECT pg_advisory_lock(1)").await;
    let path = format!("/v1/databases/{DB}/mode");
    let mode = json!({"mode": "read_only"});
    proxy.admin().put(&path, mode).await.expect(202);
    postgres.until_somebody_waits().await;
    proxy.open(DB).await;
    locks.execute("SELECT pg_advisory_unlock(1)").await;
    until("the end of the drain", SOON, async || {
        proxy.log().contains("drain ended")
    })
    .await;
    let log = proxy.log();
    assert!(log.contains("outcome=Ended"), "{log}");
    assert!(!log.contains("NOT read-only"), "{log}");
}

/// By its text it reads, and it has no transaction id when it is looked at; then it gets one.
#[tokio::test]
async fn a_pending_statement_that_writes_late_is_told_of() {
    let mut postgres = Postgres::start().await;
    postgres.execute(TABLE).await;
    let late = "CREATE FUNCTION late() RETURNS int LANGUAGE plpgsql AS $$ BEGIN
        PERFORM pg_advisory_xact_lock(1); INSERT INTO t VALUES (3);
        PERFORM pg_advisory_xact_lock(2); RETURN 1; END $$";
    postgres.execute(late).await;
    let proxy = Proxy::start(&postgres).await;
    let mut locks = Wire::login(postgres.addr(), "postgres", DB).await;
    for lock in [1, 2] {
        locks
            .execute(&format!("SELECT pg_advisory_lock({lock})"))
            .await;
    }
    let mut session = proxy.session(DB).await;
    session.send(&message::query("SELECT late()")).await;
    postgres.until_somebody_waits().await;
    let drain = entering(&proxy, json!({})).await;
    assert_eq!(drain["outcome"], "drained", "{drain}");
    let pid = json!(session.key().0);
    assert_eq!(drain["pending"][0]["pid"], pid, "{drain}");
    locks.execute("SELECT pg_advisory_unlock(1)").await;
    let drain = eventually("it to be told of", SOON, async || {
        let drain = proxy.drain(DB).await;
        (drain["outcome"] != "drained").then_some(drain)
    })
    .await;
    assert_eq!(drain["outcome"], "writable", "{drain}");
    assert_eq!(drain["in_the_way"][0]["pid"], pid, "{drain}");
    assert!(detail(&drain).contains("writes"), "{drain}");
    assert!(proxy.log().contains("NOT read-only"));
    let text = proxy.run(&["status"]).await.stdout;
    assert!(text.contains("was taken for a read"), "{text}");
    locks.execute("SELECT pg_advisory_unlock(2)").await;
    let answer = within("an answer", SOON, session.read_until_ready()).await;
    assert_eq!(short(&answer), "T D C:SELECT 1 Z:I");
    // From then on it is enforced like any other.
    let answer = {
        session.send(&message::query("SELECT late()")).await;
        waits_and_goes_on(&mut postgres, &proxy, &mut session).await
    };
    assert_eq!(answer, "T D C:SELECT 1 Z:I");
    assert_eq!(rows(&mut postgres).await, 2);
}

/// A write that is tried would only wait there.
#[tokio::test]
async fn under_a_stricter_hold_no_write_is_tried_and_that_is_said() {
    let mut postgres = Postgres::start().await;
    postgres
        .execute("CREATE TABLE t (n int); CREATE ROLE anna LOGIN; GRANT ALL ON t TO anna")
        .await;
    let proxy = Proxy::start(&postgres).await;
    let mut anna = Wire::login(proxy.addr(), "anna", DB).await;
    let mut other = proxy.session(DB).await;
    for options in [json!({}), json!({"user": "anna"})] {
        let window = proxy.exclusive(DB, json!({})).await;
        let drain = entering(&proxy, options.clone()).await;
        assert_eq!(drain["outcome"], "drained", "{options}: {drain}");
        let says = "no write was tried, since a stricter hold lets nothing in";
        assert!(detail(&drain).contains(says), "{options}: {drain}");
        anna.send(&message::query(READ)).await;
        proxy.until_held(DB, 1).await;
        anna.assert_silent().await;
        proxy.command_window(&window, "finish").await;
        // The stricter one has gone: she reads, and does not write.
        let answer = within("an answer", SOON, anna.read_until_ready()).await;
        assert_eq!(short(&answer), "T D C:SELECT 1 Z:I");
        let answer = {
            anna.send(&message::query("SELECT 1; DELETE FROM t")).await;
            proxy.until_held(DB, 1).await;
            anna.assert_silent().await;
            let mut open = options.clone();
            open["mode"] = "open".into();
            let path = format!("/v1/databases/{DB}/mode");
            proxy.admin().put(&path, open).await.expect(202);
            within("an answer", SOON, anna.read_until_ready()).await
        };
        assert_eq!(short(&answer), "T D C:SELECT 1 C:DELETE 0 Z:I");
    }
    // A stricter hold on others is not in the way of the write that is tried.
    proxy.hold(DB, json!({"user": "anna"})).await;
    let drain = entering(&proxy, json!({})).await;
    assert_eq!(drain["outcome"], "drained", "{drain}");
    let says = "and a write that was tried";
    assert!(detail(&drain).contains(says), "{drain}");
    assert_eq!(say(&mut other, READ).await, "T D C:SELECT 1 Z:I");
    other.send(&message::query(INSERT)).await;
    proxy.until_held(DB, 1).await;
    read_only(&proxy, "reject").await;
    proxy.open(DB).await;
    other.read_until_ready().await;
}
