//! Who may ask the admin HTTP for what: tokens, certificates, the Unix socket, and what is refused.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use pgdrain::cli::demo::cluster::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::certificates::{Authority, Encrypting, Pair, text};
use crate::support::poll::{PATIENCE, SOON, until, within};
use crate::support::proxy::{Proxy, Ran, pgdrain};

/// Where nobody listens: none of this needs a server.
const NOWHERE: &str = "postgres://postgres@127.0.0.1:1";

const MODE: &str = "/v1/databases/shop/mode";
const MIGRATIONS: &str = "/v1/databases/shop/migrations";

/// A configuration file and the tokens that are in it.
struct Known {
    dir: TempDir,
}

impl Known {
    fn new(text: &str) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let known = Self { dir };
        fs::write(known.file(), text).expect("writable");
        known
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("pgdrain.toml")
    }

    fn token_file(&self, name: &str) -> PathBuf {
        self.dir.path().join(format!("{name}.token"))
    }

    fn token(&self, name: &str) -> String {
        let text = fs::read_to_string(self.token_file(name)).expect("a token");
        text.trim_end().to_owned()
    }

    /// Makes a token as an operator does, and adds its lines to the file.
    fn add(&self, name: &str, role: &str) {
        let made = pgdrain()
            .args(["config", "token", name, "--role", role, "--token-file"])
            .arg(self.token_file(name))
            .output()
            .expect("the binary starts");
        assert!(made.status.success(), "{made:?}");
        let lines = String::from_utf8(made.stdout).expect("text");
        assert!(!lines.contains(&self.token(name)), "{lines}");
        let before = fs::read_to_string(self.file()).expect("readable");
        fs::write(self.file(), before + &lines).expect("writable");
    }

    /// A proxy with this file, and with what is allowed by default on this machine.
    async fn serve(&self, args: &[&str]) -> Proxy {
        let mut proxy = Proxy::not_started(NOWHERE);
        proxy.set("PGDRAIN_ADMIN_LOCAL", "look,hold,open");
        for arg in [&["--config", text(&self.file())], args].concat() {
            proxy.arg(arg);
        }
        proxy.launch().await;
        proxy
    }
}

/// An answer with its head.
#[derive(Debug)]
struct Answer {
    status: u16,
    head: String,
    body: String,
}

