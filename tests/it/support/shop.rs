//! A database with the real proxy before it, a directory of migrations, and the steps that tests of
//! whole windows share.
//!
//! Only the application's clients come through the proxy; what a test asks for itself goes direct.

use std::path::{Path, PathBuf};

use serde_json::Value;
use tempfile::TempDir;
use tokio_postgres::Client;

use super::cluster::Postgres;
use super::following::Following;
use super::message;
use super::migrations::text;
use super::poll::{PATIENCE, SOON, eventually, until, within};
use super::proxy::{Proxy, Ran};
use super::wire::Wire;

/// The database of the shop.
pub(crate) const DATABASE: &str = "postgres";

/// `written` is what clients write to; an insert into `slow` makes its COMMIT take that long.
const SCHEMA: &str = "
    create table written (id bigint primary key);
    create table slow (seconds float);
    create function sleep() returns trigger language plpgsql as
        $$ begin perform pg_sleep(new.seconds); return null; end $$;
    create constraint trigger sleep after insert on slow deferrable initially deferred
        for each row execute function sleep()";

/// See the module.
pub(crate) struct Shop {
    pub(crate) postgres: Postgres,
    pub(crate) proxy: Proxy,
    /// The superuser, past the proxy.
    pub(crate) direct: Client,
    dir: TempDir,
}

impl Shop {
    /// With the proxy's defaults.
    pub(crate) async fn open() -> Self {
        Self::open_with("", "").await
    }

    /// With SQL that runs before the proxy starts, and with a configuration file.
    pub(crate) async fn open_with(sql: &str, config: &str) -> Self {
        let mut postgres = Postgres::start().await;
        let direct = postgres.connect(DATABASE).await;
        let prepared = direct.batch_execute(&format!("{SCHEMA};{sql}")).await;
        prepared.expect("the schema of the shop");
        let dir = tempfile::tempdir().expect("a temporary directory");
        std::fs::create_dir(dir.path().join("files")).expect("a directory for the files");
        let file = dir.path().join("pgdrain.toml");
        std::fs::write(&file, config).expect("a configuration file");
        let file = file.to_str().expect("a path in UTF-8");
        let proxy = Proxy::start_with(&postgres, &["--config", file]).await;
        Self {
            postgres,
            proxy,
            direct,
            dir,
        }
    }

    /// Adds or replaces a migration file.
    pub(crate) fn write(&self, name: &str, sql: &str) {
        std::fs::write(self.files().join(name), sql).expect("a migration file");
    }

    /// The directory of migration files.
    pub(crate) fn files(&self) -> PathBuf {
        self.dir.path().join("files")
    }

    /// Runs `pgdrain migrate` with `up`, `down` or `status` and more arguments to its end.
    pub(crate) async fn migrate(&self, args: &[&str]) -> Ran {
        self.begin(args).ended().await
    }

    /// Runs `pgdrain migrate` and lets it run.
    pub(crate) fn begin(&self, args: &[&str]) -> Following {
        let (verb, more) = args.split_first().expect("up, down, status or attach");
        let files = self.files();
        let files = files.to_str().expect("a path in UTF-8");
        let mut line = vec!["migrate", verb, DATABASE];
        match *verb {
            "attach" | "cancel" | "report" => {}
            _ => line.extend(["--dir", files]),
        }
        line.extend(more);
        Following::start(&self.proxy, &line)
    }

    /// Runs statements as the superuser.
    pub(crate) async fn sql(&self, sql: &str) {
        let done = self.direct.batch_execute(sql).await;
        done.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    }

    /// A single value, as text.
    pub(crate) async fn ask(&self, sql: &str) -> String {
        text(&self.direct, sql).await
    }

    /// What the history says of a version: state, direction, statements done and all.
    pub(crate) async fn row(&self, version: u64) -> String {
        self.ask(&format!(
            "select state || ' ' || direction || ' ' || statements_done || '/' || statements_total \
             from pgdrain.migration where version = '{version}'"
        ))
        .await
    }

    /// What the history says of every run, oldest first: state and exit code.
    pub(crate) async fn runs(&self) -> String {
        self.ask(
            "select string_agg(state || coalesce(' ' || exit_code, ''), ', ' order by started_at) \
             from pgdrain.run",
        )
        .await
    }

    /// Whether a relation is in the database.
    pub(crate) async fn has(&self, relation: &str) -> bool {
        let sql = format!("select to_regclass('{relation}') is not null");
        self.ask(&sql).await == "true"
    }

    /// The database as `GET /v1/status` shows it; `null` before anybody has come.
    pub(crate) async fn status(&self) -> Value {
        let status = self.proxy.admin().get("/v1/status").await.expect(200);
        let databases = status["databases"].as_array().expect("a list").iter();
        let mut ours = databases.filter(|it| it["database"] == DATABASE);
        ours.next().cloned().unwrap_or(Value::Null)
    }

