//! One session is cancelled, aborted or terminated by name, with the gate open or closed, and listed
//! among many.

use serde_json::{Value, json};

use crate::support::cluster::Postgres;
use crate::support::holds::DB;
use crate::support::message::{self, Message};
use crate::support::poll::{SOON, until};
use crate::support::proxy::Proxy;
use crate::support::wire::Wire;

/// The number of a session.
async fn id(proxy: &Proxy, session: &Wire) -> u64 {
    let (pid, _) = session.key();
    let sessions = proxy.sessions(DB).await;
    let found = sessions.iter().find(|it| it["pid"] == pid);
    let found = found.unwrap_or_else(|| panic!("{pid} in {sessions:?}"));
    found["id"].as_u64().expect("a number")
}

/// Does something to a session; the answer's status and body.
async fn act(proxy: &Proxy, action: &str, id: u64) -> (u16, Value) {
    let body = json!({"by": "anna", "reason": "in the way"});
    let path = format!("/v1/sessions/{id}/{action}");
    let answer = proxy.admin().post(&path, body).await;
    (answer.status, answer.json())
}

/// Does it to one to which it can be done; what the client gets.
async fn done(proxy: &Proxy, action: &str, effect: &str, session: &Wire) -> String {
    let id = id(proxy, session).await;
    let (status, answer) = act(proxy, action, id).await;
    let what = (status, answer["effect"].as_str());
    assert_eq!(what, (200, Some(effect)), "{answer}");
    assert_eq!(answer["id"], id, "{answer}");
    answer["client_sees"]
        .as_str()
        .expect("a sentence")
        .to_owned()
}

/// The SQLSTATE of the error in an answer, and the status behind it.
fn refused(answer: &[Message]) -> (String, u8) {
    let error = answer.iter().find(|it| it.tag == b'E');
    let error = error.unwrap_or_else(|| panic!("an error in {answer:?}"));
    let ready = answer.last().expect("an answer");
    (error.sqlstate(), ready.body[0])
}

#[tokio::test]
async fn an_idle_transaction_is_aborted_while_traffic_flows() {
    let mut postgres = Postgres::start().await;
    postgres.execute("CREATE TABLE t (n int)").await;
    let proxy = Proxy::start(&postgres).await;
    for (first, status) in [("SELECT 1", b'E'), ("COMMIT", b'I'), ("ROLLBACK", b'I')] {
        let mut session = proxy.session(DB).await;
        for sql in ["BEGIN", "LOCK TABLE t", "SAVEPOINT a"] {
            session.execute(sql).await;
        }
        let sees = done(&proxy, "abort", "aborted", &session).await;
        assert!(sees.starts_with("40001"), "{sees}");
        // Nothing is left of its locks.
        postgres
            .execute("SET lock_timeout = '2s'; ALTER TABLE t ADD c int; ALTER TABLE t DROP c")
            .await;
        session.assert_silent().await;
        let again = act(&proxy, "abort", id(&proxy, &session).await).await;
        assert_eq!(
            (again.0, &again.1["error"]["code"]),
            (409, &json!("nothing_to_do"))
        );
        match first {
            "ROLLBACK" => session.execute(first).await,
            _ => {
                let answer = session.query(first).await;
                assert_eq!(refused(&answer), ("40001".to_owned(), status), "{first}");
                if status == b'E' {
                    assert_eq!(refused(&session.query("SELECT 1").await).0, "25P02");
                    session.execute("ROLLBACK").await;
                }
            }
        }
        for sql in ["BEGIN", "INSERT INTO t VALUES (1)", "COMMIT"] {
            session.execute(sql).await;
        }
    }
    assert_eq!(postgres.count("SELECT count(*) FROM t").await, 3);
    assert_eq!(proxy.status(DB).await["permits"], 0);

    let told = proxy.admin().get("/v1/events").await.expect(200);
    let told = told["events"].as_array().expect("a list").clone();
    let told: Vec<_> = told.iter().filter(|it| it["kind"] == "session").collect();
    let short = |it: &Value| {
        let outcome = it["outcome"].as_str().expect("a sentence").to_owned();
        (
            it["by"].clone(),
            it["reason"].clone(),
            it["before"].clone(),
            outcome,
        )
    };
    let (by, reason, before, outcome) = short(told[0]);
    assert_eq!(
        [by, reason, before],
        ["anna", "in the way", "in_transaction"]
    );
    assert!(outcome.ends_with(": aborted"), "{outcome}");
    let (.., outcome) = short(told[1]);
    assert!(
        outcome.contains(": refused: the session's transaction"),
        "{outcome}"
    );
}

