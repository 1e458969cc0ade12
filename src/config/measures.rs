//! The part of validation that is about measuring statements.

use std::time::Duration;

use super::quantity::HumanDuration;
use super::raw::RawMeasures;
use super::runs::{Trigger, TriggerOn};
use super::validate::Check;

/// More would be measured before than any watch lasts.
const BEFORE_MAX: Duration = Duration::from_secs(48 * 3600);

/// `[migrate.measures]`: what clients feel of a run, statement by statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Measures {
    /// How long statements are measured before a run's first window or file; zero measures none, and
    /// compares what is being measured already.
    pub before: Duration,
    /// One in so many transactions is timed.
    pub one_in: u32,
}

impl Default for Measures {
    fn default() -> Self {
        Self {
            before: Duration::ZERO,
            one_in: 10,
        }
    }
}

impl TriggerOn {
    /// Whether it is known of a single statement.
    fn is_of_a_statement(self) -> bool {
        matches!(self, TriggerOn::P99Ms | TriggerOn::MeanMs)
    }

    /// Whether it is known only where statements are measured.
    #[must_use]
    pub fn is_measured(self) -> bool {
        match self {
            TriggerOn::P99Ms
            | TriggerOn::MeanMs
            | TriggerOn::ClientErrorPercent
            | TriggerOn::NewErrors
            | TriggerOn::StatementSlowerPercent => true,
            TriggerOn::Blocked
            | TriggerOn::LockWaitMs
            | TriggerOn::RolledBackPercent
            | TriggerOn::SlowerPercent
            | TriggerOn::LongestStatementMs
            | TriggerOn::PoolPercent
            | TriggerOn::RlsMs => false,
        }
    }
}

impl Check<'_> {
    pub(super) fn triggers(
        &mut self,
        raw: Option<Vec<Trigger>>,
        has_rls_role: bool,
    ) -> Vec<Trigger> {
        let triggers = raw.unwrap_or_default();
        for trigger in &triggers {
            if trigger.statement.is_some() && !trigger.on.is_of_a_statement() {
                let text = format!("{} is not known of one statement", trigger.on);
                self.wrong("migrate.triggers", text);
            }
            if trigger.on == TriggerOn::RlsMs && !has_rls_role {
                let text = "rls_ms needs migrate.thresholds.rls_role";
                self.wrong("migrate.triggers", text);
            }
        }
        triggers
    }

    pub(super) fn measures(&mut self, raw: RawMeasures) -> Measures {
        let default = Measures::default();
        let HumanDuration(before) = raw.before.unwrap_or(HumanDuration(default.before));
        if before > BEFORE_MAX {
            self.wrong("migrate.measures.before", "it must be at most 48h");
        }
        let one_in = raw.one_in.unwrap_or(default.one_in as usize);
        self.within("migrate.measures.one_in", one_in, 1..=1_000_000);
        Measures {
            before,
            one_in: u32::try_from(one_in).unwrap_or(default.one_in),
        }
    }
}
