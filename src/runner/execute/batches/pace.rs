//! How fast batches go, and how long the rest will take: whole numbers, told at most once a second.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::super::millis;
use crate::runner::history::Checkpoint;

/// The shortest time between two lines: what is kept of a run's progress is bounded.
const BETWEEN: Duration = Duration::from_secs(1);

/// Measures from the beginning of this run.
pub(super) struct Pace {
    begun: Instant,
    /// How far the file was then; the first batch says so.
    from: Option<(i64, i64)>,
    told: Option<Instant>,
}

impl Pace {
    pub(super) fn new() -> Self {
        Self {
            begun: Instant::now(),
            from: None,
            told: None,
        }
    }

    /// What is told of a batch that is committed, where there are so many rows (or blocks) as far as
    /// that is known; `None` if something was told just now.
    pub(super) fn tell(
        &mut self,
        file: &str,
        at: &Checkpoint,
        of: Option<i64>,
    ) -> Option<(String, Value)> {
        // The first batch of a run is where measuring begins.
        let (rows, scanned) = *self.from.get_or_insert((at.rows, at.scanned));
        let recent = self.told.is_some_and(|it| it.elapsed() < BETWEEN);
        if recent && !at.is_at_end() {
            return None;
        }
        self.told = Some(Instant::now());
        let guess = Estimate {
            elapsed: self.begun.elapsed(),
            rows: at.rows - rows,
            scanned: at.scanned - scanned,
            done: at.scanned,
            of,
        };
        let (rate, percent) = (guess.rate(), guess.percent());
        let left = guess.left();
        let mut text = format!("{file}: {} batches, {} rows", at.batches, at.rows);
        for more in [
            rate.map(|it| format!(", {it} rows/s")),
            percent.map(|it| format!(", about {it} %")),
            left.map(|it| format!(", {} to go", humantime::format_duration(it))),
        ] {
            text.push_str(&more.unwrap_or_default());
        }
        let data = json!({
            "file": file, "batches": at.batches, "rows": at.rows, "rows_per_s": rate,
            "percent": percent, "eta_ms": left.map(millis),
        });
        Some((text, data))
    }
}

/// What is known for a guess.
struct Estimate {
    elapsed: Duration,
    /// Rows changed in that time.
    rows: i64,
    /// What was scanned in that time.
    scanned: i64,
    /// What was scanned in all runs.
    done: i64,
    /// What there is.
    of: Option<i64>,
}

impl Estimate {
    /// Rows in a second.
    fn rate(&self) -> Option<u64> {
        let rows = u64::try_from(self.rows).ok().filter(|rows| *rows > 0)?;
        let elapsed = millis(self.elapsed).max(1);
        Some(rows.saturating_mul(1000) / elapsed)
    }

    fn percent(&self) -> Option<i64> {
        let of = self.of.filter(|of| *of > 0)?;
        Some((self.done.saturating_mul(100) / of).clamp(0, 100))
    }

    /// How long the rest takes at this pace.
    fn left(&self) -> Option<Duration> {
        let left = u32::try_from((self.of? - self.done).max(0)).ok()?;
        let scanned = u32::try_from(self.scanned).ok().filter(|it| *it > 0)?;
        let all = self.elapsed.checked_mul(left)? / scanned;
        Some(Duration::from_secs(all.as_secs()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rest_is_guessed_from_the_pace_of_this_run() {
        let guess = Estimate {
            elapsed: Duration::from_secs(10),
            rows: 500,
            scanned: 1_000,
            done: 5_000,
            of: Some(20_000),
        };
        assert_eq!(guess.rate(), Some(50));
        assert_eq!(guess.percent(), Some(25));
        assert_eq!(guess.left(), Some(Duration::from_secs(150)));
        let unknown = Estimate { of: None, ..guess };
        assert_eq!((unknown.percent(), unknown.left()), (None, None));
        // Statistics are old: more was done than there is.
        let over = Estimate {
            of: Some(10),
            ..unknown
        };
        assert_eq!(over.percent(), Some(100));
        assert_eq!(over.left(), Some(Duration::ZERO));
    }

    #[tokio::test(start_paused = true)]
    async fn a_line_a_second_is_told_and_the_last_one_always() {
        let mut pace = Pace::new();
        let mut at = Checkpoint {
            last: Some("1".to_owned()),
            end: Some("9".to_owned()),
            batches: 1,
            scanned: 10,
            rows: 10,
            before: None,
        };
        assert!(pace.tell("f", &at, None).is_some());
        at.rows = 20;
        assert!(pace.tell("f", &at, None).is_none());
        tokio::time::advance(BETWEEN).await;
        let (text, data) = pace.tell("f", &at, Some(100)).expect("a line");
        assert!(
            text.starts_with("f: 1 batches, 20 rows, 10 rows/s"),
            "{text}"
        );
        assert_eq!(data["percent"], 10);
        at.last.clone_from(&at.end);
        assert!(pace.tell("f", &at, None).is_some());
    }
}
