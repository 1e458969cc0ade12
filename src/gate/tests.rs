//! Admission without concurrency, whose interleavings `tests/it/admission_under_loom.rs` tries; and gates as
//! their holds turn them.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Waker;
use std::time::Duration;

use super::admission::{Admission, Closed, Flow, Left};
use super::mode::{HoldSpec, Holder, Mode};
use super::{Gate, Gates, Room};
use crate::audit::Audit;
use crate::config::{Blocked, Scope, Then, WhenFull, Who};
use crate::metrics::Metrics;
use crate::tasks::Tasks;

#[test]
fn permits_are_counted_over_the_turns_of_the_gate() {
    let gate = Admission::default();
    let first = gate.admit().expect("open");
    gate.turn(Flow::Closed);
    assert_eq!(gate.admit(), Err(Closed(Left::Others)));
    gate.turn(Flow::Open);
    let second = gate.admit().expect("open again");
    gate.turn(Flow::Closed);
    assert_eq!(gate.permits(), 2);
    assert_eq!(gate.release(second), Left::Others);
    assert_eq!(gate.release(first), Left::Nobody);
    assert_eq!(gate.permits(), 0);
}

#[test]
fn an_open_gate_wakes_nobody() {
    let gate = Admission::default();
    let permit = gate.admit().expect("open");
    assert_eq!(gate.release(permit), Left::Others);
}

#[test]
fn the_epoch_survives_its_own_wrap() {
    let gate = Admission::default();
    for _ in 0..0x8001 {
        let permit = gate.admit().expect("open");
        gate.turn(Flow::Closed);
        assert_eq!(gate.release(permit), Left::Nobody);
        gate.turn(Flow::Open);
    }
    assert!(gate.is_open());
    assert_eq!(gate.permits(), 0);
}

#[test]
fn a_paced_gate_gives_permits_in_turn_alone_and_says_when_one_comes_back() {
    let gate = Admission::default();
    let inside = gate.admit().expect("open");
    gate.turn(Flow::Paced);
    assert_eq!(gate.admit(), Err(Closed(Left::Others)));
    let called = gate.admit_anyway();
    assert_eq!(
        (gate.permits(), gate.is_open(), gate.is_paced()),
        (2, false, true)
    );
    assert_eq!(gate.release(inside), Left::Turn);
    gate.turn(Flow::Closed);
    assert_eq!(gate.release(called), Left::Nobody);
}

#[test]
fn a_read_only_gate_lets_reads_in_and_counts_apart_who_is_older() {
    let gate = Admission::default();
    let writer = gate.admit().expect("open");
    let early = gate.admit_read().expect("an open gate lets reads in too");
    assert!(gate.turn(Flow::ReadOnly));
    assert_eq!(gate.admit(), Err(Closed(Left::Others)));
    assert_eq!(gate.admit_autocommit(), Err(Closed(Left::Others)));
    assert_eq!((gate.is_open(), gate.is_read_only()), (false, true));
    let reader = gate.admit_read().expect("it reads");
    assert_eq!((gate.older(), gate.permits()), (Some(2), 3));
    assert_eq!(gate.release(early), Left::Others);
    assert_eq!(gate.release(writer), Left::NobodyOlder);
    assert_eq!(gate.release(reader), Left::Others);
    // From there to closed for all, where every permit counts.
    let reader = gate.admit_read().expect("it reads");
    gate.turn(Flow::Closed);
    assert_eq!(gate.admit_read(), Err(Closed(Left::Others)));
    assert_eq!((gate.older(), gate.permits()), (None, 1));
    assert_eq!(gate.release(reader), Left::Nobody);
    gate.turn(Flow::Paced);
    assert_eq!(gate.admit_read(), Err(Closed(Left::Others)));
}

#[test]
fn an_epoch_that_finds_its_slot_taken_says_so() {
    let gate = Admission::default();
    let ancient = gate.admit().expect("open");
    assert!(gate.turn(Flow::Closed));
    gate.turn(Flow::Open);
    let old = gate.admit().expect("open");
    // The slot of the next epoch is that of the first, and somebody of it is still inside.
    assert!(!gate.turn(Flow::ReadOnly));
    assert_eq!(gate.release(ancient), Left::NobodyOlder);
    assert!(gate.turn(Flow::ReadOnly));
    assert_eq!(gate.older(), Some(1));
    assert_eq!(gate.release(old), Left::NobodyOlder);
}

