//! A seeded simulation: clients, servers, operators, windows and crashes take turns by a clock that
//! moves when it is told to, and after each step the promises that can be seen are checked.
//!
//! What is simulated is the surroundings. Gates, relays, controller, journal and drains are the
//! product's own. `SIM_SEED=7 cargo test --test sim` plays one seed and prints each step.

mod conn;
mod conversation;
mod crashed;
mod dice;
mod inside;
mod lent;
#[path = "../model/mod.rs"]
#[allow(dead_code, reason = "some of it is for other tests alone")]
mod model;
mod play;
mod promised;
mod proxy;
mod run;
mod step;
mod whom;
mod windows;
mod world;

use run::{Failure, seeds};

/// As many as a minute takes on two slow processors; `make sim` plays a million.
const SEEDS: u64 = 3_000;

#[test]
fn seeds_keep_every_promise() {
    if let Some(seed) = run::wanted("SIM_SEED") {
        return run::replay(seed);
    }
    let first = run::wanted("SIM_FIRST").unwrap_or(0);
    let count = run::wanted("SIM_SEEDS").unwrap_or(SEEDS);
    if let Some(Failure { seed, .. }) = seeds(first..first + count, None) {
        // Once more, with its last steps.
        run::show(seed);
    }
}

/// Each of them is a bug of a peer, found within so many seeds.
#[cfg(debug_assertions)]
mod faults {
    use super::run::{say, seeds};
    use pgdrain::faults::Fault;

    const WITHIN: u64 = 300;

    /// Whichever of the complaints comes first.
    fn is_found(fault: Fault, complaints: &[&str]) {
        let found = seeds(0..WITHIN, Some(fault)).expect("the simulation does not see it");
        let seed = found.seed;
        say(format_args!("{fault:?} was found by seed {seed}"));
        let known = complaints.iter().any(|it| found.why.contains(it));
        assert!(known, "{found:?}");
    }

    #[test]
    fn a_release_of_an_old_hold_that_opens_a_new_one_is_found() {
        is_found(Fault::OldRelease, &["ended by nobody"]);
    }

    #[test]
    fn a_stale_timer_is_found() {
        is_found(Fault::StaleTimer, &["ended by nobody"]);
    }

    #[test]
    fn a_lost_wake_up_is_found() {
        is_found(
            Fault::LostWakeUp,
            &[
                "waits at an open gate",
                "waits although there is room",
                "permits of nobody",
            ],
        );
    }
}
