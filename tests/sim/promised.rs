//! What the operators were promised, kept apart from the product: which holds are on, and until when.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use pgdrain::config::{Scope, Then};
use pgdrain::drain::report::{DrainReport, Outcome};
use pgdrain::gate::mode::{Generation, Holder};
use pgdrain::gate::{Gate, Gates};
use pgdrain::window::Lent;
use pgdrain::window::steps::Stage;
use tokio::sync::watch;

use crate::lent::{HOLDER, is_done};

/// A hold as it was promised. Times are milliseconds of the simulation.
#[derive(Debug, Clone)]
pub(crate) struct Hold {
    /// The gate it closes. One for some clients is never closed again once it has opened.
    pub(crate) gate: Arc<Gate>,
    pub(crate) generation: Generation,
    pub(crate) until: u64,
    pub(crate) then: Then,
    /// Its drain, if one belongs to it.
    pub(crate) drain: Option<watch::Receiver<DrainReport>>,
    /// Whoever placed it wants it ended.
    pub(crate) unwanted: bool,
    /// The window it is for, if somebody else was given that.
    pub(crate) lent: Option<Arc<Lent>>,
}

impl Hold {
    fn has_passed(&self, now: u64) -> bool {
        self.then == Then::Open && now >= self.until
    }

    fn outcome(&self) -> Option<Outcome> {
        self.drain.as_ref().map(|drain| drain.borrow().outcome)
    }

    /// Something has ended it, although it may still be on for a moment.
    pub(crate) fn is_over(&self, now: u64) -> bool {
        let done = self.lent.as_deref().is_some_and(is_done);
        let exhausted = self.outcome() == Some(Outcome::Exhausted);
        self.has_passed(now) || self.unwanted || exhausted || done
    }
}

/// Which hold: of a database, for whom there, and whose.
pub(crate) type Key = (String, Scope, Holder);

/// A cap as it was promised, with its end in milliseconds of the simulation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Capped {
    pub(crate) transactions: u32,
    pub(crate) until: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Promised {
    pub(crate) holds: BTreeMap<Key, Hold>,
    /// The holds on every database: their ends, and what they do then.
    pub(crate) everywhere: BTreeMap<Scope, (u64, Then)>,
    /// What has been opened, and may still be in the journal: that is written later.
    pub(crate) lingers: BTreeMap<Key, Hold>,
    pub(crate) lingers_everywhere: BTreeMap<Scope, (u64, Then)>,
    pub(crate) caps: BTreeMap<String, Capped>,
    pub(crate) lingers_caps: BTreeMap<String, Capped>,
    /// The databases that have a gate.
    pub(crate) seen: BTreeSet<String>,
}

impl Promised {
    pub(crate) fn placed(&mut self, holder: Holder, hold: Hold) {
        let gate = &hold.gate;
        let key = (gate.database().to_owned(), gate.scope().clone(), holder);
        self.holds.insert(key, hold);
    }

    pub(crate) fn everywhere(&mut self, scope: &Scope, until: u64, then: Then) {
        self.everywhere.insert(scope.clone(), (until, then));
    }

    /// `None` takes the cap off.
    pub(crate) fn capped(&mut self, database: &str, cap: Option<Capped>) {
        match cap {
            Some(cap) => {
                self.caps.insert(database.to_owned(), cap);
            }
            None => {
                self.caps.remove(database);
            }
        }
    }

    /// A database may have a gate that it had not: the holds on every database close it, or another
    /// one in it.
    pub(crate) fn seen(&mut self, gates: &Gates, gate: &Gate, now: u64) {
        if !self.seen.insert(gate.database().to_owned()) {
            return;
        }
        for (scope, (until, then)) in self.everywhere.clone() {
            if then == Then::Open && until <= now {
                continue;
            }
            let gate = gates.find_scope(gate.database(), &scope);
            let gate = gate.expect("a new gate is held with all others");
            let generation = generation(&gate, Holder::Everywhere);
            let hold = Hold {
                generation: generation.expect("a new gate is held with all others"),
                gate,
                until,
                then,
                drain: None,
                unwanted: false,
                lent: None,
            };
            self.placed(Holder::Everywhere, hold);
        }
    }

