//! The part of validation that is about how runs are watched and written down.

use super::quantity::{ByteSize, CountOrNone, DurationOrNever};
use super::raw::{RawRunLog, RawThresholds};
use super::settings::{RunLog, Thresholds};
use super::validate::Check;

/// Less than this would hold no run.
const LOG_MIN: usize = 4096;

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
        let (lock_held, lock_wait) = (
            time("lock_held", raw.lock_held),
            time("lock_wait", raw.lock_wait),
        );
        let blocked = raw.blocked.and_then(|CountOrNone(count)| count);
        if blocked == Some(0) {
            let text = "nothing stays below zero; \"none\" asks for nothing";
            self.wrong("migrate.thresholds.blocked", text);
        }
        Thresholds {
            lock_held,
            lock_wait,
            blocked,
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
