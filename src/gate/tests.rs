//! Admission without concurrency; `tests/it/admission_under_loom.rs` tries its interleavings.

use super::admission::{Admission, Closed, Flow, Left};

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
