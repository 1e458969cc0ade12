//! Statements are measured by what clients send and are answered, when somebody asks for it and no longer:
//! how often, how long, which errors; by the simple and by the extended protocol.

use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio_postgres::{Client, NoTls};

use crate::support::cluster::Postgres;
use crate::support::holds::DB;
use crate::support::message;
use crate::support::poll::{SOON, until};
use crate::support::proxy::Proxy;
use crate::support::wire::Wire;

const PATH: &str = "/v1/databases/postgres/statements";

/// A driver that prepares what it runs.
async fn connect(proxy: &Proxy) -> (Client, JoinSet<()>) {
    let connected = tokio_postgres::connect(&proxy.url(DB), NoTls).await;
    let (client, connection) = connected.expect("a connection");
    let mut running = JoinSet::new();
    running.spawn(async move { drop(connection.await) });
    (client, running)
}

async fn measure(proxy: &Proxy, body: Value) -> Value {
    proxy.admin().put(PATH, body).await.expect(200)
}

/// `(times, statement, errors)` of all statements, by their texts.
async fn measured(proxy: &Proxy) -> Vec<(u64, String, Value)> {
    let view = proxy.admin().get(PATH).await.expect(200);
    let all = view["measured"]["statements"].as_array().expect("a list");
    let mut all: Vec<_> = all
        .iter()
        .map(|it| {
            let count = it["latency"]["count"].as_u64().expect("a count");
            let text = it["text"].as_str().expect("a text").to_owned();
            (count, text, it["errors"].clone())
        })
        .collect();
    all.sort_by(|a, b| a.1.cmp(&b.1));
    all
}

#[tokio::test]
async fn statements_are_counted_while_somebody_asks_for_it() {
    let postgres = Postgres::start().await;
    let proxy = Proxy::start(&postgres).await;
    let mut simple = proxy.session(DB).await;
    simple.execute("SELECT 'before'").await;
    assert!(measured(&proxy).await.is_empty());

    let view = measure(&proxy, json!({"for": "10m", "one_in": 1})).await;
    assert!(view["until"].is_string(), "{view}");
    for number in 0..3 {
        simple
            .execute(&format!("SELECT {number}, pg_sleep(0.01)"))
            .await;
    }
    simple.send(&message::query("SELECT 1/0")).await;
    simple.read_until_ready().await;
    let (extended, _running) = connect(&proxy).await;
    let statement = extended
        .prepare("SELECT $1::int + 1")
        .await
        .expect("prepared");
    for number in 0..5_i32 {
        let row = extended.query_one(&statement, &[&number]).await;
        assert_eq!(row.expect("a row").get::<_, i32>(0), number + 1);
    }
    let expected = [
        (1, "(nothing executed)", Value::Null),
        (1, "select ? / ?", json!({"22012": 1})),
        (5, "select ? :: int + ?", Value::Null),
        (3, "select ?, pg_sleep (?)", Value::Null),
    ]
    .map(|(count, text, errors)| (count, text.to_owned(), errors));
    until("all of it to be counted", SOON, async || {
        let view = proxy.admin().get(PATH).await.expect(200);
        view["measured"]["units"].as_u64() >= Some(10)
    })
    .await;
    assert_eq!(measured(&proxy).await, expected);
    let view = proxy
        .admin()
        .get(&format!("{PATH}?limit=1"))
        .await
        .expect(200);
    let top = &view["measured"]["statements"];
    assert_eq!(top.as_array().map(Vec::len), Some(1), "{view}");
    assert_eq!(top[0]["text"], "select ?, pg_sleep (?)", "{view}");
    assert!(
        top[0]["latency"]["sum_us"].as_u64() >= Some(30_000),
        "{view}"
    );
    assert_eq!(view["measured"]["errors"], json!({"22012": 1}));

    // What was counted stays to be read; nothing is added.
    measure(&proxy, json!({"for": "0s"})).await;
    simple.execute("SELECT 'after'").await;
    assert_eq!(measured(&proxy).await, expected);
    // And a new time begins with nothing.
    measure(&proxy, json!({"for": "10m", "one_in": 1})).await;
    simple.execute("SELECT 'again', now()").await;
    until("the new one alone", SOON, async || {
        measured(&proxy).await == [(1, "select ?, now ()".to_owned(), Value::Null)]
    })
    .await;
}

#[tokio::test]
async fn errors_are_counted_in_all_transactions_and_a_statement_prepared_before_has_no_text() {
    let postgres = Postgres::start().await;
    let proxy = Proxy::start(&postgres).await;
    let (client, _running) = connect(&proxy).await;
    let early = client.prepare("SELECT 1").await.expect("prepared");
    let mut simple = proxy.session(DB).await;
    measure(&proxy, json!({"for": "10m", "one_in": 1_000_000})).await;
    for _ in 0..20 {
        simple.send(&message::query("SELECT 1/0")).await;
        simple.read_until_ready().await;
    }
    until("the errors", SOON, async || {
        let view = proxy.admin().get(PATH).await.expect(200);
        view["measured"]["errors"] == json!({"22012": 20}) && view["measured"]["units"] == 20
    })
    .await;
    measure(&proxy, json!({"for": "10m", "one_in": 1})).await;
    client.query(&early, &[]).await.expect("rows");
    until("the statement", SOON, async || {
        let all = measured(&proxy).await;
        all.iter()
            .any(|it| it.1 == "(prepared before it was measured)")
    })
    .await;
    let text = proxy.run(&["statements", DB]).await.stdout;
    for part in ["one in 1 ", "22012 20", "(prepared before"] {
        assert!(text.contains(part), "{part} in {text}");
    }
    let stopped = proxy.run(&["statements", DB, "--stop"]).await;
    assert!(
        stopped.stdout.contains("not measured now"),
        "{}",
        stopped.stdout
    );
    for wrong in [
        json!({"for": "3d"}),
        json!({"for": "1m", "one_in": 0}),
        json!({"one_in": 1}),
    ] {
        let answer = proxy.admin().put(PATH, wrong.clone()).await;
        assert_eq!(answer.status, 400, "{wrong}");
    }
}

#[tokio::test]
async fn bytes_pass_unchanged_while_they_are_listened_to() {
    let postgres = Postgres::start().await;
    let proxy = Proxy::start(&postgres).await;
    measure(&proxy, json!({"for": "10m", "one_in": 1})).await;
    let mut through = proxy.session(DB).await;
    let mut direct = Wire::login(postgres.addr(), "postgres", DB).await;
    // Longer than what is read at once, several in a pipeline, COPY both ways, an error among them.
    let long = format!("SELECT length('{}')", "é".repeat(200_000));
    for batch in [
        vec![long.as_str(), "SELECT 2", "SELECT 1/0", "SELECT 3"],
        vec!["COPY (SELECT generate_series(1, 20000)) TO STDOUT", "BEGIN"],
        vec!["SELECT repeat('x', 300000)", "COMMIT"],
    ] {
        let bytes: Vec<u8> = batch.iter().flat_map(|sql| message::query(sql)).collect();
        for _ in 0..2 {
            let mut answers = Vec::new();
            for wire in [&mut through, &mut direct] {
                wire.send(&bytes).await;
                let mut all = Vec::new();
                for _ in &batch {
                    all.extend(wire.read_until_ready().await);
                }
                answers.push(all);
            }
            assert!(answers[0] == answers[1], "{batch:?}");
        }
    }
    until(
        "the long one to be counted by its front",
        SOON,
        async || {
            let all = measured(&proxy).await;
            all.iter()
                .any(|it| it.1.starts_with("select length (") && it.0 == 2)
        },
    )
    .await;
}
