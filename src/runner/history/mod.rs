//! The history: what ran, in schema `pgdrain` of the database itself, and the session that keeps it.
//!
//! One session, the *ledger*, holds the migration lock and writes the books. It is never inside a
//! transaction block: each of its statements is one transaction. So whoever writes a row holds the
//! lock, and a lock that is lost takes the pen with it. The one row that it does not write is the
//! end of a file that runs in a transaction: that is written by the transaction itself.

mod backfill;
mod partial;
mod read;
mod row;
mod write;

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

pub(super) use backfill::{CHECKPOINT, CLAIM, Checkpoint, FINISHED, NewBackfill};
pub(super) use partial::Suspect;
pub(super) use read::{Unfinished, XactStatus};
pub use row::{Key, Row, RowState};
pub(super) use write::{Beginning, finish_parameters, finish_statement, finished_state};

use super::connect::{ConnectError, Connector, Session};
use super::lock::{self, LockError};
use super::stop::Stop;

/// Settings for a session that keeps books: short statements, no surprises from `ALTER ROLE SET`,
/// and a server process that notices within a second when we are gone.
const SETTINGS: &str = "\
    set search_path = pg_catalog, pg_temp; \
    set default_transaction_read_only = off; \
    set default_transaction_isolation = 'read committed'; \
    set synchronous_commit = on; \
    set standard_conforming_strings = on; \
    set lock_timeout = '10s'; \
    set statement_timeout = '30s'; \
    set idle_session_timeout = 0";

/// The session that holds the migration lock and writes the books.
#[derive(Debug)]
pub(super) struct Ledger {
    session: Session,
    connector: Arc<Connector>,
    database: String,
}

/// Why the books cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// No connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// Somebody else holds the lock.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The server refused a statement of ours.
    #[error("cannot read or write the history: {}", super::report::chain(.0))]
    Query(#[from] tokio_postgres::Error),
    /// The row is not in the state in which we left it.
    #[error("the history of {0} was changed by somebody else")]
    Changed(String),
    /// Something in the tables cannot be read.
    #[error("the history holds {0}, which this version does not understand")]
    Unreadable(String),
}

impl Ledger {
    /// Opens the session without the lock: enough to read.
    pub(super) async fn open(
        connector: &Arc<Connector>,
        database: &str,
    ) -> Result<Self, LedgerError> {
        let session = connector.connect(database, Box::new(|_| {})).await?;
        session.client.batch_execute(SETTINGS).await?;
        watch_for_our_death(&session).await;
        Ok(Self {
            session,
            connector: Arc::clone(connector),
            database: database.to_owned(),
        })
    }

    /// Takes the migration lock, polling until the deadline.
    pub(super) async fn lock(
        &self,
        deadline: Instant,
        stop: Option<&Stop>,
    ) -> Result<(), LockError> {
        lock::acquire(&self.session, deadline, stop).await
    }

    /// Whether the session lives and holds the lock. False behind a pooler that changed the
    /// session under us.
    pub(super) async fn holds_lock(&self) -> Result<bool, tokio_postgres::Error> {
        lock::is_held(&self.session).await
    }

    /// Replaces a session that was lost, and takes the lock again, trying until the deadline.
    ///
    /// Nobody can have run anything meanwhile: they would have found a migration recorded as
    /// running whose server process lives, and have gone away.
    pub(super) async fn revive(&mut self, deadline: Instant) -> Result<(), LedgerError> {
        loop {
            if self.holds_lock().await.unwrap_or(false) {
                return Ok(());
            }
            let error = match Self::open(&self.connector, &self.database).await {
                Ok(fresh) => match fresh.lock(deadline, None).await {
                    Ok(()) => {
                        self.session = fresh.session;
                        return Ok(());
                    }
                    Err(error) => error.into(),
                },
                Err(error) => error,
            };
            if Instant::now() >= deadline {
                return Err(error);
            }
            tokio::time::sleep(lock::pause()).await;
        }
    }

    /// Asks the server to end another of our sessions.
    pub(super) async fn terminate(
        &mut self,
        pid: i32,
        deadline: Instant,
    ) -> Result<(), LedgerError> {
        self.revive(deadline).await?;
        self.session
            .client
            .execute("select pg_terminate_backend($1)", &[&pid])
            .await?;
        Ok(())
    }

    /// The database whose history it is.
    pub(super) fn database(&self) -> &str {
        &self.database
    }

    /// The session, for questions that are not about the history.
    pub(super) fn session(&self) -> &Session {
        &self.session
    }

