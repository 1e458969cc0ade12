//! What statements really do in a rehearsal: locks, rewrites, time.
//!
//! In a transaction the locks of a statement are held until its end, so they are read behind it, in
//! the same session: only there the names of what it made can be seen. Without a transaction they
//! are gone with the statement; then a session beside it looks again and again while it runs. As
//! `pg_locks` in the Postgres documentation says, looking there holds up nobody for long.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;
use tokio_postgres::{Client, SimpleQueryMessage};

use super::{Ending, Executor, NoSession, millis};
use crate::runner::connect::{ConnectError, Connector, Session};
use crate::runner::plan::{LockMode, Step};
use crate::runner::rehearse::{StatementTrace, TracedLock};
use crate::runner::report::Failure;
use crate::runner::script::{BatchScript, TxMode, headline};
use crate::runner::source::Sha256;
use crate::runner::split::Statement;
use crate::runner::stop::Stop;

/// How long after a look for locks the next one follows: at first, and at most. Each look stops the
/// lock manager of the whole server for a moment.
const FIRST_SAMPLE: Duration = Duration::from_millis(5);
const LONGEST_SAMPLE: Duration = Duration::from_millis(100);

/// For a session that looks from beside, and may have nothing to do for long.
const SETTINGS: &str = "set idle_session_timeout = 0; set statement_timeout = '5s'; \
                        set lock_timeout = '100ms'";

/// Every relation of the users': its file changes when its rows are written anew. `relkind` tells
/// apart what can be locked by name.
const RELATIONS: &str = "\
    select c.oid, pg_catalog.format('%I.%I', n.nspname, c.relname), c.relkind, c.relfilenode \
    from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace \
    where n.nspname !~ '^pg_' and n.nspname not in ('information_schema', 'pgdrain') \
      and c.relkind in ('r', 'p', 'v', 'm', 'S', 'f', 'i', 'I')";

/// Locks on relations of this database that a process holds.
fn locks_of(pid: &str) -> String {
    format!(
        "select l.relation, l.mode from pg_catalog.pg_locks l \
         where l.locktype = 'relation' and l.granted and l.pid = {pid} \
           and l.database = (select d.oid from pg_catalog.pg_database d \
                             where d.datname = pg_catalog.current_database())"
    )
}

/// The strongest lock on each relation.
type Locks = BTreeMap<u32, LockMode>;

#[derive(Debug)]
struct Relation {
    name: String,
    kind: char,
    file: u32,
}

/// Follows the statements of files, one file after the other.
#[derive(Debug)]
pub(in crate::runner) struct Tracer {
    observer: Session,
    /// What was there before the first file.
    old: BTreeSet<u32>,
    /// What was there before the statement.
    relations: BTreeMap<u32, Relation>,
    /// What the transaction held before the statement.
    held: Locks,
    traces: Vec<StatementTrace>,
}

impl Tracer {
    /// Looks at a database before the first file.
    pub(in crate::runner) async fn new(
        connector: &Connector,
        database: &str,
    ) -> Result<Self, ConnectError> {
        let observer = connector.connect(database, Box::new(|_| {})).await?;
        observer.client.batch_execute(SETTINGS).await?;
        let relations = relations(&observer.client).await?;
        Ok(Self {
            observer,
            old: relations.keys().copied().collect(),
            relations,
            held: Locks::new(),
            traces: Vec::new(),
        })
    }

    /// What the statements of the last file did.
    pub(in crate::runner) fn take(&mut self) -> Vec<StatementTrace> {
        self.held.clear();
        std::mem::take(&mut self.traces)
    }

    /// Gives its session back.
    pub(in crate::runner) async fn close(self) {
        self.observer.close(Duration::from_secs(5)).await;
    }

    /// Looks for the locks of a process until the work is done. What cannot be seen is missing.
    async fn beside<T>(&self, pid: i32, work: impl Future<Output = T>) -> (T, Locks) {
        let mut seen = Locks::new();
        let sql = locks_of(&pid.to_string());
        let mut work = std::pin::pin!(work);
        let mut pause = FIRST_SAMPLE;
        loop {
            let look = async {
                let rows = self.observer.client.simple_query(&sql).await;
                tokio::time::sleep(pause).await;
                rows
            };
            tokio::select! {
                biased;
                done = &mut work => return (done, seen),
                rows = look => {
                    add_locks(&mut seen, &rows.unwrap_or_default());
                    pause = (pause * 2).min(LONGEST_SAMPLE);
                }
            }
        }
    }

    /// Writes down what a statement did.
    fn add(&mut self, trace: StatementTrace, locks: Locks, after: BTreeMap<u32, Relation>) {
        let stronger = |(oid, mode): (&u32, &LockMode)| {
            let before = self.held.get(oid);
            // What it dropped is known from before, what it made from after.
            let relation = after.get(oid).or_else(|| self.relations.get(oid))?;
            let by_name = !matches!(relation.kind, 'i' | 'I');
            (by_name && before.is_none_or(|it| it < mode)).then(|| TracedLock {
                relation: relation.name.clone(),
                mode: *mode,
                new: !self.old.contains(oid),
            })
        };
        let mut taken: Vec<_> = locks.iter().filter_map(stronger).collect();
        taken.sort();
        let moved = |(oid, now): (&u32, &Relation)| {
            let before = self.relations.get(oid)?;
            (now.file != before.file && before.file != 0).then(|| now.name.clone())
        };
        let mut rewritten: Vec<_> = after.iter().filter_map(moved).collect();
        rewritten.sort();
        self.traces.push(StatementTrace {
            locks: taken,
            rewritten,
            ..trace
        });
        self.relations = after;
        if !self.traces.last().is_some_and(|it| it.sampled) {
            self.held.extend(locks);
        }
    }
}

