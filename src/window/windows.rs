//! Windows: who works alone behind a closed gate, and what becomes of it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::controller::Controller;
use super::fence::NoFence;
use super::generations::StillServed;
use super::journal::{JournalError, LentRecord, Record};
use super::steps::WindowMode;
use crate::config::{Blocked, Bypass};
use crate::drain::escalation::Ladder;
use crate::drain::report::DrainReport;
use crate::gate::mode::{Generation, Holder};
use crate::server::control::OtherProxy;

/// A window as it is asked for.
#[derive(Debug, Clone)]
pub struct WindowRequest {
    /// Its name; see [`WindowRequest::new_id`].
    pub id: String,
    /// The database.
    pub database: String,
    /// Who waits for it.
    pub mode: WindowMode,
    /// How long reads go on first, while writes are held already; none of that time counts as the
    /// window's. Only of one that is exclusive.
    pub read_only_first: Option<Duration>,
    /// How long traffic may be held for it at most, the drain included.
    pub duration: Duration,
    /// What the blocked get.
    pub blocked: Blocked,
    /// How long one client waits at most.
    pub client_deadline: Duration,
    /// How what still runs is ended.
    pub ladder: Ladder,
    /// What is done about sessions that did not come through us, for as long as it lasts.
    pub bypass: Bypass,
    /// Whether the server keeps new sessions out meanwhile.
    pub fence: bool,
    /// Whether to go on when the server could not say that nothing runs.
    pub unproved: bool,
    /// Who asks.
    pub by: String,
    /// Why.
    pub reason: Option<String>,
    /// What is agreed with a holder that is not this process.
    pub lent: Option<LentRecord>,
}

/// A window whose connections may work.
#[derive(Debug)]
pub struct Granted {
    /// Its name.
    pub id: String,
    /// The database.
    pub database: String,
    /// When its time is over.
    pub ends_at: Instant,
    /// Why the window was taken away; `None` while it was not.
    pub lost: watch::Receiver<Option<String>>,
    /// How the drain went.
    pub report: DrainReport,
    pub(super) generation: Generation,
}

