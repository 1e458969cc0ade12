//! Every session that is logged in: what it does, how to reach it, and how to stop it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU16, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::{Duration, Instant, SystemTime};

use dashmap::DashMap;
use subtle::ConstantTimeEq;
use tokio::sync::oneshot;

use super::enforcement::Shared;
pub use super::enforcement::{Counts, Enforcement};
use super::inbox::{Inbox, Presumed};
use super::passes::Pass;
use crate::clock;
use crate::config::{Scope, Who};
use crate::server::connect::{Endpoint, Route};
use crate::tls::stream::Peer;
use crate::wire::startup::{CancelKey, Replication};

/// Numbers sessions over the life of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u64);

/// What a session does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Activity {
    /// Nothing, outside of a transaction.
    Idle = 0,
    /// The server works for it.
    Active = 1,
    /// Nothing, inside a transaction.
    InTransaction = 2,
    /// Its next transaction waits at the gate.
    Held = 3,
    /// One side has left and the other is being ended.
    Closing = 4,
    /// Its transaction was aborted in place, and it has not ended it yet.
    Aborted = 5,
    /// It was told that its transaction block has begun, and the server does not know of it yet.
    Deferred = 6,
}

impl Activity {
    fn from_u8(byte: u8) -> Activity {
        match byte {
            0 => Activity::Idle,
            1 => Activity::Active,
            2 => Activity::InTransaction,
            3 => Activity::Held,
            5 => Activity::Aborted,
            6 => Activity::Deferred,
            _ => Activity::Closing,
        }
    }

    /// The word that reports use.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Activity::Idle => "idle",
            Activity::Active => "active",
            Activity::InTransaction => "in_transaction",
            Activity::Held => "held",
            Activity::Closing => "closing",
            Activity::Aborted => "aborted",
            Activity::Deferred => "deferred",
        }
    }
}

/// What somebody wants of a session; the bits add up until the session looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signals(u16);

impl Signals {
    /// Cancel what runs or is held.
    pub const CANCEL: Signals = Signals(1);
    /// End at the next boundary.
    pub const STOP: Signals = Signals(2);
    /// End now.
    pub const KILL: Signals = Signals(4);
    /// Its server session was terminated a while ago: do not wait for the client to read on.
    pub const TERMINATED: Signals = Signals(8);
    /// Cancel what the server runs for it.
    pub const CANCEL_RUNNING: Signals = Signals(16);
    /// If its conversation stands still because of its client, free it.
    pub const STUCK: Signals = Signals(64);
    /// If it sits idle in a transaction, abort that in place.
    pub const ABORT: Signals = Signals(32);
    /// Its window has ended: end now.
    pub const WINDOW_ENDED: Signals = Signals(128);

    /// Another gate is in its way: look into the inbox.
    pub const ATTACH: Signals = Signals(256);
    /// Read-only mode begins or ends for it: see to it that the server enforces it, or does not.
    pub const READ_ONLY: Signals = Signals(512);
    /// Note whether what runs is one statement and all of its transaction.
    pub const SAY_ALONE: Signals = Signals(1024);

    /// Whether `other` is among them.
    #[must_use]
    pub fn contains(self, other: Signals) -> bool {
        self.0 & other.0 != 0
    }

    /// Whether there is none.
    #[inline]
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}

/// A session as the rest of the program sees it. The relay alone writes the counters.
#[derive(Debug)]
pub struct Session {
    /// Its number.
    pub id: SessionId,
    /// The database it was opened for.
    pub database: Arc<str>,
    /// The user it was opened as.
    pub user: Arc<str>,
    /// The `application_name` it was opened with.
    pub application_name: Box<str>,
    /// What kind of replication it was opened for, if any.
    pub replication: Option<Replication>,
    /// Whether holds stop it, and drains wait for it.
    pub held_by_holds: bool,
    /// The window it works in, if it went through one.
    pub window: Option<Box<str>>,
    /// Whether it is no client's but ours, and tries whether a write is refused: what it sends is taken for
    /// a read.
    pub probe: bool,
    /// Where the client is.
    pub client: Peer,
    /// When it was logged in.
    pub connected_at: SystemTime,
    /// The way to the server it is connected to.
    pub route: Route,
    /// The key of the server's session.
    pub server_key: Option<CancelKey>,
    /// The key that the client was given.
    pub client_key: Option<CancelKey>,
    /// The measures of its traffic.
    pub meter: Meter,
    born: Instant,
    signals: AtomicU16,
    /// Given back when its server connection is at its end.
    pass: Mutex<Option<Box<Pass>>>,
    waker: Mutex<Option<Waker>>,
    cancels: Mutex<Vec<oneshot::Sender<()>>>,
    inbox: Inbox,
    enforcement: Shared,
}

