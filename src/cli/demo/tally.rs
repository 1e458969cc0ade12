//! What the clients saw, and what follows from it; counting alone, with clocks read elsewhere.

use std::collections::HashMap;
use std::time::{Duration, Instant};

/// How many messages are kept: the first ones tell what happened.
const MESSAGES_MAX: usize = 5;

/// One transaction, on its client's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Transaction {
    /// When the first statement was sent.
    pub(super) asked: Instant,
    /// When that statement was answered.
    pub(super) answered: Instant,
    /// When the last statement was answered.
    pub(super) ended: Instant,
}

/// Everything that the clients saw.
#[derive(Debug, Default)]
pub(super) struct Tally {
    transactions: Vec<Transaction>,
    acknowledged: Vec<i64>,
    errors: u64,
    lost: u64,
    messages: Vec<String>,
}

impl Tally {
    /// A transaction went well; it wrote this row into the ledger.
    pub(super) fn ended(&mut self, transaction: Transaction, wrote: Option<i64>) {
        self.transactions.push(transaction);
        self.acknowledged.extend(wrote);
    }

    /// A client was told of an error.
    pub(super) fn failed(&mut self, message: String) {
        self.errors += 1;
        if self.messages.len() < MESSAGES_MAX {
            self.messages.push(message);
        }
    }

    /// A client's connection broke.
    pub(super) fn lost(&mut self, message: String) {
        self.lost += 1;
        self.failed(message);
    }

    /// Transactions that went well so far.
    pub(super) fn transactions(&self) -> usize {
        self.transactions.len()
    }

    /// Errors so far, lost connections among them.
    pub(super) fn errors(&self) -> u64 {
        self.errors
    }

    /// Connections that broke.
    pub(super) fn connections_lost(&self) -> u64 {
        self.lost
    }

    /// What the first errors said.
    pub(super) fn messages(&self) -> &[String] {
        &self.messages
    }

    /// Transactions that ended in a time, its end left out.
    pub(super) fn between(&self, from: Instant, to: Instant) -> Rate {
        let inside = |it: &&Transaction| from <= it.ended && it.ended < to;
        Rate {
            transactions: self.transactions.iter().filter(inside).count(),
            time: to.saturating_duration_since(from),
        }
    }

    /// What those went through who had asked for something when the gate opened, and had no answer.
    /// Drained means that none of them was inside a transaction, so that all of them were held.
    pub(super) fn held_at(&self, reopened: Instant) -> Held {
        let held = || {
            self.transactions
                .iter()
                .filter(move |it| it.asked < reopened && reopened <= it.answered)
        };
        Held {
            clients: held().count(),
            longest_wait: held().map(|it| it.answered - it.asked).max(),
            all_answered: held().map(|it| it.answered - reopened).max(),
        }
    }

    /// Compares what was acknowledged with the rows that are there: an id and how often it is.
    pub(super) fn compare(&self, rows: impl IntoIterator<Item = (i64, i64)>) -> Writes {
        let mut found: HashMap<i64, i64> = rows.into_iter().collect();
        let mut writes = Writes {
            acknowledged: self.acknowledged.len(),
            ..Writes::default()
        };
        for id in &self.acknowledged {
            match found.remove(id) {
                None => writes.missing += 1,
                Some(1) => writes.once += 1,
                Some(_) => writes.repeated += 1,
            }
        }
        writes.unasked = found.len();
        writes
    }
}

/// Transactions in a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rate {
    /// How many ended.
    pub(super) transactions: usize,
    /// In how long.
    pub(super) time: Duration,
}

impl Rate {
    /// Per second; none in no time.
    pub(super) fn per_second(self) -> f64 {
        let count = u32::try_from(self.transactions).unwrap_or(u32::MAX);
        match self.time.is_zero() {
            true => 0.0,
            false => f64::from(count) / self.time.as_secs_f64(),
        }
    }
}

/// Clients that waited at the gate when it opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Held {
    /// How many.
    pub(super) clients: usize,
    /// The longest time between asking and being answered.
    pub(super) longest_wait: Option<Duration>,
    /// From the gate's opening to the last of their answers.
    pub(super) all_answered: Option<Duration>,
}

/// Writes that clients were told of, against rows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Writes {
    /// Writes whose commit was acknowledged.
    pub(super) acknowledged: usize,
    /// Of these, those that are there once.
    pub(super) once: usize,
    /// Of these, those that are not there.
    pub(super) missing: usize,
    /// Of these, those that are there more than once.
    pub(super) repeated: usize,
    /// Rows that nobody was told of: their clients heard of an error, or of nothing.
    pub(super) unasked: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tally of transactions, each asked, answered and ended at so many milliseconds.
    fn tally(epoch: Instant, transactions: &[(u64, u64, u64)]) -> Tally {
        let at = |ms: u64| epoch + Duration::from_millis(ms);
        let mut tally = Tally::default();
        for (asked, answered, ended) in transactions {
            let transaction = Transaction {
                asked: at(*asked),
                answered: at(*answered),
                ended: at(*ended),
            };
            tally.ended(transaction, None);
        }
        tally
    }

    #[test]
    fn a_transaction_belongs_to_the_time_it_ended_in() {
        let epoch = Instant::now();
        let at = |ms| epoch + Duration::from_millis(ms);
        let tally = tally(epoch, &[(0, 1, 10), (90, 95, 100), (90, 110, 140)]);
        assert_eq!(tally.between(at(0), at(100)).transactions, 1);
        let rate = tally.between(at(100), at(150));
        assert_eq!(rate.transactions, 2);
        assert!((rate.per_second() - 40.0).abs() < f64::EPSILON);
        assert!(tally.between(at(5), at(5)).per_second().abs() < f64::EPSILON);
    }

    #[test]
    fn held_are_those_without_an_answer_when_the_gate_opened() {
        let epoch = Instant::now();
        // The first was let in before, the last came after the opening.
        let tally = tally(
            epoch,
            &[
                (0, 3, 1050),
                (10, 1004, 1005),
                (500, 1009, 1100),
                (1000, 1001, 1001),
            ],
        );
        let held = tally.held_at(epoch + Duration::from_millis(1000));
        assert_eq!(held.clients, 2);
        assert_eq!(held.longest_wait, Some(Duration::from_millis(994)));
        assert_eq!(held.all_answered, Some(Duration::from_millis(9)));
        assert_eq!(tally.held_at(epoch), Held::default());
    }

    #[test]
    fn every_acknowledged_write_is_looked_for_once() {
        let now = Instant::now();
        let transaction = Transaction {
            asked: now,
            answered: now,
            ended: now,
        };
        let mut tally = Tally::default();
        for id in 1..=4 {
            tally.ended(transaction, Some(id));
        }
        let exact = tally.compare((1..=4).map(|id| (id, 1)));
        let all = Writes {
            acknowledged: 4,
            once: 4,
            ..Writes::default()
        };
        assert_eq!(exact, all);
        let wrong = tally.compare([(1, 1), (2, 2), (4, 1), (9, 1)]);
        let expected = Writes {
            acknowledged: 4,
            once: 2,
            missing: 1,
            repeated: 1,
            unasked: 1,
        };
        assert_eq!(wrong, expected);
    }

    #[test]
    fn errors_are_all_counted_and_the_first_are_kept() {
        let mut tally = Tally::default();
        for number in 0..10 {
            tally.failed(format!("error {number}"));
        }
        tally.lost("gone".to_owned());
        assert_eq!((tally.errors(), tally.connections_lost()), (11, 1));
        assert_eq!(tally.messages().len(), MESSAGES_MAX);
        assert_eq!(tally.messages()[0], "error 0");
    }
}
