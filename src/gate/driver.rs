//! One gate at work: carries out what its state decides, and lets sessions in.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::{Duration, Instant};

use tokio::sync::{Notify, watch};

use super::admission::{Admission, Closed, Epoch, Left};
use super::busiest::Busiest;
use super::cap::Caps;
use super::queue::{GateNumber, Looked, Place, Queue, Room, Waiters};
use super::read_only::Listener;
use super::reopen::{Pace, Pacing};
use super::state::{Standing, State};
use crate::audit::Audit;
use crate::clock;
use crate::config::Scope;
use crate::metrics::Metrics;
use crate::metrics::statements::Statements;
use crate::tasks::Tasks;

/// The gate of a whole database.
pub(super) const OWN: GateNumber = GateNumber(0);

/// For how many milliseconds after a hold its sessions may find that tables have changed behind it.
const LATELY: u64 = 15 * 60 * 1000;

/// The bit of [`Gate::besides`] for statements that are measured.
const MEASURED: u64 = 1 << 63;

/// The gate of one database, or of some clients in it.
#[derive(Debug)]
pub struct Gate {
    pub(super) database: String,
    /// Whom it is for within the database.
    scope: Scope,
    pub(super) number: GateNumber,
    /// The gate of the whole database, when this is one of some clients. It lets in who waited here.
    pub(super) wide: Option<Arc<Gate>>,
    pub(super) admission: Admission,
    pub(super) queue: Arc<Queue>,
    pub(super) control: Mutex<Control>,
    /// When the last permit came back to the closed gate.
    pub(super) emptied: Mutex<Option<Instant>>,
    /// Whether a hold on it is read-only, also while a stricter one closes it.
    pub(super) wants_read_only: AtomicBool,
    /// Whether permits older than the read-only epoch may be among those of it.
    pub(super) shares: AtomicBool,
    made: Instant,
    /// What a transaction has to do besides: until when the last hold ended of late, in milliseconds since
    /// the gate was made, and [`MEASURED`]. Zero is nothing, and all that a transaction looks at.
    besides: AtomicU64,
    /// What clients feel of the statements that pass.
    statements: Statements,
    /// Told when the last permit comes back to the closed gate, or the last older one to another.
    pub(super) quiet: Notify,
    /// Counts changes of the holds and of the cap.
    changes: watch::Sender<u64>,
    /// The permits that were out at once, of late.
    pub(super) busiest: Mutex<Busiest>,
    pub(super) shared: Arc<Common>,
}

/// What gates have in common.
#[derive(Debug)]
pub(super) struct Common {
    /// Where timers run.
    pub(super) tasks: Tasks,
    pub(super) metrics: Arc<Metrics>,
    pub(super) audit: Arc<Audit>,
    pub(super) pace: Mutex<Pace>,
    /// How many clients wait in all databases.
    pub(super) waiting: Arc<AtomicUsize>,
    /// Told when a gate begins or ceases to want read-only.
    pub(super) read_only: Listener,
}

/// What decides over a gate. Who holds its lock alone may turn the gate.
#[derive(Debug, Default)]
pub(super) struct Control {
    pub(super) state: State,
    pub(super) caps: Caps,
    pub(super) pacing: Pacing,
    /// Whether a task looks at the pacing from step to step.
    pub(super) stepping: bool,
}

impl Common {
    pub(super) fn new(tasks: Tasks, metrics: Arc<Metrics>, audit: Arc<Audit>) -> Arc<Common> {
        Arc::new(Common {
            tasks,
            metrics,
            audit,
            pace: Mutex::default(),
            waiting: Arc::default(),
            read_only: Listener::default(),
        })
    }
}

impl Gate {
    /// An open gate of a database. Its timers run in `tasks`.
    pub fn new(database: &str, tasks: Tasks, metrics: Arc<Metrics>, audit: Arc<Audit>) -> Gate {
        Gate::of_database(database, Common::new(tasks, metrics, audit))
    }

