//! `[databases]`: which server each of them is on.

use super::ini::{Entry, Ini, take_quoted};
use super::toml::{Document, header, quoted};

/// Stands for every database that is not listed.
const ALL: &str = "*";

pub(super) fn translate(ini: &Ini, document: &mut Document) {
    let mut servers = Vec::new();
    for entry in &ini.databases {
        match parameters(&entry.value) {
            Some(parameters) => servers.push((entry, server(ini, entry, &parameters, document))),
            None => {
                let why = "its connection string cannot be read: write [databases] by hand";
                document.without(entry.line, &entry.key, why);
            }
        }
    }
    let all = servers.iter().find(|(entry, _)| entry.key == ALL);
    let Some((_, main)) = all.or(servers.first()) else {
        document.first("No database is listed: write upstream.url.");
        return;
    };
    let from = match all {
        Some(_) => "[databases] *".to_owned(),
        None => format!(
            "[databases] {}",
            servers[0].0.key.replace(char::is_control, " ")
        ),
    };
    document.set("upstream", "url", &quoted(main), &from);
    document.first(
        "Who pgdrain is on connections of its own: set control.user and migrate.user, or a user in upstream.url.",
    );
    let elsewhere = |(entry, url): &&(&Entry, String)| entry.key != ALL && url != main;
    if all.is_some() && !servers.iter().any(|it| elsewhere(&it)) {
        return;
    }
    if all.is_some() {
        document.first(
            "Only the databases that are listed pass: add those that * stood for, as [databases.NAME].",
        );
    }
    for (entry, url) in servers.iter().filter(|(entry, _)| entry.key != ALL) {
        let upstream = match url == main {
            true => String::new(),
            false => format!("upstream = {}\n", quoted(url)),
        };
        document.table(header("databases", &entry.key) + &upstream);
    }
}

/// The parameters of a connection string: `key=value`, values with spaces in single quotes, a quote in
/// it doubled.
fn parameters(text: &str) -> Option<Vec<(String, String)>> {
    let mut parameters = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let (key, value) = rest.split_once('=')?;
        let value = value.trim_start();
        let (value, behind) = match value.strip_prefix('\'') {
            Some(quoted) => take_quoted(quoted, '\'')?,
            None => {
                let end = value.find(char::is_whitespace).unwrap_or(value.len());
                (value[..end].to_owned(), &value[end..])
            }
        };
        parameters.push((key.trim().to_ascii_lowercase(), value));
        rest = behind.trim_start();
    }
    Some(parameters)
}

/// The server of a database as a URL, without a user or password.
fn server(
    ini: &Ini,
    entry: &Entry,
    parameters: &[(String, String)],
    document: &mut Document,
) -> String {
    let name = entry.key.replace(char::is_control, " ");
    let mut without = |key: &str, instead: &str| {
        document.without(entry.line, &format!("{key} of {name}"), instead);
    };
    let (mut host, mut port) = (String::new(), None);
    for (key, value) in parameters {
        match key.as_str() {
            "host" | "hostaddr" => host.clone_from(value),
            "port" => port = Some(value.as_str()),
            "dbname" if *value == entry.key => {}
            "dbname" => without(key, "clients have to name the database as the server does"),
            "user" | "password" => {
                without(key, "clients log in to the server as themselves");
            }
            "pool_size" | "min_pool_size" | "reserve_pool" | "reserve_pool_size"
            | "server_lifetime" => {}
            "pool_mode" if value == "session" => {}
            "pool_mode" => without(
                key,
                "count its clients against the server's max_connections",
            ),
            "max_db_connections" | "max_db_client_connections" => {
                without(key, "limits.connections_per_database is for every database");
            }
            "connect_query" | "client_encoding" | "datestyle" | "timezone" => {
                without(key, "ALTER DATABASE or ALTER ROLE ... SET");
            }
            "auth_user" | "auth_query" | "auth_dbname" => {
                without(key, "[auth] has one role and query for every database");
            }
            "load_balance_hosts" => without(key, "hosts are tried in order"),
            _ => without(key, "this translation does not know it"),
        }
    }
    if host.contains(',') {
        without(
            "host",
            "its hosts are tried in order, and one is used as long as it answers",
        );
    }
    if host.is_empty() {
        let directory = ini.value("unix_socket_dir").unwrap_or("/tmp");
        directory.clone_into(&mut host);
    }
    url(ini, &host, port)
}

fn url(ini: &Ini, host: &str, port: Option<&str>) -> String {
    let mut parameters = Vec::new();
    let authority = match host.starts_with('/') {
        true => {
            parameters.push(("host", host));
            parameters.extend(port.map(|port| ("port", port)));
            String::new()
        }
        false => {
            let hosts = host.split(',').map(|host| match host.trim().contains(':') {
                true => format!("[{}]", host.trim()),
                false => escaped(host.trim()),
            });
            let with_port = hosts.map(|host| match port {
                Some(port) => format!("{host}:{port}"),
                None => host,
            });
            with_port.collect::<Vec<_>>().join(",")
        }
    };
    for (theirs, ours) in [
        ("server_tls_sslmode", "sslmode"),
        ("server_tls_ca_file", "sslrootcert"),
        ("server_tls_cert_file", "sslcert"),
        ("server_tls_key_file", "sslkey"),
    ] {
        parameters.extend(ini.value(theirs).map(|value| (ours, value)));
    }
    let parameters: Vec<_> = parameters
        .iter()
        .map(|(key, value)| format!("{key}={}", escaped(value)))
        .collect();
    match parameters.is_empty() {
        true => format!("postgres://{authority}"),
        false => format!("postgres://{authority}/?{}", parameters.join("&")),
    }
}

/// A part of a URL, with everything escaped that could end it.
fn escaped(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte);
    text.bytes()
        .map(|byte| match plain(byte) {
            true => char::from(byte).to_string(),
            false => format!("%{byte:02X}"),
        })
        .collect()
}
