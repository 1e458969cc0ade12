//! One statement of a file without a transaction.
//!
//! As far as the server allows, it runs in a transaction of its own that also writes that it is done: no
//! answer that is lost, and nothing that is killed, leaves in doubt whether it happened. What the server
//! refuses there (25001: `CREATE INDEX CONCURRENTLY`; 2D000: a procedure that commits by itself) is
//! sent as it is, and counted afterwards.

use tokio::time::Instant;
use tokio_postgres::types::ToSql;

use super::retry::{Tries, may_pass, verb};
use super::transaction::BEGIN;
use super::{Answer, Executor, milliseconds};
use crate::runner::class::Class;
use crate::runner::plan::Step;
use crate::runner::report::Failure;
use crate::runner::script::headline;
use crate::runner::split::Statement;
use crate::runner::stop::Stop;

/// As `OURSELVES` in a file's transaction, but only up to the end of this one: the role and the search
/// path are the file's again then. A file that changes the session's user is not run like this.
const FOR_NOW: &str = "set local role none; set local search_path = pg_catalog, pg_temp; \
                       set local standard_conforming_strings = on";

/// Writes that a statement is done, in its own transaction: source, version, run, statement.
const COUNT: &str = "update pgdrain.migration set statements_done = $4, alone = null \
                     where source = $1 and version = $2 and run_id = $3::text::uuid \
                       and state = 'running'";

/// The statement ended well, and that could not be written down.
pub(super) struct Uncounted(pub(super) Failure);

/// How a statement went in a transaction of its own.
enum Own {
    Ended(Answer),
    /// The server does not take it there; nothing happened.
    Refused,
}

