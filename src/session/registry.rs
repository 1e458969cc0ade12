//! Every session that is logged in: what it does, how to reach it, and how to stop it.

mod meter;
mod session;
mod signals;
mod tally;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dashmap::DashMap;
use subtle::ConstantTimeEq;

pub use self::meter::{Activity, Meter, Running, Totals};
pub use self::session::{Login, Session, SessionId};
pub use self::signals::Signals;
pub use self::tally::Tally;
pub use super::enforcement::{Counts, Enforcement};
use crate::clock::Ticker;
use crate::config::{Scope, Who};
use crate::server::connect::Endpoint;
use crate::tls::stream::Peer;
use crate::wire::startup::CancelKey;

/// A server connection that we closed and whose end was not seen: its backend may still run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Departed {
    /// The server's process id.
    pub pid: i32,
    /// The database it worked in.
    pub database: Arc<str>,
    /// The server.
    pub endpoint: Endpoint,
    /// The user it was opened as.
    pub user: Arc<str>,
    /// The `application_name` it was opened with.
    pub application_name: Box<str>,
    /// Where its client was.
    pub client: Peer,
    /// Whether the server refuses it writes.
    pub enforced: bool,
}

impl Departed {
    /// The session as scopes see it.
    #[must_use]
    pub fn who(&self) -> Who<'_> {
        Who {
            user: &self.user,
            application_name: &self.application_name,
            address: self.client.ip(),
        }
    }
}

/// All sessions.
#[derive(Debug, Default)]
pub struct Sessions {
    sessions: DashMap<SessionId, Arc<Session>>,
    by_pid: DashMap<i32, Vec<Arc<Session>>>,
    next: AtomicU64,
    /// What their transactions are timed by.
    clock: Arc<Ticker>,
    ended: Mutex<BTreeMap<Arc<str>, Totals>>,
    departed: Mutex<Vec<Departed>>,
    elsewhere: Mutex<BTreeSet<i32>>,
}

impl Sessions {
    /// Adds a session that has logged in.
    pub fn add(&self, login: Login) -> Arc<Session> {
        let id = SessionId(self.next.fetch_add(1, Ordering::Relaxed) + 1);
        let session = Arc::new(Session::new(id, login, Arc::clone(&self.clock)));
        self.sessions.insert(id, Arc::clone(&session));
        if let Some(pid) = session.pid() {
            self.by_pid
                .entry(pid)
                // Two servers may give the same process id, but hardly ever do: there is room for one.
                .and_modify(|same| same.push(Arc::clone(&session)))
                .or_insert_with(|| vec![Arc::clone(&session)]);
        }
        session
    }

    /// The clock by which the transactions of all of them are timed. While it is ticked, what was noted of
    /// their begin is exact to the time between two ticks.
    #[must_use]
    pub fn clock(&self) -> &Ticker {
        &self.clock
    }

    /// Removes a session. `server_gone` is whether its server connection was seen to end; if not,
    /// its process id stays ours until the server is found to have forgotten it.
    pub fn remove(&self, session: &Session, server_gone: bool) {
        session.meter.ended.store(true, Ordering::Relaxed);
        session.inbox.close();
        if let Some(pid) = session.pid() {
            if !server_gone && (session.held_by_holds || session.window.is_some()) {
                let (database, endpoint) =
                    (session.database.clone(), session.route.endpoint.clone());
                self.departed().push(Departed {
                    pid,
                    database,
                    endpoint,
                    user: session.user.clone(),
                    application_name: session.application_name.clone(),
                    client: session.client,
                    enforced: session.enforcement() == Enforcement::Enforced,
                });
            }
            if let Some(mut same) = self.by_pid.get_mut(&pid) {
                same.retain(|other| other.id != session.id);
            }
            self.by_pid.remove_if(&pid, |_, same| same.is_empty());
        }
        *self.ended().entry(session.database.clone()).or_default() += session.totals();
        self.sessions.remove(&session.id);
    }

    /// Shows every session. What it is shown to must not add or remove one.
    pub fn each(&self, mut see: impl FnMut(&Session)) {
        self.sessions.iter().for_each(|entry| see(entry.value()));
    }

