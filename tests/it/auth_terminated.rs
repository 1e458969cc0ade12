//! Clients that prove themselves to the proxy, which then proves to the server who they are.

use pgdrain::cli::demo::cluster::process::Signal;
use serde_json::json;

use crate::support::auth::{Files, HBA, rule};
use crate::support::cluster::Postgres;
use crate::support::holds::DB;
use crate::support::message;
use crate::support::poll::{SOON, until};
use crate::support::proxy::Proxy;
use crate::support::wire::Wire;

const ROLES: &str = "
    CREATE USER scram PASSWORD 'hush-scram';
    CREATE USER plain PASSWORD 'hush-plain';
    CREATE USER free;
    SET password_encryption = 'md5';
    CREATE USER hashed PASSWORD 'hush-hashed'";

async fn server() -> Postgres {
    let mut postgres = Postgres::start_with(&[], &HBA).await;
    postgres.execute(ROLES).await;
    postgres
}

/// A users file of what the server keeps, but for `plain`, whose password is in it.
async fn users(postgres: &mut Postgres) -> String {
    let (scram, hashed) = (postgres.kept("scram").await, postgres.kept("hashed").await);
    format!("\"scram\" \"{scram}\"\n\"hashed\" \"{hashed}\"\n\"plain\" \"hush-plain\"\n")
}

async fn assert_in(proxy: &Proxy, user: &str, password: &str) -> Wire {
    let session = proxy.log_in(user, password).await;
    let mut session = session.unwrap_or_else(|error| panic!("{user}: {error:?}"));
    assert_eq!(session.query_one("SELECT current_user").await, user);
    session
}

fn wrong(user: &str) -> (String, String) {
    let text = format!("password authentication failed for user \"{user}\"");
    ("28P01".to_owned(), text)
}

#[tokio::test]
async fn each_method_lets_in_who_proves_itself_and_nobody_else() {
    let mut postgres = server().await;
    let files = Files::new();
    let users = files.write("users", &users(&mut postgres).await);
    for (method, good) in [
        // A user whom the server asks for something that SCRAM does not show cannot go on.
        ("scram-sha-256", &["scram", "plain"][..]),
        ("md5", &["scram", "plain", "hashed"]),
        ("password", &["scram", "plain", "hashed"]),
    ] {
        let auth = format!("users_file = '{users}'\n{}", rule(method));
        let proxy = files.proxy(&postgres, &auth).await;
        for user in good {
            assert_in(&proxy, user, &format!("hush-{user}")).await;
            assert_eq!(proxy.refused(user, "wrong").await, wrong(user), "{method}");
            assert_eq!(proxy.refused(user, "").await, wrong(user), "{method}");
        }
        for user in ["nobody", "postgres", "free"] {
            assert_eq!(proxy.refused(user, "wrong").await, wrong(user), "{method}");
        }
    }
    let proxy = files.proxy(&postgres, &rule("trust")).await;
    assert_in(&proxy, "free", "").await;
    let (sqlstate, text) = proxy.refused("scram", "hush-scram").await;
    assert_eq!(sqlstate, "28000", "{text}");
}

#[tokio::test]
async fn who_does_not_exist_sees_what_others_see() {
    let mut postgres = server().await;
    let files = Files::new();
    postgres
        .execute("CREATE USER locked NOLOGIN PASSWORD 'x'")
        .await;
    let kept = users(&mut postgres).await;
    let (scram, hashed) = (
        kept.lines().next().expect("scram").to_owned(),
        kept.lines().nth(1).expect("hashed").to_owned(),
    );
    for (users, known) in [(kept, "scram"), (scram, "scram"), (hashed, "hashed")] {
        let users = files.write("users", &users);
        for method in ["scram-sha-256", "md5", "password"] {
            let auth = format!("users_file = '{users}'\n{}", rule(method));
            let proxy = files.proxy(&postgres, &auth).await;
            let seen = proxy.seen_by_a_stranger(known).await;
            assert!(seen.len() >= 2, "{seen:?}");
            for unknown in ["nobody", "locked", "free"] {
                let found = proxy.seen_by_a_stranger(unknown).await;
                assert_eq!(found.len(), seen.len(), "{method} {known} {unknown}");
                let same = found.iter().zip(&seen).all(|(found, seen)| {
                    // The name's own length is all that may differ.
                    let text = |line: &str| line.splitn(3, ' ').nth(2).map(str::to_owned);
                    text(found) == text(seen)
                });
                assert!(same, "{method} {known} {unknown}: {found:#?} {seen:#?}");
            }
        }
    }
}

