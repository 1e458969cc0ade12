//! Finds out how a file ended when nobody was left to hear the answer. Never guesses: it asks the
//! history, and the server about the transaction and the process, until they decide.

use std::time::Duration;

use tokio::time::Instant;

use super::history::{Key, Ledger, LedgerError, RowState, Unfinished, XactStatus};
use super::script::TxMode;

/// Time between two questions.
const PAUSE: Duration = Duration::from_millis(100);

/// How a file ended.
#[derive(Debug)]
pub(super) enum Settled {
    /// It is over and the history says how.
    Recorded(Option<RowState>),
    /// Its transaction was rolled back.
    RolledBack,
    /// It has no transaction, its process is gone, and so many of its statements ended well.
    StoppedAfter { done: u32, total: u32 },
    /// It runs in batches and its process is gone: it stands between two of them.
    Begun,
    /// Its transaction was committed without the history row: the file ended it itself.
    CommittedUnrecorded,
    /// Not decided before the deadline, for the reason given.
    Undecided(String),
}

/// Asks until a migration's end is known, at most until the deadline. Brings the ledger back to
/// life if it has to.
pub(super) async fn settle(ledger: &mut Ledger, key: &Key, deadline: Instant) -> Settled {
    let mut committed_before = false;
    loop {
        let undecided = match look(ledger, key, deadline).await {
            Ok(Look::Recorded(state)) => return Settled::Recorded(state),
            Ok(Look::Unfinished(it)) => match decide(&it, committed_before) {
                Ok(settled) => return settled,
                Err(why) => {
                    committed_before = it.xact == Some(XactStatus::Committed);
                    why
                }
            },
            Err(error) => error.to_string(),
        };
        if Instant::now() >= deadline {
            return Settled::Undecided(undecided);
        }
        tokio::time::sleep(PAUSE).await;
    }
}

enum Look {
    Recorded(Option<RowState>),
    Unfinished(Unfinished),
}

async fn look(ledger: &mut Ledger, key: &Key, deadline: Instant) -> Result<Look, LedgerError> {
    ledger.revive(deadline).await?;
    match ledger
        .unfinished()
        .await?
        .into_iter()
        .find(|it| it.key == *key)
    {
        Some(unfinished) => Ok(Look::Unfinished(unfinished)),
        None => Ok(Look::Recorded(ledger.state_of(key).await?)),
    }
}

/// What the facts say, or why they do not say anything yet.
fn decide(it: &Unfinished, committed_before: bool) -> Result<Settled, String> {
    let running = || {
        let pid = it
            .pid
            .map_or_else(|| "unknown".to_owned(), |pid| pid.to_string());
        format!("server process {pid} still runs {}", it.name)
    };
    let (done, total) = it.statements;
    match (it.mode, it.xact) {
        (TxMode::None | TxMode::Batches, _) if it.alive => Err(running()),
        (TxMode::Batches, _) => Ok(Settled::Begun),
        // Its first statement would be counted if it had happened.
        (TxMode::None, _) if done == 0 && it.exact => Ok(Settled::RolledBack),
        (TxMode::None, _) => Ok(Settled::StoppedAfter { done, total }),
        (TxMode::File, Some(XactStatus::Aborted)) => Ok(Settled::RolledBack),
        (TxMode::File, Some(XactStatus::InProgress)) => Err(running()),
        // The row may have been read just before the commit, and the status just after it. A
        // second question cannot see the row as it was before.
        (TxMode::File, Some(XactStatus::Committed)) if committed_before => {
            Ok(Settled::CommittedUnrecorded)
        }
        (TxMode::File, Some(XactStatus::Committed)) => Err(format!(
            "the transaction of {} is committed, its row not yet seen",
            it.name
        )),
        (TxMode::File, None) => Err(format!(
            "the server no longer knows how the transaction of {} ended",
            it.name
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runner::types::Direction;

    fn unfinished(mode: TxMode, alive: bool, xact: Option<XactStatus>) -> Unfinished {
        Unfinished {
            run: String::new(),
            key: Key {
                format: crate::runner::source::Format::GolangMigrate,
                version: crate::runner::source::Version::number(1),
            },
            name: "1_a".to_owned(),
            direction: Direction::Up,
            mode,
            statements: (1, 3),
            exact: true,
            pid: Some(7),
            alive,
            xact,
        }
    }

    #[test]
    fn a_transaction_is_decided_by_its_status_alone() {
        let check = |xact, before| decide(&unfinished(TxMode::File, true, xact), before);
        assert!(matches!(
            check(Some(XactStatus::Aborted), false),
            Ok(Settled::RolledBack)
        ));
        assert!(check(Some(XactStatus::InProgress), true).is_err());
        assert!(check(None, true).is_err());
        assert!(check(Some(XactStatus::Committed), false).is_err());
        let twice = check(Some(XactStatus::Committed), true);
        assert!(matches!(twice, Ok(Settled::CommittedUnrecorded)));
    }

    #[test]
    fn without_a_transaction_the_process_decides() {
        assert!(decide(&unfinished(TxMode::None, true, None), false).is_err());
        let gone = decide(&unfinished(TxMode::None, false, None), false);
        assert!(matches!(
            gone,
            Ok(Settled::StoppedAfter { done: 1, total: 3 })
        ));
        let at_first = |exact| Unfinished {
            statements: (0, 3),
            exact,
            ..unfinished(TxMode::None, false, None)
        };
        assert!(matches!(
            decide(&at_first(true), false),
            Ok(Settled::RolledBack)
        ));
        let sent_alone = decide(&at_first(false), false);
        assert!(matches!(
            sent_alone,
            Ok(Settled::StoppedAfter { done: 0, .. })
        ));
    }
}
