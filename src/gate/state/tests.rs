//! The state of a gate, by tables and at random.

use proptest::prelude::*;

use super::*;

fn spec(then: Then) -> HoldSpec {
    HoldSpec {
        duration: Duration::from_secs(60),
        then,
        read_only: false,
        blocked: Blocked::Queue,
        sqlstate: None,
        first_stage: Duration::ZERO,
        client_deadline: Duration::from_secs(30),
        by: "test".into(),
        reason: None,
    }
}

fn hold(state: &mut State, holder: Holder, then: Then, now: Instant) -> Generation {
    state.apply(
        Event::Hold {
            holder,
            spec: spec(then),
        },
        now,
    );
    state.hold(holder).expect("just placed").generation
}

fn opens(effects: &[Effect]) -> bool {
    effects.contains(&Effect::Open)
}

#[test]
fn a_gate_opens_when_its_last_hold_ends() {
    let (mut state, now) = (State::default(), Instant::now());
    hold(&mut state, Holder::Everywhere, Then::Open, now);
    hold(&mut state, Holder::Window, Then::Open, now);
    let release = |holder| Event::Release {
        holder,
        generation: None,
    };
    assert!(!opens(&state.apply(release(Holder::Everywhere), now)));
    assert_eq!(state.mode(), Mode::Hold);
    assert!(opens(&state.apply(release(Holder::Window), now)));
    assert_eq!(state.mode(), Mode::Open);
}

#[test]
fn an_old_timer_never_touches_a_new_hold() {
    let (mut state, now) = (State::default(), Instant::now());
    let holder = Holder::Operator;
    let old = hold(&mut state, holder, Then::Open, now);
    state.apply(
        Event::Release {
            holder,
            generation: None,
        },
        now,
    );
    let new = hold(&mut state, holder, Then::Open, now);
    let late = now + Duration::from_secs(3600);
    assert_eq!(
        state.apply(
            Event::Timer {
                holder,
                generation: old
            },
            late
        ),
        vec![]
    );
    let by_old = Event::Release {
        holder,
        generation: Some(old),
    };
    assert_eq!(state.apply(by_old, late), vec![]);
    assert!(opens(&state.apply(
        Event::Timer {
            holder,
            generation: new
        },
        late
    )));
}

#[test]
fn a_first_stage_ends_once_and_never_comes_back() {
    let stage = Duration::from_secs(2);
    let staged = || HoldSpec {
        first_stage: stage,
        ..spec(Then::Open)
    };
    let place =
        |state: &mut State, holder, spec, now| state.apply(Event::Hold { holder, spec }, now);
    let closes = |effects: &[Effect]| effects.contains(&Effect::Close);
    let end = |generation| Event::EndStage { generation };
    let now = Instant::now();

    let mut state = State::default();
    let effects = place(&mut state, Holder::Operator, staged(), now);
    let first = state.hold(Holder::Operator).expect("placed").generation;
    let begins = Effect::CloseForBlocks {
        generation: first,
        at: now + stage,
    };
    assert!(
        effects.contains(&begins) && !closes(&effects),
        "{effects:?}"
    );
    // Another hold with such a stage does not lengthen it; one without ends it.
    let effects = place(&mut state, Holder::Everywhere, staged(), now);
    assert!(
        !closes(&effects) && !effects.contains(&begins),
        "{effects:?}"
    );
    let effects = place(&mut state, Holder::Window, spec(Then::Stay), now);
    assert!(closes(&effects), "{effects:?}");
    assert_eq!(state.apply(end(Some(first)), now + stage), vec![]);
    // Nothing brings it back while the gate is closed.
    let effects = place(&mut state, Holder::Operator, staged(), now);
    assert!(
        !closes(&effects) && !effects.contains(&begins),
        "{effects:?}"
    );

    // Its timer does not touch the stage of a later hold.
    let mut state = State::default();
    place(&mut state, Holder::Operator, staged(), now);
    let old = state.hold(Holder::Operator).expect("placed").generation;
    let (holder, generation) = (Holder::Operator, None);
    assert!(opens(
        &state.apply(Event::Release { holder, generation }, now)
    ));
    place(&mut state, Holder::Operator, staged(), now);
    assert_eq!(state.apply(end(Some(old)), now + stage), vec![]);
    assert_eq!(state.apply(end(None), now), vec![Effect::Close]);
    assert_eq!(state.apply(end(None), now), vec![]);
}

