//! Ladders, step by step.

use super::*;

const SECOND: Duration = Duration::from_secs(1);

/// What is seen after so many seconds.
type Looks<'a> = &'a [(u32, Verdict)];

fn ladder(preset: Preset) -> Ladder {
    Ladder::new(&config::Ladder {
        preset,
        autocommit: Duration::ZERO,
        wait: 2 * SECOND,
        cancel: 3 * SECOND,
        stuck: Duration::ZERO,
        abort: Duration::ZERO,
        terminate: 4 * SECOND,
    })
}

fn escalation(preset: Preset, now: Instant) -> Escalation {
    Escalation::begin(ladder(preset), now)
}

fn busy() -> Observation {
    Observation {
        permits: 1,
        proof: Proof::Busy,
        older: None,
        probe: Probe::Needless,
    }
}

#[test]
fn each_preset_climbs_as_far_as_it_says() {
    let start = Instant::now();
    let at = |seconds: u32| start + seconds * SECOND;
    let table: &[(Preset, &[(u32, Verdict)])] = &[
        (
            Preset::Gentle,
            &[(0, Verdict::LookAgain(at(2))), (2, Verdict::Exhausted)],
        ),
        (
            Preset::Firm,
            &[
                (1, Verdict::LookAgain(at(2))),
                (2, Verdict::Act(Step::Cancel)),
                (2, Verdict::LookAgain(at(3))),
                (3, Verdict::Act(Step::Cancel)),
                (5, Verdict::Exhausted),
            ],
        ),
        (
            Preset::Force,
            &[
                (2, Verdict::Act(Step::Cancel)),
                (5, Verdict::Act(Step::Terminate)),
                (6, Verdict::Act(Step::Terminate)),
                (9, Verdict::Exhausted),
            ],
        ),
    ];
    for (preset, looks) in table {
        let mut escalation = escalation(*preset, start);
        for (seconds, expected) in *looks {
            let verdict = escalation.observe(busy(), at(*seconds));
            assert_eq!(verdict, *expected, "{preset} after {seconds} s");
        }
    }
}

#[test]
fn a_late_look_climbs_over_steps_that_had_no_time() {
    let start = Instant::now();
    let mut escalation = escalation(Preset::Force, start);
    assert_eq!(
        escalation.observe(busy(), start + 6 * SECOND),
        Verdict::Act(Step::Terminate)
    );
}

#[test]
fn a_limit_ends_the_ladder_on_whatever_step_it_is() {
    let start = Instant::now();
    let mut escalation = Escalation::begin(ladder(Preset::Force).within(4 * SECOND), start);
    for (seconds, expected) in [
        (1, Verdict::LookAgain(start + 2 * SECOND)),
        (3, Verdict::Act(Step::Cancel)),
        (4, Verdict::Exhausted),
    ] {
        let verdict = escalation.observe(busy(), start + seconds * SECOND);
        assert_eq!(verdict, expected, "after {seconds} s");
    }
}

#[test]
fn drained_needs_both_the_count_and_the_server() {
    let start = Instant::now();
    let cases = [
        (0, Proof::Clear, Verdict::Drained),
        (0, Proof::Impossible, Verdict::Unproved),
        (0, Proof::Busy, Verdict::LookAgain(start + 2 * SECOND)),
        (0, Proof::Unknown, Verdict::LookAgain(start + 2 * SECOND)),
        (1, Proof::Clear, Verdict::LookAgain(start + 2 * SECOND)),
        (1, Proof::Impossible, Verdict::LookAgain(start + 2 * SECOND)),
    ];
    for (permits, proof, expected) in cases {
        let seen = Observation {
            permits,
            proof,
            older: None,
            probe: Probe::Needless,
        };
        assert_eq!(
            escalation(Preset::Firm, start).observe(seen, start),
            expected,
            "{seen:?}"
        );
    }
}

#[test]
fn read_only_mode_is_entered_when_a_write_was_tried_and_refused() {
    let start = Instant::now();
    let wait = Verdict::LookAgain(start + 2 * SECOND);
    let cases = [
        (0, Proof::Clear, Probe::Due, Verdict::Probe),
        (0, Proof::Clear, Probe::Refused, Verdict::Drained),
        (0, Proof::Clear, Probe::Accepted, Verdict::Writable),
        (0, Proof::Clear, Probe::Unknown, wait),
        // Nothing is tried before it could be the proof.
        (1, Proof::Clear, Probe::Due, wait),
        (0, Proof::Busy, Probe::Due, wait),
        (0, Proof::Unknown, Probe::Due, wait),
        (0, Proof::Impossible, Probe::Due, Verdict::Unproved),
        // What was tried before says nothing of who is in the way now.
        (1, Proof::Clear, Probe::Refused, wait),
    ];
    let seen = |permits, proof, probe| Observation {
        permits,
        proof,
        older: None,
        probe,
    };
    for (permits, proof, probe, expected) in cases {
        let seen = seen(permits, proof, probe);
        let verdict = escalation(Preset::Firm, start).observe(seen, start);
        assert_eq!(verdict, expected, "{seen:?}");
    }
    // A write that cannot be tried is unknown at the end, and nobody's fault.
    let seen = seen(0, Proof::Clear, Probe::Unknown);
    let verdict = escalation(Preset::Gentle, start).observe(seen, start + 2 * SECOND);
    assert_eq!(verdict, Verdict::Unproved);
}

