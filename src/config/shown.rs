//! The configuration in use as people may see it: every key, and no secret.

use super::reload::rows;
use super::settings::Config;

/// One key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// The dotted key, as a reload names it.
    pub key: &'static str,
    /// What it is.
    pub value: String,
    /// Whether a reload can change it.
    pub reloads: bool,
}

/// What stands for a value that is not shown.
const STARS: &str = "***";

/// Keys whose values are, or may hold, what gives access to something: certificates, passwords, commands
/// with a token in them, addresses of webhooks. Where only a part is one, `Secret` hides that by itself.
const HIDDEN: &[&str] = &[
    "tls",
    "upstream.url (tls)",
    "migrate.preflight.disk_free_command",
    "migrate.preflight.staging",
    "migrate.preflight.commands",
    "migrate.canary.command",
    "migrate.compare.statements",
    "migrate.backup.command",
    "migrate.hooks",
    "migrate.notify",
    "auth.users_file",
    "auth.query",
    "auth.server_passfile",
    "admin.certificate",
    "admin.tokens",
    "console",
    "traces",
    "PGPASSWORD, PGPASSFILE",
];

/// Every key of the configuration.
#[must_use]
pub fn shown(config: &Config) -> Vec<Shown> {
    let shown = rows().map(|row| Shown {
        key: row.key,
        value: match HIDDEN.contains(&row.key) || row.key.contains("password") {
            true => STARS.to_owned(),
            false => plain(&(row.show)(config)),
        },
        reloads: row.reloads(),
    });
    shown.collect()
}

/// The words of a file for what Rust's `Debug` prints of simple values; the rest stays as it is.
fn plain(debug: &str) -> String {
    let text = match debug
        .strip_prefix("Some(")
        .and_then(|it| it.strip_suffix(')'))
    {
        Some(inner) => inner,
        None => debug,
    };
    let quoted = text.strip_prefix('"').and_then(|it| it.strip_suffix('"'));
    if let Some(quoted) = quoted.filter(|it| !it.contains(['"', '\\'])) {
        return quoted.to_owned();
    }
    let is_word = text.starts_with(|c: char| c.is_ascii_uppercase())
        && text.chars().all(|c| c.is_ascii_alphanumeric());
    match is_word {
        true => snake(text),
        false => text.to_owned(),
    }
}

/// `ReadOnly` as files have it: `read_only`.
fn snake(word: &str) -> String {
    let mut snake = String::new();
    for (at, c) in word.char_indices() {
        if at > 0 && c.is_ascii_uppercase() {
            snake.push('_');
        }
        snake.push(c.to_ascii_lowercase());
    }
    snake
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Source, Surroundings};

    /// In every place where a secret may be written, one that is easy to find.
    const SECRETS: &str = r#"
        state_dir = "/var/lib/pgdrain"
        [upstream]
        url = "postgres://app:HUNTER@db.example:5433/shop"
        [control]
        user = "watcher"
        password = "HUNTER"
        [migrate]
        password = "HUNTER"
        [[migrate.hooks]]
        phase = "on_failure"
        name = "tell"
        command = "curl -H 'Authorization: HUNTER' https://example.com"
        [[migrate.notify]]
        url = "https://example.com/HUNTER"
        [migrate.preflight]
        disk_free_command = "echo HUNTER"
        staging = "postgres://app:HUNTER@staging.example/shop"
        commands = [{ name = "drift", command = "echo HUNTER" }]
        [migrate.canary]
        application_name = "canary"
        command = "curl https://HUNTER@example.com"
        [console.users]
        anna = { role = "operator", password = "HUNTER" }
        [auth]
        query = "SELECT passwd FROM pg_shadow WHERE usename = $1"
        query_user = "asker"
        query_password = "HUNTER"
        [hold]
        for = "90s"
        blocked = "reject"
        [databases.other]
        upstream = "postgres://app:HUNTER@other.example/x"
        read_upstream = "postgres://app:HUNTER@standby.example/x"
    "#;

    #[test]
    fn every_key_is_shown_and_no_secret() {
        let loaded = Source::default().load_text(SECRETS, &Surroundings::default());
        let shown = shown(&loaded.expect("a configuration").config);
        let value = |key: &str| {
            let found = shown.iter().find(|it| it.key == key);
            found.map(|it| (it.value.as_str(), it.reloads))
        };
        assert_eq!(value("hold.for"), Some(("90s", true)));
        assert_eq!(value("hold.blocked"), Some(("reject", true)));
        assert_eq!(value("control.user"), Some(("watcher", true)));
        assert_eq!(value("workers").map(|it| it.1), Some(false));
        assert_eq!(
            value("databases.NAME.upstream"),
            Some(("\"other\": other.example:5432", false))
        );
        assert_eq!(value("migrate.hooks"), Some(("***", false)));
        for it in &shown {
            assert!(!it.value.contains("HUNTER"), "{it:?}");
        }
        assert!(
            HIDDEN.iter().all(|key| value(key).is_some()),
            "a key that is no more"
        );
    }

    #[test]
    fn values_read_as_in_a_file() {
        for (debug, text) in [
            ("Some(\"postgres\")", "postgres"),
            ("\"/var/lib\"", "/var/lib"),
            ("None", "none"),
            ("ReadOnly", "read_only"),
            ("Some(30s)", "30s"),
            ("true", "true"),
            ("5", "5"),
            ("[\"a\", \"b\"]", "[\"a\", \"b\"]"),
            ("Some(***)", "***"),
        ] {
            assert_eq!(plain(debug), text, "{debug}");
        }
    }
}
