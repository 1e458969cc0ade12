//! What the operators were promised, kept apart from the product: which holds are on, and until when.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use pgdrain::clock;
use pgdrain::config::{AfterRestart, Scope, Then};
use pgdrain::drain::report::{DrainReport, Outcome};
use pgdrain::gate::mode::{Generation, Holder};
use pgdrain::gate::{Gate, Gates};
use tokio::sync::watch;

/// A hold as it was promised. Times are milliseconds of the simulation.
#[derive(Debug, Clone)]
pub(crate) struct Hold {
    pub(crate) generation: Generation,
    pub(crate) until: u64,
    pub(crate) then: Then,
    /// Its drain, if one belongs to it.
    pub(crate) drain: Option<watch::Receiver<DrainReport>>,
    /// Whoever placed it wants it ended.
    pub(crate) unwanted: bool,
}

impl Hold {
    fn has_passed(&self, now: u64) -> bool {
        self.then == Then::Open && now >= self.until
    }

    fn outcome(&self) -> Option<Outcome> {
        self.drain.as_ref().map(|drain| drain.borrow().outcome)
    }

    /// Something has ended it, although it may still be on for a moment.
    fn is_over(&self, now: u64) -> bool {
        self.has_passed(now) || self.unwanted || self.outcome() == Some(Outcome::Exhausted)
    }
}

/// A hold that a crash leaves behind, or may leave.
#[derive(Debug)]
struct Remains {
    until: u64,
    then: Then,
    certain: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Promised {
    holds: BTreeMap<(String, Holder), Hold>,
    /// The hold on every database: its end, and what it does then.
    everywhere: Option<(u64, Then)>,
    /// What has been opened, and may still be in the journal: that is written later.
    lingers: BTreeMap<(String, Holder), Hold>,
    lingers_everywhere: Option<(u64, Then)>,
    /// The databases that have a gate.
    seen: BTreeSet<String>,
}

impl Promised {
    pub(crate) fn placed(&mut self, database: &str, holder: Holder, hold: Hold) {
        self.holds.insert((database.to_owned(), holder), hold);
    }

    pub(crate) fn everywhere(&mut self, until: u64, then: Then) {
        self.everywhere = Some((until, then));
    }

    /// A database may have a gate that it had not: the hold on every database closes it.
    pub(crate) fn seen(&mut self, gate: &Gate, now: u64) {
        if !self.seen.insert(gate.database().to_owned()) {
            return;
        }
        let on = |(until, then): &(u64, Then)| *then == Then::Stay || *until > now;
        if let Some((until, then)) = self.everywhere.filter(on) {
            let generation = generation(gate, Holder::Everywhere);
            let hold = Hold {
                generation: generation.expect("a new gate is held with all others"),
                until,
                then,
                drain: None,
                unwanted: false,
            };
            self.placed(gate.database(), Holder::Everywhere, hold);
        }
    }

    /// A command has opened: one database, or all.
    pub(crate) fn opened(&mut self, database: Option<&str>, force: bool) {
        self.holds.retain(|(name, holder), _| match database {
            Some(database) => name != database || (*holder == Holder::Everywhere && !force),
            None => false,
        });
        if database.is_none() {
            self.everywhere = None;
        }
    }

    /// Everything was opened at once, without waiting for the journal.
    pub(crate) fn glass_broken(&mut self) {
        self.lingers.append(&mut self.holds);
        self.lingers_everywhere = self.everywhere.take().or(self.lingers_everywhere);
    }

    /// The journal was written since.
    pub(crate) fn written(&mut self) {
        self.lingers.clear();
        self.lingers_everywhere = None;
    }

    /// The window of this database is given back.
    pub(crate) fn unwanted(&mut self, database: &str, generation: Generation) {
        let window = self.holds.get_mut(&(database.to_owned(), Holder::Window));
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
            let (_, on) = gate.holds();
            if !on.is_empty() {
                assert!(!gate.is_open(), "open under {on:?}");
            } else if at_rest {
                assert!(gate.is_open(), "closed under no hold");
            }
            for (holder, hold) in &on {
                let key = (gate.database().to_owned(), *holder);
                let promised = self.holds.get(&key).map(|promised| promised.generation);
                assert_eq!(
                    promised,
                    Some(hold.generation),
                    "held by nobody: {key:?} {hold:?}"
                );
            }
        }
        let lingers = &mut self.lingers;
        self.holds.retain(|key @ (database, holder), hold| {
            let gate = gates.find(database).expect("it was held");
            let on = gate.is_held_by(*holder, hold.generation);
            let over = hold.is_over(now);
            assert!(on || over, "ended by nobody: {database} {holder} {hold:?}");
            if on && at_rest {
                assert!(!over, "past its end: {database} {holder} {hold:?}");
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

    /// The process died: what the next one must hold, and may hold.
    pub(crate) fn after_crash(&mut self, gates: &Gates, now: u64, policy: AfterRestart) {
        let mut expected = BTreeMap::new();
        let lingers = std::mem::take(&mut self.lingers).into_iter();
        let lingers = lingers.map(|(key, hold)| (key, hold, true));
        let holds = std::mem::take(&mut self.holds).into_iter();
        let holds = holds.map(|(key, hold)| (key, hold, false));
        for (key, hold, lingers) in lingers.chain(holds) {
            let certain = !lingers && !hold.is_over(now);
            let remains = match key.1 {
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
        let standing = gates
            .standing_hold(&Scope::default(), clock::now())
            .is_some();
        let lingers = self.lingers_everywhere.take().filter(|_| standing);
        let everywhere = self.everywhere.take().or(lingers);
        self.everywhere = everywhere.and_then(|(until, then)| remains(until, then, now, policy));
        assert_eq!(standing, self.everywhere.is_some(), "everywhere");
        self.seen.clear();
        self.check_restart(gates, now, expected);
    }

    fn check_restart(
        &mut self,
        gates: &Gates,
        now: u64,
        mut expected: BTreeMap<(String, Holder), Remains>,
    ) {
        for gate in gates.all() {
            self.seen(&gate, now);
            for (holder, hold) in gate.holds().1 {
                if holder == Holder::Everywhere {
                    continue;
                }
                let key = (gate.database().to_owned(), holder);
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
                    generation: hold.generation,
                    until: remains.until,
                    then: remains.then,
                    drain: None,
                    unwanted: false,
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

pub(crate) fn generation(gate: &Gate, holder: Holder) -> Option<Generation> {
    let (_, holds) = gate.holds();
    let of_holder = holds.into_iter().find(|(held_by, _)| *held_by == holder);
    of_holder.map(|(_, hold)| hold.generation)
}
