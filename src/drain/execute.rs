//! Climbs the ladder: looks, acts on who is in the way, and tells how it stands.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::time::sleep_until;

use super::entering::{Reads, Settling};
use super::escalation::{Escalation, Ladder, Observation, Proof, Step, Verdict};
use super::probe::Prober;
use super::proof::{About, View, look};
use super::report::{Blocker, DrainReport, Outcome, timestamp};
use crate::clock;
use crate::config::Bypass;
use crate::gate::Gate;
use crate::gate::mode::{Generation, Holder};
use crate::server::control::Control;
use crate::session::registry::{Session, Sessions, Signals};

/// How soon the server is asked again while it shows our sessions at work although no permit is
/// out: it clears its books within milliseconds, or the backend is one whose client is gone.
const ASK_AGAIN: Duration = Duration::from_millis(5);
const ASK_AGAIN_MAX: Duration = Duration::from_millis(200);

/// How soon it is told again who is in the way while nothing else happens: people read that and choose.
const TELL_AGAIN: Duration = Duration::from_secs(1);

/// What a drain is about.
#[derive(Debug)]
pub struct Drain {
    /// The closed gate.
    pub gate: Arc<Gate>,
    /// Whose hold it is for: the drain ends with it.
    pub holder: Holder,
    /// Which hold.
    pub generation: Generation,
    /// When the gate was closed.
    pub held_at: Instant,
    /// The sessions.
    pub sessions: Arc<Sessions>,
    /// Whom to ask and to order.
    pub control: Arc<Control>,
    /// Whether those that did not come through us are in the way; what is done about them is not done
    /// here.
    pub bypass: Bypass,
    /// What tries a write, where the hold lets reads in: then only those are waited for who may write.
    pub prober: Option<Prober>,
}

/// What is seen at one moment.
pub(super) struct Look {
    /// How many are in the way.
    pub(super) permits: u32,
    /// Who they are, as far as they are sessions.
    pub(super) inside: Vec<Arc<Session>>,
    /// What the server says; it is asked only when nobody is in the way.
    pub(super) view: Option<View>,
    /// Who reads, where reads go on.
    pub(super) reads: Option<Reads>,
}

impl Drain {
    /// Runs to its end; `progress` holds the report all the while.
    /// The ladder may be changed meanwhile.
    pub async fn run(
        &self,
        mut ladder: watch::Receiver<Ladder>,
        progress: &watch::Sender<DrainReport>,
    ) {
        let first = ladder.borrow_and_update().clone();
        let mut escalation = Escalation::begin(first, self.held_at);
        let mut ask_again = ASK_AGAIN;
        let mut named = false;
        let mut settling = Settling::default();
        let mut probe = self.first_probe();
        loop {
            if !self.gate.is_held_by(self.holder, self.generation) {
                return self.finish(progress, Outcome::Ended, "the hold ended first".into());
            }
            if !named && self.permits() == 0 {
                named = true;
                self.name_obstacles(progress).await;
            }
            // Asked first: what was counted while transactions still started proves nothing.
            let in_first_stage = self.gate.is_in_first_stage();
            let older = self.gate.older().filter(|_| in_first_stage);
            let look = self.look().await;
            let permits = look.permits;
            let proof = look.view.as_ref().map_or(Proof::Unknown, |it| it.proof);
            self.publish(progress, &escalation, &look);
            if settling.goes_on(&look, clock::now()) {
                self.wait(clock::now() + ask_again, permits, &mut ladder)
                    .await;
                continue;
            }
            if ladder.has_changed().unwrap_or(false) {
                let another = ladder.borrow_and_update().clone();
                tracing::info!(database = self.gate.database(), ?another, "ladder changed");
                escalation.change(another, clock::now());
            }
            let seen = Observation {
                permits,
                proof,
                older,
                probe: probe.now(clock::now()),
            };
            let verdict = escalation.observe(seen, clock::now());
            progress.send_modify(|report| report.stands(&escalation));
            match verdict {
                Verdict::Drained => return self.drained(progress, look.reads.as_ref()),
                Verdict::Probe => probe = self.try_a_write().await,
                Verdict::Writable => {
                    return self.finish(progress, Outcome::Writable, probe.detail());
                }
                Verdict::Unproved => {
                    let why = look.view.and_then(|view| view.unknown);
                    let detail = match (look.reads, why) {
                        (None, why) => format!("held, proof unknown: {}", why.unwrap_or_default()),
                        (Some(_), Some(why)) => {
                            format!("read-only, not proved, and no write was tried: {why}")
                        }
                        (Some(_), None) => format!("read-only, but {}", probe.detail()),
                    };
                    return self.finish(progress, Outcome::Unproved, detail);
                }
                Verdict::Exhausted => {
                    if !named {
                        self.name_obstacles(progress).await;
                    }
                    let detail = exhausted(&progress.borrow());
                    return self.finish(progress, Outcome::Exhausted, detail);
                }
                Verdict::Act(step) => {
                    self.act(step, &escalation, &look, progress).await;
                }
                Verdict::CloseForAll => self.gate.end_first_stage(),
                Verdict::LookAgain(at) if permits > 0 => {
                    let at = at.min(clock::now() + TELL_AGAIN);
                    self.wait(at, permits, &mut ladder).await;
                }
                Verdict::LookAgain(at) => {
                    let at = at.min(clock::now() + ask_again);
                    self.wait(at, permits, &mut ladder).await;
                    ask_again = (ask_again * 2).min(ASK_AGAIN_MAX);
                }
            }
        }
    }

