//! A file that cannot run in a transaction: statement by statement, recorded as running until the
//! last one has ended, and as dirty if one fails.

use tokio::time::Instant;

use super::single::Uncounted;
use super::{Answer, Ending, Executor, set_role};
use crate::runner::class::Class;
use crate::runner::history::{Beginning, LedgerError};
use crate::runner::plan::Step;
use crate::runner::report::Failure;
use crate::runner::settle::{Settled, settle};
use crate::runner::split::Statement;
use crate::runner::stop::Stop;

impl Executor<'_> {
    /// Runs a file statement by statement.
    pub(super) async fn run_statements(&mut self, step: &Step, stop: &Stop) -> Ending {
        if let Err(failure) = self.begin_statements(step).await {
            return self.not_begun(step, failure.in_file(step)).await;
        }
        let counted = match self.claims_before(step, stop).await {
            Ok(counted) => counted,
            Err(failure) => return self.not_begun(step, failure).await,
        };
        let sight = match self.sight_before(step, stop).await {
            Ok(sight) => sight,
            Err(failure) => return self.not_begun(step, failure).await,
        };
        let statements = step.script.statements().iter().enumerate();
        for (index, statement) in statements.skip(step.from) {
            let stopped = |reason| Failure::new(format!("{reason}, before this statement"));
            if let Some(reason) = stop.now() {
                let failure = stopped(reason).at_statement(step, index, statement);
                return match index - step.from {
                    0 => self.not_begun(step, failure).await,
                    _ => self.end_dirty(step, failure).await,
                };
            }
            let answer = match self.statement_counted(step, index, statement, stop).await {
                Ok(answer) => answer,
                Err(Uncounted(failure)) => return Ending::Unknown(failure),
            };
            let failure = match answer {
                Answer::Ok => continue,
                Answer::Failed(failure) => failure,
                Answer::Stopped { reason, completed } => {
                    let failure = match completed {
                        true => Failure::new(format!("{reason}, after this statement")),
                        false => Failure::new(reason.to_string()),
                    };
                    failure.at_statement(step, index, statement)
                }
            };
            return self.end_dirty(step, failure).await;
        }
        let kept = async {
            self.claims_after(step, &counted, stop).await?;
            self.validate(step, &sight, stop).await
        };
        match kept.await {
            Ok(()) => self.end_well(step).await,
            Err(failure) => self.end_dirty(step, failure).await,
        }
    }

    async fn begin_statements(&mut self, step: &Step) -> Result<(), Failure> {
        let settings = format!(
            "set lock_timeout = {}; set statement_timeout = {}; {}",
            self.settings.lock_timeout(step),
            self.settings.statement_timeout(step),
            set_role("", self.settings.owner(step)),
        );
        self.command(&settings).await?;
        // What the part that is done had set for its session holds for the rest.
        for statement in step.script.statements().iter().take(step.from) {
            if statement.class == Class::Session {
                self.command(step.script.sql(statement)).await?;
            }
        }
        let beginning = Beginning {
            run: &self.run.id,
            pid: self.session()?.pid,
            xid: None,
        };
        let recorded = self.ledger.begin_file(step, beginning).await;
        recorded.map_err(|error| Failure::new(error.to_string()))
    }

    /// Runs a statement; a CONCURRENTLY one without `lock_timeout`, which would also end its wait
    /// for unrelated old snapshots and leave an invalid index. A file that sets the timeout itself
    /// is left alone.
    pub(super) async fn statement_alone(
        &mut self,
        step: &Step,
        index: usize,
        statement: &Statement,
        stop: &Stop,
    ) -> Answer {
        let sets_itself = step.script.directives().lock_timeout.is_some()
            || step
                .script
                .statements()
                .iter()
                .any(|it| it.class == Class::Session);
        if statement.class != Class::ConcurrentAlone || sets_itself {
            return self.statement(step, index, statement, stop).await;
        }
        if let Err(failure) = self.command("set lock_timeout = 0").await {
            return Answer::Failed(failure.at_statement(step, index, statement));
        }
        let answer = self.statement(step, index, statement, stop).await;
        let back = format!("set lock_timeout = {}", self.settings.lock_timeout(step));
        match (answer, self.command(&back).await) {
            (Answer::Ok, Err(failure)) => {
                Answer::Failed(failure.at_statement(step, index, statement))
            }
            (answer, _) => answer,
        }
    }

    /// Records progress, or the end, with a ledger that may have to be brought back to life: the
    /// statement has ended, and that must not be forgotten.
    pub(super) async fn record(
        &mut self,
        step: &Step,
        done: Option<usize>,
    ) -> Result<(), LedgerError> {
        let deadline = Instant::now() + self.settings.settle_wait;
        let tool = self.settings.told(step);
        loop {
            let recorded = match done {
                Some(done) => self.ledger.statements_done(step, done).await,
                None => {
                    self.ledger
                        .finish(&step.key(), step.direction(), &self.run.id, &tool)
                        .await
                }
            };
            match recorded {
                Err(LedgerError::Query(error)) if error.as_db_error().is_none() => {
                    self.ledger.revive(deadline).await?;
                }
                Ok(()) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    async fn end_well(&mut self, step: &Step) -> Ending {
        let deadline = Instant::now() + self.settings.settle_wait;
        if let Err(error) = self.ledger.revive(deadline).await {
            let failure = Failure::new(format!("ended well, but cannot be recorded: {error}"));
            return Ending::Unknown(failure.in_file(step));
        }
        match self.invalid_indexes().await {
            Ok(invalid) => {
                if let Some(name) = invalid.iter().find(|it| mentions(step.script.text(), it)) {
                    let failure = Failure::new(format!(
                        "index {name} is invalid although every statement ended well: IF NOT \
                         EXISTS passes over what an earlier failure left"
                    ));
                    return self.end_dirty(step, failure.in_file(step)).await;
                }
            }
            Err(error) => {
                let failure = Failure::from_error(&error).in_file(step);
                return self.end_dirty(step, failure).await;
            }
        }
        match self.record(step, None).await {
            Ok(()) => Ending::Done,
            Err(error) => {
                let failure = Failure::new(format!("ended well, but cannot be recorded: {error}"));
                Ending::Unknown(failure.in_file(step))
            }
        }
    }

    /// No statement was sent: nothing of the file is in the database.
    pub(super) async fn not_begun(&mut self, step: &Step, failure: Failure) -> Ending {
        self.session = None;
        // Absent when the beginning itself could not be recorded.
        let recorded = self
            .ledger
            .rolled_back(&step.key(), step.direction(), &failure)
            .await;
        if !matches!(recorded, Err(LedgerError::Changed(_))) {
            self.recorded(recorded);
        }
        match step.from {
            0 => Ending::RolledBack(failure),
            // What was done before still is.
            _ => Ending::Begun(failure),
        }
    }

    /// A statement failed, or its answer was lost: waits until the server has stopped, and says
    /// where things stand.
    async fn end_dirty(&mut self, step: &Step, failure: Failure) -> Ending {
        self.session = None;
        let deadline = Instant::now() + self.settings.settle_wait;
        match settle(&mut self.ledger, &step.key(), deadline).await {
            Settled::StoppedAfter { .. } => {
                let failure = match self.invalid_indexes().await {
                    Ok(invalid) => failure.with_hint(advice(&invalid)),
                    Err(_) => failure.with_hint(advice(&[])),
                };
                let recorded = self.ledger.dirty(&step.key(), &failure).await;
                self.recorded(recorded);
                Ending::Dirty(failure)
            }
            Settled::Undecided(why) => {
                Ending::Unknown(failure.with_hint(format!("how it ended is not known: {why}")))
            }
            Settled::RolledBack => {
                let (key, direction) = (step.key(), step.direction());
                let recorded = self.ledger.rolled_back(&key, direction, &failure).await;
                self.recorded(recorded);
                Ending::RolledBack(failure)
            }
            // Not answers about a file without a transaction, unless somebody changed the row.
            Settled::Recorded(_) | Settled::CommittedUnrecorded | Settled::Begun => {
                Ending::Unknown(failure.with_hint("the history was changed by somebody else"))
            }
        }
    }

    async fn invalid_indexes(&self) -> Result<Vec<String>, tokio_postgres::Error> {
        let sql = "select c.relname::text from pg_index i join pg_class c on c.oid = i.indexrelid \
                   where not i.indisvalid and c.relkind = 'i' order by 1 limit 20";
        let rows = self.ledger.session().client.query(sql, &[]).await?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }
}

/// Whether a script names an index: as a word in whatever case, or quoted.
fn mentions(script: &str, index: &str) -> bool {
    script.contains(&format!("\"{index}\""))
        || script
            .split(|it: char| !(it.is_alphanumeric() || it == '_' || it == '$'))
            .any(|word| word.to_lowercase() == index)
}

fn advice(invalid: &[String]) -> String {
    let mut text = "what had ended before stays in the database".to_owned();
    if !invalid.is_empty() {
        text.push_str("; invalid indexes there: ");
        text.push_str(&invalid.join(", "));
    }
    text.push_str("; `pgdrain migrate repair` looks at it, and says how to go on");
    text
}
