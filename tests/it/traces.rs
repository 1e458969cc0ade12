//! Windows and migrations as traces: a collector gets the tree that is expected, and one that is dead changes
//! nothing.

use std::fs;
use std::sync::{Arc, Mutex};

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::support::certificates::text;
use crate::support::cluster::Postgres;
use crate::support::holds::DB;
use crate::support::poll::{PATIENCE, until, within};
use crate::support::proxy::Proxy;

/// What is in the SQL and must be nowhere else.
const SECRET: &str = "4111-1111-1111-1111";

/// A web server that takes spans and remembers them.
struct Collector {
    address: String,
    got: Arc<Mutex<Vec<(String, Value)>>>,
    /// Ends with it.
    _server: JoinSet<()>,
}

impl Collector {
    /// One that takes spans, or never answers.
    async fn start(answers: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound").to_string();
        let got: Arc<Mutex<Vec<_>>> = Arc::default();
        let theirs = Arc::clone(&got);
        let mut server = JoinSet::new();
        server.spawn(async move {
            let mut waiting = Vec::new();
            loop {
                let (mut stream, _) = listener.accept().await.expect("a client");
                if !answers {
                    waiting.push(stream);
                    continue;
                }
                let request = take(&mut stream).await;
                theirs.lock().expect("no panic").push(request);
            }
        });
        Self {
            address,
            got,
            _server: server,
        }
    }

    /// The configuration of a proxy that tells it.
    fn config(&self) -> String {
        format!(
            "listen = ['127.0.0.1:0']\n[traces]\nendpoint = 'http://{}'\nheaders = 'x-key=s3cret'\n\
             service = 'the proxy'\n",
            self.address
        )
    }

    /// Every span so far.
    fn spans(&self) -> Vec<Value> {
        let got = self.got.lock().expect("no panic");
        let of = |value: &Value, key: &str| value[key].as_array().expect(key).clone();
        got.iter()
            .flat_map(|(_, body)| of(body, "resourceSpans"))
            .flat_map(|it| of(&it, "scopeSpans"))
            .flat_map(|it| of(&it, "spans"))
            .collect()
    }
}

/// Reads a request, answers it, and returns its head and its body.
async fn take(stream: &mut TcpStream) -> (String, Value) {
    let mut request = Vec::new();
    let (head, body) = loop {
        let whole = String::from_utf8_lossy(&request).into_owned();
        if let Some((head, body)) = whole.split_once("\r\n\r\n") {
            let lines = head.lines().map(str::to_ascii_lowercase);
            let length: Option<usize> = lines
                .filter_map(|it| it.strip_prefix("content-length: ")?.parse().ok())
                .max();
            if body.len() >= length.expect("a length") {
                break (head.to_owned(), body.to_owned());
            }
        }
        let read = stream.read_buf(&mut request).await.expect("a request");
        assert!(read > 0, "{whole}");
    };
    let answer = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}";
    stream.write_all(answer.as_bytes()).await.expect("it reads");
    (head, serde_json::from_str(&body).expect("JSON"))
}

fn name(span: &Value) -> &str {
    span["name"].as_str().expect("a name")
}

/// The root of this name, and the paths of all spans of its trace, in the order of their begin.
fn tree<'a>(spans: &'a [Value], root: &str) -> (&'a Value, Vec<String>) {
    let parent = |span: &Value| span["parentSpanId"].as_str().unwrap_or_default().to_owned();
    let roots = spans.iter().filter(|it| parent(it).is_empty());
    let mut roots = roots.filter(|it| name(it) == root);
    let found = roots
        .next()
        .unwrap_or_else(|| panic!("{root} in {spans:#?}"));
    let mut all: Vec<_> = spans
        .iter()
        .filter(|it| it["traceId"] == found["traceId"])
        .collect();
    let nanos = |span: &Value, key: &str| -> u128 {
        span[key]
            .as_str()
            .and_then(|it| it.parse().ok())
            .expect(key)
    };
    all.sort_by_key(|it| {
        (
            nanos(it, "startTimeUnixNano"),
            u128::MAX - nanos(it, "endTimeUnixNano"),
        )
    });
    let path = |span: &Value| {
        let (mut path, mut up) = (name(span).to_owned(), parent(span));
        while !up.is_empty() {
            let above = all
                .iter()
                .find(|it| it["spanId"] == up.as_str())
                .expect("a parent");
            path = format!("{}/{path}", name(above));
            up = parent(above);
        }
        path
    };
    (found, all.iter().map(|span| path(span)).collect())
}

fn steps(spans: &[Value], trace: &Value) -> Vec<String> {
    let of = spans.iter().filter(|it| it["traceId"] == trace["traceId"]);
    let events = of.filter_map(|it| it["events"].as_array()).flatten();
    let ladder = events.filter(|it| it["name"] == "ladder");
    let step = |it: &Value| {
        it["attributes"][0]["value"]["stringValue"]
            .as_str()
            .map(str::to_owned)
    };
    ladder.filter_map(step).collect()
}

/// Writes a migration into a directory of its own.
fn migration(sql: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    let name = format!("{}_a.up.sql", if sql.contains("1/0") { 2 } else { 1 });
    fs::write(dir.path().join(name), sql).expect("writable");
    dir
}

