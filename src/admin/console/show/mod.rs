//! What `SHOW` shows: each word with its columns, and where its rows come from.
//!
//! Where PgBouncer has the word, columns have its names, order and types (those of 1.18, read from its
//! answers), so that what reads them reads ours. What pgdrain does not know is null.

mod closer;
mod configuration;
mod ours;
mod people;
mod pgbouncer;
mod traffic;

use super::complaint::Complaint;
use super::desk::Desk;
use super::value::{Column, Row, int, long, numeric, text};
use crate::admin::api::{Api, Databases};
use crate::admin::caller::Caller;
use crate::admin::types::{Sessions, SessionsQuery};

/// Declares what can be shown: the word, whether it may be about one thing, its columns, what it is.
macro_rules! shown {
    ($($(#[$meaning:meta])* $variant:ident = $word:literal $about:literal $argument:literal [$($column:expr),+ $(,)?];)+) => {
        /// What can be shown.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(super) enum What {
            $($variant,)+
        }

        impl What {
            /// Every word, in lower case.
            pub(super) const WORDS: [&'static str; [$($word),+].len()] = [$($word),+];

            /// Everything, as the help lists it.
            pub(super) const ALL: [What; Self::WORDS.len()] = [$(What::$variant),+];

            /// Its word.
            pub(super) fn word(self) -> &'static str {
                match self { $(What::$variant => $word,)+ }
            }

            /// What it shows.
            pub(super) fn about(self) -> &'static str {
                match self { $(What::$variant => $about,)+ }
            }

            /// What it may be followed by.
            pub(super) fn argument(self) -> &'static str {
                match self { $(What::$variant => $argument,)+ }
            }

            /// The columns of its table.
            pub(super) fn columns(self) -> &'static [Column] {
                match self {
                    $(What::$variant => {
                        const COLUMNS: &[Column] = &[$($column),+];
                        COLUMNS
                    })+
                }
            }
        }
    };
}

