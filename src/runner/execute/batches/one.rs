//! One batch: a transaction that does the work and writes that it is done.

use std::time::Duration;

use tokio_postgres::types::ToSql;

use super::super::transaction::{BEGIN, OURSELVES, patiently};
use super::super::{Executor, milliseconds};
use super::table::Cut;
use super::{Trouble, Work};
use crate::runner::history::{CHECKPOINT, CLAIM, Checkpoint};
use crate::runner::report::{Failure, position};
use crate::runner::stop::Stop;

/// How long the statement of a batch may run at most, unless its file says otherwise: a batch is
/// short, or it is none.
const STATEMENT_MAX: Duration = Duration::from_secs(30);

/// The rows of a batch.
struct Range {
    condition: String,
    /// Where it ends.
    to: String,
    /// Rows that it spans, or blocks.
    scanned: i64,
}

impl Executor<'_> {
    /// Does the next batch and says how far the file is then; `None` if nothing is left. On trouble
    /// the transaction is still open.
    pub(super) async fn batch(
        &mut self,
        work: &Work<'_>,
        stop: &Stop,
    ) -> Result<Option<Checkpoint>, Trouble> {
        let trouble = |failure: Failure| Trouble::of(failure.in_file(work.step), stop);
        let begin = format!("{BEGIN}; {}", self.short(work));
        self.command(&begin).await.map_err(trouble)?;
        let at = self.claim(work, stop).await?;
        if at.is_at_end() {
            self.command("rollback").await.map_err(trouble)?;
            return Ok(None);
        }
        let owned = self.owned(work.step);
        self.command(&owned).await.map_err(trouble)?;
        let range = self.next_range(work, &at, stop).await.map_err(trouble)?;
        let rows = self.change(work, &range, stop).await?;
        let ourselves = format!("{OURSELVES}; {}", self.short(work));
        self.command(&ourselves).await.map_err(trouble)?;
        let at = self.write_checkpoint(work, at, range, rows, stop).await?;
        self.send_commit(stop).await.map_err(trouble)?;
        Ok(Some(at))
    }

    /// The timeouts of a batch.
    fn short(&self, work: &Work<'_>) -> String {
        let own = work.step.script.directives().statement_timeout;
        // Zero is without end.
        let run = Some(self.settings.statement_timeout).filter(|it| !it.is_zero());
        let usual = run.map_or(STATEMENT_MAX, |it| it.min(STATEMENT_MAX));
        format!(
            "set local lock_timeout = {}; set local statement_timeout = {}; \
             set local idle_in_transaction_session_timeout = {}",
            self.settings.lock_timeout(work.step),
            milliseconds(own.unwrap_or(usual)),
            milliseconds(self.settings.idle_in_transaction_timeout),
        )
    }

    /// Locks the file's row and reads how far it is.
    async fn claim(&self, work: &Work<'_>, stop: &Stop) -> Result<Checkpoint, Trouble> {
        let trouble = |failure: Failure| Trouble::of(failure.in_file(work.step), stop);
        let session = self.session().map_err(|gone| trouble(gone.into()))?;
        let source = work.step.format.as_str();
        let version = work.step.version.to_string();
        let parameters: [&(dyn ToSql + Sync); 3] = [&source, &version, &self.run.id];
        let row = session.client.query_opt(CLAIM, &parameters).await;
        match row.map_err(|error| trouble(Failure::from_error(&error)))? {
            Some(row) => Ok(Checkpoint::read(&row)),
            None => {
                let failure = Failure::new("another run goes on with this file");
                Err(Trouble::Final(failure.in_file(work.step)))
            }
        }
    }

    /// The range behind the last batch.
    async fn next_range(
        &self,
        work: &Work<'_>,
        at: &Checkpoint,
        stop: &Stop,
    ) -> Result<Range, Failure> {
        let end = at.end.clone().unwrap_or_default();
        let last = at.last.as_deref();
        let (to, scanned) = match &work.cut {
            Cut::Key { .. } => {
                let size = i64::from(work.script.directive.size);
                let (key, source) = (work.key(), &work.script.form.source);
                let sql = format!(
                    "select {key}::pg_catalog.text from {source} where {} order by {key} \
                     offset {} limit 1",
                    work.range(last, &end),
                    size - 1
                );
                let rows = self.ask(&sql, stop).await?;
                let to = rows.first().map(|row| row.get(0));
                (to.unwrap_or(end), size)
            }
            Cut::Blocks { each } => {
                let number = |text: &str| text.parse::<i64>().unwrap_or_default();
                let from = last.map(number).unwrap_or_default();
                let to = from.saturating_add(*each).min(number(&end));
                (to.to_string(), to - from)
            }
        };
        let range = work.range(last, &to);
        let condition = match &work.script.directive.done {
            Some(done) => format!("{range} and ({done})"),
            None => range,
        };
        Ok(Range {
            condition,
            to,
            scanned,
        })
    }

    /// Runs the file's statement over a range. A run that has to stop lets it end, if that does not
    /// take too long.
    async fn change(
        &mut self,
        work: &Work<'_>,
        range: &Range,
        stop: &Stop,
    ) -> Result<u64, Trouble> {
        let sql = work.script.form.with(work.sql, &range.condition);
        let session = self
            .session()
            .map_err(|gone| Trouble::Lost(Failure::from(gone).in_file(work.step)))?;
        let changed = session.client.execute(&sql, &[]);
        let wait = self.settings.cancel_wait;
        match patiently(session, changed, wait, stop).await {
            Some(Ok(rows)) => Ok(rows),
            Some(Err(error)) => Err(Trouble::of(self.failure(work, range, &error), stop)),
            None => {
                self.abandon().await;
                let failure = Failure::new("the server did not answer");
                Err(Trouble::Final(failure.in_file(work.step)))
            }
        }
    }

    fn failure(&self, work: &Work<'_>, range: &Range, error: &tokio_postgres::Error) -> Failure {
        let (step, statement) = (work.step, work.statement);
        let place = position(error).map(|position| {
            let form = &work.script.form;
            let position = form.position(work.sql, &range.condition, position);
            step.script.locate(statement, position)
        });
        Failure {
            line: Some(place.map_or(statement.line, |(line, _)| line)),
            column: place.map(|(_, column)| column),
            ..Failure::from_error(error).at_statement(step, 0, statement)
        }
    }

    async fn write_checkpoint(
        &self,
        work: &Work<'_>,
        at: Checkpoint,
        range: Range,
        rows: u64,
        stop: &Stop,
    ) -> Result<Checkpoint, Trouble> {
        let trouble = |failure: Failure| Trouble::of(failure.in_file(work.step), stop);
        let session = self.session().map_err(|gone| trouble(gone.into()))?;
        let rows = i64::try_from(rows).unwrap_or(i64::MAX);
        let source = work.step.format.as_str();
        let version = work.step.version.to_string();
        let parameters: [&(dyn ToSql + Sync); 6] = [
            &source,
            &version,
            &self.run.id,
            &range.to,
            &range.scanned,
            &rows,
        ];
        let written = session.client.execute(CHECKPOINT, &parameters).await;
        match written.map_err(|error| trouble(Failure::from_error(&error)))? {
            1 => Ok(Checkpoint {
                last: Some(range.to),
                batches: at.batches + 1,
                scanned: at.scanned + range.scanned,
                rows: at.rows + rows,
                ..at
            }),
            _ => {
                let failure = Failure::new("the statement ended the batch's transaction");
                Err(Trouble::Final(failure.in_file(work.step)))
            }
        }
    }
}
