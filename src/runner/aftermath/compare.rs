//! What clients felt before a run against what they feel since, statement by statement. Pure.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::metrics::statements::{Histogram, Measured, MeasuredStatement};
use crate::session::class::normal;

/// Over which time the figures are taken that triggers look at.
const SPAN: Duration = Duration::from_secs(30);

/// Means and shares of fewer units say nothing.
const ENOUGH: u64 = 20;

/// Statements that are compared: those that took most time before.
pub(in crate::runner) const TOP: usize = 10;

/// What clients felt before and since.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// Before the run.
    pub before: Felt,
    /// Since.
    pub since: Felt,
    /// SQLSTATEs that clients were told since and not before, and how often.
    pub new_errors: BTreeMap<String, u64>,
    /// The statements that took most time before.
    pub statements: Vec<Compared>,
}

/// One statement before and since.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Compared {
    /// By which it is found again.
    pub fingerprint: String,
    /// Without constants; cut.
    pub text: String,
    /// Before the run.
    pub before: Felt,
    /// Since.
    pub since: Felt,
    /// By how many percent its mean is longer since; none of too few.
    pub slower_percent: Option<f64>,
}

/// What clients felt of one statement, or of all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Felt {
    /// Units that were timed.
    pub timed: u64,
    /// Their mean, in milliseconds.
    pub mean_ms: Option<f64>,
    /// The 99th percentile of them, in milliseconds.
    pub p99_ms: Option<f64>,
    /// How many percent ended in an error: of all units, and of timed ones for a statement.
    pub error_percent: Option<f64>,
}

impl Felt {
    fn new(latency: &Histogram, error_percent: Option<f64>) -> Self {
        Self {
            timed: latency.count,
            mean_ms: latency.mean_ms(),
            p99_ms: latency.quantile_ms(0.99),
            error_percent,
        }
    }

    fn of(statement: Option<&MeasuredStatement>) -> Self {
        statement.map_or_else(Self::default, |it| {
            Self::new(&it.latency, it.error_percent())
        })
    }
}

impl Comparison {
    /// Of two measures that have nothing in common.
    pub(in crate::runner) fn new(before: &Measured, since: &Measured) -> Self {
        let mut found: BTreeMap<&str, &MeasuredStatement> = BTreeMap::new();
        found.extend(since.statements.iter().map(|it| (&*it.fingerprint, it)));
        let statements = before.statements.iter().take(TOP).map(|old| {
            let new = found.get(&*old.fingerprint).copied();
            let (before, since) = (Felt::of(Some(old)), Felt::of(new));
            Compared {
                fingerprint: old.fingerprint.clone(),
                text: old.text.clone(),
                slower_percent: slower(before, since),
                before,
                since,
            }
        });
        let new_errors = since.errors.iter();
        let new_errors = new_errors.filter(|(state, _)| !before.errors.contains_key(*state));
        Self {
            before: Felt::new(&before.latency, before.error_percent()),
            since: Felt::new(&since.latency, since.error_percent()),
            new_errors: new_errors
                .map(|(state, count)| (state.clone(), *count))
                .collect(),
            statements: statements.collect(),
        }
    }

    /// By how many percent statements take longer, each held against its own mean and weighed by how often
    /// it ran since; none of too few.
    #[expect(clippy::cast_precision_loss, reason = "a percentage")]
    pub(in crate::runner) fn degradation_percent(&self) -> Option<f64> {
        let (mut expected, mut took) = (0.0, 0.0);
        for it in self
            .statements
            .iter()
            .filter(|it| it.slower_percent.is_some())
        {
            let often = it.since.timed as f64;
            expected += often * it.before.mean_ms?;
            took += often * it.since.mean_ms?;
        }
        (expected > 0.0).then(|| (took / expected - 1.0) * 100.0)
    }

    /// By how many percent the statement is slower that got slowest.
    pub(super) fn slowest_percent(&self) -> Option<f64> {
        let all = self.statements.iter().filter_map(|it| it.slower_percent);
        all.reduce(f64::max)
    }
}

/// By how many percent a mean got longer.
fn slower(before: Felt, since: Felt) -> Option<f64> {
    let enough = before.timed >= ENOUGH && since.timed >= ENOUGH;
    let (old, new) = (before.mean_ms?, since.mean_ms?);
    (enough && old > 0.0).then(|| (new / old - 1.0) * 100.0)
}

/// By how many percentage points more units ended in an error.
pub(super) fn more_errors(before: &Measured, lately: &Measured) -> Option<f64> {
    let enough = before.units >= ENOUGH && lately.units >= ENOUGH;
    let (old, new) = (before.error_percent()?, lately.error_percent()?);
    enough.then_some(new - old)
}

/// The statement that a trigger names, by its text or its fingerprint.
pub(super) fn named<'a>(measured: &'a Measured, wanted: &str) -> Option<&'a MeasuredStatement> {
    let fingerprint = format!("{:016x}", normal(wanted.as_bytes()).fingerprint);
    let mut all = measured.statements.iter();
    all.find(|it| it.fingerprint == wanted || it.fingerprint == fingerprint)
}

/// What was measured in the last half minute, or another time.
#[derive(Debug)]
pub(in crate::runner) struct Recent {
    span: Duration,
    seen: VecDeque<(Instant, Measured)>,
}