/// Sends a request and reads to the end; `headers` has a line each.
async fn ask(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    line: &str,
    headers: &[String],
    body: &str,
) -> Answer {
    let host = match headers.iter().any(|it| it.starts_with("host: ")) {
        true => String::new(),
        false => "host: 127.0.0.1\r\n".to_owned(),
    };
    let headers: String = headers.iter().map(|it| format!("{it}\r\n")).collect();
    let request = format!(
        "{line} HTTP/1.1\r\n{host}{headers}connection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut answer = Vec::new();
    let exchange = async {
        // Who is not let in may find it closed.
        let _ = stream.write_all(request.as_bytes()).await;
        let _ = stream.flush().await;
        // Whoever closes without saying so in TLS has answered all the same.
        let _ = stream.read_to_end(&mut answer).await;
    };
    within(line, PATIENCE, exchange).await;
    let answer = String::from_utf8(answer).expect("text");
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.split(' ').nth(1).and_then(|it| it.parse().ok());
    Answer {
        status: status.unwrap_or(0),
        head: head.to_owned(),
        body: body.to_owned(),
    }
}

async fn plainly(proxy: &Proxy, line: &str, headers: &[String], body: &str) -> Answer {
    let stream = TcpStream::connect(proxy.admin().addr).await;
    ask(stream.expect("it listens"), line, headers, body).await
}

fn bearer(token: &str) -> String {
    format!("authorization: Bearer {token}")
}

/// Where the proxy says that it listens besides.
fn elsewhere(proxy: &Proxy, scheme: &str) -> String {
    let file = fs::read_to_string(proxy.state_dir().join("endpoints.json")).expect("there");
    let json: Value = serde_json::from_str(&file).expect("JSON");
    let all = json["admin_all"].as_array().expect("a list").iter();
    let found = all
        .filter_map(Value::as_str)
        .find(|it| it.starts_with(scheme));
    found.expect(&file).to_owned()
}

async fn cli(proxy: &Proxy, admin: &str, more: &[&str]) -> Ran {
    let args = [&["status", "--json", "--admin", admin], more].concat();
    proxy.run(&args).await
}

#[tokio::test]
async fn without_a_token_this_machine_holds_and_opens_and_migrates_nothing() {
    let known = Known::new("");
    let proxy = known.serve(&[]).await;
    let hold = json!({"mode": "hold", "for": "60s", "by": "anna"}).to_string();
    let answer = plainly(&proxy, &format!("PUT {MODE}"), &[], &hold).await;
    assert_eq!(answer.status, 202, "{answer:?}");
    let open = json!({"mode": "open"}).to_string();
    let answer = plainly(&proxy, &format!("PUT {MODE}"), &[], &open).await;
    assert_eq!(answer.status, 202, "{answer:?}");

    let up = json!({"direction": "up", "files": []}).to_string();
    let answer = plainly(&proxy, &format!("POST {MIGRATIONS}"), &[], &up).await;
    assert_eq!(answer.status, 401, "{answer:?}");
    assert!(
        answer.head.contains("www-authenticate: Bearer"),
        "{answer:?}"
    );
    assert!(answer.body.contains("permission migrate"), "{answer:?}");
    // What stands between us and the client may be anywhere.
    let forwarded = ["x-forwarded-for: 192.0.2.7".to_owned()];
    let answer = plainly(&proxy, "GET /v1/status", &forwarded, "").await;
    assert_eq!(answer.status, 401, "{answer:?}");

    let files = tempfile::tempdir().expect("a directory");
    fs::write(files.path().join("1_a.up.sql"), "select 1").expect("writable");
    let up = ["migrate", "up", "shop", "--dir", text(files.path())];
    let ran = proxy.run(&up).await;
    assert_ne!(ran.code, Some(0), "{ran:?}");
    for part in ["(unauthorized)", "PGDRAIN_TOKEN", "admin.local"] {
        assert!(ran.stderr.contains(part), "{ran:?}");
    }
}

#[tokio::test]
async fn a_token_says_who_it_is_and_a_reload_knows_new_ones() {
    let known = Known::new("");
    known.add("grafana", "viewer");
    known.add("night-shift", "operator");
    let proxy = known.serve(&[]).await;
    let hold = json!({"mode": "hold", "for": "60s", "by": "somebody else"}).to_string();
    let put = format!("PUT {MODE}");
    let viewer = [bearer(&known.token("grafana"))];
    let answer = plainly(&proxy, &put, &viewer, &hold).await;
    assert_eq!(answer.status, 403, "{answer:?}");
    assert!(
        answer.body.contains("operator"),
        "it says who may: {answer:?}"
    );
    let operator = [bearer(&known.token("night-shift"))];
    let answer = plainly(&proxy, &put, &operator, &hold).await;
    assert_eq!(answer.status, 202, "{answer:?}");
    let audit = fs::read_to_string(proxy.state_dir().join("audit.jsonl")).expect("written");
    assert!(audit.contains(r#""by":"night-shift""#), "{audit}");
    assert!(!audit.contains("somebody else"), "{audit}");

    // One more, and one less, by a signal.
    let lines = fs::read_to_string(known.file()).expect("readable");
    let rest = lines
        .split("\n[[admin.tokens]]")
        .nth(2)
        .expect("the second");
    fs::write(known.file(), format!("[[admin.tokens]]{rest}")).expect("writable");
    known.add("day-shift", "operator");
    let new = [bearer(&known.token("day-shift"))];
    let answer = plainly(&proxy, "GET /v1/status", &new, "").await;
    assert_eq!(answer.status, 401, "{answer:?}");
    proxy.signal(Signal::Hangup);
    until("the new token", SOON, async || {
        plainly(&proxy, "GET /v1/status", &new, "").await.status == 200
    })
    .await;
    let answer = plainly(&proxy, "GET /v1/status", &viewer, "").await;
    // The tries above may have been too many.
    assert!(matches!(answer.status, 401 | 429), "{answer:?}");
    assert!(proxy.log().contains("a token that it does not know"));
    let file = text(&known.token_file("day-shift")).to_owned();
    let ran = proxy.run(&["open", "shop", "--token-file", &file]).await;
    assert!(proxy.state_dir().join("audit.jsonl").exists(), "{ran:?}");
    let audit = fs::read_to_string(proxy.state_dir().join("audit.jsonl")).expect("written");
    assert!(audit.contains(r#""by":"day-shift""#), "{ran:?} {audit}");

    let everything = format!("{} {audit}", proxy.log());
    for name in ["grafana", "night-shift", "day-shift"] {
        assert!(!everything.contains(&known.token(name)), "{everything}");
    }
}

#[tokio::test]
async fn other_machines_come_encrypted_and_show_who_they_are() {
    let authority = Authority::new("ours");
    let pair = authority.sign("pgdrain", &["localhost", "127.0.0.1"]);
    let known = Known::new(&format!(
        "[admin]\nhosts = ['drain.example']\ncertificate = '{}'\nkey = '{}'\nclient_ca = '{}'\n\
         clients = [{{ name = 'anna', role = 'viewer' }}]\n",
        text(&pair.certificate),
        text(&pair.key),
        text(&authority.root()),
    ));
    known.add("ci", "operator");
    let proxy = known.serve(&["--admin", "https://127.0.0.1:0"]).await;
    let url = elsewhere(&proxy, "https://");
    let addr: SocketAddr = url["https://".len()..].parse().expect("an address");
    let (root, token) = (authority.root(), known.token_file("ci"));
    let (ca, shows) = (["--ca-file", text(&root)], ["--token-file", text(&token)]);
    let ran = cli(&proxy, &url, &[ca, shows].concat()).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let ran = cli(&proxy, &url, &ca).await;
    assert!(ran.stderr.contains("(unauthorized)"), "{ran:?}");
    let ran = cli(&proxy, &url, &shows).await;
    assert!(ran.stderr.contains("--ca-file"), "nobody we know: {ran:?}");
    let ran = cli(&proxy, &format!("http://{addr}"), &[]).await;
    assert_ne!(ran.code, Some(0), "{ran:?}");

    let by = |own| Encrypting::trusting(&authority, own).naming(&["http/1.1"]);
    let connect = async |tls: &Encrypting| tls.direct(addr).await.expect("a handshake");
    let (annas, bens) = (authority.sign("anna", &[]), authority.sign("ben", &[]));
    let nobody = by(None);
    let answer = ask(connect(&nobody).await, "GET /healthz", &[], "").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let answer = ask(connect(&nobody).await, "GET /v1/status", &[], "").await;
    assert_eq!(answer.status, 401, "{answer:?}");
    let anna = by(Some(&annas));
    let answer = ask(connect(&anna).await, "GET /v1/status", &[], "").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let answer = ask(connect(&anna).await, &format!("PUT {MODE}"), &[], "{}").await;
    assert_eq!(answer.status, 403, "{answer:?}");
    let ben = by(Some(&bens));
    let answer = ask(connect(&ben).await, "GET /v1/status", &[], "").await;
    assert_eq!(answer.status, 401, "{answer:?}");
    // The command line shows certificates too.
    let shows = |pair: &Pair| {
        let pair = [text(&pair.certificate), text(&pair.key)];
        [["--cert", pair[0]], ["--key", pair[1]]]
            .concat()
            .into_iter()
            .map(str::to_owned)
            .collect()
    };
    let by_certificate = async |pair: &Pair| {
        let more: Vec<String> = shows(pair);
        let more = ca.into_iter().chain(more.iter().map(String::as_str));
        cli(&proxy, &url, &more.collect::<Vec<_>>()).await
    };
    let ran = by_certificate(&annas).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let ran = by_certificate(&bens).await;
    assert!(ran.stderr.contains("(unauthorized)"), "{ran:?}");
    let others = Authority::new("another");
    let strangers = others.sign("anna", &[]);
    let ran = by_certificate(&strangers).await;
    assert_ne!(ran.code, Some(0), "{ran:?}");
    let stranger = by(Some(&strangers)).direct(addr).await;
    if let Ok(stream) = stranger {
        // With TLS 1.3 a client learns of it by its first read.
        let answer = ask(stream, "GET /v1/status", &[], "").await;
        assert_eq!(answer.status, 0, "{answer:?}");
    }
    // One address is told of once a minute, however it is wrong, and everything is counted.
    let metrics = plainly(&proxy, "GET /metrics", &[], "").await.body;
    assert!(
        number(
            &metrics,
            "pgdrain_access_refused_total{reason=\"certificate\"}"
        ) >= 4.0
    );
    let certificate =
        "pgdrain_certificate_expiry_timestamp_seconds{certificate=\"admin.certificate\"}";
    assert!(number(&metrics, certificate) > 1e9, "{metrics}");
    let audit = fs::read_to_string(proxy.state_dir().join("audit.jsonl")).expect("written");
    let refused: Vec<_> = audit
        .lines()
        .filter(|it| it.contains(r#""kind":"access""#))
        .collect();
    assert_eq!(refused.len(), 1, "{audit}");
    assert!(
        refused[0].contains("a certificate of \\\"ben\\\""),
        "{audit}"
    );
}

/// The value of a metric.
fn number(metrics: &str, name: &str) -> f64 {
    let line = metrics.lines().find_map(|it| it.strip_prefix(name));
    let value = line.and_then(|it| it.trim().parse().ok());
    value.unwrap_or_else(|| panic!("{name} in\n{metrics}"))
}

#[tokio::test]
async fn a_token_whose_end_has_passed_is_refused_without_a_word_on_whose_it_is() {
    let known = Known::new("");
    known.add("ci", "operator");
    let lines = fs::read_to_string(known.file()).expect("readable");
    let with = |end: &str| fs::write(known.file(), format!("{lines}\nexpires = '{end}'\n"));
    let soon = jiff::Timestamp::now() + Duration::from_secs(3 * 24 * 3600);
    with(&soon.to_string()).expect("writable");
    let proxy = known.serve(&[]).await;
    let shown = [bearer(&known.token("ci"))];
    let status = async || plainly(&proxy, "GET /v1/status", &shown, "").await;
    assert_eq!(status().await.status, 200);
    assert!(proxy.log().contains("ends in 2 days"), "{}", proxy.log());

    with("2020-01-01").expect("writable");
    proxy.signal(Signal::Hangup);
    until("the end of the token", SOON, async || {
        status().await.status == 401
    })
    .await;
    let answer = status().await;
    assert!(answer.body.contains("has expired"), "{answer:?}");
    assert!(
        !answer.body.contains("\"ci\"") && !answer.body.contains("'ci'"),
        "{answer:?}"
    );
    let unknown = [bearer("pgdrain_x")];
    assert_eq!(
        plainly(&proxy, "GET /v1/status", &unknown, "").await.status,
        401
    );

    let metrics = plainly(&proxy, "GET /metrics", &[], "").await.body;
    let refused = |why: &str| {
        number(
            &metrics,
            &format!("pgdrain_access_refused_total{{reason=\"{why}\"}}"),
        )
    };
    assert!(refused("expired_token") >= 2.0, "{metrics}");
    assert!(refused("unknown_token") >= 1.0, "{metrics}");
    let end = number(
        &metrics,
        "pgdrain_token_expiry_timestamp_seconds{token=\"ci\"}",
    );
    assert!((end - 1_577_836_800.0).abs() < 0.5, "{end}");
    let audit = fs::read_to_string(proxy.state_dir().join("audit.jsonl")).expect("written");
    let line = audit
        .lines()
        .find(|it| it.contains(r#""kind":"access""#))
        .expect(&audit);
    assert!(
        line.contains(r#""by":"ci""#) && line.contains("expired"),
        "{line}"
    );
    let everything = format!("{}{audit}", proxy.log());
    assert!(!everything.contains(&known.token("ci")), "{everything}");
    assert!(everything.contains("has ended"), "{everything}");
}

#[tokio::test]
async fn names_that_point_here_and_pages_of_others_are_refused() {
    let known = Known::new("[admin]\nhosts = ['drain.example']\n");
    known.add("ci", "admin");
    let proxy = known.serve(&[]).await;
    let asked = async |headers: &[&str]| {
        let mut headers: Vec<String> = headers.iter().map(ToString::to_string).collect();
        headers.push(bearer(&known.token("ci")));
        plainly(&proxy, "GET /v1/status", &headers, "").await.status
    };
    assert_eq!(asked(&["host: evil.example:6433"]).await, 403);
    assert_eq!(asked(&["host: drain.example:6433"]).await, 200);
    assert_eq!(asked(&["origin: http://evil.example"]).await, 403);
    let own = ["host: drain.example", "origin: http://drain.example"];
    assert_eq!(asked(&own).await, 200);
}

#[tokio::test]
async fn a_unix_socket_is_this_machine_and_is_handed_over() {
    let known = Known::new("");
    let socket = known.dir.path().join("admin.sock");
    let place = format!("unix:{}", socket.display());
    let mut proxy = known.serve(&["--admin", &place]).await;
    assert_eq!(elsewhere(&proxy, "unix:"), place);
    let ran = cli(&proxy, &place, &[]).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    proxy.run(&["open", "shop", "--admin", &place]).await;
    let audit = fs::read_to_string(proxy.state_dir().join("audit.jsonl")).expect("written");
    assert!(audit.contains(r#""from":"[local] uid "#), "{audit}");

    let mut former = proxy.take_over(&[]).await;
    assert!(former.ended().await.success());
    assert!(Path::new(&socket).exists(), "the new process listens there");
    let ran = cli(&proxy, &place, &[]).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(proxy.terminate().await.success());
    assert!(!socket.exists(), "nobody listens there any more");
}

#[tokio::test]
async fn a_place_that_others_reach_is_refused_without_who_may_ask() {
    let mut proxy = Proxy::not_started(NOWHERE);
    proxy.arg("--admin");
    proxy.arg("0.0.0.0:0");
    let ran = proxy.serve_in_vain().await;
    assert_ne!(ran.code, Some(0), "{ran:?}");
    let known = Known::new(&format!(
        "[upstream]\nurl = '{NOWHERE}'\n[admin]\nlisten = '0.0.0.0:0'\n"
    ));
    let check = pgdrain()
        .args(["config", "check", "--config", text(&known.file())])
        .output()
        .expect("the binary starts");
    assert_eq!(check.status.code(), Some(5), "{check:?}");
    let checked = String::from_utf8_lossy(&check.stderr).into_owned();
    for said in [ran.stderr, checked] {
        for part in ["can be reached from other machines", "pgdrain config token"] {
            assert!(said.contains(part), "{said}");
        }
    }
}
