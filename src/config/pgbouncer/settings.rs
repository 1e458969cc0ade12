//! `[pgbouncer]`: where it listens, encryption of clients, limits, times, the log.

use std::net::IpAddr;

use super::ini::{Entry, Ini};
use super::time;
use super::toml::{Document, quoted};

const PORT: &str = "6432";

/// What the rest of the translation reads.
const ELSEWHERE: &[&str] = &[
    "listen_addr",
    "listen_port",
    "unix_socket_dir",
    "auth_type",
    "auth_file",
    "auth_user",
    "auth_query",
    "auth_dbname",
    "client_tls_sslmode",
    "client_tls_key_file",
    "client_tls_cert_file",
    "client_tls_ca_file",
    "server_tls_sslmode",
    "server_tls_key_file",
    "server_tls_cert_file",
    "server_tls_ca_file",
];

/// Keys about server connections that wait for clients: here none does. And about how PgBouncer
/// itself runs.
const UNNEEDED: &[&str] = &[
    "default_pool_size",
    "min_pool_size",
    "reserve_pool_size",
    "reserve_pool_timeout",
    "server_reset_query",
    "server_reset_query_always",
    "server_check_query",
    "server_check_delay",
    "server_lifetime",
    "server_idle_timeout",
    "server_round_robin",
    "server_fast_close",
    "server_login_retry",
    "ignore_startup_parameters",
    "track_extra_parameters",
    "max_prepared_statements",
    "autodb_idle_timeout",
    "suspend_timeout",
    "cancel_wait_timeout",
    "pkt_buf",
    "max_packet_size",
    "listen_backlog",
    "sbuf_loopcnt",
    "so_reuseport",
    "tcp_defer_accept",
    "tcp_socket_buffer",
    "dns_max_ttl",
    "dns_nxdomain_ttl",
    "dns_zone_check_period",
    "resolv_conf",
    "disable_pqexec",
    "conffile",
    "service_name",
    "job_name",
    "pidfile",
    "user",
    "log_connections",
    "log_disconnections",
    "log_pooler_errors",
    "log_stats",
    "stats_period",
    "peer_id",
    "query_wait_notify",
];

/// Keys that have no counterpart, and what does the same.
const INSTEAD: &[(&str, &str)] = &[
    ("auth_hba_file", "write its lines as [[auth.rules]]"),
    (
        "auth_ident_file",
        "write its lines as auth.certificate_users",
    ),
    (
        "auth_ldap_options",
        "let clients prove themselves to the server (pass-through)",
    ),
    (
        "client_idle_timeout",
        "idle_session_timeout of the server (Postgres 14 and later)",
    ),
    ("query_timeout", "statement_timeout of the server"),
    (
        "idle_transaction_timeout",
        "idle_in_transaction_session_timeout of the server",
    ),
    (
        "transaction_timeout",
        "transaction_timeout of the server (Postgres 17 and later)",
    ),
    (
        "unix_socket_mode",
        "everybody on the machine may use the socket: close its directory",
    ),
    (
        "unix_socket_group",
        "everybody on the machine may use the socket: close its directory",
    ),
    (
        "admin_users",
        "give each of them a token of the role admin: pgdrain config token",
    ),
    (
        "stats_users",
        "give each of them a token of the role viewer: pgdrain config token",
    ),
    (
        "logfile",
        "the log goes to standard error: let the service manager keep it",
    ),
    (
        "syslog",
        "the log goes to standard error: let the service manager keep it",
    ),
    (
        "syslog_ident",
        "the log goes to standard error: let the service manager keep it",
    ),
    (
        "syslog_facility",
        "the log goes to standard error: let the service manager keep it",
    ),
    (
        "tcp_keepalive",
        "connections that are quiet are always probed",
    ),
    ("client_tls_protocols", "TLS 1.2 and 1.3"),
    ("client_tls_ciphers", "those of rustls"),
    ("client_tls13_ciphers", "those of rustls"),
    ("client_tls_ecdhcurve", "those of rustls"),
    ("client_tls_dheparams", "those of rustls"),
    ("server_tls_protocols", "TLS 1.2 and 1.3"),
    ("server_tls_ciphers", "those of rustls"),
    ("server_tls13_ciphers", "those of rustls"),
];

pub(super) fn translate(ini: &Ini, document: &mut Document) {
    listen(ini, document);
    client_tls(ini, document);
    for entry in ini.settings.values() {
        one(entry, document);
    }
}

