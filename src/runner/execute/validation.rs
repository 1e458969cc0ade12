//! Looks at what a file leaves, in its own transaction and before its commit.
//!
//! The look has a savepoint around it that is always rolled back: settings, role and the locks of the
//! questions go with it. A file without a transaction is looked at in a transaction of its own.

use std::time::Duration;

use tokio_postgres::Client;

use super::retry::ended_by_file;
use super::rows_touched::Rows;
use super::{Executor, milliseconds};
use crate::runner::aftermath::plans::{Explained, PlanComparison, explain_within};
use crate::runner::plan::Step;
use crate::runner::report::Failure;
use crate::runner::script::TxMode;
use crate::runner::stop::Stop;
use crate::runner::types::StepTraffic;
use crate::runner::validate::{Declared, Picture, Problem, compare, touched};

/// So many things are named at most.
const NAMED_MAX: usize = 10;

/// What there was before a file; `None` if nothing is to be looked at.
pub(super) struct Sight(Option<Box<Seen>>);

struct Seen {
    declared: Declared,
    picture: Option<Picture>,
    rows: Rows,
    /// How statements were planned; empty if they are not to be.
    plans: Vec<Explained>,
}

impl Executor<'_> {
    /// Looks at everything before the first statement.
    pub(super) async fn sight_before(&self, step: &Step, stop: &Stop) -> Result<Sight, Failure> {
        let asked = &self.settings.validate;
        let counts = asked.counts_touched() && step.traffic != StepTraffic::Open;
        let looks = asked.looks_at_catalogs() || counts || !self.planned.is_empty();
        if step.script.batch().is_some() || !looks {
            return Ok(Sight(None));
        }
        let declared = Declared::of(&step.script);
        let names: Vec<_> = declared.touches.iter().map(|it| it.quoted()).collect();
        let client = &self.session()?.client;
        let looked = self.sight(step, stop, async {
            let of = touched(client, &names).await?;
            let plans = self.plans(client).await?;
            client.batch_execute(&self.ourselves()).await?;
            let picture = match asked.looks_at_catalogs() {
                true => Some(Picture::take(client, &of, None, declared.unknown).await?),
                false => None,
            };
            let rows = match counts {
                true => Rows::before(client, &of, step, asked.rows_max).await?,
                false => Rows::default(),
            };
            Ok((picture, rows, plans))
        });
        let (picture, rows, plans) = looked.await.map_err(|it| it.in_file(step))?;
        for left in rows.left_out() {
            self.run.note(format!("{}: {left}", step.file));
        }
        Ok(Sight(Some(Box::new(Seen {
            declared,
            picture,
            rows,
            plans,
        }))))
    }

    /// Holds what there is after the last statement against that.
    pub(super) async fn validate(
        &self,
        step: &Step,
        sight: &Sight,
        stop: &Stop,
    ) -> Result<(), Failure> {
        let Some(seen) = &sight.0 else {
            return Ok(());
        };
        let asked = &self.settings.validate;
        let client = &self.session()?.client;
        let looked = self.sight(step, stop, async {
            let plans = match seen.plans.is_empty() {
                true => Vec::new(),
                false => self.plans(client).await?,
            };
            client.batch_execute(&self.ourselves()).await?;
            let mut problems = Vec::new();
            if let Some(before) = &seen.picture {
                let unknown = seen.declared.unknown;
                let after = Picture::take(client, &[], Some(before), unknown).await?;
                problems = compare(before, &after, &seen.declared, asked);
            }
            problems.extend(seen.rows.changed(client).await?);
            Ok((problems, PlanComparison::new(&seen.plans, &plans).lost()))
        });
        let (problems, lost) = looked.await.map_err(|it| it.in_file(step))?;
        if !lost.is_empty() {
            return Err(unplanned(&lost).in_file(step));
        }
        match problems.is_empty() {
            true => Ok(()),
            false => Err(failure(&problems).in_file(step)),
        }
    }

    /// How the statements are planned that are to be, by our own role and with the names that it has.
    async fn plans(&self, client: &Client) -> Result<Vec<Explained>, tokio_postgres::Error> {
        if self.planned.is_empty() {
            return Ok(Vec::new());
        }
        let ours = "reset session authorization; reset role; set local search_path to default";
        client.batch_execute(ours).await?;
        explain_within(client, &self.planned).await
    }

    /// Asks questions that leave nothing behind.
    async fn sight<T>(
        &self,
        step: &Step,
        stop: &Stop,
        questions: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<T, Failure> {
        let session = self.session()?;
        let (begin, end) = match step.script.mode() {
            TxMode::File => (
                "savepoint pgdrain_look",
                "rollback to savepoint pgdrain_look; release savepoint pgdrain_look",
            ),
            TxMode::None | TxMode::Batches => ("begin isolation level read committed", "rollback"),
        };
        let asked = async {
            session.client.batch_execute(begin).await?;
            let found = questions.await;
            // A file without a transaction goes on in this session, to be recorded.
            let ended = session.client.batch_execute(end).await;
            let found = found?;
            ended?;
            Ok(found)
        };
        let failed = |error: &tokio_postgres::Error| {
            let failure = ended_by_file(Failure::from_error(error));
            // Without a word of the server it has nothing to do with the questions.
            if failure.sqlstate.is_none() {
                return failure;
            }
            let message = format!(
                "what the file leaves cannot be looked at: {}",
                failure.message
            );
            let failure = Failure { message, ..failure };
            failure.with_hint("[migrate.validate] says how long it may take, and what is looked at")
        };
        let mut asked = std::pin::pin!(asked);
        let reason = tokio::select! {
            found = &mut asked => return found.map_err(|error| failed(&error)),
            reason = stop.fired() => reason,
        };
        session.cancel(self.settings.cancel_wait).await;
        // Whatever it answers now: the run stops.
        let _ = tokio::time::timeout(self.settings.cancel_wait, asked).await;
        Err(Failure::new(reason.to_string()))
    }

    /// Questions are asked by our own role, with names that are whole; nothing may hide rows, and no
    /// temporary table of the file may stand for a type.
    fn ourselves(&self) -> String {
        let time = self.settings.validate.time;
        format!(
            "reset session authorization; reset role; set local search_path = pg_catalog, pg_temp; \
             set local row_security = off; set local quote_all_identifiers = off; \
             set local standard_conforming_strings = on; \
             set local lock_timeout = {}; set local statement_timeout = {}",
            milliseconds(time.min(Duration::from_secs(5))),
            milliseconds(time),
        )
    }
}

/// What the file takes from statements of clients.
fn unplanned(lost: &[String]) -> Failure {
    let named: Vec<_> = lost.iter().take(NAMED_MAX).map(String::as_str).collect();
    let many = lost.len();
    let text = format!(
        "{many} statements can no longer be planned: {}",
        named.join("; ")
    );
    Failure::new(text).with_hint(
        "change the application first; [migrate.compare] says which statements are looked at, and \
         [migrate.validate] explain whether they are",
    )
}

/// What is wrong, in one sentence, and what would have said that it is meant.
fn failure(problems: &[Problem]) -> Failure {
    let named = problems.iter().take(NAMED_MAX);
    let mut texts: Vec<_> = named.clone().map(|it| it.text.clone()).collect();
    if problems.len() > NAMED_MAX {
        texts.push(format!("and {} more", problems.len() - NAMED_MAX));
    }
    let mut declare: Vec<_> = named
        .map(|it| format!("-- pgdrain:{}", it.declare))
        .collect();
    declare.dedup();
    Failure::new(format!(
        "the file changes what it does not say: {}",
        texts.join("; ")
    ))
    .with_hint(format!(
        "put it back in the file, or say that it is meant: {}",
        declare.join(" and ")
    ))
}