/// Names what a server runs for a session, until it has answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Running(u64);

/// Counters with one writer: a store costs as much as a plain one.
#[derive(Debug, Default)]
pub struct Meter {
    activity: AtomicU8,
    /// Microseconds since the session began, plus one; zero for "none".
    transaction_since: AtomicU64,
    statement_since: AtomicU64,
    held_since: AtomicU64,
    /// When its transaction was last aborted in place.
    aborted_at: AtomicU64,
    /// When its conversation was last freed from its client.
    freed_at: AtomicU64,
    transactions: AtomicU64,
    /// What it ran when it was last seen to run one statement outside of a block, plus one.
    alone: AtomicU64,
    /// How often the server was ready for the next statement.
    answers: AtomicU64,
    /// Whether the session is over.
    ended: AtomicBool,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
}

/// Traffic that was counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Transactions that came to their end.
    pub transactions: u64,
    /// Bytes from clients.
    pub bytes_in: u64,
    /// Bytes from servers.
    pub bytes_out: u64,
}

impl std::ops::AddAssign for Totals {
    fn add_assign(&mut self, other: Totals) {
        self.transactions += other.transactions;
        self.bytes_in += other.bytes_in;
        self.bytes_out += other.bytes_out;
    }
}

/// What a session is made of at its login.
#[derive(Debug)]
pub struct Login {
    /// The database it asked for.
    pub database: Arc<str>,
    /// The user it claimed to be, and proved to the server.
    pub user: Arc<str>,
    /// Its `application_name`, or nothing.
    pub application_name: Box<str>,
    /// What kind of replication it asked for, if any.
    pub replication: Option<Replication>,
    /// Whether holds stop it, and drains wait for it.
    pub held_by_holds: bool,
    /// Its right to be in a window, if it goes through one.
    pub pass: Option<Pass>,
    /// Where it comes from.
    pub client: Peer,
    /// The way to the server it got.
    pub route: Route,
    /// The key of the server's session.
    pub server_key: Option<CancelKey>,
    /// The key that the client was given.
    pub client_key: Option<CancelKey>,
}

impl Session {
    fn new(id: SessionId, login: Login) -> Session {
        Session {
            id,
            database: login.database,
            user: login.user,
            application_name: login.application_name,
            replication: login.replication,
            held_by_holds: login.held_by_holds,
            window: login.pass.as_ref().map(|pass| pass.window().into()),
            probe: false,
            pass: Mutex::new(login.pass.map(Box::new)),
            client: login.client,
            connected_at: SystemTime::now(),
            route: login.route,
            server_key: login.server_key,
            client_key: login.client_key,
            meter: Meter::default(),
            born: clock::now(),
            signals: AtomicU16::new(0),
            waker: Mutex::default(),
            cancels: Mutex::default(),
            inbox: Inbox::default(),
            enforcement: Shared::default(),
        }
    }

    /// A session of our own that tries whether a write is refused. It is in no registry.
    #[must_use]
    pub fn probe(login: Login) -> Session {
        Session {
            probe: true,
            ..Session::new(SessionId(0), login)
        }
    }

