//! Passwords that are bound to the certificate of a connection, and certificates in their place.

use std::process::{Command, Output};

use crate::support::auth::{Files, HBA, rule};
use crate::support::certificates::{Authority, Encrypting, Pair, text};
use crate::support::cluster::Postgres;
use crate::support::holds::DB;
use crate::support::message;
use crate::support::proxy::Proxy;
use crate::support::wire::Wire;

/// Both connections encrypted: a server, and a proxy in front of it with these settings.
struct Both {
    postgres: Postgres,
    authority: Authority,
    files: Files,
}

impl Both {
    async fn new() -> Self {
        let mut postgres = Postgres::start_with(&[], &HBA).await;
        postgres.execute("CREATE USER scram PASSWORD 'hush'").await;
        postgres.execute("CREATE USER free").await;
        let authority = Authority::new("ours");
        let pair = authority.sign("server", &["localhost"]);
        postgres.encrypt(&pair, None).await;
        Self {
            postgres,
            authority,
            files: Files::new(),
        }
    }

    async fn proxy(&self, tls: &str, sslmode: &str, auth: &str) -> Proxy {
        let Pair { certificate, key } = self.authority.sign("proxy", &["localhost"]);
        let own = format!(
            "[tls]\ncertificate = '{}'\nkey = '{}'\n",
            text(&certificate),
            text(&key)
        );
        let tls = if tls.is_empty() {
            own
        } else {
            format!("{own}{tls}\n")
        };
        let port = self.postgres.addr().port();
        let url = format!("postgres://postgres@localhost:{port}/?sslmode={sslmode}");
        self.files.proxy_before(&url, &format!("{auth}{tls}")).await
    }

    fn psql(&self, proxy: &Proxy, user: &str, password: &str, options: &str) -> Output {
        let port = proxy.addr().port();
        let mut psql: Command = self.postgres.command("psql");
        psql.args(["-XAt", "-c", "SELECT current_user"])
            .arg(format!(
                "host=127.0.0.1 port={port} dbname={DB} user={user} {options}"
            ))
            .env("HOME", "/nonexistent")
            .env("PGPASSWORD", password);
        psql.output().expect("psql runs")
    }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr].concat()).into_owned()
}

#[tokio::test]
async fn a_client_can_bind_its_password_where_we_check_it() {
    let mut both = Both::new().await;
    let kept = both.postgres.kept("scram").await;
    let users = both
        .files
        .write("users", &format!("\"scram\" \"{kept}\"\n"));
    let auth = format!("users_file = '{users}'\n{}", rule("scram-sha-256"));
    for sslmode in ["require", "disable"] {
        let proxy = both.proxy("", sslmode, &auth).await;
        for options in [
            "sslmode=require channel_binding=require",
            "sslmode=require channel_binding=prefer",
            "sslmode=require channel_binding=disable",
            "sslmode=disable",
        ] {
            let output = both.psql(&proxy, "scram", "hush", options);
            assert_eq!(said(&output), "scram\n", "{sslmode} {options}");
            let output = both.psql(&proxy, "scram", "wrong", options);
            assert!(
                said(&output).contains("password authentication failed"),
                "{options}"
            );
        }
    }
}

#[tokio::test]
async fn what_cannot_be_passed_through_says_what_to_do() {
    let both = Both::new().await;
    let proxy = both.proxy("", "require", "").await;
    let output = both.psql(&proxy, "scram", "hush", "sslmode=require");
    let told = said(&output);
    assert!(
        told.contains("channel binding cannot be passed through the proxy"),
        "{told}"
    );
    assert!(
        told.contains("[[auth.rules]] method = \"scram-sha-256\""),
        "{told}"
    );
    let output = both.psql(
        &proxy,
        "scram",
        "hush",
        "sslmode=require channel_binding=disable",
    );
    assert_eq!(said(&output), "scram\n");
    // With one side in plain text there is nothing that could be bound, and nothing is refused.
    let output = both.psql(&proxy, "scram", "hush", "sslmode=disable");
    assert_eq!(said(&output), "scram\n");
    let proxy = both.proxy("", "disable", "").await;
    let output = both.psql(&proxy, "scram", "hush", "sslmode=require");
    assert_eq!(said(&output), "scram\n");
    let output = both.psql(&proxy, "scram", "wrong", "sslmode=require");
    assert!(said(&output).contains("password authentication failed"));
}

#[tokio::test]
async fn a_certificate_is_its_users_and_nobody_elses() {
    let both = Both::new().await;
    let ca = both.authority.root();
    let tls = format!("client_ca = '{}'", text(&ca));
    let mapped = "certificate_name = 'san'\n\
                  certificate_users = [{ certificate = 'app.example.org', user = 'free' }]\n";
    let (free, other) = (
        both.authority.sign("free", &["app.example.org"]),
        both.authority.sign("other", &["free"]),
    );
    for (names, right, wrong) in [("", &free, &other), (mapped, &free, &other)] {
        let auth = format!("{names}{}", rule("cert"));
        let proxy = both.proxy(&tls, "require", &auth).await;
        let encrypting = Encrypting::trusting(&both.authority, Some(right));
        let mut session = encrypting.session(proxy.addr(), "free", DB).await;
        assert_eq!(session.query_one("SELECT current_user").await, "free");
        for (pair, user) in [
            (Some(wrong), "free"),
            (Some(right), "scram"),
            (None, "free"),
        ] {
            let encrypting = Encrypting::trusting(&both.authority, pair);
            let stream = encrypting.direct(proxy.addr()).await.expect("a handshake");
            let mut wire = Wire::new(stream);
            wire.send(&message::startup(&[("user", user), ("database", DB)]))
                .await;
            let answer = wire.read_login().await;
            assert_eq!(answer.len(), 1, "{names} {user}: {answer:?}");
            assert_eq!(answer[0].sqlstate(), "28000");
            let text = answer[0].field(b'M').expect("a message");
            assert_eq!(
                text,
                format!("certificate authentication failed for user \"{user}\"")
            );
        }
        // Without encryption there is no certificate either.
        assert_eq!(proxy.refused("free", "").await.0, "28000");
    }
}

#[tokio::test]
async fn a_listener_that_verifies_fully_lets_in_none_but_the_certificates_user() {
    let both = Both::new().await;
    let ca = both.authority.root();
    let tls = format!("client_ca = '{}'\nmode = 'verify-full'", text(&ca));
    let pair = both.authority.sign("free", &[]);
    let encrypting = Encrypting::trusting(&both.authority, Some(&pair));
    // However they have to prove themselves else.
    for auth in ["", &rule("trust")] {
        let proxy = both.proxy(&tls, "require", auth).await;
        let mut session = encrypting.session(proxy.addr(), "free", DB).await;
        assert_eq!(session.query_one("SELECT current_user").await, "free");
        let stream = encrypting.direct(proxy.addr()).await.expect("a handshake");
        let mut wire = Wire::new(stream);
        wire.send(&message::startup(&[("user", "postgres"), ("database", DB)]))
            .await;
        let answer = wire.read_login().await;
        assert_eq!(answer.len(), 1, "{answer:?}");
        let text = answer[0].field(b'M').expect("a message");
        assert_eq!(
            text,
            "certificate authentication failed for user \"postgres\""
        );
    }
}