shown! {
    Help = "help" "This list." "" [text("command"), text("about")];
    Status = "status" "Every database: mode, sessions, who waits." "[db]" [
        text("database"), text("mode"), int("sessions"), int("in_transaction"), int("held"),
        text("oldest_wait"), int("cap"), text("fence"), text("migration"), text("until"),
    ];
    Holds = "holds" "Who holds what, since when, until when, why, and how the drain goes." "[db]" [
        text("database"), text("scope"), text("mode"), text("holder"), text("by"), text("reason"),
        text("since"), text("until"), text("then"), int("held"), text("oldest_wait"), text("drain"),
        text("step"), text("detail"),
    ];
    Blockers = "blockers" "Who is in the way of a drain; without a drain, who is in a transaction." "[db]" [
        text("database"), int("pid"), text("user"), text("application_name"), text("client"),
        text("state"), text("transaction_age"), text("came"),
    ];
    Sessions = "sessions" "Clients, what they do, and their number for other commands." "[db]" [
        long("id"), int("pid"), text("database"), text("user"), text("application_name"),
        text("client"), text("state"), text("transaction_age"), text("held"), long("transactions"),
        text("window"),
    ];
    Windows = "windows" "Maintenance windows and where they stand." "[db]" [
        text("id"), text("database"), text("mode"), text("state"), text("by"), text("reason"),
        text("since"), text("left"), text("lease_left"), int("drained_percent"), int("held"),
        int("connections"), text("detail"),
    ];
    Migrations = "migrations" "Runs of migrations that are remembered." "[db]" [
        text("id"), text("database"), text("direction"), text("state"), text("started_at"),
        text("by"), int("exit_code"),
    ];
    /// One of them.
    Migration = "migration" "A migration, step by step." "id" [
        long("seq"), text("at"), text("kind"), text("text"),
    ];
    Approvals = "approvals" "Which plans are approved, as whom, by whom." "db" [
        long("id"), text("plan"), text("role"), text("by"), text("at"), text("expires_at"),
        text("standing"), text("reason"),
    ];
    Running = "running" "What sessions run that are in a transaction, and what it waits for." "db" [
        long("id"), int("pid"), text("user"), text("application_name"), text("client"),
        text("state"), text("transaction_age"), text("runs"), text("waits_for"),
        text("blocked_by"), text("statement"),
    ];
    Statements = "statements" "What statements take, while they are measured (MEASURE db FOR 10m)." "db" [
        long("timed"), text("mean"), text("p50"), text("p99"), text("errors"), text("fingerprint"),
        text("statement"),
    ];
    Pace = "pace" "The last minutes: transactions, how long the oldest had run, who waited." "db" [
        text("ago"), int("running"), text("longest"), int("waiting"), numeric("transactions"),
    ];
    Events = "events" "What was done to traffic, by whom; the last 50 or as many as are asked for." "[n]" [
        long("id"), text("at"), text("event"), text("database"), text("by"), text("from"),
        text("before"), text("after"), text("outcome"), text("reason"),
    ];
    Precheck = "precheck" "What would stand in the way of holding a database now." "db" [
        text("finding"), text("blocks"), text("what"), text("owner"), text("age"), text("gentle"),
        text("firm"), text("force"),
    ];
    Databases = "databases" "As in PgBouncer." "" [
        text("name"), text("host"), int("port"), text("database"), text("force_user"),
        int("pool_size"), int("min_pool_size"), int("reserve_pool"), text("pool_mode"),
        int("max_connections"), int("current_connections"), int("paused"), int("disabled"),
    ];
    Pools = "pools" "As in PgBouncer: clients and server connections of each database and user." "" [
        text("database"), text("user"), int("cl_active"), int("cl_waiting"),
        int("cl_active_cancel_req"), int("cl_waiting_cancel_req"), int("sv_active"),
        int("sv_active_cancel"), int("sv_being_canceled"), int("sv_idle"), int("sv_used"),
        int("sv_tested"), int("sv_login"), int("maxwait"), int("maxwait_us"), text("pool_mode"),
    ];
    Clients = "clients" "As in PgBouncer; id is for KILL_CLIENT and CANCEL|ABORT|TERMINATE SESSION." "" [
        text("type"), text("user"), text("database"), text("state"), text("addr"), int("port"),
        text("local_addr"), int("local_port"), text("connect_time"), text("request_time"),
        int("wait"), int("wait_us"), int("close_needed"), text("ptr"), text("link"),
        int("remote_pid"), text("tls"), text("application_name"), int("id"),
    ];
    Servers = "servers" "As in PgBouncer." "" [
        text("type"), text("user"), text("database"), text("state"), text("addr"), int("port"),
        text("local_addr"), int("local_port"), text("connect_time"), text("request_time"),
        int("wait"), int("wait_us"), int("close_needed"), text("ptr"), text("link"),
        int("remote_pid"), text("tls"), text("application_name"), int("id"),
    ];
    Stats = "stats" "As in PgBouncer: totals, and averages over the last minute." "" [
        text("database"), numeric("total_xact_count"), numeric("total_query_count"),
        numeric("total_received"), numeric("total_sent"), numeric("total_xact_time"),
        numeric("total_query_time"), numeric("total_wait_time"), numeric("avg_xact_count"),
        numeric("avg_query_count"), numeric("avg_recv"), numeric("avg_sent"),
        numeric("avg_xact_time"), numeric("avg_query_time"), numeric("avg_wait_time"),
    ];
    StatsTotals = "stats_totals" "As in PgBouncer." "" [
        text("database"), numeric("xact_count"), numeric("query_count"),
        numeric("bytes_received"), numeric("bytes_sent"), numeric("xact_time"),
        numeric("query_time"), numeric("wait_time"),
    ];
    StatsAverages = "stats_averages" "As in PgBouncer." "" [
        text("database"), numeric("xact_count"), numeric("query_count"),
        numeric("bytes_received"), numeric("bytes_sent"), numeric("xact_time"),
        numeric("query_time"), numeric("wait_time"),
    ];
    Totals = "totals" "As in PgBouncer: all databases together." "" [text("name"), numeric("value")];
    Lists = "lists" "As in PgBouncer: how many there are of what." "" [text("list"), int("items")];
    Users = "users" "As in PgBouncer: users that are connected." "" [text("name"), text("pool_mode")];
    Config = "config" "Settings: PgBouncer's names where it has them, then pgdrain's own; no secrets." "" [
        text("key"), text("value"), text("default"), text("changeable"),
    ];
    Mem = "mem" "As in PgBouncer: what takes memory." "" [
        text("name"), int("size"), int("used"), int("free"), int("memtotal"),
    ];
    State = "state" "As in PgBouncer: whether everything is paused." "" [text("key"), text("value")];
    Version = "version" "The version of pgdrain." "" [text("version")];
}

