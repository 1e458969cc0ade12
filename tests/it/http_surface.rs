//! The admin HTTP as several operators and a deployment meet it: changes that depend on what was seen,
//! requests that are sent twice, the configuration, and answers that are as the document has them.

use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::support::admin::Answer;
use crate::support::cluster::Postgres;
use crate::support::holds::DB;
use crate::support::message;
use crate::support::proxy::Proxy;
use crate::support::schema::Document;

/// A request with a header more.
async fn with(proxy: &Proxy, line: &str, header: (&str, &str), body: &Value) -> Answer {
    let (method, path) = line.split_once(' ').expect("a method and a path");
    let addr = proxy.admin().addr;
    let stream = TcpStream::connect(addr).await.expect("it listens");
    let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.expect("HTTP");
    let mut connections = JoinSet::new();
    connections.spawn(connection);
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", addr.to_string())
        .header(header.0, header.1)
        .body(Full::new(bytes::Bytes::from(body.to_string())));
    let response = sender.send_request(request.expect("a request")).await;
    let response = response.expect("an answer");
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.expect("a body");
    Answer {
        status,
        text: String::from_utf8_lossy(&body.to_bytes()).into_owned(),
    }
}

async fn tag(proxy: &Proxy) -> String {
    let path = format!("/v1/databases/{DB}/mode");
    let mode = proxy.admin().get(&path).await.expect(200);
    format!("\"{}\"", mode["tag"].as_str().expect("a tag"))
}

#[tokio::test]
async fn of_two_operators_who_saw_the_same_one_is_told_that_it_has_changed() {
    let postgres = Postgres::start().await;
    let proxy = Proxy::start(&postgres).await;
    let line = format!("PUT /v1/databases/{DB}/mode");
    let hold = json!({"mode": "hold", "for": "60s"});
    // Nobody has connected: what is not there is no state that anybody saw.
    let nothing = with(&proxy, &line, ("if-match", "*"), &hold).await;
    assert_eq!(nothing.expect(412)["error"]["code"], "changed");
    let _session = proxy.session(DB).await;

    let seen = tag(&proxy).await;
    let (first, second) = tokio::join!(
        with(&proxy, &line, ("if-match", seen.as_str()), &hold),
        with(&proxy, &line, ("if-match", seen.as_str()), &hold),
    );
    let mut statuses = [first.status, second.status];
    statuses.sort_unstable();
    assert_eq!(statuses, [202, 412], "{first:?} {second:?}");
    let late = if first.status == 412 { first } else { second };
    let present = &late.json()["present"];
    assert_eq!(present["databases"][0]["mode"], "hold", "{late:?}");
    assert_eq!(
        present["databases"][0]["holds"][0]["generation"], 1,
        "{late:?}"
    );

    // A hold that is renewed is another one, and so is one for some clients.
    let seen = tag(&proxy).await;
    assert_eq!(
        format!("\"{}\"", present["tag"].as_str().expect("a tag")),
        seen
    );
    let narrow = json!({"mode": "hold", "for": "60s", "user": "nobody"});
    with(&proxy, &line, ("if-match", seen.as_str()), &narrow)
        .await
        .expect(202);
    let open = json!({"mode": "open"});
    with(&proxy, &line, ("if-match", seen.as_str()), &open)
        .await
        .expect(412);
    assert_eq!(proxy.status(DB).await["mode"], "hold");
    let seen = tag(&proxy).await;
    assert_eq!(
        format!(
            "\"{}\"",
            proxy.status(DB).await["tag"].as_str().expect("a tag")
        ),
        seen
    );
    with(&proxy, &line, ("if-match", seen.as_str()), &open)
        .await
        .expect(202);
    assert_eq!(proxy.status(DB).await["mode"], "open");
    // Who names nothing is asked nothing.
    proxy.hold(DB, json!({"for": "60s"})).await;
}