    /// A command has opened: one database, or all, and some clients, or all.
    pub(crate) fn opened(&mut self, database: Option<&str>, scope: &Scope, force: bool) {
        let everything = database.is_none() && scope.is_whole() && force;
        self.holds.retain(|(name, of, holder), _| {
            let there = database.is_none_or(|database| name == database) && of == scope;
            let everywhere = *holder == Holder::Everywhere && database.is_some();
            let by_force = force && scope.is_whole();
            !everything && (!there || (everywhere && !by_force))
        });
        if everything {
            self.everywhere.clear();
            self.caps.clear();
        } else if database.is_none() {
            self.everywhere.remove(scope);
        }
    }

    /// Everything was opened at once, without waiting for the journal.
    pub(crate) fn glass_broken(&mut self) {
        self.lingers.append(&mut self.holds);
        self.lingers_everywhere.append(&mut self.everywhere);
        self.lingers_caps.append(&mut self.caps);
    }

    /// The journal was written since.
    pub(crate) fn written(&mut self) {
        self.lingers.clear();
        self.lingers_everywhere.clear();
        self.lingers_caps.clear();
    }

    /// The window of this database is given back.
    pub(crate) fn unwanted(&mut self, database: &str, generation: Generation) {
        let key = (database.to_owned(), Scope::default(), Holder::Window);
        let window = self.holds.get_mut(&key);
        if let Some(hold) = window.filter(|hold| hold.generation == generation) {
            hold.unwanted = true;
        }
    }

    /// The gates against the promises: no hold is on that nobody wants, and none has ended that
    /// nothing has ended. `at_rest` nobody has anything left to do.
    pub(crate) fn check(&mut self, gates: &Gates, now: u64, at_rest: bool) {
        if at_rest {
            self.written();
        }
        for gate in gates.all() {
            self.check_gate(&gate, at_rest);
            for narrow in gates.narrow(gate.database()) {
                self.check_gate(&narrow, at_rest);
            }
            self.check_cap(&gate, now, at_rest);
        }
        let lingers = &mut self.lingers;
        self.holds.retain(|key @ (database, _, holder), hold| {
            let gate = &hold.gate;
            let on = gate.is_held_by(*holder, hold.generation);
            let over = hold.is_over(now);
            assert!(on || over, "ended by nobody: {database} {holder} {hold:?}");
            if on && at_rest {
                // Until its connections are seen to have ended.
                let ending = hold.lent.as_deref().map(Lent::stage) == Some(Stage::Ending);
                assert!(
                    !over || ending,
                    "past its end: {database} {holder} {hold:?}"
                );
                let quiet = gate.permits() == 0;
                let drains = hold.outcome() == Some(Outcome::Draining);
                assert!(!quiet || !drains, "nobody is inside, and the drain waits");
            }
            if !on && !at_rest && *holder == Holder::Window {
                // It is written down once its drain knows too.
                lingers.insert(key.clone(), hold.clone());
            }
            on
        });
    }

    /// Its holds are those that were promised.
    fn check_gate(&self, gate: &Gate, at_rest: bool) {
        let (_, on) = gate.holds();
        if !on.is_empty() {
            assert!(!gate.is_open(), "open under {on:?}");
        } else if at_rest && gate.capped().is_none() {
            assert!(gate.is_open(), "closed under no hold");
        }
        for (holder, hold) in &on {
            let key = (gate.database().to_owned(), gate.scope().clone(), *holder);
            let promised = self.holds.get(&key).map(|promised| promised.generation);
            assert_eq!(
                promised,
                Some(hold.generation),
                "held by nobody: {key:?} {hold:?}"
            );
        }
    }

    /// The cap is on that was promised, and none that was not.
    fn check_cap(&mut self, gate: &Gate, now: u64, at_rest: bool) {
        let promised = self.caps.get(gate.database());
        let on = gate.capped();
        let most = on.as_ref().map(|cap| cap.spec.transactions);
        if on.is_some_and(|cap| cap.spec.by.starts_with(HOLDER)) {
            // A window's, in place of what was there.
            self.caps.remove(gate.database());
            return;
        }
        match promised {
            Some(cap) if now < cap.until => {
                assert_eq!(most, Some(cap.transactions), "{cap:?} in {}", gate.name());
            }
            // Its timer may be late.
            Some(_) if !at_rest => {}
            Some(_) | None => assert_eq!(most, None, "capped by nobody: {}", gate.name()),
        }
    }
}

pub(crate) fn generation(gate: &Gate, holder: Holder) -> Option<Generation> {
    let (_, holds) = gate.holds();
    let of_holder = holds.into_iter().find(|(held_by, _)| *held_by == holder);
    of_holder.map(|(_, hold)| hold.generation)
}
