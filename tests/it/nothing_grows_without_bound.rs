//! Connections, logins, held bytes, gates: all have a limit, and who meets it is told.

use serde_json::{Value, json};

use crate::support::cluster::Postgres;
use crate::support::holds::DB;
use crate::support::message::{self, Message};
use crate::support::poll::{SOON, eventually, until};
use crate::support::proxy::Proxy;
use crate::support::script::Script;
use crate::support::wire::Wire;

const POSTGRES: [(&str, &str); 2] = [("user", "postgres"), ("database", DB)];

async fn refused(proxy: &Proxy) -> Message {
    match Wire::login_with(proxy.addr(), &POSTGRES, None).await {
        Ok(_) => panic!("a refusal was expected"),
        Err(error) => error,
    }
}

#[tokio::test]
async fn as_many_connect_as_may() {
    let postgres = Postgres::start().await;
    let proxy = Proxy::start_set(&postgres, &[("LIMITS_CONNECTIONS", "2")]).await;
    let mut first = proxy.session(DB).await;
    let second = proxy.session(DB).await;
    for _ in 0..3 {
        let error = refused(&proxy).await;
        assert_eq!(error.sqlstate(), "53300");
        assert_eq!(error.field(b'V').as_deref(), Some("FATAL"));
    }
    // Cancel requests are no sessions.
    first.send(&message::query("SELECT pg_sleep(600)")).await;
    until("a cancelled statement", SOON, async || {
        Wire::cancel(proxy.addr(), first.key()).await;
        let answer = tokio::time::timeout(std::time::Duration::from_millis(50), first.next());
        answer.await.is_ok()
    })
    .await;
    drop(second);
    eventually("a free place", SOON, async || {
        Wire::login_with(proxy.addr(), &POSTGRES, None).await.ok()
    })
    .await;
}

#[tokio::test]
async fn a_login_takes_no_longer_than_it_may() {
    let hba = ["local all all trust", "host all all all password"];
    let postgres = Postgres::start_with(&[], &hba).await;
    let silent = Script::listen().await;
    let settings = [("LIMITS_LOGIN_TIME", "300ms")];
    let proxy = Proxy::start_set(&postgres, &settings).await;
    let stuck = Proxy::before_set(&format!("postgres://{}", silent.addr()), &settings).await;
    let startup = message::startup(&POSTGRES);
    let half = &startup[..startup.len() / 2];
    for (name, proxy, bytes) in [
        ("silent client", &proxy, &[][..]),
        ("half a packet", &proxy, half),
        ("no password", &proxy, &startup[..]),
        ("silent server", &stuck, &startup[..]),
    ] {
        let mut wire = Wire::connect(proxy.addr()).await;
        wire.send(bytes).await;
        let answer = wire.read_to_end().await;
        let last = answer.last().unwrap_or_else(|| panic!("{name}: nothing"));
        assert_eq!(last.tag, b'E', "{name}: {answer:?}");
        assert_eq!(last.sqlstate(), "08P01", "{name}: {answer:?}");
        assert_eq!(last.field(b'V').as_deref(), Some("FATAL"), "{name}");
    }
}

#[tokio::test]
async fn little_is_kept_of_a_held_client() {
    let postgres = Postgres::start().await;
    let settings = [("HOLD_BYTES_PER_CLIENT", "4KiB")];
    let proxy = Proxy::start_set(&postgres, &settings).await;
    let mut sessions = Vec::new();
    for _ in 0..20 {
        sessions.push(proxy.session(DB).await);
    }
    proxy.hold_drained(DB, json!({})).await;
    let before = proxy.resident_kib();
    let long = message::query(&format!("SELECT length('{}')", "x".repeat(1 << 20)));
    let many = message::query("SELECT 1").repeat(50_000);
    let sending = sessions.iter_mut().enumerate().map(|(number, session)| {
        let bytes = if number % 2 == 0 { &long } else { &many };
        // Most of it stays in the sockets.
        async { drop(tokio::time::timeout(SOON / 200, session.try_send(bytes)).await) }
    });
    for sending in sending {
        sending.await;
    }
    proxy.until_held(DB, 20).await;
    for session in proxy.sessions(DB).await {
        assert!(session["bytes_in"].as_u64() <= Some(4 << 10), "{session}");
    }
    let grown = proxy.resident_kib().saturating_sub(before);
    assert!(grown < 4 << 10, "{grown} KiB for 20 clients of 4 KiB");
}

#[tokio::test]
async fn a_name_that_no_server_accepted_leaves_nothing_behind() {
    let postgres = Postgres::start().await;
    let proxy = Proxy::start(&postgres).await;
    for number in 0..100 {
        let name = format!("nowhere{number}");
        let parameters = [("user", "postgres"), ("database", name.as_str())];
        let refused = Wire::login_with(proxy.addr(), &parameters, None).await;
        assert_eq!(refused.expect_err("a refusal").sqlstate(), "3D000");
    }
    let status = proxy.admin().get("/v1/status").await.expect(200);
    assert_eq!(status["databases"], Value::Array(Vec::new()));
    let metrics = proxy.admin().get("/metrics").await.text;
    assert!(!metrics.contains("nowhere"), "{metrics}");
    assert_eq!(
        proxy
            .admin()
            .get("/v1/databases/nowhere1/sessions")
            .await
            .status,
        404
    );
}