#[test]
fn an_early_timer_is_set_again() {
    let (mut state, now) = (State::default(), Instant::now());
    let holder = Holder::Operator;
    let generation = hold(&mut state, holder, Then::Open, now);
    let at = now + Duration::from_secs(60);
    let effects = state.apply(Event::Timer { holder, generation }, now);
    assert_eq!(
        effects,
        vec![Effect::SetTimer {
            holder,
            generation,
            at
        }]
    );
}

#[test]
fn a_hold_that_stays_alerts_once_and_is_ended_by_a_command() {
    let (mut state, now) = (State::default(), Instant::now());
    let holder = Holder::Operator;
    let generation = hold(&mut state, holder, Then::Stay, now);
    let late = now + Duration::from_secs(61);
    let timer = Event::Timer { holder, generation };
    assert_eq!(
        state.apply(timer.clone(), late),
        vec![Effect::Alert { holder, generation }]
    );
    assert_eq!(state.apply(timer, late), vec![]);
    assert_eq!(state.mode(), Mode::Hold);
    assert!(opens(&state.apply(
        Event::Release {
            holder,
            generation: None
        },
        late
    )));
}

#[test]
fn the_stricter_of_two_holds_decides_what_the_blocked_get() {
    let (mut state, now) = (State::default(), Instant::now());
    hold(&mut state, Holder::Everywhere, Then::Open, now);
    let strict = HoldSpec {
        blocked: Blocked::Reject,
        client_deadline: Duration::from_secs(5),
        ..spec(Then::Open)
    };
    let effects = state.apply(
        Event::Hold {
            holder: Holder::Operator,
            spec: strict,
        },
        now,
    );
    assert_eq!(
        state.blocked(),
        Some(Standing {
            blocked: Blocked::Reject,
            deadline: Duration::from_secs(5),
            sqlstate: None,
            read_only: false,
        })
    );
    assert!(effects.contains(&Effect::Reject), "{effects:?}");
}

fn reads(blocked: Blocked) -> HoldSpec {
    HoldSpec {
        read_only: true,
        blocked,
        ..spec(Then::Open)
    }
}

/// What a gate would be turned to.
fn turns(effects: &[Effect]) -> Vec<&'static str> {
    let turns = effects.iter().filter_map(|effect| match effect {
        Effect::Open => Some("open"),
        Effect::CloseForBlocks { .. } => Some("first stage"),
        Effect::CloseForWrites => Some("read-only"),
        Effect::Close => Some("closed"),
        Effect::Reject | Effect::SetTimer { .. } | Effect::Ended { .. } | Effect::Alert { .. } => {
            None
        }
    });
    turns.collect()
}

#[test]
fn the_mode_is_that_of_the_strictest_hold_whoever_came_first() {
    let now = Instant::now();
    let staged = HoldSpec {
        first_stage: Duration::from_secs(2),
        ..spec(Then::Open)
    };
    let (whole, read) = (|| spec(Then::Open), || reads(Blocked::Queue));
    let hold = |holder, spec| Event::Hold { holder, spec };
    let release = |holder| Event::Release {
        holder,
        generation: None,
    };
    let (op, all, window) = (Holder::Operator, Holder::Everywhere, Holder::Window);
    for (what, events) in [
        (
            "a hold comes over read-only and ends again",
            vec![
                (hold(op, read()), "read-only"),
                (hold(window, whole()), "closed"),
                (release(window), "read-only"),
                (release(op), "open"),
            ],
        ),
        (
            "one holder goes from one to the other",
            vec![
                (hold(op, whole()), "closed"),
                (hold(op, read()), "read-only"),
                (hold(op, whole()), "closed"),
                (release(op), "open"),
            ],
        ),
        (
            "a first stage is not stricter than read-only, and neither is the other",
            vec![
                (hold(op, staged.clone()), "first stage"),
                (hold(all, read()), "closed"),
                (release(op), "read-only"),
                (hold(op, staged.clone()), "closed"),
                (release(all), ""),
                (release(op), "open"),
            ],
        ),
        (
            "a first stage is replaced by read-only, and its timer comes late",
            vec![
                (hold(op, staged.clone()), "first stage"),
                (hold(op, read()), "read-only"),
                (Event::EndStage { generation: None }, ""),
                (hold(all, read()), ""),
                (release(op), ""),
                (release(all), "open"),
            ],
        ),
    ] {
        let mut state = State::default();
        for (event, turn) in events {
            let effects = state.apply(event.clone(), now);
            assert_eq!(turns(&effects).join(", "), turn, "{what}: {event:?}");
        }
        assert_eq!(state.mode(), Mode::Open, "{what}");
    }
}

