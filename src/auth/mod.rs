//! How a client comes to be trusted: by the server, or by us.
//!
//! Passed through, the client proves itself to the server and we watch. Terminated, it proves
//! itself to us (`verify`), and what it showed lets us prove ourselves to the server (`prove`).

use crate::config::Secret;

mod md5;
mod messages;
pub mod passthrough;
pub mod prove;
pub mod rules;
pub mod scram;
#[cfg(test)]
mod tests;
pub mod users;
pub mod verify;

/// What a client showed us, as far as it can be shown to the server in turn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Proof {
    /// The keys of its password, by SCRAM.
    Keys(scram::Keys),
    /// The password itself.
    Password(Secret),
    /// The MD5 hash of its password, as a server keeps it.
    Md5Hash(Secret),
    /// Nothing of that kind.
    Nothing,
}