impl What {
    /// What a word stands for, in any case.
    pub(super) fn named(word: &str) -> Option<What> {
        let mut all = What::ALL.into_iter();
        all.find(|what| what.word().eq_ignore_ascii_case(word))
    }

    /// Whether it is about one thing, which has to be named.
    pub(super) fn needs_argument(self) -> bool {
        self.takes_argument() && !self.argument().starts_with('[')
    }

    /// Whether it may be about one thing alone.
    pub(super) fn takes_argument(self) -> bool {
        !self.argument().is_empty()
    }
}

/// The rows of a table.
pub(super) async fn rows<A: Api>(
    desk: &Desk<A>,
    caller: &Caller,
    what: What,
    argument: Option<&str>,
) -> Result<Vec<Row>, Complaint> {
    let databases = match argument {
        None | Some("*") => Databases::All,
        Some(name) => Databases::One(name.to_owned()),
    };
    let only = argument.filter(|name| *name != "*");
    // Where one has to be named, the parser saw to it.
    let named = argument.unwrap_or_default();
    Ok(match what {
        What::Help => ours::help(),
        What::Status => ours::status(&desk.api.status().await, only),
        What::Holds => ours::holds(&desk.api.status().await, only),
        What::Blockers => {
            let sessions = sessions(desk, databases).await?;
            ours::blockers(&desk.api.status().await, &sessions, only)
        }
        What::Sessions => people::sessions(&sessions(desk, databases).await?),
        What::Windows => ours::windows(&desk.api.windows(databases).await),
        What::Migrations => migrations(desk, only).await?,
        What::Migration => closer::migration(desk, named).await?,
        What::Approvals => closer::approvals(desk, named).await?,
        What::Running => closer::running(desk, caller, named).await?,
        What::Statements => closer::statements(desk, named).await,
        What::Pace => closer::pace(desk, named).await?,
        What::Events => ours::events(desk, argument).await?,
        What::Precheck => ours::precheck(desk, named).await,
        What::Databases => {
            let config = desk.config.load();
            pgbouncer::databases(&desk.api.status().await, &config)
        }
        What::Pools => people::pools(&sessions(desk, Databases::All).await?),
        What::Clients => people::clients(&sessions(desk, Databases::All).await?),
        What::Servers => people::servers(&sessions(desk, Databases::All).await?),
        What::Stats => traffic::stats(&desk.api.status().await, &desk.averages),
        What::StatsTotals => traffic::totals(&desk.api.status().await),
        What::StatsAverages => traffic::averages(&desk.api.status().await, &desk.averages),
        What::Totals => traffic::all(&desk.api.status().await, &desk.averages),
        What::Lists => {
            let sessions = sessions(desk, Databases::All).await?;
            pgbouncer::lists(&desk.api.status().await, &sessions, &desk.config.load())
        }
        What::Users => people::users(&sessions(desk, Databases::All).await?),
        What::Config => configuration::rows(&desk.config.load()),
        What::Mem => pgbouncer::memory(&sessions(desk, Databases::All).await?),
        What::State => pgbouncer::state(&desk.api.status().await),
        What::Version => vec![vec![concat!("pgdrain ", env!("CARGO_PKG_VERSION")).into()]],
    })
}

/// Of one database, or of all.
async fn sessions<A: Api>(desk: &Desk<A>, databases: Databases) -> Result<Sessions, Complaint> {
    let all = SessionsQuery::default();
    Ok(desk.api.sessions(databases, all).await?)
}

/// Of one database, or of all that have a gate.
async fn migrations<A: Api>(desk: &Desk<A>, only: Option<&str>) -> Result<Vec<Row>, Complaint> {
    let names = match only {
        Some(name) => vec![name.to_owned()],
        None => {
            let databases = desk.api.status().await.databases;
            databases.into_iter().map(|it| it.database).collect()
        }
    };
    let mut rows = Vec::new();
    for name in names {
        rows.extend(ours::migrations(&desk.api.migrations(name).await?));
    }
    Ok(rows)
}

#[cfg(test)]
mod tests;