    /// The session as scopes see it.
    #[must_use]
    pub fn who(&self) -> Who<'_> {
        Who {
            user: &self.user,
            application_name: &self.application_name,
            address: self.client.ip(),
        }
    }

    /// Puts another gate in its way.
    pub fn attach(&self, presumed: Presumed) {
        self.inbox.post(presumed);
        self.signal(Signals::ATTACH);
    }

    /// The gates that were put in its way since the last look.
    pub fn take_attached(&self) -> Vec<Presumed> {
        self.inbox.take()
    }

    /// The server's process id.
    #[must_use]
    pub fn pid(&self) -> Option<i32> {
        self.server_key.as_ref().map(|key| key.pid)
    }

    /// How far read-only mode is enforced for it.
    #[must_use]
    pub fn enforcement(&self) -> Enforcement {
        self.enforcement.get()
    }

    /// Says how far. For its relay alone.
    pub fn set_enforcement(&self, enforcement: Enforcement) {
        self.enforcement.set(enforcement);
    }

    /// What it does now.
    #[must_use]
    pub fn activity(&self) -> Activity {
        Activity::from_u8(self.meter.activity.load(Ordering::Relaxed))
    }

    /// Says what it does.
    #[inline]
    pub fn set_activity(&self, activity: Activity) {
        self.meter.activity.store(activity as u8, Ordering::Relaxed);
    }

    /// A transaction has begun, and with it a statement.
    #[inline]
    pub fn transaction_began(&self) {
        let now = self.stamp();
        self.meter.transaction_since.store(now, Ordering::Relaxed);
        self.meter.statement_since.store(now, Ordering::Relaxed);
    }

    /// A further statement has begun.
    #[inline]
    pub fn statement_began(&self) {
        self.meter
            .statement_since
            .store(self.stamp(), Ordering::Relaxed);
    }

    /// The transaction has come to its end.
    #[inline]
    pub fn transaction_ended(&self) {
        self.meter.transaction_since.store(0, Ordering::Relaxed);
        add(&self.meter.transactions, 1);
    }

    /// Its transaction was aborted in place.
    pub fn transaction_aborted(&self) {
        self.transaction_ended();
        self.meter.aborted_at.store(self.stamp(), Ordering::Relaxed);
        self.set_activity(Activity::Aborted);
    }

    /// Its conversation was freed from its client.
    pub fn freed(&self) {
        self.meter.freed_at.store(self.stamp(), Ordering::Relaxed);
    }

    /// How long ago its conversation was freed from its client, if it ever was.
    #[must_use]
    pub fn freed_for(&self) -> Option<Duration> {
        self.since(&self.meter.freed_at)
    }

    /// How long ago its transaction was aborted in place, if one ever was.
    #[must_use]
    pub fn aborted_for(&self) -> Option<Duration> {
        self.since(&self.meter.aborted_at)
    }

    /// The server is ready for the next statement.
    #[inline]
    pub fn answered(&self) {
        add(&self.meter.answers, 1);
    }

    /// What the server runs now, if it runs something.
    #[must_use]
    pub fn running(&self) -> Running {
        Running(self.meter.answers.load(Ordering::Relaxed))
    }

    /// Whether that runs on.
    #[must_use]
    pub fn still_runs(&self, running: Running) -> bool {
        self.running() == running && !self.meter.ended.load(Ordering::Relaxed)
    }

    /// What the server runs for it now is all that its transaction is.
    pub fn note_runs_alone(&self) {
        let running = self.running().0.saturating_add(1);
        self.meter.alone.store(running, Ordering::Release);
    }

    /// Whether the server runs one statement for it that was noted to be all of its transaction, and runs
    /// that very one still.
    #[must_use]
    pub fn runs_alone(&self) -> bool {
        let noted = self.meter.alone.load(Ordering::Acquire);
        noted
            .checked_sub(1)
            .is_some_and(|noted| self.still_runs(Running(noted)))
    }

    /// It waits at the gate, or no more.
    pub fn set_held(&self, held: bool) {
        self.meter
            .held_since
            .store(if held { self.stamp() } else { 0 }, Ordering::Relaxed);
    }

    /// Bytes came from the client.
    #[inline]
    pub fn count_in(&self, bytes: usize) {
        add(&self.meter.bytes_in, bytes as u64);
    }

    /// Bytes came from the server.
    #[inline]
    pub fn count_out(&self, bytes: usize) {
        add(&self.meter.bytes_out, bytes as u64);
    }

    /// What was counted so far.
    #[must_use]
    pub fn totals(&self) -> Totals {
        Totals {
            transactions: self.meter.transactions.load(Ordering::Relaxed),
            bytes_in: self.meter.bytes_in.load(Ordering::Relaxed),
            bytes_out: self.meter.bytes_out.load(Ordering::Relaxed),
        }
    }

    /// How long its transaction runs already.
    #[must_use]
    pub fn transaction_age(&self) -> Option<Duration> {
        self.since(&self.meter.transaction_since)
    }

    /// How long ago its last statement began.
    #[must_use]
    pub fn statement_age(&self) -> Option<Duration> {
        self.since(&self.meter.statement_since)
    }

    /// How long it waits at the gate.
    #[must_use]
    pub fn held_for(&self) -> Option<Duration> {
        self.since(&self.meter.held_since)
    }

    /// Wants something of the session, and wakes it.
    pub fn signal(&self, signals: Signals) {
        self.signals.fetch_or(signals.0, Ordering::AcqRel);
        if let Some(waker) = &*self.waker_place() {
            waker.wake_by_ref();
        }
    }

    /// Wants its statement cancelled; the receiver is told when that was done or found needless.
    pub fn request_cancel(&self) -> oneshot::Receiver<()> {
        let (done, told) = oneshot::channel();
        self.cancels().push(done);
        self.signal(Signals::CANCEL);
        told
    }

    /// It runs nothing in its window any more, and never will again.
    pub fn leave_window(&self) {
        let pass = self
            .pass
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        drop(pass);
    }

    /// Who waits for a cancel to be carried out.
    pub fn take_cancels(&self) -> Vec<oneshot::Sender<()>> {
        std::mem::take(&mut *self.cancels())
    }

    /// Whether something is wanted of it.
    #[inline]
    #[must_use]
    pub fn has_signals(&self) -> bool {
        self.signals.load(Ordering::Relaxed) != 0
    }

    /// What was wanted since the last look.
    #[inline]
    #[must_use]
    pub fn take_signals(&self) -> Signals {
        if !self.has_signals() {
            return Signals(0);
        }
        Signals(self.signals.swap(0, Ordering::AcqRel))
    }

    /// Whether it has looked at all that was wanted.
    #[must_use]
    pub fn has_looked(&self) -> bool {
        self.signals.load(Ordering::Acquire) == 0
    }

    /// Says who is woken by signals from now on, each time again. To be called before
    /// [`Session::take_signals`].
    pub fn wake_with(&self, waker: &Waker) {
        *self.waker_place() = Some(waker.clone());
    }

    fn waker_place(&self) -> MutexGuard<'_, Option<Waker>> {
        self.waker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn cancels(&self) -> MutexGuard<'_, Vec<oneshot::Sender<()>>> {
        self.cancels.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stamp(&self) -> u64 {
        let age = clock::now().saturating_duration_since(self.born);
        u64::try_from(age.as_micros()).map_or(u64::MAX, |now| now.saturating_add(1))
    }

    fn since(&self, stamp: &AtomicU64) -> Option<Duration> {
        match stamp.load(Ordering::Relaxed) {
            0 => None,
            then => Some(Duration::from_micros(self.stamp().saturating_sub(then))),
        }
    }
}

#[inline]
fn add(counter: &AtomicU64, amount: u64) {
    counter.store(counter.load(Ordering::Relaxed) + amount, Ordering::Relaxed);
}

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
    ended: Mutex<BTreeMap<Arc<str>, Totals>>,
    departed: Mutex<Vec<Departed>>,
    elsewhere: Mutex<BTreeSet<i32>>,
}

impl Sessions {
    /// Adds a session that has logged in.
    pub fn add(&self, login: Login) -> Arc<Session> {
        let id = SessionId(self.next.fetch_add(1, Ordering::Relaxed) + 1);
        let session = Arc::new(Session::new(id, login));
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
