//! The database before a run and behind its files: counters of the touched tables, plans of statements, what
//! clients' statements take, what row-level security costs. It fails nothing by itself: what cannot be
//! had is noted, and a threshold that asks for it is not kept.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::Instant;

use super::analyze::names;
use super::{End, Findings, Job};
use crate::config::CompareWhen;
use crate::runner::aftermath::baseline::{self, Baseline, TopStatement};
use crate::runner::aftermath::catalog::{CatalogComparison, Eyes, LockWaits, Snapshot, Span};
use crate::runner::aftermath::compare::Comparison;
use crate::runner::aftermath::plans::{self, PlanComparison};
use crate::runner::aftermath::rls;
use crate::runner::aftermath::thresholds::{Found, breaches_behind};
use crate::runner::connect::Session;
use crate::runner::plan::Plan;
use crate::runner::rehearse::RlsCost;
use crate::runner::report::chain;
use crate::runner::stop::Stop;
use crate::runner::traffic::Traffic;
use crate::runner::types::{EventKind, RunState};
use crate::runner::validate::touched;
use crate::runner::watcher::Breach;

/// How long the end of a session may take.
const CLOSE: Duration = Duration::from_secs(1);

/// What was found behind the files.
#[derive(Clone, Default)]
pub(super) struct Behind {
    pub(super) catalog: Option<CatalogComparison>,
    pub(super) last: Option<Snapshot>,
    pub(super) plans: Option<PlanComparison>,
    pub(super) degradation_percent: Option<f64>,
    /// None if it was not to be measured, or could not be.
    pub(super) rls: Option<Vec<RlsCost>>,
    no_rls: Option<String>,
}

impl<T: Traffic> Job<T> {
    /// Whether the database is compared before and after this run.
    pub(super) fn compares(&self, findings: &Findings) -> bool {
        let needed = self.options.thresholds.look_at_traffic();
        match self.options.compare.when {
            CompareWhen::Always => true,
            CompareWhen::Never => needed,
            CompareWhen::Watched => {
                needed || self.request.watch.is_some() || findings.measuring.is_some()
            }
        }
    }

    /// A session that looks, if the database is to be compared and there is room for it.
    pub(super) async fn eyes(&self, findings: &Findings) -> Option<Eyes> {
        if !self.compares(findings) {
            return None;
        }
        let eyes = Eyes::open(&self.connector, &self.run.database).await;
        self.noted("the database is not compared", eyes)
    }

    /// What is counted as the time before the run begins, if there is one.
    pub(super) async fn look_earlier(&self, findings: &mut Findings) {
        if findings.measuring.is_none() {
            return;
        }
        let Some(eyes) = self.eyes(findings).await else {
            return;
        };
        let taken = eyes.snapshot(&findings.compared).await;
        findings.earlier = self.noted("nothing is counted before the run", taken);
        eyes.close().await;
    }

    /// Just before anything is done.
    pub(super) async fn look_before(
        &self,
        eyes: Eyes,
        plan: &Plan,
        findings: &Findings,
        mut baseline: Baseline,
    ) -> Baseline {
        let taken = eyes.snapshot(&findings.compared).await;
        baseline.catalog = self.noted("nothing is counted before the run", taken);
        eyes.close().await;
        let settings = &self.options.compare;
        if plan.steps.is_empty() || (settings.plans == 0 && settings.statements.is_empty()) {
            return baseline;
        }
        let explained = async {
            let session = self.looker().await?;
            let client = &session.client;
            let all = async {
                let texts = plans::statements(client, settings.plans, &settings.statements);
                plans::explain(client, &texts.await?).await
            };
            let all = all.await.map_err(|error| chain(&error));
            session.close(CLOSE).await;
            all
        };
        let explained = self.noted("no statement is planned before the run", explained.await);
        baseline.plans = explained.unwrap_or_default();
        baseline
    }

    /// The statements that files have to leave so that they can be planned.
    pub(super) async fn planned(&self) -> Vec<String> {
        if !self.options.validate.explain {
            return Vec::new();
        }
        let settings = &self.options.compare;
        let asked = async {
            let session = self.looker().await?;
            let texts =
                plans::statements(&session.client, settings.plans, &settings.statements).await;
            session.close(CLOSE).await;
            texts.map_err(|error| chain(&error))
        };
        let found = self.noted("statements that took most time are not known", asked.await);
        found.unwrap_or_else(|| settings.statements.clone())
    }

    /// When traffic flows again behind files that are applied.
    pub(super) async fn look_behind(
        &self,
        end: End,
        plan: &Plan,
        stop: &Stop,
        findings: &mut Findings,
    ) {
        if end.0 != RunState::Succeeded || findings.files.is_empty() {
            return;
        }
        let role = self.options.thresholds.rls_role.as_deref();
        let role = role.filter(|_| self.options.thresholds.rls.is_some());
        let baseline = findings.baseline.take();
        let compared = baseline.as_ref().filter(|it| it.catalog.is_some());
        if compared.is_some() || role.is_some() {
            let found = self.behind(compared, role, (plan, stop), findings).await;
            findings.behind = self
                .noted("the database is not compared", found)
                .unwrap_or_default();
        }
        findings.baseline = baseline;
    }

