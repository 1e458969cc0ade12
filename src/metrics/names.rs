//! Every metric's name, once, with its unit and what it tells.
//!
//! Labels are named where a metric has them; which values they take is bounded by `Metrics`.

use metrics::Unit;

/// What a metric counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Grows until the process ends.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Durations in seconds, in buckets.
    Histogram,
}

/// A metric as dashboards know it.
#[derive(Clone, Copy, Debug)]
pub struct Name {
    /// The name, `pgdrain_` in front and the unit at the end.
    pub name: &'static str,
    /// What it counts.
    pub kind: Kind,
    /// The unit of its value.
    pub unit: Unit,
    /// The names of its labels.
    pub labels: &'static [&'static str],
    /// What it tells, in a sentence.
    pub help: &'static str,
    /// The number of `GET /v1/status` that it is, if it is one: its keys, `[]` for each of a list.
    /// Milliseconds there are seconds here; a list of sessions is their count.
    pub in_status: &'static [&'static str],
}

/// Declares the names and the list of all of them.
macro_rules! names {
    ($($id:ident = $name:literal $kind:ident $unit:ident [$($label:literal),*] $help:literal
        $(is $($status:literal),+)?;)+) => {
        $(
            #[doc = $help]
            pub const $id: Name = Name {
                name: $name,
                kind: Kind::$kind,
                unit: Unit::$unit,
                labels: &[$($label),*],
                help: $help,
                in_status: &[$($($status),+)?],
            };
        )+

        /// Every metric.
        pub const ALL: &[Name] = &[$($id),+];
    };
}

