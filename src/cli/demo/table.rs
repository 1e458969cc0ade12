//! How the demo ends: a table of what was measured, a verdict, an exit code.

use std::fmt;
use std::time::{Duration, Instant};

use super::course::{Course, Window};
use super::scene::{BALANCE, Found};
use super::tally::{Held, Rate, Tally, Writes};
use crate::cli::exit::Exit;
use crate::cli::output::table;

/// Everything that was seen and measured.
#[derive(Debug)]
pub(super) struct Ending {
    /// How many clients worked.
    pub(super) clients: u32,
    /// How many accounts there are.
    pub(super) accounts: u32,
    /// When they began.
    pub(super) began: Instant,
    /// When the gate was closed and when it was opened, if it was.
    pub(super) gate: Option<(Instant, Instant)>,
    /// When they were asked to stop.
    pub(super) stopped: Instant,
    /// How the migration went.
    pub(super) course: Course,
    /// What the clients saw.
    pub(super) tally: Tally,
    /// What the database holds.
    pub(super) found: Found,
}

impl Ending {
    /// The migration's own code if it failed; otherwise whether all is as it should be.
    pub(super) fn exit(&self) -> Exit {
        match (self.course.exit, self.faults().is_empty()) {
            (Exit::SUCCESS, true) => Exit::SUCCESS,
            (Exit::SUCCESS, false) => Exit::POSTFLIGHT,
            (failed, _) => failed,
        }
    }

    /// What is not as it should be.
    fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        if let Some(failure) = &self.course.failure {
            faults.push(format!("the migration failed: {failure}"));
        }
        for part in &self.found.missing {
            faults.push(format!("the migration is not there: {part} is missing"));
        }
        if self.course.window.is_none() {
            faults.push("the migration had no exclusive window".to_owned());
        }
        let errors = self.tally.errors();
        if errors > 0 {
            faults.push(format!(
                "clients saw {errors} errors, of which the first are:"
            ));
            let messages = self.tally.messages().iter();
            faults.extend(messages.map(|message| format!("  {message}")));
        }
        let writes = self.writes();
        for (count, what) in [
            (writes.missing, "acknowledged writes are missing"),
            (
                writes.repeated,
                "acknowledged writes are there more than once",
            ),
            (writes.unasked, "rows are there that nobody was told of"),
        ] {
            if count > 0 {
                faults.push(format!("{count} {what}"));
            }
        }
        if self.surplus() != 0 {
            faults.push(format!("the balances are off by {} in sum", self.surplus()));
        }
        faults
    }

    fn writes(&self) -> Writes {
        self.tally.compare(self.found.ledger.iter().copied())
    }

    /// Money that came from nowhere; negative if some went there.
    fn surplus(&self) -> i64 {
        self.found.money - BALANCE * i64::from(self.accounts)
    }

    /// Transactions before, during and after; all of them are before if the gate never closed.
    fn traffic(&self) -> String {
        let (closed, opened) = self.gate.unwrap_or((self.stopped, self.stopped));
        let rates = [
            self.tally.between(self.began, closed),
            self.tally.between(closed, opened),
            self.tally.between(opened, self.stopped),
        ];
        let row = |name: &str, cell: fn(Rate) -> String| {
            let [before, during, after] = rates.map(cell);
            [name.to_owned(), before, during, after]
        };
        table(
            ["", "before", "while held", "after"],
            [
                row("transactions", |rate| rate.transactions.to_string()),
                row("in", |rate| time(rate.time)),
                row("per second", |rate| format!("{:.0}", rate.per_second())),
            ],
        )
    }

    fn measures(&self) -> String {
        let held = match self.gate {
            Some((_, opened)) => self.tally.held_at(opened),
            None => Held::default(),
        };
        let writes = self.writes();
        let window = self.course.window;
        let time_or_dash = |it: Option<Duration>| it.map_or_else(|| "-".to_owned(), time);
        let rows = [
            (
                "clients held",
                format!("{} of {}", held.clients, self.clients),
            ),
            ("longest wait of a client", time_or_dash(held.longest_wait)),
            ("time to drain", time_or_dash(window.map(Window::drain))),
            (
                "  of it after the last transaction",
                time_or_dash(window.map(Window::proof)),
            ),
            (
                "migration, alone",
                time_or_dash(window.map(|it| it.migration)),
            ),
            (
                "from reopening until all had an answer",
                time_or_dash(held.all_answered),
            ),
            ("errors seen by clients", self.tally.errors().to_string()),
            (
                "connections lost",
                self.tally.connections_lost().to_string(),
            ),
            ("writes acknowledged", writes.acknowledged.to_string()),
            ("  of these found once", writes.once.to_string()),
            ("  missing", writes.missing.to_string()),
            ("  found more than once", writes.repeated.to_string()),
        ];
        table(["", ""], rows.map(|(name, value)| [name.to_owned(), value]))
    }
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n{}\n\n", self.traffic(), self.measures())?;
        let faults = self.faults();
        if faults.is_empty() {
            return f.write_str(
                "The migration is there, no client saw an error, and every acknowledged write is \
                 there once.",
            );
        }
        f.write_str("NOT AS IT SHOULD BE:")?;
        faults.iter().try_for_each(|fault| write!(f, "\n  {fault}"))
    }
}

