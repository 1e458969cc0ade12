//! Ending what still runs behind a closed gate, and proving that nothing does.
//!
//! *Drained* is said only when no permit is out **and** the server itself shows none of our
//! sessions in a transaction, those included whose connection we closed. What is not known is never
//! taken for zero.

pub mod bypass;
pub mod escalation;
pub mod execute;
mod proof;
pub use proof::with_causes;
pub mod report;

use crate::config::{Bypass, Scope};
use crate::server::control::Control;
use crate::session::registry::Sessions;

/// Forgets connections that we closed and that the server has forgotten too.
pub async fn forget_departed(database: &str, sessions: &Sessions, control: &Control) {
    // Looking is what forgets.
    let scope = Scope::default();
    proof::look(database, &scope, sessions, control, Bypass::Ignore).await;
}
