//! `[console]`: the names that lead to the console, and who may use it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::Deserialize;

use super::permission::AdminRole;
use super::raw::{Layer, RawConsole};
use super::secret::Secret;
use super::settings::Database;
use super::stored::Stored;
use super::users::Users;
use super::validate::Check;

/// The name of the console.
const NAME: &str = "pgdrain";

/// The name that operators and programs know from PgBouncer.
const ALIAS: &str = "pgbouncer";

/// As long as the server lets names of databases be.
const NAME_MAX: usize = 63;

/// The console, which clients reach by the name of a database.
#[derive(Clone, Debug, PartialEq)]
pub struct Console {
    /// The names of databases that lead to it; without any there is no console.
    names: Vec<String>,
    /// Connections to it at the same time.
    pub connections: usize,
    /// What is kept of the passwords of its users; when empty, nobody is asked and only clients of
    /// this machine get in.
    pub users: Arc<Users>,
    /// The users' roles.
    roles: BTreeMap<String, AdminRole>,
}

impl Console {
    /// Whether a database of this name is the console.
    #[must_use]
    pub fn is_called(&self, database: &str) -> bool {
        self.names.iter().any(|name| name == database)
    }

    /// The role of a user that is listed.
    #[must_use]
    pub fn role(&self, user: &str) -> Option<AdminRole> {
        self.roles.get(user).copied()
    }
}

/// A user as it is written.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawConsoleUser {
    role: AdminRole,
    password: Option<Secret>,
}

impl RawConsoleUser {
    /// Whether its password stands in the file.
    pub(super) fn has_password(&self) -> bool {
        self.password.is_some()
    }
}

/// `[console.users]`: any names.
pub(super) type RawConsoleUsers = BTreeMap<String, RawConsoleUser>;

impl Layer for RawConsoleUsers {
    /// Names are no settings of their own: the upper list replaces the lower one.
    fn over(self, below: Self) -> Self {
        if self.is_empty() { below } else { self }
    }

    fn keys(path: &str, into: &mut Vec<(String, &'static str)>) {
        Option::<AdminRole>::keys(&format!("{path}.NAME.role"), into);
        Option::<Secret>::keys(&format!("{path}.NAME.password"), into);
    }
}

impl Check<'_> {
    pub(super) fn console(
        &mut self,
        raw: RawConsole,
        databases: &BTreeMap<String, Database>,
        in_file: &Users,
    ) -> Console {
        let connections = raw.connections.unwrap_or(10);
        self.within("console.connections", connections, 1..=1000);
        let names = self.console_names(&raw, databases);
        let mut roles = BTreeMap::new();
        let mut kept = Vec::new();
        for (name, user) in raw.users {
            if let Some(stored) = self.console_password(&name, user.password, in_file) {
                kept.push((name.clone(), stored));
            }
            roles.insert(name, user.role);
        }
        Console {
            names,
            connections,
            users: Arc::new(Users::of(kept)),
            roles,
        }
    }

    fn console_names(
        &mut self,
        raw: &RawConsole,
        databases: &BTreeMap<String, Database>,
    ) -> Vec<String> {
        if raw.enabled == Some(false) {
            return Vec::new();
        }
        let name = raw.name.clone().unwrap_or_else(|| NAME.to_owned());
        let aliases = raw.aliases.clone();
        let aliases = aliases.unwrap_or_else(|| vec![ALIAS.to_owned()]);
        let mut seen = BTreeSet::new();
        let keys = ["console.name"].into_iter();
        let keys = keys.chain(std::iter::repeat("console.aliases"));
        for (key, name) in keys.zip(std::iter::once(&name).chain(&aliases)) {
            if name.is_empty() || name.len() > NAME_MAX || name.contains('\0') || name == "*" {
                self.wrong(key, format!("{name:?} is no name of a database"));
            } else if !seen.insert(name) {
                self.wrong(key, format!("{name:?} is named twice"));
            } else if databases.contains_key(name) {
                self.wrong(
                    key,
                    format!(
                        "{name:?} is a database of [databases], which nobody could reach: give the \
                         console another name"
                    ),
                );
            }
        }
        std::iter::once(name).chain(aliases).collect()
    }

    /// What a user is checked against: what stands there, or what the users file keeps.
    fn console_password(
        &mut self,
        name: &str,
        written: Option<Secret>,
        in_file: &Users,
    ) -> Option<Stored> {
        let key = format!("console.users.{name}.password");
        let stored = match written {
            None => in_file.get(name).cloned(),
            Some(secret) => match Stored::parse(secret.expose()) {
                Ok(stored) => Some(stored),
                Err(bad) => {
                    self.wrong(&key, bad.to_string());
                    return None;
                }
            },
        };
        match stored {
            Some(stored @ (Stored::Scram(_) | Stored::Plain(_))) => Some(stored),
            Some(Stored::Md5(_)) => {
                self.wrong(
                    &key,
                    "it is an MD5 hash, and the console asks by SCRAM alone",
                );
                None
            }
            None => {
                self.wrong(&key, "it is not set, and auth.users_file has no such user");
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::config::{Config, Source, Surroundings};

    fn load(text: &str) -> Result<Config, String> {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        let text = format!("state_dir = '/nowhere'\n{text}\n[upstream]\nurl = 'postgres://db'\n");
        std::fs::write(file.path(), text).expect("ours");
        let around = Surroundings::of_process();
        let loaded = Source::new(Some(file.path().to_owned())).load(&around);
        loaded
            .map(|loaded| loaded.config)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn it_has_two_names_and_may_have_others_or_none() {
        let console = load("").expect("valid").console;
        assert!(console.is_called("pgdrain") && console.is_called("pgbouncer"));
        assert!(!console.is_called("Pgdrain") && !console.is_called("shop"));
        assert!(console.users.is_empty());
        let console = load("[console]\nname = 'ops'\naliases = []").expect("valid");
        assert!(console.console.is_called("ops") && !console.console.is_called("pgdrain"));
        let none = load("[console]\nenabled = false").expect("valid").console;
        assert!(!none.is_called("pgdrain") && !none.is_called("pgbouncer"));
    }

    #[test]
    fn its_users_have_a_role_and_a_password() {
        let console = load(
            "[console.users.anna]\nrole = 'viewer'\npassword = 'hush'\n\
             [console.users]\nben = { role = 'admin', password = 'hush' }",
        );
        let console = console.expect("valid").console;
        let role = |user| console.role(user).map(|role| role.as_str());
        assert_eq!(
            [role("anna"), role("ben"), role("carl")],
            [Some("viewer"), Some("admin"), None]
        );
        assert_eq!(console.users.len(), 2);
        assert!(!format!("{console:?}").contains("hush"));
    }

    #[test]
    fn mistakes_are_named() {
        for (text, part) in [
            ("[console]\nname = ''", "\"\" is no name of a database"),
            ("[console]\naliases = ['pgdrain']", "is named twice"),
            ("[databases.pgdrain]", "give the console another name"),
            ("[console]\nconnections = 0", "is not between 1 and 1000"),
            (
                "[console.users.a]\nrole = 'viewer'",
                "auth.users_file has no such user",
            ),
            ("[console.users.a]\nrole = 'boss'\npassword = 'x'", "boss"),
            (
                "[console.users.a]\nrole = 'viewer'\npassword = 'md50123456789abcdef0123456789abcdef'",
                "by SCRAM alone",
            ),
        ] {
            let error = load(text).expect_err(text);
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