fn gates() -> Gates {
    let audit = Audit::in_memory();
    Gates::new(Tasks::new(), Arc::new(Metrics::new()), Arc::new(audit))
}

fn spec(mode: Mode) -> HoldSpec {
    HoldSpec {
        duration: Duration::from_secs(60),
        then: Then::Open,
        read_only: mode == Mode::ReadOnly,
        blocked: Blocked::Queue,
        sqlstate: None,
        first_stage: Duration::ZERO,
        client_deadline: Duration::from_secs(30),
        by: "test".into(),
        reason: None,
    }
}

/// Who may start: anybody, and who only reads. Gives the permits back.
fn lets_in(gate: &Gate) -> (bool, bool) {
    let permits = (gate.admit(), gate.admit_read());
    for permit in [permits.0, permits.1].into_iter().flatten() {
        gate.release(permit);
    }
    (permits.0.is_some(), permits.1.is_some())
}

const OPEN: (bool, bool) = (true, true);
const READS: (bool, bool) = (false, true);
const CLOSED: (bool, bool) = (false, false);

#[tokio::test]
async fn the_stricter_of_two_holds_decides_and_the_gate_is_read_only_again_behind_it() {
    let gate = gates().of("shop");
    let looks = || (lets_in(&gate), gate.wants_read_only());
    assert_eq!(looks(), (OPEN, false));
    gate.hold(Holder::Operator, spec(Mode::ReadOnly));
    assert_eq!(looks(), (READS, true));
    gate.hold(Holder::Window, spec(Mode::Hold));
    assert_eq!(looks(), (CLOSED, true));
    gate.end_hold(Holder::Window, None);
    assert_eq!(looks(), (READS, true));
    // The same holder's newer command takes the place of the older.
    gate.hold(Holder::Operator, spec(Mode::Hold));
    assert_eq!(looks(), (CLOSED, false));
    gate.hold(Holder::Operator, spec(Mode::ReadOnly));
    assert_eq!(looks(), (READS, true));
    gate.hold(Holder::Everywhere, spec(Mode::ReadOnly));
    gate.end_hold(Holder::Operator, None);
    assert_eq!(looks(), (READS, true));
    gate.end_hold(Holder::Everywhere, None);
    assert_eq!(looks(), (OPEN, false));
}

#[tokio::test]
async fn a_session_of_two_gates_gets_the_stricter_mode_of_both() {
    let gates = gates();
    let some = Scope {
        user: Some("job".into()),
        ..Scope::default()
    };
    let who = Who {
        user: "job",
        application_name: "",
        address: None,
    };
    let looks = || {
        let (wide, narrow) = gates.of_session("shop", who);
        let all: Vec<_> = narrow.iter().chain([&wide]).map(|it| lets_in(it)).collect();
        let both = |a: (bool, bool), b: (bool, bool)| (a.0 && b.0, a.1 && b.1);
        all.into_iter().fold(OPEN, both)
    };
    let hold = |scope: &Scope, mode| gates.hold(Some("shop"), scope, &spec(mode));
    let all = Scope::default();
    let narrow = hold(&some, Mode::ReadOnly).remove(0);
    assert!(narrow.is_new && looks() == READS);
    hold(&all, Mode::Hold);
    assert_eq!(looks(), CLOSED);
    // What is opened for some does not open what is held for all.
    narrow.gate.end_hold(Holder::Operator, None);
    assert_eq!(looks(), CLOSED);
    hold(&all, Mode::ReadOnly);
    let narrow = hold(&some, Mode::Hold).remove(0);
    assert_eq!(looks(), CLOSED);
    assert!(!hold(&some, Mode::ReadOnly).remove(0).is_new);
    assert_eq!(looks(), READS);
    gates.of("shop").end_hold(Holder::Operator, None);
    assert_eq!(looks(), READS);
    narrow.gate.end_hold(Holder::Operator, None);
    assert_eq!(looks(), OPEN);
}

