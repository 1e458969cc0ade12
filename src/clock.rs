//! The time by which holds, drains and windows are decided: tokio's, so that a test can move it.
//!
//! Outside of tests tokio's clock is the steady clock itself, and both functions read what the
//! standard library and jiff would.

use std::time::Instant;

use jiff::Timestamp;

/// The steady clock.
#[must_use]
pub fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// The wall clock. It goes with [`now`] where a test has moved that one ahead.
#[must_use]
pub fn wall() -> Timestamp {
    let ahead = now().saturating_duration_since(Instant::now());
    let wall = Timestamp::now();
    wall.checked_add(ahead).unwrap_or(wall)
}
