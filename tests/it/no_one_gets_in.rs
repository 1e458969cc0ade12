//! No one gets in who should not, and no secret gets out.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::{fs, os::unix::fs::PermissionsExt};

use pgdrain::audit::Audit;
use pgdrain::auth::users::Disguise;
use pgdrain::client::arrival::Newcomer;
use pgdrain::client::listener::Listener;
use pgdrain::config::{Config, Shared, Source, Surroundings};
use pgdrain::gate::Gates;
use pgdrain::metrics::Metrics;
use pgdrain::server::cancel::Cancels;
use pgdrain::server::lookup::Lookups;
use pgdrain::server::own::OwnBackends;
use pgdrain::session::console::Reception;
use pgdrain::session::life::Host;
use pgdrain::session::registry::Sessions;
use pgdrain::session::relay::Common;
use pgdrain::session::room::Rooms;
use pgdrain::session::standbys::Standbys;
use pgdrain::tasks::Tasks;
use pgdrain::tls::stream::Peer;
use serde_json::json;
use tokio::task::JoinSet;

use crate::support::cluster::Postgres;
use crate::support::holds::DB;
use crate::support::message::{self, Message};
use crate::support::proxy::Proxy;
use crate::support::wire::Wire;

/// Sessions of the proxy, with clients that come from wherever the test says.
struct Door {
    addr: SocketAddr,
    _accepting: JoinSet<()>,
}

impl Door {
    async fn open(postgres: &Postgres, peer: &'static str, allow_unauthenticated: bool) -> Self {
        let config = Arc::new(Config {
            allow_unauthenticated,
            ..config(postgres)
        });
        let (tasks, metrics) = (Tasks::new(), Arc::new(Metrics::new()));
        let host = Arc::new(Host {
            gates: Arc::new(Gates::new(
                tasks.clone(),
                Arc::clone(&metrics),
                Arc::new(Audit::in_memory()),
            )),
            sessions: Arc::new(Sessions::default()),
            common: Arc::new(Common {
                tasks: tasks.clone(),
                cancels: Cancels::new(1),
                metrics,
            }),
            lookups: Arc::new(Lookups::new(OwnBackends::default(), tasks.clone())),
            standbys: Arc::new(Standbys::new(OwnBackends::default(), tasks.clone())),
            passes: Arc::default(),
            disguise: Disguise::random(),
            tasks,
            rooms: Rooms::default(),
            reception: Reception::new().0,
            elsewhere: Arc::new(pgdrain::session::elsewhere::Nowhere),
        });
        let anywhere = "127.0.0.1:0".parse().expect("an address");
        let listener = Listener::bind(&anywhere, &config.tcp)
            .await
            .expect("a free port");
        let addr = listener.tcp_address().expect("TCP");
        let mut accepting = JoinSet::new();
        let shared = Shared::new((*config).clone());
        accepting.spawn(async move {
            let open = listener.open().expect("files are left");
            loop {
                let (socket, _) = open.accept(&shared).await;
                let newcomer = Newcomer {
                    socket,
                    peer: Peer::Tcp(peer.parse().expect("an address")),
                    listen: Arc::new(config.listen[0].clone()),
                };
                let (host, config) = (Arc::clone(&host), Arc::clone(&config));
                // One after the other is enough here.
                host.serve(newcomer, config).await;
            }
        });
        Self {
            addr,
            _accepting: accepting,
        }
    }

    async fn login(&self, user: &str, password: Option<&str>) -> Result<Wire, Message> {
        let parameters = [("user", user), ("database", DB)];
        Wire::login_with(self.addr, &parameters, password).await
    }
}

fn config(postgres: &Postgres) -> Config {
    let url = format!("postgres://{}", postgres.addr());
    let variables = [
        ("PGDRAIN_UPSTREAM_URL", url.as_str()),
        ("STATE_DIRECTORY", "/nowhere"),
    ];
    let surroundings = Surroundings {
        variables: variables
            .map(|(name, value)| (name.into(), value.into()))
            .into(),
        cores: 1,
    };
    let loaded = Source::new(None).load(&surroundings);
    loaded.expect("a configuration").config
}

