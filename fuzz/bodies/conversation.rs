//! Whole conversations, by a script: what the proxy knows of a transaction is what is so.

use crate::model::{relayed, tracked};

/// # Panics
/// When it is not.
pub(crate) fn run(script: &[u8]) {
    let _ = tracked::play(script);
    relayed::play(script);
}