    async fn behind(
        &self,
        baseline: Option<&Baseline>,
        role: Option<&str>,
        (plan, stop): (&Plan, &Stop),
        findings: &Findings,
    ) -> Result<Behind, String> {
        let session = self.looker().await?;
        let client = &session.client;
        let now = touched(client, &names(plan)).await;
        let now = now.map_err(|error| chain(&error))?;
        let all = BTreeSet::from_iter([now, findings.compared.clone()].concat());
        let all: Vec<u32> = all.into_iter().collect();
        let mut behind = Behind::default();
        if let Some(role) = role {
            match rls::measure(client, role, &all).await {
                Ok(costs) => behind.rls = Some(costs),
                Err(error) => behind.no_rls = Some(chain(&error)),
            }
        }
        if let Some(baseline) = baseline {
            self.behind_counters(&session, (baseline, &all), stop, &mut behind)
                .await?;
            self.behind_plans(&session, baseline, &mut behind).await;
        }
        session.close(CLOSE).await;
        Ok(behind)
    }

    /// Counters and clients' statements, over the time that thresholds ask for.
    async fn behind_counters(
        &self,
        session: &Session,
        (baseline, relations): (&Baseline, &[u32]),
        stop: &Stop,
        behind: &mut Behind,
    ) -> Result<(), String> {
        let thresholds = &self.options.thresholds;
        let eyes = Eyes::open(&self.connector, &self.run.database).await?;
        let first = eyes.snapshot(relations).await?;
        let (measured, statements) = self.statements(session, baseline).await;
        let mut lock_waits = LockWaits::default();
        if thresholds.look_at_traffic() {
            let over = humantime::format_duration(thresholds.over);
            self.run
                .note(format!("traffic behind the files is looked at for {over}"));
            let until = Instant::now() + thresholds.over;
            if let Err(reason) = eyes.watch_until(until, stop, &mut lock_waits).await {
                let text =
                    format!("traffic behind the files was not looked at to the end: {reason}");
                self.run.note(text);
            }
        }
        let last = eyes.snapshot(relations).await?;
        eyes.close().await;
        let since = Span {
            first: Some(&first),
            last: &last,
            lock_waits,
        };
        if let Some(before) = baseline.span() {
            let comparison = CatalogComparison::new(before, since);
            self.run.note(comparison.to_string());
            behind.catalog = Some(comparison);
        }
        behind.last = Some(last);
        if thresholds.degradation_percent.is_some() {
            let (measured_now, now) = self.statements(session, baseline).await;
            let by_proxy = baseline.measured.as_ref().zip(measured_now.zip(measured));
            let by_proxy = by_proxy.and_then(|(before, (now, first))| {
                Comparison::new(before, &now.since(&first)).degradation_percent()
            });
            let by_server = || baseline::slower(&baseline.statements, &statements, &now);
            behind.degradation_percent = by_proxy.or_else(by_server);
        }
        Ok(())
    }

    /// What was measured until now, by the proxy and by the server.
    async fn statements(
        &self,
        session: &Session,
        baseline: &Baseline,
    ) -> (
        Option<crate::metrics::statements::Measured>,
        Vec<TopStatement>,
    ) {
        let measured = self.traffic.measured(&self.run.database);
        let statements = baseline.again(&session.client).await;
        (measured, statements.unwrap_or_default())
    }

    async fn behind_plans(&self, session: &Session, baseline: &Baseline, behind: &mut Behind) {
        if baseline.plans.is_empty() {
            return;
        }
        let texts = baseline.plans.iter().map(|it| it.text.clone());
        let texts: Vec<_> = texts.collect();
        let after = plans::explain(&session.client, &texts).await;
        let after = after.map_err(|error| chain(&error));
        let Some(after) = self.noted("plans are not compared", after) else {
            return;
        };
        let comparison = PlanComparison::new(&baseline.plans, &after);
        let data = serde_json::json!({ "plans": comparison });
        self.run.tell(EventKind::Note, comparison.to_string(), data);
        behind.plans = Some(comparison);
    }

    /// A session with the names that applications use.
    async fn looker(&self) -> Result<Session, String> {
        let session = self.open_analyzer().await;
        session.map_err(|error| chain(&error))
    }

    /// Thresholds about what is behind the files of a run that did what it should.
    pub(super) fn breaches_behind(&self, end: End, findings: &Findings) -> Vec<Breach> {
        if end.0 != RunState::Succeeded || findings.files.is_empty() {
            return Vec::new();
        }
        let behind = &findings.behind;
        let found = Found {
            degradation_percent: behind.degradation_percent,
            catalog: behind.catalog.as_ref(),
            rls: behind.rls.as_deref(),
            no_rls: behind.no_rls.as_deref(),
        };
        breaches_behind(&found, &self.options.thresholds)
    }

    /// What was found, or a note why it was not.
    fn noted<V>(&self, what: &str, found: Result<V, String>) -> Option<V> {
        found
            .map_err(|why| self.run.note(format!("{what}: {why}")))
            .ok()
    }
}
