//! Entering read-only mode: who may still write, who need not be waited for, and how it is said.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::time::sleep;

use super::escalation::{self, Proof};
use super::execute::{Drain, Look};
use super::proof::About;
use super::report::{Blocker, DrainReport, Outcome};
use crate::clock;
use crate::server::control::{Control, Running};
use crate::session::class::reads_alone;
use crate::session::registry::{Enforcement, Session};

/// How long idle sessions are given to be told to the server, when nobody else is in the way. Those that
/// are not by then are named: nothing they begin is let in before.
const SETTLE_TIME: Duration = Duration::from_secs(1);

/// How often those in the way are looked at: one may have come to a single statement that reads.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// How long after a write that could not be tried it is tried again.
const TRY_AGAIN: Duration = Duration::from_secs(1);

/// The sessions that reads are let in of.
#[derive(Debug, Default)]
pub(super) struct Reads {
    /// How many have the server refuse their writes.
    enforced: u64,
    /// Those whose one statement began before, and reads.
    pending: Vec<Blocker>,
    /// Those outside of a transaction that the server does not know of.
    not_enforced: Vec<Blocker>,
}

impl Reads {
    pub(super) fn publish(&self, report: &mut DrainReport) {
        report.enforced = Some(self.enforced);
        report.pending.clone_from(&self.pending);
        report.not_enforced.clone_from(&self.not_enforced);
    }

    /// That the mode is entered, in words; `tried` is whether a write was.
    pub(super) fn entered(&self, tried: bool) -> String {
        let mut text = match self.enforced {
            1 => "entered: the server refuses writes of one session".to_owned(),
            many => format!("entered: the server refuses writes of {many} sessions"),
        };
        text += match tried {
            true => ", and a write that was tried",
            false => "; no write was tried, since a stricter hold lets nothing in",
        };
        for (who, what) in [
            (&self.pending, "still read what began before"),
            (
                &self.not_enforced,
                "wait with all they begin until the server refuses their writes",
            ),
        ] {
            if !who.is_empty() {
                let names: Vec<String> = who.iter().map(Blocker::name).collect();
                text += &format!("; {what}: {}", names.join(", "));
            }
        }
        text
    }
}

/// The sessions that the mode is for.
struct Listed {
    enforced: usize,
    /// Those in a transaction whose writes the server would not refuse.
    inside: Vec<Arc<Session>>,
    /// Those in none.
    idle: Vec<Arc<Session>>,
}

/// The time in which idle sessions are told to the server.
#[derive(Debug, Default)]
pub(super) struct Settling {
    since: Option<Instant>,
}

impl Settling {
    /// Whether nothing is missing but that, and there is time for it.
    pub(super) fn goes_on(&mut self, look: &Look, now: Instant) -> bool {
        let (Some(reads), Some(view)) = (&look.reads, &look.view) else {
            return false;
        };
        let missing = match view.proof {
            Proof::Clear | Proof::Impossible => look.permits == 0 && !reads.not_enforced.is_empty(),
            Proof::Busy | Proof::Unknown => false,
        };
        missing && now < *self.since.get_or_insert(now) + SETTLE_TIME
    }
}

/// What came of the write that is tried, and when.
#[derive(Debug)]
pub(super) struct Tried {
    probe: escalation::Probe,
    at: Instant,
    detail: String,
}

impl Tried {
    /// What is known of it now: one that could not be tried is due again after a while.
    pub(super) fn now(&self, now: Instant) -> escalation::Probe {
        let unknown = self.probe == escalation::Probe::Unknown;
        match unknown && now >= self.at + TRY_AGAIN {
            true => escalation::Probe::Due,
            false => self.probe,
        }
    }

    pub(super) fn detail(&self) -> String {
        self.detail.clone()
    }
}

impl Drain {
    pub(super) fn first_probe(&self) -> Tried {
        Tried {
            probe: match self.prober {
                Some(_) => escalation::Probe::Due,
                None => escalation::Probe::Needless,
            },
            at: clock::now(),
            detail: "the server could not be asked".into(),
        }
    }

    /// Whether no stricter hold would keep it waiting: behind a hold on some clients it goes through the gate
    /// of the database too.
    pub(super) fn lets_a_write_be_tried(&self) -> bool {
        let wide = self.gate.wide().and_then(|wide| wide.blocked());
        self.gate.is_read_only() && wide.is_none_or(|standing| standing.read_only)
    }

    /// Tries a write, unless a stricter hold would keep it waiting.
    pub(super) async fn try_a_write(&self) -> Tried {
        let tried = |probe, detail| Tried {
            probe,
            at: clock::now(),
            detail,
        };
        let prober = match &self.prober {
            Some(prober) if self.lets_a_write_be_tried() => prober,
            Some(_) | None => return tried(escalation::Probe::Needless, String::new()),
        };
        let database = self.gate.database();
        match prober.try_a_write(&self.gate).await {
            Ok(()) => tried(escalation::Probe::Refused, String::new()),
            // It may have been let through because the mode was over by then.
            Err(wrong)
                if wrong.was_carried_out()
                    && !self.gate.is_held_by(self.holder, self.generation) =>
            {
                tried(escalation::Probe::Unknown, wrong.to_string())
            }
            Err(wrong) if wrong.was_carried_out() => {
                tracing::error!(database, %wrong, "NOT read-only: a write that was tried was let through");
                tried(escalation::Probe::Accepted, format!("not entered: {wrong}"))
            }
            Err(wrong) => {
                tracing::warn!(database, %wrong, "no write could be tried");
                tried(escalation::Probe::Unknown, wrong.to_string())
            }
        }
    }

