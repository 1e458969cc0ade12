//! The beginning of a file in batches: what its table is cut by, where it ends, and whether it was
//! begun before.

use super::super::transaction::BEGIN;
use super::super::{Ending, Executor, milliseconds, set_role};
use super::Work;
use super::table::{Cut, Table};
use crate::runner::directives::When;
use crate::runner::history::{Beginning, LedgerError, NewBackfill, RowState};
use crate::runner::plan::Step;
use crate::runner::report::Failure;
use crate::runner::script::BatchScript;
use crate::runner::source::Sha256;
use crate::runner::stop::Stop;

impl Executor<'_> {
    /// Everything before the first batch; the file is then recorded as running.
    pub(super) async fn begin_batches<'s>(
        &mut self,
        step: &'s Step,
        script: &'s BatchScript,
        stop: &Stop,
    ) -> Result<Work<'s>, Ending> {
        let was_begun = match self.ledger.state_of(&step.key()).await {
            Ok(state) => state == Some(RowState::Begun),
            // As the plan had read it.
            Err(error) => {
                let failure = books(&error).in_file(step);
                return Err(match step.begun {
                    true => Ending::Begun(failure),
                    false => Ending::RolledBack(failure),
                });
            }
        };
        // Nothing was changed: where the file was is where it stays.
        let unchanged = |failure: Failure| match was_begun {
            true => Ending::Begun(failure.in_file(step)),
            false => Ending::RolledBack(failure.in_file(step)),
        };
        let work = self.look(step, script, stop).await.map_err(unchanged)?;
        let goes_on = was_begun && self.goes_on(&work).await.map_err(unchanged)?;
        if !goes_on {
            self.begin_anew(&work, stop).await.map_err(unchanged)?;
        }
        let recorded = match self.session() {
            Ok(session) => {
                let beginning = Beginning {
                    run: &self.run.id,
                    pid: session.pid,
                    xid: None,
                };
                let recorded = self.ledger.begin_file(step, beginning).await;
                recorded.map_err(|error| books(&error))
            }
            Err(gone) => Err(gone.into()),
        };
        let ready = match (recorded, goes_on) {
            (Ok(()), false) => self.assert_before(step, stop).await,
            (recorded, _) => recorded,
        };
        match (ready, was_begun) {
            (Ok(()), _) => Ok(work),
            (Err(failure), true) => Err(self.end_begun(step, failure.in_file(step)).await),
            (Err(failure), false) => Err(self.not_begun(step, failure.in_file(step)).await),
        }
    }

    /// Begins a transaction in which the file's role asks, for as long as the file may. It is rolled
    /// back: questions change nothing.
    pub(super) async fn begin_owned(&self, step: &Step) -> Result<(), Failure> {
        let settings = format!(
            "{BEGIN}; set local lock_timeout = {}; set local statement_timeout = {}; \
             set local idle_in_transaction_session_timeout = {}; {}",
            self.settings.lock_timeout(step),
            self.settings.statement_timeout(step),
            milliseconds(self.settings.idle_in_transaction_timeout),
            self.owned(step),
        );
        self.command(&settings).await
    }

    /// The rest of a transaction is the file's role's. A policy that hides rows is an error: they
    /// would be passed over without a word.
    pub(super) fn owned(&self, step: &Step) -> String {
        let role = set_role("local", self.settings.owner(step));
        format!("set local row_security = off; {role}")
    }

    async fn look<'s>(
        &mut self,
        step: &'s Step,
        script: &'s BatchScript,
        stop: &Stop,
    ) -> Result<Work<'s>, Failure> {
        let Some(statement) = step.script.statements().first() else {
            return Err(Failure::new("the file holds no statement"));
        };
        let in_line = |failure: Failure| Failure {
            line: Some(script.line),
            ..failure
        };
        self.begin_owned(step).await?;
        let table = Table::look(self, script, stop).await.map_err(in_line)?;
        self.command("rollback").await?;
        let cut = table
            .cut(script)
            .map_err(|text| in_line(Failure::new(format!("pgdrain:batch: {text}"))))?;
        Ok(Work {
            step,
            script,
            statement,
            sql: step.script.written(statement),
            rows: table.rows(),
            cut,
        })
    }

    /// Hands the file over to this run, if it is begun and is still the same.
    async fn goes_on(&mut self, work: &Work<'_>) -> Result<bool, Failure> {
        let fingerprint = fingerprint(work);
        let column = work.cut.column();
        let key = work.step.key();
        let known = self
            .ledger
            .go_on(&key, &self.run.id, fingerprint.as_bytes(), column)
            .await
            .map_err(|error| books(&error))?;
        match known {
            Some(true) => {
                let at = self.ledger.checkpoint(&key).await;
                let at = at.map_err(|error| books(&error))?.unwrap_or_default();
                self.run.note(format!("{}: goes on {at}", work.step.file));
                Ok(true)
            }
            None => Ok(false),
            Some(false) => Err(Failure {
                line: Some(work.script.line),
                ..Failure::new(
                    "pgdrain:batch: the statement, its table, its key or done were others when the \
                     file was begun",
                )
            }
            .with_hint("put them back, or take back what was done with `migrate down`")),
        }
    }

    /// Measures the table and records the file as one that begins.
    async fn begin_anew(&mut self, work: &Work<'_>, stop: &Stop) -> Result<(), Failure> {
        self.begin_owned(work.step).await?;
        let rows = self.ask(&work.end_query(), stop).await?;
        let end: Option<String> = rows.first().and_then(|row| row.get(0));
        let before = match &work.script.directive.done {
            Some(done) => Some(self.count_left(work, end.as_deref(), done, stop).await?),
            None => None,
        };
        self.command("rollback").await?;
        let fingerprint = fingerprint(work);
        let new = NewBackfill {
            fingerprint: fingerprint.as_bytes(),
            run: &self.run.id,
            column: work.cut.column(),
            end: end.as_deref(),
            before,
        };
        let begun = self.ledger.begin_backfill(&work.step.key(), new).await;
        begun.map_err(|error| books(&error))
    }

    /// Rows up to an end that are still to be done.
    pub(super) async fn count_left(
        &self,
        work: &Work<'_>,
        end: Option<&str>,
        done: &str,
        stop: &Stop,
    ) -> Result<i64, Failure> {
        let Some(end) = end else { return Ok(0) };
        let (source, range) = (&work.script.form.source, work.range(None, end));
        let sql = format!("select count(*) from {source} where {range} and ({done})");
        let rows = self.ask(&sql, stop).await.map_err(|failure| Failure {
            line: Some(work.script.line),
            ..failure
        })?;
        Ok(rows.first().map(|row| row.get(0)).unwrap_or_default())
    }

    async fn assert_before(&mut self, step: &Step, stop: &Stop) -> Result<(), Failure> {
        self.begin_owned(step).await?;
        self.assert(step, When::Pre, stop).await?;
        self.command("rollback").await
    }
}

/// What decides which rows are done and how: a file that is begun may change the rest.
fn fingerprint(work: &Work<'_>) -> Sha256 {
    let directive = &work.script.directive;
    let cut = match &work.cut {
        Cut::Key { column, ty } => format!("{column} {ty}"),
        Cut::Blocks { .. } => "ctid".to_owned(),
    };
    let done = directive.done.as_deref().unwrap_or_default();
    let all = [work.sql, &directive.table, &cut, done].join("\0");
    Sha256::of(all.as_bytes())
}

pub(super) fn books(error: &LedgerError) -> Failure {
    Failure::new(error.to_string())
}
