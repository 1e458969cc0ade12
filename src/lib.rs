//! pgdrain: a connection-draining Postgres wire proxy.

pub mod admin;
pub mod app;
pub mod audit;
pub mod auth;
pub mod cli;
pub mod client;
pub mod clock;
pub mod config;
pub mod drain;
pub mod faults;
pub mod gate;
pub mod logging;
pub mod metrics;
pub mod runner;
pub mod server;
pub mod session;
pub mod tasks;
pub mod tls;
pub mod window;
pub mod wire;
