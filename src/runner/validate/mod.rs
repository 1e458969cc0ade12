//! What a file must leave as it was, looked at before its commit: grants, owners, row security,
//! policies and views, but for what its own statements are about; constraints and indexes that count.
//!
//! ```text
//! statements, -- pgdrain:changes ─► Declared ─┐
//! catalogs before ─► Picture ─────────────────┼─► what was changed without a word
//! catalogs after  ─► Picture ─────────────────┘
//! ```
//!
//! Names count: where a table is renamed and a view takes its name, the view is held against what the
//! table was. Only catalogs are read, most of them raw: definitions as the server prints them are asked
//! for only of what a file touches, since they wait behind whoever alters a table.

mod compare;
mod declared;
mod picture;

pub(super) use compare::{Problem, compare};
pub(super) use declared::Declared;
pub(super) use picture::{Picture, touched};
