//! What would stand in the way of read-only mode is named before it is on, and so is who writes, or does not,
//! whatever the mode says.

use pgdrain::cli::demo::cluster::Shutdown;
use serde_json::{Value, json};

use crate::support::cluster::Postgres;
use crate::support::holds::DB;
use crate::support::message;
use crate::support::poll::{PATIENCE, SOON, eventually, until};
use crate::support::proxy::Proxy;
use crate::support::standby::{HBA, standby_of};
use crate::support::wire::Wire;

async fn precheck(proxy: &Proxy, query: &str) -> Value {
    let path = format!("/v1/databases/{DB}/precheck?mode=read_only{query}");
    proxy.admin().get(&path).await.expect(200)
}

/// The findings of this kind.
fn findings(answer: &Value, kind: &str) -> Vec<Value> {
    let findings = answer["findings"].as_array().expect("a list");
    let found = findings.iter().filter(|it| it["kind"] == kind);
    found.cloned().collect()
}

/// The one finding of this kind.
fn finding(answer: &Value, kind: &str) -> Value {
    let mut found = findings(answer, kind);
    assert_eq!(found.len(), 1, "{kind} in {answer}");
    found.remove(0)
}

#[tokio::test]
async fn nothing_in_the_way_is_go() {
    let postgres = Postgres::start().await;
    let proxy = Proxy::start(&postgres).await;
    let _session = proxy.session(DB).await;
    let ran = proxy.run(&["precheck", DB, "--mode", "read_only"]).await;
    let expected = [
        "postgres: go (read_only",
        "nothing is in the way",
        "at most 0 of 1",
    ];
    ran.assert(0, &expected);
    let answer = precheck(&proxy, "").await;
    let (go, none) = (json!(true), json!([]));
    assert_eq!((&answer["go"], &answer["findings"]), (&go, &none));
    assert_eq!(answer["mode"], "read_only");
    assert_eq!(proxy.status(DB).await["mode"], "open", "nothing was held");

    for wrong in ["mode=sometimes", "mode=read_only&fence=true"] {
        let path = format!("/v1/databases/{DB}/precheck?{wrong}");
        proxy.admin().get(&path).await.expect(400);
    }
    let wrong = ["precheck", DB, "--mode", "read_only", "--fence"];
    let ran = proxy.run(&wrong).await;
    assert_eq!(ran.code, Some(5), "{ran:?}");
}