    /// Gives the lock back and ends the session, so that the next run does not find it taken.
    pub(super) async fn close(self) {
        self.session.close(Duration::from_secs(5)).await;
    }

    /// Whether the tables are there.
    pub(super) async fn has_layout(&self) -> Result<bool, tokio_postgres::Error> {
        let sql = "select to_regclass('pgdrain.layout') is not null";
        Ok(self.session.client.query_one(sql, &[]).await?.get(0))
    }

    /// Brings the tables of an older pgdrain to the present layout, each step in a transaction.
    pub(super) async fn upgrade_layout(&self) -> Result<(), tokio_postgres::Error> {
        let sql = "select max(version) from pgdrain.layout";
        let version: Option<i32> = self.session.client.query_one(sql, &[]).await?.get(0);
        let steps = [
            include_str!("layout_2.sql"),
            include_str!("layout_3.sql"),
            include_str!("layout_4.sql"),
            include_str!("layout_5.sql"),
            include_str!("layout_6.sql"),
            include_str!("layout_7.sql"),
            include_str!("layout_8.sql"),
            include_str!("layout_9.sql"),
        ];
        // Layout 1 has all of them before it.
        let there = version.and_then(|it| usize::try_from(it - 1).ok());
        for upgrade in steps.iter().skip(there.unwrap_or(steps.len())) {
            self.session.client.batch_execute(upgrade).await?;
        }
        Ok(())
    }

    /// Creates the schema and the tables if they are not there. Needs the lock, which keeps two
    /// runs from doing it at once; never part of a migration's transaction, whose end would take
    /// them away again.
    pub(super) async fn ensure_layout(&self) -> Result<(), tokio_postgres::Error> {
        self.ensure_tables().await?;
        self.ensure_progress().await;
        self.ensure_append_only().await;
        Ok(())
    }

    /// The triggers that keep what people have said from being changed by mistake. They need PL/pgSQL
    /// too.
    async fn ensure_append_only(&self) {
        let sql = "select not exists (select from pg_trigger where tgname = 'append_only' \
                                      and tgrelid = to_regclass('pgdrain.approval')) \
                   and exists (select from pg_language where lanname = 'plpgsql')";
        let made = async {
            if self.session.client.query_one(sql, &[]).await?.get(0) {
                let sql = include_str!("append_only.sql");
                self.session.client.batch_execute(sql).await?;
            }
            Ok::<_, tokio_postgres::Error>(())
        };
        if let Err(error) = made.await {
            let error = super::report::chain(&error);
            tracing::warn!(error, "approvals are not kept from being changed");
        }
    }

    /// The function by which migrations say how far they are. Without it nothing else is missing: a
    /// database may have no PL/pgSQL.
    async fn ensure_progress(&self) {
        let sql = "select to_regprocedure('pgdrain.progress(text, text, numeric)') is null \
                   and exists (select from pg_language where lanname = 'plpgsql')";
        let made = async {
            if self.session.client.query_one(sql, &[]).await?.get(0) {
                let sql = include_str!("progress.sql");
                self.session.client.batch_execute(sql).await?;
            }
            Ok::<_, tokio_postgres::Error>(())
        };
        if let Err(error) = made.await {
            let error = super::report::chain(&error);
            tracing::warn!(error, "there is no function pgdrain.progress");
        }
    }

    async fn ensure_tables(&self) -> Result<(), tokio_postgres::Error> {
        if self.has_layout().await? {
            return self.upgrade_layout().await;
        }
        // IF NOT EXISTS would still ask for the right to create schemas, which an administrator
        // who made the schema beforehand need not have given.
        let sql = "select to_regnamespace('pgdrain') is not null";
        let schema_exists: bool = self.session.client.query_one(sql, &[]).await?.get(0);
        let schema = if schema_exists {
            ""
        } else {
            "create schema pgdrain;"
        };
        // Several statements in one message are one transaction.
        let all = format!("{schema}\n{}", include_str!("layout.sql"));
        self.session.client.batch_execute(&all).await
    }
}

/// Asks the server to look once a second whether we are still there, so that a statement of a dead
/// runner does not hold its locks to its end. Not every platform of the server can do it; then
/// there is nothing better.
pub(super) async fn watch_for_our_death(session: &Session) {
    let set = session
        .client
        .batch_execute("set client_connection_check_interval = '1s'")
        .await;
    if let Err(error) = set {
        let error = super::report::chain(&error);
        tracing::warn!(
            error,
            "the server cannot watch for the end of this connection"
        );
    }
}
