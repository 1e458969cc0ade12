//! What a drain did and saw, for answers, logs and people.

use std::time::{Instant, SystemTime};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::escalation::{Escalation, Step};
use crate::clock;
use crate::config::words;
use crate::server::control::{Backend, Obstacle};
use crate::session::registry::Session;

words! {
    /// How a drain stands.
    Outcome {
        /// It goes on.
        Draining = "draining",
        /// Nothing runs, and the server says so; of read-only mode: nobody can write any more, and a
        /// write that was tried was refused.
        Drained = "drained",
        /// A write was carried out although the database is read-only.
        Writable = "writable",
        /// No permit is out, and the server did not say that nothing runs.
        Unproved = "unproved",
        /// The ladder is at its end and somebody is in the way.
        Exhausted = "exhausted",
        /// The hold ended before the drain did.
        Ended = "ended",
    }
}

/// The course of one drain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrainReport {
    /// How it stands.
    pub outcome: Outcome,
    /// The step of the ladder it is on, or ended on.
    pub step: Step,
    /// The steps of its ladder as it is now, each with its time.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ladder: Vec<Rung>,
    /// When the step it is on is over; absent once the drain has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step_ends_at: Option<Timestamp>,
    /// When the gate was closed.
    pub held_at: Timestamp,
    /// When the last transaction that was inside ended; absent while some are, or if none was.
    pub last_permit_released_at: Option<Timestamp>,
    /// When it was proved that nothing runs.
    pub drained_at: Option<Timestamp>,
    /// Sessions that were in a transaction when the gate was closed.
    pub waited_for: Vec<Blocker>,
    /// Sessions whose statement was cancelled.
    pub cancelled: Vec<Blocker>,
    /// Sessions whose conversation stood still because of their client, and was freed from it.
    #[serde(default)]
    pub freed: Vec<Blocker>,
    /// Sessions whose idle transaction was aborted in place.
    #[serde(default)]
    pub aborted: Vec<Blocker>,
    /// Sessions that were terminated.
    pub terminated: Vec<Blocker>,
    /// Sessions that are in the way now.
    #[serde(default)]
    pub in_the_way: Vec<Blocker>,
    /// Sessions in the database that did not come through us and are in a transaction: as long as
    /// the drain goes on, and in a window for as long as it lasts.
    pub bypass: Vec<Blocker>,
    /// Why it is not known whether there are such sessions, as of the last look.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bypass_unknown: Option<String>,
    /// What else was in the way when the gate was closed: it is named, and nothing else.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub obstacles: Vec<Obstacle>,
    /// Sessions that no hold stops and that are in a transaction.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exempt: Vec<Blocker>,
    /// In read-only mode, how many sessions the server refuses writes of; absent in a hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enforced: Option<u64>,
    /// In read-only mode, sessions whose one statement began before it, is seen to read, and may come
    /// to its end; the server would not refuse it a write.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pending: Vec<Blocker>,
    /// In read-only mode, idle sessions that could not be told to the server so far. What they begin waits
    /// until they are.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub not_enforced: Vec<Blocker>,
    /// A sentence about it.
    pub detail: String,
}

impl DrainReport {
    /// Of a drain that has just begun.
    #[must_use]
    pub fn begun(held_at: Timestamp, waited_for: Vec<Blocker>) -> DrainReport {
        DrainReport {
            outcome: Outcome::Draining,
            step: Step::Wait,
            ladder: Vec::new(),
            step_ends_at: None,
            held_at,
            last_permit_released_at: None,
            drained_at: None,
            in_the_way: waited_for.clone(),
            waited_for,
            cancelled: Vec::new(),
            freed: Vec::new(),
            aborted: Vec::new(),
            terminated: Vec::new(),
            bypass: Vec::new(),
            bypass_unknown: None,
            obstacles: Vec::new(),
            exempt: Vec::new(),
            enforced: None,
            pending: Vec::new(),
            not_enforced: Vec::new(),
            detail: "waiting for transactions to end".into(),
        }
    }