#[tokio::test]
async fn a_server_that_trusts_the_proxy_lets_in_nobody_from_elsewhere() {
    let hba = [
        "local all all trust",
        "host all postgres 127.0.0.1/32 trust",
        "host all scram 127.0.0.1/32 scram-sha-256",
        "host all plain 127.0.0.1/32 password",
    ];
    let mut postgres = Postgres::start_with(&[], &hba).await;
    postgres
        .execute("CREATE USER scram PASSWORD 'secret'; CREATE USER plain PASSWORD 'secret'")
        .await;
    for peer in ["192.0.2.1:5", "[2001:db8::1]:5"] {
        let door = Door::open(&postgres, peer, false).await;
        let refused = door.login("postgres", None).await.expect_err("no proof");
        assert_eq!(refused.sqlstate(), "28000", "{refused:?}");
        assert_eq!(refused.field(b'V').as_deref(), Some("FATAL"));
        // Nothing of the login had been sent ahead of the refusal.
        let mut wire = Wire::connect(door.addr).await;
        let startup = message::startup(&[("user", "postgres"), ("database", DB)]);
        wire.send(&startup).await;
        assert_eq!(wire.read_to_end().await, [refused]);
        // Who proves it is welcome, and only who does.
        for user in ["scram", "plain"] {
            let mut session = door.login(user, Some("secret")).await.expect("a login");
            assert_eq!(session.query_one("SELECT current_user").await, user);
            drop(session);
            let refused = door.login(user, Some("wrong")).await.expect_err("a lie");
            assert_eq!(refused.sqlstate(), "28P01");
        }
        let door = Door::open(&postgres, peer, true).await;
        assert!(door.login("postgres", None).await.is_ok(), "allowed");
    }
    for peer in [
        "127.0.0.1:5",
        "127.1.2.3:5",
        "[::1]:5",
        "[::ffff:127.0.0.1]:5",
    ] {
        let door = Door::open(&postgres, peer, false).await;
        assert!(door.login("postgres", None).await.is_ok(), "{peer}");
    }
}

/// Every place that a password comes from, each with a password of its own.
struct Secrets {
    dir: tempfile::TempDir,
}

const SECRETS: [&str; 6] = [
    "hush-in-url",
    "hush-in-control",
    "hush-in-migrate",
    "hush-in-environment",
    "hush-in-passfile",
    "hush-of-client",
];

impl Secrets {
    fn write(&self, name: &str, text: &str) -> String {
        let path = self.dir.path().join(name);
        fs::write(&path, text).expect("room");
        let private = fs::Permissions::from_mode(0o600);
        fs::set_permissions(&path, private).expect("our file");
        path.display().to_string()
    }

    /// A proxy whose settings hold all of them. With `right` they let the watcher in.
    async fn proxy(&self, postgres: &Postgres, right: bool) -> Proxy {
        let control = if right {
            "hush-in-control"
        } else {
            "hush-in-contro1"
        };
        let text = format!(
            "[upstream]
            url = 'postgres://owner:hush-in-url@{}/postgres'
            [control]
            user = 'watcher'
            password = '{control}'
            [migrate]
            user = 'migrator'
            [log]
            level = 'trace'
            format = '{}'",
            postgres.addr(),
            if right { "text" } else { "json" }
        );
        let mut proxy = Proxy::not_started("");
        proxy.arg("--config");
        proxy.arg(&self.write("pgdrain.toml", &text));
        proxy.set("PGDRAIN_MIGRATE_PASSWORD", "hush-in-migrate");
        proxy.set("PGPASSWORD", "hush-in-environment");
        let passfile = self.write("pgpass", "*:*:*:*:hush-in-passfile\n");
        proxy.set("PGPASSFILE", &passfile);
        proxy.launch().await;
        proxy
    }
}

fn files_in(dir: &Path) -> String {
    let files = fs::read_dir(dir).expect("a directory");
    let texts = files.map(|file| fs::read(file.expect("an entry").path()).unwrap_or_default());
    String::from_utf8_lossy(&texts.collect::<Vec<_>>().concat()).into_owned()
}

