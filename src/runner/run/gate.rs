//! The go/no-go list as it stands when a run begins: recorded, and asked for where that is configured.

use serde_json::json;

use super::{Findings, Job};
use crate::config::GateUse;
use crate::runner::gonogo::Verdict;
use crate::runner::history::Ledger;
use crate::runner::preflight::Check;
use crate::runner::traffic::Traffic;
use crate::runner::types::EventKind;

const NAME: &str = "gonogo";

impl<T: Traffic> Job<T> {
    /// Makes the list before the lock is ours: it would name us as the one who has it.
    pub(super) async fn stand_at_gate(&self, findings: &mut Findings) {
        let Some(request) = &self.gate else {
            return;
        };
        match self.runner.decide_gate(&self.run.database, request).await {
            Ok(gate) => {
                let against = gate.lines.iter().filter(|it| it.verdict != Verdict::Go);
                let against: Vec<_> = against.map(|it| it.name.as_str()).collect();
                let text = match gate.go {
                    true => "go: every line of the gate says so".to_owned(),
                    false => format!("no-go by the gate: {}", against.join(", ")),
                };
                self.run
                    .tell(EventKind::Note, text, json!({ "gonogo": gate }));
                findings.gonogo = Some(gate);
            }
            Err(error) => self
                .run
                .note(format!("the gate could not be asked: {error}")),
        }
    }

    /// The check that the gate says go, where that is asked for.
    pub(super) fn gate_check(&self, findings: &Findings) -> Option<Check> {
        if self.options.approvals.gate != GateUse::Require || self.gate.is_none() {
            return None;
        }
        let hint = "`pgdrain migrate gonogo` says what to do";
        Some(match &findings.gonogo {
            None => Check::not_known(NAME, "the gate could not be asked").hint(hint),
            Some(gate) => {
                let against = gate.lines.iter().filter(|it| it.verdict != Verdict::Go);
                let against = against.map(|it| format!("{}: {}", it.name, it.text));
                Check::of(NAME, against.collect(), "every line of the gate says go").hint(hint)
            }
        })
    }

    /// Writes the list into the history, with the run.
    pub(super) async fn keep_gate(&self, ledger: &Ledger, findings: &Findings) {
        if let Some(gate) = &findings.gonogo
            && let Err(error) = ledger.note(&self.run.id, NAME, &json!(gate)).await
        {
            self.run
                .note(format!("the gate's list is not recorded: {error}"));
        }
    }
}
