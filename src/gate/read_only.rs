//! A gate that lets in who only reads: how permits are taken there, who is told of it, and how many are out
//! that are older.

use std::fmt;
use std::sync::atomic::Ordering;
use std::sync::{PoisonError, RwLock};

use super::admission::{Closed, Epoch, Flow, Left};
use super::driver::{Control, Gate};
use super::queue::Place;

type Told = dyn Fn(&Gate) + Send + Sync;

/// Who is told when a gate begins or ceases to want read-only.
#[derive(Default)]
pub(super) struct Listener(RwLock<Option<Box<Told>>>);

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Listener")
    }
}

impl Listener {
    pub(super) fn set(&self, listener: impl Fn(&Gate) + Send + Sync + 'static) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(listener));
    }

    fn tell(&self, gate: &Gate) {
        let listener = self.0.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(listener) = &*listener {
            listener(gate);
        }
    }
}

impl Gate {
    /// Takes a permit for a transaction that only reads: at a gate that is open or read-only. Give it back
    /// with [`Gate::release`].
    pub fn admit_read(&self) -> Option<Epoch> {
        match self.admission.admit_read() {
            Ok(epoch) => Some(epoch),
            Err(Closed(left)) => {
                self.note_left(left);
                None
            }
        }
    }

    /// The same for who has a place in the queue and whose turn may have come.
    pub fn admit_read_from(&self, place: &Place) -> Option<Epoch> {
        self.queue.claim(place).or_else(|| self.admit_read())
    }

    /// Whether transactions that only read may start now, and others not.
    #[inline]
    pub fn is_read_only(&self) -> bool {
        self.admission.is_read_only()
    }

    /// Whether a hold on it is read-only, also while a stricter one lets nothing in. It is so before the
    /// first read is let in that began because of that, and until the first write may be.
    #[inline]
    pub fn wants_read_only(&self) -> bool {
        self.wants_read_only.load(Ordering::Acquire)
    }

    /// Whether the gate is in the first stage of a hold.
    pub fn is_in_first_stage(&self) -> bool {
        self.admission.is_autocommit()
    }

    /// In the first stage of a hold, and while the gate is read-only, how many transactions run that began
    /// before; `None` otherwise. While it is read-only never less than there are.
    pub fn older(&self) -> Option<u32> {
        // In this order: once they do not share, the count is without those.
        let shares = self.shares.load(Ordering::Acquire);
        let older = self.admission.older()?;
        Some(older + u32::from(shares))
    }

    /// Waits until no transaction is left that is older, or nothing counts them any more. Cancel safe.
    pub async fn no_older(&self) {
        loop {
            let notified = self.quiet.notified();
            if self.older().unwrap_or(0) == 0 {
                return;
            }
            notified.await;
        }
    }

    /// Turns the gate. Whoever holds the lock of its control alone may do so.
    pub(super) fn turn(&self, flow: Flow) {
        if flow == Flow::ReadOnly {
            self.shares.store(true, Ordering::Release);
        }
        if self.admission.turn(flow) || flow != Flow::ReadOnly {
            self.shares.store(false, Ordering::Release);
        }
    }

    /// Transactions that write start no more, those neither whose turn has just come; readers do. All that
    /// wait look which they are.
    pub(super) fn close_for_writes(&self, control: &mut Control) {
        *self.emptied.lock().unwrap_or_else(PoisonError::into_inner) = None;
        control.pacing.end();
        self.turn(Flow::ReadOnly);
        self.call_back();
        self.count_older_apart();
        self.queue.wake(self.number);
        self.tell_quiet();
    }

    /// Takes back the calls that were not heeded yet; only the gate of a database calls.
    pub(super) fn call_back(&self) {
        if self.wide.is_some() {
            return;
        }
        self.queue
            .call_back(|permit| match self.admission.release(permit) {
                Left::Nobody => self.note_empty(),
                Left::Others | Left::Turn | Left::NobodyOlder => {}
            });
    }

    /// The last permit is back that was counted as older.
    pub(super) fn note_nobody_older(&self) {
        if self.shares.load(Ordering::Acquire) {
            let _alone = self.control();
            self.count_older_apart();
        }
        self.tell_quiet();
    }

    /// Gives the read-only gate an epoch of its own as soon as there is a free slot, so that those who
    /// began before it are counted apart. Who holds the lock of the control alone may do so.
    fn count_older_apart(&self) {
        if self.shares.load(Ordering::Acquire) && self.admission.older() == Some(0) {
            self.turn(Flow::ReadOnly);
        }
    }

    /// Notes whether a hold is read-only, before the gate is turned because of it: so nobody is let in as
    /// a reader who could have missed it, and nobody as a writer whose server still refuses writes. True
    /// when that is news.
    pub(super) fn note_wants(&self, control: &Control) -> bool {
        let wants = control.state.wants_read_only();
        self.wants_read_only.swap(wants, Ordering::AcqRel) != wants
    }

    /// Tells the sessions of it, with no lock held.
    pub(super) fn tell_read_only(&self) {
        self.shared.read_only.tell(self);
    }
}
