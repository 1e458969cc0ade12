//! Places, calls and who has to go.

use super::super::admission::Admission;
use super::*;

const OWN: GateNumber = GateNumber(0);
const NARROW: GateNumber = GateNumber(7);

fn room(here: usize, when_full: WhenFull) -> Room {
    Room {
        here,
        everywhere: 1000,
        when_full,
    }
}

fn join(queue: &Queue, at: GateNumber) -> Place {
    let room = room(100, WhenFull::Newest);
    let place = queue.join(at, Waker::noop(), Instant::now(), room);
    place.expect("room")
}

#[test]
fn places_are_kept_in_order_and_limited() {
    let (queue, now) = (Queue::default(), Instant::now());
    let two = room(2, WhenFull::Newest);
    let first = queue.join(OWN, Waker::noop(), now, two).expect("room");
    let later = now + Duration::from_secs(1);
    let second = queue.join(NARROW, Waker::noop(), later, two).expect("room");
    assert_eq!(queue.join(OWN, Waker::noop(), later, two), None);
    assert_eq!(queue.all(), (2, Some(now)));
    assert_eq!(queue.waiting_at(NARROW), (1, Some(later)));
    let behind = queue.leave(first, later).expect("it was there");
    assert_eq!(behind.waited, Duration::from_secs(1));
    assert_eq!(queue.all(), (1, Some(later)));
    queue.leave(second, later).expect("it was there");
    assert_eq!(queue.everywhere.load(Ordering::Relaxed), 0);
}

#[test]
fn the_room_of_all_databases_together_is_one() {
    let everywhere = Arc::new(AtomicUsize::new(0));
    let (one, other) = (
        Queue::counted_in(Arc::clone(&everywhere)),
        Queue::counted_in(Arc::clone(&everywhere)),
    );
    let only = Room {
        here: 10,
        everywhere: 1,
        when_full: WhenFull::Oldest,
    };
    let now = Instant::now();
    let place = one.join(OWN, Waker::noop(), now, only).expect("room");
    // Who waits in another database does not go for this one.
    assert_eq!(other.join(OWN, Waker::noop(), now, only), None);
    one.leave(place, now).expect("it was there");
    assert!(other.join(OWN, Waker::noop(), now, only).is_some());
}

#[test]
fn the_oldest_goes_when_the_newest_may_stay() {
    let (queue, now) = (Queue::default(), Instant::now());
    let one = room(1, WhenFull::Oldest);
    let first = queue.join(NARROW, Waker::noop(), now, one).expect("room");
    let second = queue
        .join(OWN, Waker::noop(), now, one)
        .expect("in place of it");
    assert!(queue.is_evicted(&first) && !queue.is_evicted(&second));
    assert_eq!(queue.waiting_at(NARROW).0, 0);
    let third = queue
        .join(OWN, Waker::noop(), now, one)
        .expect("in place of it");
    assert!(queue.is_evicted(&second));
    for place in [first, second, third] {
        queue.leave(place, now).expect("it was there");
    }
    assert_eq!((queue.all().0, queue.line().evicted), (0, 0));
}

#[test]
fn the_oldest_is_called_and_a_call_that_is_not_heeded_comes_back() {
    let (queue, gate) = (Queue::default(), Admission::default());
    let (first, second, other) = (join(&queue, OWN), join(&queue, OWN), join(&queue, NARROW));
    assert_eq!(queue.call(OWN, 1, || gate.admit_anyway()), 1);
    assert!(queue.is_called(&first) && queue.claim(&second).is_none());
    queue.call_back(|permit| {
        gate.release(permit);
    });
    assert_eq!((gate.permits(), queue.claim(&first)), (0, None));
    assert_eq!(queue.call(OWN, 9, || gate.admit_anyway()), 2);
    let behind = queue.leave(first, Instant::now()).expect("it was there");
    gate.release(behind.permit.expect("it was called"));
    gate.release(queue.claim(&second).expect("it was called"));
    assert_eq!((gate.permits(), queue.claim(&other)), (0, None));
}

#[test]
fn who_finds_another_gate_closed_keeps_its_place_and_gives_its_call_back() {
    let (queue, gate) = (Queue::default(), Admission::default());
    let (first, second) = (join(&queue, OWN), join(&queue, OWN));
    queue.call(OWN, 1, || gate.admit_anyway());
    let Looked::TooSoon(permit) = queue.look(&first, NARROW, Waker::noop()) else {
        panic!("it was called");
    };
    gate.release(permit);
    assert_eq!(queue.look(&first, NARROW, Waker::noop()), Looked::Same);
    queue.move_all(NARROW, OWN);
    assert_eq!(queue.waiting_at(OWN).0, 2);
    queue.call(OWN, 1, || gate.admit_anyway());
    assert!(queue.is_called(&first) && !queue.is_called(&second));
}