#[tokio::test]
async fn the_same_migration_sent_again_is_not_started_again() {
    let postgres = Postgres::start().await;
    let proxy = Proxy::start(&postgres).await;
    let line = format!("POST /v1/databases/{DB}/migrations");
    let up = json!({"direction": "up", "files": [], "reason": "a"});
    let key = ("idempotency-key", "deploy-17");
    let first = with(&proxy, &line, key, &up).await;
    let again = with(&proxy, &line, key, &up).await;
    assert_eq!(first.expect(202), again.expect(202));
    let other = json!({"direction": "up", "files": [], "reason": "b"});
    let refused = with(&proxy, &line, key, &other).await.expect(422);
    assert_eq!(refused["error"]["code"], "other_request");
    let list = proxy
        .admin()
        .get(&format!("/v1/databases/{DB}/migrations"))
        .await;
    assert_eq!(
        list.expect(200)["migrations"].as_array().map(Vec::len),
        Some(1)
    );
}

#[tokio::test]
async fn a_configuration_is_shown_checked_and_read_again() {
    let postgres = Postgres::start().await;
    let text = "listen = [\"127.0.0.1:0\"]\n[hold]\nfor = \"90s\"\nready = false\n[control]\npassword = \"hunter2\"\n";
    let proxy = Proxy::start_configured(&postgres, text).await;
    let admin = proxy.admin();
    let shown = admin.get("/v1/config").await;
    assert!(!shown.text.contains("hunter2"), "{}", shown.text);
    let settings = shown.expect(200)["settings"]
        .as_array()
        .expect("a list")
        .clone();
    let value = |key: &str| {
        let found = settings.iter().find(|it| it["key"] == key);
        found.map(|it| (it["value"].clone(), it["reloads"].clone()))
    };
    assert_eq!(value("hold.for"), Some((json!("90s"), json!(true))));
    assert_eq!(value("control.password"), Some((json!("***"), json!(true))));
    assert_eq!(value("workers").map(|it| it.1), Some(json!(false)));

    // A probe learns of a hold where that is wanted, and health answers in any case.
    admin.get("/readyz").await.expect(200);
    proxy.hold(DB, json!({"for": "60s"})).await;
    assert_eq!(
        admin.get("/readyz").await.expect(503)["error"]["code"],
        "held"
    );
    admin.get("/healthz").await.expect(200);

    let file = proxy.config_path();
    let changed = text
        .replace("90s", "80s")
        .replace("[hold]", "workers = 3\n[hold]");
    std::fs::write(&file, &changed).expect("a file of ours");
    let path = file.display().to_string();
    let validated = proxy.run(&["config", "validate", &path]).await;
    assert_eq!(validated.code, Some(0), "{validated:?}");
    assert_eq!(
        validated.stdout,
        "would apply now: hold.for\nneed a restart: workers\n"
    );
    let reloaded = proxy.run(&["config", "reload", "--reason", "more"]).await;
    assert_eq!(
        reloaded.stdout,
        "apply now: hold.for\nneed a restart: workers\n"
    );
    let shown = proxy.run(&["config", "show", "hold.for"]).await;
    assert!(shown.stdout.contains("80s"), "{shown:?}");

    std::fs::write(&file, "[hold]\nfro = \"1m\"\nthen = \"never\"\n").expect("a file of ours");
    let refused = proxy.run(&["config", "reload"]).await;
    assert_eq!(refused.code, Some(5), "{refused:?}");
    for part in [
        "nothing was changed",
        "line 2: hold.fro",
        "line 3: hold.then",
    ] {
        assert!(refused.stderr.contains(part), "{part}: {refused:?}");
    }
    let validated = proxy.run(&["config", "validate", &path]).await;
    assert_eq!(validated.code, Some(5), "{validated:?}");
    let shown = proxy.run(&["config", "show", "hold.for"]).await;
    assert!(
        shown.stdout.contains("80s"),
        "a bad file changes nothing: {shown:?}"
    );
    let events = admin.get("/v1/events").await.expect(200);
    let told = events["events"].as_array().expect("a list").iter();
    let told: Vec<_> = told.filter(|it| it["kind"] == "reload").collect();
    assert_eq!(told.len(), 2, "{events}");
    assert_eq!(told[0]["reason"], "more");
    assert!(
        told[1]["outcome"]
            .as_str()
            .is_some_and(|it| it.starts_with("refused"))
    );
}

