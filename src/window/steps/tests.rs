//! Windows through their lives, and through orders of events that nobody would choose.

use std::time::Duration;

use proptest::prelude::*;

use super::*;

const LEASE: Duration = Duration::from_secs(30);
const TERM: Term = Term(7);

/// A window that begins at `now`.
fn life(now: Instant, on_lost: After) -> Life {
    Life::begin(Lease::begin(TERM, LEASE, now), on_lost, Before::default())
}

/// A window after these events, one right after the other.
fn after(events: &[Event], on_lost: After) -> (Life, Instant) {
    let now = Instant::now();
    let mut life = life(now, on_lost);
    for event in events {
        life.apply(*event, now);
    }
    (life, now)
}

const EXCLUSIVE: &[Event] = &[Event::Turn, Event::Granted];
const DRAINING: &[Event] = &[Event::Turn];

fn end(why: Why, after: After) -> End {
    End { why, after }
}

#[test]
fn a_window_goes_its_way() {
    let now = Instant::now();
    let mut life = life(now, After::Stay);
    assert_eq!(life.stage(), Stage::Queued);
    assert_eq!(life.apply(Event::Turn, now), [Effect::Begin]);
    assert_eq!(life.apply(Event::Granted, now), [Effect::LetIn]);
    let (effects, done) = life.command(Command::Finish, TERM, now);
    assert_eq!((effects, done), (vec![Effect::EndConnections], Ok(())));
    assert_eq!(life.stage(), Stage::Ending);
    assert_eq!(life.apply(Event::Gone, now), [Effect::Reopen]);
    assert_eq!(life.end(), Some(end(Why::Finished, After::Reopen)));
    assert_eq!((life.stage(), life.due()), (Stage::Closed, None));
}

#[test]
fn traffic_is_capped_before_it_is_held_if_that_was_asked() {
    let now = Instant::now();
    let first = Before {
        capped: Some(LEASE / 3),
        read_only: None,
    };
    let capped = || {
        let mut life = Life::begin(Lease::begin(TERM, LEASE, now), After::Stay, first);
        assert_eq!(life.apply(Event::Turn, now), [Effect::Cap]);
        assert_eq!(
            (life.stage(), life.due()),
            (Stage::Capped, Some(now + LEASE / 3))
        );
        life
    };
    let mut life = capped();
    assert_eq!(life.apply(Event::Clock, now), []);
    assert_eq!(life.apply(Event::Clock, now + LEASE / 3), [Effect::Begin]);
    assert_eq!(life.stage(), Stage::Draining);

    // Nobody was held yet: nothing is to be given back but the cap.
    let mut lost = capped();
    assert_eq!(lost.apply(Event::Clock, now + LEASE), []);
    let why = End {
        why: Why::LeaseLost,
        after: After::Reopen,
    };
    assert_eq!((lost.stage(), lost.end()), (Stage::Closed, Some(why)));
    let mut aborted = capped();
    let (effects, done) = aborted.command(Command::Abort(None), TERM, now);
    assert_eq!(
        (effects, done, aborted.stage()),
        (vec![], Ok(()), Stage::Closed)
    );
}

#[test]
fn reads_go_on_for_a_while_before_all_is_held_if_that_was_asked() {
    let now = Instant::now();
    let first = Before {
        capped: Some(LEASE / 3),
        read_only: Some(LEASE / 3),
    };
    let (cap_ends, reads_end) = (now + LEASE / 3, now + LEASE / 3 * 2);
    let reading = || {
        let mut life = Life::begin(Lease::begin(TERM, LEASE, now), After::Stay, first);
        assert_eq!(life.apply(Event::Turn, now), [Effect::Cap]);
        assert_eq!(life.apply(Event::Clock, cap_ends), [Effect::Begin]);
        assert_eq!(
            (life.stage(), life.due()),
            (Stage::ReadOnly, Some(reads_end))
        );
        life
    };
    let mut life = reading();
    assert_eq!(life.apply(Event::Clock, reads_end - LEASE / 10), []);
    assert_eq!(life.apply(Event::Clock, reads_end), [Effect::HoldAll]);
    assert_eq!(life.stage(), Stage::Draining);
    assert_eq!(life.apply(Event::Granted, reads_end), [Effect::LetIn]);

    // Whatever ends it meanwhile: nothing was begun, and traffic flows.
    let ended = |life: &mut Life, why| {
        assert_eq!(life.stage(), Stage::Ending);
        assert_eq!(life.apply(Event::NotGranted, reads_end), []);
        let end = end(why, After::Reopen);
        assert_eq!((life.stage(), life.end()), (Stage::Closed, Some(end)));
    };
    let mut aborted = reading();
    let (effects, done) = aborted.command(Command::Abort(None), TERM, cap_ends);
    assert_eq!((effects, done), (vec![Effect::GiveUp], Ok(())));
    ended(&mut aborted, Why::Aborted);
    // The lease ends before a stage does whose timer is late.
    let mut lost = reading();
    assert_eq!(lost.apply(Event::Clock, now + LEASE), [Effect::GiveUp]);
    ended(&mut lost, Why::LeaseLost);
    let mut late = reading();
    late.ends_at(Some(reads_end));
    assert_eq!(late.apply(Event::Clock, reads_end), [Effect::GiveUp]);
    ended(&mut late, Why::TimeOver);

    let mut refused = reading();
    assert_eq!(refused.apply(Event::NotGranted, cap_ends), []);
    assert_eq!(refused.stage(), Stage::Closed);
    let mut busy = reading();
    assert_eq!(busy.apply(Event::Busy, cap_ends), []);
    assert_eq!(busy.apply(Event::Turn, cap_ends), [Effect::Cap]);
}

