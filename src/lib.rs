//! pgdrain: a connection-draining Postgres wire proxy.

/// Tracked tasks: started in one place, stopped as a known set.
pub mod tasks;
