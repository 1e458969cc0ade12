//! A fence keeps new sessions out of a database while a hold lasts, and what it changed is put back
//! whatever happens.

use std::net::SocketAddr;

use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio_postgres::NoTls;

use crate::support::cluster::Postgres;
use crate::support::holds::DB;
use crate::support::message::Message;
use crate::support::poll::{SOON, eventually, until};
use crate::support::proxy::Proxy;
use crate::support::windows::Ordered;
use crate::support::wire::Wire;

/// A server with a database `shop`, and a role `app` that is no superuser.
async fn server() -> Postgres {
    let mut postgres = Postgres::start().await;
    postgres.execute("CREATE ROLE app LOGIN").await;
    let shop = "CREATE DATABASE shop CONNECTION LIMIT 7";
    postgres.execute(shop).await;
    postgres
}

async fn scene() -> (Postgres, Proxy) {
    let postgres = server().await;
    let proxy = Proxy::start(&postgres).await;
    (postgres, proxy)
}

/// The connection limit of `shop`.
async fn limit(postgres: &mut Postgres) -> i64 {
    let sql = "SELECT datconnlimit::int8 FROM pg_database WHERE datname = 'shop'";
    postgres.count(sql).await
}

async fn until_limit(postgres: &mut Postgres, expected: i64) {
    let client = postgres.connect(DB).await;
    until("the connection limit", SOON, async || {
        let sql = "SELECT datconnlimit::int8 FROM pg_database WHERE datname = 'shop'";
        let row = client.query_one(sql, &[]).await.expect("a row");
        row.get::<_, i64>(0) == expected
    })
    .await;
}

async fn login(addr: SocketAddr) -> Result<Wire, Message> {
    Wire::login_with(addr, &[("user", "app"), ("database", "shop")], None).await
}

/// A login that waits in front of the fence; dropped, its client leaves.
struct Parked(JoinSet<Result<Wire, Message>>);

impl Parked {
    /// What came of it.
    async fn end(mut self) -> Result<Wire, Message> {
        let ended = self.0.join_next().await.expect("a login");
        ended.expect("no panic")
    }
}

async fn park(proxy: &Proxy) -> Parked {
    let mut logins = JoinSet::new();
    logins.spawn(login(proxy.addr()));
    until_parked(proxy, 1).await;
    Parked(logins)
}

async fn until_parked(proxy: &Proxy, logins: u64) {
    until("parked logins", SOON, async || {
        proxy.status("shop").await["fence"]["parked"] == logins
    })
    .await;
}

/// Waits until a journal names no fence.
async fn until_forgotten(proxy: &Proxy) {
    let journal = proxy.state_dir().join("journal.json");
    until("the journal to forget the fence", SOON, async || {
        let text = std::fs::read_to_string(&journal).expect("a journal");
        !text.contains("fences")
    })
    .await;
}

/// What was told of fences: up or down.
async fn told(proxy: &Proxy) -> Vec<Value> {
    let events = proxy.admin().get("/v1/events").await.expect(200);
    let events = events["events"].as_array().expect("a list");
    let fences = events.iter().filter(|event| event["kind"] == "fence");
    fences.map(|event| event["after"].clone()).collect()
}

#[tokio::test]
async fn nobody_but_superusers_gets_in_until_the_hold_ends() {
    let (mut postgres, proxy) = scene().await;
    let mut before = Wire::login(proxy.addr(), "app", "shop").await;
    let ran = proxy.run(&["hold", "shop", "--fence"]).await;
    ran.assert(0, &["drained"]);
    assert_eq!(limit(&mut postgres).await, 0);
    let shown = proxy.run(&["status"]).await;
    shown.assert(0, &["shop: fenced", "the connection limit 7 comes back"]);

    // Directly: the server refuses, and lets a superuser in.
    let url = postgres.url("shop").replace("postgres@", "app@");
    let refused = tokio_postgres::connect(&url, NoTls).await.err();
    let state = refused.as_ref().and_then(|error| error.code());
    assert_eq!(state.map(|code| code.code()), Some("53300"), "{refused:?}");
    drop(postgres.connect("shop").await);

    // Through us: parked, and let in when the fence is down.
    let parked = park(&proxy).await;
    let status = proxy.status("shop").await;
    let expected = json!({"former_limit": 7, "parked": 1});
    assert_eq!(status["fence"], expected);
    proxy.open("shop").await;
    let mut parked = parked.end().await.expect("let in");
    parked.execute("SELECT 1").await;
    before.execute("SELECT 1").await;
    until_limit(&mut postgres, 7).await;
    until("the fence to be forgotten", SOON, async || {
        proxy.status("shop").await["fence"] == Value::Null
    })
    .await;
    until_forgotten(&proxy).await;
    assert_eq!(told(&proxy).await, ["up", "down"]);
}