#[tokio::test]
async fn a_statement_is_cancelled_whether_it_runs_or_waits() {
    let mut postgres = Postgres::start().await;
    let proxy = Proxy::start(&postgres).await;
    let mut session = proxy.session(DB).await;
    let number = id(&proxy, &session).await;
    let idle = act(&proxy, "cancel", number).await;
    assert_eq!(
        (idle.0, &idle.1["error"]["code"]),
        (409, &json!("nothing_to_do"))
    );

    session.send(&message::query("SELECT pg_sleep(60)")).await;
    postgres.until_asleep(session.key().0).await;
    let sees = done(&proxy, "cancel", "cancelled", &session).await;
    assert!(sees.starts_with("57014"), "{sees}");
    let answer = session.read_until_ready().await;
    assert_eq!(refused(&answer), ("57014".to_owned(), b'I'));

    proxy.hold(DB, json!({"for": "60s"})).await;
    session.send(&message::query("SELECT 1")).await;
    proxy.until_held(DB, 1).await;
    let sees = done(&proxy, "cancel", "cancelled", &session).await;
    assert!(sees.contains("not executed"), "{sees}");
    let answer = session.read_until_ready().await;
    assert_eq!(refused(&answer), ("57014".to_owned(), b'I'));
    proxy.open(DB).await;
    assert_eq!(session.query_one("SELECT 2").await, "2");
}

/// Waits until nobody knows of a session any more.
async fn until_gone(proxy: &Proxy, number: u64) {
    until("a session that has ended is not found", SOON, async || {
        let (status, body) = act(proxy, "cancel", number).await;
        status == 404 && body["error"]["code"] == "not_found"
    })
    .await;
}

/// The error that ends a connection.
async fn last_words(session: &mut Wire) -> Message {
    let rest = session.read_to_end().await;
    let error = rest.into_iter().find(|it| it.tag == b'E');
    error.expect("an error before the end")
}

#[tokio::test]
async fn a_session_is_terminated_whatever_it_does() {
    let mut postgres = Postgres::start().await;
    // One whom the server lets terminate nobody.
    postgres.execute("CREATE USER watcher").await;
    let allowed = Proxy::start(&postgres).await;
    let denied = Proxy::start_set(&postgres, &[("CONTROL_USER", "watcher")]).await;
    for proxy in [&allowed, &denied] {
        for sql in ["", "BEGIN", "SELECT pg_sleep(60)"] {
            let mut session = proxy.session(DB).await;
            let (pid, _) = session.key();
            let number = id(proxy, &session).await;
            match sql {
                "" => {}
                "BEGIN" => session.execute(sql).await,
                _ => {
                    session.send(&message::query(sql)).await;
                    postgres.until_asleep(pid).await;
                }
            }
            done(proxy, "terminate", "terminated", &session).await;
            let error = last_words(&mut session).await;
            assert_eq!(error.sqlstate(), "57P01", "{sql}: {error:?}");
            let text = error.field(b'M').expect("a message");
            assert_eq!(text, "terminating connection due to administrator command");
            postgres.until_gone(pid).await;
            // It is there until its client has left too.
            drop(session);
            until_gone(proxy, number).await;
        }
    }
    allowed.hold(DB, json!({"for": "60s"})).await;
    let mut session = allowed.session(DB).await;
    session.send(&message::query("SELECT 1")).await;
    allowed.until_held(DB, 1).await;
    let sees = done(&allowed, "terminate", "terminated", &session).await;
    assert!(sees.contains("not executed"), "{sees}");
    let error = last_words(&mut session).await;
    assert_eq!(error.sqlstate(), "57P01", "{error:?}");
    let detail = error.field(b'D').expect("a detail");
    assert!(detail.contains("not executed"), "{detail}");
}

