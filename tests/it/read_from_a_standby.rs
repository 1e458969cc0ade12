//! Reads that go to a standby while their database reads only, and those that cannot.

use tokio::io::{AsyncRead, AsyncWrite};

use crate::support::auth::Files;
use crate::support::certificates::{Authority, Encrypting, text};
use crate::support::cluster::Postgres;
use crate::support::holds::DB;
use crate::support::message::{Message, bind, describe, execute, parse, query, sync};
use crate::support::poll::{PATIENCE, SOON, until};
use crate::support::proxy::Proxy;
use crate::support::reading;
use crate::support::standby::{HBA, standby_of};
use crate::support::wire::Wire;

/// Where the statement runs: any function of `pg_` would keep it at the server.
const WHERE: &str = "SELECT current_setting('in_hot_standby')";

const ROWS: &str = "CREATE TABLE t (a int); INSERT INTO t VALUES (1); \
    CREATE USER anna PASSWORD 'hush'; CREATE USER passed; GRANT SELECT ON t TO anna";

/// A server and a standby that follows it.
async fn pair() -> (Postgres, Postgres) {
    let mut server = Postgres::start_with(&[], &HBA).await;
    server.execute(ROWS).await;
    let standby = standby_of(&server).await;
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
    reading::read_only(proxy, "queue").await;
}

