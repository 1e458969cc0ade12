//! Admission against closing and reopening, in every order in which threads can take turns.
//!
//! loom runs a model again and again, each time with another order, and fails it when two threads
//! touch a cell at once, or when all that are left wait. To end within seconds it takes a thread's
//! turn away at most three times where that thread could have gone on.

#[path = "../../src/gate/admission.rs"]
#[allow(
    dead_code,
    unreachable_pub,
    reason = "a part of the crate, seen from outside"
)]
mod admission;

/// What `admission.rs` is written against: here loom's.
mod sync {
    pub(super) use loom::sync::atomic::{AtomicU64, Ordering};
}

use std::sync::Arc;

use loom::cell::UnsafeCell;
use loom::sync::{Mutex, Notify};
use loom::thread;

use self::admission::{Admission, Closed, Epoch, Flow, Left};
use self::sync::{AtomicU64, Ordering};

/// The word of a gate, or a bad one that a model has to see through.
trait Word: Default + Send + Sync + 'static {
    type Permit;
    fn admit(&self) -> Result<Self::Permit, Closed>;
    fn release(&self, permit: Self::Permit) -> Left;
    fn turn(&self, closed: bool);
    fn permits(&self) -> u32;
}

impl Word for Admission {
    type Permit = Epoch;
    fn admit(&self) -> Result<Epoch, Closed> {
        self.admit()
    }
    fn release(&self, permit: Epoch) -> Left {
        self.release(permit)
    }
    fn turn(&self, closed: bool) {
        self.turn(if closed { Flow::Closed } else { Flow::Open });
    }
    fn permits(&self) -> u32 {
        self.permits()
    }
}

/// A gate as its driver uses it, with a table for each session that only its transactions and an
/// exclusive window may touch. loom sees it when two do.
struct Model<W> {
    word: W,
    told: Notify,
    tables: [UnsafeCell<()>; 2],
}

impl<W: Word> Model<W> {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            word: W::default(),
            told: Notify::new(),
            tables: [UnsafeCell::new(()), UnsafeCell::new(())],
        })
    }

    /// One transaction, if the gate lets it start.
    fn transaction(&self, session: usize) {
        match self.word.admit() {
            Ok(permit) => {
                self.tables[session].with_mut(|_| ());
                self.note(self.word.release(permit));
            }
            Err(Closed(left)) => self.note(left),
        }
    }

    fn note(&self, left: Left) {
        match left {
            // Nothing is paced in these models.
            Left::Others | Left::Turn | Left::NobodyOlder => {}
            Left::Nobody => self.told.notify(),
        }
    }

    /// Closes the gate and works alone once nobody is left inside.
    fn window(&self) {
        self.word.turn(true);
        while self.word.permits() != 0 {
            self.told.wait();
        }
        for table in &self.tables {
            table.with_mut(|_| ());
        }
    }
}

/// Sessions with that many transactions each, beside windows that follow one another.
fn try_all<W: Word>(transactions: &'static [usize], windows: usize) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(move || {
        let model = Model::<W>::new();
        let sessions: Vec<_> = transactions
            .iter()
            .enumerate()
            .map(|(session, transactions)| {
                let model = Arc::clone(&model);
                thread::spawn(move || {
                    for _ in 0..*transactions {
                        model.transaction(session);
                    }
                })
            })
            .collect();
        for _ in 0..windows {
            model.window();
            model.word.turn(false);
        }
        for session in sessions {
            session.join().expect("no panic");
        }
        assert_eq!(model.word.permits(), 0, "every permit came back");
    });
}

#[test]
fn two_sessions_and_a_window_never_meet_and_the_window_is_told() {
    try_all::<Admission>(&[1, 1], 1);
}

#[test]
fn a_session_and_windows_one_after_the_other_never_meet() {
    try_all::<Admission>(&[2], 2);
}

#[test]
fn two_sessions_and_two_windows_never_meet() {
    try_all::<Admission>(&[1, 1], 2);
}

/// A gate that closes by way of a first stage; nobody here begins a block.
#[derive(Default)]
struct InStages(Admission);

impl Word for InStages {
    type Permit = Epoch;
    fn admit(&self) -> Result<Epoch, Closed> {
        match self.0.admit() {
            Err(Closed(Left::Others)) => self.0.admit_autocommit(),
            other => other,
        }
    }
    fn release(&self, permit: Epoch) -> Left {
        self.0.release(permit)
    }
    fn turn(&self, closed: bool) {
        if closed {
            self.0.turn(Flow::Autocommit);
            self.0.turn(Flow::Closed);
        } else {
            self.0.turn(Flow::Open);
        }
    }
    fn permits(&self) -> u32 {
        self.0.permits()
    }
}

#[test]
fn statements_of_a_first_stage_and_a_window_never_meet() {
    try_all::<InStages>(&[1, 1], 1);
    try_all::<InStages>(&[2], 2);
}

/// A gate that lets reads in for a while and is then closed for all: who writes is waited for before
/// anybody relies on it that nothing is written, who reads before somebody works alone.
#[derive(Default)]
struct ReadOnly {
    word: Admission,
    told: Notify,
    /// What the writer writes, and what the reader reads in peace once the gate is read-only.
    written: UnsafeCell<()>,
    /// Touched by the reader alone, and by whom works alone.
    read: UnsafeCell<()>,
}

impl ReadOnly {
    fn note(&self, left: Left) {
        match left {
            Left::Others | Left::Turn => {}
            Left::Nobody | Left::NobodyOlder => self.told.notify(),
        }
    }