/// Why there is no window.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// Somebody works in one already.
    #[error("the window {0} is open already")]
    Another(String),
    /// Nobody works, and traffic is held until a person has looked.
    #[error("traffic is still held after an earlier window: {0}; look, then `pgdrain open`")]
    StillHeld(String),
    /// What comes through it would not be held.
    #[error("another pgdrain serves this database: {0}")]
    OtherProxy(OtherProxy),
    /// Another process still serves sessions there.
    #[error(transparent)]
    Former(#[from] StillServed),
    /// The server was to keep new sessions out.
    #[error(transparent)]
    NoFence(#[from] NoFence),
    /// Nothing may be closed that a crash would forget.
    #[error("the journal cannot be written")]
    Journal(#[from] JournalError),
    /// Traffic did not come to rest, or nobody could say so. It flows again.
    #[error("{}", .0.detail)]
    NotDrained(Box<DrainReport>),
}

/// The windows of all databases.
#[derive(Debug, Default)]
pub(super) struct Windows {
    open: Mutex<BTreeMap<String, Open>>,
    /// Windows that wait for their turn, by database; the first is next, before whoever does not
    /// wait.
    waiting: Mutex<BTreeMap<String, VecDeque<String>>>,
    /// Counts what may have made it somebody's turn.
    freed: watch::Sender<u64>,
}

#[derive(Debug)]
struct Open {
    id: String,
    state: State,
}

impl Open {
    /// What whoever comes next is told.
    fn refusal(&self) -> Refused {
        match &self.state {
            State::AtWork(_) => Refused::Another(self.id.clone()),
            State::Stays(why) => Refused::StillHeld(why.clone()),
        }
    }
}

#[derive(Debug)]
enum State {
    /// Somebody works, and is told here when the window is lost.
    AtWork(watch::Sender<Option<String>>),
    /// Nobody works, and traffic stays held, for the reason given, until that is settled or a person
    /// opens.
    Stays(String),
}

impl Windows {
    /// The window that works in this database.
    pub(super) fn at_work(&self, database: &str) -> Option<String> {
        let open = self.open();
        let window = open.get(database)?;
        matches!(window.state, State::AtWork(_)).then(|| window.id.clone())
    }

    /// Why traffic is held although nobody works in the window.
    fn why_held(&self, database: &str) -> Option<String> {
        match &self.open().get(database)?.state {
            State::AtWork(_) => None,
            State::Stays(why) => Some(why.clone()),
        }
    }

    /// Whether this very window is there, and nobody works in it.
    pub(super) fn is_left(&self, database: &str, id: &str) -> bool {
        let open = self.open();
        open.get(database)
            .is_some_and(|window| window.id == id && matches!(window.state, State::Stays(_)))
    }

    /// Ends the window of a database from outside; who works in it is told why.
    pub(super) fn take_from(&self, database: &str, why: &str) {
        if let Some(Open {
            state: State::AtWork(lost),
            ..
        }) = self.open().remove(database)
        {
            lost.send_replace(Some(why.to_owned()));
        }
        self.tell_freed();
    }

    /// Takes a place behind those who wait for this database.
    pub(super) fn queue(&self, database: &str, id: &str) {
        let mut waiting = self.waiting();
        waiting
            .entry(database.to_owned())
            .or_default()
            .push_back(id.to_owned());
    }

    /// Gives the place up.
    pub(super) fn unqueue(&self, database: &str, id: &str) {
        let mut waiting = self.waiting();
        if let Some(queue) = waiting.get_mut(database) {
            queue.retain(|other| other != id);
            if queue.is_empty() {
                waiting.remove(database);
            }
        }
        drop(waiting);
        self.tell_freed();
    }

    /// How many are before this one in the queue; `None` when it does not wait.
    pub(super) fn before(&self, database: &str, id: &str) -> Option<usize> {
        let waiting = self.waiting();
        waiting.get(database)?.iter().position(|other| other == id)
    }

    /// Whether there is a window in this database, at work or not.
    pub(super) fn is_open(&self, database: &str) -> bool {
        self.open().contains_key(database)
    }

    /// Who is in the way of a window that would not wait.
    pub(super) fn busy(&self, database: &str) -> Option<Refused> {
        if let Some(open) = self.open().get(database) {
            return Some(open.refusal());
        }
        let waiting = self.waiting();
        let first = waiting.get(database)?.front()?;
        Some(Refused::Another(first.clone()))
    }

    /// Waits until a queued window may be begun; somebody may still be faster. Cancel safe.
    pub(super) async fn turn(&self, database: &str, id: &str) {
        let mut freed = self.freed.subscribe();
        while self.open().contains_key(database) || self.before(database, id) != Some(0) {
            if freed.changed().await.is_err() {
                return;
            }
        }
    }

    fn tell_freed(&self) {
        self.freed.send_modify(|count| *count += 1);
    }

    fn waiting(&self) -> MutexGuard<'_, BTreeMap<String, VecDeque<String>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a window that was open when the last process died.
    pub(super) fn left(&self, database: &str, id: &str, why: &str) {
        let window = Open {
            id: id.to_owned(),
            state: State::Stays(why.to_owned()),
        };
        self.open().insert(database.to_owned(), window);
    }

    /// Ends the work of this very window and notes why traffic stays held. False if it is no longer
    /// there, because traffic was opened by force.
    pub(super) fn stay(&self, database: &str, id: &str, why: &str) -> bool {
        let mut open = self.open();
        let window = open.get_mut(database).filter(|window| window.id == id);
        let found = window.map(|window| window.state = State::Stays(why.to_owned()));
        found.is_some()
    }

    pub(super) fn begin(
        &self,
        database: &str,
        id: &str,
    ) -> Result<watch::Receiver<Option<String>>, Refused> {
        let mut open = self.open();
        if let Some(other) = open.get(database) {
            return Err(other.refusal());
        }
        let mut waiting = self.waiting();
        if let Some(queue) = waiting.get_mut(database) {
            match queue.front() {
                Some(first) if first != id => return Err(Refused::Another(first.clone())),
                Some(_) | None => drop(queue.pop_front()),
            }
        }
        drop(waiting);
        let (lost, told) = watch::channel(None);
        let state = State::AtWork(lost);
        open.insert(
            database.to_owned(),
            Open {
                id: id.to_owned(),
                state,
            },
        );
        Ok(told)
    }

    pub(super) fn end(&self, database: &str, id: &str) {
        let mut open = self.open();
        if open.get(database).is_some_and(|window| window.id == id) {
            open.remove(database);
        }
        drop(open);
        self.tell_freed();
    }

    fn open(&self) -> MutexGuard<'_, BTreeMap<String, Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Controller {
    /// Ends a window and lets traffic flow, unless somebody else holds it too.
    pub async fn reopen_after(self: &Arc<Self>, window: Granted) {
        self.windows.end(&window.database, &window.id);
        if let Some(gate) = self.gates.find(&window.database) {
            gate.end_hold(Holder::Window, Some(window.generation));
        }
        tracing::info!(
            database = window.database,
            window = window.id,
            "window ended"
        );
        self.forget_ended().await;
    }

    /// Ends the work of a window whose traffic must stay held until a person has looked.
    pub async fn stay_held_after(self: &Arc<Self>, window: Granted, why: &str) {
        let Granted { id, database, .. } = window;
        if !self.windows.stay(&database, &id, why) {
            return;
        }
        tracing::error!(
            database,
            window = id,
            why,
            "traffic stays held: look, then `pgdrain open`"
        );
        self.note_stays(&database, why).await;
    }

    /// A window that is there, in which somebody works or that somebody has to look after: its
    /// database, and its name.
    pub fn any_window(&self) -> Option<(String, String)> {
        let open = self.windows.open();
        let (database, window) = open.iter().next()?;
        Some((database.clone(), window.id.clone()))
    }

    /// How many sessions of a database wait at a gate, and how long the longest of them has.
    pub fn waiting(&self, database: &str) -> (usize, Duration) {
        let held = self.sessions.held_with(database);
        let waits: Vec<_> = held.iter().filter_map(|it| it.held_for()).collect();
        (waits.len(), waits.into_iter().max().unwrap_or_default())
    }

    /// Why traffic is held in a database although nobody works in its window: somebody has to look,
    /// or it is not known yet what became of the work.
    pub fn why_held(&self, database: &str) -> Option<String> {
        self.windows.why_held(database)
    }

    /// Writes down why traffic stays held.
    pub(super) async fn note_stays(&self, database: &str, why: &str) {
        let note = |journal: &mut Record| {
            if let Some(window) = journal.windows.get_mut(database) {
                window.stays = Some(why.to_owned());
            }
        };
        if let Err(error) = self.record(note, || ()).await {
            let error = &error as &dyn std::error::Error;
            tracing::error!(error, "the journal does not say why traffic stays held");
        }
    }
}

impl WindowRequest {
    /// A name that no window has.
    #[must_use]
    pub fn new_id() -> String {
        format!("w{:016x}", rand::random::<u64>())
    }
}
