//! The integration tests: a file per promise, and what holds the architecture together.

#[allow(
    dead_code,
    reason = "the whole of a tool is kept, also between two tests that need it"
)]
mod support;

mod cluster_is_thrown_away;
mod command_line;
mod support_works;
mod tidy;