    /// Who may write what began before the mode, and who does not and need not be waited for.
    pub(super) async fn look_for_writers(&self) -> Look {
        // Counted before anybody is listed: who comes in later is listed as one who reads.
        let gate = &self.gate;
        let older = gate.older().unwrap_or_else(|| gate.permits());
        let Listed {
            enforced,
            mut inside,
            idle,
        } = self.list();
        let pending = take_readers(&self.control, gate.database(), &mut inside).await;
        let reading = pending.iter().filter_map(|session| session.pid()).collect();
        let left = (older as usize)
            .saturating_sub(pending.len())
            .max(inside.len());
        let view = match left {
            0 => Some(self.ask(About::Writers(&reading)).await),
            1.. => None,
        };
        let named = |sessions: &[Arc<Session>]| {
            let named = sessions.iter().map(|session| Blocker::from(&**session));
            named.collect()
        };
        Look {
            permits: u32::try_from(left).unwrap_or(u32::MAX),
            inside,
            view,
            reads: Some(Reads {
                enforced: enforced as u64,
                pending: named(&pending),
                not_enforced: named(&idle),
            }),
        }
    }

    fn list(&self) -> Listed {
        let mut sessions = self.sessions.held_with(self.gate.database());
        sessions.retain(|session| self.gate.scope().fits(session.who()));
        let all = sessions.len();
        sessions.retain(|session| !is_enforced(session));
        let enforced = all - sessions.len();
        let in_transaction = |session: &Arc<Session>| session.transaction_age().is_some();
        let (inside, idle) = sessions.into_iter().partition(in_transaction);
        Listed {
            enforced,
            inside,
            idle,
        }
    }

    /// Keeps those current in the report that still read what began before, until none is left or the hold
    /// has ended. One that has begun to write after all is told of: what it runs hid that.
    pub async fn follow_pending(&self, progress: &watch::Sender<DrainReport>) {
        while !progress.borrow().pending.is_empty() {
            tokio::select! {
                () = sleep(LOOK_AGAIN) => {}
                () = self.gate.gone(self.holder, self.generation) => return,
            }
            let inside = self.list().inside;
            let running = running(&self.control, self.gate.database(), &inside).await;
            let Some(running) = running else {
                continue;
            };
            let those = |fits: fn(&Running) -> bool| -> Vec<Blocker> {
                let those = inside.iter().filter(|it| still(it, &running, fits));
                those.map(|session| Blocker::from(&**session)).collect()
            };
            let (pending, writing) = (those(only_reads), those(|it| it.has_written));
            progress.send_if_modified(|report| {
                let news = report.pending.len() != pending.len() || !writing.is_empty();
                report.pending = pending;
                self.tell_writing(report, writing);
                news
            });
        }
    }

    fn tell_writing(&self, report: &mut DrainReport, writing: Vec<Blocker>) {
        let Some(first) = writing.first() else {
            return;
        };
        let database = self.gate.database();
        let detail = format!(
            "a statement that was taken for a read, and began before the mode, writes: {}",
            first.name()
        );
        tracing::error!(database, detail, "NOT read-only");
        report.outcome = Outcome::Writable;
        report.detail = detail;
        report.in_the_way = writing;
    }

    /// Waits until nobody is left who began before the mode, or it is time to look at them again. Cancel
    /// safe.
    pub(super) async fn a_writer_fewer(&self) {
        let nobody = async {
            match self.gate.older() {
                Some(1..) => self.gate.no_older().await,
                Some(0) | None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = nobody => {}
            () = sleep(LOOK_AGAIN) => {}
        }
    }

    /// Whether what a step does is meant for this session: in read-only mode not for one that has come to
    /// its end meanwhile, and perhaps reads again.
    pub(super) fn is_meant(&self, session: &Session) -> bool {
        self.prober.is_none() || !is_enforced(session)
    }
}

/// Takes those of these sessions of `database` out whose transaction is one statement that reads by its
/// text, and has not written. Who cannot be asked about stays.
pub async fn take_readers(
    control: &Control,
    database: &str,
    inside: &mut Vec<Arc<Session>>,
) -> Vec<Arc<Session>> {
    let running = running(control, database, inside).await.unwrap_or_default();
    let readers = inside.extract_if(.., |session| still(session, &running, only_reads));
    readers.collect()
}

/// What those of these sessions run whose transaction is one statement; `None` when the server could
/// not be asked. Behind a pooler a process id may be anybody's.
async fn running(
    control: &Control,
    database: &str,
    inside: &[Arc<Session>],
) -> Option<BTreeMap<i32, Running>> {
    let alone = inside.iter().filter(|session| session.runs_alone());
    let pids: Vec<i32> = alone.filter_map(|session| session.pid()).collect();
    if pids.is_empty() || control.is_pooled() {
        return Some(BTreeMap::new());
    }
    control.running(database, &pids).await.ok()
}

/// Whether what the server said of a session's only statement fits, and that very statement runs still.
fn still(
    session: &Session,
    running: &BTreeMap<i32, Running>,
    fits: impl Fn(&Running) -> bool,
) -> bool {
    let said = session.pid().and_then(|pid| running.get(&pid));
    said.is_some_and(fits) && session.runs_alone()
}

fn only_reads(running: &Running) -> bool {
    let text = running.text.as_ref();
    !running.has_written && text.is_some_and(|text| reads_alone(text.as_bytes()))
}

fn is_enforced(session: &Session) -> bool {
    session.enforcement() == Enforcement::Enforced
}
