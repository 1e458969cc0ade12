//! What a crash must leave, and may leave: compared with what the next process makes of the journal.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use pgdrain::clock;
use pgdrain::config::{AfterRestart, Scope, Then};
use pgdrain::gate::mode::Holder;
use pgdrain::gate::state::Hold as Held;
use pgdrain::gate::{Gate, Gates};

use crate::promised::{Capped, Hold, Key, Promised};
use crate::whom::Whom;

/// A hold that a crash leaves behind, or may leave.
#[derive(Debug)]
struct Remains {
    until: u64,
    then: Then,
    certain: bool,
}

impl Promised {
    /// The process died: what the next one must hold, and may hold.
    pub(crate) fn after_crash(&mut self, gates: &Gates, now: u64, policy: AfterRestart) {
        let mut expected = BTreeMap::new();
        let lingers = std::mem::take(&mut self.lingers).into_iter();
        let lingers = lingers.map(|(key, hold)| (key, hold, true));
        let holds = std::mem::take(&mut self.holds).into_iter();
        let holds = holds.map(|(key, hold)| (key, hold, false));
        for (key, hold, lingers) in lingers.chain(holds) {
            let certain = !lingers && !hold.is_over(now);
            let remains = match key.2 {
                // The standing one decides.
                Holder::Everywhere => None,
                Holder::Operator => remains(hold.until, hold.then, now, policy),
                Holder::Window => Some((u64::MAX, Then::Stay)),
            };
            if let Some((until, then)) = remains {
                let remains = Remains {
                    until,
                    then,
                    certain,
                };
                expected.insert(key, remains);
            }
        }
        let mut everywhere = std::mem::take(&mut self.lingers_everywhere);
        everywhere.retain(|scope, _| is_standing(gates, scope));
        everywhere.append(&mut self.everywhere);
        let remains = |(scope, (until, then))| Some((scope, remains(until, then, now, policy)?));
        self.everywhere = everywhere.into_iter().filter_map(remains).collect();
        for whom in Whom::EACH {
            let scope = whom.scope();
            let expected = self.everywhere.contains_key(&scope);
            assert_eq!(is_standing(gates, &scope), expected, "everywhere: {whom:?}");
        }
        self.caps_after_crash(gates, now, policy);
        self.seen.clear();
        self.check_restart(gates, now, expected);
    }

    fn caps_after_crash(&mut self, gates: &Gates, now: u64, policy: AfterRestart) {
        let goes_on = |cap: &Capped| policy != AfterRestart::Open && now < cap.until;
        self.caps.retain(|_, cap| goes_on(cap));
        let lingers = std::mem::take(&mut self.lingers_caps);
        for (database, cap) in lingers.into_iter().filter(|(_, cap)| goes_on(cap)) {
            let gate = gates.find(&database);
            if gate.is_some_and(|gate| gate.capped().is_some()) {
                self.caps.entry(database).or_insert(cap);
            }
        }
    }

    fn check_restart(&mut self, gates: &Gates, now: u64, mut expected: BTreeMap<Key, Remains>) {
        for gate in gates.all() {
            self.seen(gates, &gate, now);
            let narrow = gates.narrow(gate.database());
            for (gate, (holder, hold)) in [gate].iter().chain(&narrow).flat_map(holds) {
                if holder == Holder::Everywhere {
                    continue;
                }
                let key = (gate.database().to_owned(), gate.scope().clone(), holder);
                let Some(remains) = expected.remove(&key) else {
                    panic!("left over after a restart: {key:?} {hold:?}");
                };
                let duration = Duration::from_millis(remains.until.saturating_sub(now));
                if holder == Holder::Operator {
                    let off = hold.spec.duration.abs_diff(duration);
                    assert!(off.as_millis() < 50, "off by {off:?}: {key:?} {hold:?}");
                    assert_eq!(hold.spec.then, remains.then, "{key:?}");
                }
                let hold = Hold {
                    gate,
                    generation: hold.generation,
                    until: remains.until,
                    then: remains.then,
                    drain: None,
                    unwanted: false,
                    lent: None,
                };
                self.holds.insert(key, hold);
            }
        }
        let forgotten = expected.iter().find(|(_, remains)| remains.certain);
        assert!(forgotten.is_none(), "forgotten by a restart: {forgotten:?}");
    }
}

/// What a restart makes of a command's hold: its end, and what it does then.
fn remains(until: u64, then: Then, now: u64, policy: AfterRestart) -> Option<(u64, Then)> {
    let has_passed = then == Then::Open && now >= until;
    match policy {
        AfterRestart::Open => None,
        AfterRestart::Hold => (!has_passed).then_some((until, Then::Stay)),
        AfterRestart::Resume => (!has_passed).then_some((until, then)),
    }
}

fn is_standing(gates: &Gates, scope: &Scope) -> bool {
    gates.standing_hold(scope, clock::now()).is_some()
}

fn holds(gate: &Arc<Gate>) -> Vec<(Arc<Gate>, (Holder, Held))> {
    let (_, holds) = gate.holds();
    let holds = holds.into_iter();
    holds.map(|hold| (Arc::clone(gate), hold)).collect()
}