#[test]
fn at_the_end_unknown_is_not_drained_and_not_blamed_on_anybody() {
    let start = Instant::now();
    let seen = Observation {
        permits: 0,
        proof: Proof::Unknown,
        older: None,
        probe: Probe::Needless,
    };
    let verdict = escalation(Preset::Gentle, start).observe(seen, start + 2 * SECOND);
    assert_eq!(verdict, Verdict::Unproved);
}

#[test]
fn a_ladder_that_is_changed_goes_on_from_where_it_is() {
    use Preset::{Firm, Force, Gentle};
    let start = Instant::now();
    let at = |seconds: u32| start + seconds * SECOND;
    // From, seconds until the change, to, and what is seen from then on.
    let table: &[(Preset, u32, Preset, Looks<'_>)] = &[
        // Up in time: the wait goes on with its own end.
        (
            Gentle,
            1,
            Firm,
            &[
                (1, Verdict::LookAgain(at(2))),
                (2, Verdict::Act(Step::Cancel)),
                (5, Verdict::Exhausted),
            ],
        ),
        // Down from a step that the new ladder lacks: the wait again, with its whole time.
        (
            Force,
            6,
            Gentle,
            &[
                (6, Verdict::LookAgain(at(8))),
                (7, Verdict::LookAgain(at(8))),
                (8, Verdict::Exhausted),
            ],
        ),
        (
            Force,
            7,
            Firm,
            &[(7, Verdict::Act(Step::Cancel)), (10, Verdict::Exhausted)],
        ),
        // On the same step nothing is done twice.
        (
            Firm,
            3,
            Force,
            &[
                (3, Verdict::LookAgain(at(4))),
                (5, Verdict::Act(Step::Terminate)),
            ],
        ),
    ];
    for (from, change, to, looks) in table {
        let mut escalation = escalation(*from, start);
        escalation.observe(busy(), at(*change));
        escalation.change(ladder(*to), at(*change));
        for (seconds, expected) in *looks {
            let verdict = escalation.observe(busy(), at(*seconds));
            assert_eq!(verdict, *expected, "{from} to {to} after {seconds} s");
        }
    }
}

#[test]
fn a_change_to_steps_that_all_come_later_goes_up_and_to_none_ends() {
    let start = Instant::now();
    let only = |wait, cancel| {
        Ladder::new(&config::Ladder {
            preset: Preset::Firm,
            autocommit: Duration::ZERO,
            wait,
            cancel,
            stuck: Duration::ZERO,
            abort: Duration::ZERO,
            terminate: SECOND,
        })
    };
    let mut escalation = Escalation::begin(only(2 * SECOND, SECOND), start);
    escalation.change(only(Duration::ZERO, SECOND), start);
    assert_eq!(
        escalation.observe(busy(), start),
        Verdict::Act(Step::Cancel)
    );
    assert!(!escalation.has_reached(Step::Wait) && escalation.has_reached(Step::Cancel));
    escalation.change(only(Duration::ZERO, Duration::ZERO), start);
    assert_eq!(escalation.observe(busy(), start), Verdict::Exhausted);
}

#[test]
fn the_first_stage_ends_by_time_when_none_is_older_or_when_the_gate_has_closed() {
    let start = Instant::now();
    let at = |seconds: u32| start + seconds * SECOND;
    let begin = |wait| {
        let settings = config::Ladder {
            preset: Preset::Firm,
            autocommit: 5 * SECOND,
            wait,
            cancel: 3 * SECOND,
            stuck: Duration::ZERO,
            abort: Duration::ZERO,
            terminate: Duration::ZERO,
        };
        Escalation::begin(Ladder::new(&settings), start)
    };
    let seen = |permits, older| Observation {
        permits,
        proof: Proof::Clear,
        older,
        probe: Probe::Needless,
    };
    // By time: the next step begins at the end, however late somebody looks.
    let mut escalation = begin(2 * SECOND);
    assert_eq!(
        escalation.observe(seen(3, Some(1)), at(4)),
        Verdict::LookAgain(at(5))
    );
    assert_eq!(escalation.step(), Step::Autocommit);
    assert_eq!(
        escalation.observe(seen(3, Some(1)), at(6)),
        Verdict::CloseForAll
    );
    assert_eq!(
        escalation.observe(seen(3, None), at(6)),
        Verdict::LookAgain(at(7))
    );
    // When none is older: nothing is proved before the gate is closed, whatever the count was.
    let mut escalation = begin(2 * SECOND);
    assert_eq!(
        escalation.observe(seen(0, Some(0)), at(1)),
        Verdict::CloseForAll
    );
    assert_eq!(escalation.step(), Step::Wait);
    assert_eq!(
        escalation.observe(seen(1, None), at(1)),
        Verdict::LookAgain(at(3))
    );
    assert_eq!(escalation.observe(seen(0, None), at(2)), Verdict::Drained);
    // Somebody else closed the gate.
    let mut escalation = begin(Duration::ZERO);
    assert_eq!(
        escalation.observe(seen(1, None), at(1)),
        Verdict::Act(Step::Cancel)
    );
    // A change to a ladder without it ends it.
    let mut escalation = begin(2 * SECOND);
    escalation.change(ladder(Preset::Gentle), at(1));
    assert_eq!(
        escalation.observe(seen(1, Some(1)), at(1)),
        Verdict::CloseForAll
    );
}
