//! `[migrate.postflight]` and `[migrate.reports]`: what is looked at when a run's files are applied, and what
//! is kept of it; and the part of validation that is about them.

use std::path::PathBuf;
use std::time::Duration;

use super::quantity::ByteSize;
use super::raw::{RawPostflight, RawReports};
use super::validate::Check;
use super::words::{Then, words};

words! {
    /// When the schema's fingerprint is taken down.
    #[derive(Default)]
    Fingerprints {
        /// Before the first file, and behind each.
        #[default]
        Files = "files",
        /// Before the first file, and behind the last.
        Run = "run",
        /// Never: nobody finds out whether the schema drifts.
        None = "none",
    }
}

words! {
    /// When the tables that files touch are analyzed.
    #[derive(Default)]
    Analyze {
        /// Not at all: autovacuum does it in its time.
        Off = "off",
        /// While their window still lasts, so that nobody is let in to tables without statistics.
        #[default]
        BeforeReopening = "before_reopening",
        /// When traffic flows again.
        AfterReopening = "after_reopening",
    }
}

words! {
    /// A check of postflight that may be switched off.
    PostflightCheck {
        /// No migration stands part-way.
        Dirty = "dirty",
        /// The files of what is applied are what they were.
        Checksums = "checksums",
        /// No index has become invalid.
        Indexes = "indexes",
        /// No constraint has become NOT VALID that was not declared so.
        Constraints = "constraints",
        /// Nobody is left waiting for a lock.
        Locks = "locks",
        /// The schema can be read, and ways back lead to the one before.
        Schema = "schema",
    }
}

/// What is looked at when the files of a run are applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Postflight {
    /// Checks that are not made.
    pub off: Vec<PostflightCheck>,
    /// What happens to traffic when one is not passed.
    pub then: Then,
    /// Whether what was wrong before counts too, and constraints that were declared NOT VALID.
    pub strict: bool,
    /// How long somebody may be waiting for a lock.
    pub locks_time: Duration,
    /// When the tables that files touch are analyzed.
    pub analyze: Analyze,
    /// How long that may take in all.
    pub analyze_time: Duration,
    /// When the schema's fingerprint is taken down.
    pub fingerprints: Fingerprints,
    /// How long each look at the schema may take.
    pub time: Duration,
}

impl Default for Postflight {
    fn default() -> Self {
        Self {
            off: Vec::new(),
            then: Then::Open,
            strict: false,
            locks_time: Duration::from_secs(3),
            analyze: Analyze::default(),
            analyze_time: Duration::from_secs(30),
            fingerprints: Fingerprints::default(),
            time: Duration::from_secs(15),
        }
    }
}

/// Where reports and schemas of runs are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reports {
    /// The directory; `None` writes none.
    pub dir: Option<PathBuf>,
    /// Of how many runs of a database they are kept.
    pub keep: usize,
    /// After how long a watch is reported that is longer.
    pub watch_after: Duration,
}

impl Default for Reports {
    fn default() -> Self {
        Self {
            dir: None,
            keep: 100,
            watch_after: Duration::from_secs(24 * 3600),
        }
    }
}

impl Check<'_> {
    pub(super) fn postflight(&mut self, raw: RawPostflight) -> Postflight {
        let default = Postflight::default();
        Postflight {
            off: raw.off.unwrap_or_default(),
            then: raw.then.unwrap_or(default.then),
            strict: raw.strict.unwrap_or(default.strict),
            locks_time: self.time(
                "migrate.postflight.locks_time",
                raw.locks_time,
                default.locks_time,
            ),
            analyze: raw.analyze.unwrap_or_default(),
            analyze_time: self.time(
                "migrate.postflight.analyze_time",
                raw.analyze_time,
                default.analyze_time,
            ),
            fingerprints: raw.fingerprints.unwrap_or_default(),
            time: self.time("migrate.postflight.time", raw.time, default.time),
        }
    }

    /// Between the server's least and what an index build can use (Postgres documentation, "Resource
    /// Consumption").
    pub(super) fn maintenance_work_mem(&mut self, written: Option<ByteSize>) -> Option<u64> {
        let ByteSize(bytes) = written?;
        let key = "migrate.maintenance_work_mem";
        self.within(key, bytes, 1 << 20..=1 << 40);
        Some(bytes as u64)
    }

    pub(super) fn reports(&mut self, raw: RawReports) -> Reports {
        let default = Reports::default();
        let keep = raw.keep.unwrap_or(default.keep);
        self.within("migrate.reports.keep", keep, 1..=100_000);
        if raw.dir.as_ref().is_some_and(|it| !it.is_absolute()) {
            self.wrong("migrate.reports.dir", "it must be an absolute path");
        }
        let key = "migrate.reports.watch_after";
        Reports {
            dir: raw.dir,
            keep,
            watch_after: self.time(key, raw.watch_after, default.watch_after),
        }
    }
}
