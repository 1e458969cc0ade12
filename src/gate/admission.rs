//! One atomic word that says whether a transaction may start, and counts those that did.
//!
//! ```text
//!   63       62      61 ........ 48   47 ......... 24   23 .......... 0
//!   closed   paced   epoch (14 bit)   permits of odd     permits of even
//!                                     epochs             epochs
//! ```
//!
//! Taking a permit is one `fetch_add` on the hot path. Its answer says, in the same instant, whether
//! the gate was closed or had moved to another epoch: then the permit is taken back. Because both
//! facts are in one word, no permit can slip through between a closing and its count.
//!
//! A permit belongs to the epoch in which it was given. Every command starts a new epoch unless
//! permits of the epoch before last are still out, whose slot it would share; they are then counted
//! together, so that a wait may be for more than it must, never for less.
//!
//! A paced gate gives permits in turn: its driver takes them for those who wait, and nobody takes one
//! for himself. Who gives one back learns from the same word that the next one's turn has come.
//!
//! A gate in its first stage has both bits: who says that he begins no transaction block takes a permit
//! as at an open gate, and nobody else does. Such a stage is an epoch of its own where its slot is free,
//! so that those who began before it are counted for themselves.
//!
//! `crate::gate::sync` provides the atomic: the standard one here, loom's in the test that tries
//! the interleavings.

use super::sync::{AtomicU64, Ordering};

const CLOSED: u64 = 1 << 63;
const PACED: u64 = 1 << 62;
const SHUT: u64 = CLOSED | PACED;
const EPOCH_SHIFT: u32 = 48;
const EPOCH_MASK: u64 = 0x3fff;
const SLOT_BITS: u32 = 24;
const SLOT_MASK: u64 = (1 << SLOT_BITS) - 1;

/// Which permits are meant: advances with every command to the gate, modulo 2^14.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Epoch(u16);

impl Epoch {
    fn of(word: u64) -> Epoch {
        // Masked to 14 bits.
        Epoch(((word >> EPOCH_SHIFT) & EPOCH_MASK) as u16)
    }

    fn next(self) -> Epoch {
        Epoch((self.0 + 1) & 0x3fff)
    }

    /// The one before; its slot is the other one.
    fn former(self) -> Epoch {
        Epoch(self.0.wrapping_sub(1) & 0x3fff)
    }

    fn slot_shift(self) -> u32 {
        u32::from(self.0 & 1) * SLOT_BITS
    }

    fn one(self) -> u64 {
        1 << self.slot_shift()
    }

    fn count(self, word: u64) -> u32 {
        // Masked to 24 bits.
        ((word >> self.slot_shift()) & SLOT_MASK) as u32
    }
}

/// What giving back a permit left behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Left {
    /// The gate is open, or other permits are out.
    Others,
    /// The gate is closed and this was the last permit: whoever waits for it must be woken.
    Nobody,
    /// The gate is paced: whoever is next may have a turn.
    Turn,
    /// The gate is in its first stage, and this was the last permit older than that.
    NobodyOlder,
}

/// Who may take a permit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// Anybody.
    Open,
    /// The driver, for those whose turn it is.
    Paced,
    /// Anybody who begins no transaction block.
    Autocommit,
    /// Nobody.
    Closed,
}

impl Flow {
    fn bits(self) -> u64 {
        match self {
            Flow::Open => 0,
            Flow::Paced => PACED,
            Flow::Autocommit => SHUT,
            Flow::Closed => CLOSED,
        }
    }
}

/// Why a permit was not given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Closed(
    /// What taking the late permit back left behind.
    pub Left,
);

/// The word of one gate.
#[derive(Debug)]
pub struct Admission {
    word: AtomicU64,
}

impl Default for Admission {
    /// Open, nobody inside.
    fn default() -> Admission {
        Admission {
            word: AtomicU64::new(0),
        }
    }
}

impl Admission {
    /// Takes a permit.
    #[inline]
    pub fn admit(&self) -> Result<Epoch, Closed> {
        self.admit_in(Flow::Open)
    }

    /// The same in the first stage, for a transaction that begins no block.
    pub fn admit_autocommit(&self) -> Result<Epoch, Closed> {
        self.admit_in(Flow::Autocommit)
    }

