//! Runs one file: in a transaction with its history row, or statement by statement.

mod batches;
mod claims;
mod concurrent;
mod remains;
mod retry;
mod rows_touched;
mod single;
mod trace;
mod transaction;
mod validation;

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

pub(in crate::runner) use remains::ConcurrentIndex;

use super::adopt::entry::WriteBack;
use super::connect::{Connector, Session};
use super::history::{FINISHED, Ledger, LedgerError, watch_for_our_death};
use super::plan::Step;
use super::record::Run;
use super::report::{BatchReport, Failure};
use super::script::TxMode;
use super::split::Statement;
use super::stop::{Stop, StopReason};
use super::types::EventKind;
use super::watcher;
use crate::config::{BatchLimits, Retry, Validate};
use crate::session::class::normal;

pub(in crate::runner) use batches::Felt;
pub(super) use trace::Tracer;

/// How files are run.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    /// How long a statement waits for each lock.
    pub(super) lock_timeout: Duration,
    /// How long a statement may run.
    pub(super) statement_timeout: Duration,
    /// How long the server waits for our next statement inside a transaction.
    pub(super) idle_in_transaction_timeout: Duration,
    /// The role that files run as, if not our own.
    pub(super) owner: Option<String>,
    /// How long a cancelled statement may take to end.
    pub(super) cancel_wait: Duration,
    /// How long to ask how a file ended when its connection was lost.
    pub(super) settle_wait: Duration,
    /// How often a statement is tried that meets a lock.
    pub(super) retry: Retry,
    /// Which tool is told besides.
    pub(super) write_back: Option<WriteBack>,
    /// What a file has to leave as it was.
    pub(super) validate: Validate,
    /// `maintenance_work_mem` of the session that runs files, in bytes; the server's if it is not said.
    pub(super) maintenance_work_mem: Option<u64>,
    /// What keeps batches waiting that do not say it themselves.
    pub(super) batch: BatchLimits,
    /// What clients feel; none where nobody comes through a proxy.
    pub(super) felt: Option<Felt>,
}

impl Settings {
    /// How long a statement of a file waits for each lock.
    fn lock_timeout(&self, step: &Step) -> String {
        milliseconds(self.lock_wait(step))
    }

    /// The same as a time.
    fn lock_wait(&self, step: &Step) -> Duration {
        let own = step.script.directives().lock_timeout;
        own.unwrap_or(self.lock_timeout)
    }

    /// How long a statement of a file may run.
    fn statement_timeout(&self, step: &Step) -> String {
        let own = step.script.directives().statement_timeout;
        milliseconds(own.unwrap_or(self.statement_timeout))
    }

    /// The role that a file runs as.
    fn owner<'a>(&'a self, step: &'a Step) -> Option<&'a str> {
        let own = step.script.directives().owner.as_deref();
        own.or(self.owner.as_deref())
    }

    /// What is written with the end of a file: a tool is told, and the batches are over.
    fn told(&self, step: &Step) -> String {
        let write_back = self.write_back.as_ref();
        let mut told = write_back.map(|it| it.parts(step)).unwrap_or_default();
        if step.script.batch().is_some() {
            told.push_str(FINISHED);
        }
        told
    }
}

/// How a file ended.
#[derive(Debug)]
pub(super) enum Ending {
    /// Applied or reverted, and recorded.
    Done,
    /// Nothing of it is in the database.
    RolledBack(Failure),
    /// It stopped between two batches, or two statements that an earlier run had reached; what is done stays,
    /// and the next run goes on.
    Begun(Failure),
    /// Part of it is in the database.
    Dirty(Failure),
    /// It could not be found out in time.
    Unknown(Failure),
}

/// How a statement ended.
enum Answer {
    Ok,
    /// The server said no, or the connection is gone.
    Failed(Failure),
    /// It was told to stop; whether it had ended well before that.
    Stopped {
        reason: StopReason,
        completed: bool,
    },
}

/// The session that runs files was given up.
struct NoSession;

impl From<NoSession> for Failure {
    fn from(NoSession: NoSession) -> Self {
        Self::new("there is no connection to the server")
    }
}

/// What came of waiting for a statement.
enum Waited {
    Answered(Result<(), tokio_postgres::Error>),
    /// Told to stop; the answer to the cancelled statement, if one came in time.
    Stopped {
        reason: StopReason,
        answer: Option<Result<(), tokio_postgres::Error>>,
    },
}

/// Settings a file starts with, whatever its role's defaults. A lexer that takes backslashes for
/// what they are needs `standard_conforming_strings`; what is reported as applied must be durable.
const RESET: &str = "reset role; set idle_session_timeout = 0; \
                     set default_transaction_read_only = off; \
                     set standard_conforming_strings = on; set synchronous_commit = on";

