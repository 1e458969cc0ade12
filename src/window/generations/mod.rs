//! Two generations of pgdrain: the process that took over, and the former one with the sessions
//! that it still serves.
//!
//! The former process shows that it lives by a lock on `former.lock`, which the system releases
//! however it ends, and answers at `former.sock`. The newer one passes on to it what is asked of
//! traffic: holds, opening, cancel requests. Each keeps its own clock: should one of them die, the
//! holds of the other end by themselves.

mod ask;
mod former;
mod frozen;
mod together;

use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::{Mutex as AsyncMutex, MutexGuard as AsyncMutexGuard};

pub use ask::{Answer, AskError, FormerView, Question, ask};
pub use former::{Seat, is_ours, listen_privately};
pub use frozen::{Frozen, Standing};

/// The lock that the former process keeps as long as it lives.
const LOCK: &str = "former.lock";

/// Where the former process answers.
const SOCKET: &str = "former.sock";

/// What the newer process knows of the former one.
#[derive(Debug, Default)]
pub struct Generations {
    former: Mutex<Option<FormerView>>,
    /// Commands reach the former process in the order in which they were carried out here.
    order: AsyncMutex<()>,
}

/// Why something has to wait until the former process has ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the former process {pid} still serves {sessions} sessions since it was taken over: wait until \
     they have ended, or end it (kill {pid})"
)]
pub struct StillServed {
    /// The process.
    pub pid: u32,
    /// How many sessions it had when it was last asked.
    pub sessions: u64,
}

impl Generations {
    /// What the former process said last; `None` if there is none.
    pub fn former(&self) -> Option<FormerView> {
        self.view().clone()
    }

    /// By what is known: see `Controller::alone`.
    fn alone(&self) -> Result<(), StillServed> {
        match &*self.view() {
            Some(former) => Err(StillServed {
                pid: former.pid,
                sessions: former.sessions,
            }),
            None => Ok(()),
        }
    }

    /// Notes how the former process is, or that it has ended.
    pub fn note(&self, former: Option<FormerView>) {
        *self.view() = former;
    }

    pub(super) async fn order(&self) -> AsyncMutexGuard<'_, ()> {
        self.order.lock().await
    }

    fn view(&self) -> MutexGuard<'_, Option<FormerView>> {
        self.former.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a former process lives that works with this state directory.
///
/// # Errors
/// When the lock cannot be looked at.
pub fn former_lives(state_dir: &Path) -> io::Result<bool> {
    let lock = match File::open(state_dir.join(LOCK)) {
        Ok(lock) => lock,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    // Shared: two who look at once do not take one another for the former process.
    match lock.try_lock_shared() {
        Ok(()) => Ok(false),
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

fn socket(state_dir: &Path) -> PathBuf {
    state_dir.join(SOCKET)
}