#[tokio::test]
async fn the_command_says_what_the_client_gets() {
    let postgres = Postgres::start().await;
    let proxy = Proxy::start(&postgres).await;
    let mut session = proxy.session(DB).await;
    session.execute("BEGIN").await;
    let number = id(&proxy, &session).await.to_string();
    let listed = proxy.run(&["sessions", "--state", "in_transaction"]).await;
    assert_eq!(listed.code, Some(0), "{listed:?}");
    assert!(
        listed
            .stdout
            .lines()
            .any(|line| line.trim_start().starts_with(&number)),
        "{listed:?}"
    );
    let refused = proxy.run(&["sessions", "cancel", &number]).await;
    assert_eq!(refused.code, Some(6), "{refused:?}");
    assert!(
        refused.stderr.contains("which can be aborted"),
        "{refused:?}"
    );
    let aborted = proxy.run(&["sessions", "abort", &number]).await;
    assert_eq!(aborted.code, Some(0), "{aborted:?}");
    assert!(
        aborted.stdout.contains("the client gets 40001"),
        "{aborted:?}"
    );
    let ended = proxy.run(&["sessions", "terminate", &number]).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    drop(session);
    until_gone(&proxy, number.parse().expect("a number")).await;
    let none = proxy.run(&["sessions", DB]).await;
    assert_eq!(none.stdout, "no sessions\n");
}

#[tokio::test]
async fn sessions_are_filtered_sorted_and_paged() {
    let mut postgres = Postgres::start().await;
    postgres.execute("CREATE USER anna").await;
    let proxy = Proxy::start(&postgres).await;
    let asked = async |query: &str| {
        let path = format!("/v1/databases/{DB}/sessions?{query}");
        proxy.admin().get(&path).await.expect(200)
    };
    let ids = |answer: &Value| -> Vec<u64> {
        let sessions = answer["sessions"].as_array().expect("a list").iter();
        sessions
            .map(|it| it["id"].as_u64().expect("a number"))
            .collect()
    };
    let mut sessions = Vec::new();
    for (user, application) in [
        ("anna", "b"),
        ("postgres", "a"),
        ("anna", "c"),
        ("anna", "b"),
    ] {
        let parameters = [
            ("user", user),
            ("database", DB),
            ("application_name", application),
        ];
        let session = Wire::login_with(proxy.addr(), &parameters, None).await;
        sessions.push(session.expect("a session"));
    }
    let all = ids(&asked("").await);
    assert_eq!(all.len(), 4);
    let [first, second, third, fourth] = all[..] else {
        panic!("{all:?}");
    };
    sessions[2].execute("BEGIN").await;
    sessions[0].execute("BEGIN").await;
    for (query, expected) in [
        ("user=anna", vec![first, third, fourth]),
        ("application=b", vec![first, fourth]),
        ("user=anna&application=c", vec![third]),
        ("state=in_transaction", vec![first, third]),
        ("address=127.0.0.0/8", all.clone()),
        ("address=10.0.0.0/8", vec![]),
        ("address=unix", vec![]),
        ("longer_than=0s", vec![first, third]),
        ("longer_than=1h", vec![]),
        ("sort=user", vec![first, third, fourth, second]),
        ("sort=application", vec![second, first, fourth, third]),
        ("sort=transaction&limit=2", vec![third, first]),
    ] {
        assert_eq!(ids(&asked(query).await), expected, "{query}");
    }
    // Who comes and goes between two pages neither shows twice nor hides another.
    for sort in ["id", "application"] {
        let page = asked(&format!("sort={sort}&limit=2")).await;
        assert_eq!(page["total"], 4, "{page}");
        let gone = sessions.remove(if sort == "id" { 0 } else { 1 });
        let number = id(&proxy, &gone).await;
        assert!(ids(&page).contains(&number), "{sort}");
        done(&proxy, "terminate", "terminated", &gone).await;
        let next = page["next"].as_str().expect("a further page");
        let rest = asked(&format!("sort={sort}&limit=2&cursor={next}")).await;
        assert_eq!(ids(&rest).len(), 2, "{sort}: {rest}");
        assert!(
            !ids(&rest).iter().any(|it| ids(&page).contains(it)),
            "{sort}"
        );
        assert_eq!(rest.get("next"), None);
        let other = format!("/v1/databases/{DB}/sessions?sort=held&cursor={next}");
        proxy.admin().get(&other).await.expect(400);
        drop(gone);
        until_gone(&proxy, number).await;
        sessions.insert(0, proxy.session(DB).await);
    }
    proxy
        .admin()
        .get("/v1/databases/nobody/sessions")
        .await
        .expect(404);
}
