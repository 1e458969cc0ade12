//! The integration tests: a file per promise, and what holds the architecture together.

#[allow(
    dead_code,
    reason = "the whole of a tool is kept, also between two tests that need it"
)]
mod support;

mod cluster_is_thrown_away;
mod command_line;
mod hostile_input;
mod known_state_followed;
mod known_state_proxy_killed;
mod known_state_refused;
mod known_state_restarted;
mod known_state_server_killed;
mod known_state_under_load;
mod known_state_window_end;
mod open_is_transparent;
mod runner_applies;
mod runner_fails;
mod runner_stops;
mod runner_survives;
mod support_works;
mod tidy;