#[tokio::test]
async fn a_window_and_migrations_are_traces_of_what_they_did() {
    let postgres = Postgres::start().await;
    let collector = Collector::start(true).await;
    let mut proxy = Proxy::start_configured(&postgres, &collector.config()).await;
    let mut idle = proxy.session(DB).await;
    idle.execute("BEGIN").await;
    let quick = ["--wait", "200ms", "--cancel", "100ms", "--stuck", "100ms"];
    let exec = [
        &["window", "exec", DB, "--ladder", "firm"][..],
        &quick,
        &["--", "true"],
    ]
    .concat();
    let ran = proxy.run(&exec).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    drop(idle);
    let good = migration(&format!(
        "create table t (a text);\ninsert into t values ('{SECRET}');"
    ));
    let ran = proxy
        .run(&["migrate", "up", DB, "--dir", text(good.path())])
        .await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let bad = migration(&format!("select '{SECRET}', 1/0;"));
    fs::copy(
        good.path().join("1_a.up.sql"),
        bad.path().join("1_a.up.sql"),
    )
    .expect("readable");
    let ran = proxy
        .run(&["migrate", "up", DB, "--dir", text(bad.path())])
        .await;
    assert_eq!(ran.code, Some(2), "{ran:?}");
    // What was not sent yet is sent at the stop.
    assert!(proxy.terminate().await.success());

    let spans = collector.spans();
    let (root, paths) = tree(&spans, "window postgres");
    let stages =
        ["asked", "draining", "exclusive", "ending"].map(|it| format!("window postgres/{it}"));
    assert_eq!(paths[0], "window postgres");
    assert_eq!(paths[1..], stages, "{paths:?}");
    assert_ne!(root["status"]["code"], 2, "{root}");
    let climbed = steps(&spans, root);
    assert_eq!(
        climbed.first().map(String::as_str),
        Some("wait"),
        "{climbed:?}"
    );
    assert!(climbed.iter().any(|step| step == "abort"), "{climbed:?}");

    let runs: Vec<_> = spans
        .iter()
        .filter(|it| name(it) == "migrate up postgres")
        .collect();
    let [ran, failed] = runs[..] else {
        panic!("two runs: {runs:#?}");
    };
    let (_, paths) = tree(&spans, "migrate up postgres");
    let file = "migrate up postgres/applying/file 1_a.up.sql";
    for path in [
        "migrate up postgres/preflight".to_owned(),
        "migrate up postgres/draining".to_owned(),
        file.to_owned(),
        format!("{file}/statement 1"),
        format!("{file}/statement 2"),
        "migrate up postgres/reopening".to_owned(),
    ] {
        assert!(paths.contains(&path), "{path} in {paths:#?}");
    }
    assert_ne!(ran["status"]["code"], 2, "{ran}");
    assert_eq!(failed["status"]["code"], 2, "{failed}");
    let why = failed["status"]["message"].as_str().expect("a message");
    assert_eq!(why, "failed: 22012 at statement 1");

    let got = collector.got.lock().expect("no panic").clone();
    for (head, body) in &got {
        assert!(head.starts_with("POST /v1/traces HTTP/1.1"), "{head}");
        assert!(head.contains("x-key: s3cret"), "{head}");
        let resource = body["resourceSpans"][0]["resource"].to_string();
        assert!(resource.contains("the proxy"), "{resource}");
        let body = body.to_string();
        assert!(!body.contains(SECRET) && !body.contains("insert"), "{body}");
        assert!(!body.contains("s3cret"), "{body}");
    }
    let fingerprints = got
        .iter()
        .map(|(_, it)| it.to_string().matches("pgdrain.fingerprint").count());
    assert_eq!(fingerprints.sum::<usize>(), 2);
    assert!(!proxy.log().contains("s3cret"), "{}", proxy.log());
}

#[tokio::test]
async fn a_collector_that_is_dead_or_silent_changes_nothing() {
    let postgres = Postgres::start().await;
    let silent = Collector::start(false).await;
    let dead = {
        let nobody = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        nobody.local_addr().expect("it is bound").to_string()
    };
    let dead = format!("listen = ['127.0.0.1:0']\n[traces]\nendpoint = 'http://{dead}'\n");
    for (config, goes_down) in [(dead, true), (silent.config(), false)] {
        let mut proxy = Proxy::start_configured(&postgres, &config).await;
        let ran = proxy.run(&["window", "exec", DB, "--", "true"]).await;
        assert_eq!(ran.code, Some(0), "{ran:?}");
        let files = migration("select 1;");
        let ran = proxy
            .run(&["migrate", "up", DB, "--dir", text(files.path())])
            .await;
        assert_eq!(ran.code, Some(0), "{ran:?}");
        if goes_down {
            until("spans to be dropped", PATIENCE, async || {
                let metrics = proxy.admin().get("/metrics").await.text;
                let dropped = "pgdrain_trace_spans_total{outcome=\"dropped\"} ";
                let line = metrics.lines().find_map(|it| it.strip_prefix(dropped));
                line.expect("a metric") != "0"
            })
            .await;
            assert_eq!(
                proxy.log().matches("the collector takes no spans").count(),
                1
            );
        }
        // It is not waited for for long at the stop.
        let ended = within("the stop", PATIENCE, proxy.terminate()).await;
        assert!(ended.success());
        assert!(proxy.log().contains("stopped"), "{}", proxy.log());
        assert!(!proxy.log().contains("tasks left over"), "{}", proxy.log());
    }
}
