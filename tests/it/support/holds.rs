//! The steps of most tests: hold, wait for those who are held, drain, open.

use serde_json::{Value, json};

use super::cluster::Postgres;
use super::poll::{PATIENCE, SOON, eventually, until};
use super::proxy::Proxy;

/// The database that nearly every test uses.
pub(crate) const DB: &str = "postgres";

impl Proxy {
    /// Holds a database (`*` for all) and returns at once; `options` are those of the request.
    pub(crate) async fn hold(&self, database: &str, options: Value) {
        let path = format!("/v1/databases/{database}/mode");
        self.admin().put(&path, hold(options)).await.expect(202);
    }

    /// Holds a database and returns its drain once it has ended, drained.
    pub(crate) async fn hold_drained(&self, database: &str, options: Value) -> Value {
        let path = format!("/v1/databases/{database}/mode?wait=drained");
        let answer = self.admin().put(&path, hold(options)).await.expect(200);
        let drain = answer["results"][0]["drain"].clone();
        assert_eq!(drain["outcome"], "drained", "{answer}");
        drain
    }

    /// Holds a database and returns its drain once it has ended, and not as drained.
    pub(crate) async fn hold_in_vain(&self, database: &str, options: Value) -> Value {
        let path = format!("/v1/databases/{database}/mode?wait=drained");
        let answer = self.admin().put(&path, hold(options)).await.expect(409);
        assert_eq!(answer["error"]["code"], "not_drained", "{answer}");
        answer["results"][0]["drain"].clone()
    }

    /// Opens a database.
    pub(crate) async fn open(&self, database: &str) {
        let path = format!("/v1/databases/{database}/mode");
        let answer = self.admin().put(&path, json!({"mode": "open"})).await;
        answer.expect(202);
    }

    /// What the status says of a database; `null` before anybody asked for it.
    pub(crate) async fn status(&self, database: &str) -> Value {
        let status = self.admin().get("/v1/status").await.expect(200);
        let databases = status["databases"].as_array().expect("databases").clone();
        let mut databases = databases.into_iter();
        let found = databases.find(|found| found["database"] == database);
        found.unwrap_or(Value::Null)
    }

    /// The sessions of a database.
    pub(crate) async fn sessions(&self, database: &str) -> Vec<Value> {
        let path = format!("/v1/databases/{database}/sessions");
        let answer = self.admin().get(&path).await.expect(200);
        answer["sessions"].as_array().expect("sessions").clone()
    }

    /// Waits until so many clients are held.
    pub(crate) async fn until_held(&self, database: &str, clients: u64) {
        let what = format!("{clients} held clients in {database}");
        until(&what, SOON, async || {
            self.status(database).await["held"] == clients
        })
        .await;
    }

    /// Waits until a database has this mode.
    pub(crate) async fn until_mode(&self, database: &str, mode: &str) {
        let what = format!("{database} to be in mode {mode}");
        until(&what, SOON, async || {
            self.status(database).await["mode"] == mode
        })
        .await;
    }

    /// The drain of the only hold on a database, as it stands.
    pub(crate) async fn drain(&self, database: &str) -> Value {
        self.status(database).await["holds"][0]["drain"].clone()
    }

    /// Waits until the only hold on a database is drained.
    pub(crate) async fn until_drained(&self, database: &str) -> Value {
        eventually("a drained database", PATIENCE, async || {
            let drain = self.drain(database).await;
            match drain["outcome"].as_str() {
                Some("drained") => Some(drain),
                Some("draining") => None,
                other => panic!("neither draining nor drained but {other:?}: {drain}"),
            }
        })
        .await
    }

    /// Asserts that a hold waits for somebody: a permit is out and the drain goes on.
    pub(crate) async fn assert_draining(&self, database: &str) {
        let status = self.status(database).await;
        let drain = &status["holds"][0]["drain"];
        assert_eq!(drain["outcome"], "draining", "{status}");
        assert_ne!(status["permits"], 0, "{status}");
    }
}

impl Postgres {
    /// Waits until a backend waits for a lock, an advisory one for instance.
    pub(crate) async fn until_somebody_waits(&mut self) {
        let watcher = self.connect(DB).await;
        let waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'";
        until("a backend that waits for a lock", SOON, async || {
            let row = watcher.query_one(waits, &[]).await.expect("a count");
            row.get::<_, i64>(0) > 0
        })
        .await;
    }

    /// Waits until this backend sleeps in `pg_sleep`.
    pub(crate) async fn until_asleep(&mut self, pid: u32) {
        let watcher = self.connect(DB).await;
        let asleep = format!(
            "SELECT count(*) FROM pg_stat_activity WHERE pid = {pid} AND wait_event = 'PgSleep'"
        );
        until("a backend that sleeps", SOON, async || {
            let row = watcher.query_one(&asleep, &[]).await.expect("a count");
            row.get::<_, i64>(0) > 0
        })
        .await;
    }

    /// One number that a query answers.
    pub(crate) async fn count(&mut self, sql: &str) -> i64 {
        let client = self.connect(DB).await;
        let row = client.query_one(sql, &[]).await;
        row.unwrap_or_else(|error| panic!("{sql}: {error:?}"))
            .get(0)
    }

    /// Waits until the backend with this process id is gone.
    pub(crate) async fn until_gone(&mut self, pid: u32) {
        let watcher = self.connect(DB).await;
        let there = format!("SELECT count(*) FROM pg_stat_activity WHERE pid = {pid}");
        until("the end of a backend", SOON, async || {
            let row = watcher.query_one(&there, &[]).await.expect("a count");
            row.get::<_, i64>(0) == 0
        })
        .await;
    }
}

/// The body of a hold.
fn hold(mut options: Value) -> Value {
    options["mode"] = "hold".into();
    options
}
