//! Who is told how a run goes: of each phase, of the end, and of what nobody has acknowledged. No run
//! waits for it, and nobody gets to see the URL.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pgdrain::config::{Notify, NotifyForm, NotifyOf, NotifyTo, Secret};
use pgdrain::runner::Options;
use pgdrain::runner::source::PostedFile;
use pgdrain::runner::types::{RunState, RunView};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::support::backups::noted;
use crate::support::certificates::{Authority, Pair};
use crate::support::migrations::{Site, assert_end, file, options};
use crate::support::poll::{SOON, until};
use crate::support::shop::Shop;

fn files() -> Vec<PostedFile> {
    vec![file("1_a.up.sql", "create table a ()")]
}

/// A web server that takes POSTs and remembers their bodies.
struct Hooked {
    url: String,
    got: Arc<Mutex<Vec<String>>>,
    /// Ends with it.
    _server: JoinSet<()>,
}

impl Hooked {
    /// Answers with these statuses in turn, the last for ever.
    async fn start(statuses: &'static [u16], tls: Option<Pair>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let got: Arc<Mutex<Vec<String>>> = Arc::default();
        let scheme = if tls.is_some() { "https" } else { "http" };
        let acceptor = tls.map(|pair| acceptor(&pair));
        let url = format!(
            "{scheme}://localhost:{}/hook/s3cret?t=s3cret",
            address.port()
        );
        let theirs = Arc::clone(&got);
        let mut server = JoinSet::new();
        server.spawn(async move {
            let mut count = 0;
            loop {
                let (tcp, _) = listener.accept().await.expect("a client");
                let status = statuses[count.min(statuses.len() - 1)];
                count += 1;
                let body = match &acceptor {
                    None => take(tcp, status).await,
                    // One that does not believe us says so and goes.
                    Some(acceptor) => match acceptor.accept(tcp).await {
                        Ok(stream) => take(stream, status).await,
                        Err(_) => continue,
                    },
                };
                theirs.lock().expect("no panic").push(body);
            }
        });
        Self {
            url,
            got,
            _server: server,
        }
    }

    fn got(&self) -> Vec<Value> {
        let got = self.got.lock().expect("no panic");
        let parse = |it: &String| serde_json::from_str(it).expect("JSON");
        got.iter().map(parse).collect()
    }

    fn target(&self, form: NotifyForm, ca: Option<PathBuf>) -> Notify {
        Notify {
            name: "team".to_owned(),
            to: NotifyTo::Webhook {
                url: Secret::new(self.url.clone()),
                form,
                ca,
            },
            of: NotifyOf::Phases,
            every: None,
            escalate_after: None,
        }
    }
}

fn acceptor(pair: &Pair) -> TlsAcceptor {
    let chain = CertificateDer::pem_file_iter(&pair.certificate).expect("a file");
    let chain = chain.map(|it| it.expect("a certificate")).collect();
    let key = PrivateKeyDer::from_pem_file(&pair.key).expect("a key");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .expect("a certificate and its key");
    TlsAcceptor::from(Arc::new(config))
}

/// Reads a request, answers it, and returns its body.
async fn take(mut stream: impl AsyncRead + AsyncWrite + Unpin, status: u16) -> String {
    let mut request = Vec::new();
    let body = loop {
        let text = String::from_utf8_lossy(&request).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            assert!(head.starts_with("POST /hook/s3cret?t=s3cret "), "{head}");
            let length = head
                .lines()
                .find_map(|it| it.strip_prefix("content-length: "));
            let length: usize = length.expect("a length").parse().expect("a number");
            if body.len() >= length {
                break body.to_owned();
            }
        }
        let read = stream.read_buf(&mut request).await.expect("it writes");
        assert_ne!(read, 0, "{text}");
    };
    let answer = format!("HTTP/1.1 {status} X\r\ncontent-length: 0\r\n\r\n");
    stream.write_all(answer.as_bytes()).await.expect("it reads");
    stream.shutdown().await.ok();
    body
}

async fn told(targets: Vec<Notify>) -> Site {
    let options = Options {
        notify: targets,
        ..options()
    };
    Site::start_with(options).await
}

/// A run that waits until it says this, and is cancelled then.
async fn until_noted(site: &Site, text: &str) -> RunView {
    let id = site.begin(&[file("1_a.up.sql", "select pg_sleep(600)")]);
    until(text, SOON, async || {
        let view = site.runner.follow(&id, 0, Duration::ZERO).await;
        noted(&view.expect("the run"), text)
    })
    .await;
    assert!(site.runner.cancel(&id, "ann"));
    site.end(&id).await
}

#[tokio::test]
async fn each_phase_is_told_in_order_and_the_end() {
    let web = Hooked::start(&[200], None).await;
    let site = told(vec![web.target(NotifyForm::Json, None)]).await;
    let view = site.up(&files()).await;
    assert_end(&view, RunState::Succeeded, 0);
    until("the end to be told", SOON, async || {
        web.got().last().is_some_and(|it| it["why"] == "end")
    })
    .await;
    let got = web.got();
    let states: Vec<_> = got
        .iter()
        .map(|it| it["state"].as_str().expect("a word"))
        .collect();
    let expected = [
        "preflight",
        "holding",
        "draining",
        "applying",
        "reopening",
        "succeeded",
    ];
    assert_eq!(states, expected);
    let last = got.last().expect("an end");
    assert_eq!(
        (&last["run"], &last["database"]),
        (&view.id.into(), &"postgres".into())
    );
    assert_eq!(
        (&last["by"], &last["exit_code"]),
        (&"a test".into(), &0.into())
    );
}

