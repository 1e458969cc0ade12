//! A file that runs in batches: a statement over a table, a range of it at a time.
//!
//! ```text
//! look at the table ─ row in pgdrain.backfill ─ "running" ─┬─ batch ─ pause, limits ─┐─ check ─ "applied"
//!      (a file that is begun keeps its row)                └────────────◄────────────┘
//! batch: BEGIN ─ lock the row, read how far ─ statement over the next range ─ write how far ─ COMMIT
//! ```
//!
//! The row is the only truth about how far the file is: each batch reads it under a lock and writes it
//! in the transaction of its own work. So nothing is remembered here that could be wrong after a lost
//! answer, a lost server or a lost runner, and a batch is neither repeated nor left out.

mod begin;
mod clients;
mod one;
mod pace;
mod room;
mod table;
mod throttle;

use tokio::time::Instant;

pub(super) use self::clients::Clients;
pub(in crate::runner) use self::clients::Felt;

use self::pace::Pace;
use self::table::Cut;
use super::retry::{longer, pause};
use super::{Ending, Executor, set_role};
use crate::runner::directives::When;
use crate::runner::history::{Checkpoint, RowState};
use crate::runner::lock;
use crate::runner::plan::Step;
use crate::runner::report::{BatchReport, Failure};
use crate::runner::script::BatchScript;
use crate::runner::settle::{Settled, settle};
use crate::runner::split::Statement;
use crate::runner::stop::Stop;
use crate::runner::types::EventKind;

/// How often a batch is tried that fails for what may pass by itself.
const TRIES: u32 = 10;

/// A file at work.
struct Work<'a> {
    step: &'a Step,
    script: &'a BatchScript,
    statement: &'a Statement,
    /// The statement with its marker.
    sql: &'a str,
    cut: Cut,
    /// Rows of the table by its last VACUUM or ANALYZE.
    rows: Option<i64>,
}

/// What keeps a batch from being committed.
enum Trouble {
    /// It may pass by itself.
    Again(Failure),
    /// The session is gone, and perhaps the server.
    Lost(Failure),
    /// It stays.
    Final(Failure),
}

impl Trouble {
    /// What a failure means.
    fn of(failure: Failure, stop: &Stop) -> Self {
        match (failure.sqlstate.as_deref(), stop.now()) {
            (Some("57014") | None, Some(reason)) => Self::Final(Failure {
                message: reason.to_string(),
                sqlstate: None,
                ..failure
            }),
            (Some("57014"), None) => Self::Final(failure.with_hint(
                "a smaller size makes shorter batches; pgdrain:statement_timeout gives them longer",
            )),
            (Some("55P03" | "40P01" | "40001"), _) => Self::Again(failure),
            // Ended by an administrator, by a crash, by a restart, for idling; or no answer at all.
            (None | Some("57P01" | "57P02" | "57P03" | "25P03"), _) => Self::Lost(failure),
            (Some(_), _) => Self::Final(failure),
        }
    }
}

