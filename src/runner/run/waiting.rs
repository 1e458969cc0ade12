//! Waits for the time at which a run is to begin. Nothing is locked, held or changed meanwhile.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::json;
use tokio::time::Instant;

use super::{End, Findings, Job};
use crate::runner::history::{Ledger, LedgerError};
use crate::runner::report::Failure;
use crate::runner::stop::Stop;
use crate::runner::timing::{Course, Quiet};
use crate::runner::traffic::Traffic;
use crate::runner::types::{Exit, RunState};

/// How often traffic is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// How often it is said how much goes on.
const SAY: Duration = Duration::from_secs(60);

/// The clock on the wall may be set, and a machine may sleep: it is read again after this.
const NAP: Duration = Duration::from_secs(20);

impl<T: Traffic> Job<T> {
    /// Waits until the run may begin; at once unless it was asked to wait.
    pub(super) async fn wait_for_time(
        &self,
        stop: &Stop,
        findings: &mut Findings,
    ) -> Result<(), End> {
        let Some(when) = &self.request.when else {
            return Ok(());
        };
        // It could be used when the run was asked for; a time may have passed since.
        let course = match when.course(self.run.started_at) {
            Ok(course) => course,
            Err(why) => return Err(self.not_begun(why, findings)),
        };
        let text = sentence(&course);
        self.run.enter(RunState::Waiting, text.clone());
        self.note_waiting("waiting", &text).await;
        let waited = tokio::select! {
            biased;
            reason = stop.fired() => Err(self.stopped(findings, &reason)),
            waited = self.wait(&course) => waited.map_err(|why| self.not_begun(why, findings)),
        };
        let told = match &waited {
            Ok(()) => "the run begins",
            Err(_) => "the run does not begin: nothing was changed",
        };
        self.note_waiting("waited", told).await;
        waited
    }

    async fn wait(&self, course: &Course) -> Result<(), String> {
        loop {
            let left = course.from.duration_since(Timestamp::now());
            let Ok(left) = Duration::try_from(left) else {
                break;
            };
            if left.is_zero() {
                break;
            }
            tokio::time::sleep(left.min(NAP)).await;
        }
        let Some((limit, quiet_for)) = course.below else {
            return Ok(());
        };
        let (begun, mut quiet) = (Instant::now(), Quiet::default());
        let mut said: Option<Instant> = None;
        loop {
            let ended = self.traffic.transactions(&self.run.database);
            let seen = quiet.look(ended, begun.elapsed(), limit);
            if seen.is_some_and(|(_, lasts)| lasts >= quiet_for) {
                return Ok(());
            }
            if course.until.is_some_and(|until| Timestamp::now() >= until) {
                return Err(format!(
                    "the time has passed without fewer than {limit} transactions a second for {}",
                    humantime::format_duration(quiet_for)
                ));
            }
            if said.is_none_or(|it| it.elapsed() >= SAY)
                && let Some((rate, _)) = seen
            {
                said = Some(Instant::now());
                let text =
                    format!("{rate:.0} transactions a second, fewer than {limit} are wanted");
                self.run.enter(RunState::Waiting, text);
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    fn not_begun(&self, why: String, findings: &mut Findings) -> End {
        self.failed(findings, Failure::new(why), Exit::NotGranted)
    }

    /// Writes into the history that a run waits, so that somebody finds out what became of it if the
    /// proxy is killed meanwhile. Without the tables nothing has ever run, and nothing is written.
    async fn note_waiting(&self, event: &str, text: &str) {
        let noted = async {
            let ledger = Ledger::open(&self.connector, &self.run.database).await?;
            let data = json!({ "run": self.run.id, "by": self.run.by, "text": text });
            let noted = ledger.note_without_run(event, &data).await;
            ledger.close().await;
            noted
        };
        if let Err(error) = noted.await {
            let error: LedgerError = error;
            self.run
                .note(format!("that it waits is not recorded: {error}"));
        }
    }
}

fn sentence(course: &Course) -> String {
    let mut text = format!("begins at {}", course.from.strftime("%Y-%m-%d %H:%M:%SZ"));
    if let Some((limit, quiet_for)) = course.below {
        let quiet_for = humantime::format_duration(quiet_for);
        text += &format!(
            " or after it, once fewer than {limit} transactions a second have ended for {quiet_for}"
        );
    }
    if let (Some(until), Some(_)) = (course.until, course.below) {
        text += &format!("; given up at {}", until.strftime("%Y-%m-%d %H:%M:%SZ"));
    }
    text
}
