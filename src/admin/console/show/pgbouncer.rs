//! What PgBouncer shows of itself, and what of that there is here.

use std::collections::BTreeSet;

use super::people::parted;
use crate::admin::console::value::{Row, Value};
use crate::admin::types::{ModeName, SessionState, Sessions, Status};
use crate::config::Config;

/// `SHOW DATABASES`
pub(super) fn databases(status: &Status, config: &Config) -> Vec<Row> {
    let rows = status.databases.iter().map(|database| {
        let server = match database.server.is_empty() {
            true => &status.upstream,
            false => &database.server,
        };
        // Of several that are tried in turn the first stands for all.
        let first = server.split(',').next().unwrap_or_default();
        let (host, port) = parted(first);
        vec![
            database.database.as_str().into(),
            host.into(),
            port.into(),
            database.database.as_str().into(),
            Value::Null,
            // Each client has a server connection of its own, and none is kept ready or in reserve.
            config.limits.connections.into(),
            0_u64.into(),
            0_u64.into(),
            "session".into(),
            config.limits.connections_per_database.unwrap_or(0).into(),
            database.sessions.into(),
            u64::from(database.mode == ModeName::Hold).into(),
            0_u64.into(),
        ]
    });
    rows.collect()
}

/// `SHOW LISTS`: only what is known, for exporters take no null there.
pub(super) fn lists(status: &Status, sessions: &Sessions, config: &Config) -> Vec<Row> {
    let sessions = &sessions.sessions;
    let users: BTreeSet<_> = sessions.iter().map(|it| &it.user).collect();
    let pools: BTreeSet<_> = sessions.iter().map(|it| (&it.database, &it.user)).collect();
    let used = sessions.len();
    let free = config.limits.connections.saturating_sub(used);
    let logging_in = sessions.iter().filter(|it| it.state == SessionState::Login);
    let lists: [(&str, usize); 12] = [
        ("databases", status.databases.len()),
        ("users", users.len()),
        ("pools", pools.len()),
        ("free_clients", free),
        ("used_clients", used),
        ("login_clients", logging_in.count()),
        // Each client has one, and nobody has one without a client.
        ("free_servers", 0),
        ("used_servers", used),
        ("dns_names", 0),
        ("dns_zones", 0),
        // Names are looked up when they are connected to, and not kept.
        ("dns_queries", 0),
        ("dns_pending", 0),
    ];
    let rows = lists.into_iter();
    rows.map(|(list, items)| vec![list.into(), items.into()])
        .collect()
}

/// `SHOW MEM`
pub(super) fn memory(sessions: &Sessions) -> Vec<Row> {
    let sessions = sessions.sessions.len();
    vec![
        vec![
            "process".into(),
            Value::Null,
            1_u64.into(),
            0_u64.into(),
            resident().into(),
        ],
        vec![
            "sessions".into(),
            Value::Null,
            sessions.into(),
            Value::Null,
            Value::Null,
        ],
    ]
}

/// Bytes of the process that are in memory.
fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|it| it.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib << 10)
}

/// `SHOW STATE`
pub(super) fn state(status: &Status) -> Vec<Row> {
    let all = |mode| {
        let databases = &status.databases;
        !databases.is_empty() && databases.iter().all(|it| it.mode == mode)
    };
    let word = |yes: bool| if yes { "yes" } else { "no" };
    let any_held = status.databases.iter().any(|it| it.mode != ModeName::Open);
    let pairs = [
        ("active", word(!any_held)),
        ("paused", word(all(ModeName::Hold))),
        ("suspended", "no"),
        ("read_only", word(all(ModeName::ReadOnly))),
    ];
    let rows = pairs.into_iter();
    rows.map(|(key, value)| vec![key.into(), value.into()])
        .collect()
}
