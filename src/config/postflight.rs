//! `[migrate.postflight]` and `[migrate.reports]`: what is looked at when a run's files are applied, and what
//! is kept of it; and the part of validation that is about them.

use std::path::PathBuf;
use std::time::Duration;

use super::raw::{RawPostflight, RawReports};
use super::validate::Check;
use super::words::words;

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

/// What is looked at when the files of a run are applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Postflight {
    /// When the schema's fingerprint is taken down.
    pub fingerprints: Fingerprints,
    /// How long each look at the schema may take.
    pub time: Duration,
}

impl Default for Postflight {
    fn default() -> Self {
        Self {
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
}

impl Default for Reports {
    fn default() -> Self {
        Self {
            dir: None,
            keep: 100,
        }
    }
}

impl Check<'_> {
    pub(super) fn postflight(&mut self, raw: &RawPostflight) -> Postflight {
        let default = Postflight::default();
        Postflight {
            fingerprints: raw.fingerprints.unwrap_or_default(),
            time: self.time("migrate.postflight.time", raw.time, default.time),
        }
    }

    pub(super) fn reports(&mut self, raw: RawReports) -> Reports {
        let default = Reports::default();
        let keep = raw.keep.unwrap_or(default.keep);
        self.within("migrate.reports.keep", keep, 1..=100_000);
        if raw.dir.as_ref().is_some_and(|it| !it.is_absolute()) {
            self.wrong("migrate.reports.dir", "it must be an absolute path");
        }
        Reports { dir: raw.dir, keep }
    }
}