/// Runs files one after another on a session of its own. The ledger keeps the books.
pub(super) struct Executor<'a> {
    connector: Arc<Connector>,
    ledger: Ledger,
    run: &'a Arc<Run>,
    settings: Settings,
    session: Option<Session>,
    /// What the batches of the last file did.
    batches: Option<BatchReport>,
    /// Statements that a file has to leave so that they can be planned.
    planned: Vec<String>,
    /// What batches have seen of clients.
    clients: batches::Clients,
    /// Whether it was said that standbys cannot be seen.
    told_hidden: bool,
    /// Follows what statements do, in a rehearsal.
    tracer: Option<Tracer>,
}

impl<'a> Executor<'a> {
    /// The session that keeps the books.
    pub(super) fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// From now on files have to leave these statements so that they can be planned, if they can before.
    pub(super) fn plan_statements(&mut self, statements: Vec<String>) {
        self.planned = statements;
    }

    /// Brings the session of the history back if it was lost since the last file.
    ///
    /// # Errors
    /// Why it could not be within `settle_wait`.
    pub(super) async fn revive_ledger(&mut self) -> Result<(), LedgerError> {
        let deadline = Instant::now() + self.settings.settle_wait;
        self.ledger.revive(deadline).await
    }

    /// An executor for the files of a run. The ledger holds the migration lock.
    pub(super) fn new(
        connector: Arc<Connector>,
        ledger: Ledger,
        run: &'a Arc<Run>,
        settings: Settings,
    ) -> Self {
        Self {
            connector,
            ledger,
            run,
            settings,
            session: None,
            batches: None,
            planned: Vec::new(),
            clients: batches::Clients::default(),
            told_hidden: false,
            tracer: None,
        }
    }

    /// Opens the session that runs files. Done before the window, so that no limit on connections
    /// is met inside it.
    pub(super) async fn connect(&mut self) -> Result<(), Failure> {
        if self
            .session
            .as_ref()
            .is_some_and(|it| !it.client.is_closed())
        {
            return Ok(());
        }
        let run = Arc::clone(self.run);
        let on_notice = Box::new(move |notice: &tokio_postgres::error::DbError| {
            watcher::heard(&run, notice);
        });
        let database = self.ledger.database();
        let connected = self.connector.connect(database, on_notice).await;
        let session = connected.map_err(|error| Failure::new(error.to_string()))?;
        // At once: it may now be idle for as long as a drain takes.
        let set = session.client.batch_execute(RESET).await;
        set.map_err(|error| Failure::from_error(&error))?;
        self.session = Some(session);
        Ok(())
    }

    /// Runs a file to an end, or until told to stop.
    pub(super) async fn run(&mut self, step: &Step, stop: &Stop) -> Ending {
        if let Err(failure) = self.prepare(stop).await {
            let failure = failure.in_file(step);
            // Nothing was changed: what was begun before, or is done in part, still is.
            return match step.begun || step.from > 0 {
                true => Ending::Begun(failure),
                false => Ending::RolledBack(failure),
            };
        }
        match (step.script.mode(), step.script.batch()) {
            (TxMode::Batches, Some(batch)) => self.run_watched_batches(step, batch, stop).await,
            (TxMode::File, _) | (TxMode::Batches, None) => {
                self.run_in_transaction(step, stop).await
            }
            (TxMode::None, _) => self.run_statements(step, stop).await,
        }
    }

    /// What the batches of the last file did, if it had any.
    pub(super) fn take_batches(&mut self) -> Option<BatchReport> {
        self.batches.take()
    }

    /// Gives back both sessions; the ledger is needed for the last entry.
    pub(super) async fn into_ledger(mut self) -> Ledger {
        if let Some(session) = self.session.take() {
            session.close(self.settings.cancel_wait).await;
        }
        self.ledger
    }

    /// A fresh session, as far as a file can tell, and the lock in our hands.
    async fn prepare(&mut self, stop: &Stop) -> Result<(), Failure> {
        if let Some(reason) = stop.now() {
            return Err(Failure::new(reason.to_string()));
        }
        let deadline = Instant::now() + self.settings.settle_wait;
        self.ledger
            .revive(deadline)
            .await
            .map_err(|it| Failure::new(it.to_string()))?;
        self.connect().await?;
        let session = self.session()?;
        // Whatever an earlier file set, declared, prepared or listened to is gone.
        for reset in ["discard all", RESET] {
            let done = session.client.batch_execute(reset).await;
            done.map_err(|error| Failure::from_error(&error))?;
        }
        if let Some(bytes) = self.settings.maintenance_work_mem {
            self.command(&format!("set maintenance_work_mem = '{}kB'", bytes >> 10))
                .await?;
        }
        watch_for_our_death(session).await;
        Ok(())
    }