impl Default for Recent {
    fn default() -> Self {
        Self::over(SPAN)
    }
}

impl Recent {
    /// What was measured in the last so much time.
    pub(in crate::runner) fn over(span: Duration) -> Self {
        Self {
            span,
            seen: VecDeque::new(),
        }
    }

    /// Takes in a look, and returns what was measured in the span before it.
    pub(in crate::runner) fn add(&mut self, now: Instant, seen: Measured) -> Measured {
        self.seen.push_back((now, seen.clone()));
        while self.seen.len() > 2 && now - self.seen[1].0 >= self.span {
            self.seen.pop_front();
        }
        let first = self.seen.front().map(|(_, first)| seen.since(first));
        first.unwrap_or_default()
    }
}

impl std::fmt::Display for Comparison {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ms = |time: Option<f64>| time.map_or_else(|| "-".to_owned(), |it| format!("{it:.1}ms"));
        let percent =
            |share: Option<f64>| share.map_or_else(|| "-".to_owned(), |it| format!("{it:.1}%"));
        write!(
            f,
            "clients felt p99 {} (before {}), errors {} (before {})",
            ms(self.since.p99_ms),
            ms(self.before.p99_ms),
            percent(self.since.error_percent),
            percent(self.before.error_percent),
        )?;
        let worst = self.statements.iter();
        let worst = worst.filter(|it| it.slower_percent.is_some_and(|it| it > 10.0));
        match worst.count() {
            0 => {}
            many => write!(f, ", {many} of the top ten statements more than 10% slower")?,
        }
        if !self.new_errors.is_empty() {
            let all: Vec<_> = self.new_errors.keys().map(String::as_str).collect();
            write!(f, ", new errors: {}", all.join(", "))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::statements::Statements;
    use std::sync::Arc;

    /// So many units of each statement, with the same time for all, and errors.
    fn measured(units: &[(&str, u64, u64, Option<&str>)]) -> Measured {
        let all = Statements::default();
        all.measure(Duration::from_secs(60), 1);
        for (sql, count, ms, error) in units {
            let it = normal(sql.as_bytes());
            for _ in 0..*count {
                let took = Duration::from_millis(*ms);
                all.answered(Some((it.fingerprint, &Arc::clone(&it.text), took)), *error);
            }
        }
        all.measured()
    }

    #[test]
    fn statements_are_held_against_themselves_and_new_errors_are_named() {
        let before = measured(&[
            ("select a", 100, 10, None),
            ("select b", 30, 2, None),
            ("select c", 5, 100, Some("23505")),
        ]);
        let since = measured(&[
            ("select a", 50, 15, None),
            ("select b", 30, 1, Some("40001")),
            ("select c", 50, 900, Some("23505")),
            ("select d", 50, 900, None),
        ]);
        let comparison = Comparison::new(&before, &since);
        let slower = comparison.statements.iter();
        let slower: Vec<_> = slower
            .map(|it| (it.text.as_str(), it.slower_percent.map(f64::round)))
            .collect();
        // Of c there were too few before, and d was not there.
        assert_eq!(
            slower,
            [
                ("select a", Some(50.0)),
                ("select c", None),
                ("select b", Some(-50.0))
            ]
        );
        assert_eq!(comparison.slowest_percent().map(f64::round), Some(50.0));
        // 50 of a at 15 instead of 10 ms, 30 of b at 1 instead of 2: 780 instead of 560 ms.
        let degradation = comparison.degradation_percent().expect("enough");
        assert!((degradation - 39.3).abs() < 0.2, "{degradation}");
        assert_eq!(
            comparison.new_errors,
            BTreeMap::from([("40001".to_owned(), 30)])
        );
        let text = comparison.to_string();
        assert!(
            text.contains("1 of the top ten") && text.contains("new errors: 40001"),
            "{text}"
        );
        let more = more_errors(&before, &since).expect("enough");
        assert!(
            (more - (80.0 / 180.0 - 5.0 / 135.0) * 100.0).abs() < 0.01,
            "{more}"
        );
        assert_eq!(more_errors(&measured(&[]), &since), None);
        assert_eq!(
            more_errors(&before, &measured(&[("select a", 19, 1, None)])),
            None
        );
    }

    #[test]
    fn a_statement_is_named_by_any_text_of_it_or_its_fingerprint() {
        let all = measured(&[("select * from t where id = 7", 1, 10, None)]);
        let fingerprint = all.statements[0].fingerprint.clone();
        for name in ["SELECT * FROM t WHERE id = $1;", &fingerprint] {
            assert!(named(&all, name).is_some(), "{name}");
        }
        assert!(named(&all, "select 1").is_none());
    }

    #[test]
    fn only_what_was_measured_lately_counts() {
        let start = Instant::now();
        let at = |s| start + Duration::from_secs(s);
        let of = |count| measured(&[("select a", count, 1, None)]);
        let mut recent = Recent::default();
        let units = |it: Measured| it.units;
        assert_eq!(units(recent.add(at(0), of(10))), 0);
        assert_eq!(units(recent.add(at(20), of(30))), 20);
        assert_eq!(units(recent.add(at(40), of(40))), 30);
        assert_eq!(units(recent.add(at(55), of(41))), 11);
        // Begun anew by another process.
        assert_eq!(units(recent.add(at(56), of(3))), 3);
    }
}