#[tokio::test]
async fn answers_are_as_the_document_has_them() {
    let mut postgres = Postgres::start().await;
    let proxy = Proxy::start(&postgres).await;
    let admin = proxy.admin();
    let document = Document::new(admin.get("/openapi.json").await.expect(200));
    let mut session = proxy.session(DB).await;
    session.execute("BEGIN").await;
    let mut slow = proxy.session(DB).await;
    slow.send(&message::query("SELECT pg_sleep(60)")).await;
    postgres.until_asleep(slow.key().0).await;
    proxy.hold(DB, json!({"for": "60s", "reason": "r"})).await;
    let mut held = proxy.session(DB).await;
    held.send(&message::query("SELECT 1")).await;
    proxy.until_held(DB, 1).await;
    for (path, of, status) in [
        ("/healthz", "/healthz", 200),
        ("/readyz", "/readyz", 200),
        ("/v1/status", "/v1/status", 200),
        ("/v1/events", "/v1/events", 200),
        (
            "/v1/databases/postgres/sessions?limit=2",
            "/v1/databases/{db}/sessions",
            200,
        ),
        (
            "/v1/databases/nobody/sessions",
            "/v1/databases/{db}/sessions",
            404,
        ),
        (
            "/v1/databases/postgres/mode",
            "/v1/databases/{db}/mode",
            200,
        ),
        (
            "/v1/databases/postgres/precheck",
            "/v1/databases/{db}/precheck",
            200,
        ),
        ("/v1/databases/*/windows", "/v1/databases/{db}/windows", 200),
        (
            "/v1/databases/postgres/migrations",
            "/v1/databases/{db}/migrations",
            200,
        ),
        ("/v1/windows/none", "/v1/windows/{id}", 404),
        ("/v1/config", "/v1/config", 200),
    ] {
        let answer = admin.get(path).await.expect(status);
        document.check(("get", of, status), &answer);
    }
    let sessions = proxy.sessions(DB).await;
    let id = &sessions[0]["id"];
    let acted = admin
        .post(&format!("/v1/sessions/{id}/abort"), json!({}))
        .await;
    document.check(("post", "/v1/sessions/{id}/abort", 200), &acted.expect(200));
    let acted = admin
        .post(&format!("/v1/sessions/{id}/abort"), json!({}))
        .await;
    document.check(("post", "/v1/sessions/{id}/abort", 409), &acted.expect(409));
    let opened = admin
        .put("/v1/databases/postgres/mode", json!({"mode": "open"}))
        .await;
    document.check(("put", "/v1/databases/{db}/mode", 202), &opened.expect(202));
    let order = json!({"for": "60s", "ladder": "force", "wait": "0s", "cancel": "0s"});
    let taken = admin
        .post("/v1/databases/postgres/windows", order)
        .await
        .expect(201);
    document.check(("post", "/v1/databases/{db}/windows", 201), &taken);
    let id = taken["window"]["id"].as_str().expect("a name");
    let window = admin.get(&format!("/v1/windows/{id}")).await.expect(200);
    document.check(("get", "/v1/windows/{id}", 200), &window);
}

#[tokio::test]
async fn a_change_says_what_the_mode_is_called_that_it_made() {
    let postgres = Postgres::start().await;
    let proxy = Proxy::start(&postgres).await;
    let _session = proxy.session(DB).await;
    let line = format!("PUT /v1/databases/{DB}/mode");
    let hold = json!({"mode": "hold", "for": "60s"});
    let named = |answer: &Value| format!("\"{}\"", answer["tag"].as_str().expect("a tag"));
    let first = with(&proxy, &line, ("if-match", "*"), &hold).await;
    let first = named(&first.expect(202));
    assert_eq!(first, tag(&proxy).await);
    // What one's own change made may be changed again, once.
    let drained = format!("{line}?wait=drained");
    let again = with(&proxy, &drained, ("if-match", &first), &hold).await;
    let again = named(&again.expect(200));
    let open = json!({"mode": "open"});
    with(&proxy, &line, ("if-match", &first), &open)
        .await
        .expect(412);
    let opened = with(&proxy, &line, ("if-match", &again), &open).await;
    assert_eq!(named(&opened.expect(202)), tag(&proxy).await);
}

