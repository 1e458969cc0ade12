//! Ending what still runs behind a closed gate, and proving that nothing does.
//!
//! *Drained* is said only when no permit is out **and** the server itself shows none of our
//! sessions in a transaction, those included whose connection we closed. What is not known is never
//! taken for zero.
//!
//! A hold that lets reads in is *entered* in the same way: no permit is out that is older than it, the
//! server refuses writes of every session or the session is named, and a write that is tried is refused.

pub mod bypass;
mod entering;
pub mod escalation;
pub mod execute;
pub mod probe;
mod proof;
pub mod report;
pub mod single;

pub use entering::take_readers;
pub use proof::with_causes;

use crate::config::{Bypass, Scope};
use crate::server::control::Control;
use crate::session::registry::Sessions;

/// Forgets connections that we closed and that the server has forgotten too.
pub async fn forget_departed(database: &str, sessions: &Sessions, control: &Control) {
    // Looking is what forgets.
    let scope = Scope::default();
    let all = (&scope, proof::About::All);
    proof::look(database, all, sessions, control, Bypass::Ignore).await;
}
