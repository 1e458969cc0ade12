//! Tables: their columns against PgBouncer's, and their rows against their columns.

use serde_json::json;

use super::*;
use crate::admin::console::averages::Averages;
use crate::admin::types::Status;
use crate::config::{Source, Surroundings};

/// Names and types of PgBouncer's columns, as PgBouncer 1.18.0 (Debian 12) described them in its
/// `RowDescription`s on 2026-11-22; `state` is not in 1.18 and is from `admin.c` of 1.25, as is the `id` of
/// clients and servers, which came with `KILL_CLIENT` in 1.24.
const PGBOUNCER: [(&str, &str); 15] = [
    ("version", "version:t"),
    (
        "databases",
        "name:t host:t port:i database:t force_user:t pool_size:i min_pool_size:i reserve_pool:i \
         pool_mode:t max_connections:i current_connections:i paused:i disabled:i",
    ),
    (
        "pools",
        "database:t user:t cl_active:i cl_waiting:i cl_active_cancel_req:i cl_waiting_cancel_req:i \
         sv_active:i sv_active_cancel:i sv_being_canceled:i sv_idle:i sv_used:i sv_tested:i \
         sv_login:i maxwait:i maxwait_us:i pool_mode:t",
    ),
    (
        "clients",
        "type:t user:t database:t state:t addr:t port:i local_addr:t local_port:i connect_time:t \
         request_time:t wait:i wait_us:i close_needed:i ptr:t link:t remote_pid:i tls:t \
         application_name:t id:i",
    ),
    (
        "servers",
        "type:t user:t database:t state:t addr:t port:i local_addr:t local_port:i connect_time:t \
         request_time:t wait:i wait_us:i close_needed:i ptr:t link:t remote_pid:i tls:t \
         application_name:t id:i",
    ),
    (
        "stats",
        "database:t total_xact_count:n total_query_count:n total_received:n total_sent:n \
         total_xact_time:n total_query_time:n total_wait_time:n avg_xact_count:n avg_query_count:n \
         avg_recv:n avg_sent:n avg_xact_time:n avg_query_time:n avg_wait_time:n",
    ),
    (
        "stats_totals",
        "database:t xact_count:n query_count:n bytes_received:n bytes_sent:n xact_time:n \
         query_time:n wait_time:n",
    ),
    (
        "stats_averages",
        "database:t xact_count:n query_count:n bytes_received:n bytes_sent:n xact_time:n \
         query_time:n wait_time:n",
    ),
    ("totals", "name:t value:n"),
    ("lists", "list:t items:i"),
    ("config", "key:t value:t default:t changeable:t"),
    ("mem", "name:t size:i used:i free:i memtotal:i"),
    ("users", "name:t pool_mode:t"),
    ("state", "key:t value:t"),
    // Ours, and as short as it can be.
    ("help", "command:t about:t"),
];

fn described(what: What) -> String {
    let columns = what.columns().iter().map(|column| {
        let field = column.field(false);
        let kind = match field.oid {
            25 => "t",
            23 => "i",
            1700 => "n",
            20 => "l",
            other => panic!("type {other}"),
        };
        format!("{}:{kind}", field.name)
    });
    columns.collect::<Vec<_>>().join(" ")
}

#[test]
fn columns_are_those_of_pgbouncer() {
    for (word, columns) in PGBOUNCER {
        let what = What::named(word).expect(word);
        assert_eq!(described(what), columns, "{word}");
    }
}

fn status() -> Status {
    let hold = json!({
        "holder": "operator", "mode": "hold", "generation": 3, "since": "2026-11-22T05:00:00Z",
        "until": "2026-11-22T05:05:00Z", "then": "open", "blocked": "queue", "by": "anna",
        "reason": "index", "overdue": false, "drain": {
            "outcome": "draining", "step": "wait", "held_at": "2026-11-22T05:00:00Z",
            "waited_for": [], "cancelled": [], "terminated": [], "bypass": [], "in_the_way": [{
                "pid": 7, "user": "app", "application_name": "web", "client": "10.0.0.1:5",
                "state": "in_transaction", "transaction_age_ms": 90_500,
            }], "detail": "waiting for transactions to end",
        },
    });
    let database = |name: &str, mode: &str, holds: serde_json::Value| {
        json!({
            "database": name, "mode": mode, "holds": holds, "sessions": 2, "in_transaction": 1,
            "held": 1, "oldest_wait_ms": 1500, "permits": 1, "transactions_total": 10,
            "bytes_in_total": 100, "bytes_out_total": 5_000_000_000_u64, "server": "db1:5432,db2:5432",
        })
    };
    let status = json!({
        "version": "1", "started_at": "2026-11-22T04:00:00Z", "uptime_ms": 5, "listen": [],
        "upstream": "db:5432", "state_dir": "/x",
        "databases": [database("shop", "hold", json!([hold])), database("till", "open", json!([]))],
    });
    serde_json::from_value(status).expect("a status")
}

fn sessions() -> Sessions {
    let session = |id: u64, database: &str, state: &str, held: Option<u64>, age: Option<u64>| {
        json!({
            "id": id, "pid": 7, "database": database, "user": "app", "application_name": "web",
            "client": "10.0.0.1:5", "state": state, "connected_at": "2026-11-22T04:00:00Z",
            "transaction_age_ms": age, "statement_started_at": null, "held_ms": held,
            "transactions": 1, "bytes_in": 1, "bytes_out": 1, "server": "db1:5432",
        })
    };
    let sessions = json!({ "sessions": [
        session(1, "shop", "held", Some(1500), None),
        session(2, "shop", "in_transaction", None, Some(90_500)),
        session(3, "till", "active", None, Some(5)),
    ]});
    serde_json::from_value(sessions).expect("sessions")
}