#[tokio::test]
async fn a_client_that_does_not_prove_itself_causes_no_connection() {
    let files = Files::new();
    let users = files.write("users", "\"anna\" \"hush-anna\"\n");
    let auth = format!("users_file = '{users}'\n{}", rule("scram-sha-256"));
    // Nobody is there: whoever is connected for learns it.
    let proxy = files.proxy_before("postgres://x@127.0.0.1:1", &auth).await;
    assert_eq!(proxy.refused("anna", "wrong").await, wrong("anna"));
    assert_eq!(proxy.refused("nobody", "wrong").await, wrong("nobody"));
    assert_eq!(proxy.refused("anna", "hush-anna").await.0, "57P03");
}

#[tokio::test]
async fn a_verifier_that_is_not_the_servers_is_told_of() {
    let mut postgres = server().await;
    let files = Files::new();
    let old = postgres.kept("scram").await;
    // The same password with another salt.
    postgres
        .execute("ALTER USER scram PASSWORD 'hush-scram'")
        .await;
    let users = files.write("users", &format!("\"scram\" \"{old}\"\n"));
    let auth = format!("users_file = '{users}'\n");
    let rules = rule("scram-sha-256");
    let proxy = files.proxy(&postgres, &(auth.clone() + &rules)).await;
    let refused = proxy.log_in("scram", "hush-scram").await;
    let refused = refused.expect_err("no way to log in");
    assert_eq!(refused.sqlstate(), "28000");
    let field = |code| refused.field(code).unwrap_or_default();
    assert!(
        field(b'D').contains("another salt or iteration count"),
        "{refused:?}"
    );
    assert!(field(b'H').contains("rolpassword"), "{refused:?}");
    assert_eq!(proxy.refused("scram", "wrong").await, wrong("scram"));
    // A configured password comes first, and helps.
    let passfile = files.write("pgpass", "*:*:*:scram:hush-scram\n");
    let auth = format!("{auth}server_passfile = '{passfile}'\n{rules}");
    let proxy = files.proxy(&postgres, &auth).await;
    assert_in(&proxy, "scram", "hush-scram").await;
    // What the server says of it, the client reads.
    files.write("pgpass", "*:*:*:scram:outdated\n");
    let proxy = files.proxy(&postgres, &auth).await;
    assert_eq!(proxy.refused("scram", "hush-scram").await, wrong("scram"));
}

#[tokio::test]
async fn a_session_that_was_checked_by_us_is_like_any_other() {
    let mut postgres = server().await;
    let files = Files::new();
    let users = files.write("users", &users(&mut postgres).await);
    let auth = format!("users_file = '{users}'\n{}", rule("scram-sha-256"));
    let proxy = files.proxy(&postgres, &auth).await;
    let mut session = assert_in(&proxy, "scram", "hush-scram").await;
    assert!(session.parameters().contains_key("server_version"));
    // Held, released, and cancelled.
    proxy.hold_drained(DB, json!({})).await;
    session.send(&message::query("SELECT 7")).await;
    proxy.until_held(DB, 1).await;
    proxy.open(DB).await;
    let answer = session.read_until_ready().await;
    assert!(
        answer.iter().any(|message| message.tag == b'D'),
        "{answer:?}"
    );
    session.send(&message::query("SELECT pg_sleep(60)")).await;
    let running =
        "SELECT count(*) FROM pg_stat_activity WHERE usename = 'scram' AND state = 'active'";
    until("the statement to run", SOON, async || {
        postgres.count(running).await == 1
    })
    .await;
    Wire::cancel(proxy.addr(), session.key()).await;
    let answer = session.read_until_ready().await;
    assert_eq!(answer[1].sqlstate(), "57014", "{answer:?}");
}

#[tokio::test]
async fn newer_protocols_are_ours_whatever_the_server_speaks() {
    let mut postgres = server().await;
    let files = Files::new();
    let users = files.write("users", &users(&mut postgres).await);
    let auth = format!("users_file = '{users}'\n{}", rule("scram-sha-256"));
    let proxy = files.proxy(&postgres, &auth).await;
    for (version, option, settled, key) in [
        (0x0003_0000, None, None, 4),
        (0x0003_0002, None, None, 32),
        (0x0003_0009, None, Some(&b"\0\x03\0\x02\0\0\0\0"[..]), 32),
        (
            0x0003_0000,
            Some(("_pq_.x", "y")),
            Some(b"\0\x03\0\0\0\0\0\x01_pq_.x\0"),
            4,
        ),
    ] {
        let mut wire = Wire::connect(proxy.addr()).await;
        let names = [("user", "scram"), ("database", DB)];
        let parameters: Vec<_> = names.into_iter().chain(option).collect();
        wire.send(&message::startup_version(version, &parameters))
            .await;
        let login = wire.authenticate("scram", Some("hush-scram")).await;
        login.expect("a login");
        let told: Vec<_> = wire.greeting.iter().filter(|m| m.tag == b'v').collect();
        assert_eq!(told.first().map(|m| &m.body[..]), settled, "{version:#x}");
        assert!(told.len() <= 1 && (settled.is_none() || wire.greeting[0].tag == b'v'));
        assert_eq!(wire.key().1.len(), key, "{version:#x}");
        assert_eq!(wire.query_one("SELECT current_user").await, "scram");
    }
}

