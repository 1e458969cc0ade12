//! How many may wait, who has to go, what they are told, and who is not held at all.

use serde_json::json;

use crate::support::cluster::Postgres;
use crate::support::holds::DB;
use crate::support::message;
use crate::support::proxy::Proxy;
use crate::support::wire::Wire;

const ONE: &str = "SELECT 1";

async fn ask(session: &mut Wire) {
    session.send(&message::query(ONE)).await;
}

#[tokio::test]
async fn the_oldest_goes_where_the_newest_may_stay() {
    let postgres = Postgres::start().await;
    let settings = [("HOLD_CLIENTS_MAX", "2"), ("HOLD_WHEN_FULL", "oldest")];
    let proxy = Proxy::start_set(&postgres, &settings).await;
    let mut sessions = Vec::new();
    for _ in 0..4 {
        sessions.push(proxy.session(DB).await);
    }
    proxy.hold_drained(DB, json!({})).await;
    for (session, held) in sessions.iter_mut().zip([1, 2]) {
        ask(session).await;
        proxy.until_held(DB, held).await;
    }
    for newer in [2, 3] {
        ask(&mut sessions[newer]).await;
        let answer = sessions[newer - 2].read_until_ready().await;
        assert_eq!(answer[0].sqlstate(), "53300", "{answer:?}");
        let detail = answer[0].field(b'D').unwrap_or_default();
        assert!(detail.contains("not executed"), "{answer:?}");
        proxy.until_held(DB, 2).await;
    }
    proxy.open(DB).await;
    for session in &mut sessions[2..] {
        assert_eq!(session.read_until_ready().await[2].body, b"SELECT 1\0");
    }
    // Who had to go lives on.
    sessions[0].execute(ONE).await;
}

#[tokio::test]
async fn all_databases_together_have_a_limit_and_do_not_evict_one_another() {
    let postgres = Postgres::start().await;
    let settings = [
        ("HOLD_CLIENTS_MAX_TOTAL", "1"),
        ("HOLD_WHEN_FULL", "oldest"),
    ];
    let proxy = Proxy::start_set(&postgres, &settings).await;
    let (mut here, mut there) = (proxy.session(DB).await, proxy.session("template1").await);
    proxy.hold("*", json!({})).await;
    ask(&mut here).await;
    proxy.until_held(DB, 1).await;
    let refused = there.query(ONE).await;
    assert_eq!(refused[0].sqlstate(), "53300", "{refused:?}");
    proxy.until_held(DB, 1).await;
    proxy.open("*").await;
    here.read_until_ready().await;
}

#[tokio::test]
async fn a_notice_is_given_once_and_only_where_it_is_asked_for() {
    let postgres = Postgres::start().await;
    let settings = [("HOLD_NOTICE_AFTER", "1s")];
    let (noisy, quiet) = (
        Proxy::start_set(&postgres, &settings).await,
        Proxy::start(&postgres).await,
    );
    for proxy in [&noisy, &quiet] {
        let mut session = proxy.session(DB).await;
        proxy.hold_drained(DB, json!({"for": "4s"})).await;
        ask(&mut session).await;
        let answer = session.read_until_ready().await;
        let tags: String = answer.iter().map(|it| char::from(it.tag)).collect();
        if std::ptr::eq(proxy, &raw const noisy) {
            assert_eq!(tags, "NTDCZ");
            assert_eq!(answer[0].field(b'V').as_deref(), Some("NOTICE"));
            assert_eq!(answer[0].sqlstate(), "00000");
        } else {
            assert_eq!(tags, "TDCZ");
        }
    }
}

#[tokio::test]
async fn the_sqlstate_of_a_rejection_is_chosen_and_checked() {
    let postgres = Postgres::start().await;
    let settings = [("HOLD_REJECT_SQLSTATE", "57P03")];
    let proxy = Proxy::start_set(&postgres, &settings).await;
    let mut session = proxy.session(DB).await;
    for (options, expected) in [
        (json!({"blocked": "reject"}), "57P03"),
        (json!({"blocked": "reject", "sqlstate": "25006"}), "25006"),
    ] {
        proxy.hold_drained(DB, options).await;
        let answer = session.query(ONE).await;
        assert_eq!(answer[0].sqlstate(), expected, "{answer:?}");
        assert_eq!(answer[0].field(b'V').as_deref(), Some("ERROR"));
    }
    proxy.open(DB).await;
    session.execute(ONE).await;
    let path = format!("/v1/databases/{DB}/mode");
    for bad in ["00000", "01000", "abcde", "5"] {
        let body = json!({"mode": "hold", "blocked": "reject", "sqlstate": bad});
        proxy.admin().put(&path, body).await.expect(400);
    }
    let ran = proxy.run(&["hold", DB, "--sqlstate", "00000"]).await;
    assert_eq!(ran.code, Some(5), "{ran:?}");
}

#[tokio::test]
async fn who_is_exempt_is_not_held_and_a_drain_names_it_and_does_not_wait() {
    let mut postgres = Postgres::start().await;
    postgres.execute("CREATE ROLE monitor LOGIN").await;
    let config = format!(
        "listen = ['127.0.0.1:0']\n[hold]\nexempt = [{{ user = 'monitor' }}, \
         {{ application_name = 'health', database = '{DB}' }}]\n"
    );
    let proxy = Proxy::start_configured(&postgres, &config).await;
    let mut monitor = Wire::login(proxy.addr(), "monitor", DB).await;
    monitor.execute("BEGIN").await;
    let drain = proxy.hold_drained(DB, json!({})).await;
    let exempt = drain["exempt"].as_array().expect("a list");
    assert_eq!(exempt.len(), 1, "{drain}");
    assert_eq!(exempt[0]["user"], "monitor");
    assert_eq!(drain["bypass"], json!([]), "{drain}");
    monitor.execute("COMMIT").await;
    monitor.execute(ONE).await;
    let health = [
        ("user", "postgres"),
        ("database", DB),
        ("application_name", "health"),
    ];
    match Wire::login_with(proxy.addr(), &health, None).await {
        Ok(mut health) => health.execute(ONE).await,
        Err(error) => panic!("{error:?}"),
    }
    let mut other = proxy.session(DB).await;
    ask(&mut other).await;
    proxy.until_held(DB, 1).await;
    proxy.open(DB).await;
    other.read_until_ready().await;
}

#[tokio::test]
async fn settings_that_contradict_one_another_are_said_at_start() {
    let postgres = Postgres::start().await;
    let settings = [
        ("HOLD_FOR", "30s"),
        ("HOLD_CLIENT_DEADLINE", "60s"),
        ("HOLD_CLIENTS_MAX", "100"),
        ("HOLD_CLIENTS_MAX_TOTAL", "50"),
    ];
    let proxy = Proxy::start_set(&postgres, &settings).await;
    let log = proxy.log();
    for text in [
        "hold.client_deadline is longer than hold.for",
        "hold.clients_max is 100, and hold.clients_max_total lets only 50 wait",
        "limits.connections lets 10000 clients in",
        "hold.wait is not shorter than hold.for",
    ] {
        assert!(log.contains(text), "{text} in\n{log}");
    }
    let usual = Proxy::start(&postgres).await.log();
    assert!(!usual.contains("hold."), "{usual}");
}
