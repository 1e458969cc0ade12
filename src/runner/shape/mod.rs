//! What a statement does, in our own words: the one place that knows squawk's syntax tree.
//!
//! A statement becomes [`Act`]s: one for each action of an `ALTER TABLE`, one for each dropped
//! table, one for each function that a query calls. What is not understood becomes
//! [`Kind::Unknown`], which everybody takes for the worst. Nothing here asks a database.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "the list of node kinds is the grammar's and grows with it"
)]

mod granted;
mod guard;
mod kind;
mod name;
mod read;
mod table;
mod tree;

pub use granted::{Granted, granted};
pub use guard::is_readable;
pub use kind::{Act, ConstraintKind, Dropped, Kind, NewColumn, NewConstraint, ObjectKind, Renamed};
pub use name::Name;
pub(super) use name::quote;
pub use read::read;
