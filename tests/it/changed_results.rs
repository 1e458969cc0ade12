//! Behind a hold a table has changed: a prepared statement whose client asks for the columns goes on with
//! the new ones, any other gets the server's 0A000.

use crate::support::cluster::Postgres;
use crate::support::holds::DB;
use crate::support::message::{self, Message};
use crate::support::proxy::Proxy;
use crate::support::wire::Wire;

const STATEMENT: &str = "INSERT INTO t VALUES ($1) RETURNING *";

async fn with_table() -> (Postgres, Proxy) {
    let mut postgres = Postgres::start().await;
    postgres.execute("CREATE TABLE t (n int)").await;
    let proxy = Proxy::start(&postgres).await;
    (postgres, proxy)
}

/// A session that has prepared the statement, and executed it.
async fn prepared(proxy: &Proxy) -> Wire {
    let mut session = proxy.session(DB).await;
    let parse = [message::parse("sé", STATEMENT), message::sync()].concat();
    session.units(&parse, 1).await;
    let answer = session.units(&described("1"), 1).await;
    assert_done(&answer, 1);
    session
}

fn described(value: &str) -> Vec<u8> {
    [
        message::bind("", "sé", &[Some(value)]),
        message::describe(b'P', ""),
        message::execute("", 0),
        message::sync(),
    ]
    .concat()
}

fn undescribed(value: &str) -> Vec<u8> {
    [
        message::bind("", "sé", &[Some(value)]),
        message::execute("", 0),
        message::sync(),
    ]
    .concat()
}

/// One row of so many columns, described as such, and nothing else.
fn assert_done(answer: &[Message], columns: u8) {
    let tags: Vec<u8> = answer.iter().map(|it| it.tag).collect();
    assert_eq!(tags, b"2TDCZ", "{answer:?}");
    assert_eq!(answer[1].body[..2], [0, columns], "{answer:?}");
    assert_eq!(answer[2].body[..2], [0, columns], "{answer:?}");
    assert_eq!(answer[3].body, b"INSERT 0 1\0");
    assert_eq!(answer[4].body, b"I");
}

fn assert_passed_on(answer: &[Message], status: u8) {
    let [error, ready] = answer else {
        panic!("{answer:?}");
    };
    assert_eq!(error.sqlstate(), "0A000", "{answer:?}");
    assert_eq!(ready.body, [status], "{answer:?}");
}

async fn hold_and_change(postgres: &mut Postgres, proxy: &Proxy, change: &str) {
    proxy.hold_drained(DB, serde_json::json!({})).await;
    postgres.execute(change).await;
    proxy.open(DB).await;
}

#[tokio::test]
async fn a_batch_that_describes_goes_on_with_the_new_columns_and_is_executed_once() {
    let (mut postgres, proxy) = with_table().await;
    let (mut idle, mut held) = (prepared(&proxy).await, prepared(&proxy).await);
    let mut listens = prepared(&proxy).await;
    listens.execute("LISTEN changes").await;
    proxy.hold_drained(DB, serde_json::json!({})).await;
    held.send(&described("2")).await;
    proxy.until_held(DB, 1).await;
    postgres.execute("ALTER TABLE t ADD a text").await;
    proxy.open(DB).await;
    assert_done(&held.read_until_ready().await, 2);
    assert_done(&idle.units(&described("3"), 1).await, 2);
    // It is there under its name, for batches that do not describe too, and in a transaction.
    idle.execute("BEGIN").await;
    let answer = idle.units(&undescribed("4"), 1).await;
    assert_eq!(answer[2].body, b"INSERT 0 1\0", "{answer:?}");
    idle.execute("COMMIT").await;
    assert_eq!(postgres.count("SELECT count(*) FROM t").await, 6);

    // And after the next change again; nobody is left with a permit.
    hold_and_change(&mut postgres, &proxy, "ALTER TABLE t ADD b int").await;
    assert_done(&idle.units(&described("5"), 1).await, 3);
    assert_done(&listens.units(&described("6"), 1).await, 3);
    proxy.hold_drained(DB, serde_json::json!({})).await;
    assert_eq!(postgres.count("SELECT count(*) FROM t").await, 8);
}

