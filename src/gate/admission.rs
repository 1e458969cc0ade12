//! One atomic word that says whether a transaction may start, and counts those that did.
//!
//! ```text
//!   63       62      61      60 ........ 48   47 ......... 24   23 .......... 0
//!   closed   paced   reads   epoch (13 bit)   permits of odd     permits of even
//!                                             epochs             epochs
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
//! A gate in its first stage is closed and paced: who says that he begins no transaction block takes a permit
//! as at an open gate, and nobody else does. Such a stage is an epoch of its own where its slot is free,
//! so that those who began before it are counted for themselves.
//!
//! A gate that is read-only has the bit of its own: who says that he only reads takes a permit as at an
//! open gate, and nobody else does. It is an epoch of its own in the same way.
//!
//! `crate::gate::sync` provides the atomic: the standard one here, loom's in the test that tries
//! the interleavings.

use super::sync::{AtomicU64, Ordering};

const CLOSED: u64 = 1 << 63;
const PACED: u64 = 1 << 62;
const READS: u64 = 1 << 61;
const AUTOCOMMIT: u64 = CLOSED | PACED;
/// The bits of the flow.
const FLOW: u64 = CLOSED | PACED | READS;
const EPOCH_SHIFT: u32 = 48;
const EPOCH_MASK: u64 = 0x1fff;
const SLOT_BITS: u32 = 24;
const SLOT_MASK: u64 = (1 << SLOT_BITS) - 1;

/// Which permits are meant: advances with every command to the gate, modulo 2^13.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Epoch(u16);

impl Epoch {
    fn of(word: u64) -> Epoch {
        // Masked to 13 bits.
        Epoch(((word >> EPOCH_SHIFT) & EPOCH_MASK) as u16)
    }

    fn next(self) -> Epoch {
        Epoch((self.0 + 1) & 0x1fff)
    }

    /// The one before; its slot is the other one.
    fn former(self) -> Epoch {
        Epoch(self.0.wrapping_sub(1) & 0x1fff)
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
    /// The gate is in its first stage or read-only, and this was the last permit older than that.
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
    /// Anybody who only reads.
    ReadOnly,
    /// Nobody.
    Closed,
}

impl Flow {
    fn bits(self) -> u64 {
        match self {
            Flow::Open => 0,
            Flow::Paced => PACED,
            Flow::Autocommit => AUTOCOMMIT,
            Flow::ReadOnly => READS,
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
        self.admit_where(FLOW, Flow::Open)
    }

    /// The same in the first stage, for a transaction that begins no block.
    pub fn admit_autocommit(&self) -> Result<Epoch, Closed> {
        self.admit_where(FLOW, Flow::Autocommit)
    }

    /// The same for a transaction that only reads, where the gate is read-only or open.
    #[inline]
    pub fn admit_read(&self) -> Result<Epoch, Closed> {
        self.admit_where(FLOW & !READS, Flow::Open)
    }

    /// Takes a permit while the bits of the flow that matter are those of this one.
    #[inline]
    fn admit_where(&self, matter: u64, flow: Flow) -> Result<Epoch, Closed> {
        loop {
            let seen = self.word.load(Ordering::Relaxed);
            if seen & matter != flow.bits() {
                return Err(Closed(Left::Others));
            }
            let epoch = Epoch::of(seen);
            // Acquire pairs with the release of `turn`: what the command did is seen by whoever it
            // lets in.
            let before = self.word.fetch_add(epoch.one(), Ordering::Acquire);
            if before & matter == flow.bits() && Epoch::of(before) == epoch {
                return Ok(epoch);
            }
            // Taken too late: the gate was closed, or had been closed and opened again. If it is
            // closed now and somebody waits for this very permit, they must be told.
            match self.release(epoch) {
                Left::Others if before & matter == flow.bits() => {}
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

    /// The same for who may be inside since before the gate was in its first stage or read-only.
    pub fn admit_as_older(&self) -> Epoch {
        let seen = self.word.load(Ordering::Relaxed);
        let epoch = if counts_older(seen) {
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
        match after & FLOW {
            PACED => Left::Turn,
            CLOSED if permits_in(after) == 0 => Left::Nobody,
            AUTOCOMMIT | READS if older_in(after) == 0 && older_in(before) > 0 => Left::NobodyOlder,
            // Open, or others are inside.
            _ => Left::Others,
        }
    }

    /// Opens, paces or closes the gate; starts a new epoch where its slot is free, and says whether it was.
    pub fn turn(&self, flow: Flow) -> bool {
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
                Ok(_) => return next != epoch,
                Err(now) => seen = now,
            }
        }
    }

    /// Whether anybody may start a transaction now.
    #[inline]
    pub fn is_open(&self) -> bool {
        self.word.load(Ordering::Relaxed) & FLOW == 0
    }

    /// Whether permits are given in turn.
    pub fn is_paced(&self) -> bool {
        self.word.load(Ordering::Acquire) & FLOW == PACED
    }

    /// Whether those alone may start that only read.
    #[inline]
    pub fn is_read_only(&self) -> bool {
        self.word.load(Ordering::Acquire) & FLOW == READS
    }

    /// Whether those alone may start that begin no block.
    pub fn is_autocommit(&self) -> bool {
        self.word.load(Ordering::Acquire) & FLOW == AUTOCOMMIT
    }

    /// In the first stage, and while the gate is read-only, how many permits are out that are older;
    /// `None` in any other flow. Where the epoch had to share a slot, those in it count as young.
    pub fn older(&self) -> Option<u32> {
        let seen = self.word.load(Ordering::Acquire);
        counts_older(seen).then(|| older_in(seen))
    }

    /// Permits that are out, of all epochs. Momentarily counts permits that are being taken back.
    pub fn permits(&self) -> u32 {
        permits_in(self.word.load(Ordering::Acquire))
    }
}

/// Whether the flow is one in which older permits are counted apart.
fn counts_older(word: u64) -> bool {
    matches!(word & FLOW, AUTOCOMMIT | READS)
}

/// Permits of the epoch before the present one.
fn older_in(word: u64) -> u32 {
    Epoch::of(word).former().count(word)
}

fn permits_in(word: u64) -> u32 {
    Epoch(0).count(word) + Epoch(1).count(word)
}
