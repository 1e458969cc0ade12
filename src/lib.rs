//! pgdrain: a connection-draining Postgres wire proxy.

pub mod runner;
