//! What is told of the time after a run: the reports of its watch.

use tokio::time::Instant;

use super::message::{Message, Why};
use super::send;
use crate::runner::Runner;
use crate::runner::traffic::Traffic;
use crate::runner::types::{Direction, RunState};

/// A report.
#[derive(Clone, Debug)]
pub(in crate::runner) struct Told {
    pub(in crate::runner) run: String,
    pub(in crate::runner) database: String,
    pub(in crate::runner) direction: Direction,
    pub(in crate::runner) by: String,
    /// Since when it is watched.
    pub(in crate::runner) since: jiff::Timestamp,
    pub(in crate::runner) text: String,
}

/// Tells every target that is told of runs; those that wait for an escalation are not. Nobody waits for it.
pub(in crate::runner) fn tell<T: Traffic>(runner: &Runner<T>, told: &Told) {
    let targets = runner.options.notify.iter();
    for target in targets.filter(|it| it.escalate_after.is_none()) {
        let at = jiff::Timestamp::now();
        let message = Message {
            why: Why::Report,
            run: told.run.clone(),
            database: told.database.clone(),
            direction: told.direction,
            by: told.by.clone(),
            state: RunState::Succeeded,
            text: told.text.clone(),
            at,
            lasts_s: u64::try_from(at.duration_since(told.since).as_secs()).unwrap_or(0),
            exit_code: None,
        };
        let (target, stopping) = (target.clone(), runner.stopping.subscribe());
        runner.tasks.spawn(async move {
            let begun = Instant::now();
            let sent = tokio::select! {
                sent = send::send(&target, &message, &stopping) => sent,
                () = super::given_up(stopping.clone()) => Err("pgdrain stops".to_owned()),
            };
            if let Err(why) = sent {
                let (run, took) = (&message.run, begun.elapsed());
                tracing::warn!(run, ?took, "{} was not told: {why}", target.name);
            }
        });
    }
}
