//! The integration tests: a file per promise, and what holds the architecture together.

#[allow(
    dead_code,
    reason = "the whole of a tool is kept, also between two tests that need it"
)]
mod support;

#[path = "../model/mod.rs"]
#[allow(dead_code, reason = "some of it is for the fuzz targets alone")]
mod model;

mod a_crash_is_a_case;
mod aborted_in_place;
mod aborted_in_place_races;
mod admission_under_loom;
mod audit;
mod auth_bound;
mod auth_query;
mod auth_rules;
mod auth_terminated;
mod boundary_model;
mod bypass_sessions;
mod cancel_bounds;
mod changed_results;
mod changed_results_deaths;
mod cluster_is_thrown_away;
mod command_line;
mod conversation_on_postgres;
mod demo;
mod drained_is_proved;
mod every_hold_ends;
mod every_version;
mod fence;
mod first_stage;
mod full_disk;
mod full_pipelines;
mod fuzz_corpus;
mod handover;
mod handover_fails;
mod handover_together;
mod held_clients;
mod held_knobs;
mod holds_at_boundaries;
mod hostile_input;
mod hostile_load;
mod known_state_followed;
mod known_state_proxy_killed;
mod known_state_refused;
mod known_state_restarted;
mod known_state_server_killed;
mod known_state_under_load;
mod known_state_window_end;
mod limits;
mod names_with_addresses;
mod no_one_gets_in;
mod nothing_grows_without_bound;
mod open_is_transparent;
mod pings_through_holds;
mod precheck;
mod proxy_protocol;
mod read_from_a_standby;
mod read_only_commands;
mod read_only_enforced;
mod read_only_entered;
mod read_only_list;
mod read_only_traffic;
mod read_only_under_load;
mod read_only_windows;
mod reopening;
mod replication_and_holds;
mod runner_applies;
mod runner_fails;
mod runner_stops;
mod runner_survives;
mod scopes;
mod servers_come_and_go;
mod socket_activation;
mod stops_and_reloads;
mod stops_are_bounded;
mod stuck_conversations;
mod support_works;
mod tidy;
mod tls_clients;
mod tls_quick_start;
mod tls_servers;
mod told_or_done;
mod twenty_holds_under_load;
mod vanished_clients;
mod window_commands;
mod windows_after_a_crash;
mod windows_and_bypass;
mod windows_for_anybody;
mod windows_under_kills;
mod wire_async;
mod wire_calls;
mod wire_cancel;
mod wire_copy;
mod wire_documented;
mod wire_large;
mod wire_pipelines;
mod wire_replication;
mod wire_servers;
mod wire_smuggling;
mod wire_startup;
mod wire_tools;
mod wire_versions;
