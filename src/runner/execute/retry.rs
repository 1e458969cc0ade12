//! Statements that meet somebody's lock are tried again: 55P03 (a lock that was not had in time) and
//! 40P01 (a deadlock) may pass by themselves. Meanwhile everything else stays as it is: clients wait
//! behind the window, and what the file did before is kept.
//!
//! Inside a transaction a savepoint stands before each statement: going back to it undoes the
//! statement and frees the locks that it had taken, and no others. Every try has the file's
//! `lock_timeout`, also the last.

use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use super::{Answer, Executor, millis};
use crate::config::Retry;
use crate::runner::class::Class;
use crate::runner::plan::Step;
use crate::runner::report::Failure;
use crate::runner::script::headline;
use crate::runner::split::Statement;
use crate::runner::stop::Stop;
use crate::runner::types::EventKind;

/// The pause before the second try; it doubles each time, up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Savepoints in one file. A server process keeps the numbers of 64 subtransactions at hand
/// (`PGPROC_MAX_CACHED_SUBXIDS`); with more of them everybody's snapshots become slow.
const SAVEPOINTS_MAX: usize = 60;

/// What has been tried of one statement.
pub(super) struct Tries {
    made: u32,
    begun: Instant,
}

impl Tries {
    /// The first is about to be made.
    pub(super) fn begin() -> Self {
        Self {
            made: 0,
            begun: Instant::now(),
        }
    }

    /// One more has failed: how long to pause before the next, or why there is none. `longest` is how
    /// long the next may wait for a lock: that has to fit into the time for all of them, and into
    /// what is left of the window.
    fn failed(
        &mut self,
        limits: Retry,
        longest: Duration,
        window_end: Option<Instant>,
    ) -> Result<Duration, String> {
        self.made += 1;
        let made = match self.made {
            1 => "1 try".to_owned(),
            more => format!("{more} tries"),
        };
        if self.made >= limits.tries {
            return Err(format!("given up after {made}"));
        }
        let pause = longer(self.made);
        let over = Instant::now() + pause + longest;
        if over > self.begun + limits.time {
            let time = humantime::format_duration(limits.time);
            return Err(format!(
                "given up after {made}: with another they would take longer than {time}"
            ));
        }
        if window_end.is_some_and(|end| over > end) {
            return Err(format!(
                "given up after {made}: another does not fit into the window"
            ));
        }
        Ok(pause)
    }
}

/// Savepoints of the transaction of a file.
pub(super) struct Savepoints(usize);

impl Savepoints {
    /// None yet.
    pub(super) fn none() -> Self {
        Self(0)
    }

    /// Whether another is set before a statement. Not around the file's own, which would end with ours;
    /// nor around COPY, whose FREEZE asks for a table of this very subtransaction.
    fn stands_before(&mut self, step: &Step, statement: &Statement) -> bool {
        let stands = match statement.class {
            Class::Ordinary | Class::Concurrent => {
                let own = ["SAVEPOINT", "RELEASE", "ROLLBACK", "COPY"];
                !own.contains(&verb(step, statement).as_str()) && self.0 < SAVEPOINTS_MAX
            }
            Class::Session
            | Class::ConcurrentAlone
            | Class::Alone
            | Class::Begin
            | Class::Commit
            | Class::TransactionControl
            | Class::ClientCopy => false,
        };
        self.0 += usize::from(stands);
        stands
    }
}