    /// Takes a permit while the flow is this one.
    #[inline]
    fn admit_in(&self, flow: Flow) -> Result<Epoch, Closed> {
        loop {
            let seen = self.word.load(Ordering::Relaxed);
            if seen & SHUT != flow.bits() {
                return Err(Closed(Left::Others));
            }
            let epoch = Epoch::of(seen);
            // Acquire pairs with the release of `turn`: what the command did is seen by whoever it
            // lets in.
            let before = self.word.fetch_add(epoch.one(), Ordering::Acquire);
            if before & SHUT == flow.bits() && Epoch::of(before) == epoch {
                return Ok(epoch);
            }
            // Taken too late: the gate was closed, or had been closed and opened again. If it is
            // closed now and somebody waits for this very permit, they must be told.
            match self.release(epoch) {
                Left::Others if before & SHUT == flow.bits() => {}
                left @ (Left::Others | Left::Nobody | Left::Turn | Left::NobodyOlder) => {
                    return Err(Closed(left));
                }
            }
        }
    }

    /// Takes a permit whatever the flow is. Only for who alone may turn it.
    pub fn admit_anyway(&self) -> Epoch {
        let epoch = Epoch::of(self.word.load(Ordering::Relaxed));
        self.word.fetch_add(epoch.one(), Ordering::Acquire);
        epoch
    }

    /// The same for who may be inside since before the first stage, if the gate is in one.
    pub fn admit_as_older(&self) -> Epoch {
        let seen = self.word.load(Ordering::Relaxed);
        let epoch = if seen & SHUT == SHUT {
            Epoch::of(seen).former()
        } else {
            Epoch::of(seen)
        };
        self.word.fetch_add(epoch.one(), Ordering::Acquire);
        epoch
    }

    /// Gives a permit back.
    #[inline]
    pub fn release(&self, epoch: Epoch) -> Left {
        // Release pairs with the acquire of `permits`: what the transaction did is seen by whoever
        // finds that none is left.
        let before = self.word.fetch_sub(epoch.one(), Ordering::Release);
        let after = before - epoch.one();
        match after & SHUT {
            PACED => Left::Turn,
            CLOSED if permits_in(after) == 0 => Left::Nobody,
            SHUT if older_in(after) == 0 && older_in(before) > 0 => Left::NobodyOlder,
            // Open, or others are inside.
            _ => Left::Others,
        }
    }

    /// Opens, paces or closes the gate; starts a new epoch where its slot is free.
    pub fn turn(&self, flow: Flow) {
        let mut seen = self.word.load(Ordering::Relaxed);
        loop {
            let epoch = Epoch::of(seen);
            let next = if epoch.next().count(seen) == 0 {
                epoch.next()
            } else {
                epoch
            };
            let counts = seen & ((1 << EPOCH_SHIFT) - 1);
            let word = flow.bits() | (u64::from(next.0) << EPOCH_SHIFT) | counts;
            match self
                .word
                .compare_exchange_weak(seen, word, Ordering::AcqRel, Ordering::Relaxed)
            {
                Ok(_) => return,
                Err(now) => seen = now,
            }
        }
    }

    /// Whether anybody may start a transaction now.
    #[inline]
    pub fn is_open(&self) -> bool {
        self.word.load(Ordering::Relaxed) & SHUT == 0
    }

    /// Whether permits are given in turn.
    pub fn is_paced(&self) -> bool {
        self.word.load(Ordering::Acquire) & SHUT == PACED
    }

    /// In the first stage, how many permits are out that are older than it; `None` in any other flow.
    /// Where the stage had to share a slot, those in it count as young: it may end sooner than it must.
    pub fn older(&self) -> Option<u32> {
        let seen = self.word.load(Ordering::Acquire);
        (seen & SHUT == SHUT).then(|| older_in(seen))
    }

    /// Permits that are out, of all epochs. Momentarily counts permits that are being taken back.
    pub fn permits(&self) -> u32 {
        permits_in(self.word.load(Ordering::Acquire))
    }
}

/// Permits of the epoch before the present one.
fn older_in(word: u64) -> u32 {
    Epoch::of(word).former().count(word)
}

fn permits_in(word: u64) -> u32 {
    Epoch(0).count(word) + Epoch(1).count(word)
}