impl Executor<'_> {
    /// Runs a statement and counts it.
    pub(super) async fn statement_counted(
        &mut self,
        step: &Step,
        index: usize,
        statement: &Statement,
        stop: &Stop,
    ) -> Result<Answer, Uncounted> {
        match statement.class {
            Class::Ordinary | Class::Concurrent if stands_alone(step, statement) => {
                match self.in_own_transaction(step, index, statement, stop).await {
                    Own::Ended(answer) => return Ok(answer),
                    Own::Refused => {}
                }
            }
            Class::Ordinary
            | Class::Concurrent
            | Class::Session
            | Class::ConcurrentAlone
            | Class::Alone
            | Class::Begin
            | Class::Commit
            | Class::TransactionControl
            | Class::ClientCopy => {}
        }
        if statement.class != Class::Session
            && let Err(failure) = self.mark_alone(step, index).await
        {
            return Ok(Answer::Failed(failure.at_statement(step, index, statement)));
        }
        let answer = self.as_it_is(step, index, statement, stop).await;
        let ended = matches!(
            answer,
            Answer::Ok
                | Answer::Stopped {
                    completed: true,
                    ..
                }
        );
        if ended && let Err(error) = self.record(step, Some(index + 1)).await {
            let failure = Failure::new(format!("ended well, but cannot be recorded: {error}"));
            return Err(Uncounted(failure.at_statement(step, index, statement)));
        }
        Ok(answer)
    }

    /// Writes down that a statement is sent bare, with a ledger that may have to be brought back to life.
    async fn mark_alone(&mut self, step: &Step, index: usize) -> Result<(), Failure> {
        let deadline = Instant::now() + self.settings.settle_wait;
        let marked = async {
            self.ledger.revive(deadline).await?;
            self.ledger.sends_alone(step, index + 1).await
        };
        let marked = marked.await;
        marked.map_err(|error| Failure::new(format!("it was not sent: {error}")))
    }

    async fn in_own_transaction(
        &mut self,
        step: &Step,
        index: usize,
        statement: &Statement,
        stop: &Stop,
    ) -> Own {
        let at_statement = |failure: Failure| failure.at_statement(step, index, statement);
        let idle = milliseconds(self.settings.idle_in_transaction_timeout);
        let begin = format!("{BEGIN}; set local idle_in_transaction_session_timeout = {idle}");
        let mut tries = Tries::begin();
        loop {
            if let Err(failure) = self.command(&begin).await {
                return Own::Ended(Answer::Failed(at_statement(failure)));
            }
            let answer = self.statement(step, index, statement, stop).await;
            let failure = match answer {
                Answer::Ok
                | Answer::Stopped {
                    completed: true, ..
                } => {
                    return Own::Ended(match self.commit_counted(step, index, stop).await {
                        Ok(()) => answer,
                        Err(failure) => Answer::Failed(at_statement(failure)),
                    });
                }
                Answer::Failed(failure) => failure,
                Answer::Stopped {
                    completed: false, ..
                } => {
                    self.undo().await;
                    return Own::Ended(answer);
                }
            };
            let undone = self.undo().await;
            if undone && matches!(failure.sqlstate.as_deref(), Some("25001" | "2D000")) {
                return Own::Refused;
            }
            if !undone || !may_pass(&failure) {
                return Own::Ended(Answer::Failed(failure));
            }
            if let Err(answer) = self.pause_before_try(step, &mut tries, failure, stop).await {
                return Own::Ended(answer);
            }
        }
    }

    /// Writes that a statement is done, and commits both.
    async fn commit_counted(
        &mut self,
        step: &Step,
        index: usize,
        stop: &Stop,
    ) -> Result<(), Failure> {
        self.command(FOR_NOW).await?;
        let (source, version) = (step.format.as_str(), step.version.to_string());
        let done = i32::try_from(index + 1).unwrap_or(i32::MAX);
        let parameters: [&(dyn ToSql + Sync); 4] = [&source, &version, &self.run.id, &done];
        match self.session()?.client.execute(COUNT, &parameters).await {
            Ok(1) => {}
            Ok(_) => return Err(Failure::new("the history was changed by somebody else")),
            Err(error) => return Err(Failure::from_error(&error)),
        }
        self.send_commit(stop).await.map_err(|failure| Failure {
            message: format!("at COMMIT: {}", failure.message),
            ..failure
        })
    }

    /// Rolls back; false if the connection is of no more use.
    async fn undo(&self) -> bool {
        let undone = tokio::time::timeout(self.settings.cancel_wait, self.command("rollback"));
        matches!(undone.await, Ok(Ok(())))
    }

    /// Sends a statement as it is, again if it meets a lock and can be said not to have happened.
    async fn as_it_is(
        &mut self,
        step: &Step,
        index: usize,
        statement: &Statement,
        stop: &Stop,
    ) -> Answer {
        let mut tries = Tries::begin();
        // Nothing of it is there before the first try.
        let mut cleared = Cleared::Yes;
        loop {
            let failure = match cleared {
                Cleared::Yes => match self.statement_alone(step, index, statement, stop).await {
                    Answer::Failed(failure) if may_pass(&failure) => failure,
                    answer @ (Answer::Ok | Answer::Failed(_) | Answer::Stopped { .. }) => {
                        return answer;
                    }
                },
                Cleared::NotYet(failure) => failure,
            };
            cleared = match self.clear_remains(step, statement, stop).await {
                Ok(true) => Cleared::Yes,
                // Who was in the way of the one is in the way of the other.
                Err(why) if may_pass(&why) => Cleared::NotYet(failure.clone()),
                Ok(false) => return Answer::Failed(failure),
                Err(why) => {
                    let hint = format!("what it left could not be cleared away: {}", why.message);
                    return Answer::Failed(failure.with_hint(hint));
                }
            };
            if let Err(answer) = self.pause_before_try(step, &mut tries, failure, stop).await {
                return answer;
            }
        }
    }
}

/// Whether what a try left behind is gone.
enum Cleared {
    Yes,
    /// What the try had failed for.
    NotYet(Failure),
}

/// Whether a statement is run in a transaction of its own. Not where the file says who the session is: then
/// the history cannot be written in its midst. Nor ANALYZE, which would keep every table's lock to its end.
fn stands_alone(step: &Step, statement: &Statement) -> bool {
    let mut all = step.script.statements().iter();
    let changes_user = |it| headline(step.script.written(it)) == "SET SESSION AUTHORIZATION";
    let analyzes = matches!(verb(step, statement).as_str(), "ANALYZE" | "ANALYSE");
    !analyzes && !all.any(changes_user)
}
