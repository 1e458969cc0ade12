//! How far a statement is, and when it will be through: the rate of its present phase, carried on.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

/// What a view of the server tells of one statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) pid: i32,
    pub(super) what: String,
    pub(super) phase: String,
    pub(super) relation: Option<String>,
    /// Blocks, rows, bytes or lockers; the unit is the phase's.
    pub(super) done: i64,
    /// 0 where it is not known.
    pub(super) total: i64,
}

/// How far a statement is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Work {
    /// The kind of statement, such as `create index`.
    pub what: String,
    /// What the server is at, in its own words.
    pub phase: String,
    /// The table, if it is there for others already.
    pub relation: Option<String>,
    /// How much of the phase is done, 0 to 100, if its size is known.
    pub percent: Option<f64>,
    /// When the phase will be over at its present rate, in milliseconds; other phases may follow.
    pub eta_ms: Option<u64>,
}

impl std::fmt::Display for Work {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.what)?;
        if let Some(relation) = &self.relation {
            write!(f, " on {relation}")?;
        }
        write!(f, ": {}", self.phase)?;
        if let Some(percent) = self.percent {
            write!(f, ", {percent:.0} %")?;
        }
        if let Some(eta) = self.eta_ms {
            let eta = Duration::from_secs(eta.div_ceil(1000));
            write!(f, ", about {} to go", humantime::format_duration(eta))?;
        }
        Ok(())
    }
}

/// Where a phase was when it was seen first.
#[derive(Clone, Debug)]
struct Start {
    what: String,
    phase: String,
    at: Instant,
    done: i64,
}

/// Follows statements from look to look.
#[derive(Debug, Default)]
pub(super) struct Paces {
    by_pid: BTreeMap<i32, Start>,
}

impl Paces {
    /// Takes in what is seen now; statements that are no longer seen are forgotten.
    pub(super) fn follow(&mut self, seen: Vec<Seen>, now: Instant) -> Vec<Work> {
        self.by_pid
            .retain(|pid, _| seen.iter().any(|it| it.pid == *pid));
        seen.into_iter().map(|it| self.one(it, now)).collect()
    }

    fn one(&mut self, seen: Seen, now: Instant) -> Work {
        let begin = || Start {
            what: seen.what.clone(),
            phase: seen.phase.clone(),
            at: now,
            done: seen.done,
        };
        let start = self.by_pid.entry(seen.pid).or_insert_with(begin);
        // Another phase, another statement, or the next round of the same.
        if start.what != seen.what || start.phase != seen.phase || seen.done < start.done {
            *start = begin();
        }
        let known = seen.total > 0;
        Work {
            percent: known.then(|| percent(seen.done, seen.total)),
            eta_ms: known
                .then(|| {
                    let done = seen.done.saturating_sub(start.done);
                    eta(done, seen.total.saturating_sub(seen.done), now - start.at)
                })
                .flatten(),
            what: seen.what,
            phase: seen.phase,
            relation: seen.relation,
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "a percentage for people")]
fn percent(done: i64, total: i64) -> f64 {
    (done as f64 * 1000.0 / total as f64)
        .round()
        .clamp(0.0, 1000.0)
        / 10.0
}

/// When the rest is done at the rate so far; none while nothing was seen to move.
fn eta(done: i64, left: i64, took: Duration) -> Option<u64> {
    let (done, left) = (u128::try_from(done).ok()?, u128::try_from(left).ok()?);
    let eta = took.as_millis().checked_mul(left)?.checked_div(done)?;
    u64::try_from(eta).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(phase: &str, done: i64, total: i64) -> Vec<Seen> {
        vec![Seen {
            pid: 7,
            what: "create index".to_owned(),
            phase: phase.to_owned(),
            relation: Some("public.t".to_owned()),
            done,
            total,
        }]
    }

    #[test]
    fn the_rate_of_the_phase_tells_its_end() {
        let start = Instant::now();
        let at = |s| start + Duration::from_secs(s);
        let mut paces = Paces::default();
        let told = |work: Vec<Work>| (work[0].percent, work[0].eta_ms);
        // Ten of it were done before anybody looked: they tell nothing of the rate.
        assert_eq!(
            told(paces.follow(seen("scan", 10, 100), at(0))),
            (Some(10.0), None)
        );
        let second = paces.follow(seen("scan", 40, 100), at(3));
        assert_eq!(
            second[0].to_string(),
            "create index on public.t: scan, 40 %, about 6s to go"
        );
        assert_eq!(told(second), (Some(40.0), Some(6000)));
        // The next phase begins from nothing.
        assert_eq!(
            told(paces.follow(seen("sort", 5, 50), at(4))),
            (Some(10.0), None)
        );
        assert_eq!(
            told(paces.follow(seen("sort", 10, 50), at(5))),
            (Some(20.0), Some(8000))
        );
        // It went back: the same phase of the next index.
        assert_eq!(
            told(paces.follow(seen("sort", 0, 50), at(6))),
            (Some(0.0), None)
        );
        // A phase without a size.
        assert_eq!(told(paces.follow(seen("wait", 0, 0), at(7))), (None, None));
        assert_eq!(paces.follow(Vec::new(), at(8)), []);
        assert!(paces.by_pid.is_empty());
    }

    #[test]
    fn no_number_of_the_server_is_too_strange() {
        let mut paces = Paces::default();
        let now = Instant::now();
        for (done, total) in [(i64::MAX, 1), (-5, 3), (5, -3), (i64::MIN, i64::MAX)] {
            for work in paces.follow(seen("scan", done, total), now) {
                assert!(
                    work.percent.is_none_or(|it| (0.0..=100.0).contains(&it)),
                    "{work:?}"
                );
            }
        }
    }
}