#[tokio::test]
async fn without_a_description_the_error_is_passed_on_and_the_client_can_prepare_anew() {
    let (mut postgres, proxy) = with_table().await;
    let mut session = prepared(&proxy).await;
    hold_and_change(&mut postgres, &proxy, "ALTER TABLE t ADD a text").await;
    assert_passed_on(&session.units(&undescribed("2"), 1).await, b'I');
    let anew = [
        message::close(b'S', "sé"),
        message::parse("sé", STATEMENT),
        message::sync(),
    ];
    session.units(&anew.concat(), 1).await;
    assert_done(&session.units(&described("3"), 1).await, 2);
    assert_eq!(postgres.count("SELECT count(*) FROM t").await, 2);
}

#[tokio::test]
async fn what_was_not_to_be_sent_again_is_not() {
    let (mut postgres, proxy) = with_table().await;
    // No hold: a change that nobody announced.
    let mut early = prepared(&proxy).await;
    postgres.execute("ALTER TABLE t ADD a text").await;
    assert_passed_on(&early.units(&described("2"), 1).await, b'I');

    // In a transaction it has failed with the batch.
    let mut session = proxy.session(DB).await;
    let parse = [message::parse("sé", STATEMENT), message::sync()].concat();
    session.units(&parse, 1).await;
    hold_and_change(&mut postgres, &proxy, "ALTER TABLE t ADD b text").await;
    session.execute("BEGIN").await;
    assert_passed_on(&session.units(&described("2"), 1).await, b'E');
    session.execute("ROLLBACK").await;

    // A pipeline would be executed in another order.
    let both = [described("2"), described("3")].concat();
    let answer = session.units(&both, 2).await;
    assert_passed_on(&answer[..2], b'I');
    assert_passed_on(&answer[2..], b'I');

    // A batch that is not kept because it is long.
    let long = " ".repeat(100_000) + "4";
    assert_passed_on(&session.units(&described(&long), 1).await, b'I');

    // A statement of SQL's PREPARE has a text that is not the statement's.
    session.execute("PREPARE \"p\" AS SELECT * FROM t").await;
    hold_and_change(&mut postgres, &proxy, "ALTER TABLE t ADD c text").await;
    let of_sql = [
        message::bind("", "p", &[]),
        message::describe(b'P', ""),
        message::execute("", 0),
        message::sync(),
    ];
    assert_passed_on(&session.units(&of_sql.concat(), 1).await, b'I');
    assert_eq!(postgres.count("SELECT count(*) FROM t").await, 1);
    // What was kept is forgotten with every answer, and the statement of the protocol goes on.
    assert!(!session.query_one("SELECT 7").await.is_empty());
    let answer = session.units(&described("5"), 1).await;
    assert_done(&answer, 4);
}

#[tokio::test]
async fn a_driver_that_does_not_describe_has_to_prepare_anew_itself() {
    let (mut postgres, proxy) = with_table().await;
    postgres.execute("INSERT INTO t VALUES (1)").await;
    let (client, connection) = tokio_postgres::connect(&proxy.url(DB), tokio_postgres::NoTls)
        .await
        .expect("a session");
    let mut connections = tokio::task::JoinSet::new();
    connections.spawn(connection);
    let statement = client.prepare("SELECT * FROM t").await.expect("prepared");
    client.query_one(&statement, &[]).await.expect("a row");
    hold_and_change(&mut postgres, &proxy, "ALTER TABLE t ADD a text").await;
    for _ in 0..2 {
        let error = client.query_one(&statement, &[]).await.expect_err("0A000");
        let code = error.code().map(tokio_postgres::error::SqlState::code);
        assert_eq!(code, Some("0A000"), "{error}");
    }
    let row = client.query_one("SELECT * FROM t", &[]).await;
    assert_eq!(row.expect("a row").len(), 2);
}