    pub(super) fn of_database(database: &str, shared: Arc<Common>) -> Gate {
        let queue = Arc::new(Queue::counted_in(Arc::clone(&shared.waiting)));
        Gate {
            database: database.to_owned(),
            scope: Scope::default(),
            number: OWN,
            wide: None,
            admission: Admission::default(),
            queue,
            control: Mutex::default(),
            emptied: Mutex::default(),
            wants_read_only: AtomicBool::new(false),
            shares: AtomicBool::new(false),
            made: clock::now(),
            besides: AtomicU64::new(0),
            statements: Statements::default(),
            quiet: Notify::new(),
            changes: watch::Sender::new(0),
            busiest: Mutex::default(),
            shared,
        }
    }

    /// A gate for some clients of the database whose gate this is. It is closed once, and nobody closes
    /// it again when it has opened.
    pub(super) fn narrow(self: &Arc<Gate>, scope: Scope, number: GateNumber) -> Gate {
        Gate {
            scope,
            number,
            wide: Some(Arc::clone(self)),
            queue: Arc::clone(&self.queue),
            ..Gate::of_database(&self.database, Arc::clone(&self.shared))
        }
    }

    /// The database whose transactions pass here.
    pub fn database(&self) -> &str {
        &self.database
    }

    /// Whom it is for within the database.
    pub fn scope(&self) -> &Scope {
        &self.scope
    }

    /// The gate of the whole database, when this is one of some clients.
    pub fn wide(&self) -> Option<&Arc<Gate>> {
        self.wide.as_ref()
    }

    /// The database, and whom it is for if it is not for all, as logs tell it.
    pub fn name(&self) -> String {
        if self.scope.is_whole() {
            self.database.clone()
        } else {
            format!("{} ({})", self.database, self.scope)
        }
    }

    /// Takes a permit for a transaction, or `None` unless the gate is open. Give it back with
    /// [`Gate::release`].
    #[inline]
    pub fn admit(&self) -> Option<Epoch> {
        match self.admission.admit() {
            Ok(epoch) => Some(epoch),
            Err(Closed(left)) => {
                self.note_left(left);
                None
            }
        }
    }

    /// The same for who has a place in the queue and whose turn may have come.
    pub fn admit_from(&self, place: &Place) -> Option<Epoch> {
        self.queue.claim(place).or_else(|| self.admit())
    }

    /// Takes a permit for somebody who may be inside already, whether the gate is closed or not.
    pub fn presume_inside(&self) -> Epoch {
        let _alone = self.control();
        self.admission.admit_as_older()
    }

    /// Takes a permit for a transaction that begins no block, where the gate is in its first stage.
    pub fn admit_autocommit(&self) -> Option<Epoch> {
        match self.admission.admit_autocommit() {
            Ok(epoch) => Some(epoch),
            Err(Closed(left)) => {
                self.note_left(left);
                None
            }
        }
    }

    /// Gives a permit back.
    #[inline]
    pub fn release(&self, permit: Epoch) {
        let left = self.admission.release(permit);
        self.note_left(left);
    }

    /// Whether anybody may start a transaction now.
    #[inline]
    pub fn is_open(&self) -> bool {
        self.admission.is_open()
    }

    /// Whether there is anything to [look at](Gate::opened_lately) or to [measure](Gate::is_measured).
    #[inline]
    pub fn has_besides(&self) -> bool {
        self.besides.load(Ordering::Relaxed) != 0
    }

    /// Whether a hold has ended of late, behind which tables may have changed.
    pub fn opened_lately(&self) -> bool {
        let until = self.besides.load(Ordering::Relaxed) & !MEASURED;
        let before = self.age() < until;
        if until != 0 && !before {
            // Unless another hold has ended meanwhile.
            self.change_besides(|now| {
                if now & !MEASURED == until {
                    now & MEASURED
                } else {
                    now
                }
            });
        }
        before
    }

    /// A hold has ended; to be called before anybody is let in.
    pub(super) fn note_opening(&self) {
        let until = self.age().saturating_add(LATELY) & !MEASURED;
        self.change_besides(|now| now & MEASURED | until);
    }

    /// Measures statements from now on, for this long at least, those of one in so many transactions.
    pub fn measure(&self, lasting: Duration, one_in: u32) {
        self.statements.measure(lasting, one_in);
        if self.statements.is_on() {
            self.change_besides(|now| now | MEASURED);
        }
    }