#[tokio::test]
async fn whoever_listens_is_told_when_a_gate_begins_or_ceases_to_want_read_only() {
    let gates = gates();
    let told = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&told);
    gates.on_read_only(move |gate: &Gate| {
        let news = (gate.name(), gate.wants_read_only());
        heard.lock().expect("no panic").push(news);
    });
    let news = || std::mem::take(&mut *told.lock().expect("no panic"));
    let gate = gates.of("shop");
    gate.hold(Holder::Operator, spec(Mode::Hold));
    assert_eq!(news(), []);
    gate.hold(Holder::Everywhere, spec(Mode::ReadOnly));
    assert_eq!(news(), [("shop".to_owned(), true)]);
    gate.end_hold(Holder::Operator, None);
    gate.hold(Holder::Operator, spec(Mode::ReadOnly));
    gate.end_hold(Holder::Operator, None);
    assert_eq!(news(), []);
    gate.hold(Holder::Everywhere, spec(Mode::Hold));
    assert_eq!(news(), [("shop".to_owned(), false)]);
    let brief = HoldSpec {
        duration: Duration::from_millis(5),
        ..spec(Mode::ReadOnly)
    };
    let generation = gate.hold(Holder::Everywhere, brief);
    gate.gone(Holder::Everywhere, generation).await;
    let names = news().into_iter().map(|(_, wants)| wants);
    assert_eq!(names.collect::<Vec<_>>(), [true, false]);
}

#[tokio::test]
async fn those_who_wait_look_again_when_reads_are_let_in_and_are_called_when_all_are() {
    struct Woken(AtomicUsize);
    impl std::task::Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
    let gates = gates();
    let gate = gates.of("shop");
    let room = Room {
        here: 9,
        everywhere: 9,
        when_full: WhenFull::Newest,
    };
    let woken = Arc::new(Woken(AtomicUsize::new(0)));
    let waker = Waker::from(Arc::clone(&woken));
    let wakes = || woken.0.swap(0, Ordering::SeqCst);
    gate.hold(Holder::Operator, spec(Mode::ReadOnly));
    gate.hold(Holder::Window, spec(Mode::Hold));
    let (reader, writer) = (gate.join(&waker, room), gate.join(&waker, room));
    let (reader, writer) = (reader.expect("room"), writer.expect("room"));
    assert_eq!(gate.admit_read_from(&reader), None);
    gate.end_hold(Holder::Window, None);
    assert_eq!(wakes(), 2);
    assert_eq!(gate.admit_from(&writer), None);
    let permit = gate.admit_read_from(&reader).expect("it reads");
    gate.leave(reader);
    assert_eq!(gate.older(), Some(0));
    gate.release(permit);
    gate.end_hold(Holder::Operator, None);
    assert_eq!((wakes(), gate.is_called(&writer)), (1, true));
    // Called back, because a hold came in between: it may not start.
    gate.hold(Holder::Operator, spec(Mode::ReadOnly));
    assert_eq!(gate.admit_from(&writer), None);
    assert_eq!((gate.permits(), gate.older()), (0, Some(0)));
    gate.end_hold(Holder::Operator, None);
    let permit = gate.admit_from(&writer).expect("its turn");
    gate.leave(writer);
    gate.release(permit);
    assert_eq!(gate.permits(), 0);
}

#[tokio::test]
async fn nobody_older_is_overlooked_when_the_read_only_epoch_finds_no_slot() {
    let gates = gates();
    let gate = gates.of("shop");
    let ancient = gate.admit().expect("open");
    gate.hold(Holder::Operator, spec(Mode::Hold));
    gate.end_hold(Holder::Operator, None);
    let old = gate.admit().expect("open");
    gate.hold(Holder::Operator, spec(Mode::ReadOnly));
    let reader = gate.admit_read().expect("it reads");
    assert!(gate.older() >= Some(1));
    gate.release(ancient);
    // The reader came before its epoch had a slot: counted too, for it cannot be told apart.
    assert_eq!(gate.older(), Some(2));
    let young = gate.admit_read().expect("it reads");
    gate.release(reader);
    gate.release(old);
    assert_eq!(gate.older(), Some(0));
    gate.no_older().await;
    gate.release(young);
    assert_eq!((gate.older(), gate.permits()), (Some(0), 0));
}