#[tokio::test]
async fn no_secret_reaches_a_log_a_metric_an_answer_or_a_list_of_processes() {
    let hba = [
        "local all all trust",
        "host all postgres 127.0.0.1/32 trust",
        "host all plain 127.0.0.1/32 password",
        "host all all 127.0.0.1/32 scram-sha-256",
    ];
    let mut postgres = Postgres::start_with(&[("log_statement", "all")], &hba).await;
    postgres
        .execute(
            "CREATE USER plain PASSWORD 'hush-of-client';
             CREATE USER owner PASSWORD 'hush-in-url';
             CREATE USER migrator PASSWORD 'hush-in-migrate';
             CREATE USER watcher PASSWORD 'hush-in-control' IN ROLE pg_read_all_stats",
        )
        .await;
    let secrets = Secrets {
        dir: tempfile::tempdir().expect("a temporary directory"),
    };
    for right in [true, false] {
        let proxy = secrets.proxy(&postgres, right).await;
        let parameters = [("user", "plain"), ("database", DB)];
        let session = Wire::login_with(proxy.addr(), &parameters, Some("hush-of-client")).await;
        let mut session = session.expect("a login");
        // A wrong one is as likely to be somebody's.
        let wrong = Wire::login_with(proxy.addr(), &parameters, Some("hush-of-client!")).await;
        assert_eq!(wrong.expect_err("a refusal").sqlstate(), "28P01");
        let ran = proxy.run(&["hold", DB, "--wait", "1s", "--json"]).await;
        assert_eq!(ran.code, Some(if right { 0 } else { 6 }), "{ran:?}");
        session.send(&message::query("SELECT 1")).await;
        proxy.until_held(DB, 1).await;
        Wire::cancel(proxy.addr(), session.key()).await;
        session.read_until_ready().await;
        let migrations = "/v1/databases/postgres/migrations/status";
        let status = proxy.admin().post(migrations, json!({"files": []})).await;

        let mut seen = vec![
            ("hold", ran.stdout + &ran.stderr),
            ("migrations", status.text),
            ("log", proxy.log()),
            ("state directory", files_in(&proxy.state_dir())),
        ];
        for path in ["/metrics", "/v1/status", "/v1/databases/postgres/sessions"] {
            seen.push((path, proxy.admin().get(path).await.text));
        }
        let cmdline = fs::read(format!("/proc/{}/cmdline", proxy.pid()));
        let cmdline = String::from_utf8_lossy(&cmdline.expect("it runs")).into_owned();
        seen.push(("ps", cmdline));
        let mut direct = Wire::login(postgres.addr(), "postgres", DB).await;
        let activity = "SELECT string_agg(pg_stat_activity::text, '') FROM pg_stat_activity";
        seen.push(("pg_stat_activity", direct.query_one(activity).await));
        assert!(seen[2].1.contains("TRACE"), "the log tells all it can");
        let (_, key) = session.key();
        for (place, text) in &seen {
            for secret in SECRETS.iter().chain(&["hush-in-contro1"]) {
                assert!(!text.contains(secret), "{secret} in {place}: {text}");
            }
            assert!(!text.contains(&format!("{key:?}")), "{place}: {text}");
        }
    }
}

#[tokio::test]
async fn a_password_on_the_command_line_works_and_is_warned_of() {
    let hba = [
        "local all all trust",
        "host all all 127.0.0.1/32 scram-sha-256",
    ];
    let postgres = Postgres::start_with(&[], &hba).await;
    let psql = postgres
        .command("psql")
        .args(["-qX", "-U", "postgres", "-h"])
        .arg(postgres.socket_dir())
        .args(["-p", &postgres.addr().port().to_string(), "-c"])
        .arg("ALTER USER postgres PASSWORD 'hush'")
        .status();
    assert!(psql.expect("psql").success());
    let url = format!("postgres://postgres:hush@{}", postgres.addr());
    let proxy = Proxy::before(&url, &[]).await;
    let parameters = [("user", "postgres"), ("database", DB)];
    let session = Wire::login_with(proxy.addr(), &parameters, Some("hush")).await;
    let _session = session.expect("a login");
    proxy.hold_drained(DB, json!({})).await;
    let log = proxy.log();
    assert!(log.contains("WARN") && log.contains("--upstream"), "{log}");
    assert!(!log.contains("hush"), "{log}");
}
