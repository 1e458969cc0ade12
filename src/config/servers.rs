//! The part of validation that is about servers: their URLs, our roles there, and passwords.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use super::passfile::Passfile;
use super::problem::Origin;
use super::raw::{RawControl, RawDatabase, RawDatabases, RawMigrate, RawRetry, RawUpstream};
use super::rules::Rule;
use super::secret::Secret;
use super::settings::{
    ControlRole, Database, MigrateRole, Passwords, ReadUpstream, Retry, Upstream,
};
use super::surroundings::Surroundings;
use super::upstream::{self, UpstreamUrl};
use super::validate::Check;
use super::words::{AuthMethod, Stateful};
use crate::tls::tcp::TcpOptions;

/// A server is tried this long before the next host gets its turn.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A client waits this long for a server before it is told that there is none.
const CONNECT_RETRY: Duration = Duration::from_secs(10);

/// More tries than this would be a queue of its own.
const RETRIES_MAX: usize = 100;

/// How far behind a standby may be that takes reads.
const READ_LAG_MAX: Duration = Duration::from_secs(1);

impl Check<'_> {
    pub(super) fn upstream(
        &mut self,
        raw: &RawUpstream,
        around: &Surroundings,
    ) -> Option<Upstream> {
        let Some(url) = &raw.url else {
            self.wrong(
                "upstream.url",
                "it is missing: say where Postgres is, as in postgres://USER@HOST:PORT \
                 (in the file, with --upstream, or in PGDRAIN_UPSTREAM_URL)",
            );
            return None;
        };
        self.server("upstream.url", url, raw, around)
    }

    /// Reads the URL of a server; the times are those of `[upstream]` for every one.
    fn server(
        &mut self,
        key: &str,
        url: &Secret,
        times: &RawUpstream,
        around: &Surroundings,
    ) -> Option<Upstream> {
        let connect_timeout = self.time(
            "upstream.connect_timeout",
            times.connect_timeout,
            CONNECT_TIMEOUT,
        );
        let UpstreamUrl {
            hosts,
            user,
            password,
            database,
            tls,
        } = match upstream::parse(url.expose()) {
            Ok(url) => url,
            Err(error) => {
                self.wrong(key, error.to_string());
                return None;
            }
        };
        if password.is_some()
            && let Some(Origin::Flag(flag)) = self.origins.get(key)
        {
            self.warnings.push(format!(
                "the password in {flag} can be read by every user of this machine; put it into \
                 the configuration file, PGPASSFILE or PGPASSWORD"
            ));
        }
        Some(Upstream {
            tls: self.server_tls(key, &tls, around),
            url_tls: tls,
            tcp: TcpOptions::default(),
            hosts,
            user,
            password,
            database,
            connect_timeout,
            connect_retry: times.connect_retry.map_or(CONNECT_RETRY, Duration::from),
        })
    }

    pub(super) fn databases(
        &mut self,
        raw: RawDatabases,
        times: &RawUpstream,
        around: &Surroundings,
    ) -> BTreeMap<String, Database> {
        let mut databases = BTreeMap::new();
        for (name, raw) in raw {
            if name.is_empty() || name == "*" {
                let text = "it is no name of a database; leave [databases] out to let all pass";
                self.wrong(&format!("databases.{name}"), text);
            }
            let key = format!("databases.{name}.upstream");
            let upstream = raw
                .upstream
                .as_ref()
                .and_then(|url| self.server(&key, url, times, around));
            let read = self.read_upstream(&name, raw, times, around);
            databases.insert(name, Database { upstream, read });
        }
        databases
    }

    /// The standby of a database; its times are those of `[upstream]`, but nobody waits for it.
    fn read_upstream(
        &mut self,
        name: &str,
        raw: RawDatabase,
        times: &RawUpstream,
        around: &Surroundings,
    ) -> Option<ReadUpstream> {
        let key = |key: &str| format!("databases.{name}.{key}");
        let Some(url) = &raw.read_upstream else {
            for (written, orphan) in [
                (raw.read_lag_max.is_some(), "read_lag_max"),
                (raw.read_stateful.is_some(), "read_stateful"),
            ] {
                if written {
                    self.wrong(&key(orphan), "it is set, but read_upstream is not");
                }
            }
            return None;
        };
        let lag_max = self.time(&key("read_lag_max"), raw.read_lag_max, READ_LAG_MAX);
        let upstream = self.server(&key("read_upstream"), url, times, around)?;
        Some(ReadUpstream {
            upstream: Upstream {
                connect_retry: Duration::ZERO,
                ..upstream
            },
            lag_max,
            stateful: raw.read_stateful.unwrap_or(Stateful::Stay),
        })
    }

    /// Nobody can log in at a standby for a client that proves itself to the server alone.
    pub(super) fn read_upstreams_and_auth(
        &mut self,
        databases: &BTreeMap<String, Database>,
        rules: &[Rule],
    ) {
        let terminates =
            |rule: &Rule| !matches!(rule.method, AuthMethod::PassThrough | AuthMethod::Reject);
        if rules.iter().any(terminates) {
            return;
        }
        for (name, _) in databases.iter().filter(|(_, it)| it.read.is_some()) {
            self.warnings.push(format!(
                "databases.{name}.read_upstream: no session can use it, because clients prove who \
                 they are to the server alone; pgdrain can log them in at another server only by a \
                 rule of auth.rules with another method than \"pass-through\""
            ));
        }
    }

    pub(super) fn roles(
        &mut self,
        control: RawControl,
        migrate: RawMigrate,
        upstream: Option<&Upstream>,
    ) -> (ControlRole, MigrateRole) {
        self.not_empty("control.user", control.user.as_ref());
        self.not_empty("control.database", control.database.as_ref());
        self.not_empty("migrate.user", migrate.user.as_ref());
        self.not_empty("migrate.owner", migrate.owner.as_ref());
        let control = ControlRole {
            password: self.password(
                "control.",
                control.password,
                control.password_file.as_deref(),
            ),
            user: control.user,
            database: control.database,
        };
        let migrate = MigrateRole {
            password: self.password(
                "migrate.",
                migrate.password,
                migrate.password_file.as_deref(),
            ),
            user: migrate.user,
            owner: migrate.owner,
            down_required: migrate.down_required.unwrap_or(true),
            write_back: migrate.write_back.unwrap_or_default(),
            thresholds: self.thresholds(&migrate.thresholds),
            triggers: self.triggers(migrate.triggers, migrate.thresholds.rls_role.is_some()),
            measures: self.measures(migrate.measures),
            canary: self.canary(migrate.canary),
            log: self.run_log(migrate.log),
            preflight: self.preflight(migrate.preflight),
            backup: self.backup(migrate.backup),
            approvals: self.approvals(migrate.approvals),
            save_objects: migrate.save_objects.unwrap_or_default(),
            validate: self.validation(migrate.validate),
            retry: self.retry(&migrate.retry),
            hooks: self.hooks(migrate.hooks),
            notify: self.notify(migrate.notify),
            maintenance_work_mem: self.maintenance_work_mem(migrate.maintenance_work_mem),
            postflight: self.postflight(migrate.postflight),
            reports: self.reports(migrate.reports),
            compare: self.compare(migrate.compare),
            batch: self.batch(&migrate.batch),
            copies: self.copies(migrate.copies),
        };
        // Without a readable URL nobody can tell whether it names a user.
        if upstream.is_some_and(|upstream| upstream.user.is_none()) {
            for (role, user, password) in [
                ("control", &control.user, &control.password),
                ("migrate", &migrate.user, &migrate.password),
            ] {
                if user.is_none() && password.is_some() {
                    self.wrong(&format!("{role}.password"), "it is set, but no user is");
                }
            }
            if control.user.is_none() {
                self.warnings.push(
                    "no user is set for the control connection (control.user or upstream.url): \
                     whether a database is drained cannot be proved"
                        .to_owned(),
                );
            }
        }
        (control, migrate)
    }

    fn retry(&mut self, raw: &RawRetry) -> Retry {
        let default = Retry::default();
        let tries = raw.tries.unwrap_or(default.tries as usize);
        self.within("migrate.retry.tries", tries, 1..=RETRIES_MAX);
        Retry {
            tries: u32::try_from(tries).unwrap_or(default.tries),
            time: self.time("migrate.retry.time", raw.time, default.time),
        }
    }

    /// A password from its key or from the file that another key names; `path` is what stands in
    /// front of both keys.
    pub(super) fn password(
        &mut self,
        path: &str,
        written: Option<Secret>,
        file: Option<&Path>,
    ) -> Option<Secret> {
        let key = format!("{path}password_file");
        match (written, file) {
            (Some(_), Some(_)) => {
                self.wrong(
                    &key,
                    format!("both it and {path}password are set; keep one"),
                );
                None
            }
            (None, Some(file)) => match Secret::read(file) {
                Ok(secret) => Some(secret),
                Err(error) => {
                    self.wrong(&key, format!("{} cannot be read: {error}", file.display()));
                    None
                }
            },
            (written, None) => written,
        }
    }

    /// Passwords from outside, where libpq looks for them.
    pub(super) fn passwords(&mut self, around: &Surroundings) -> Passwords {
        let passfile = match around.passfile().as_deref().map(Passfile::read) {
            Some(Ok(passfile)) => passfile,
            Some(Err(error)) => {
                self.warnings.push(error.to_string());
                Passfile::default()
            }
            None => Passfile::default(),
        };
        Passwords {
            environment: around.variable("PGPASSWORD").map(Secret::new),
            passfile,
        }
    }
}
