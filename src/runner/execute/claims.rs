//! What a file claims of itself: assertions before and after it, and how many rows it adds or takes.

use super::{Executor, NoSession};
use crate::runner::directives::{Assertion, When};
use crate::runner::plan::Step;
use crate::runner::report::Failure;
use crate::runner::stop::Stop;
use tokio_postgres::Row;
use tokio_postgres::types::Type;

/// Rows of the tables that a file makes a claim about, counted before it; `None` where there is no
/// such table.
pub(super) struct Counted(Vec<Option<i64>>);

impl Executor<'_> {
    /// Everything that is looked at before the first statement.
    pub(super) async fn claims_before(&self, step: &Step, stop: &Stop) -> Result<Counted, Failure> {
        // Not again of a file that goes on.
        if step.from == 0 {
            self.assert(step, When::Pre, stop).await?;
        }
        match self.settings.validate.counts_declared() {
            true => self.count(step, stop).await.map(Counted),
            false => Ok(Counted(Vec::new())),
        }
    }

    /// Everything that is looked at after the last statement, before anything is committed.
    pub(super) async fn claims_after(
        &self,
        step: &Step,
        before: &Counted,
        stop: &Stop,
    ) -> Result<(), Failure> {
        self.assert(step, When::Post, stop).await?;
        if !self.settings.validate.counts_declared() {
            return Ok(());
        }
        let after = self.count(step, stop).await?;
        let changes = before.0.iter().zip(after).map(|(then, now)| {
            now.unwrap_or_default()
                .saturating_sub(then.unwrap_or_default())
        });
        for (claim, change) in step.script.directives().rows.iter().zip(changes) {
            if change != claim.value.change {
                let failure = Failure::new(format!(
                    "pgdrain:rows: {} changed by {change:+} rows, declared was {:+}",
                    claim.value.table, claim.value.change
                ));
                return Err(in_line(failure, step, claim.line));
            }
        }
        Ok(())
    }

    pub(super) async fn assert(&self, step: &Step, when: When, stop: &Stop) -> Result<(), Failure> {
        let all = &step.script.directives().asserts;
        for assertion in all.iter().filter(|it| it.when == when) {
            let failure = match self.ask(&assertion.sql, stop).await {
                Ok(rows) => match untrue(&rows) {
                    Some(why) => Failure::new(why),
                    None => continue,
                },
                Err(failure) => failure,
            };
            let failure = Failure {
                message: format!("{}: {}", name(assertion), failure.message),
                ..failure
            };
            return Err(in_line(failure, step, assertion.line));
        }
        Ok(())
    }

    async fn count(&self, step: &Step, stop: &Stop) -> Result<Vec<Option<i64>>, Failure> {
        let mut counted = Vec::new();
        for claim in &step.script.directives().rows {
            let of_table = |failure: Failure| in_line(failure, step, claim.line);
            let table = &claim.value.table;
            let there = format!(
                "select pg_catalog.to_regclass('{}') is not null",
                table.replace('\'', "''")
            );
            let rows = self.ask(&there, stop).await.map_err(of_table)?;
            if !rows.first().is_some_and(|row| row.get::<_, bool>(0)) {
                counted.push(None);
                continue;
            }
            let sql = format!("select count(*) from {table}");
            let rows = self.ask(&sql, stop).await.map_err(of_table)?;
            counted.push(rows.first().map(|row| row.get(0)));
        }
        Ok(counted)
    }

    /// Asks a question in the session of the file, and gives up when told to stop.
    pub(super) async fn ask(&self, sql: &str, stop: &Stop) -> Result<Vec<Row>, Failure> {
        let session = self
            .session()
            .map_err(|NoSession| Failure::from(NoSession))?;
        let mut asked = std::pin::pin!(session.client.query(sql, &[]));
        let reason = tokio::select! {
            rows = &mut asked => return rows.map_err(|error| Failure::from_error(&error)),
            reason = stop.fired() => reason,
        };
        session.cancel(self.settings.cancel_wait).await;
        // Whatever it answers now: the run stops.
        let _ = tokio::time::timeout(self.settings.cancel_wait, asked).await;
        Err(Failure::new(reason.to_string()))
    }
}

fn name(assertion: &Assertion) -> &'static str {
    match assertion.when {
        When::Pre => "pgdrain:assert pre",
        When::Post => "pgdrain:assert post",
    }
}

/// Why an answer is not one row of one column that is true; `None` if it is.
fn untrue(rows: &[Row]) -> Option<String> {
    let [row] = rows else {
        return Some(format!("one row was expected, {} came", rows.len()));
    };
    let [column] = row.columns() else {
        let came = row.columns().len();
        return Some(format!("one column was expected, {came} came"));
    };
    if *column.type_() != Type::BOOL {
        return Some(format!("a boolean was expected, a {} came", column.type_()));
    }
    match row.get::<_, Option<bool>>(0) {
        Some(true) => None,
        Some(false) => Some("it is false".to_owned()),
        None => Some("it is null, which is not true".to_owned()),
    }
}

fn in_line(failure: Failure, step: &Step, line: u32) -> Failure {
    Failure {
        line: Some(line),
        ..failure.in_file(step)
    }
}
