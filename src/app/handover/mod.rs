//! Restart without losing clients: one process hands its listening sockets and its journal to the
//! next, and serves the sessions that it has until they end.
//!
//! ```text
//!   newer                                   former (until then the only one)
//!     │ hello ─────────────────────────────► refuses while a window is open, or a migration runs,
//!     │                                      or its own former process still lives
//!     │ ◄───────── offer, with every socket
//!     │ opens what else it needs
//!     │ ready ─────────────────────────────► stops the journal, accepts nobody
//!     │ ◄───────────────────────────── yours
//!     │ takes up the journal, accepts
//!     │ serving ───────────────────────────► closes its copies of the sockets
//!     │ ◄────────────────────────────── over
//! ```
//!
//! A listening socket is never closed by both, so nobody in the kernel's queue is lost. Until
//! *serving* the former process goes on as before if the newer one fails; from *offer* on the newer
//! one has all it needs if the former one dies.

mod give;
mod take;
mod talk;

pub(super) use give::Succession;
pub(super) use take::{Found, Taking};

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::client::inherited::Inherited;

/// Where the serving process listens for one that takes over.
fn socket(state_dir: &Path) -> PathBuf {
    state_dir.join("handover.sock")
}

/// How long either waits for what the other does at once.
const AT_ONCE: Duration = Duration::from_secs(10);

/// How long the newer process may take to open what it needs, and then to serve.
const GET_READY: Duration = Duration::from_secs(60);

/// How `pgdrain serve` begins.
#[derive(Debug, Default)]
pub struct Start {
    /// Sockets that listen already: systemd's.
    pub sockets: Inherited,
    /// Whether to take over from a process that serves already.
    pub take_over: bool,
    /// How long that process may go on serving its sessions.
    pub old_for: Option<Duration>,
}
