//! A restore in place from its first look to its last count.

use std::sync::Arc;

use tokio::time::Instant;

use super::alike::Alike;
use super::replaced::Replaced;
use super::swap::{Swap, outside};
use super::types::{InPlace, InPlaceRequest, LostRows};
use super::window::Broken;
use crate::runner::backup::{self, BackupError, Contents, Tools};
use crate::runner::connect::{Connector, Session};
use crate::runner::execute::millis;
use crate::runner::history::Ledger;
use crate::runner::options::Options;
use crate::runner::record::Run;
use crate::runner::shape::quote;
use crate::runner::stop::Stop;
use crate::runner::traffic::Traffic;
use crate::runner::types::RunState;

/// Lines of the schema that are named.
const LINES_MAX: usize = 50;

/// For how long a closing session is waited for.
const CLOSE: std::time::Duration = std::time::Duration::from_secs(5);

/// What cannot come along, and who is in the way for longer than a session.
const IN_THE_WAY: &str = "\
    select 'prepared transaction ' || gid from pg_catalog.pg_prepared_xacts \
    where database = pg_catalog.current_database() \
    union all select 'logical replication slot ' || slot_name::text from pg_catalog.pg_replication_slots \
    where database = pg_catalog.current_database() \
    union all select 'subscription ' || s.subname::text from pg_catalog.pg_subscription s \
    join pg_catalog.pg_database d on d.oid = s.subdbid where d.datname = pg_catalog.current_database() \
    union all select 'being a template' from pg_catalog.pg_database \
    where datname = pg_catalog.current_database() and datistemplate \
    order by 1";

/// Everything it works with.
pub(super) struct Course<T> {
    pub(super) traffic: Arc<T>,
    pub(super) connector: Arc<Connector>,
    pub(super) options: Options,
    pub(super) run: Arc<Run>,
    pub(super) request: InPlaceRequest,
}

/// The backup beside the database, ready to take its place.
pub(super) struct Ready {
    contents: Contents,
    pub(super) answer: InPlace,
    /// Keeps others from taking it for something that a crash has left.
    guard: Session,
    pub(super) swap: Swap,
}

impl<T: Traffic> Course<T> {
    /// Makes it. Whatever it ends with, the database is there under its name, and nothing else is left but what
    /// the answer names.
    pub(super) async fn go(self) -> Result<InPlace, BackupError> {
        let begun = Instant::now();
        let stop = self.run.stop();
        self.run
            .enter(RunState::Preflight, "looking whether it can be replaced");
        let ledger = self.look(&stop).await?;
        let ready = self.beside(&stop).await;
        let mut ready = match ready {
            Ok(ready) => ready,
            Err(error) => {
                ledger.close().await;
                return Err(error);
            }
        };
        let went = match self.request.confirm {
            None => Ok(false),
            Some(_) => self.replace(ledger, &mut ready, &stop).await.map(|()| true),
        };
        let Ready {
            contents,
            mut answer,
            guard,
            swap,
        } = ready;
        answer.done = matches!(went, Ok(true));
        match answer.done {
            true => {
                guard.close(CLOSE).await;
                // Nobody writes there any more: this is what is lost, to the row.
                let kept = swap.kept.clone();
                self.count(&kept, &contents, &mut answer).await;
                answer.replaced = Some(kept);
            }
            // What may have the name by now is not dropped.
            false if matches!(&went, Err(Broken::Unknown(_))) => guard.close(CLOSE).await,
            false => discard(guard, &swap.fresh).await,
        }
        went.map_err(Broken::into_error)?;
        answer.elapsed_ms = millis(begun.elapsed());
        Ok(answer)
    }

    /// Whether it can be done at all. Gives the session that holds the lock of migrations.
    async fn look(&self, stop: &Stop) -> Result<Ledger, BackupError> {
        let database = &self.run.database;
        let ledger = Ledger::open(&self.connector, database).await;
        let ledger = ledger.map_err(|error| BackupError::Refused(error.to_string()))?;
        let looked = async {
            let deadline = Instant::now() + self.options.lock_wait;
            let locked = ledger.lock(deadline, Some(stop)).await;
            locked.map_err(|error| BackupError::Refused(error.to_string()))?;
            let rows = ledger.session().client.query(IN_THE_WAY, &[]).await;
            let rows = rows.map_err(BackupError::server("cannot look at the database"))?;
            let found: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
            match found.is_empty() {
                true => Ok(()),
                false => Err(BackupError::Refused(format!(
                    "what would not come along is in the way: {}",
                    found.join(", ")
                ))),
            }
        };
        match looked.await {
            Ok(()) => Ok(ledger),
            Err(error) => {
                ledger.close().await;
                Err(error)
            }
        }
    }

    fn tools<'a>(&'a self, stop: &'a Stop) -> Tools<'a> {
        Tools {
            connector: &self.connector,
            settings: &self.options.backup,
            database: &self.run.database,
            stop,
        }
    }

