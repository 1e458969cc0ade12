//! The line that lives while the demo runs: on a terminal it changes in place, elsewhere it is
//! written again and again.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::fmt;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::load::Load;
use super::scene::DATABASE;
use crate::admin::types::Status;
use crate::cli::client::{Client, path};
use crate::cli::output;

/// How often the line changes.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// How often it is written where it cannot change, and how often while clients are held: that is
/// over soon, and worth to be seen.
const WRITE_EVERY: Duration = Duration::from_secs(1);
const WRITE_EVERY_HELD: Duration = Duration::from_millis(250);

/// Over how long the speed is taken.
const SPEED_OVER: Duration = Duration::from_secs(1);

/// Where the demo speaks.
pub(super) struct Screen {
    bar: Option<ProgressBar>,
    line: RefCell<Line>,
}

impl Screen {
    pub(super) fn new() -> Self {
        let terminal = std::io::stdout().is_terminal() && std::io::stderr().is_terminal();
        Self {
            bar: terminal.then(bar),
            line: RefCell::default(),
        }
    }

    /// Says something that stays.
    ///
    /// # Errors
    /// When standard output cannot be written.
    pub(super) fn say(&self, text: &str) -> anyhow::Result<()> {
        match &self.bar {
            Some(bar) => bar.suspend(|| output::line(text)),
            None => output::line(text),
        }
    }

    /// Says what is being prepared: there is no line yet that could show it.
    ///
    /// # Errors
    /// When standard output cannot be written.
    pub(super) fn begin(&self, step: &str) -> anyhow::Result<()> {
        self.phase(step);
        match self.bar {
            Some(_) => Ok(()),
            None => output::line(step),
        }
    }

    /// Says what the demo does from now on.
    pub(super) fn phase(&self, phase: &str) {
        let mut line = self.line.borrow_mut();
        line.phase = phase.to_owned();
        if let Some(bar) = &self.bar {
            bar.set_message(line.to_string());
        }
    }

    /// Shows how the load goes, for ever; clients are counted here, and the proxy is asked how many
    /// it holds.
    pub(super) async fn follow(&self, load: &Load, admin: &Client) -> Infallible {
        let mut ticks = tokio::time::interval(LOOK_EVERY);
        let mut written: Option<(Instant, String)> = None;
        let mut speed = Speed::default();
        let mut longest_wait = None;
        loop {
            ticks.tick().await;
            let held = held(admin).await;
            longest_wait = longest_wait.max(held.and_then(|(_, wait)| wait));
            let (transactions, errors) = {
                let tally = load.tally();
                (tally.transactions(), tally.errors())
            };
            let now = Instant::now();
            let mut line = self.line.borrow_mut();
            line.counts = Some(Counts {
                transactions,
                per_second: speed.at(now, transactions),
                held: held.map(|(clients, _)| clients),
                longest_wait,
                errors,
            });
            match &self.bar {
                Some(bar) => bar.set_message(line.to_string()),
                None => {
                    let last = written.as_ref();
                    let last = last.map(|(at, phase)| (now.duration_since(*at), phase.as_str()));
                    if line.is_due(last) {
                        // When it cannot be written, the next thing that is said tells why.
                        drop(output::line(&line.to_string()));
                        written = Some((now, line.phase.clone()));
                    }
                }
            }
        }
    }

