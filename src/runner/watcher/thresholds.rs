//! Whether a run kept to what was asked of it (document 3, "success criteria"). Pure.

use serde::{Deserialize, Serialize};

use crate::config::Thresholds;
use crate::runner::report::FileReport;

/// A file that takes longer than this without a look counts as not watched; a shorter one may have ended
/// between two.
const UNSEEN_MS: u64 = 1000;

/// A limit that was not kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Breach {
    /// The key of `[migrate.thresholds]`.
    pub threshold: String,
    /// The file; none where it is about the whole run.
    pub file: Option<String>,
    /// What was found, and what was allowed.
    pub text: String,
}

impl std::fmt::Display for Breach {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.file {
            Some(file) => write!(f, "{file}: {}", self.text),
            None => f.write_str(&self.text),
        }
    }
}

/// Every limit that the files of a run did not keep to. What was not measured was not kept: unknown is
/// never zero.
pub(in crate::runner) fn breaches(files: &[FileReport], limits: &Thresholds) -> Vec<Breach> {
    files
        .iter()
        .flat_map(|file| of_file(file, limits))
        .collect()
}

fn of_file(file: &FileReport, limits: &Thresholds) -> Vec<Breach> {
    let mut found = Vec::new();
    let mut breach = |threshold: &str, text: String| {
        found.push(Breach {
            threshold: threshold.to_owned(),
            file: Some(file.file.clone()),
            text,
        });
    };
    let asked = limits.lock_held.is_some() || limits.lock_wait.is_some();
    let asked = asked || limits.blocked.is_some();
    let Some(seen) = &file.watch else {
        if asked && file.elapsed_ms >= UNSEEN_MS {
            let text = "it was not watched, so that nobody knows whether it kept to the thresholds";
            breach("watched", text.to_owned());
        }
        return found;
    };
    let most = |limit: std::time::Duration| u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
    if let Some(limit) = limits.lock_held.map(most)
        && seen.held_max_ms >= limit
    {
        let lock = seen.held.first();
        let lock = lock.map_or_else(String::new, |it| {
            format!(" ({} on {})", it.mode, it.relation)
        });
        let text = format!(
            "a lock was held for {} ms{lock}; less than {limit} ms is asked for",
            seen.held_max_ms
        );
        breach("lock_held", text);
    }
    let waited = u64::try_from(seen.wait_max_ms).unwrap_or(0);
    if let Some(limit) = limits.lock_wait.map(most)
        && waited >= limit
    {
        let text =
            format!("somebody waited {waited} ms for a lock; less than {limit} ms is asked for");
        breach("lock_wait", text);
    }
    let blocked = usize::try_from(seen.blocked_max).unwrap_or(0);
    if let Some(limit) = limits.blocked
        && blocked >= limit
    {
        let text = format!(
            "{blocked} sessions waited for locks at once; fewer than {limit} are asked for"
        );
        breach("blocked", text);
    }
    found
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::runner::report::FileOutcome;
    use crate::runner::script::TxMode;
    use crate::runner::types::StepTraffic;
    use crate::runner::watcher::{HeldLock, Watched};

    fn file(elapsed_ms: u64, watch: Option<Watched>) -> FileReport {
        FileReport {
            version: "1".parse().expect("a version"),
            file: "1_a.up.sql".to_owned(),
            mode: TxMode::File,
            traffic: StepTraffic::Open,
            outcome: FileOutcome::Applied,
            statements: 1,
            elapsed_ms,
            batches: None,
            watch,
        }
    }

    fn watched(held_max_ms: u64, wait_max_ms: i64, blocked_max: i64) -> Option<Watched> {
        let held = HeldLock {
            relation: "public.t".to_owned(),
            mode: "ShareLock".to_owned(),
            ms: held_max_ms,
        };
        Some(Watched {
            looks: 9,
            blocked_max,
            wait_max_ms,
            held_max_ms,
            held: vec![held],
            ..Watched::default()
        })
    }

    fn limits() -> Thresholds {
        Thresholds {
            lock_held: Some(Duration::from_millis(500)),
            lock_wait: Some(Duration::from_millis(1000)),
            blocked: Some(3),
            ..Thresholds::default()
        }
    }

    fn names(files: &[FileReport], limits: &Thresholds) -> Vec<String> {
        let found = breaches(files, limits).into_iter();
        found.map(|it| it.threshold).collect()
    }

    #[test]
    fn what_reaches_a_limit_has_not_kept_to_it() {
        let good = file(900, watched(499, 999, 2));
        let none: [String; 0] = [];
        assert_eq!(names(std::slice::from_ref(&good), &limits()), none);
        let bad = [good, file(900, watched(500, 1000, 3))];
        assert_eq!(
            names(&bad, &limits()),
            ["lock_held", "lock_wait", "blocked"]
        );
        assert_eq!(names(&bad, &Thresholds::default()), none);
        let text = breaches(&bad, &limits())[0].to_string();
        assert_eq!(
            text,
            "1_a.up.sql: a lock was held for 500 ms (ShareLock on public.t); less than 500 ms is \
             asked for"
        );
    }

    #[test]
    fn what_nobody_watched_has_kept_to_nothing_unless_it_was_short() {
        assert_eq!(names(&[file(1000, None)], &limits()), ["watched"]);
        let none: [String; 0] = [];
        assert_eq!(names(&[file(40, None)], &limits()), none);
        assert_eq!(names(&[file(1000, None)], &Thresholds::default()), none);
    }
}
