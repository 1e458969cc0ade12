//! How the database and its clients are before a run, to be compared with the time after it.

use std::time::Duration;

use super::{End, Findings, Job};
use crate::metrics::statements::LONGEST;
use crate::runner::aftermath::baseline::Baseline;
use crate::runner::aftermath::catalog::LockWaits;
use crate::runner::aftermath::compare::Comparison;
use crate::runner::plan::Plan;
use crate::runner::stop::Stop;
use crate::runner::traffic::Traffic;
use crate::runner::types::RunState;
use tokio::time::Instant;
use tokio_postgres::Client;

/// Statements whose measures are kept of the time before: those that took most time.
const KEPT: usize = 50;

/// A run that lasts longer is not measured to its end; a watch puts it off.
const RUN: Duration = Duration::from_secs(3600);

impl<T: Traffic> Job<T> {
    /// How long statements are to be measured before the first file.
    fn measured_before(&self) -> Duration {
        let asked = self.request.measure.map(|it| it.0);
        asked.unwrap_or(self.options.measures.before).min(LONGEST)
    }

    /// Begins to measure, if that is wanted: the earlier the longer the time before the run. Since when,
    /// if it was begun here.
    pub(super) fn begin_measuring(&self) -> Option<Instant> {
        let before = self.measured_before();
        if before.is_zero() {
            return None;
        }
        let measures = &self.options.measures;
        let database = &self.run.database;
        self.traffic
            .measure(database, before + RUN, measures.one_in);
        Some(Instant::now())
    }

    /// Waits until it was measured for long enough, and keeps how it was.
    pub(super) async fn take_baseline(
        &self,
        client: &Client,
        plan: &Plan,
        stop: &Stop,
        findings: &mut Findings,
    ) -> Result<(), End> {
        let until = self.measured_until(findings);
        let eyes = self.eyes(findings).await;
        let mut lock_waits = LockWaits::default();
        let waited = match &eyes {
            Some(eyes) => eyes.watch_until(until, stop, &mut lock_waits).await,
            None => tokio::select! {
                biased;
                reason = stop.fired() => Err(reason),
                () = tokio::time::sleep_until(until) => Ok(()),
            },
        };
        if let Err(reason) = waited {
            return Err(self.stopped(findings, &reason));
        }
        let measured = self.traffic.measured(&self.run.database);
        let measured = measured.filter(|it| it.units > 0);
        if self.request.watch.is_none() && measured.is_none() && eyes.is_none() {
            return Ok(());
        }
        let taken = match self.request.watch.is_some() || eyes.is_some() {
            true => Baseline::take(client).await,
            false => Baseline::default(),
        };
        let baseline = Baseline {
            measured: measured.map(|it| it.top(KEPT)),
            earlier: findings.earlier.take(),
            lock_waits,
            ..taken
        };
        let baseline = match eyes {
            Some(eyes) => self.look_before(eyes, plan, findings, baseline).await,
            None => baseline,
        };
        findings.baseline = Some(baseline);
        Ok(())
    }

    /// When it was measured for long enough; says so if that is later.
    fn measured_until(&self, findings: &Findings) -> Instant {
        let now = Instant::now();
        let until = findings.measuring;
        let until = until.map_or(now, |since| since + self.measured_before());
        let left = until.saturating_duration_since(now);
        if !left.is_zero() {
            let left = humantime::format_duration(Duration::from_secs(left.as_secs() + 1));
            let text = format!("statements are measured for {left} before anything is done");
            self.run.enter(RunState::Preflight, text);
        }
        until
    }

    /// What clients felt while files ran, against how it was before.
    pub(super) fn compare(&self, findings: &mut Findings) {
        let before = findings.baseline.as_ref();
        let before = before.and_then(|it| it.measured.as_ref());
        let (Some(before), Some(now)) = (before, self.traffic.measured(&self.run.database)) else {
            return;
        };
        let since = now.since(before);
        if since.units == 0 {
            return;
        }
        let comparison = Comparison::new(before, &since);
        self.run.note(format!("while files ran, {comparison}"));
        findings.comparison = Some(comparison);
    }
}
