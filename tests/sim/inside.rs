//! How many transactions are inside of each gate, and how many may be: nobody starts under a hold, and
//! never more run at once than a cap or a pace allows.

use std::sync::Arc;

use pgdrain::gate::mode::Mode;
use pgdrain::gate::{Gate, Gates};

use crate::step::DATABASES;

/// What may happen at a gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Allowed {
    Anything,
    /// Nobody starts.
    Nobody,
    /// So many at once, and those that were there.
    AtOnce(u32),
}

/// How often a gate has changed, and those for some clients beside it. The gates are kept, so that no
/// other can be taken for one of them.
#[derive(Debug, Clone)]
pub(crate) struct Turn(Vec<Changed>);

/// A gate, and how often it has changed.
type Changed = (Arc<Gate>, u64);

impl Turn {
    pub(crate) fn of(gate: &Arc<Gate>, beside: &[Arc<Gate>]) -> Self {
        let gates = [gate].into_iter().chain(beside);
        let changes = |gate: &Arc<Gate>| *gate.changes().borrow();
        Self(
            gates
                .map(|gate| (Arc::clone(gate), changes(gate)))
                .collect(),
        )
    }
}

impl PartialEq for Turn {
    fn eq(&self, other: &Self) -> bool {
        let same = |(one, two): (&Changed, &Changed)| Arc::ptr_eq(&one.0, &two.0) && one.1 == two.1;
        self.0.len() == other.0.len() && self.0.iter().zip(&other.0).all(same)
    }
}

#[derive(Debug)]
struct Seen {
    turn: Turn,
    allowed: Allowed,
    most: u32,
}

/// What was seen at the last look.
#[derive(Debug, Default)]
pub(crate) struct Inside(Vec<Seen>);

impl Inside {
    /// `at_once` is how many a reopening lets in. Between two looks without a change, nobody may have
    /// started who may not.
    pub(crate) fn check(&mut self, gates: &Gates, at_once: usize) {
        let at_once = u32::try_from(at_once).expect("few");
        let mut now = Vec::new();
        for database in DATABASES {
            let Some(wide) = gates.find(database) else {
                continue;
            };
            let narrow = gates.narrow(database);
            for gate in [&wide].into_iter().chain(&narrow) {
                let allowed = allowed(gate, at_once);
                // A narrow hold that ends has those who waited let in by the gate of the database.
                let beside = match allowed {
                    Allowed::AtOnce(_) => narrow.as_slice(),
                    Allowed::Anything | Allowed::Nobody => &[],
                };
                let turn = Turn::of(gate, beside);
                now.push(self.look(gate, turn, allowed));
            }
        }
        self.0 = now;
    }

    fn look(&self, gate: &Gate, turn: Turn, allowed: Allowed) -> Seen {
        let permits = gate.permits();
        let same = |seen: &&Seen| seen.allowed == allowed && seen.turn == turn;
        let most = self.0.iter().find(same).map_or(u32::MAX, |seen| seen.most);
        assert!(
            permits <= most,
            "{permits} inside of {} where {most} may be: {allowed:?}",
            gate.name()
        );
        let most = match allowed {
            Allowed::Anything => u32::MAX,
            Allowed::Nobody => permits,
            Allowed::AtOnce(count) => count.max(permits),
        };
        Seen {
            turn,
            allowed,
            most,
        }
    }
}

fn allowed(gate: &Gate, at_once: u32) -> Allowed {
    match gate.holds().0 {
        Mode::Hold if gate.older().is_none() => Allowed::Nobody,
        Mode::Open if !gate.is_open() => {
            let cap = gate.capped().map(|cap| cap.spec.transactions);
            Allowed::AtOnce(cap.unwrap_or(at_once))
        }
        Mode::Hold | Mode::ReadOnly | Mode::Open => Allowed::Anything,
    }
}