#[tokio::test]
async fn a_target_is_reached_over_tls_only_if_its_certificate_is_believed() {
    let ours = Authority::new("ours");
    let pair = ours.sign("x", &["localhost"]);
    let web = Hooked::start(&[200], Some(pair)).await;
    let mut good = web.target(NotifyForm::Slack, Some(ours.root()));
    good.of = NotifyOf::End;
    let other = Authority::new("other");
    let mut bad = web.target(NotifyForm::Json, Some(other.root()));
    bad.name = "stranger".to_owned();
    let site = told(vec![good, bad]).await;
    let view = until_noted(&site, "stranger was not told: ").await;
    assert_end(&view, RunState::Cancelled, 2);
    until("the end to be told", SOON, async || !web.got().is_empty()).await;
    let text = web.got()[0]["text"]
        .as_str()
        .expect("a sentence")
        .to_owned();
    let begins = "pgdrain: migration up of postgres by a test: cancelled";
    assert!(text.starts_with(begins), "{text}");
    let noted = view
        .events
        .iter()
        .find(|it| it.text.starts_with("stranger"));
    let noted = &noted.expect("it was there").text;
    assert!(noted.contains("certificate"), "{noted}");
    assert!(web.got().iter().all(|it| it["why"].is_null()));
}

#[tokio::test]
async fn what_cannot_be_told_is_tried_again_noted_without_its_url_and_fails_nothing() {
    let web = Hooked::start(&[503, 200], None).await;
    let mut nobody = web.target(NotifyForm::Json, None);
    nobody.name = "nobody".to_owned();
    nobody.to = NotifyTo::Webhook {
        url: Secret::new("http://127.0.0.1:1/s3cret"),
        form: NotifyForm::Json,
        ca: None,
    };
    let site = told(vec![web.target(NotifyForm::Json, None), nobody]).await;
    let view = until_noted(&site, "nobody was not told: ").await;
    assert_end(&view, RunState::Cancelled, 2);
    let got = web.got();
    // The first message twice: it was refused once.
    assert_eq!((&got[0], &got[0]["state"]), (&got[1], &"preflight".into()));
    let all = format!("{view:?}");
    assert!(all.contains("nobody was not told: no connection"), "{all}");
    assert!(!all.contains("s3cret"), "{all}");
}

#[tokio::test]
async fn a_command_is_told_and_another_one_when_nobody_acknowledges() {
    let dir = tempfile::tempdir().expect("a directory");
    let log = |name: &str| dir.path().join(name);
    let command = |name: &str, escalate_after: Option<u64>| Notify {
        name: name.to_owned(),
        to: NotifyTo::Command(format!(
            "echo \"$PGDRAIN_WHY $PGDRAIN_STATE $PGDRAIN_DATABASE\" >>{}",
            log(name).display()
        )),
        of: NotifyOf::End,
        every: None,
        escalate_after: escalate_after.map(Duration::from_millis),
    };
    let read = |name: &str| std::fs::read_to_string(log(name)).unwrap_or_default();
    let site = told(vec![command("team", None), command("boss", Some(300))]).await;
    assert_end(&site.up(&files()).await, RunState::Succeeded, 0);
    let broken = [files(), vec![file("2_b.up.sql", "select 1 / 0")]].concat();
    let view = site.up(&broken).await;
    assert_end(&view, RunState::Failed, 2);
    until("the escalation", SOON, async || !read("boss").is_empty()).await;
    assert_eq!(
        read("team"),
        "end succeeded postgres\nend failed postgres\n"
    );
    assert_eq!(read("boss"), "escalation failed postgres\n");
    assert!(site.runner.acknowledge(&view.id, "ann"), "also later");
    assert!(!site.runner.acknowledge("nonesuch", "ann"));

    // Somebody looks after it: nobody else is called. The next run's escalation shows that the time
    // has passed.
    let site = told(vec![command("boss2", Some(3_000))]).await;
    let first = site.up(&broken).await;
    assert!(site.runner.acknowledge(&first.id, "ann"));
    let second = site.up(&broken).await;
    assert_end(&second, RunState::Failed, 2);
    until("the escalation", SOON, async || !read("boss2").is_empty()).await;
    assert_eq!(read("boss2").lines().count(), 1);
}

#[tokio::test]
async fn settings_command_and_route_work_and_show_no_url() {
    let web = Hooked::start(&[200], None).await;
    let config = format!(
        "[[migrate.notify]]\nname = 'team'\nurl = '{}'\nof = 'end'\n\
         [[migrate.hooks]]\nphase = 'before_window'\nname = 'lb'\ncommand = 'exit 0'\n",
        web.url
    );
    let shop = Shop::open_with("", &config).await;
    shop.write("1_a.up.sql", "create table a ();");
    shop.write("1_a.down.sql", "drop table a;");
    let ran = shop.migrate(&["up"]).await;
    ran.assert(0, &["before_window: lb ended well"]);
    until("the end to be told", SOON, async || !web.got().is_empty()).await;
    let run = web.got()[0]["run"].as_str().expect("an id").to_owned();
    let acked = shop.proxy.run(&["migrate", "ack", &run]).await;
    acked.assert(0, &["looks after run"]);
    let acked = shop.proxy.run(&["migrate", "ack", "nonesuch"]).await;
    acked.assert(5, &["There is no migration nonesuch"]);
    let all = format!("{}{}", shop.status().await, shop.proxy.log());
    assert!(!all.contains("s3cret"), "{all}");
}