#[tokio::test]
async fn a_users_file_is_read_anew_and_a_broken_one_changes_nothing() {
    let mut postgres = server().await;
    let files = Files::new();
    let scram = format!("\"scram\" \"{}\"\n", postgres.kept("scram").await);
    let users = files.write("users", "\"plain\" \"hush-plain\"\n");
    let auth = format!("users_file = '{users}'\n{}", rule("password"));
    let proxy = files.proxy(&postgres, &auth).await;
    assert_eq!(proxy.refused("scram", "hush-scram").await, wrong("scram"));
    files.write("users", &format!("{scram}\"plain\" hush-plain\n"));
    proxy.signal(Signal::Hangup);
    until("the mistake to be told", SOON, async || {
        proxy
            .log()
            .contains("line 2: it is not \\\"name\\\" \\\"secret\\\"")
            || proxy
                .log()
                .contains("line 2: it is not \"name\" \"secret\"")
    })
    .await;
    assert_eq!(proxy.refused("scram", "hush-scram").await, wrong("scram"));
    assert_in(&proxy, "plain", "hush-plain").await;
    files.write("users", &scram);
    proxy.signal(Signal::Hangup);
    until("the new users", SOON, async || {
        proxy.log().contains("auth.users_file") && proxy.log_in("scram", "hush-scram").await.is_ok()
    })
    .await;
    assert_eq!(proxy.refused("plain", "hush-plain").await, wrong("plain"));
    assert!(!proxy.log().contains("hush"), "{}", proxy.log());
}

#[tokio::test]
async fn nothing_that_lets_anybody_in_is_written_anywhere() {
    let mut postgres = server().await;
    let files = Files::new();
    let kept = users(&mut postgres).await;
    let users = files.write("users", &kept);
    let passfile = files.write("pgpass", "*:*:*:free:hush-free\n");
    for method in ["scram-sha-256", "md5", "password"] {
        let auth = format!(
            "users_file = '{users}'\nserver_passfile = '{passfile}'\nquery_user = 'postgres'\n\
             query_password = 'hush-query'\n{}",
            rule(method)
        );
        let proxy = files.proxy(&postgres, &auth).await;
        let _session = assert_in(&proxy, "scram", "hush-scram").await;
        proxy.refused("plain", "hush-wrong").await;
        proxy.refused("nobody", "hush-wrong").await;
        let log = proxy.log();
        assert!(log.contains("TRACE"), "the log tells all it can");
        let mut seen = vec![log];
        for file in std::fs::read_dir(proxy.state_dir()).expect("a directory") {
            let bytes = std::fs::read(file.expect("an entry").path()).unwrap_or_default();
            seen.push(String::from_utf8_lossy(&bytes).into_owned());
        }
        for path in ["/metrics", "/v1/status", "/v1/databases/postgres/sessions"] {
            seen.push(proxy.admin().get(path).await.text);
        }
        let secrets = kept.split('"').filter(|text| text.len() > 20);
        let secrets: Vec<&str> = secrets.chain(["hush"]).collect();
        assert_eq!(secrets.len(), 3, "a verifier, a hash, and all passwords");
        for (place, secret) in seen
            .iter()
            .flat_map(|s| secrets.iter().map(move |t| (s, t)))
        {
            assert!(!place.contains(secret), "{method}: {secret} in {place}");
        }
    }
}

#[tokio::test]
async fn who_does_not_exist_looks_the_same_after_a_restart() {
    let postgres = server().await;
    let files = Files::new();
    let users = files.write("users", "\"plain\" \"hush-plain\"\n");
    let auth = format!("users_file = '{users}'\n{}", rule("scram-sha-256"));
    let mut proxy = files.proxy(&postgres, &auth).await;
    let salts = async |proxy: &Proxy| {
        let mut salts = Vec::new();
        for user in ["plain", "nobody"] {
            let mut wire = Wire::connect(proxy.addr()).await;
            wire.send(&message::startup(&[("user", user), ("database", DB)]))
                .await;
            let refused = wire.authenticate(user, Some("wrong")).await;
            refused.expect_err("a wrong password");
            let challenge = String::from_utf8_lossy(&wire.greeting[1].body).into_owned();
            let salt = challenge.split(',').find(|part| part.starts_with("s="));
            salts.push(salt.expect("a salt").to_owned());
        }
        salts
    };
    let before = salts(&proxy).await;
    proxy.launch().await;
    assert_eq!(salts(&proxy).await, before);
    assert_ne!(before[0], before[1]);
}