async fn until_at<S: AsyncRead + AsyncWrite + Unpin>(session: &mut Wire<S>, wanted: &str) {
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

/// Where what writes is refused, so is what a session that holds state may not read elsewhere.
#[tokio::test]
async fn who_holds_state_is_refused_where_writes_are() {
    let (server, standby) = pair().await;
    let files = Files::new();
    let waits = "read_stateful = 'wait'";
    let proxy = proxy(&files, (&server, &standby), waits).await;
    let mut free = proxy.log_in("anna", "hush").await.expect("in");
    let mut bound = proxy.log_in("anna", "hush").await.expect("in");
    bound.execute("SET work_mem = '1MB'").await;
    reading::read_only(&proxy, "reject").await;
    until_at(&mut free, "on").await;
    for _ in 0..2 {
        let refused = bound.query("SELECT a FROM t").await;
        assert_eq!(refused[0].sqlstate(), "25006", "{refused:?}");
        let detail = refused[0].field(b'D').expect("a detail");
        assert!(detail.contains("its session holds state"), "{detail}");
        // What stays at the server in any case goes on there.
        assert_eq!(bound.query_one("SHOW work_mem").await, "1MB");
        bound.execute("BEGIN").await;
        assert_eq!(bound.query_one(WHERE).await, "off");
        bound.execute("COMMIT").await;
    }
    bound.execute("RESET work_mem").await;
    until_at(&mut bound, "on").await;
    let refused = free.query("INSERT INTO t VALUES (2)").await;
    assert_eq!(refused[0].sqlstate(), "25006", "{refused:?}");
    assert_eq!(free.query_one(WHERE).await, "on");
    proxy.open(DB).await;
    assert_eq!(bound.query_one("SELECT a FROM t").await, "1");
    assert_eq!(free.query_one(WHERE).await, "off");
}

/// Neither server lets anybody in without a proof, and the proxy knows nothing but what the server keeps:
/// what a client has proved it with is what it is logged in with, at both.
#[tokio::test]
async fn who_is_logged_in_with_its_own_keys_reads_there_too() {
    const STRICT: [&str; 5] = [
        "local all all trust",
        "host all postgres 127.0.0.1/32 trust",
        "host replication all 127.0.0.1/32 trust",
        "host all anna 127.0.0.1/32 scram-sha-256",
        "host all all 127.0.0.1/32 reject",
    ];
    let mut server = Postgres::start_with(&[], &STRICT).await;
    server.execute(ROWS).await;
    let standby = standby_of(&server).await;
    let files = Files::new();
    let kept = server.kept("anna").await;
    assert!(kept.starts_with("SCRAM-SHA-256$"), "{kept}");
    let users = files.write("users", &format!("\"anna\" \"{kept}\"\n"));
    let auth = format!(
        "users_file = '{users}'\n[[auth.rules]]\nmethod = 'scram-sha-256'\n\
         [databases.{DB}]\nread_upstream = 'postgres://postgres@{}'\n",
        standby.addr()
    );
    let proxy = files.proxy(&server, &auth).await;
    for at in [&server, &standby] {
        let parameters = [("user", "anna"), ("database", DB)];
        let wrong = Wire::login_with(at.addr(), &parameters, Some("other")).await;
        assert_eq!(wrong.expect_err("a proof is asked for").sqlstate(), "28P01");
    }
    let mut older = proxy.log_in("anna", "hush").await.expect("in");
    read_only(&proxy).await;
    let mut younger = proxy.log_in("anna", "hush").await.expect("in");
    for session in [&mut older, &mut younger] {
        until_at(session, "on").await;
        assert_eq!(session.query_one("SELECT a FROM t").await, "1");
        assert_eq!(session.query_one("SELECT current_user").await, "anna");
    }
    proxy.open(DB).await;
    for session in [&mut older, &mut younger] {
        assert_eq!(session.query_one(WHERE).await, "off");
    }
}

/// Everybody encrypts: the client, and the proxy at both servers, which it knows by their certificates.
#[tokio::test]
async fn reads_go_there_encrypted() {
    const ENCRYPTED: [&str; 5] = [
        "local all all trust",
        "host replication all 127.0.0.1/32 trust",
        "host all postgres 127.0.0.1/32 trust",
        "hostssl all anna 127.0.0.1/32 scram-sha-256",
        "hostnossl all all 127.0.0.1/32 reject",
    ];
    let (ours, others) = (Authority::new("ours"), Authority::new("others"));
    let mut server = Postgres::start_with(&[], &ENCRYPTED).await;
    server
        .encrypt(&ours.sign("server", &["localhost"]), None)
        .await;
    server.execute(ROWS).await;
    let mut standby = standby_of(&server).await;
    standby
        .encrypt(&ours.sign("standby", &["localhost"]), None)
        .await;
    let files = Files::new();
    let kept = server.kept("anna").await;
    let users = files.write("users", &format!("\"anna\" \"{kept}\"\n"));
    let pair = ours.sign("proxy", &["localhost"]);
    let url = |at: &Postgres, root: &str| {
        let port = at.addr().port();
        format!("postgres://postgres@localhost:{port}/?sslmode=verify-full&sslrootcert={root}")
    };
    let known = ours.root();
    let [right, wrong] = [known.clone(), others.root()].map(|root| {
        format!(
            "users_file = '{users}'\n[[auth.rules]]\nmethod = 'scram-sha-256'\n\
             [tls]\ncertificate = '{}'\nkey = '{}'\n\
             [databases.{DB}]\nread_upstream = '{}'\n",
            text(&pair.certificate),
            text(&pair.key),
            url(&standby, text(&root)),
        )
    });
    let at_server = url(&server, text(&known));
    let encrypting = Encrypting::trusting(&ours, None);
    let encrypted =
        "SELECT ssl FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE usename = 'anna'";
    let log_in = async |proxy: &Proxy| {
        let mut wire = Wire::new(encrypting.asked(proxy.addr()).await.expect("a handshake"));
        let parameters = [("user", "anna"), ("database", DB)];
        wire.log_in(&parameters, Some("hush"))
            .await
            .expect("let in");
        wire
    };

    let proxy = files.proxy_before(&at_server, &right).await;
    let mut anna = log_in(&proxy).await;
    assert_eq!(anna.query_one(WHERE).await, "off");
    read_only(&proxy).await;
    until_at(&mut anna, "on").await;
    assert_eq!(anna.query_one("SELECT a FROM t").await, "1");
    let admin = standby.connect(DB).await;
    let row = admin.query_one(encrypted, &[]).await.expect("one session");
    assert!(row.get::<_, bool>(0), "not encrypted");
    proxy.open(DB).await;
    assert_eq!(anna.query_one(WHERE).await, "off");

    // A standby that is not who it should be is done without.
    let proxy = files.proxy_before(&at_server, &wrong).await;
    let mut anna = log_in(&proxy).await;
    read_only(&proxy).await;
    until("the standby is asked", SOON, async || {
        proxy.log().contains("its standby is not used")
    })
    .await;
    for _ in 0..3 {
        assert_eq!(anna.query_one(WHERE).await, "off");
    }
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
