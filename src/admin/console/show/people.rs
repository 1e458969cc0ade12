//! Sessions: ours, and as PgBouncer shows clients and servers, which are two ends of one thing here.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use super::ours::age;
use crate::admin::console::value::{Row, Value};
use crate::admin::types::{SessionState, SessionView, Sessions};

/// `SHOW SESSIONS`
pub(super) fn sessions(sessions: &Sessions) -> Vec<Row> {
    let rows = sessions.sessions.iter().map(|session| {
        vec![
            session.id.into(),
            session.pid.into(),
            session.database.as_str().into(),
            session.user.as_str().into(),
            session.application_name.as_str().into(),
            session.client.as_str().into(),
            session.state.as_str().into(),
            age(session.transaction_age_ms),
            age(session.held_ms),
            session.transactions.into(),
            session.window.clone().into(),
        ]
    });
    rows.collect()
}

/// `SHOW CLIENTS`
pub(super) fn clients(sessions: &Sessions) -> Vec<Row> {
    let rows = sessions.sessions.iter().map(|session| {
        let state = match is_held(session) {
            true => "waiting",
            false => "active",
        };
        row("C", session, state, &session.client, Some(0))
    });
    rows.collect()
}

/// `SHOW SERVERS`: a server connection is its client's for life; it is active while it is in a
/// transaction.
pub(super) fn servers(sessions: &Sessions) -> Vec<Row> {
    let rows = sessions.sessions.iter().map(|session| {
        let state = match is_active(session) {
            true => "active",
            false => "idle",
        };
        row("S", session, state, &session.server, session.pid)
    });
    rows.collect()
}

fn row(kind: &str, session: &SessionView, state: &str, at: &str, pid: Option<i32>) -> Row {
    let (address, port) = parted(at);
    let (wait, wait_us) = match kind {
        "C" => micros(session.held_ms),
        _ => (0, 0),
    };
    let number = session.id.to_string();
    vec![
        kind.into(),
        session.user.as_str().into(),
        session.database.as_str().into(),
        state.into(),
        address.into(),
        port.into(),
        // Not known of either end.
        Value::Null,
        Value::Null,
        session.connected_at.into(),
        session.statement_started_at.into(),
        wait.into(),
        wait_us.into(),
        0_u64.into(),
        number.clone().into(),
        number.into(),
        pid.into(),
        Value::Null,
        session.application_name.as_str().into(),
        session.id.into(),
    ]
}

/// `SHOW POOLS`: nobody shares a server connection here, as in session pooling.
pub(super) fn pools(sessions: &Sessions) -> Vec<Row> {
    #[derive(Default)]
    struct Pool {
        active: u64,
        waiting: u64,
        in_use: u64,
        idle: u64,
        logging_in: u64,
        longest_ms: u64,
    }
    let mut pools: BTreeMap<(&str, &str), Pool> = BTreeMap::new();
    for session in &sessions.sessions {
        let pool = pools.entry((&session.database, &session.user)).or_default();
        match is_held(session) {
            true => pool.waiting += 1,
            false => pool.active += 1,
        }
        if session.state == SessionState::Login {
            pool.logging_in += 1;
        } else if is_active(session) {
            pool.in_use += 1;
        } else {
            pool.idle += 1;
        }
        pool.longest_ms = pool.longest_ms.max(session.held_ms.unwrap_or(0));
    }
    let rows = pools.into_iter().map(|((database, user), pool)| {
        let (wait, wait_us) = micros(Some(pool.longest_ms));
        vec![
            database.into(),
            user.into(),
            pool.active.into(),
            pool.waiting.into(),
            // Cancel requests are on their way for moments, and are not counted.
            Value::Null,
            Value::Null,
            pool.in_use.into(),
            Value::Null,
            Value::Null,
            pool.idle.into(),
            0_u64.into(),
            0_u64.into(),
            pool.logging_in.into(),
            wait.into(),
            wait_us.into(),
            "session".into(),
        ]
    });
    rows.collect()
}

/// `SHOW USERS`
pub(super) fn users(sessions: &Sessions) -> Vec<Row> {
    let users: BTreeSet<&str> = sessions
        .sessions
        .iter()
        .map(|it| it.user.as_str())
        .collect();
    let rows = users.into_iter().map(|user| vec![user.into(), Value::Null]);
    rows.collect()
}

pub(super) fn is_held(session: &SessionView) -> bool {
    session.state == SessionState::Held
}

fn is_active(session: &SessionView) -> bool {
    match session.state {
        SessionState::Active | SessionState::InTransaction | SessionState::Aborted => true,
        SessionState::Login
        | SessionState::Idle
        | SessionState::Held
        | SessionState::Closing
        | SessionState::Deferred => false,
    }
}

/// An address and its port; a Unix socket has none.
pub(super) fn parted(at: &str) -> (String, Option<i32>) {
    if let Ok(address) = at.parse::<SocketAddr>() {
        return (address.ip().to_string(), Some(address.port().into()));
    }
    if at == "[local]" || at.starts_with('/') {
        return ("unix".to_owned(), None);
    }
    match at.rsplit_once(':') {
        Some((host, port)) => match port.parse::<u16>() {
            Ok(port) => (host.to_owned(), Some(port.into())),
            Err(_none) => (at.to_owned(), None),
        },
        None => (at.to_owned(), None),
    }
}

/// Whole seconds, and the microseconds beyond them.
fn micros(ms: Option<u64>) -> (u64, u64) {
    let ms = ms.unwrap_or(0);
    (ms / 1000, ms % 1000 * 1000)
}