    /// Whether statements are measured; where that has ended, nobody is asked again.
    pub fn is_measured(&self) -> bool {
        let wanted = self.besides.load(Ordering::Relaxed) & MEASURED != 0;
        let goes_on = wanted && self.statements.is_on();
        if wanted && !goes_on {
            self.change_besides(|now| now & !MEASURED);
            if self.statements.is_on() {
                // It was begun anew in this instant.
                self.change_besides(|now| now | MEASURED);
            }
        }
        goes_on
    }

    /// What was measured.
    pub fn statements(&self) -> &Statements {
        &self.statements
    }

    fn change_besides(&self, change: impl Fn(u64) -> u64) {
        let relaxed = Ordering::Relaxed;
        let changed = self
            .besides
            .fetch_update(relaxed, relaxed, |now| Some(change(now)));
        debug_assert!(changed.is_ok(), "it always changes");
    }

    /// In milliseconds.
    fn age(&self) -> u64 {
        let age = clock::now().saturating_duration_since(self.made);
        u64::try_from(age.as_millis()).unwrap_or(u64::MAX)
    }

    /// How many permits are out.
    pub fn permits(&self) -> u32 {
        self.admission.permits()
    }

    /// What a blocked client gets, and how long it waits at most; `None` without a hold.
    pub fn blocked(&self) -> Option<Standing> {
        self.control().state.blocked()
    }

    /// Takes a place in the queue, if there is room.
    pub fn join(self: &Arc<Self>, waker: &Waker, room: Room) -> Option<Place> {
        let place = self.queue.join(self.number, waker, clock::now(), room)?;
        self.keep_pace();
        Some(place)
    }

    /// Keeps the waker of a waiting client current, and its place at this gate; to be called before
    /// [`Gate::admit_from`] is tried again.
    pub fn look(self: &Arc<Self>, place: &Place, waker: &Waker) {
        match self.queue.look(place, self.number, waker) {
            Looked::Same => {}
            Looked::Moved => self.keep_pace(),
            // Only the gate of the database calls.
            Looked::TooSoon(permit) => self.wide.as_ref().unwrap_or(self).release(permit),
        }
    }

    /// Whether this client's turn has come and was not taken yet.
    pub fn is_called(&self, place: &Place) -> bool {
        self.queue.is_called(place)
    }

    /// Whether this client has to go for a newer one.
    pub fn is_evicted(&self, place: &Place) -> bool {
        self.queue.is_evicted(place)
    }

    /// Gives a place in the queue back, and the turn if it had come. For the gate of the database.
    pub fn leave(&self, place: Place) {
        if let Some(behind) = self.queue.leave(place, clock::now()) {
            self.shared.metrics.client_waited(behind.waited);
            if let Some(permit) = behind.permit {
                self.release(permit);
            }
        }
    }

    /// How many clients wait at this gate, and since when the oldest.
    pub fn waiting(&self) -> Waiters {
        self.queue.waiting_at(self.number)
    }

    /// The same for all gates of the database.
    pub fn waiting_in_database(&self) -> Waiters {
        self.queue.all()
    }

    /// Told of every change of the holds.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Waits until no permit is out of the closed gate. Cancel safe.
    pub async fn quiet(&self) {
        loop {
            let notified = self.quiet.notified();
            if !self.is_open() && self.permits() == 0 {
                return;
            }
            notified.await;
        }
    }

    /// When the last permit came back since the gate was closed; `None` if none was out then, or
    /// some still are.
    pub fn emptied_at(&self) -> Option<Instant> {
        *self.emptied.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[inline]
    pub(super) fn note_left(&self, left: Left) {
        match left {
            Left::Others => {}
            Left::Nobody => self.note_empty(),
            Left::Turn => self.pass_the_turn_on(),
            Left::NobodyOlder => self.note_nobody_older(),
        }
    }

    pub(super) fn note_empty(&self) {
        let mut emptied = self.emptied.lock().unwrap_or_else(PoisonError::into_inner);
        *emptied = Some(clock::now());
        drop(emptied);
        self.tell_quiet();
    }

    /// Wakes those who wait for permits to come back.
    pub(super) fn tell_quiet(&self) {
        self.quiet.notify_waiters();
    }

    pub(super) fn tell_change(&self) {
        self.changes.send_modify(|count| *count += 1);
    }

    /// It is whole after every call, so a panic elsewhere leaves nothing half-done in it.
    pub(super) fn control(&self) -> MutexGuard<'_, Control> {
        self.control.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
