//! `[migrate.compare]` and `[migrate.batch]`: what of a database is compared before and after a run, and what
//! keeps its batches waiting; and the part of validation that is about them.

use std::time::Duration;

use super::quantity::DurationOrNever;
use super::raw::{RawBatch, RawCompare};
use super::validate::Check;
use super::words::words;

/// More statements would keep a run waiting.
const PLANS_MAX: usize = 100;

words! {
    /// For which runs the database is compared before and after.
    #[derive(Default)]
    CompareWhen {
        /// Those that are watched, measured, or held against a threshold that needs it.
        #[default]
        Watched = "watched",
        /// Every run.
        Always = "always",
        /// None but those that are held against a threshold that needs it.
        Never = "never",
    }
}

/// What of a database is compared before and after a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compare {
    /// For which runs.
    pub when: CompareWhen,
    /// How many of the statements that took most time (pg_stat_statements) are planned.
    pub plans: usize,
    /// Statements that are planned besides, with `$1` where a parameter stands.
    pub statements: Vec<String>,
}

impl Default for Compare {
    fn default() -> Self {
        Self {
            when: CompareWhen::default(),
            plans: 10,
            statements: Vec::new(),
        }
    }
}

/// What makes batches give way, unless its file says otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BatchLimits {
    /// Above which 99th percentile of what clients feel pauses grow; `None` is none.
    pub p99: Option<Duration>,
}

impl Check<'_> {
    pub(super) fn compare(&mut self, raw: RawCompare) -> Compare {
        let default = Compare::default();
        let plans = raw.plans.unwrap_or(default.plans);
        self.within("migrate.compare.plans", plans, 0..=PLANS_MAX);
        let statements = raw.statements.unwrap_or_default();
        if statements.len() > PLANS_MAX {
            let text = format!("these are more than {PLANS_MAX}");
            self.wrong("migrate.compare.statements", text);
        }
        if statements.iter().any(|it| it.trim().is_empty()) {
            self.wrong("migrate.compare.statements", "one of them is empty");
        }
        Compare {
            when: raw.when.unwrap_or_default(),
            plans,
            statements,
        }
    }

    pub(super) fn batch(&mut self, raw: &RawBatch) -> BatchLimits {
        let p99 = raw.p99.and_then(|DurationOrNever(time)| time);
        if p99.is_some_and(|time| time.is_zero()) {
            let text = "nothing stays below zero; \"never\" asks for nothing";
            self.wrong("migrate.batch.p99", text);
        }
        BatchLimits { p99 }
    }
}