    fn session(&self) -> Result<&Session, NoSession> {
        self.session.as_ref().ok_or(NoSession)
    }

    /// Runs a command of our own.
    async fn command(&self, sql: &str) -> Result<(), Failure> {
        let done = self.session()?.client.batch_execute(sql).await;
        done.map_err(|error| Failure::from_error(&error))
    }

    /// Sends a statement of a file and waits for its end, or stops it.
    async fn statement(
        &mut self,
        step: &Step,
        index: usize,
        statement: &Statement,
        stop: &Stop,
    ) -> Answer {
        let session = match self.session() {
            Ok(session) => session,
            Err(NoSession) => {
                let failure = Failure::from(NoSession).at_statement(step, index, statement);
                return Answer::Failed(failure);
            }
        };
        let begun = Instant::now();
        let waiting = self.wait(session, step.script.sql(statement), stop);
        let (waited, seen) = trace::watched(self.tracer.as_ref(), step, session.pid, waiting).await;
        match waited {
            Waited::Answered(Ok(())) => {
                let took = begun.elapsed();
                self.tell_statement(step, index, statement, took);
                match self.trace(step, index, statement, took, seen).await {
                    Ok(()) => Answer::Ok,
                    Err(failure) => Answer::Failed(failure.at_statement(step, index, statement)),
                }
            }
            Waited::Answered(Err(error)) => {
                Answer::Failed(Failure::of_statement(step, index, statement, &error))
            }
            Waited::Stopped {
                reason,
                answer: Some(answer),
            } => Answer::Stopped {
                reason,
                completed: answer.is_ok(),
            },
            Waited::Stopped {
                reason,
                answer: None,
            } => {
                self.abandon().await;
                Answer::Stopped {
                    reason,
                    completed: false,
                }
            }
        }
    }

    /// Sends a statement, and cancels it when told to stop.
    async fn wait(&self, session: &Session, sql: &str, stop: &Stop) -> Waited {
        let mut work = std::pin::pin!(session.client.batch_execute(sql));
        let reason = tokio::select! {
            answer = &mut work => return Waited::Answered(answer),
            reason = stop.fired() => reason,
        };
        self.run
            .note(format!("{reason}: stopping the running statement"));
        session.cancel(self.settings.cancel_wait).await;
        let answer = tokio::time::timeout(self.settings.cancel_wait, work)
            .await
            .ok();
        Waited::Stopped { reason, answer }
    }

    /// Gives up a session that does not answer: its process is asked to end, and its connection is
    /// dropped.
    async fn abandon(&mut self) {
        let Some(session) = self.session.take() else {
            return;
        };
        let pid = session.pid;
        let deadline = Instant::now() + self.settings.cancel_wait;
        if let Err(error) = self.ledger.terminate(pid, deadline).await {
            tracing::warn!(pid, %error, "cannot terminate the server process of a migration");
        }
    }

    fn tell_statement(&self, step: &Step, index: usize, statement: &Statement, took: Duration) {
        let (number, of) = (index + 1, step.script.statements().len());
        let text = format!(
            "{}: statement {number} of {of} ended after {}",
            step.file,
            humantime::format_duration(Duration::from_millis(millis(took)))
        );
        let data = json!({
            "file": step.file, "statement": number, "of": of, "line": statement.line,
            "elapsed_ms": millis(took),
            "fingerprint": fingerprint(step.script.sql(statement)),
        });
        self.run.tell(EventKind::Statement, text, data);
    }

    /// Notes that the history could not be told; it will be by the next run's recovery.
    fn unrecorded(&self, error: &dyn std::error::Error) {
        let text = format!("the end could not be recorded, the next run will: {error}");
        self.run.tell(EventKind::Note, text, Value::Null);
    }
}

/// What a statement is counted by elsewhere too: 16 hexadecimal digits.
fn fingerprint(sql: &str) -> String {
    format!("{:016x}", normal(sql.as_bytes()).fingerprint)
}

/// Whole milliseconds, as JSON carries them.
pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// A setting's value for the server, which counts in milliseconds and takes 0 for "never".
fn milliseconds(duration: Duration) -> String {
    format!("'{}ms'", millis(duration))
}

/// `SET ROLE`, with the name quoted; empty without one.
fn set_role(scope: &str, owner: Option<&str>) -> String {
    owner.map_or_else(String::new, |owner| {
        format!("set {scope} role \"{}\"", owner.replace('"', "\"\""))
    })
}
