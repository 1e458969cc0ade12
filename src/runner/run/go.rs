//! What has to be settled among people before a run begins: approvals, and who would lead back.

use super::{Findings, Job};
use crate::runner::approvals::{self, Standing};
use crate::runner::history::Ledger;
use crate::runner::plan::Plan;
use crate::runner::preflight::Check;
use crate::runner::survey::plan_report;
use crate::runner::traffic::Traffic;
use crate::runner::types::Direction;

impl<T: Traffic> Job<T> {
    /// The checks that are about people. The way down needs nobody's approval: whoever leads back must
    /// not wait for it.
    pub(super) async fn people(
        &self,
        ledger: &Ledger,
        plan: &Plan,
        findings: &mut Findings,
    ) -> Vec<Check> {
        let settings = &self.options.approvals;
        let mut checks = Vec::new();
        if self.request.direction == Direction::Down || plan.steps.is_empty() {
            return checks;
        }
        if !settings.roles.is_empty() {
            let check = self.approved(ledger, plan, findings).await;
            checks.extend(settings.required.then_some(check));
        }
        if settings.rollback_by {
            let named = self.request.rollback_by.as_deref();
            checks.push(approvals::rollback_executor(named));
        }
        checks
    }

    /// Who has approved this plan, for the report, and whether that is everybody.
    async fn approved(&self, ledger: &Ledger, plan: &Plan, findings: &mut Findings) -> Check {
        let (settings, database) = (&self.options.approvals, &self.run.database);
        let owner = self.options.owner.as_deref();
        let report = plan_report(&self.connector, database, owner, plan).await;
        match report.map(|it| it.hash) {
            Ok(Some(hash)) => {
                // What cannot be read is what the check says.
                let mut entries = ledger.approvals(Some(&hash)).await.unwrap_or_default();
                entries.retain(|it| it.standing == Standing::Valid);
                findings.approvals = entries;
                approvals::check(ledger, settings, database, &hash).await
            }
            Ok(None) => Check::failed("approvals", "the plan has no hash to approve"),
            Err(error) => Check::unknown("approvals", &error),
        }
    }
}
