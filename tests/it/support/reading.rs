//! The steps of tests of the read-only mode: a table, the mode, statements in all forms, and answers in short.

use serde_json::json;

use super::cluster::Postgres;
use super::holds::DB;
use super::message::{self, Message};
use super::poll::{SOON, within};
use super::proxy::Proxy;
use super::wire::Wire;

/// A write of one row.
pub(crate) const INSERT: &str = "INSERT INTO t VALUES (1)";

/// A read of one row.
pub(crate) const READ: &str = "SELECT count(*) FROM t";

/// A proxy before a server with a table, and functions that write and read.
pub(crate) async fn start() -> (Postgres, Proxy) {
    let mut postgres = Postgres::start().await;
    postgres
        .execute(
            "CREATE TABLE t (n int); \
             CREATE FUNCTION writes(int) RETURNS int LANGUAGE sql AS \
             'INSERT INTO t VALUES ($1) RETURNING n'",
        )
        .await;
    let proxy = Proxy::start(&postgres).await;
    (postgres, proxy)
}

/// Lets reads in alone; the others wait (`queue`) or are refused (`reject`).
pub(crate) async fn read_only(proxy: &Proxy, writes: &str) {
    let path = format!("/v1/databases/{DB}/mode");
    let mode = json!({"mode": "read_only", "writes": writes});
    proxy.admin().put(&path, mode).await.expect(202);
}

/// How many rows there are.
pub(crate) async fn rows(postgres: &mut Postgres) -> i64 {
    postgres.count("SELECT count(*) FROM t").await
}

/// Answers in short: types, with the tag, the SQLSTATE or the status behind some.
pub(crate) fn short(messages: &[Message]) -> String {
    let one = |message: &Message| {
        let text = |body: &[u8]| {
            String::from_utf8_lossy(body)
                .trim_end_matches('\0')
                .to_owned()
        };
        let more = match message.tag {
            b'C' | b'Z' => text(&message.body),
            b'E' => message.sqlstate(),
            b'S' | b'N' => return None,
            _ => String::new(),
        };
        let tag = char::from(message.tag);
        Some(if more.is_empty() {
            tag.to_string()
        } else {
            format!("{tag}:{more}")
        })
    };
    let said: Vec<String> = messages.iter().filter_map(one).collect();
    said.join(" ")
}

/// What answers a Query, in short.
pub(crate) async fn say(session: &mut Wire, sql: &str) -> String {
    let answer = within(sql, SOON, session.query(sql)).await;
    short(&answer)
}

/// Sends whole units and returns what answers the last of them.
pub(crate) async fn send(session: &mut Wire, messages: &[Vec<u8>]) -> String {
    let bytes = messages.concat();
    let answer = within("an answer", SOON, async {
        session.send(&bytes).await;
        session.read_until_ready().await
    });
    short(&answer.await)
}

/// The messages of a statement under these names, up to its Execute.
pub(crate) fn run(statement: &str, sql: Option<&str>) -> Vec<u8> {
    let parse = sql.map(|sql| message::parse(statement, sql));
    [
        parse.unwrap_or_default(),
        message::bind("", statement, &[]),
        message::execute("", 0),
    ]
    .concat()
}

/// Nothing is open at the server for this session.
pub(crate) async fn nothing_open(postgres: &mut Postgres, session: &Wire) {
    let (pid, _) = session.key();
    let open = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE pid = {pid} AND xact_start IS NOT NULL"
    );
    assert_eq!(postgres.count(&open).await, 0, "a transaction is open");
}

/// The statement waits, and goes on when traffic is open.
pub(crate) async fn waits_and_goes_on(
    postgres: &mut Postgres,
    proxy: &Proxy,
    session: &mut Wire,
) -> String {
    proxy.until_held(DB, 1).await;
    session.assert_silent().await;
    nothing_open(postgres, session).await;
    proxy.open(DB).await;
    short(&within("an answer", SOON, session.read_until_ready()).await)
}