    /// The server is asked only when the count is zero; until then the answer is known.
    async fn look(&self) -> Look {
        if self.prober.is_some() {
            return self.look_for_writers().await;
        }
        let view = match self.gate.permits() {
            0 => Some(self.ask(About::All).await),
            1.. => None,
        };
        Look {
            permits: self.gate.permits(),
            inside: self.in_the_way(),
            view,
            reads: None,
        }
    }

    /// Asks the server.
    pub(super) async fn ask(&self, about: About<'_>) -> View {
        let (database, whom) = (self.gate.database(), (self.gate.scope(), about));
        let (sessions, control) = (&self.sessions, &self.control);
        look(database, whom, sessions, control, self.bypass).await
    }

    /// The permits that are waited for: behind a read-only hold those that are older.
    fn permits(&self) -> u32 {
        let older = self.gate.older().filter(|_| self.gate.is_read_only());
        older.unwrap_or_else(|| self.gate.permits())
    }

    /// Puts into the report what it does nothing about. Who cannot be asked is told of by the proof.
    async fn name_obstacles(&self, progress: &watch::Sender<DrainReport>) {
        let database = self.gate.database();
        if let Ok(obstacles) = self.control.obstacles(database).await {
            for obstacle in &obstacles {
                tracing::warn!(database, ?obstacle, "stands in the way");
            }
            progress.send_modify(|report| report.obstacles = obstacles);
        }
    }