    /// Takes the line away.
    pub(super) fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn bar() -> ProgressBar {
    let style =
        ProgressStyle::with_template("{spinner} {wide_msg}").expect("the template is well formed");
    let bar = ProgressBar::new_spinner().with_style(style);
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}

/// Clients that the proxy holds, and how long the longest of them has waited.
async fn held(admin: &Client) -> Option<(u64, Option<Duration>)> {
    let status: Status = admin.get(&path(&["v1", "status"])).await.ok()?;
    let shop = status
        .databases
        .into_iter()
        .find(|it| it.database == DATABASE)?;
    Some((shop.held, shop.oldest_wait_ms.map(Duration::from_millis)))
}

/// What stands on the line.
#[derive(Debug, Default)]
struct Line {
    phase: String,
    /// Absent before clients work.
    counts: Option<Counts>,
}

/// How the load goes.
#[derive(Debug, Default)]
struct Counts {
    transactions: usize,
    per_second: f64,
    /// Unknown when the proxy does not answer.
    held: Option<u64>,
    /// Of all that were seen so far.
    longest_wait: Option<Duration>,
    errors: u64,
}

impl Line {
    /// Whether it is to be written, so long after one of that phase.
    fn is_due(&self, last: Option<(Duration, &str)>) -> bool {
        let waiting = self.counts.as_ref().and_then(|counts| counts.held) > Some(0);
        let every = if waiting {
            WRITE_EVERY_HELD
        } else {
            WRITE_EVERY
        };
        last.is_none_or(|(since, phase)| phase != self.phase || since >= every)
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.counts {
            Some(counts) => write!(f, "{:<11} {counts}", self.phase),
            None => f.write_str(&self.phase),
        }
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let held = self
            .held
            .map_or_else(|| "?".to_owned(), |it| it.to_string());
        write!(
            f,
            "{:>7} transactions {:>6.0}/s  held {held:>3}",
            self.transactions, self.per_second
        )?;
        if let Some(wait) = self.longest_wait {
            write!(f, "  longest wait {:.1} s", wait.as_secs_f64())?;
        }
        if self.errors > 0 {
            write!(f, "  errors {}", self.errors)?;
        }
        Ok(())
    }
}

/// How fast a count grows.
#[derive(Debug, Default)]
struct Speed {
    seen: VecDeque<(Instant, usize)>,
}

impl Speed {
    /// Takes the count at this moment; gives its growth per second over the last second.
    fn at(&mut self, now: Instant, count: usize) -> f64 {
        self.seen.push_back((now, count));
        // The oldest that is kept is a second old or a little older.
        while self
            .seen
            .get(1)
            .is_some_and(|(at, _)| now.duration_since(*at) >= SPEED_OVER)
        {
            self.seen.pop_front();
        }
        let (then, before) = self.seen.front().copied().unwrap_or((now, count));
        let time = now.duration_since(then);
        let grown = u32::try_from(count.saturating_sub(before)).unwrap_or(u32::MAX);
        match time.is_zero() {
            true => 0.0,
            false => f64::from(grown) / time.as_secs_f64(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speed_is_that_of_the_last_second() {
        let epoch = Instant::now();
        let mut speed = Speed::default();
        let mut at = |ms, count| speed.at(epoch + Duration::from_millis(ms), count).round();
        assert_eq!(at(0, 0).to_string(), "0");
        assert_eq!(at(500, 50).to_string(), "100");
        assert_eq!(at(1000, 100).to_string(), "100");
        // A second in which nothing came.
        assert_eq!(at(1500, 100).to_string(), "50");
        assert_eq!(at(2000, 100).to_string(), "0");
        assert!(speed.seen.len() <= 3);
    }

    #[test]
    fn each_phase_is_written_at_once_and_clients_that_wait_more_often() {
        let line = |held| Line {
            phase: "before".to_owned(),
            counts: Some(Counts {
                held,
                ..Counts::default()
            }),
        };
        let ago = Duration::from_millis;
        assert!(line(Some(0)).is_due(None));
        assert!(line(Some(0)).is_due(Some((ago(0), "connecting"))));
        for (held, every) in [(None, 1000), (Some(0), 1000), (Some(1), 250)] {
            assert!(!line(held).is_due(Some((ago(every - 1), "before"))));
            assert!(line(held).is_due(Some((ago(every), "before"))));
        }
    }

    #[test]
    fn a_line_fits_80_columns_and_is_silent_about_what_is_not() {
        let mut line = Line {
            phase: "preflight".to_owned(),
            counts: None,
        };
        assert_eq!(line.to_string(), "preflight");
        line.counts = Some(Counts {
            transactions: 1_234_567,
            per_second: 12_345.6,
            held: Some(128),
            longest_wait: Some(Duration::from_millis(12_345)),
            errors: 0,
        });
        let text = line.to_string();
        assert!(text.len() <= 78 && !text.contains("errors"), "{text}");
        line.counts = Some(Counts {
            errors: 1,
            ..Counts::default()
        });
        assert!(line.to_string().ends_with("held   ?  errors 1"), "{line}");
    }
}
