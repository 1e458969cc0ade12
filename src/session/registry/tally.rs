//! What the sessions of each database come to, counted in one walk over all of them.

use std::collections::HashMap;
use std::sync::Arc;

use super::{Sessions, Totals};

/// The sessions of one database, together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// How many there are.
    pub sessions: usize,
    /// How many of them are in a transaction.
    pub in_transaction: usize,
    /// What they counted, and those before them.
    pub totals: Totals,
}

impl Sessions {
    /// The tally of each database that has or had a session. It costs one walk over all sessions, whatever
    /// the number of databases.
    #[must_use]
    pub fn tallies(&self) -> HashMap<Arc<str>, Tally> {
        let ended = self.ended().clone();
        let ended = ended.into_iter().map(|(database, totals)| {
            let tally = Tally {
                totals,
                ..Tally::default()
            };
            (database, tally)
        });
        let mut tallies: HashMap<Arc<str>, Tally> = ended.collect();
        self.each(|session| {
            let tally = match tallies.get_mut(&*session.database) {
                Some(tally) => tally,
                None => tallies.entry(Arc::clone(&session.database)).or_default(),
            };
            tally.sessions += 1;
            tally.in_transaction += usize::from(session.transaction_stamp() != 0);
            tally.totals += session.totals();
        });
        tallies
    }
}
