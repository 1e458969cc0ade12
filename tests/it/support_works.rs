//! The parts of the test support that could mislead the other tests if they were wrong.

use tokio::task::JoinSet;

use crate::support::admin::Admin;
use crate::support::cluster::Postgres;
use crate::support::message;
use crate::support::script::Script;
use crate::support::wire::Wire;

#[tokio::test]
async fn the_raw_client_speaks_every_password_exchange() {
    let hba = [
        "local all all trust",
        "host all plain 127.0.0.1/32 password",
        "host all digest 127.0.0.1/32 md5",
        "host all scram 127.0.0.1/32 scram-sha-256",
        "host all postgres 127.0.0.1/32 trust",
    ];
    let mut postgres = Postgres::start_with(&[], &hba).await;
    postgres
        .execute(
            "CREATE USER plain PASSWORD 'secret'; CREATE USER scram PASSWORD 'secret';
             SET password_encryption = md5; CREATE USER digest PASSWORD 'secret'",
        )
        .await;
    for user in ["plain", "digest", "scram"] {
        let parameters = [
            ("user", user),
            ("database", "postgres"),
            ("application_name", "raw"),
        ];
        let mut wire = Wire::login_with(postgres.addr(), &parameters, Some("secret"))
            .await
            .unwrap_or_else(|error| panic!("{user}: {error:?}"));
        assert_eq!(wire.query_one("SELECT current_user").await, user);
        assert_eq!(wire.parameters()["application_name"], "raw");

        let refused = Wire::login_with(postgres.addr(), &parameters, Some("wrong")).await;
        assert_eq!(
            refused.err().expect("a refusal").sqlstate(),
            "28P01",
            "{user}"
        );
    }
}

#[tokio::test]
async fn a_scripted_server_lets_a_real_driver_in() {
    let mut script = Script::listen().await;
    let url = format!("postgres://someone@{}/db", script.addr());
    let client = async {
        let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls)
            .await
            .unwrap();
        let mut connections = JoinSet::new();
        connections.spawn(connection);
        let answer = client.simple_query("SELECT 'x'").await;
        assert_eq!(answer.unwrap_err().code().unwrap().code(), "57P01");
    };
    let server = async {
        let mut server = script.accept().await;
        let parameters = server.greet(4242, b"abcd").await;
        assert!(parameters.contains(&("user".to_owned(), "someone".to_owned())));
        server
            .wire
            .expect_bytes(&message::query("SELECT 'x'"))
            .await;
        let error = message::error_response("57P01", "ended");
        server
            .wire
            .send(&[error, message::ready_for_query(b'I')].concat())
            .await;
    };
    tokio::join!(client, server);
}

#[tokio::test]
async fn the_admin_client_shows_status_and_body() {
    let mut script = Script::listen().await;
    let admin = Admin {
        addr: script.addr(),
    };
    let server = async {
        let mut server = script.accept().await;
        server.wire.expect_bytes(b"PUT /v1/x HTTP/1.1\r\n").await;
        let body = r#"{"error":{"code":"no"}}"#;
        let head = format!(
            "HTTP/1.1 409 Conflict\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        server.wire.send((head + body).as_bytes()).await;
    };
    let (answer, ()) = tokio::join!(admin.put("/v1/x", serde_json::json!({"a": 1})), server);
    assert_eq!(answer.expect(409)["error"]["code"], "no");
}