#[tokio::test]
async fn a_database_that_is_not_there_is_not_found_and_one_out_of_reach_is() {
    let mut postgres = Postgres::start().await;
    let proxy = Proxy::start(&postgres).await;
    let gone = "/v1/databases/nosuch";
    let hold = json!({"mode": "hold", "for": "60s"});
    for path in [
        "sessions",
        "mode",
        "pace",
        "precheck",
        "windows",
        "statements",
        "migrations",
    ] {
        let answer = proxy.admin().get(&format!("{gone}/{path}")).await;
        let answer = answer.expect(404);
        assert_eq!(answer["error"]["code"], "not_found", "{path}");
    }
    for (path, body) in [
        ("mode", hold.clone()),
        ("cap", json!({"transactions": "5"})),
        ("drain", json!({"ladder": "firm"})),
        ("statements", json!({"for": "1m"})),
    ] {
        let answer = proxy.admin().put(&format!("{gone}/{path}"), body).await;
        answer.expect(404);
    }
    let up = json!({"direction": "up", "files": []});
    for (path, body) in [
        ("windows", json!({})),
        ("migrations", up.clone()),
        ("migrations/plan", up.clone()),
    ] {
        proxy
            .admin()
            .post(&format!("{gone}/{path}"), body)
            .await
            .expect(404);
    }
    // Nothing came to be by asking, and people are told the same.
    let status = proxy.admin().get("/v1/status").await.expect(200);
    assert_eq!(status["databases"], json!([]));
    let ran = proxy.run(&["hold", "nosuch"]).await;
    assert_eq!(ran.code, Some(5), "{ran:?}");
    assert!(
        ran.stderr
            .contains("There is no database called \"nosuch\""),
        "{ran:?}"
    );
    // Nobody has come to this one yet, and it is there.
    let there = format!("/v1/databases/{DB}");
    proxy
        .admin()
        .get(&format!("{there}/windows"))
        .await
        .expect(200);
    // One that went away under a proxy that knew it is not just out of reach.
    postgres.execute("CREATE DATABASE fleeting").await;
    proxy.hold("fleeting", json!({"for": "60s"})).await;
    proxy.open("fleeting").await;
    postgres
        .execute("DROP DATABASE fleeting WITH (FORCE)")
        .await;
    let approvals = "/v1/databases/fleeting/migrations/approvals";
    proxy.admin().get(approvals).await.expect(404);

    // A server that cannot be asked has nothing said against it: whoever holds before it is there may.
    postgres.crash().await.expect("a crash");
    let plan = proxy
        .admin()
        .post(&format!("{there}/migrations/plan"), up)
        .await;
    plan.expect(503);
    proxy
        .admin()
        .put(&format!("{there}/mode"), hold)
        .await
        .expect(202);
}

/// Of somebody who may only look, and its hash.
const VIEWER: (&str, &str) = (
    "pgdrain_ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8",
    "8031bfd3b565f38857777cc55b25f740a9e9574b0a5bb7e77273a9c06bf00b81",
);

#[tokio::test]
async fn whoever_may_only_look_sees_no_constants_of_others() {
    let postgres = Postgres::start().await;
    let (token, hash) = VIEWER;
    let config = format!(
        "listen = [\"127.0.0.1:0\"]\n[admin]\ntokens = [{{ name = 'vera', role = 'viewer', sha256 = '{hash}' }}]\n"
    );
    let proxy = Proxy::start_configured(&postgres, &config).await;
    let mut session = proxy.session(DB).await;
    session
        .query("SELECT 'ann@example.com' AS mail, 4711")
        .await;
    let (pid, _) = session.key();
    let line = format!("GET /v1/databases/{DB}/running?pids={pid}");
    let bearer = format!("Bearer {token}");
    let looks = async || {
        let shown = with(&proxy, &line, ("authorization", &bearer), &Value::Null).await;
        shown.expect(200)["statements"][0].clone()
    };
    let statement = looks().await;
    assert_eq!(statement["text"], "select ? as mail, ?", "{statement}");
    assert_eq!(statement["hidden"], true);
    // Whoever may hold could end that session, and sees what it runs.
    let path = line.trim_start_matches("GET ");
    let all = proxy.admin().get(path).await.expect(200);
    assert_eq!(all["statements"][0]["hidden"], false, "{all}");
    std::fs::write(
        proxy.config_path(),
        format!("{config}show_constants = true\n"),
    )
    .expect("ours");
    let reloaded = proxy.run(&["config", "reload"]).await;
    assert_eq!(reloaded.stdout, "apply now: admin.show_constants\n");
    let statement = looks().await;
    let text = statement["text"].as_str().expect("a text");
    assert!(text.contains("ann@example.com"), "{statement}");
}
