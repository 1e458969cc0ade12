//! The server is asked what it keeps of a client's password, and nothing of the client is in the
//! question but its name.

use pgdrain::cli::demo::cluster::Shutdown;
use serde_json::json;

use crate::support::auth::{Files, HBA, rule};
use crate::support::cluster::Postgres;
use crate::support::holds::DB;
use crate::support::message;
use crate::support::poll::{SOON, until};
use crate::support::wire::Wire;

const ROLES: [&str; 8] = [
    "CREATE USER anna PASSWORD 'hush'",
    "CREATE USER future PASSWORD 'hush' VALID UNTIL '2999-01-01'",
    "CREATE USER endless PASSWORD 'hush' VALID UNTIL 'infinity'",
    "CREATE USER past PASSWORD 'hush' VALID UNTIL '2020-01-01'",
    "CREATE USER never PASSWORD 'hush' VALID UNTIL '-infinity'",
    "CREATE ROLE locked NOLOGIN PASSWORD 'hush'",
    "CREATE USER bare",
    "CREATE USER asker SUPERUSER PASSWORD 'ask'",
];

async fn server() -> Postgres {
    let mut postgres = Postgres::start_with(&[], &HBA).await;
    for sql in ROLES {
        postgres.execute(sql).await;
    }
    postgres
}

fn auth(more: &str) -> String {
    let rules = rule("scram-sha-256");
    format!("query_user = 'asker'\nquery_password = 'ask'\n{more}{rules}")
}

fn wrong(user: &str) -> (String, String) {
    let text = format!("password authentication failed for user \"{user}\"");
    ("28P01".to_owned(), text)
}

#[tokio::test]
async fn the_servers_own_verifiers_let_in_whom_the_server_would() {
    let postgres = server().await;
    let files = Files::new();
    let proxy = files.proxy(&postgres, &auth("")).await;
    for user in ["anna", "future", "endless"] {
        let mut session = proxy.log_in(user, "hush").await.expect(user);
        assert_eq!(session.query_one("SELECT current_user").await, user);
        assert_eq!(proxy.refused(user, "wrong").await, wrong(user));
    }
    // With the right password as with a wrong one: nobody is told that it was right.
    for user in ["past", "never", "locked", "bare", "nobody", "a'b\"c"] {
        assert_eq!(proxy.refused(user, "hush").await, wrong(user));
    }
    let seen = proxy.seen_by_a_stranger("anna").await;
    for user in ["past", "locked", "bare", "nobody"] {
        assert_eq!(
            proxy.seen_by_a_stranger(user).await.len(),
            seen.len(),
            "{user}"
        );
    }
}

#[tokio::test]
async fn the_connection_that_asks_is_known_as_ours() {
    let mut postgres = server().await;
    let files = Files::new();
    let proxy = files.proxy(&postgres, &auth("")).await;
    let mut session = proxy.log_in("anna", "hush").await.expect("a login");
    let asking = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pgdrain auth'";
    assert_eq!(postgres.count(asking).await, 1);
    // It is in the very database that is held, and yet nobody who came around us.
    let drain = proxy.hold_drained(DB, json!({"for": "1h"})).await;
    assert_eq!(drain["outcome"], "drained", "{drain}");
    // Others may log in meanwhile; their statements wait.
    let mut held = proxy.log_in("future", "hush").await.expect("a login");
    held.send(&message::query("SELECT 7")).await;
    proxy.until_held(DB, 1).await;
    proxy.open(DB).await;
    held.read_until_ready().await;
    session.execute("SELECT 1").await;
}

#[tokio::test]
async fn no_schema_of_a_stranger_is_asked() {
    let mut postgres = server().await;
    let attacker = {
        postgres
            .execute("CREATE USER attacker PASSWORD 'attack'")
            .await;
        postgres.kept("attacker").await
    };
    // What a search path that began elsewhere would find.
    let traps = [
        "CREATE SCHEMA evil".to_owned(),
        format!(
            "CREATE TABLE evil.pg_authid AS SELECT rolname, '{attacker}'::text AS rolpassword, \
             NULL::timestamptz AS rolvaliduntil, true AS rolcanlogin FROM pg_catalog.pg_authid"
        ),
        "ALTER ROLE asker SET search_path = evil, pg_catalog".to_owned(),
        "ALTER DATABASE postgres SET search_path = evil, pg_catalog".to_owned(),
        "GRANT USAGE ON SCHEMA evil TO public".to_owned(),
    ];
    for trap in &traps {
        postgres.execute(trap).await;
    }
    let files = Files::new();
    let careless =
        "query = 'select rolpassword, rolvaliduntil from pg_authid where rolname = $1'\n";
    for query in ["", careless] {
        let proxy = files.proxy(&postgres, &auth(query)).await;
        let hostile = [
            ("user", "anna"),
            ("database", DB),
            ("search_path", "evil, pg_catalog"),
            ("options", "-c search_path=evil,pg_catalog"),
        ];
        for parameters in [&hostile[..2], &hostile[..]] {
            let in_ = Wire::login_with(proxy.addr(), parameters, Some("attack")).await;
            assert_eq!(in_.expect_err("a trap").sqlstate(), "28P01", "{query}");
            let in_ = Wire::login_with(proxy.addr(), parameters, Some("hush")).await;
            assert!(in_.is_ok(), "{query} {in_:?}");
        }
    }
    // The traps work: this is what a search path would have led to.
    let trapped = postgres.connect(DB).await;
    let row = trapped
        .query_one(
            "select rolpassword from pg_authid where rolname = 'anna'",
            &[],
        )
        .await
        .expect("a row");
    assert_eq!(row.get::<_, String>(0), attacker);
}