    /// Waits until the count, which was `permits` at the last look, is zero, the hold is over, the
    /// ladder changed, or the time has come. The count may have come to zero since that look.
    async fn wait(&self, until: Instant, permits: u32, ladder: &mut watch::Receiver<Ladder>) {
        // It is looked at by whoever waits here; without a sender it stays as it is.
        let changed = async {
            if ladder.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        let quiet = async {
            if self.prober.is_some() {
                self.a_writer_fewer().await;
            } else if self.gate.is_in_first_stage() {
                self.gate.no_older().await;
            } else if permits > 0 {
                self.gate.quiet().await;
            } else {
                std::future::pending().await
            }
        };
        tokio::select! {
            () = quiet => {}
            () = self.gate.gone(self.holder, self.generation) => {}
            () = changed => ladder.mark_changed(),
            () = sleep_until(until.into()) => {}
        }
    }

    /// Sessions in a transaction, as their permits tell.
    pub(super) fn in_the_way(&self) -> Vec<Arc<Session>> {
        let mut sessions = self.sessions.held_with(self.gate.database());
        let scope = self.gate.scope();
        sessions.retain(|session| session.transaction_age().is_some() && scope.fits(session.who()));
        sessions
    }

    async fn act(
        &self,
        step: Step,
        escalation: &Escalation,
        look: &Look,
        progress: &watch::Sender<DrainReport>,
    ) {
        // Behind a pooler a process id may be anybody's: the ladder stops at waiting.
        if self.control.is_pooled() {
            return;
        }
        let sessions: Vec<_> = look.inside.iter().filter(|it| self.is_meant(it)).collect();
        let mut pids: BTreeSet<i32> = sessions
            .iter()
            .filter_map(|session| session.pid())
            .collect();
        let busy = look.view.as_ref().map_or(&[][..], |view| &view.busy);
        let orphans: Vec<i32> = busy.iter().map(|backend| backend.pid).collect();
        pids.extend(&orphans);
        let mut blockers: Vec<Blocker> = sessions
            .iter()
            .map(|session| Blocker::from(&***session))
            .collect();
        blockers.extend(busy.iter().map(Blocker::from));
        let pids: Vec<i32> = pids.into_iter().collect();
        let ordered = match step {
            Step::Autocommit | Step::Wait => Ok(()),
            Step::Cancel | Step::Stuck | Step::Abort => {
                for session in &sessions {
                    tell(session, escalation);
                }
                if orphans.is_empty() || !escalation.has_reached(Step::Cancel) {
                    Ok(())
                } else {
                    self.control.cancel(&orphans).await
                }
            }
            Step::Terminate => {
                let ordered = self.control.terminate(&pids).await;
                if ordered.is_ok() {
                    let before = &progress.borrow().terminated;
                    free_of_their_clients(&sessions, before);
                }
                ordered
            }
        };
        if let Err(error) = ordered {
            tracing::warn!(
                database = self.gate.database(),
                ?step,
                error = &error as &dyn std::error::Error,
                "the server did not take the order"
            );
        }
        progress.send_modify(|report| match step {
            Step::Autocommit | Step::Wait | Step::Stuck | Step::Abort => {}
            Step::Cancel => add_new(&mut report.cancelled, blockers),
            Step::Terminate => add_new(&mut report.terminated, blockers),
        });
    }

    /// Sessions to which this was last done since the gate was closed.
    fn done_to(&self, done: fn(&Session) -> Option<Duration>) -> Vec<Blocker> {
        let mut sessions = self.sessions.held_with(self.gate.database());
        let since = clock::now().saturating_duration_since(self.held_at);
        sessions.retain(|session| done(session).is_some_and(|ago| ago <= since));
        let blockers = sessions.iter().map(|session| Blocker::from(&**session));
        blockers.collect()
    }

    fn publish(&self, progress: &watch::Sender<DrainReport>, escalation: &Escalation, look: &Look) {
        let inside = look.inside.iter();
        let mut in_the_way: Vec<Blocker> =
            inside.map(|session| Blocker::from(&**session)).collect();
        let view = look.view.as_ref();
        let (freed, aborted) = (
            self.done_to(Session::freed_for),
            self.done_to(Session::aborted_for),
        );
        if let Some(view) = view {
            add_new(
                &mut in_the_way,
                view.busy.iter().map(Blocker::from).collect(),
            );
            if self.bypass != Bypass::Ignore {
                in_the_way.extend(view.bypass.iter().map(Blocker::past_us));
            }
        }
        let last = self.gate.emptied_at().map(timestamp);
        progress.send_modify(|report| {
            report.stands(escalation);
            report.in_the_way = in_the_way;
            report.last_permit_released_at = last;
            add_new(&mut report.freed, freed);
            add_new(&mut report.aborted, aborted);
            if let Some(view) = view {
                report.bypass = view.past_us();
                report.exempt.clone_from(&view.exempt);
            }
            if let Some(reads) = &look.reads {
                reads.publish(report);
            }
        });
    }

    fn drained(&self, progress: &watch::Sender<DrainReport>, reads: Option<&Reads>) {
        let now = timestamp(clock::now());
        progress.send_modify(|report| {
            report.drained_at = Some(now);
            report.in_the_way.clear();
        });
        let detail = match reads {
            None => "nothing runs: counted, and seen in the server".into(),
            Some(reads) => reads.entered(self.lets_a_write_be_tried()),
        };
        self.finish(progress, Outcome::Drained, detail);
    }

    fn finish(&self, progress: &watch::Sender<DrainReport>, outcome: Outcome, detail: String) {
        let database = self.gate.database();
        let took_ms = clock::now()
            .saturating_duration_since(self.held_at)
            .as_millis();
        tracing::info!(database, ?outcome, took_ms, detail, "drain ended");
        progress.send_modify(|report| {
            report.outcome = outcome;
            report.detail = detail;
            report.step_ends_at = None;
        });
    }
}

/// Tells a session what the steps that were reached do to it; each fits another state of it.
fn tell(session: &Session, reached: &Escalation) {
    for (step, signal) in [
        // By the protocol: no privilege is needed for that.
        (Step::Cancel, Signals::CANCEL_RUNNING),
        (Step::Stuck, Signals::STUCK),
        (Step::Abort, Signals::ABORT),
    ] {
        if reached.has_reached(step) {
            session.signal(signal);
        }
    }
}

/// Sessions that were terminated before and are still here: their clients may not be reading.
fn free_of_their_clients(sessions: &[&Arc<Session>], terminated: &[Blocker]) {
    for session in sessions {
        let pid = session.pid();
        if pid.is_some() && terminated.iter().any(|before| before.pid == pid) {
            session.signal(Signals::TERMINATED);
        }
    }
}

/// Adds those whose process id is not there yet.
fn add_new(to: &mut Vec<Blocker>, blockers: Vec<Blocker>) {
    for blocker in blockers {
        if !to
            .iter()
            .any(|known| known.pid.is_some() && known.pid == blocker.pid)
        {
            to.push(blocker);
        }
    }
}

fn exhausted(report: &DrainReport) -> String {
    let names: Vec<String> = report.in_the_way.iter().map(Blocker::name).collect();
    format!("still in the way: {}", names.join("; "))
}