    /// The hold of the window, `null` when there is none.
    pub(crate) async fn window(&self) -> Value {
        let status = self.status().await;
        let mut holds = status["holds"].as_array().into_iter().flatten();
        let window = holds.find(|hold| hold["holder"] == "window");
        window.cloned().unwrap_or(Value::Null)
    }

    /// Waits until the window drains and somebody is in its way.
    pub(crate) async fn draining(&self) {
        until("a window that drains", SOON, async || {
            self.window().await["drain"]["outcome"] == "draining"
        })
        .await;
    }

    /// Waits until traffic flows.
    pub(crate) async fn reopened(&self) {
        until("traffic to flow again", PATIENCE, async || {
            self.status().await["mode"] == "open"
        })
        .await;
    }

    /// Waits until a session of the runner runs a statement that begins like this, and returns its
    /// process id.
    pub(crate) async fn running(&self, statement: &str) -> i32 {
        let sql = format!(
            "select max(pid) from pg_stat_activity where application_name = 'pgdrain migrate' \
             and state = 'active' and query like '{statement}%'"
        );
        self.pid(statement, &sql).await
    }

    /// Waits until the runner's session sits in its transaction while the ledger waits for a lock,
    /// and returns its process id.
    pub(crate) async fn between_statements(&self) -> i32 {
        let sql = "select max(pid) from pg_stat_activity where application_name = \
                   'pgdrain migrate' and state = 'idle in transaction' and exists (select from \
                   pg_stat_activity where application_name = 'pgdrain migrate' \
                   and wait_event_type = 'Lock')";
        self.pid("a runner between two statements", sql).await
    }

    async fn pid(&self, what: &str, sql: &str) -> i32 {
        eventually(what, SOON, async || self.ask(sql).await.parse().ok()).await
    }

    /// Ends a server process and waits until it is gone.
    pub(crate) async fn kill_backend(&self, pid: i32) {
        let sql = format!("select pg_terminate_backend({pid}, 20000)");
        assert_eq!(self.ask(&sql).await, "true");
    }

    /// Crashes the server, starts it again, and connects anew.
    pub(crate) async fn crash_server(&mut self) {
        self.postgres.crash().await.expect("a crash");
        self.postgres.start().await.expect("a recovery");
        self.direct = self.postgres.connect(DATABASE).await;
    }

    /// Ends the proxy as by a crash of its machine, and starts it again on the same state. `held` are
    /// clients that wait at its gate, whose connections close; `up` follows a migration.
    pub(crate) async fn relaunch(&mut self, held: Vec<Wire>, up: Following) -> Ran {
        self.proxy.kill();
        let up = up.ended().await;
        assert_closed(held, None).await;
        self.proxy.launch().await;
        up
    }

    /// A client of the application.
    pub(crate) async fn client(&self) -> Wire {
        Wire::login(self.proxy.addr(), "postgres", DATABASE).await
    }

    /// A client that is inside a transaction, in which it has written `id`.
    pub(crate) async fn inside(&self, id: u64) -> Wire {
        let mut client = self.client().await;
        client.execute("begin").await;
        client.execute(&insert(id)).await;
        client
    }

    /// Clients that have sent an insert of these ids and are held at the gate.
    pub(crate) async fn held(&self, ids: &[u64]) -> Vec<Wire> {
        let before = self.status().await["held"].as_u64().unwrap_or(0);
        let mut clients = Vec::new();
        for id in ids {
            let mut client = self.client().await;
            client.send(&message::query(&insert(*id))).await;
            clients.push(client);
        }
        let all = before + ids.len() as u64;
        until("the clients to be held", SOON, async || {
            self.status().await["held"] == all
        })
        .await;
        clients
    }

    /// Whether an id was written.
    pub(crate) async fn written(&self, id: u64) -> bool {
        let sql = format!("select exists (select from written where id = {id})");
        self.ask(&sql).await == "true"
    }
}

/// The statement by which a client writes an id.
pub(crate) fn insert(id: u64) -> String {
    format!("insert into written values ({id})")
}

/// Their inserts are carried out, without an error.
pub(crate) async fn assert_let_in(clients: Vec<Wire>) {
    for mut client in clients {
        let answer = within("an answer", PATIENCE, client.read_until_ready()).await;
        assert!(answer.iter().all(|it| it.tag != b'E'), "{answer:?}");
    }
}

/// Their connections are closed by an error with this SQLSTATE, or without a word.
pub(crate) async fn assert_closed(clients: Vec<Wire>, sqlstate: Option<&str>) {
    for mut client in clients {
        let rest = client.read_to_end().await;
        let states: Vec<_> = rest.iter().map(message::Message::sqlstate).collect();
        assert_eq!(states, Vec::from_iter(sqlstate), "{rest:?}");
    }
}

/// Makes the journal of a state directory impossible to write, also for root: its new version
/// cannot be made where a directory is.
pub(crate) fn break_journal(state_dir: &Path) {
    std::fs::create_dir(state_dir.join("journal.json.new")).expect("nothing is there");
}
