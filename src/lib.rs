//! pgdrain: a connection-draining Postgres wire proxy.

pub mod session;
pub mod wire;