#[tokio::test]
async fn two_holds_share_one_and_the_last_takes_it_down() {
    let (mut postgres, proxy) = scene().await;
    proxy.hold_drained("shop", json!({"fence": true})).await;
    let order = json!({"fence": true, "lease": "60s"});
    let window = proxy.exclusive("shop", order).await;
    // Another hold in place of the first, with a share of its own.
    proxy.hold_drained("shop", json!({"fence": true})).await;
    assert_eq!(limit(&mut postgres).await, 0);
    proxy.command_window(&window, "finish").await;
    proxy.until_window(&window, "closed").await;
    assert_eq!(limit(&mut postgres).await, 0);
    assert_eq!(told(&proxy).await, ["up"]);
    proxy.open("shop").await;
    until_limit(&mut postgres, 7).await;
    until("one end for one beginning", SOON, async || {
        told(&proxy).await == ["up", "down"]
    })
    .await;
}

#[tokio::test]
async fn what_a_crash_left_is_put_back_once() {
    let (mut postgres, mut proxy) = scene().await;
    let hold = json!({"fence": true, "for": "3s"});
    proxy.hold_drained("shop", hold).await;
    proxy.kill();
    assert_eq!(limit(&mut postgres).await, 0);
    proxy.launch().await;
    until_limit(&mut postgres, 7).await;
    until_forgotten(&proxy).await;

    // Once done it is not done again.
    let other = "ALTER DATABASE shop CONNECTION LIMIT 3";
    postgres.execute(other).await;
    proxy.kill();
    proxy.launch().await;
    login(proxy.addr()).await.expect("let in");
    assert_eq!(limit(&mut postgres).await, 3);
}

#[tokio::test]
async fn a_hold_that_goes_on_after_a_crash_keeps_it() {
    let (mut postgres, mut proxy) = scene().await;
    proxy.hold_drained("shop", json!({"fence": true})).await;
    proxy.kill();
    proxy.launch().await;
    let parked = park(&proxy).await;
    assert_eq!(limit(&mut postgres).await, 0);
    proxy.open("shop").await;
    parked.end().await.expect("let in");
    until_limit(&mut postgres, 7).await;
}

#[tokio::test]
async fn what_a_window_left_is_put_back() {
    let (mut postgres, mut proxy) = scene().await;
    proxy.exclusive("shop", json!({"fence": true})).await;
    proxy.kill();
    assert_eq!(limit(&mut postgres).await, 0);
    proxy.launch().await;
    until_limit(&mut postgres, 7).await;
    login(proxy.addr()).await.expect("let in");
    until_forgotten(&proxy).await;
}

#[tokio::test]
async fn nothing_is_changed_that_could_not_be_written_down() {
    let (mut postgres, proxy) = scene().await;
    let beside = proxy.state_dir().join("journal.json.new");
    drop(std::fs::remove_file(&beside));
    std::fs::create_dir(&beside).expect("a directory in the way");
    let ran = proxy.run(&["hold", "shop", "--fence"]).await;
    assert!(ran.stderr.contains("no fence: the journal"), "{ran:?}");
    assert_eq!(limit(&mut postgres).await, 7);
    login(proxy.addr()).await.expect("let in");
}

#[tokio::test]
async fn one_that_the_server_refuses_is_taken_back() {
    let (mut postgres, proxy) = scene().await;
    let other = postgres.connect(DB).await;
    let locks = "BEGIN; ALTER DATABASE shop CONNECTION LIMIT 5";
    other.batch_execute(locks).await.expect("a lock");
    let ran = proxy.run(&["hold", "shop", "--fence"]).await;
    assert_ne!(ran.code, Some(0), "{ran:?}");
    assert!(ran.stderr.contains("lock timeout"), "{ran:?}");
    let gone = "ROLLBACK";
    other.batch_execute(gone).await.expect("no lock");
    until_forgotten(&proxy).await;
    assert_eq!(limit(&mut postgres).await, 7);
    assert_eq!(proxy.status("shop").await, Value::Null);
    login(proxy.addr()).await.expect("let in");
}

