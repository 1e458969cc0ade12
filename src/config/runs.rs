//! The part of validation that is about how runs are watched and written down.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::quantity::{ByteSize, CountOrNone, DurationOrNever, HumanDuration};
use super::raw::{RawRunLog, RawThresholds};
use super::settings::{RunLog, Thresholds};
use super::validate::Check;
use super::words::words;

/// Less than this would hold no run.
const LOG_MIN: usize = 4096;

words! {
    /// The figure that a trigger looks at.
    TriggerOn {
        /// Sessions that wait for locks, pgdrain's left out.
        Blocked = "blocked",
        /// The longest of their waits so far, in milliseconds.
        LockWaitMs = "lock_wait_ms",
        /// By how many percent of all transactions more are rolled back than before the run.
        RolledBackPercent = "rolled_back_percent",
        /// By how many percent the statements that took most time before the run are slower.
        SlowerPercent = "slower_percent",
        /// By how many percent more units of clients end in an error than before the run.
        ClientErrorPercent = "client_error_percent",
        /// Errors of the last half minute whose SQLSTATE no client was told before the run.
        NewErrors = "new_errors",
        /// By how many percent the statement is slower that got slowest, of the ten that took clients most
        /// time before the run.
        StatementSlowerPercent = "statement_slower_percent",
        /// Below which 99 of 100 units of clients stay, in milliseconds; of `statement`, if it is named.
        P99Ms = "p99_ms",
        /// The mean of units of clients, in milliseconds; of `statement`, if it is named.
        MeanMs = "mean_ms",
        /// How long the statement of a client has run that runs longest now, in milliseconds.
        LongestStatementMs = "longest_statement_ms",
        /// How many percent of the server's connections are in use, without the reserved ones.
        PoolPercent = "pool_percent",
        /// What row-level security costs a query of `migrate.thresholds.rls_role`, in milliseconds.
        RlsMs = "rls_ms",
    }
}

words! {
    /// What a trigger has done.
    TriggerAction {
        /// It is told.
        Alert = "alert",
        /// Traffic is held until somebody has looked.
        Hold = "hold",
        /// The run is taken back by its down files; if that cannot be, traffic is held.
        RollBack = "roll_back",
    }
}

/// An entry of `migrate.triggers`: a figure that is above a limit for some time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trigger {
    /// The figure.
    pub on: TriggerOn,
    /// Its limit, which it may reach.
    pub above: u32,
    /// For how long it has to be above it, without a break.
    #[serde(rename = "for")]
    pub lasting: HumanDuration,
    /// What is done then.
    #[serde(rename = "then", default = "alert")]
    pub action: TriggerAction,
    /// The one statement that it looks at, by a text of it or by its fingerprint; for `p99_ms` and
    /// `mean_ms`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub statement: Option<String>,
}

fn alert() -> TriggerAction {
    TriggerAction::Alert
}

impl fmt::Display for Trigger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} above {} for {}", self.on, self.above, self.lasting)?;
        match &self.statement {
            Some(statement) => write!(f, " of {statement}"),
            None => Ok(()),
        }
    }
}

impl Check<'_> {
    pub(super) fn thresholds(&mut self, raw: &RawThresholds) -> Thresholds {
        let mut time = |key: &str, written: Option<DurationOrNever>| {
            let DurationOrNever(time) = written?;
            if time.is_some_and(|time| time.is_zero()) {
                let key = format!("migrate.thresholds.{key}");
                self.wrong(&key, "nothing stays below zero; \"never\" asks for nothing");
            }
            time
        };
        let (lock_held, lock_wait, rls) = (
            time("lock_held", raw.lock_held),
            time("lock_wait", raw.lock_wait),
            time("rls", raw.rls),
        );
        let blocked = raw.blocked.and_then(|CountOrNone(count)| count);
        if blocked == Some(0) {
            let text = "nothing stays below zero; \"none\" asks for nothing";
            self.wrong("migrate.thresholds.blocked", text);
        }
        let percent = |written: Option<CountOrNone>| written.and_then(|CountOrNone(it)| it);
        let degradation_percent = percent(raw.degradation_percent);
        if degradation_percent == Some(0) {
            let text = "nothing stays below zero; \"none\" asks for nothing";
            self.wrong("migrate.thresholds.degradation_percent", text);
        }
        let index_use_percent = percent(raw.index_use_percent);
        if let Some(percent) = index_use_percent {
            self.within("migrate.thresholds.index_use_percent", percent, 0..=99);
        }
        self.not_empty("migrate.thresholds.rls_role", raw.rls_role.as_ref());
        if rls.is_some() && raw.rls_role.is_none() {
            let text = "the role as which it is measured has to be said: rls_role";
            self.wrong("migrate.thresholds.rls", text);
        }
        let default = Thresholds::default();
        Thresholds {
            lock_held,
            lock_wait,
            blocked,
            degradation_percent,
            index_use_percent,
            rls,
            rls_role: raw.rls_role.clone(),
            over: self.time("migrate.thresholds.over", raw.over, default.over),
        }
    }

    pub(super) fn run_log(&mut self, raw: RawRunLog) -> RunLog {
        let default = RunLog::default();
        if let Some(dir) = &raw.dir
            && !dir.is_absolute()
        {
            self.wrong("migrate.log.dir", "it must be an absolute path");
        }
        let max_bytes = raw.max_bytes.map(|ByteSize(bytes)| bytes);
        if let Some(bytes) = max_bytes {
            self.within("migrate.log.max_bytes", bytes, LOG_MIN..=1 << 40);
        }
        let keep = raw.keep.unwrap_or(default.keep);
        self.within("migrate.log.keep", keep, 1..=10_000);
        RunLog {
            dir: raw.dir,
            max_bytes: max_bytes.map_or(default.max_bytes, |bytes| bytes as u64),
            keep,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_trigger_is_read_as_it_is_written() {
        let read = |text: &str| toml::from_str::<Trigger>(text);
        let trigger = read("on = 'blocked'\nabove = 5\nfor = '30s'").expect("a trigger");
        let expected = Trigger {
            on: TriggerOn::Blocked,
            above: 5,
            lasting: HumanDuration(Duration::from_secs(30)),
            action: TriggerAction::Alert,
            statement: None,
        };
        assert_eq!(trigger, expected);
        assert_eq!(trigger.to_string(), "blocked above 5 for 30s");
        for wrong in [
            "on = 'blocked'\nabove = 5",
            "on = 'rain'\nabove = 5\nfor = '30s'",
            "on = 'blocked'\nabove = -5\nfor = '30s'",
            "on = 'blocked'\nabove = 5\nfor = '30s'\nthen = 'pray'",
            "on = 'blocked'\nabove = 5\nfor = '30s'\nunless = 1",
        ] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