    fn write(&self) {
        match self.word.admit() {
            Ok(permit) => {
                self.written.with_mut(|_| ());
                self.note(self.word.release(permit));
            }
            Err(Closed(left)) => self.note(left),
        }
    }

    fn read(&self) {
        match self.word.admit_read() {
            Ok(permit) => {
                self.read.with_mut(|_| ());
                self.note(self.word.release(permit));
            }
            Err(Closed(left)) => self.note(left),
        }
    }
}

/// A writer and a reader with that many transactions, beside a gate that becomes read-only, and closed.
#[expect(
    clippy::arc_with_non_send_sync,
    reason = "loom lets one of its threads run at a time"
)]
fn try_read_only(writes: usize, reads: usize) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(move || {
        let gate = Arc::new(ReadOnly::default());
        let writer = Arc::clone(&gate);
        let writer = thread::spawn(move || (0..writes).for_each(|_| writer.write()));
        let reader = Arc::clone(&gate);
        let reader = thread::spawn(move || (0..reads).for_each(|_| reader.read()));
        assert!(gate.word.turn(Flow::ReadOnly), "the slot is free");
        while gate.word.older() != Some(0) {
            gate.told.wait();
        }
        // From here on nobody writes, whoever reads.
        gate.written.with_mut(|_| ());
        gate.word.turn(Flow::Closed);
        while gate.word.permits() != 0 {
            gate.told.wait();
        }
        gate.written.with_mut(|_| ());
        gate.read.with_mut(|_| ());
        gate.word.turn(Flow::Open);
        writer.join().expect("no panic");
        reader.join().expect("no panic");
        assert_eq!(gate.word.permits(), 0, "every permit came back");
    });
}

#[test]
fn writers_are_gone_when_a_read_only_gate_says_so_and_readers_when_it_is_closed() {
    try_read_only(1, 1);
    try_read_only(2, 1);
    try_read_only(1, 2);
}

/// Looks whether it is closed, and counts afterwards without looking again.
#[derive(Default)]
struct LooksOnce {
    closed: AtomicU64,
    permits: AtomicU64,
}

impl Word for LooksOnce {
    type Permit = ();
    fn admit(&self) -> Result<(), Closed> {
        if self.closed.load(Ordering::SeqCst) != 0 {
            return Err(Closed(Left::Others));
        }
        self.permits.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
    fn release(&self, (): ()) -> Left {
        if self.permits.fetch_sub(1, Ordering::SeqCst) == 1 {
            Left::Nobody
        } else {
            Left::Others
        }
    }
    fn turn(&self, closed: bool) {
        self.closed.store(closed.into(), Ordering::SeqCst);
    }
    fn permits(&self) -> u32 {
        u32::try_from(self.permits.load(Ordering::SeqCst)).expect("few sessions")
    }
}

/// Takes a late permit back and tells nobody.
#[derive(Default)]
struct TellsNobody(Admission);

impl Word for TellsNobody {
    type Permit = Epoch;
    fn admit(&self) -> Result<Epoch, Closed> {
        self.0.admit().map_err(|Closed(_)| Closed(Left::Others))
    }
    fn release(&self, permit: Epoch) -> Left {
        self.0.release(permit)
    }
    fn turn(&self, closed: bool) {
        Word::turn(&self.0, closed);
    }
    fn permits(&self) -> u32 {
        self.0.permits()
    }
}

/// A paced gate that lets one transaction in at a time, as its driver does: whoever gives a permit
/// back while somebody waits passes the turn on.
struct Turns {
    word: Admission,
    /// How many wait for a turn, how many were called, and how many turns were given.
    line: Mutex<(usize, usize)>,
    called: Notify,
}

impl Turns {
    fn next(&self) {
        let mut line = self.line.lock().expect("no panic");
        while line.0 > 0 && self.word.permits() == 0 {
            // The permit is the called one's, which gives it back without looking at the line.
            let _taken = self.word.admit_anyway();
            line.0 -= 1;
            line.1 += 1;
            self.called.notify();
        }
    }
}

#[test]
fn a_turn_is_passed_on_whoever_comes_back_and_whenever_the_gate_is_paced() {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(|| {
        let turns = Arc::new(Turns {
            word: Admission::default(),
            line: Mutex::new((0, 0)),
            called: Notify::new(),
        });
        let inside = turns.word.admit().expect("open");
        let leaving = {
            let turns = Arc::clone(&turns);
            thread::spawn(move || match turns.word.release(inside) {
                Left::Turn => turns.next(),
                Left::Others | Left::Nobody | Left::NobodyOlder => {}
            })
        };
        let waiting = {
            let turns = Arc::clone(&turns);
            thread::spawn(move || {
                if let Ok(permit) = turns.word.admit() {
                    // It came in before the gate was paced.
                    if turns.word.release(permit) == Left::Turn {
                        turns.next();
                    }
                    return;
                }
                turns.line.lock().expect("no panic").0 += 1;
                turns.next();
                while turns.line.lock().expect("no panic").1 == 0 {
                    turns.called.wait();
                }
            })
        };
        turns.word.turn(Flow::Paced);
        turns.next();
        leaving.join().expect("no panic");
        waiting.join().expect("nobody waits for ever");
    });
}

#[test]
#[should_panic(expected = "Causality violation")]
fn the_models_see_a_permit_that_was_not_taken_back() {
    try_all::<LooksOnce>(&[1, 1], 1);
}

#[test]
#[should_panic(expected = "deadlock")]
fn the_models_see_a_window_that_nobody_tells() {
    try_all::<TellsNobody>(&[1, 1], 1);
}
