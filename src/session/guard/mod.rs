//! What of a client's conversation may start while its gates want it to read only. Pure: what the
//! client sent and where its conversation stands go in, what is to be done comes out.
//!
//! A client's **unit** is looked at as a whole (`unit`): a Query, or extended messages up to their Sync
//! or Flush. What is known of statements that were prepared before is kept in `names`. The table of
//! `decide` says what becomes of the unit, and `answers` are those that are given in the server's stead:
//! a `BEGIN` is answered and sent later, so that a transaction that writes first waits with nothing open
//! at the server.

pub(super) mod answers;
mod batch;
mod block;
pub(super) mod decide;
pub(super) mod names;
pub(super) mod unit;

#[cfg(test)]
mod tests;

pub(super) use self::block::{Block, Deferred};
