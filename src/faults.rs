//! Bugs that proxies like this one have had, to be put back by the simulation, which has to find them.
//!
//! Only a debug build has them, and only the thread that asked for one: a release has no such switch.

/// A bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Who ends the hold that it placed ends whichever hold there is by now: `PgBouncer`'s race of
    /// PAUSE and RESUME (#715).
    OldRelease,
    /// A timer that outlives its hold ends the next one, as stolon's did.
    StaleTimer,
    /// Who asks the closed gate once more goes on waiting without saying who is to be woken now.
    LostWakeUp,
}

#[cfg(debug_assertions)]
thread_local! {
    static PUT_BACK: std::cell::Cell<Option<Fault>> = const { std::cell::Cell::new(None) };
}

/// Puts a bug back for what runs on this thread, or takes it out again.
#[cfg(debug_assertions)]
pub fn put_back(fault: Option<Fault>) {
    PUT_BACK.set(fault);
}

/// Whether this bug was put back.
#[cfg(debug_assertions)]
pub(crate) fn is_back(fault: Fault) -> bool {
    PUT_BACK.get() == Some(fault)
}

/// No bug can be put back into a release.
#[cfg(not(debug_assertions))]
#[inline]
pub(crate) const fn is_back(_fault: Fault) -> bool {
    false
}