#[test]
fn a_hold_that_stops_reads_too_says_alone_what_the_blocked_get() {
    let now = Instant::now();
    let mut state = State::default();
    let (holder, spec_of_reads) = (Holder::Operator, reads(Blocked::Reject));
    state.apply(
        Event::Hold {
            holder,
            spec: HoldSpec {
                client_deadline: Duration::from_secs(3),
                ..spec_of_reads
            },
        },
        now,
    );
    let standing = |state: &State| {
        let it = state.blocked().expect("held");
        (it.blocked, it.deadline.as_secs(), it.read_only)
    };
    assert_eq!(standing(&state), (Blocked::Reject, 3, true));
    hold(&mut state, Holder::Window, Then::Stay, now);
    assert_eq!(standing(&state), (Blocked::Queue, 30, false));
}

proptest! {
    /// Whatever is held, ended and renewed by whom: the gate is turned once at most by each event, it is
    /// always what the holds ask for, and nobody gets into a first stage but from an open gate.
    #[test]
    fn a_gate_is_always_what_its_holds_ask_for(
        events in prop::collection::vec((0..3_usize, 0..8_u32, 0..3_u64), 1..60)
    ) {
        let holders = [Holder::Everywhere, Holder::Operator, Holder::Window];
        let (mut state, mut now) = (State::default(), Instant::now());
        let mut gate = "open";
        for (who, what, seconds) in events {
            now += Duration::from_secs(seconds * 20);
            let holder = holders[who];
            let held = state.hold(holder).map(|hold| hold.generation);
            let staged = Duration::from_secs(u64::from(what == 1));
            let event = match what {
                0 | 1 => Event::Hold {
                    holder,
                    spec: HoldSpec { first_stage: staged, ..spec(Then::Open) },
                },
                2 | 3 => Event::Hold { holder, spec: reads(Blocked::Queue) },
                4 => Event::EndStage { generation: None },
                5 => Event::Timer { holder, generation: held.unwrap_or_default() },
                _ => Event::Release { holder, generation: None },
            };
            let before = (state.mode(), gate);
            let effects = state.apply(event, now);
            let turned = turns(&effects);
            prop_assert!(turned.len() <= 1, "{effects:?}");
            gate = turned.first().copied().unwrap_or(gate);
            let holds: Vec<bool> = state.holds().map(|(_, hold)| hold.spec.read_only).collect();
            let wanted = match (holds.is_empty(), holds.iter().all(|reads| *reads)) {
                (true, _) => Mode::Open,
                (false, true) => Mode::ReadOnly,
                (false, false) => Mode::Hold,
            };
            prop_assert_eq!(state.mode(), wanted);
            prop_assert_eq!(state.wants_read_only(), holds.contains(&true));
            prop_assert_eq!(state.blocked().map(|it| it.read_only), match wanted {
                Mode::Open => None,
                Mode::ReadOnly => Some(true),
                Mode::Hold => Some(false),
            });
            match wanted {
                Mode::Open => prop_assert_eq!(gate, "open"),
                Mode::ReadOnly => prop_assert_eq!(gate, "read-only"),
                Mode::Hold => prop_assert!(gate == "closed" || gate == "first stage"),
            }
            if gate == "first stage" && before.1 != "first stage" {
                prop_assert_eq!(before.0, Mode::Open);
            }
        }
    }
}