names! {
    SESSIONS = "pgdrain_sessions" Gauge Count ["database"]
        "Clients that are connected and authenticated."
        is "databases[].sessions";
    HELD = "pgdrain_held" Gauge Count ["database"]
        "Clients whose next transaction waits, at whichever gate."
        is "databases[].held";
    HELD_IN_SCOPE = "pgdrain_held_in_scope" Gauge Count ["database", "scope"]
        "Clients whose next transaction waits at a hold on some clients."
        is "databases[].scopes[].held";
    PERMITS = "pgdrain_permits" Gauge Count ["database"]
        "Transactions that run."
        is "databases[].permits";
    MODE = "pgdrain_mode" Gauge Count ["database", "mode"]
        "1 for the mode that the database is in, 0 for the others.";
    TRANSACTIONS = "pgdrain_transactions_total" Counter Count ["database"]
        "Transactions that ended."
        is "databases[].transactions_total";
    BYTES = "pgdrain_bytes_total" Counter Bytes ["database", "direction"]
        "Bytes relayed, from clients (in) and to them (out)."
        is "databases[].bytes_in_total", "databases[].bytes_out_total";
    REFUSALS = "pgdrain_refusals_total" Counter Count ["sqlstate"]
        "Errors that clients got from pgdrain itself.";
    LIMITED = "pgdrain_limited_total" Counter Count ["limit"]
        "Clients turned away or ended by a limit, by the name of its key.";
    HOLD_DURATION = "pgdrain_hold_duration_seconds" Histogram Seconds []
        "How long a database was held, from the hold to its end.";
    HELD_WAIT = "pgdrain_held_wait_seconds" Histogram Seconds []
        "How long one client waited at the gate.";
    DRAIN_DURATION = "pgdrain_drain_duration_seconds" Histogram Seconds []
        "From the hold to the proof that nothing runs.";
    WORKER_TASKS = "pgdrain_worker_tasks" Gauge Count ["worker"]
        "What runs on a worker thread: its sessions, and on the first also what takes new ones.";
    MIGRATION_DURATION = "pgdrain_migration_duration_seconds" Histogram Seconds []
        "How long runs of migrations took, from preflight to report.";
    MIGRATIONS_PENDING = "pgdrain_migrations_pending" Gauge Count ["database"]
        "Migrations that would be applied, when a run or a status last looked; NaN if it is not known.";
    MIGRATIONS_DIRTY = "pgdrain_migrations_dirty" Gauge Count ["database"]
        "Migrations that stopped part-way or still run, when it was last looked.";
    DATABASE_SIZE = "pgdrain_database_size_bytes" Gauge Bytes ["database"]
        "Size of the database, when it was last looked.";
    DATABASE_CONNECTIONS = "pgdrain_database_connections" Gauge Count ["database"]
        "Connections to the database, however they came, when it was last looked.";
    SCHEMA_CHECKSUM = "pgdrain_schema_checksum" Gauge Count ["database"]
        "The first 48 bits of the checksum of the schema: another number is another schema.";
    FOREIGN_KEYS_NOT_VALIDATED = "pgdrain_foreign_keys_not_validated" Gauge Count ["database"]
        "Foreign keys that are NOT VALID, when it was last looked.";
    CONNECTIONS = "pgdrain_connections_total" Counter Count []
        "Clients that were accepted, whatever became of them.";
    SERVER_CONNECT_FAILURES = "pgdrain_server_connect_failures_total" Counter Count []
        "Clients that were refused because no server could be reached.";
    BUILD_INFO = "pgdrain_build_info" Gauge Count ["version"]
        "1 for the version that runs.";
    START_TIME = "pgdrain_start_time_seconds" Gauge Seconds []
        "When pgdrain started, in seconds since 1970; `time()` less this is how long it has run."
        is "uptime_ms";
    FORMER_SESSIONS = "pgdrain_former_sessions" Gauge Count []
        "Sessions that the process still serves from which this one took over; 0 if there is none."
        is "former.sessions";
    CONNECTIONS_LIMIT = "pgdrain_connections_limit" Gauge Count []
        "The most clients that are let in, limits.connections.";
    HELD_LIMIT = "pgdrain_held_limit" Gauge Count []
        "The most clients that may wait in one database, hold.clients_max.";
    IN_TRANSACTION = "pgdrain_in_transaction" Gauge Count ["database"]
        "Clients that are inside a transaction."
        is "databases[].in_transaction";
    OLDEST_WAIT = "pgdrain_oldest_wait_seconds" Gauge Seconds ["database"]
        "How long the longest of those that wait has waited; 0 if nobody waits."
        is "databases[].oldest_wait_ms";
    HOLD_AGE = "pgdrain_hold_age_seconds" Gauge Seconds ["database", "holder"]
        "How long a hold has lasted; 0 if this holder (operator, everywhere, window) holds nothing."
        is "databases[].holds[].since";
    HOLD_LEFT = "pgdrain_hold_left_seconds" Gauge Seconds ["database", "holder"]
        "What is left until a hold's own end; NaN if there is no hold, or no such end."
        is "databases[].holds[].until";
    HOLD_OVERDUE = "pgdrain_hold_overdue" Gauge Count ["database", "holder"]
        "1 if the end of a hold has passed and it stays."
        is "databases[].holds[].overdue";
    HOLD_STAYS = "pgdrain_hold_stays" Gauge Count ["database"]
        "1 if traffic stays held after a window until somebody has looked."
        is "databases[].holds[].stays";
    DRAIN_AGE = "pgdrain_drain_age_seconds" Gauge Seconds ["database"]
        "How long the drain under way has lasted; 0 if none is."
        is "databases[].holds[].drain.held_at";
    DRAIN_SESSIONS = "pgdrain_drain_sessions" Gauge Count ["database", "what"]
        "Sessions that the drains of the present holds name, by what they are to them; of what is done to \
         sessions that did not come through pgdrain, what is bypass."
        is "databases[].holds[].drain.waited_for", "databases[].holds[].drain.in_the_way",
           "databases[].holds[].drain.cancelled", "databases[].holds[].drain.freed",
           "databases[].holds[].drain.aborted", "databases[].holds[].drain.terminated",
           "databases[].holds[].drain.bypass", "databases[].holds[].drain.exempt",
           "databases[].holds[].drain.pending", "databases[].holds[].drain.not_enforced",
           "databases[].holds[].drain.obstacles";
    READ_ONLY_SESSIONS = "pgdrain_read_only_sessions" Gauge Count ["database", "enforcement"]
        "Sessions of a read-only database: those whose writes the server refuses (enforced), does not refuse \
         yet (pending), and those that no hold stops (exempt)."
        is "databases[].holds[].enforcement.enforced", "databases[].holds[].enforcement.pending",
           "databases[].holds[].enforcement.exempt", "databases[].holds[].drain.enforced";
    OLDEST_WAIT_IN_SCOPE = "pgdrain_oldest_wait_in_scope_seconds" Gauge Seconds ["database", "scope"]
        "How long the longest of those has waited that wait at a hold on some clients."
        is "databases[].scopes[].oldest_wait_ms";
    PERMITS_IN_SCOPE = "pgdrain_permits_in_scope" Gauge Count ["database", "scope"]
        "Transactions that run of clients for whom a hold on some clients is."
        is "databases[].scopes[].permits";
    CAP = "pgdrain_cap_transactions" Gauge Count ["database"]
        "The most transactions at once; 0 if that is not capped."
        is "databases[].cap.transactions";
    CAP_LEFT = "pgdrain_cap_left_seconds" Gauge Seconds ["database"]
        "What is left until the end of a cap; NaN if there is none."
        is "databases[].cap.until";
    FENCE_PARKED = "pgdrain_fence_parked" Gauge Count ["database"]
        "Logins that wait in front of a fence; NaN if there is none."
        is "databases[].fence.parked";
    FENCE_LIMIT = "pgdrain_fence_former_limit" Gauge Count ["database"]
        "The connection limit that comes back when a fence goes, -1 for none; NaN if there is no fence."
        is "databases[].fence.former_limit";
    MIGRATION_RUNNING = "pgdrain_migration_running" Gauge Count ["database"]
        "1 while a migration runs."
        is "databases[].migration";
    WINDOW = "pgdrain_window" Gauge Count ["database", "state"]
        "Windows that are not over, by where they stand.";
    WINDOW_LEFT = "pgdrain_window_left_seconds" Gauge Seconds ["database"]
        "What is left of the time of the window for which traffic is held; NaN if there is none.";
    WINDOW_LEASE_LEFT = "pgdrain_window_lease_left_seconds" Gauge Seconds ["database"]
        "What is left of its lease, if nobody renews it; NaN if there is none.";
    WINDOW_CONNECTIONS = "pgdrain_window_connections" Gauge Count ["database"]
        "Connections that work in the window.";
    MIGRATIONS_ENDED = "pgdrain_migrations_ended_total" Counter Count ["state"]
        "Runs of migrations that ended, by the state in which: succeeded, failed, cancelled, dirty, unknown.";
    RELOADS = "pgdrain_config_reloads_total" Counter Count ["outcome"]
        "Times that the configuration was read again: taken, or refused because of a mistake.";
    RESTART_PENDING = "pgdrain_config_restart_pending" Gauge Count []
        "Keys that the last reload changed and that need a restart.";
    ACCESS_REFUSED = "pgdrain_access_refused_total" Counter Count ["reason"]
        "Requests to the admin HTTP, and logins of the console, that were refused because of who asked.";
    CERTIFICATE_ENDS = "pgdrain_certificate_expiry_timestamp_seconds" Gauge Seconds ["certificate"]
        "When a certificate in use ends, the first of its chain, by the key that names it; NaN if it is not \
         in use any more.";
    TOKEN_ENDS = "pgdrain_token_expiry_timestamp_seconds" Gauge Seconds ["token"]
        "When a token of the admin HTTP ends; NaN if it is gone. One without an end is not shown.";
    CONSOLE_VISITORS = "pgdrain_console_visitors" Gauge Count []
        "Who is in the psql console.";
    TRACE_SPANS = "pgdrain_trace_spans_total" Counter Count ["outcome"]
        "Spans of windows and migrations that the collector took (sent), or that were dropped because it did \
         not, or not in time.";
    MEASURING_LEFT = "pgdrain_measuring_left_seconds" Gauge Seconds ["database"]
        "How long statements are still measured; NaN while they are not.";
    MEASURED = "pgdrain_measured_seconds" Gauge Seconds ["database", "quantile"]
        "What the timed units took, since measuring was begun; NaN while it is off.";
    MEASURED_ERRORS = "pgdrain_measured_errors" Gauge Count ["database"]
        "Errors that clients were told, since measuring was begun; NaN while it is off.";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_conventions_of_prometheus() {
        for metric in ALL {
            let Name {
                name, kind, unit, ..
            } = metric;
            assert!(name.starts_with("pgdrain_"), "{name}");
            assert_eq!(*kind == Kind::Counter, name.ends_with("_total"), "{name}");
            assert_eq!(*unit == Unit::Seconds, name.ends_with("_seconds"), "{name}");
            assert!(metric.help.ends_with('.'), "{name}");
            assert_eq!(
                ALL.iter().filter(|other| other.name == *name).count(),
                1,
                "{name}"
            );
        }
    }
}