#[tokio::test]
async fn who_writes_is_in_the_way_and_who_reads_is_not() {
    let mut postgres = Postgres::start_with(&[("max_prepared_transactions", "2")], &[]).await;
    postgres
        .execute(
            "CREATE TABLE t (n int); CREATE ROLE monitor LOGIN; CREATE ROLE reports LOGIN; \
             ALTER ROLE reports SET default_transaction_read_only = on; \
             ALTER ROLE monitor SET default_transaction_read_only = 'off'; \
             ALTER DATABASE postgres SET idle_session_timeout = '20s'",
        )
        .await;
    let config = "listen = ['127.0.0.1:0']\nhold.exempt = [{ user = 'monitor' }]\n";
    let proxy = Proxy::start_configured(&postgres, config).await;
    let _exempt = Wire::login(proxy.addr(), "monitor", DB).await;
    let mut reader = proxy.session(DB).await;
    reader.send(&message::query("SELECT pg_sleep(600)")).await;
    let mut writer = proxy.session(DB).await;
    let write = "INSERT INTO t SELECT 1 FROM pg_sleep(600)";
    writer.send(&message::query(write)).await;
    let mut sits = proxy.session(DB).await;
    sits.execute("BEGIN").await;
    sits.execute("SELECT 1").await;
    let around = postgres.connect(DB).await;
    let prepare = "BEGIN; CREATE TABLE u (); PREPARE TRANSACTION 'leftover'; BEGIN; SELECT 1";
    around.batch_execute(prepare).await.expect("prepared");

    let answer = eventually("the reader told from the writer", SOON, async || {
        let answer = precheck(&proxy, "&ladder=firm").await;
        let told = ["reading", "active", "idle_in_transaction", "bypass_session"];
        let all = told.iter().all(|kind| findings(&answer, kind).len() == 1);
        all.then_some(answer)
    })
    .await;
    let is_of = |kind: &str, session: &Wire| {
        let what = finding(&answer, kind)["what"].to_string();
        let pid = format!("pid {},", session.key().0);
        assert!(what.contains(&pid), "{kind}: {what}");
    };
    is_of("reading", &reader);
    is_of("active", &writer);
    is_of("idle_in_transaction", &sits);
    let fates = |kind: &str| {
        let found = finding(&answer, kind);
        ["gentle", "firm", "force"].map(|ladder| found[ladder].as_str().unwrap_or("").to_owned())
    };
    assert_eq!(fates("reading"), ["named", "named", "named"]);
    assert_eq!(fates("active"), ["waits", "cancels", "terminates"]);
    assert_eq!(
        fates("idle_in_transaction"),
        ["waits", "aborts", "terminates"]
    );
    let exempt = finding(&answer, "exempt_session");
    assert_eq!(
        (&exempt["owner"], &exempt["blocks"]),
        (&json!("monitor"), &json!(false))
    );
    let begins = finding(&answer, "begins_read_only");
    assert_eq!(
        (&begins["owner"], &begins["blocks"]),
        (&json!("reports"), &json!(false))
    );
    let prepared = finding(&answer, "prepared_transaction")["what"].to_string();
    assert!(prepared.contains("leftover"), "{prepared}");
    // What waits is idle for the server.
    assert_eq!(
        finding(&answer, "session_timeout")["blocks"],
        true,
        "{answer}"
    );
    assert_eq!(answer["go"], false, "{answer}");
    // The same for everybody: there the reader is in the way too.
    let path = format!("/v1/databases/{DB}/precheck");
    let everybody = proxy.admin().get(&path).await.expect(200);
    assert_eq!(findings(&everybody, "active").len(), 2, "{everybody}");
    for kind in ["reading", "exempt_session", "begins_read_only"] {
        assert!(findings(&everybody, kind).is_empty(), "{everybody}");
    }
    let ran = proxy.run(&["precheck", DB, "--mode", "read_only"]).await;
    ran.assert(
        1,
        &[
            "no-go (read_only",
            "reading",
            "exempt_session",
            "begins_read_only",
        ],
    );
    for line in ran.stdout.lines() {
        assert!(line.chars().count() <= 80, "{line}");
    }

    // It comes as it was said.
    let path = format!("/v1/databases/{DB}/mode");
    let order = json!({"mode": "read_only", "ladder": "force", "wait": "100ms", "cancel": "2s",
        "abort": "60s"});
    proxy.admin().put(&path, order).await.expect(202);
    let drain = eventually("the end of the drain", PATIENCE, async || {
        let drain = proxy.drain(DB).await;
        (drain["outcome"] == "drained").then_some(drain)
    })
    .await;
    assert_eq!(drain["pending"][0]["pid"], reader.key().0, "{drain}");
    assert_eq!(
        drain["cancelled"].as_array().map(Vec::len),
        Some(2),
        "{drain}"
    );
    reader.assert_silent().await;
}

#[tokio::test]
async fn a_server_in_recovery_is_named() {
    let mut primary = Postgres::start_with(&[], &HBA).await;
    primary
        .execute("ALTER SYSTEM SET default_transaction_read_only = on")
        .await;
    let mut standby = standby_of(&primary).await;
    let proxy = Proxy::start(&standby).await;
    let _session = proxy.session(DB).await;
    let answer = precheck(&proxy, "").await;
    assert_eq!(finding(&answer, "in_recovery")["blocks"], false);
    let begins = finding(&answer, "begins_read_only");
    assert_eq!(
        (&begins["owner"], &answer["go"]),
        (&json!("*"), &json!(true)),
        "{answer}"
    );
    // Who cannot be asked is no-go here too.
    standby.stop(Shutdown::Fast).await.expect("stopped");
    until("the server to be missed", SOON, async || {
        let answer = precheck(&proxy, "").await;
        answer["go"] == false && !findings(&answer, "unknown").is_empty()
    })
    .await;
}
