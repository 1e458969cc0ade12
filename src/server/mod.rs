//! Our connections to Postgres: for sessions, for cancel requests, and to watch it.

pub mod cancel;
pub mod connect;
pub mod control;
pub mod driver;
pub mod lookup;
pub mod own;
