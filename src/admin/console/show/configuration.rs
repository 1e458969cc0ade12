//! `SHOW CONFIG`: settings under the names that PgBouncer gives them, where they mean the same, and then
//! every key of pgdrain's own, without secrets.

use crate::admin::console::value::{Row, Value};
use crate::config::{Config, shown};

/// The rows; what PgBouncer's exporter reads (`max_client_conn`, `max_user_connections`) is a number.
pub(super) fn rows(config: &Config) -> Vec<Row> {
    let limits = &config.limits;
    let listen = config
        .listen
        .iter()
        .map(|listen| listen.address.to_string());
    let listen: Vec<String> = listen.collect();
    // Nothing stands for no limit, as in PgBouncer.
    let limit = |limit: Option<usize>| limit.unwrap_or(0).to_string();
    let settings = [
        (
            "application_name_add_host",
            u8::from(config.application_name_add_client).to_string(),
            "0",
        ),
        (
            "client_login_timeout",
            limits.login_time.as_secs().to_string(),
            "60",
        ),
        ("listen_addr", listen.join(","), "127.0.0.1:6432"),
        ("max_client_conn", limits.connections.to_string(), "10000"),
        (
            "max_db_connections",
            limit(limits.connections_per_database),
            "0",
        ),
        (
            "max_user_connections",
            limit(limits.connections_per_user),
            "0",
        ),
        ("pool_mode", "session".to_owned(), "session"),
    ];
    let rows = settings.into_iter().map(|(key, value, default)| {
        let changeable = match key {
            "listen_addr" | "pool_mode" => "no",
            _ => "yes",
        };
        vec![
            key.into(),
            Value::from(value),
            default.into(),
            changeable.into(),
        ]
    });
    rows.chain(own(config)).collect()
}

/// Every key, as `GET /v1/config` shows it; what is not written there is not known to be a default.
fn own(config: &Config) -> impl Iterator<Item = Row> {
    shown(config).into_iter().map(|setting| {
        let changeable = if setting.reloads { "yes" } else { "no" };
        vec![
            setting.key.into(),
            setting.value.into(),
            Value::Null,
            changeable.into(),
        ]
    })
}
