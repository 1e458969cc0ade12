//! What others want of a session, and how it learns of that.

use std::sync::atomic::Ordering;
use std::sync::{MutexGuard, PoisonError};
use std::task::Waker;

use tokio::sync::oneshot;

use super::session::Session;

/// What somebody wants of a session; the bits add up until the session looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signals(u16);

impl Signals {
    /// Cancel what runs or is held.
    pub const CANCEL: Signals = Signals(1);
    /// End at the next boundary.
    pub const STOP: Signals = Signals(2);
    /// End now.
    pub const KILL: Signals = Signals(4);
    /// Its server session was terminated a while ago: do not wait for the client to read on.
    pub const TERMINATED: Signals = Signals(8);
    /// Cancel what the server runs for it.
    pub const CANCEL_RUNNING: Signals = Signals(16);
    /// If its conversation stands still because of its client, free it.
    pub const STUCK: Signals = Signals(64);
    /// If it sits idle in a transaction, abort that in place.
    pub const ABORT: Signals = Signals(32);
    /// Its window has ended: end now.
    pub const WINDOW_ENDED: Signals = Signals(128);

    /// Another gate is in its way: look into the inbox.
    pub const ATTACH: Signals = Signals(256);
    /// Read-only mode begins or ends for it: see to it that the server enforces it, or does not.
    pub const READ_ONLY: Signals = Signals(512);
    /// Note whether what runs is one statement and all of its transaction.
    pub const SAY_ALONE: Signals = Signals(1024);
    /// If it sits idle in a transaction, abort that in place, also while its gate is open.
    pub const ABORT_ANYWAY: Signals = Signals(2048);
    /// An operator ends it: now, whatever it runs.
    pub const DISMISS: Signals = Signals(4096);

    /// Whether `other` is among them.
    #[must_use]
    pub fn contains(self, other: Signals) -> bool {
        self.0 & other.0 != 0
    }

    /// Whether there is none.
    #[inline]
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl Session {
    /// Wants something of the session, and wakes it.
    pub fn signal(&self, signals: Signals) {
        self.signals.fetch_or(signals.0, Ordering::AcqRel);
        if let Some(waker) = &*self.waker_place() {
            waker.wake_by_ref();
        }
    }

    /// Wants its statement cancelled; the receiver is told when that was done or found needless.
    pub fn request_cancel(&self) -> oneshot::Receiver<()> {
        let (done, told) = oneshot::channel();
        self.cancels().push(done);
        self.signal(Signals::CANCEL);
        told
    }

    /// Who waits for a cancel to be carried out.
    pub fn take_cancels(&self) -> Vec<oneshot::Sender<()>> {
        std::mem::take(&mut *self.cancels())
    }

    /// Whether something is wanted of it.
    #[inline]
    #[must_use]
    pub fn has_signals(&self) -> bool {
        self.signals.load(Ordering::Relaxed) != 0
    }

    /// What was wanted since the last look.
    #[inline]
    #[must_use]
    pub fn take_signals(&self) -> Signals {
        if !self.has_signals() {
            return Signals(0);
        }
        Signals(self.signals.swap(0, Ordering::AcqRel))
    }

    /// Whether it has looked at all that was wanted.
    #[must_use]
    pub fn has_looked(&self) -> bool {
        self.signals.load(Ordering::Acquire) == 0
    }

    /// Says who is woken by signals from now on, each time again. To be called before
    /// [`Session::take_signals`].
    pub fn wake_with(&self, waker: &Waker) {
        *self.waker_place() = Some(waker.clone());
    }

    fn waker_place(&self) -> MutexGuard<'_, Option<Waker>> {
        self.waker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn cancels(&self) -> MutexGuard<'_, Vec<oneshot::Sender<()>>> {
        self.cancels.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