#[tokio::test]
async fn many_that_waited_are_let_in_and_take_no_place_of_the_window_s() {
    let mut postgres = server().await;
    let unlimited = "ALTER DATABASE shop CONNECTION LIMIT -1";
    postgres.execute(unlimited).await;
    let proxy = Proxy::start_set(&postgres, &[("LIMITS_LOGINS", "20")]).await;
    let window = proxy.exclusive("shop", json!({"fence": true})).await;
    let mut logins = JoinSet::new();
    // More at once than there are places for those who have not spoken yet would push one another out.
    for parked in (10..=60).step_by(10) {
        for _ in 0..10 {
            logins.spawn(login(proxy.addr()));
        }
        until_parked(&proxy, parked).await;
    }
    let inside = proxy.through("shop", &window.key).await;
    inside.expect("a place").execute("SELECT 1").await;
    proxy.command_window(&window, "finish").await;
    let mut sessions = Vec::new();
    while let Some(ended) = logins.join_next().await {
        sessions.push(ended.expect("no panic").expect("let in"));
    }
    for session in &mut sessions {
        session.execute("SELECT 1").await;
    }
    assert_eq!(sessions.len(), 60);
}

#[tokio::test]
async fn it_is_handed_over_with_the_hold() {
    let (mut postgres, mut proxy) = scene().await;
    let mut old = Wire::login(proxy.addr(), "app", "shop").await;
    proxy.hold_drained("shop", json!({"fence": true})).await;
    let parked_there = park(&proxy).await;
    let mut former = proxy.take_over(&[]).await;
    let parked_here = park(&proxy).await;
    assert_eq!(limit(&mut postgres).await, 0);
    proxy.open("shop").await;
    until_limit(&mut postgres, 7).await;
    for parked in [parked_there, parked_here] {
        let mut wire = parked.end().await.expect("let in");
        wire.execute("SELECT 1").await;
    }
    old.execute("SELECT 1").await;
    drop(old);
    assert!(former.ended().await.success());
    assert_eq!(limit(&mut postgres).await, 7);
}

#[tokio::test]
async fn break_glass_and_a_stop_in_good_order_put_it_back() {
    let (mut postgres, mut proxy) = scene().await;
    proxy.hold_drained("shop", json!({"fence": true})).await;
    let state_dir = proxy.state_dir().display().to_string();
    // Nobody answers there: by signal.
    let open = ["open", "*", "--force", "--state-dir", &state_dir];
    let mut command = proxy.command(&open);
    command.env("PGDRAIN_ADMIN", "http://127.0.0.1:1");
    let done = command.status().expect("the binary starts");
    assert!(done.success(), "{done}");
    until_limit(&mut postgres, 7).await;

    proxy.hold_drained("shop", json!({"fence": true})).await;
    assert_eq!(limit(&mut postgres).await, 0);
    let status = proxy.terminate().await;
    assert!(status.success(), "{status}");
    assert_eq!(limit(&mut postgres).await, 7);
    until_forgotten(&proxy).await;
}

#[tokio::test]
async fn it_is_put_back_when_the_server_is_there_again() {
    let (mut postgres, proxy) = scene().await;
    proxy.hold_drained("shop", json!({"fence": true})).await;
    postgres.crash().await.expect("a crash");
    proxy.open("shop").await;
    until("the trouble to be shown", SOON, async || {
        proxy.status("shop").await["fence"]["trouble"].is_string()
    })
    .await;
    (*postgres).start().await.expect("it starts");
    until_limit(&mut postgres, 7).await;
    login(proxy.addr()).await.expect("let in");
}

#[tokio::test]
async fn a_parked_client_that_leaves_is_forgotten() {
    let (mut postgres, proxy) = scene().await;
    proxy.hold_drained("shop", json!({"fence": true})).await;
    let parked = park(&proxy).await;
    drop(parked);
    until_parked(&proxy, 0).await;
    proxy.open("shop").await;
    until_limit(&mut postgres, 7).await;
    let app = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'app'";
    assert_eq!(postgres.count(app).await, 0);
}

#[tokio::test]
async fn logins_wait_as_long_and_as_many_as_is_allowed() {
    let postgres = server().await;
    let settings = [
        ("HOLD_CLIENT_DEADLINE", "3s"),
        ("HOLD_CLIENTS_MAX", "1"),
        ("HOLD_CLIENTS_MAX_TOTAL", "1"),
    ];
    let proxy = Proxy::start_set(&postgres, &settings).await;
    proxy.hold_drained("shop", json!({"fence": true})).await;
    let parked = park(&proxy).await;
    let refused = login(proxy.addr()).await.expect_err("one may wait");
    assert_eq!(refused.sqlstate(), "53300");
    let late = parked.end().await.expect_err("its time is up");
    assert_eq!(late.sqlstate(), "57P03");
    let text = late.field(b'D').expect("a detail");
    assert!(text.contains("was not sent to the server"), "{text}");
}

