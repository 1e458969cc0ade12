//! The part of validation that is about who gets in: rules, users, and what is asked of servers.

use std::path::Path;
use std::sync::Arc;

use super::passfile::Passfile;
use super::raw::RawAuth;
use super::rules::{CertificateName, Place, Rule};
use super::settings::{Auth, AuthQuery};
use super::stored::ITERATIONS_MAX;
use super::users::Users;
use super::validate::Check;
use super::words::AuthMethod;

/// What the server itself keeps, of roles that may log in. Names are spelled out, so that no other
/// schema's tables are asked.
const QUERY: &str = "select rolname, rolpassword, rolvaliduntil from pg_catalog.pg_authid \
                     where rolname operator(pg_catalog.=) $1 and rolcanlogin";

/// The default of `scram_iterations` in the server.
const ITERATIONS: usize = 4096;

impl Check<'_> {
    /// `client_ca` says whether clients can show a certificate.
    pub(super) fn auth(&mut self, raw: RawAuth, client_ca: bool) -> Auth {
        let iterations = raw.iterations.unwrap_or(ITERATIONS);
        self.within("auth.iterations", iterations, 1..=ITERATIONS_MAX as usize);
        let iterations = u32::try_from(iterations).unwrap_or(ITERATIONS_MAX);
        let users = self.users(raw.users_file.as_deref(), iterations);
        let has_file = raw.users_file.is_some();
        let server_passwords = self.server_passfile(raw.server_passfile.as_deref());
        let rules: Vec<Rule> = raw
            .rules
            .unwrap_or_default()
            .into_iter()
            .map(Rule::from)
            .collect();
        let certificate_users = raw.certificate_users.unwrap_or_default();
        if certificate_users
            .iter()
            .any(|pair| pair.certificate.is_empty() || pair.user.is_empty())
        {
            self.wrong("auth.certificate_users", "a name in it is empty");
        }
        self.not_empty("auth.query_user", raw.query_user.as_ref());
        self.not_empty("auth.query_database", raw.query_database.as_ref());
        let password = self.password(
            "auth.query_",
            raw.query_password,
            raw.query_password_file.as_deref(),
        );
        let query = match raw.query_user {
            Some(user) => Some(AuthQuery {
                sql: raw.query.unwrap_or_else(|| QUERY.to_owned()),
                user,
                password,
                database: raw.query_database,
            }),
            None => {
                let orphans = [
                    ("auth.query", raw.query.is_some()),
                    ("auth.query_password", password.is_some()),
                    ("auth.query_database", raw.query_database.is_some()),
                ];
                for (key, _) in orphans.iter().filter(|(_, written)| *written) {
                    self.wrong(key, "it is set, but auth.query_user is not");
                }
                None
            }
        };
        if query
            .as_ref()
            .is_some_and(|query| !query.sql.contains("$1"))
        {
            self.wrong(
                "auth.query",
                "it does not ask for a user: $1 stands for the name",
            );
        }
        self.rules(&rules, has_file || query.is_some(), client_ca);
        Auth {
            rules,
            users: Arc::new(users),
            query,
            server_passwords,
            certificate_name: raw.certificate_name.unwrap_or(CertificateName::CommonName),
            certificate_users,
            iterations,
        }
    }

    fn users(&mut self, file: Option<&Path>, iterations: u32) -> Users {
        let Some(file) = file else {
            return Users::default();
        };
        match Users::read(file) {
            Ok(reading) => {
                self.warnings.extend(reading.warnings);
                let other = reading.users.with_other_iterations(iterations);
                if other > 0 {
                    self.warnings.push(format!(
                        "{other} verifiers in {} do not have the {iterations} iterations of \
                         auth.iterations, by which strangers can tell their users from none",
                        file.display()
                    ));
                }
                reading.users
            }
            Err(mistakes) => {
                for mistake in mistakes {
                    self.wrong("auth.users_file", mistake);
                }
                Users::default()
            }
        }
    }

    fn server_passfile(&mut self, file: Option<&Path>) -> Passfile {
        let Some(file) = file else {
            return Passfile::default();
        };
        // One that is not there is an empty one for libpq, but this one was asked for.
        let there = std::fs::metadata(file).map_err(|error| error.to_string());
        let read = there.and_then(|_| Passfile::read(file).map_err(|error| error.to_string()));
        read.unwrap_or_else(|error| {
            self.wrong(
                "auth.server_passfile",
                format!("{}: {error}", file.display()),
            );
            Passfile::default()
        })
    }

    fn rules(&mut self, rules: &[Rule], knows_secrets: bool, client_ca: bool) {
        for (number, rule) in (1..).zip(rules) {
            let asks_secret = matches!(
                rule.method,
                AuthMethod::ScramSha256 | AuthMethod::Md5 | AuthMethod::Password
            );
            if asks_secret && !knows_secrets {
                self.wrong(
                    "auth.rules",
                    format!(
                        "rule {number} ({}) needs to know passwords: set auth.users_file or \
                         auth.query_user",
                        rule.method
                    ),
                );
            }
            if rule.method == AuthMethod::Cert && !client_ca {
                let text = format!("rule {number} (cert) needs tls.client_ca");
                self.wrong("auth.rules", text);
            }
            if rule.method == AuthMethod::Cert && rule.tls == Some(false) {
                let text = format!("rule {number} (cert) is for connections without TLS");
                self.wrong("auth.rules", text);
            }
            let local = rule.from.iter().all(|place| *place == Place::Local);
            if rule.method == AuthMethod::Password && rule.tls != Some(true) && !local {
                self.warnings.push(format!(
                    "auth.rules: rule {number} (password) is for connections without TLS too, on \
                     which others can read the password; set tls = true"
                ));
            }
        }
    }
}
