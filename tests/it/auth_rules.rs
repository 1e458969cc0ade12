//! The first rule that is for a client says how it proves itself, and who has none stays out.

use crate::support::auth::{Files, HBA};
use crate::support::cluster::Postgres;
use crate::support::holds::DB;
use crate::support::message;
use crate::support::wire::Wire;

async fn server() -> Postgres {
    let mut postgres = Postgres::start_with(&[], &HBA).await;
    let roles = "CREATE USER scram PASSWORD 'hush'; CREATE USER free; CREATE DATABASE other";
    for sql in roles.split("; ") {
        postgres.execute(sql).await;
    }
    postgres
}

#[tokio::test]
async fn without_rules_and_by_pass_through_the_server_decides() {
    let postgres = server().await;
    let files = Files::new();
    for auth in ["", "[[auth.rules]]\nmethod = 'pass-through'\n"] {
        let proxy = files.proxy(&postgres, auth).await;
        assert!(proxy.log_in("scram", "hush").await.is_ok());
        assert!(proxy.log_in("free", "").await.is_ok());
        assert_eq!(proxy.refused("scram", "wrong").await.0, "28P01");
    }
}

#[tokio::test]
async fn the_first_rule_counts_and_who_has_none_stays_out() {
    let mut postgres = server().await;
    let files = Files::new();
    let kept = postgres.kept("scram").await;
    let users = files.write("users", &format!("\"scram\" \"{kept}\"\n"));
    let auth = format!(
        "users_file = '{users}'
         [[auth.rules]]
         database = 'other'
         user = ['scram', 'free']
         method = 'reject'
         [[auth.rules]]
         from = ['10.0.0.0/8', 'local']
         method = 'trust'
         [[auth.rules]]
         tls = true
         method = 'trust'
         [[auth.rules]]
         user = 'scram'
         from = '127.0.0.0/8'
         method = 'scram-sha-256'
         [[auth.rules]]
         user = 'postgres'
         method = 'trust'"
    );
    let proxy = files.proxy(&postgres, &auth).await;
    assert!(proxy.log_in("scram", "hush").await.is_ok());
    assert_eq!(proxy.refused("scram", "wrong").await.0, "28P01");
    assert!(proxy.log_in("postgres", "").await.is_ok());
    let (sqlstate, text) = proxy.refused("free", "").await;
    assert_eq!(sqlstate, "28000");
    assert_eq!(
        text,
        "no rule of the proxy is for host \"127.0.0.1\", user \"free\", database \"postgres\", \
         no encryption"
    );
    for user in ["scram", "free"] {
        let parameters = [("user", user), ("database", "other")];
        let refused = Wire::login_with(proxy.addr(), &parameters, Some("hush")).await;
        let refused = refused.expect_err("rejected");
        assert_eq!(refused.sqlstate(), "28000");
        let text = refused.field(b'M').expect("a message");
        assert!(
            text.starts_with("a rule of the proxy rejects connection for host"),
            "{text}"
        );
    }
    // The database of who names none is the user's, also for rules.
    let refused = Wire::login_with(proxy.addr(), &[("user", "free")], None).await;
    let text = refused
        .expect_err("no rule")
        .field(b'M')
        .expect("a message");
    assert!(text.contains("database \"free\""), "{text}");
}

#[tokio::test]
async fn a_unix_socket_is_local_and_an_address_is_not() {
    let postgres = server().await;
    let files = Files::new();
    let sockets = tempfile::tempdir().expect("a temporary directory");
    let listen = format!("unix:{}:6432", sockets.path().display());
    let auth = "[[auth.rules]]\nfrom = 'local'\nuser = 'free'\nmethod = 'trust'\n";
    let text = format!(
        "upstream.url = 'postgres://postgres@{}'\n[auth]\n{auth}",
        postgres.addr()
    );
    let mut proxy = crate::support::proxy::Proxy::not_started("");
    for arg in [
        "--config",
        &files.write("pgdrain.toml", &text),
        "--listen",
        &listen,
    ] {
        proxy.arg(arg);
    }
    proxy.launch().await;
    let refused = proxy.refused("free", "").await;
    assert!(
        refused
            .1
            .starts_with("no rule of the proxy is for host \"127.0.0.1\""),
        "{refused:?}"
    );
    let socket = sockets.path().join(".s.PGSQL.6432");
    let stream = tokio::net::UnixStream::connect(socket).await;
    let mut wire = Wire::new(stream.expect("it listens"));
    wire.send(&message::startup(&[("user", "free"), ("database", DB)]))
        .await;
    wire.authenticate("free", None).await.expect("let in");
    assert_eq!(wire.query_one("SELECT current_user").await, "free");
}