#[test]
fn whoever_was_faster_is_waited_for() {
    let (mut life, now) = after(&[Event::Turn, Event::Busy], After::Reopen);
    assert_eq!(life.stage(), Stage::Queued);
    assert_eq!(life.apply(Event::Turn, now), [Effect::Begin]);
}

#[test]
fn a_lost_holder_is_followed_by_the_policy_once_its_connections_are_gone() {
    for (on_lost, effect) in [
        (After::Reopen, Effect::Reopen),
        (After::Stay, Effect::StayHeld),
    ] {
        let (mut life, now) = after(EXCLUSIVE, on_lost);
        assert_eq!(life.apply(Event::Clock, now + LEASE / 2), []);
        let effects = life.apply(Event::Clock, now + LEASE);
        assert_eq!(effects, [Effect::EndConnections]);
        assert_eq!(life.end(), Some(end(Why::LeaseLost, on_lost)));
        assert_eq!(life.apply(Event::Gone, now + LEASE), [effect]);
    }
}

#[test]
fn the_windows_own_time_ends_it_like_a_lost_holder() {
    let (mut life, now) = after(EXCLUSIVE, After::Stay);
    life.ends_at(Some(now + LEASE / 2));
    assert_eq!(life.due(), Some(now + LEASE / 2));
    let effects = life.apply(Event::Clock, now + LEASE / 2);
    assert_eq!(effects, [Effect::EndConnections]);
    assert_eq!(life.end(), Some(end(Why::TimeOver, After::Stay)));
}

#[test]
fn before_anybody_was_let_in_traffic_flows_whatever_the_policy() {
    let reopens = |why| Some(end(why, After::Reopen));
    let (mut queued, now) = after(&[], After::Stay);
    assert_eq!(queued.apply(Event::Clock, now + LEASE), []);
    assert_eq!(
        (queued.stage(), queued.end()),
        (Stage::Closed, reopens(Why::LeaseLost))
    );

    let (mut draining, now) = after(DRAINING, After::Stay);
    assert_eq!(draining.apply(Event::Clock, now + LEASE), [Effect::GiveUp]);
    assert_eq!(draining.apply(Event::NotGranted, now), []);
    assert_eq!(
        (draining.stage(), draining.end()),
        (Stage::Closed, reopens(Why::LeaseLost))
    );

    let (mut refused, now) = after(DRAINING, After::Stay);
    assert_eq!(refused.apply(Event::NotGranted, now), []);
    assert_eq!(
        (refused.stage(), refused.end()),
        (Stage::Closed, reopens(Why::NotGranted))
    );
}

#[test]
fn a_window_that_is_granted_while_it_is_given_up_lets_nobody_in() {
    let (mut life, now) = after(DRAINING, After::Stay);
    let (effects, done) = life.command(Command::Abort(None), TERM, now);
    assert_eq!((effects, done), (vec![Effect::GiveUp], Ok(())));
    assert_eq!(life.apply(Event::Granted, now), [Effect::EndConnections]);
    assert_eq!(life.apply(Event::Gone, now), [Effect::Reopen]);
}

#[test]
fn who_aborts_may_say_what_follows() {
    for (said, after_it) in [
        (None, After::Stay),
        (Some(After::Reopen), After::Reopen),
        (Some(After::Stay), After::Stay),
    ] {
        let (mut life, now) = after(EXCLUSIVE, After::Stay);
        life.command(Command::Abort(said), TERM, now)
            .1
            .expect("in time");
        assert_eq!(life.end(), Some(end(Why::Aborted, after_it)));
    }
}