#[tokio::test]
async fn a_query_of_ones_own_is_read_by_names_or_places() {
    let mut postgres = server().await;
    let anna = postgres.kept("anna").await;
    postgres
        .execute(&format!(
            "CREATE TABLE public.logins (login text, secret text, until timestamptz);
             INSERT INTO public.logins VALUES ('anna', '{anna}', NULL), ('future', 'hush', NULL),
               ('endless', NULL, NULL), ('past', '{anna}', '2020-01-01'), ('bare', '', NULL),
               ('locked', 'SCRAM-SHA-256$nonsense', NULL)"
        ))
        .await;
    let files = Files::new();
    for query in [
        "select secret, until from public.logins where login = $1",
        "select login, until as rolvaliduntil, secret as rolpassword from public.logins where login = $1",
        "select secret from public.logins where login = $1 and until is null",
    ] {
        let proxy = files
            .proxy(&postgres, &auth(&format!("query = '{query}'\n")))
            .await;
        assert!(proxy.log_in("anna", "hush").await.is_ok(), "{query}");
        // A password as it is, none, one that has expired, an empty one, and nonsense.
        for user in ["future", "endless", "past", "bare", "locked", "nobody"] {
            assert_eq!(proxy.refused(user, "hush").await, wrong(user), "{query}");
        }
        let log = proxy.log();
        assert!(
            log.contains("neither a SCRAM verifier nor an MD5 hash"),
            "{log}"
        );
        assert!(!log.contains("hush") && !log.contains("nonsense"), "{log}");
    }
}

const UNKNOWN: &str = "the proxy cannot check passwords at the moment";

#[tokio::test]
async fn where_nobody_can_be_asked_nobody_learns_why() {
    let postgres = server().await;
    let files = Files::new();
    for broken in [
        "query = 'select rolpassword from evil.pg_authid where rolname = $1'\n",
        "query = 'select from pg_authid where rolname = $1'\n",
        "query = 'select rolcanlogin from pg_authid where rolname = $1'\n",
        "query_database = 'nowhere'\n",
    ] {
        let proxy = files.proxy(&postgres, &auth(broken)).await;
        let refused = proxy.refused("anna", "hush").await;
        assert_eq!(refused, ("08006".into(), UNKNOWN.into()), "{broken}");
        assert!(
            proxy
                .log()
                .contains("a client's password cannot be checked"),
            "{broken}"
        );
    }
    let wrong_password = auth("").replace("'ask'", "'not it'");
    let proxy = files.proxy(&postgres, &wrong_password).await;
    assert_eq!(proxy.refused("anna", "hush").await.1, UNKNOWN);
    assert!(!proxy.log().contains("not it"));
}

#[tokio::test]
async fn a_connection_that_was_lost_is_opened_again() {
    let mut postgres = server().await;
    let files = Files::new();
    // Users of the file get in also while nobody can be asked; that costs no more than a log line.
    let kept = postgres.kept("anna").await;
    let users = files.write("users", &format!("\"anna\" \"{kept}\"\n"));
    let proxy = files
        .proxy(&postgres, &auth(&format!("users_file = '{users}'\n")))
        .await;
    assert!(proxy.log_in("future", "hush").await.is_ok());
    let end = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
               WHERE application_name = 'pgdrain auth'";
    assert_eq!(postgres.count(end).await, 1);
    assert!(proxy.log_in("future", "hush").await.is_ok());
    postgres.stop(Shutdown::Immediate).await.expect("it stops");
    assert_eq!(proxy.refused("future", "hush").await.1, UNKNOWN);
    assert_eq!(proxy.refused("anna", "wrong").await, wrong("anna"));
    assert_eq!(proxy.refused("anna", "hush").await.0, "57P03");
    postgres.start().await.expect("it starts");
    until("the server to be asked again", SOON, async || {
        proxy.log_in("future", "hush").await.is_ok()
    })
    .await;
}
