//! How PgBouncer's clients prove who they are.

use super::ini::Ini;
use super::toml::{Document, quoted};

pub(super) fn translate(ini: &Ini, document: &mut Document) {
    let Some(method) = method(ini, document) else {
        return;
    };
    document.first(
        "Without [auth] and [[auth.rules]] clients prove themselves to the server: no list of users is needed.",
    );
    if let Some(file) = ini.value("auth_file") {
        document.set("auth", "users_file", &quoted(file), "auth_file");
    }
    if let Some(user) = ini.value("auth_user") {
        query(ini, user, document);
    }
    document.table(format!(
        "[[auth.rules]] # auth_type\nmethod = {}\n",
        quoted(method)
    ));
}

/// The method of ours; `None` where clients had better prove themselves to the server.
fn method(ini: &Ini, document: &mut Document) -> Option<&'static str> {
    let entry = ini.get("auth_type");
    let line = entry.map_or(0, |it| it.line);
    let listed = ini.value("auth_file").is_some() || ini.value("auth_user").is_some();
    match entry.map_or("md5", |it| it.value.as_str()) {
        "md5" if listed => Some("md5"),
        "md5" => None,
        "scram-sha-256" => Some("scram-sha-256"),
        "plain" => Some("password"),
        "cert" => Some("cert"),
        "trust" => Some("trust"),
        other => {
            let why = format!(
                "{} has no counterpart: clients prove themselves to the server, or write [[auth.rules]]",
                other.replace(char::is_control, " ")
            );
            document.without(line, "auth_type", &why);
            None
        }
    }
}

fn query(ini: &Ini, user: &str, document: &mut Document) {
    document.set("auth", "query_user", &quoted(user), "auth_user");
    if let Some(database) = ini.value("auth_dbname") {
        document.set("auth", "query_database", &quoted(database), "auth_dbname");
    }
    if let Some(query) = ini.value("auth_query") {
        // Theirs answers the name and the secret, ours looks for the secret by its name.
        let query = query.trim_end_matches(';');
        let ours = format!("select q.rolpassword from ({query}) as q (rolname, rolpassword)");
        document.set("auth", "query", &quoted(&ours), "auth_query");
        document.first("In auth.query every schema but pg_catalog has to be written out.");
    }
    document.first(format!(
        "The password of {}: auth.query_password_file, or PGPASSFILE.",
        user.replace(char::is_control, " ")
    ));
}
