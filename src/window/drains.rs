//! Drains under way: begun behind a gate that was closed, and there to be asked and steered.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::watch;

use super::controller::{Controller, Target};
use crate::audit::{Event, Kind};
use crate::clock;
use crate::config::Bypass;
use crate::drain::bypass::{News, Sighting, Tell, Watch};
use crate::drain::escalation::Ladder;
use crate::drain::execute::Drain;
use crate::drain::probe::Prober;
use crate::drain::report::{Blocker, DrainReport, Outcome, timestamp};
use crate::gate::Gate;
use crate::gate::mode::{Generation, Holder};
use crate::server::cancel::Cancels;
use crate::session::registry::Enforcement;
use crate::session::relay::Common;

/// A gate that a holder has just closed.
#[derive(Debug)]
pub(super) struct Beginning {
    /// The gate.
    pub(super) gate: Arc<Gate>,
    /// Who closed it.
    pub(super) holder: Holder,
    /// Which hold of his.
    pub(super) generation: Generation,
    /// When it was closed.
    pub(super) held_at: Instant,
    /// How what still runs is ended.
    pub(super) ladder: Ladder,
    /// What is done about sessions that did not come through us, until the hold ends.
    pub(super) bypass: Bypass,
}

/// A hold that was placed, and its drain.
#[derive(Debug, Clone)]
pub struct Draining {
    /// The database.
    pub database: String,
    /// Its hold.
    pub generation: Generation,
    /// How the drain stands. When it has ended, its bypass sessions are still kept current for as
    /// long as they are watched.
    pub report: watch::Receiver<DrainReport>,
    /// The ladder it climbs.
    ladder: Arc<watch::Sender<Ladder>>,
}

impl Draining {
    /// The same drain with a report that is made of more than its own.
    pub(super) fn told_by(self, report: watch::Receiver<DrainReport>) -> Draining {
        Draining { report, ..self }
    }

    /// Waits for the end of the drain. Cancel safe: the drain goes on.
    pub async fn ended(mut self) -> DrainReport {
        let ended = |report: &DrainReport| report.outcome != Outcome::Draining;
        // An error only says that the drain is over.
        let _ = self.report.wait_for(ended).await;
        self.report.borrow().clone()
    }
}

/// The last drain of each holder in each database.
#[derive(Debug, Default)]
pub(super) struct Drains {
    of: Mutex<BTreeMap<(String, Holder), Draining>>,
}

