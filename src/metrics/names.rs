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
}

/// Declares the names and the list of all of them.
macro_rules! names {
    ($($id:ident = $name:literal $kind:ident $unit:ident [$($label:literal),*] $help:literal;)+) => {
        $(
            #[doc = $help]
            pub const $id: Name = Name {
                name: $name,
                kind: Kind::$kind,
                unit: Unit::$unit,
                labels: &[$($label),*],
                help: $help,
            };
        )+

        /// Every metric.
        pub const ALL: &[Name] = &[$($id),+];
    };
}

names! {
    SESSIONS = "pgdrain_sessions" Gauge Count ["database"]
        "Clients that are connected and authenticated.";
    HELD = "pgdrain_held" Gauge Count ["database"]
        "Clients whose next transaction waits, at whichever gate.";
    HELD_IN_SCOPE = "pgdrain_held_in_scope" Gauge Count ["database", "scope"]
        "Clients whose next transaction waits at a hold on some clients.";
    PERMITS = "pgdrain_permits" Gauge Count ["database"]
        "Transactions that run.";
    MODE = "pgdrain_mode" Gauge Count ["database", "mode"]
        "1 for the mode that the database is in, 0 for the others.";
    TRANSACTIONS = "pgdrain_transactions_total" Counter Count ["database"]
        "Transactions that ended.";
    BYTES = "pgdrain_bytes_total" Counter Bytes ["database", "direction"]
        "Bytes relayed, from clients (in) and to them (out).";
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