    /// Restores it beside, looks at it, and says what it would cost. Traffic goes on.
    async fn beside(&self, stop: &Stop) -> Result<Ready, BackupError> {
        let (database, run) = (&self.run.database, &self.request.run);
        let tools = self.tools(stop);
        let text = format!("restoring the backup of run {run} beside the database");
        self.run.enter(RunState::Backup, text);
        backup::drop_left(&self.connector, database).await?;
        let beside = backup::beside(&tools, run, &self.run.id).await?;
        let fresh = beside.scratch.name.clone();
        let guard = match outside(&self.connector, database, &fresh).await {
            Ok(guard) => guard,
            Err(error) => {
                // It is dropped by the next look for what is left, if not by us.
                let _ = beside.scratch.drop().await;
                return Err(error);
            }
        };
        let (tables, rows) = beside.contents.counts();
        let mut answer = InPlace {
            run: run.clone(),
            database: database.clone(),
            done: false,
            replaced: None,
            snapshot_at: beside.manifest.snapshot_at,
            tables,
            rows,
            lost: Vec::new(),
            lost_schema: Vec::new(),
            held_ms: None,
            elapsed_ms: 0,
            notes: Vec::new(),
        };
        if beside.manifest.verified.fingerprint.is_none() {
            let text = "the backup was not compared with the database when it was made (migrate.backup.verify)";
            answer.notes.push(text.to_owned());
        }
        beside.scratch.keep().await;
        let made = async {
            self.count(database, &beside.contents, &mut answer).await;
            self.analyze(&fresh, &mut answer).await;
            self.swap(&guard, &fresh).await
        };
        let made = tokio::select! {
            biased;
            reason = stop.fired() => Err(BackupError::Stopped(reason)),
            made = made => made,
        };
        match made {
            Ok(swap) => Ok(Ready {
                contents: beside.contents,
                answer,
                guard,
                swap,
            }),
            Err(error) => {
                discard(guard, &fresh).await;
                Err(error)
            }
        }
    }

    /// Compares a database with what the backup holds.
    async fn count(&self, database: &str, backup: &Contents, answer: &mut InPlace) {
        let counted = async {
            let session = self
                .connector
                .connect_beside(&self.run.database, database)
                .await?;
            let there = Contents::of_restored(&session.client).await;
            session.close(CLOSE).await;
            there.map_err(BackupError::server("cannot count its rows"))
        };
        match counted.await {
            Ok(there) => {
                answer.lost = there.others(backup);
                let (mut lines, all) = there.lines_not_in(backup, LINES_MAX);
                if all > lines.len() {
                    lines.push(format!("and {} more", all - lines.len()));
                }
                answer.lost_schema = lines;
            }
            Err(error) => answer
                .notes
                .push(format!("what is lost was not counted: {error}")),
        }
    }

    /// Plans of its first queries would be those of an empty database.
    async fn analyze(&self, fresh: &str, answer: &mut InPlace) {
        let analyzed = async {
            let session = self
                .connector
                .connect_beside(&self.run.database, fresh)
                .await?;
            let done = session.client.batch_execute("analyze").await;
            session.close(CLOSE).await;
            done.map_err(BackupError::server("ANALYZE failed"))
        };
        if let Err(error) = analyzed.await {
            answer
                .notes
                .push(format!("the restored database has no statistics: {error}"));
        }
    }

    /// What the swap needs to know, as it is before any fence is around the database.
    async fn swap(&self, guard: &Session, fresh: &str) -> Result<Swap, BackupError> {
        let name = &self.run.database;
        let asked = async {
            let alike = Alike::of(&guard.client, name).await?;
            let sql = "select (select oid from pg_catalog.pg_database where datname = $1), \
                              (select oid from pg_catalog.pg_database where datname = $2)";
            let row = guard.client.query_one(sql, &[name, &fresh]).await?;
            Ok((alike, row.get(0), row.get(1)))
        };
        let asked: (Option<Alike>, Option<u32>, Option<u32>) = asked
            .await
            .map_err(BackupError::server("cannot look at the databases"))?;
        let (Some(alike), Some(old), Some(new)) = asked else {
            let text = "one of the two databases is gone".to_owned();
            return Err(BackupError::Refused(text));
        };
        let replaced = Replaced {
            database: name.clone(),
            at: jiff::Timestamp::now(),
            run: self.request.run.clone(),
            by: self.run.by.clone(),
        };
        Ok(Swap {
            connector: Arc::clone(&self.connector),
            name: name.clone(),
            old,
            new,
            fresh: fresh.to_owned(),
            kept: Replaced::name(&self.run.id),
            comment: replaced.comment(),
            alike,
        })
    }
}

/// Drops what was restored and is not wanted. What cannot be dropped now is by the next that looks.
async fn discard(guard: Session, fresh: &str) {
    let sql = format!("drop database if exists {} with (force)", quote(fresh));
    if let Err(error) = guard.client.batch_execute(&sql).await {
        tracing::warn!(database = fresh, %error, "a restored database is left");
    }
    guard.close(CLOSE).await;
}

impl LostRows {
    pub(in crate::runner) fn new(table: &str, rows: Option<i64>, backup: Option<i64>) -> Self {
        Self {
            table: table.to_owned(),
            rows,
            backup,
        }
    }
}
