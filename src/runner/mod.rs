//! The runner: applies and reverts migration files.

mod class;
pub mod script;
pub mod source;
pub mod split;

pub use class::Class;