    /// Every session.
    pub fn all(&self) -> Vec<Arc<Session>> {
        self.sessions
            .iter()
            .map(|entry| Arc::clone(entry.value()))
            .collect()
    }

    fn such(&self, wanted: impl Fn(&Session) -> bool) -> Vec<Arc<Session>> {
        let all = self.sessions.iter();
        all.filter(|entry| wanted(entry.value()))
            .map(|entry| Arc::clone(entry.value()))
            .collect()
    }

    /// The sessions of one database that a hold stops, oldest first.
    pub fn held_with(&self, database: &str) -> Vec<Arc<Session>> {
        let mut found = self.of(database);
        found.retain(|session| session.held_by_holds);
        found
    }

    /// The session of this number, if it is still there.
    pub fn by_id(&self, id: SessionId) -> Option<Arc<Session>> {
        let found = self.sessions.get(&id)?;
        Some(Arc::clone(found.value()))
    }

    /// The sessions of one window.
    pub fn in_window(&self, window: &str) -> Vec<Arc<Session>> {
        self.such(|session| session.window.as_deref() == Some(window))
    }

    /// The sessions of one database, oldest first.
    pub fn of(&self, database: &str) -> Vec<Arc<Session>> {
        let mut found = self.such(|session| *session.database == *database);
        found.sort_unstable_by_key(|session| session.id);
        found
    }

    /// How far a read-only mode has come in one database, among the sessions of a scope. It is asked
    /// for while the mode is on: whoever has not looked yet is pending.
    pub fn enforcements(&self, database: &str, scope: &Scope) -> Counts {
        let mut counts = Counts::default();
        let all = self.sessions.iter();
        for session in all.filter(|it| *it.database == *database && scope.fits(it.who())) {
            match session.enforcement() {
                _ if !session.held_by_holds => counts.exempt += 1,
                Enforcement::Enforced => counts.enforced += 1,
                Enforcement::No | Enforcement::Pending => counts.pending += 1,
            }
        }
        counts
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.sessions.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }

    /// The session that a cancel request names. Secrets are compared in constant time.
    pub fn by_key(&self, key: &CancelKey) -> Option<Arc<Session>> {
        let same_pid = self.by_pid.get(&key.pid)?;
        let matches = |session: &&Arc<Session>| {
            let ours = session.client_key.as_ref();
            ours.is_some_and(|ours| bool::from(ours.secret.ct_eq(&key.secret)))
        };
        same_pid.iter().find(matches).cloned()
    }

    /// The session that a server process works for.
    pub fn by_pid(&self, pid: i32) -> Option<Arc<Session>> {
        self.by_pid.get(&pid)?.first().cloned()
    }

    /// What was counted in one database, ended sessions included.
    pub fn totals(&self, database: &str) -> Totals {
        let mut totals = self.ended_in(database);
        for entry in self
            .sessions
            .iter()
            .filter(|entry| *entry.database == *database)
        {
            totals += entry.totals();
        }
        totals
    }

    /// What the sessions that have ended had counted in one database.
    pub fn ended_in(&self, database: &str) -> Totals {
        self.ended().get(database).copied().unwrap_or_default()
    }

    /// Notes the server processes that work for another process of ours: they are no bypass.
    pub fn served_elsewhere(&self, pids: impl IntoIterator<Item = i32>) {
        let mut elsewhere = self
            .elsewhere
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *elsewhere = pids.into_iter().collect();
    }

    /// Whether a server process works for another process of ours.
    pub fn is_elsewhere(&self, pid: i32) -> bool {
        let elsewhere = self
            .elsewhere
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        elsewhere.contains(&pid)
    }

    /// Server connections of this database that we closed and that may still run.
    pub fn departed_of(&self, database: &str) -> Vec<Departed> {
        self.departed()
            .iter()
            .filter(|gone| *gone.database == *database)
            .cloned()
            .collect()
    }

    /// Forgets departed connections that the server has forgotten.
    pub fn forget_departed(&self, keep: impl Fn(&Departed) -> bool) {
        self.departed().retain(keep);
    }

    fn departed(&self) -> MutexGuard<'_, Vec<Departed>> {
        self.departed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ended(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, Totals>> {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
