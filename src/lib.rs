//! pgdrain: a connection-draining Postgres wire proxy.

pub mod cli;

pub mod runner;