impl Executor<'_> {
    /// Runs a file in batches, from its beginning or from where it stopped.
    pub(super) async fn run_batches(
        &mut self,
        step: &Step,
        script: &BatchScript,
        stop: &Stop,
    ) -> Ending {
        let work = match self.begin_batches(step, script, stop).await {
            Ok(work) => work,
            Err(ending) => return ending,
        };
        let ending = match self.walk(&work, stop).await {
            Ok(()) => match self.record(step, None).await {
                Ok(()) => Ending::Done,
                Err(error) => {
                    let text = format!("ended well, but cannot be recorded: {error}");
                    Ending::Unknown(Failure::new(text).in_file(step))
                }
            },
            Err(failure) => self.end_begun(step, failure).await,
        };
        self.sum_up(&work, &ending).await;
        ending
    }

    /// Every batch that is left, and the check that nothing is.
    async fn walk(&mut self, work: &Work<'_>, stop: &Stop) -> Result<(), Failure> {
        let mut pace = Pace::new();
        let mut tries = 0;
        loop {
            if let Some(reason) = stop.now() {
                return Err(Failure::new(reason.to_string()).in_file(work.step));
            }
            let went = match self.batch(work, stop).await {
                Ok(Some(at)) => {
                    tries = 0;
                    self.tell_batch(work, &mut pace, &at);
                    self.between(work, &at, stop).await.map(|()| false)
                }
                Ok(None) => self.check(work, stop).await.map(|()| true),
                Err(trouble) => Err(trouble),
            };
            match went {
                Ok(true) => return Ok(()),
                Ok(false) => {}
                Err(trouble) => {
                    tries += 1;
                    self.mend(work, trouble, tries, stop).await?;
                }
            }
        }
    }

    /// Makes ready for another try, or says why there is none.
    async fn mend(
        &mut self,
        work: &Work<'_>,
        trouble: Trouble,
        tries: u32,
        stop: &Stop,
    ) -> Result<(), Failure> {
        let (failure, mut lost) = match trouble {
            Trouble::Again(failure) => (failure, false),
            Trouble::Lost(failure) => (failure, true),
            Trouble::Final(failure) => return Err(failure),
        };
        if tries >= TRIES {
            return Err(failure.with_hint(format!("given up after {TRIES} tries")));
        }
        self.run
            .note(format!("try {tries} of {TRIES} failed: {failure}"));
        if !lost {
            let rolled_back = self.command("rollback");
            let rolled_back = tokio::time::timeout(self.settings.cancel_wait, rolled_back).await;
            lost = !matches!(rolled_back, Ok(Ok(())));
        }
        pause(longer(tries), stop).await;
        if lost {
            self.session = None;
            self.reconnect(work.step, stop).await?;
        }
        Ok(())
    }

    /// A new session for a file that is recorded as running in a lost one.
    async fn reconnect(&mut self, step: &Step, stop: &Stop) -> Result<(), Failure> {
        let deadline = Instant::now() + self.settings.settle_wait;
        loop {
            let ready = async {
                self.prepare(stop).await?;
                let pid = self.session()?.pid;
                let moved = self.ledger.moved(&step.key(), &self.run.id, pid).await;
                moved.map_err(|error| Failure::new(error.to_string()))
            };
            let ready = tokio::select! {
                biased;
                reason = stop.fired() => return Err(Failure::new(reason.to_string()).in_file(step)),
                ready = ready => ready,
            };
            match ready {
                Ok(()) => return Ok(()),
                Err(failure) if Instant::now() >= deadline => return Err(failure.in_file(step)),
                Err(_) => {
                    self.session = None;
                    pause(lock::pause(), stop).await;
                }
            }
        }
    }

    /// What happens between two batches.
    async fn between(
        &mut self,
        work: &Work<'_>,
        at: &Checkpoint,
        stop: &Stop,
    ) -> Result<(), Trouble> {
        let directive = &work.script.directive;
        let due = directive
            .vacuum
            .is_some_and(|every| at.batches % i64::from(every) == 0);
        if due {
            self.vacuum(work, stop).await?;
        }
        if at.is_at_end() {
            return Ok(());
        }
        pause(directive.pause, stop).await;
        self.give_way(work, stop).await;
        self.wait_for_room(work, stop).await
    }

    /// Takes what the batches left behind out of the table. Whoever holds it up is not waited for, and
    /// what goes wrong stops nothing.
    async fn vacuum(&mut self, work: &Work<'_>, stop: &Stop) -> Result<(), Trouble> {
        let lost = |failure: Failure| Trouble::of(failure.in_file(work.step), stop);
        let timeout = self.settings.statement_timeout(work.step);
        let role = set_role("", self.settings.owner(work.step));
        let before = format!("set statement_timeout = {timeout}; {role}");
        self.command(&before).await.map_err(lost)?;
        let sql = format!("vacuum (skip_locked) {}", work.script.directive.table);
        let session = self.session().map_err(|it| lost(it.into()))?;
        if let super::Waited::Answered(Err(error)) = self.wait(session, &sql, stop).await {
            let failure = Failure::from_error(&error);
            self.run.note(format!("VACUUM failed: {failure}"));
        }
        self.command("reset role").await.map_err(lost)
    }

    /// Nothing may be left that the file says is still to be done, and its assertions hold.
    async fn check(&mut self, work: &Work<'_>, stop: &Stop) -> Result<(), Trouble> {
        let trouble = |failure: Failure| Trouble::of(failure, stop);
        self.begin_owned(work.step).await.map_err(trouble)?;
        let left = match &work.script.directive.done {
            None => None,
            Some(done) => {
                let at = self.ledger.checkpoint(&work.step.key()).await;
                let at = at.map_err(|error| trouble(Failure::new(error.to_string())))?;
                let end = at.and_then(|it| it.end);
                let left = self.count_left(work, end.as_deref(), done, stop).await;
                Some(left.map_err(|it| trouble(it.in_file(work.step)))?)
            }
        };
        if let Some(rows) = left.filter(|rows| *rows > 0) {
            let rewound = self.ledger.rewind(&work.step.key()).await;
            rewound.map_err(|error| trouble(Failure::new(error.to_string())))?;
            let failure = Failure {
                line: Some(work.script.line),
                ..Failure::new(format!("pgdrain:batch: {rows} rows are not done"))
            };
            let hint = "the statement passed over them, or somebody wrote them meanwhile without \
                        doing the same; the next `migrate up` walks over the table again";
            return Err(Trouble::Final(failure.in_file(work.step).with_hint(hint)));
        }
        self.assert(work.step, When::Post, stop)
            .await
            .map_err(trouble)?;
        self.command("rollback").await.map_err(trouble)
    }

    /// The file stopped between two batches: waits until the server has, and writes that down.
    async fn end_begun(&mut self, step: &Step, failure: Failure) -> Ending {
        self.session = None;
        let deadline = Instant::now() + self.settings.settle_wait;
        let settled = settle(&mut self.ledger, &step.key(), deadline).await;
        let hint = "the next `migrate up` goes on from there";
        match settled {
            Settled::Begun => {
                let at = match self.ledger.checkpoint(&step.key()).await {
                    Ok(at) => at.unwrap_or_default(),
                    // The next recovery will read it.
                    Err(error) => {
                        let hint = format!("how far it is cannot be read: {error}");
                        return Ending::Unknown(failure.with_hint(hint));
                    }
                };
                if at.batches == 0 {
                    // Nothing of it is in the database: it may be another one next time.
                    let (key, direction) = (step.key(), step.direction());
                    let recorded = self.ledger.rolled_back(&key, direction, &failure).await;
                    self.recorded(recorded);
                    return Ending::RolledBack(failure);
                }
                let failure = Failure {
                    message: format!("{}, {at}", failure.message),
                    ..failure
                };
                let recorded = self.ledger.begun(&step.key(), &failure).await;
                self.recorded(recorded);
                Ending::Begun(failure.with_hint(hint))
            }
            Settled::Recorded(Some(RowState::Begun)) => Ending::Begun(failure.with_hint(hint)),
            Settled::Undecided(why) => {
                Ending::Unknown(failure.with_hint(format!("how it ended is not known: {why}")))
            }
            Settled::Recorded(_)
            | Settled::RolledBack
            | Settled::StoppedAfter { .. }
            | Settled::CommittedUnrecorded => {
                Ending::Unknown(failure.with_hint("the history was changed by somebody else"))
            }
        }
    }

    /// Keeps what the batches did for the report.
    async fn sum_up(&mut self, work: &Work<'_>, ending: &Ending) {
        let at = self.ledger.checkpoint(&work.step.key()).await;
        let done = matches!(ending, Ending::Done) && work.script.directive.done.is_some();
        self.batches = at.ok().flatten().map(|at| BatchReport {
            batches: at.batches,
            rows: at.rows,
            before: at.before,
            // Otherwise the file had failed.
            left: done.then_some(0),
        });
    }

    fn tell_batch(&self, work: &Work<'_>, pace: &mut Pace, at: &Checkpoint) {
        let of = match work.cut {
            Cut::Key { .. } => work.rows,
            Cut::Blocks { .. } => at.end.as_deref().and_then(|it| it.parse().ok()),
        };
        if let Some((text, data)) = pace.tell(&work.step.file, at, of) {
            self.run.tell(EventKind::Batch, text, data);
        }
    }
}