impl Drains {
    fn of(&self) -> MutexGuard<'_, BTreeMap<(String, Holder), Draining>> {
        self.of.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Controller {
    /// Begins to drain, and to watch for bypass sessions; both end with the hold.
    pub(super) fn drain(&self, beginning: Beginning) -> Draining {
        let Beginning {
            gate,
            holder,
            generation,
            held_at,
            ladder,
            bypass,
        } = beginning;
        let (database, name) = (gate.database().to_owned(), gate.name());
        let prober = self.prober_of(&gate, (holder, generation));
        let mut inside = self.sessions.held_with(&database);
        let scope = gate.scope();
        inside.retain(|session| session.transaction_age().is_some() && scope.fits(session.who()));
        if prober.is_some() {
            inside.retain(|session| session.enforcement() != Enforcement::Enforced);
        }
        let waited_for = inside
            .iter()
            .map(|session| Blocker::from(&**session))
            .collect();
        let (progress, report) = watch::channel(DrainReport::begun(timestamp(held_at), waited_for));
        let progress = Arc::new(progress);
        let watch = Watch {
            gate: Arc::clone(&gate),
            holder,
            generation,
            sessions: Arc::clone(&self.sessions),
            control: self.control(&database),
            policy: bypass,
            progress: Arc::clone(&progress),
            tell: self.teller(),
        };
        let stop = self.tasks.shutdown_token();
        self.tasks.spawn("bypass sessions", async move {
            tokio::select! {
                () = watch.run() => {}
                () = stop.cancelled() => {}
            }
        });
        let drain = Drain {
            gate,
            holder,
            generation,
            held_at,
            sessions: Arc::clone(&self.sessions),
            control: self.control(&database),
            bypass,
            prober,
        };
        let (metrics, control) = (Arc::clone(&self.metrics), Arc::clone(&drain.control));
        self.tasks
            .spawn("control connection", async move { control.warm_up().await });
        let ladder = Arc::new(watch::Sender::new(ladder));
        let climbed = ladder.subscribe();
        let (audit, of, told) = (Arc::clone(&self.audit), database.clone(), report.clone());
        self.tasks.spawn("drain", async move {
            drain.run(climbed, &progress).await;
            metrics.drained(clock::now().saturating_duration_since(held_at));
            audit.tell(drain_ended(&of, &told.borrow()));
            drain.follow_pending(&progress).await;
        });
        let draining = Draining {
            database: database.clone(),
            generation,
            report,
            ladder,
        };
        self.drains.of().insert((name, holder), draining.clone());
        draining
    }

    /// What tries a write when a hold lets reads in.
    fn prober_of(&self, gate: &Gate, hold: (Holder, Generation)) -> Option<Prober> {
        let (_, holds) = gate.holds();
        let mut holds = holds.iter();
        let this = holds.find(|(holder, it)| (*holder, it.generation) == hold)?;
        let config = self.config();
        let target = config.target(gate.database());
        let common = Common {
            tasks: self.tasks.clone(),
            // For a statement of its own that hangs.
            cancels: Cancels::new(1),
            metrics: Arc::clone(&self.metrics),
        };
        this.1.spec.read_only.then(|| Prober {
            target: target.unwrap_or_else(|| config.default_target()),
            config,
            common: Arc::new(common),
            own: self.own.clone(),
        })
    }

    /// Who is told of bypass sessions.
    fn teller(&self) -> Tell {
        let audit = Arc::clone(&self.audit);
        Arc::new(move |sighting: Sighting| {
            let Sighting {
                database,
                who,
                news,
            } = sighting;
            let what = format!("{}: {news}", who.name());
            match news {
                News::Seen | News::Cancelled | News::Terminated => {
                    tracing::warn!(database, "did not come through pgdrain: {what}");
                }
                News::Refused(_) => {
                    tracing::error!(database, "did not come through pgdrain: {what}");
                }
            }
            audit.tell(Event {
                outcome: Some(what),
                ..Event::of(Kind::Bypass, &database)
            });
        })
    }

    /// Gives the drains under way in a database, or in all, another ladder: further up, or down
    /// again. What was done is not undone. Returns those drains. The last is who asks, and from where.
    pub fn change_ladder(
        &self,
        target: &Target,
        ladder: &Ladder,
        (by, from): (&str, Option<&str>),
    ) -> Vec<Draining> {
        let drains = self.drains.of();
        let meant = drains.values().filter(|draining| match target {
            Target::Everywhere => true,
            Target::Database(name) => *name == draining.database,
        });
        let under_way = |draining: &&Draining| {
            let report = draining.report.borrow();
            report.outcome == Outcome::Draining
        };
        let changed: Vec<Draining> = meant.filter(under_way).cloned().collect();
        drop(drains);
        for draining in &changed {
            draining.ladder.send_replace(ladder.clone());
            self.audit.tell(Event {
                by: Some(by.to_owned()),
                from: from.map(str::to_owned),
                outcome: Some(format!("the ladder is now {ladder:?}")),
                ..Event::of(Kind::Drain, &draining.database)
            });
        }
        changed
    }

    /// Shows a drain in place of the one that it is made of.
    pub(super) fn replace_draining(&self, gate: &str, holder: Holder, draining: Draining) {
        self.drains.of().insert((gate.to_owned(), holder), draining);
    }

    /// The drain of this holder's hold, the last one if it has ended; the name is the gate's.
    pub fn draining(&self, gate: &str, holder: Holder) -> Option<Draining> {
        let key = (gate.to_owned(), holder);
        self.drains.of().get(&key).cloned()
    }
}

fn drain_ended(database: &str, report: &DrainReport) -> Event {
    Event {
        after: Some(report.outcome.to_string()),
        outcome: Some(report.detail.clone()),
        ..Event::of(Kind::Drain, database)
    }
}