    /// Takes over how the ladder stands.
    pub(super) fn stands(&mut self, escalation: &Escalation) {
        self.step = escalation.step();
        let rungs = escalation.ladder().steps();
        self.ladder = rungs
            .map(|(step, time)| Rung {
                step,
                for_ms: millis(time),
            })
            .collect();
        self.step_ends_at = Some(at(escalation.step_ends()));
    }
}

/// One step of a ladder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rung {
    /// What is done.
    pub step: Step,
    /// For how long at most.
    pub for_ms: u64,
}

/// Somebody in the way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blocker {
    /// Its session's number; absent of those that did not come through us.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<u64>,
    /// The server's process id.
    pub pid: Option<i32>,
    /// The user.
    pub user: String,
    /// The `application_name`.
    pub application_name: String,
    /// Where the client is.
    pub client: String,
    /// What it does.
    pub state: String,
    /// How long its transaction runs already.
    pub transaction_age_ms: Option<u64>,
    /// When its last statement began.
    pub statement_started_at: Option<Timestamp>,
    /// Whether it did not come through us.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub bypass: bool,
    /// When the server started it; only of those that did not come through us.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend_started_at: Option<Timestamp>,
}

impl Blocker {
    /// Who it is and what it does, in a few words.
    #[must_use]
    pub fn name(&self) -> String {
        let pid = self.pid.map_or_else(|| "?".into(), |pid| pid.to_string());
        let age = self.transaction_age_ms.unwrap_or(0) / 1000;
        let Blocker {
            user,
            application_name,
            client,
            state,
            ..
        } = self;
        format!("pid {pid} ({user}, {application_name:?}, {client}, {state}, {age} s)")
    }

    /// A session that did not come through us.
    #[must_use]
    pub fn past_us(backend: &Backend) -> Blocker {
        let born = backend.born;
        Blocker {
            bypass: true,
            backend_started_at: born.and_then(|at| Timestamp::from_microsecond(at).ok()),
            ..Blocker::from(backend)
        }
    }
}

impl From<&Session> for Blocker {
    fn from(session: &Session) -> Blocker {
        let started = session
            .statement_age()
            .and_then(|age| SystemTime::now().checked_sub(age));
        Blocker {
            session: Some(session.id.0),
            pid: session.pid(),
            user: session.user.to_string(),
            application_name: session.application_name.to_string(),
            client: session.client.to_string(),
            state: session.activity().as_str().to_owned(),
            transaction_age_ms: session.transaction_age().map(millis),
            statement_started_at: started.and_then(|at| Timestamp::try_from(at).ok()),
            bypass: false,
            backend_started_at: None,
        }
    }
}

impl From<&Backend> for Blocker {
    fn from(backend: &Backend) -> Blocker {
        Blocker {
            session: None,
            pid: Some(backend.pid),
            user: backend.user.clone(),
            application_name: backend.application_name.clone(),
            client: backend.client.clone(),
            state: backend.activity.as_str().to_owned(),
            transaction_age_ms: backend.age.map(millis),
            statement_started_at: backend
                .statement_started_at
                .and_then(|at| Timestamp::try_from(at).ok()),
            bypass: false,
            backend_started_at: None,
        }
    }
}

/// Whole milliseconds.
pub fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The same of one that may lie ahead.
fn at(moment: Instant) -> Timestamp {
    let ahead = moment.saturating_duration_since(clock::now());
    let ahead = jiff::SignedDuration::try_from(ahead).unwrap_or(jiff::SignedDuration::MAX);
    let then = timestamp(moment.min(clock::now()));
    then.checked_add(ahead).unwrap_or(Timestamp::MAX)
}

/// The wall clock's time of a moment of the steady clock.
#[must_use]
pub fn timestamp(at: Instant) -> Timestamp {
    let now = clock::wall();
    let since = jiff::SignedDuration::try_from(clock::now().saturating_duration_since(at))
        .unwrap_or(jiff::SignedDuration::MAX);
    now.checked_sub(since).unwrap_or(Timestamp::MIN)
}
