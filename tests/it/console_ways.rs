//! Ways to the console: encrypted with a password, and by a Unix socket, also while everything is held.

use serde_json::json;
use tokio::net::UnixStream;

use crate::support::certificates::{Authority, Encrypting, text};
use crate::support::cluster::Postgres;
use crate::support::holds::DB;
use crate::support::message::{self, Message};
use crate::support::proxy::Proxy;
use crate::support::tool;
use crate::support::wire::Wire;

fn sqlstate(answer: &[Message]) -> Option<String> {
    answer
        .iter()
        .find(|it| it.tag == b'E')
        .map(Message::sqlstate)
}

#[tokio::test]
async fn it_is_had_encrypted_and_with_a_password_while_everything_is_held() {
    let postgres = Postgres::start().await;
    let authority = Authority::new("ours");
    let pair = authority.sign("proxy", &["localhost"]);
    let config = format!(
        "listen = ['127.0.0.1:0']\n\
         [tls]\nmode = 'require'\ncertificate = '{}'\nkey = '{}'\n\
         [console.users.anna]\nrole = 'operator'\npassword = 'hush'\n",
        text(&pair.certificate),
        text(&pair.key)
    );
    let proxy = Proxy::start_configured(&postgres, &config).await;
    let tls = Encrypting::trusting(&authority, None);
    let _client = tls.session(proxy.addr(), "postgres", DB).await;
    proxy.hold("*", json!({"for": "1h", "reason": "all"})).await;
    let startup = message::startup(&[("user", "anna"), ("database", "pgdrain")]);
    for direct in [true, false] {
        let stream = match direct {
            true => tls.direct(proxy.addr()).await,
            false => tls.asked(proxy.addr()).await,
        };
        let mut wire = Wire::new(stream.expect("a handshake"));
        wire.send(&startup).await;
        wire.authenticate("anna", Some("hush"))
            .await
            .expect("let in");
        wire.execute("SHOW HOLDS").await;
        wire.execute("RESUME").await;
        wire.execute("HOLD * REASON 'again' FOR 1h").await;
    }
    let mut wrong = Wire::new(tls.direct(proxy.addr()).await.expect("a handshake"));
    wrong.send(&startup).await;
    let refused = wrong.authenticate("anna", Some("loud")).await;
    assert_eq!(refused.expect_err("a wrong password").sqlstate(), "28P01");
    // Without encryption it is refused as any client is.
    let mut plain = Wire::connect(proxy.addr()).await;
    plain.send(&startup).await;
    assert_eq!(
        sqlstate(&plain.read_login().await).as_deref(),
        Some("28000")
    );
    // psql itself, which takes SCRAM with channel binding where it is offered.
    let url = format!(
        "host=localhost hostaddr=127.0.0.1 port={} user=anna password=hush dbname=pgdrain \
         sslmode=verify-full sslrootcert={} channel_binding=require",
        proxy.addr().port(),
        text(&authority.root()),
    );
    let args = ["-X", "-d", &url, "-c", "SHOW HOLDS"];
    let shown = tool::run("psql", proxy.addr(), &args).await.ok();
    assert!(shown.contains("again"), "{shown}");
}

#[tokio::test]
async fn it_is_had_by_a_unix_socket_while_everything_is_held() {
    let postgres = Postgres::start().await;
    let directory = tempfile::tempdir().expect("a directory");
    let local = format!("unix:{}:6598", directory.path().display());
    let proxy = Proxy::start_with(&postgres, &["--listen", &local]).await;
    let client = proxy.session(DB).await;
    proxy.hold("*", json!({"for": "1h"})).await;
    let stream = UnixStream::connect(directory.path().join(".s.PGSQL.6598")).await;
    let mut console = Wire::new(stream.expect("it listens"));
    let parameters = [("user", "root"), ("database", "pgdrain")];
    console.send(&message::startup(&parameters)).await;
    console.authenticate("root", None).await.expect("let in");
    let shown = console.query("SHOW STATUS").await;
    assert!(shown.iter().any(|it| it.tag == b'D'), "{shown:?}");
    console.execute("OPEN * REASON 'by the socket'").await;
    assert_eq!(proxy.status(DB).await["mode"], "open");
    let events = proxy.admin().get("/v1/events").await.expect(200);
    let events = events["events"].as_array().expect("events").clone();
    let opened = events.iter().find(|it| it["reason"] == "by the socket");
    let opened = opened.expect("an event");
    assert_eq!(
        (&opened["by"], &opened["from"]),
        (&json!("root"), &json!("console [local]")),
        "{opened}"
    );
    drop(client);
}

/// What exporters for PgBouncer make a number of, by the table that has it: the columns that
/// prometheus-pgbouncer-exporter 2.1.2 (PyPI) and 1.7 (Debian 12) read. Of a null they make an error.
const NUMBERS: [(&str, &[&str]); 3] = [
    (
        "STATS",
        &[
            "total_xact_count",
            "total_query_count",
            "total_xact_time",
            "total_wait_time",
            "total_query_time",
            "total_received",
            "total_sent",
        ],
    ),
    (
        "POOLS",
        &[
            "cl_active",
            "cl_waiting",
            "sv_active",
            "sv_idle",
            "sv_used",
            "sv_tested",
            "sv_login",
            "maxwait",
            "maxwait_us",
        ],
    ),
    (
        "DATABASES",
        &[
            "pool_size",
            "reserve_pool",
            "current_connections",
            "max_connections",
        ],
    ),
];

#[tokio::test]
async fn whatever_exporters_make_a_number_of_is_one() {
    let postgres = Postgres::start().await;
    let proxy = Proxy::start(&postgres).await;
    let _client = proxy.session(DB).await;
    let mut console = proxy.session("pgbouncer").await;
    for (table, columns) in NUMBERS {
        let answer = console.query(&format!("SHOW {table};")).await;
        let head = answer.iter().find(|it| it.tag == b'T').expect("a table");
        let row = answer.iter().find(|it| it.tag == b'D').expect("a row");
        let row = row.columns();
        let mut described = Vec::new();
        let mut rest = &head.body[2..];
        while let Some(end) = rest.iter().position(|byte| *byte == 0) {
            described.push(String::from_utf8_lossy(&rest[..end]).into_owned());
            rest = &rest[end + 19..];
        }
        for column in columns {
            let at = described.iter().position(|name| name == column);
            let value = &row[at.unwrap_or_else(|| panic!("{column} in {described:?}"))];
            let number = value.as_deref().map(str::parse::<f64>);
            assert!(matches!(number, Some(Ok(_))), "{table}.{column}: {value:?}");
        }
    }
    for list in ["login_clients", "dns_queries", "dns_pending"] {
        let lists = console.query("SHOW LISTS;").await;
        let rows = lists.iter().filter(|it| it.tag == b'D');
        let mut rows = rows.map(Message::columns);
        assert!(rows.any(|row| row[0].as_deref() == Some(list)), "{list}");
    }
}