fn config() -> crate::config::Config {
    let source = Source::new(None)
        .flag("--upstream", "upstream.url", "postgres://db")
        .flag("--state-dir", "state_dir", "/nowhere");
    source
        .load(&Surroundings::of_process())
        .expect("valid")
        .config
}

/// The rows of a table that need nothing but a status, sessions and a configuration.
fn table(what: What) -> Option<Vec<Row>> {
    let (status, sessions, config) = (status(), sessions(), config());
    let averages = Averages::default();
    Some(match what {
        What::Help => ours::help(),
        What::Status => ours::status(&status, None),
        What::Holds => ours::holds(&status, None),
        What::Blockers => ours::blockers(&status, &sessions, None),
        What::Sessions => people::sessions(&sessions),
        What::Databases => pgbouncer::databases(&status, &config),
        What::Pools => people::pools(&sessions),
        What::Clients => people::clients(&sessions),
        What::Servers => people::servers(&sessions),
        What::Stats => traffic::stats(&status, &averages),
        What::StatsTotals => traffic::totals(&status),
        What::StatsAverages => traffic::averages(&status, &averages),
        What::Totals => traffic::all(&status, &averages),
        What::Lists => pgbouncer::lists(&status, &sessions, &config),
        What::Users => people::users(&sessions),
        What::Config => configuration::rows(&config),
        What::Mem => pgbouncer::memory(&sessions),
        What::State => pgbouncer::state(&status),
        What::Windows
        | What::Migrations
        | What::Migration
        | What::Approvals
        | What::Running
        | What::Statements
        | What::Pace
        | What::Events
        | What::Precheck
        | What::Version => return None,
    })
}

/// A column of the only row that fits, as text.
fn cell(what: What, row: usize, column: &str) -> Option<String> {
    let at = what.columns().iter().position(|it| it.name == column);
    let rows = table(what).expect("made of a status");
    match &rows[row][at.expect(column)] {
        Value::Null => None,
        Value::NotANumber => Some("NaN".to_owned()),
        Value::Text(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
    }
}

use crate::admin::console::value::Value;

#[test]
fn rows_have_as_many_values_as_there_are_columns() {
    for what in What::ALL {
        let Some(rows) = table(what) else { continue };
        assert!(!rows.is_empty(), "{what:?}");
        for row in rows {
            assert_eq!(row.len(), what.columns().len(), "{what:?}: {row:?}");
            for (column, value) in what.columns().iter().zip(&row) {
                let text = matches!(value, Value::Text(_));
                let is_text = column.field(false).oid == 25;
                assert!(!text || is_text, "{what:?}.{}: {value:?}", column.name);
            }
        }
    }
}

#[test]
fn pgbouncers_tables_say_what_is_the_case_here() {
    let cell = |what, row, column| cell(what, row, column);
    let some = |text: &str| Some(text.to_owned());
    for (what, row, column, expected) in [
        (What::Databases, 0, "paused", some("1")),
        (What::Databases, 1, "paused", some("0")),
        (What::Databases, 0, "host", some("db1")),
        (What::Databases, 0, "port", some("5432")),
        (What::Databases, 0, "pool_size", some("10000")),
        (What::Databases, 0, "reserve_pool", some("0")),
        (What::Databases, 0, "force_user", None),
        (What::Pools, 0, "cl_waiting", some("1")),
        (What::Pools, 0, "cl_active", some("1")),
        (What::Pools, 0, "sv_active", some("1")),
        (What::Pools, 0, "maxwait", some("1")),
        (What::Pools, 0, "maxwait_us", some("500000")),
        (What::Clients, 0, "state", some("waiting")),
        (What::Clients, 1, "state", some("active")),
        (What::Clients, 0, "addr", some("10.0.0.1")),
        (What::Servers, 0, "remote_pid", some("7")),
        (What::Stats, 0, "total_sent", some("5000000000")),
        (What::Stats, 0, "total_query_count", some("NaN")),
        (What::Stats, 0, "avg_xact_count", some("NaN")),
        (What::Totals, 0, "value", some("20")),
        (What::State, 0, "value", some("no")),
        (What::State, 1, "value", some("no")),
    ] {
        assert_eq!(cell(what, row, column), expected, "{what:?} {row} {column}");
    }
}

#[test]
fn blockers_are_those_of_the_drain_and_elsewhere_whoever_is_inside() {
    let rows = table(What::Blockers).expect("made of a status");
    assert_eq!(rows.len(), 2);
    assert_eq!(cell(What::Blockers, 0, "pid").as_deref(), Some("7"));
    assert_eq!(
        cell(What::Blockers, 0, "transaction_age").as_deref(),
        Some("1m 30s")
    );
    assert_eq!(cell(What::Blockers, 1, "database").as_deref(), Some("till"));
    assert!(ours::blockers(&status(), &sessions(), Some("nobody")).is_empty());
}

#[test]
fn lists_have_no_null_for_exporters_take_none() {
    for row in table(What::Lists).expect("made of a status") {
        assert!(!row.contains(&Value::Null), "{row:?}");
    }
}

#[test]
fn addresses_are_parted_from_their_ports() {
    for (at, host, port) in [
        ("10.0.0.1:5", "10.0.0.1", Some(5)),
        ("[::1]:5", "::1", Some(5)),
        ("db.example:5432", "db.example", Some(5432)),
        ("[local]", "unix", None),
        ("/run/postgresql", "unix", None),
        ("", "", None),
    ] {
        assert_eq!(people::parted(at), (host.to_owned(), port), "{at}");
    }
}