/// Runs what a statement does, and looks for its locks if they would be gone afterwards.
pub(super) async fn watched<T>(
    tracer: Option<&Tracer>,
    step: &Step,
    pid: i32,
    work: impl Future<Output = T>,
) -> (T, Option<Locks>) {
    match (tracer, step.script.mode()) {
        (Some(tracer), TxMode::None | TxMode::Batches) => {
            let (done, seen) = tracer.beside(pid, work).await;
            (done, Some(seen))
        }
        (_, TxMode::File) | (None, _) => (work.await, None),
    }
}

impl Executor<'_> {
    /// Lets a tracer follow from now on.
    pub(in crate::runner) fn traced_by(self, tracer: Tracer) -> Self {
        Self {
            tracer: Some(tracer),
            ..self
        }
    }

    /// What the statements of the last file did; empty without a tracer.
    pub(in crate::runner) fn take_trace(&mut self) -> Vec<StatementTrace> {
        self.tracer.as_mut().map(Tracer::take).unwrap_or_default()
    }

    /// Ends the tracing.
    pub(in crate::runner) async fn untraced(&mut self) {
        if let Some(tracer) = self.tracer.take() {
            tracer.close().await;
        }
    }

    /// Writes down what a statement did that ended well; `seen` are the locks that were seen
    /// meanwhile, if they could not be asked for afterwards.
    pub(super) async fn trace(
        &mut self,
        step: &Step,
        index: usize,
        statement: &Statement,
        took: Duration,
        seen: Option<Locks>,
    ) -> Result<(), Failure> {
        let Some(mut tracer) = self.tracer.take() else {
            return Ok(());
        };
        let sql = step.script.sql(statement);
        let trace = StatementTrace {
            number: u32::try_from(index + 1).unwrap_or(u32::MAX),
            line: statement.line,
            text: headline(sql),
            sha256: Sha256::of(sql.as_bytes()).to_string(),
            elapsed_ms: millis(took),
            locks: Vec::new(),
            sampled: seen.is_some(),
            rewritten: Vec::new(),
        };
        let looked = self.look_around(seen).await;
        let done = looked.map(|(locks, after)| tracer.add(trace, locks, after));
        self.tracer = Some(tracer);
        done
    }

    /// Runs a file in batches, which count as one statement.
    pub(super) async fn run_watched_batches(
        &mut self,
        step: &Step,
        script: &BatchScript,
        stop: &Stop,
    ) -> Ending {
        let pid = self.session.as_ref().map(|it| it.pid);
        let (Some(tracer), Some(pid)) = (self.tracer.take(), pid) else {
            return self.run_batches(step, script, stop).await;
        };
        let begun = Instant::now();
        let working = self.run_batches(step, script, stop);
        let (ending, seen) = tracer.beside(pid, working).await;
        self.tracer = Some(tracer);
        if let (Ending::Done, [statement]) = (&ending, step.script.statements()) {
            let traced = self.trace(step, 0, statement, begun.elapsed(), Some(seen));
            if let Err(failure) = traced.await {
                self.run.note(failure.to_string());
            }
        }
        ending
    }

    async fn look_around(
        &self,
        seen: Option<Locks>,
    ) -> Result<(Locks, BTreeMap<u32, Relation>), Failure> {
        let session = self
            .session()
            .map_err(|NoSession| Failure::from(NoSession))?;
        let client = &session.client;
        let failed = |error: tokio_postgres::Error| Failure {
            message: format!("the rehearsal cannot look at its locks: {error}"),
            ..Failure::from_error(&error)
        };
        // Also where they were looked for: the statement may have had a transaction of its own.
        let own = locks_of("pg_catalog.pg_backend_pid()");
        let rows = client.simple_query(&own).await.map_err(failed)?;
        let mut locks = seen.unwrap_or_default();
        add_locks(&mut locks, &rows);
        Ok((locks, relations(client).await.map_err(failed)?))
    }
}

fn add_locks(into: &mut Locks, rows: &[SimpleQueryMessage]) {
    for row in rows {
        let SimpleQueryMessage::Row(row) = row else {
            continue;
        };
        let oid = row.get(0).and_then(|it| it.parse().ok());
        if let (Some(oid), Some(mode)) = (oid, row.get(1).and_then(LockMode::parse)) {
            let strongest = into.entry(oid).or_insert(mode);
            *strongest = mode.max(*strongest);
        }
    }
}

/// By simple queries, which leave prepared statements of the file's own alone.
async fn relations(client: &Client) -> Result<BTreeMap<u32, Relation>, tokio_postgres::Error> {
    let rows = client.simple_query(RELATIONS).await?;
    let relation = |row: &SimpleQueryMessage| {
        let SimpleQueryMessage::Row(row) = row else {
            return None;
        };
        let relation = Relation {
            name: row.get(1)?.to_owned(),
            kind: row.get(2)?.chars().next()?,
            file: row.get(3)?.parse().ok()?,
        };
        Some((row.get(0)?.parse().ok()?, relation))
    };
    Ok(rows.iter().filter_map(relation).collect())
}
