//! pgdrain: a connection-draining Postgres wire proxy.

pub mod admin;
pub mod app;
pub mod cli;
pub mod config;
pub mod logging;
pub mod metrics;
pub mod runner;
pub mod tasks;