fn one(entry: &Entry, document: &mut Document) {
    let key = entry.key.as_str();
    if ELSEWHERE.contains(&key) {
        return;
    }
    if UNNEEDED.contains(&key) {
        return document.unneeded(key);
    }
    if let Some((_, instead)) = INSTEAD.iter().find(|(it, _)| *it == key) {
        return document.without(entry.line, key, instead);
    }
    match key {
        "pool_mode" if entry.value == "session" => document.unneeded(key),
        "pool_mode" => document.first(format!(
            "It had pool_mode = {}: count the clients against the server's max_connections.",
            entry.value.replace(char::is_control, " ")
        )),
        "max_client_conn" => number(document, entry, "limits", "connections"),
        "max_db_connections" | "max_db_client_connections" => {
            number(document, entry, "limits", "connections_per_database");
        }
        "max_user_connections" | "max_user_client_connections" => {
            number(document, entry, "limits", "connections_per_user");
        }
        "client_login_timeout" => duration(document, entry, "s", "limits", "login_time"),
        "server_connect_timeout" => duration(document, entry, "s", "upstream", "connect_timeout"),
        "query_wait_timeout" => duration(document, entry, "s", "hold", "client_deadline"),
        "tcp_keepidle" => duration(document, entry, "s", "tcp", "keepalive_idle"),
        "tcp_keepintvl" => duration(document, entry, "s", "tcp", "keepalive_interval"),
        "tcp_keepcnt" => number(document, entry, "tcp", "keepalive_count"),
        "tcp_user_timeout" => duration(document, entry, "ms", "tcp", "user_timeout"),
        "application_name_add_host" if entry.value == "1" => {
            document.set("", "application_name_add_client", "true", key);
        }
        "application_name_add_host" => document.unneeded(key),
        "verbose" if entry.value != "0" => document.set("log", "level", "\"debug\"", key),
        "verbose" => document.unneeded(key),
        _ => document.without(entry.line, key, "this translation does not know it"),
    }
}

/// A number; 0 is PgBouncer's word for no limit, which is our default.
fn number(document: &mut Document, entry: &Entry, section: &'static str, key: &str) {
    match entry.value.parse::<u32>() {
        Ok(0) => document.unneeded(&entry.key),
        Ok(number) => document.set(section, key, &number.to_string(), &entry.key),
        Err(_) => document.without(entry.line, &entry.key, "it is no number"),
    }
}

/// A time; 0 is PgBouncer's word for never.
fn duration(document: &mut Document, entry: &Entry, unit: &str, section: &'static str, key: &str) {
    match time(entry, unit) {
        Some(time) => document.set(section, key, &quoted(&time), &entry.key),
        None => {
            let instead =
                format!("it is no time that has an end: {section}.{key} keeps its default");
            document.without(entry.line, &entry.key, &instead);
        }
    }
}

fn listen(ini: &Ini, document: &mut Document) {
    let port = ini.value("listen_port").unwrap_or(PORT);
    let mut addresses = Vec::new();
    for address in ini.value("listen_addr").unwrap_or_default().split(',') {
        let address = address.trim();
        match address {
            "" => {}
            "*" => {
                addresses.push(format!("0.0.0.0:{port}"));
                document.first(format!(
                    "For IPv6 besides IPv4 listen on \"[::]:{port}\" instead."
                ));
            }
            "localhost" => addresses.push(format!("localhost:{port}")),
            _ => match address.parse::<IpAddr>() {
                Ok(IpAddr::V4(ip)) => addresses.push(format!("{ip}:{port}")),
                Ok(IpAddr::V6(ip)) => addresses.push(format!("[{ip}]:{port}")),
                Err(_) => {
                    let line = ini.get("listen_addr").map_or(0, |it| it.line);
                    let why = format!("{address:?} is a name: write its addresses");
                    document.without(line, "listen_addr", &why);
                }
            },
        }
    }
    // Without the key PgBouncer has its socket in /tmp.
    let directory = match ini.get("unix_socket_dir") {
        Some(entry) => entry.value.as_str(),
        None => "/tmp",
    };
    match directory.strip_prefix('@') {
        Some(_) => {
            let line = ini.get("unix_socket_dir").map_or(0, |it| it.line);
            document.without(line, "unix_socket_dir", "a socket has to be in a directory");
        }
        None if directory.is_empty() => {}
        None if port == PORT => addresses.push(format!("unix:{directory}")),
        None => addresses.push(format!("unix:{directory}:{port}")),
    }
    let addresses: Vec<_> = addresses.iter().map(|it| quoted(it)).collect();
    if !addresses.is_empty() {
        let from = "listen_addr, listen_port, unix_socket_dir";
        document.set("", "listen", &format!("[{}]", addresses.join(", ")), from);
    }
}

fn client_tls(ini: &Ini, document: &mut Document) {
    let mode = match ini.value("client_tls_sslmode").unwrap_or("disable") {
        "disable" => return,
        // To a server "allow" and "prefer" are one: the client decides.
        "prefer" => "allow",
        other => other,
    };
    document.set("tls", "mode", &quoted(mode), "client_tls_sslmode");
    for (theirs, ours) in [
        ("client_tls_cert_file", "certificate"),
        ("client_tls_key_file", "key"),
        ("client_tls_ca_file", "client_ca"),
    ] {
        if let Some(file) = ini.value(theirs) {
            document.set("tls", ours, &quoted(file), theirs);
        }
    }
}
