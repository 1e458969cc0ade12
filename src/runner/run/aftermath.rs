//! The watch after a run begins when its traffic is let in, so that it sees those who waited come back too.

use std::time::Duration;

use super::{End, Findings, Job};
use crate::runner::report::FileOutcome;
use crate::runner::traffic::Traffic;
use crate::runner::types::RunState;
use crate::runner::validate::touched;

impl<T: Traffic> Job<T> {
    /// From now on, if that was asked for and the run has done something. Called when nothing can fail any
    /// more but what is noted.
    pub(super) async fn begin_watch(&self, end: End, findings: &mut Findings) {
        let Some(names) = findings.watch_of.take() else {
            return;
        };
        let applied = findings.files.iter();
        let applied = applied.filter(|it| it.outcome == FileOutcome::Applied);
        let applied = applied.count();
        let Some(wanted) = self.wanted.clone() else {
            return;
        };
        if end.0 != RunState::Succeeded || findings.files.is_empty() {
            return;
        }
        let mut relations = findings.compared.clone();
        if let Ok(session) = self.open_analyzer().await {
            let now = touched(&session.client, &names).await;
            relations.extend(now.unwrap_or_default());
            session.close(Duration::from_secs(1)).await;
        }
        relations.sort_unstable();
        relations.dedup();
        let baseline = findings.baseline.clone().unwrap_or_default();
        self.runner
            .watch_after(wanted, &self.run, (applied, relations), baseline);
    }
}