#[test]
fn what_was_opened_by_force_is_not_held_again() {
    let (mut life, now) = after(EXCLUSIVE, After::Stay);
    assert_eq!(life.apply(Event::Opened, now), [Effect::EndConnections]);
    assert_eq!(life.apply(Event::Gone, now), [Effect::Reopen]);

    let (mut lost, now) = after(EXCLUSIVE, After::Stay);
    lost.apply(Event::Clock, now + LEASE);
    assert_eq!(lost.apply(Event::Opened, now + LEASE), []);
    assert_eq!(lost.apply(Event::Gone, now + LEASE), [Effect::Reopen]);
}

#[test]
fn a_late_call_changes_nothing() {
    for events in [&[][..], DRAINING, EXCLUSIVE] {
        for command in [Command::Renew, Command::Finish, Command::Abort(None)] {
            let (mut life, now) = after(events, After::Stay);
            let before = (life.stage(), life.due());
            let (effects, denied) = life.command(command, Term(6), now + LEASE / 2);
            assert_eq!(effects, []);
            let late = Late {
                shown: Term(6),
                current: TERM,
            };
            assert_eq!(denied, Err(Denied::Late(late)));
            assert_eq!((life.stage(), life.due()), before);
        }
    }
}

#[test]
fn a_call_after_the_lease_is_refused_although_no_timer_has_told() {
    let (mut life, now) = after(EXCLUSIVE, After::Reopen);
    let (effects, denied) = life.command(Command::Renew, TERM, now + LEASE);
    assert_eq!(effects, [Effect::EndConnections]);
    let lost = end(Why::LeaseLost, After::Reopen);
    assert_eq!(denied, Err(Denied::Over(lost)));
    assert_eq!(life.apply(Event::Clock, now + LEASE), []);
}

fn event() -> impl Strategy<Value = Event> {
    prop::sample::select(vec![
        Event::Turn,
        Event::Busy,
        Event::Granted,
        Event::NotGranted,
        Event::Clock,
        Event::Opened,
        Event::Gone,
    ])
}

fn command() -> impl Strategy<Value = Command> {
    prop::sample::select(vec![
        Command::Renew,
        Command::Finish,
        Command::Abort(None),
        Command::Abort(Some(After::Stay)),
    ])
}

#[derive(Debug, Clone)]
enum Happens {
    Event(Event),
    Command(Command, Term),
}

fn happens() -> impl Strategy<Value = Happens> {
    prop_oneof![
        event().prop_map(Happens::Event),
        (command(), 6..8_u64).prop_map(|(command, term)| Happens::Command(command, Term(term))),
    ]
}

proptest! {
    /// Whatever the order: nobody is let in but after a drain that was granted, traffic is given
    /// free or kept exactly once, and never while somebody may still be inside.
    #[test]
    fn no_order_of_events_breaks_a_window(
        course in prop::collection::vec((happens(), 0..40_u64), 0..60),
        capped: bool,
        reads: bool,
    ) {
        let mut now = Instant::now();
        let before = Before {
            capped: capped.then_some(LEASE / 3),
            read_only: reads.then_some(LEASE / 3),
        };
        let mut life = Life::begin(Lease::begin(TERM, LEASE, now), After::Stay, before);
        let (mut begun, mut inside, mut ended) = (0, false, 0);
        for (happens, passed) in course {
            now += Duration::from_secs(passed);
            let before = life.stage();
            let effects = match happens {
                Happens::Event(event) => life.apply(event, now),
                Happens::Command(command, term) => life.command(command, term, now).0,
            };
            for effect in effects {
                match effect {
                    Effect::Cap => prop_assert!(capped && before == Stage::Queued && !inside),
                    Effect::Begin => begun += 1,
                    Effect::HoldAll => {
                        prop_assert!(reads && begun > 0 && !inside && before == Stage::ReadOnly);
                    }
                    Effect::GiveUp => prop_assert!(begun > 0 && !inside),
                    Effect::LetIn => {
                        prop_assert!(begun > 0 && !inside && before == Stage::Draining);
                        inside = true;
                    }
                    Effect::EndConnections => inside = false,
                    Effect::Reopen | Effect::StayHeld => {
                        prop_assert!(!inside);
                        ended += 1;
                    }
                }
            }
            prop_assert!(ended <= 1);
            prop_assert_eq!(inside, life.stage() == Stage::Exclusive);
            prop_assert_eq!(life.due().is_none(), life.end().is_some());
            prop_assert!(before != Stage::Closed || life.stage() == Stage::Closed);
        }
    }
}