/// A time with three digits that mean something.
fn time(time: Duration) -> String {
    let ms = time.as_secs_f64() * 1000.0;
    match ms {
        ..100.0 => format!("{ms:.1} ms"),
        100.0..1000.0 => format!("{ms:.0} ms"),
        _ => format!("{:.2} s", ms / 1000.0),
    }
}

#[cfg(test)]
mod tests {
    use jiff::{SignedDuration, Timestamp};

    use super::super::tally::Transaction;
    use super::*;

    /// Two clients, of which one was held for a second; one write each.
    fn good() -> Ending {
        let began = Instant::now();
        let at = |ms| began + Duration::from_millis(ms);
        let mut tally = Tally::default();
        for (id, asked, ended) in [(1, 500, 501), (2, 1500, 2509)] {
            let transaction = Transaction {
                asked: at(asked),
                answered: at(ended),
                ended: at(ended),
            };
            tally.ended(transaction, Some(id));
        }
        let held_at = Timestamp::UNIX_EPOCH;
        let later = |ms| held_at + SignedDuration::from_millis(ms);
        Ending {
            clients: 2,
            accounts: 10,
            began,
            gate: Some((at(1000), at(2500))),
            stopped: at(3500),
            course: Course {
                exit: Exit::SUCCESS,
                failure: None,
                window: Some(Window {
                    held_at,
                    last_ended_at: Some(later(10)),
                    drained_at: later(12),
                    reopened_at: later(1500),
                    migration: Duration::from_millis(1234),
                }),
            },
            tally,
            found: Found {
                ledger: vec![(1, 1), (2, 1)],
                money: 10 * BALANCE,
                missing: Vec::new(),
            },
        }
    }

    #[test]
    fn a_good_end_is_told_in_numbers() {
        let ending = good();
        assert_eq!(ending.exit(), Exit::SUCCESS);
        let text = ending.to_string();
        for (name, values) in [
            ("transactions", "1 0 1"),
            ("in", "1.00 s 1.50 s 1.00 s"),
            ("per second", "1 0 1"),
            ("clients held", "1 of 2"),
            ("longest wait of a client", "1.01 s"),
            ("time to drain", "12.0 ms"),
            ("of it after the last transaction", "2.0 ms"),
            ("migration, alone", "1.23 s"),
            ("from reopening until all had an answer", "9.0 ms"),
            ("errors seen by clients", "0"),
            ("connections lost", "0"),
            ("writes acknowledged", "2"),
            ("of these found once", "2"),
            ("missing", "0"),
            ("found more than once", "0"),
        ] {
            let row = text.lines().find_map(|line| line.trim().strip_prefix(name));
            let row = row.unwrap_or_else(|| panic!("{name} in\n{text}"));
            let words: Vec<_> = row.split_whitespace().collect();
            assert_eq!(words.join(" "), values, "{name}");
        }
        assert!(
            text.ends_with("every acknowledged write is there once."),
            "{text}"
        );
    }

    #[test]
    fn each_fault_alone_makes_it_fail_and_is_named() {
        type Spoil = fn(&mut Ending);
        let spoilt: [(Spoil, &str); 7] = [
            (
                |it| it.tally.failed("client 3: no".to_owned()),
                "client 3: no",
            ),
            (
                |it| it.tally.lost("client 3: gone".to_owned()),
                "connections lost",
            ),
            (
                |it| it.found.missing.push("the index"),
                "the index is missing",
            ),
            (|it| it.found.money += 5, "off by 5"),
            (
                |it| it.found.ledger[0].1 = 2,
                "1 acknowledged writes are there more",
            ),
            (
                |it| it.found.ledger.truncate(1),
                "1 acknowledged writes are missing",
            ),
            (
                |it| it.found.ledger.push((9, 1)),
                "1 rows are there that nobody",
            ),
        ];
        for (spoil, named) in spoilt {
            let mut ending = good();
            spoil(&mut ending);
            assert_eq!(ending.exit(), Exit::POSTFLIGHT, "{named}");
            let text = ending.to_string();
            assert!(text.contains(named) && text.contains("NOT AS"), "{text}");
        }
    }

    #[test]
    fn a_failed_migration_ends_with_its_own_code_and_without_a_window_nothing_is_held() {
        let mut ending = good();
        ending.course.exit = Exit::NOT_GRANTED;
        ending.course.failure = Some("no exclusive window".to_owned());
        ending.course.window = None;
        ending.gate = None;
        assert_eq!(ending.exit(), Exit::NOT_GRANTED);
        let text = ending.to_string();
        assert!(text.contains("failed: no exclusive window"), "{text}");
        assert!(text.contains("0 of 2"), "{text}");
    }

    #[test]
    fn times_have_the_unit_that_fits() {
        for (micros, text) in [
            (9_440, "9.4 ms"),
            (250_000, "250 ms"),
            (1_234_000, "1.23 s"),
        ] {
            assert_eq!(time(Duration::from_micros(micros)), text);
        }
    }
}