impl Executor<'_> {
    /// Runs a statement in a transaction, again if it meets a lock.
    pub(super) async fn statement_in_savepoint(
        &mut self,
        step: &Step,
        index: usize,
        statement: &Statement,
        savepoints: &mut Savepoints,
        stop: &Stop,
    ) -> Answer {
        if !savepoints.stands_before(step, statement) {
            return self.statement(step, index, statement, stop).await;
        }
        let at_statement = |failure| ended_by_file(failure).at_statement(step, index, statement);
        if let Err(failure) = self.command("savepoint pgdrain_statement").await {
            return Answer::Failed(at_statement(failure));
        }
        let mut tries = Tries::begin();
        loop {
            let failure = match self.statement(step, index, statement, stop).await {
                Answer::Ok => {
                    return match self.command("release pgdrain_statement").await {
                        Ok(()) => Answer::Ok,
                        Err(failure) => Answer::Failed(at_statement(failure)),
                    };
                }
                Answer::Failed(failure) if may_pass(&failure) => failure,
                answer @ (Answer::Failed(_) | Answer::Stopped { .. }) => return answer,
            };
            // At once, so that what it has locked is free in the pause.
            let back = self.command("rollback to pgdrain_statement").await;
            let failure = match back {
                Ok(()) => failure,
                Err(lost) => return Answer::Failed(at_statement(lost)),
            };
            if let Err(answer) = self.pause_before_try(step, &mut tries, failure, stop).await {
                return answer;
            }
        }
    }

    /// Waits before another try of a statement of which nothing is left, and says so; or says why
    /// there is none.
    pub(super) async fn pause_before_try(
        &self,
        step: &Step,
        tries: &mut Tries,
        failure: Failure,
        stop: &Stop,
    ) -> Result<(), Answer> {
        let limits = self.settings.retry;
        let longest = self.settings.lock_wait(step);
        let pause_for = match tries.failed(limits, longest, stop.window_end()) {
            Ok(pause) => pause,
            Err(why) => return Err(Answer::Failed(failure.with_hint(why))),
        };
        let text = format!(
            "try {} of {} failed: {failure}; the next in {} ms",
            tries.made,
            limits.tries,
            millis(pause_for)
        );
        let data = json!({
            "file": step.file, "statement": failure.statement, "of": failure.of,
            "try": tries.made, "tries": limits.tries, "sqlstate": failure.sqlstate,
            "pause_ms": millis(pause_for),
        });
        self.run.tell(EventKind::Note, text, data);
        pause(pause_for, stop).await;
        match stop.now() {
            None => Ok(()),
            Some(reason) => Err(Answer::Stopped {
                reason,
                completed: false,
            }),
        }
    }
}

/// Whether it may pass by itself.
pub(super) fn may_pass(failure: &Failure) -> bool {
    matches!(failure.sqlstate.as_deref(), Some("55P03" | "40P01"))
}

/// What it means when there is no transaction, or no savepoint in it, where ours should be.
pub(super) fn ended_by_file(failure: Failure) -> Failure {
    match failure.sqlstate.as_deref() {
        Some("25P01" | "3B001") => Failure::new("the file ended the runner's transaction"),
        _ => failure,
    }
}

/// The first word of a statement, in capitals.
pub(super) fn verb(step: &Step, statement: &Statement) -> String {
    let line = headline(step.script.written(statement));
    line.split(' ').next().unwrap_or_default().to_owned()
}

/// Waits, unless told to stop.
pub(super) async fn pause(duration: Duration, stop: &Stop) {
    tokio::select! {
        () = tokio::time::sleep(duration) => {}
        _ = stop.fired() => {}
    }
}

/// The pause behind a number of tries, with jitter, so that two that are in each other's way part.
pub(super) fn longer(tries: u32) -> Duration {
    let doubled = FIRST_PAUSE * 2_u32.saturating_pow(tries.saturating_sub(1).min(10));
    let most = doubled.min(LONGEST_PAUSE);
    rand::random_range(most / 2..=most)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Retry = Retry {
        tries: 4,
        time: Duration::from_secs(10),
    };

    #[tokio::test(start_paused = true)]
    async fn tries_are_bounded_in_number_and_pauses_grow() {
        let mut tries = Tries::begin();
        let longest = Duration::from_millis(10);
        for most in [100, 200, 400] {
            let pause = tries.failed(LIMITS, longest, None).expect("another");
            let most = Duration::from_millis(most);
            assert!(pause >= most / 2 && pause <= most, "{pause:?}");
        }
        let why = tries.failed(LIMITS, longest, None).expect_err("the last");
        assert_eq!(why, "given up after 4 tries");
        assert!((1..40).all(|tries| longer(tries) <= LONGEST_PAUSE));
    }

    #[tokio::test(start_paused = true)]
    async fn a_try_has_to_fit_into_the_time_and_the_window() {
        let longest = Duration::from_secs(4);
        let mut tries = Tries::begin();
        assert!(tries.failed(LIMITS, longest, None).is_ok());
        tokio::time::advance(Duration::from_secs(6)).await;
        let why = tries.failed(LIMITS, longest, None).expect_err("no time");
        assert!(
            why.ends_with("with another they would take longer than 10s"),
            "{why}"
        );

        let end = Instant::now() + Duration::from_secs(4);
        let mut tries = Tries::begin();
        let why = tries
            .failed(LIMITS, longest, Some(end))
            .expect_err("no window");
        assert!(why.ends_with("does not fit into the window"), "{why}");
        let end = Instant::now() + Duration::from_secs(5);
        assert!(Tries::begin().failed(LIMITS, longest, Some(end)).is_ok());
    }
}