#[tokio::test]
async fn a_window_s_connections_pass_or_are_told_why_not() {
    let (mut postgres, proxy) = scene().await;
    let window = proxy.exclusive("shop", json!({"fence": true})).await;
    let _parked = park(&proxy).await;
    let through = async |window: &Ordered, user: &str| {
        let options = format!("-c pgdrain.window={}", window.key);
        let parameters = [("user", user), ("database", "shop"), ("options", &options)];
        Wire::login_with(proxy.addr(), &parameters, None).await
    };
    let mut inside = through(&window, "postgres").await.expect("a superuser");
    inside.execute("CREATE TABLE t ()").await;
    let refused = through(&window, "app").await.expect_err("no superuser");
    assert_eq!(refused.sqlstate(), "53300");
    let text = refused.field(b'D').expect("a detail");
    assert!(text.contains("fence"), "{text}");
    proxy.command_window(&window, "abort").await;
    proxy.until_window(&window, "closed").await;
    until_limit(&mut postgres, 7).await;
}

#[tokio::test]
async fn who_may_not_raise_it_is_told_and_nothing_is_held() {
    let mut postgres = server().await;
    let watcher = "CREATE ROLE watcher LOGIN IN ROLE pg_read_all_stats";
    postgres.execute(watcher).await;
    let proxy = Proxy::start_set(&postgres, &[("CONTROL_USER", "watcher")]).await;
    let ran = proxy.run(&["precheck", "shop", "--fence"]).await;
    ran.assert(1, &["no-go", "fence: ", "neither superuser nor owner"]);
    let ran = proxy.run(&["hold", "shop", "--fence"]).await;
    assert_ne!(ran.code, Some(0), "{ran:?}");
    let said =
        "Nothing was held: no fence: the control role watcher is neither superuser nor owner";
    assert!(ran.stderr.contains(said), "{ran:?}");
    let exec = ["window", "exec", "shop", "--fence", "--", "true"];
    let ran = proxy.run(&exec).await;
    assert_eq!(ran.code, Some(6), "{ran:?}");
    assert!(ran.stderr.contains("neither superuser"), "{ran:?}");
    assert_eq!(limit(&mut postgres).await, 7);
    assert_eq!(proxy.status("shop").await["fence"], Value::Null);
    for part in [
        &["hold", "*", "--fence"][..],
        &["hold", "shop", "--user", "app", "--fence"],
    ] {
        let ran = proxy.run(part).await;
        assert!(ran.stderr.contains("for one database"), "{ran:?}");
    }

    // An owner may, from elsewhere.
    postgres
        .execute("ALTER DATABASE shop OWNER TO watcher")
        .await;
    let ran = proxy.run(&["precheck", "shop", "--fence"]).await;
    assert!(
        !ran.stdout.contains("neither superuser nor owner"),
        "{ran:?}"
    );
    proxy
        .run(&["hold", "shop", "--fence"])
        .await
        .assert(0, &["drained"]);
    assert_eq!(limit(&mut postgres).await, 0);
    proxy.open("shop").await;
    until_limit(&mut postgres, 7).await;
}

#[tokio::test]
async fn migrations_and_commands_run_behind_it() {
    let mut postgres = server().await;
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("001_a.up.sql");
    let sql = "create table seen as select datconnlimit from pg_database where datname = 'shop';";
    std::fs::write(file, sql).expect("a file");
    let dir = dir.path().to_str().expect("a path in UTF-8");
    let up = ["migrate", "up", "shop", "--dir", dir, "--fence"];

    let proxy = Proxy::start_set(&postgres, &[("MIGRATE_USER", "app")]).await;
    postgres
        .execute("ALTER DATABASE shop OWNER TO app; GRANT pg_read_all_stats TO app")
        .await;
    let refused = proxy.run(&up).await;
    assert_eq!(refused.code, Some(6), "{refused:?}");
    let said = format!("{}{}", refused.stdout, refused.stderr);
    assert!(
        said.contains("role app of [migrate] is no superuser"),
        "{said}"
    );
    assert_eq!(limit(&mut postgres).await, 7);
    drop(proxy);

    let proxy = Proxy::start_set(&postgres, &[("HOLD_FENCE", "true")]).await;
    proxy.run(&up).await.assert(0, &[]);
    until_limit(&mut postgres, 7).await;
    let shop = postgres.connect("shop").await;
    let row = shop.query_one("SELECT datconnlimit FROM seen", &[]).await;
    assert_eq!(row.expect("a row").get::<_, i32>(0), 0);

    // As configured, without being asked for.
    let script = "psql -X -U postgres -At -c 'SELECT datconnlimit FROM pg_database' | sort -n";
    let exec = ["window", "exec", "shop", "--", "sh", "-c", script];
    let ran = proxy.run(&exec).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.stdout.lines().any(|line| line == "0"), "{ran:?}");
    until_limit(&mut postgres, 7).await;
    let last = eventually("the last event", SOON, async || {
        told(&proxy).await.pop().filter(|last| last == "down")
    })
    .await;
    assert_eq!(last, "down");
}
