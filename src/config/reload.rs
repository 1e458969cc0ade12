//! The configuration in use, and what a new one changes in it: at once, or only at a restart.

use std::sync::Arc;

use arc_swap::ArcSwap;

use super::settings::{Config, Database, Upstream};

/// When a changed key takes effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Applies {
    /// For what begins after the reload.
    Now,
    /// It is a part of something that lives as long as the process.
    Restart,
}

/// One key: when it applies, whether two configurations agree on it, how to keep the old one, and how it
/// is shown.
pub(super) struct Row {
    pub(super) key: &'static str,
    applies: Applies,
    same: fn(&Config, &Config) -> bool,
    keep: fn(&mut Config, &Config),
    /// By `Debug`, which hides secrets.
    pub(super) show: fn(&Config) -> String,
}

impl Row {
    /// Whether a reload can change it.
    pub(super) fn reloads(&self) -> bool {
        self.applies == Applies::Now
    }
}

/// Declares rows by the path of each key's field.
macro_rules! rows {
    ($($key:literal $applies:ident $($field:ident).+;)+) => {
        &[$(Row {
            key: $key,
            applies: Applies::$applies,
            same: |a, b| a.$($field).+ == b.$($field).+,
            keep: |new, old| new.$($field).+ = old.$($field).+.clone(),
            show: |config| format!("{:?}", config.$($field).+),
        },)+]
    };
}

/// Every key. The server stays the same for the life of the process, because *drained* is only
/// proved by a connection to the very server that the sessions are on.
const ROWS: &[Row] = rows! {
    "listen" Restart listen;
    "state_dir" Restart state_dir;
    "after_restart" Restart after_restart;
    "workers" Restart workers;
    "client_gone" Now client_gone;
    "allow_unauthenticated" Now allow_unauthenticated;
    "application_name_add_client" Now application_name_add_client;
    "upstream.url (hosts)" Restart upstream.hosts;
    "tls" Now tls;
    "upstream.url (tls)" Now upstream.tls;
    "upstream.url (user)" Now upstream.user;
    "upstream.url (password)" Now upstream.password;
    "upstream.url (database)" Now upstream.database;
    "upstream.connect_timeout" Now upstream.connect_timeout;
    "upstream.connect_retry" Now upstream.connect_retry;
    "control.user" Now control.user;
    "control.password" Now control.password;
    "control.database" Now control.database;
    "migrate.user" Now migrate.user;
    "migrate.password" Now migrate.password;
    "migrate.owner" Restart migrate.owner;
    "migrate.down_required" Restart migrate.down_required;
    "migrate.write_back" Restart migrate.write_back;
    "migrate.maintenance_work_mem" Restart migrate.maintenance_work_mem;
    "migrate.save_objects" Restart migrate.save_objects;
    "migrate.validate.grants" Restart migrate.validate.grants;
    "migrate.validate.row_security" Restart migrate.validate.row_security;
    "migrate.validate.views" Restart migrate.validate.views;
    "migrate.validate.constraints" Restart migrate.validate.constraints;
    "migrate.validate.indexes" Restart migrate.validate.indexes;
    "migrate.validate.rows" Restart migrate.validate.rows;
    "migrate.validate.rows_max" Restart migrate.validate.rows_max;
    "migrate.validate.time" Restart migrate.validate.time;
    "migrate.validate.explain" Restart migrate.validate.explain;
    "migrate.preflight.off" Restart migrate.preflight.off;
    "migrate.preflight.extensions" Restart migrate.preflight.extensions;
    "migrate.preflight.long_transaction" Restart migrate.preflight.long_transaction;
    "migrate.preflight.idle_in_transaction" Restart migrate.preflight.idle_in_transaction;
    "migrate.preflight.lock_wait" Restart migrate.preflight.lock_wait;
    "migrate.preflight.connections_percent" Restart migrate.preflight.connections_percent;
    "migrate.preflight.replication_lag" Restart migrate.preflight.replication_lag;
    "migrate.preflight.replication_bytes" Restart migrate.preflight.replication_bytes;
    "migrate.preflight.slot_bytes" Restart migrate.preflight.slot_bytes;
    "migrate.preflight.index_percent" Restart migrate.preflight.index_percent;
    "migrate.preflight.disk_unasked" Restart migrate.preflight.disk_unasked;
    "migrate.preflight.disk_free_command" Restart migrate.preflight.disk_free_command;
    "migrate.preflight.rows_time" Restart migrate.preflight.rows_time;
    "migrate.preflight.analyze_first" Restart migrate.preflight.analyze_first;
    "migrate.preflight.drift" Restart migrate.preflight.drift;
    "migrate.preflight.drift_ignore" Restart migrate.preflight.drift_ignore;
    "migrate.preflight.required" Restart migrate.preflight.demands.required;
    "migrate.preflight.relations" Restart migrate.preflight.demands.relations;
    "migrate.preflight.monitoring" Restart migrate.preflight.demands.monitoring;
    "migrate.preflight.staging" Restart migrate.preflight.demands.staging;
    "migrate.preflight.backup_age" Restart migrate.preflight.demands.backup_age;
    "migrate.preflight.commands" Restart migrate.preflight.demands.commands;
    "migrate.retry.tries" Restart migrate.retry.tries;
    "migrate.retry.time" Restart migrate.retry.time;
    "migrate.backup.dir" Restart migrate.backup.dir;
    "migrate.backup.jobs" Restart migrate.backup.jobs;
    "migrate.backup.keep" Restart migrate.backup.keep;
    "migrate.backup.verify" Restart migrate.backup.verify;
    "migrate.backup.command" Restart migrate.backup.command;
    "migrate.backup.pg_dump" Restart migrate.backup.pg_dump;
    "migrate.backup.pg_restore" Restart migrate.backup.pg_restore;
    "migrate.approvals.roles" Restart migrate.approvals.roles;
    "migrate.approvals.required" Restart migrate.approvals.required;
    "migrate.approvals.expire" Restart migrate.approvals.expire;
    "migrate.approvals.rollback_by" Restart migrate.approvals.rollback_by;
    "migrate.approvals.gate" Restart migrate.approvals.gate;
    "migrate.hooks" Restart migrate.hooks;
    "migrate.notify" Restart migrate.notify;
    "migrate.triggers" Restart migrate.triggers;
    "migrate.measures.before" Restart migrate.measures.before;
    "migrate.measures.one_in" Restart migrate.measures.one_in;
    "migrate.canary.user" Restart migrate.canary.scope;
    "migrate.canary.application_name" Restart migrate.canary.scope;
    "migrate.canary.client" Restart migrate.canary.scope;
    "migrate.canary.command" Restart migrate.canary.command;
    "migrate.canary.lasting" Restart migrate.canary.lasting;
    "migrate.canary.timeout" Restart migrate.canary.timeout;
    "migrate.canary.then" Restart migrate.canary.then;
    "migrate.canary.on_failure" Restart migrate.canary.on_failure;
    "migrate.copies.every_run" Restart migrate.copies.every_run;
    "migrate.copies.max_bytes" Restart migrate.copies.max_bytes;
    "migrate.copies.time" Restart migrate.copies.time;
    "migrate.copies.keep" Restart migrate.copies.keep;
    "migrate.thresholds.lock_held" Restart migrate.thresholds.lock_held;
    "migrate.thresholds.lock_wait" Restart migrate.thresholds.lock_wait;
    "migrate.thresholds.blocked" Restart migrate.thresholds.blocked;
    "migrate.thresholds.degradation_percent" Restart migrate.thresholds.degradation_percent;
    "migrate.thresholds.index_use_percent" Restart migrate.thresholds.index_use_percent;
    "migrate.thresholds.rls" Restart migrate.thresholds.rls;
    "migrate.thresholds.rls_role" Restart migrate.thresholds.rls_role;
    "migrate.thresholds.over" Restart migrate.thresholds.over;
    "migrate.compare.when" Restart migrate.compare.when;
    "migrate.compare.plans" Restart migrate.compare.plans;
    "migrate.compare.statements" Restart migrate.compare.statements;
    "migrate.batch.p99" Restart migrate.batch.p99;
    "migrate.log.dir" Restart migrate.log.dir;
    "migrate.log.max_bytes" Restart migrate.log.max_bytes;
    "migrate.log.keep" Restart migrate.log.keep;
    "migrate.postflight.off" Restart migrate.postflight.off;
    "migrate.postflight.then" Restart migrate.postflight.then;
    "migrate.postflight.strict" Restart migrate.postflight.strict;
    "migrate.postflight.locks_time" Restart migrate.postflight.locks_time;
    "migrate.postflight.analyze" Restart migrate.postflight.analyze;
    "migrate.postflight.analyze_time" Restart migrate.postflight.analyze_time;
    "migrate.postflight.fingerprints" Restart migrate.postflight.fingerprints;
    "migrate.postflight.time" Restart migrate.postflight.time;
    "migrate.reports.dir" Restart migrate.reports.dir;
    "migrate.reports.keep" Restart migrate.reports.keep;
    "migrate.reports.watch_after" Restart migrate.reports.watch_after;
    "auth.users_file" Now auth.users;
    "auth.query" Now auth.query;
    "auth.server_passfile" Now auth.server_passwords;
    "auth.certificate_name" Now auth.certificate_name;
    "auth.certificate_users" Now auth.certificate_users;
    "auth.iterations" Now auth.iterations;
    "auth.rules" Now auth.rules;
    "admin.listen" Restart admin.listen;
    "admin.local" Now admin.local;
    "admin.show_constants" Now admin.show_constants;
    "admin.hosts" Now admin.hosts;
    "admin.certificate" Now admin.acceptor;
    "admin.tokens" Now admin.tokens;
    "admin.clients" Now admin.clients;
    "hold.for" Now hold.duration;
    "hold.then" Now hold.then;
    "hold.blocked" Now hold.blocked;
    "hold.client_deadline" Now hold.client_deadline;
    "hold.reject_sqlstate" Now hold.reject_sqlstate;
    "hold.clients_max" Now hold.clients_max;
    "hold.clients_max_total" Now hold.clients_max_total;
    "hold.when_full" Now hold.when_full;
    "hold.notice_after" Now hold.notice_after;
    "hold.exempt" Now hold.exempt;
    "hold.reopen_rate" Now hold.reopen.rate;
    "hold.reopen_transactions" Now hold.reopen.transactions;
    "hold.reopen_for" Now hold.reopen.longest;
    "hold.bytes_per_client" Now hold.bytes_per_client;
    "hold.replication" Now hold.replication;
    "hold.ladder" Now hold.ladder.preset;
    "hold.autocommit" Now hold.ladder.autocommit;
    "hold.wait" Now hold.ladder.wait;
    "hold.cancel" Now hold.ladder.cancel;
    "hold.stuck" Now hold.ladder.stuck;
    "hold.abort" Now hold.ladder.abort;
    "hold.terminate" Now hold.ladder.terminate;
    "hold.bypass" Now hold.bypass;
    "hold.fence" Now hold.fence;
    "hold.ready" Now hold.ready;
    "read_only.for" Now read_only.duration;
    "read_only.then" Now read_only.then;
    "read_only.writes" Now read_only.writes;
    "console" Now console;
    "limits.connections" Now limits.connections;
    "limits.connections_per_database" Now limits.connections_per_database;
    "limits.connections_per_user" Now limits.connections_per_user;
    "limits.connections_per_address" Now limits.connections_per_address;
    "limits.logins" Now limits.logins;
    "limits.login_time" Now limits.login_time;
    "limits.client_stalled" Now limits.client_stalled;
    "limits.cancels" Restart limits.cancels;
    "limits.accepts_per_second" Now limits.accepts_per_second;
    "tcp.keepalive_idle" Now tcp.keepalive_idle;
    "tcp.keepalive_interval" Now tcp.keepalive_interval;
    "tcp.keepalive_count" Now tcp.keepalive_count;
    "tcp.user_timeout" Now tcp.user_timeout;
    "log.level" Now log.level;
    "log.format" Restart log.format;
    "audit.rotate_bytes" Restart audit.rotate_bytes;
    "audit.keep" Restart audit.keep;
    "traces" Restart traces;
    "PGPASSWORD, PGPASSFILE" Now passwords;
};

/// The listed databases: which of them pass can change, where one of them is cannot.
const DATABASE_ROWS: &[Row] = &[
    Row {
        key: "databases",
        applies: Applies::Now,
        same: |a, b| a.databases.keys().eq(b.databases.keys()),
        keep: |new, old| new.databases = old.databases.clone(),
        show: |config| format!("{:?}", config.databases.keys().collect::<Vec<_>>()),
    },
    Row {
        key: "databases.NAME.upstream",
        applies: Applies::Restart,
        same: |a, b| !differ(a, b, |here, there| here.upstream == there.upstream),
        keep: |new, old| {
            for (name, database) in &mut new.databases {
                if let Some(old) = old.databases.get(name) {
                    database.upstream = old.upstream.clone();
                }
            }
        },
        show: |config| each(config, |it| Some(hosts(it.upstream.as_ref()?))),
    },
    Row {
        key: "databases.NAME.read_upstream",
        applies: Applies::Now,
        same: |a, b| {
            let servers = |it: &Database| it.read.as_ref().map(|read| read.upstream.clone());
            !differ(a, b, |here, there| servers(here) == servers(there))
        },
        keep: |new, old| new.databases = old.databases.clone(),
        show: |config| each(config, |it| Some(hosts(&it.read.as_ref()?.upstream))),
    },
    Row {
        key: "databases.NAME.read_lag_max",
        applies: Applies::Now,
        same: |a, b| {
            let lag = |it: &Database| it.read.as_ref().map(|read| read.lag_max);
            !differ(a, b, |here, there| lag(here) == lag(there))
        },
        keep: |new, old| new.databases = old.databases.clone(),
        show: |config| {
            each(config, |it| {
                Some(format!("{:?}", it.read.as_ref()?.lag_max))
            })
        },
    },
    Row {
        key: "databases.NAME.read_stateful",
        applies: Applies::Now,
        same: |a, b| {
            let stateful = |it: &Database| it.read.as_ref().map(|read| read.stateful);
            !differ(a, b, |here, there| stateful(here) == stateful(there))
        },
        keep: |new, old| new.databases = old.databases.clone(),
        show: |config| each(config, |it| Some(it.read.as_ref()?.stateful.to_string())),
    },
];

/// Whether a database that both list is not the same in both.
fn differ(a: &Config, b: &Config, same: impl Fn(&Database, &Database) -> bool) -> bool {
    let listed = a.databases.iter();
    let mut both = listed.filter_map(|(name, here)| Some((here, b.databases.get(name)?)));
    both.any(|(here, there)| !same(here, there))
}

/// What the listed databases that have one say of a key.
fn each(config: &Config, value: impl Fn(&Database) -> Option<String>) -> String {
    let listed = config.databases.iter();
    let said = listed.filter_map(|(name, it)| Some(format!("{name:?}: {}", value(it)?)));
    match said.collect::<Vec<_>>() {
        none if none.is_empty() => "None".to_owned(),
        said => said.join(", "),
    }
}

/// The hosts of a server, without what gives access to it.
fn hosts(upstream: &Upstream) -> String {
    let hosts: Vec<_> = upstream.hosts.iter().map(ToString::to_string).collect();
    hosts.join(",")
}

/// The configuration in use, shared by all parts of the program.
///
/// What lives for a while (a session, a hold) takes a snapshot at its start and keeps it.
#[derive(Debug)]
pub struct Shared(ArcSwap<Config>);

/// Which keys a reload changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reloaded {
    /// These apply to what begins from now on.
    pub now: Vec<&'static str>,
    /// These keep their old value until a restart.
    pub restart: Vec<&'static str>,
}

impl Shared {
    /// Shares a configuration.
    pub fn new(config: Config) -> Self {
        Self(ArcSwap::from_pointee(config))
    }

    /// The configuration as it is now.
    pub fn load(&self) -> Arc<Config> {
        self.0.load_full()
    }

    /// Takes over what can change while running. What cannot keeps its old value, so that
    /// [`Shared::load`] always tells what is in use and the next reload reports it again.
    pub fn reload(&self, mut new: Config) -> Reloaded {
        let changed = keep_what_stays(&self.load(), &mut new);
        self.0.store(Arc::new(new));
        changed
    }

    /// What a reload with it would say. Changes nothing.
    #[must_use]
    pub fn would_change(&self, new: &Config) -> Reloaded {
        keep_what_stays(&self.load(), &mut new.clone())
    }
}

/// Whether a key of the file takes effect at a reload; of one that is only a part of what changes
/// together, whether that does.
#[cfg(test)]
pub(super) fn applies_now(key: &str) -> Option<bool> {
    let own = |row: &str| match key {
        "control.password_file" | "migrate.password_file" => row == key.replace("_file", ""),
        key if key.starts_with("auth.query_") => row == "auth.query",
        "tls.mode" => row == "listen",
        "admin.key" | "admin.client_ca" => row == "admin.certificate",
        key if key.starts_with("console.") => row == "console",
        key if key.starts_with("traces.") => row == "traces",
        "tls.certificate" | "tls.key" | "tls.client_ca" => row == "tls",
        // Its hosts do not.
        "upstream.url" => row == "upstream.url (hosts)",
        _ => row == key,
    };
    rows()
        .find(|row| own(row.key))
        .map(|row| row.applies == Applies::Now)
}

/// Puts the old value of what cannot change while running into the new configuration.
fn keep_what_stays(old: &Config, new: &mut Config) -> Reloaded {
    let mut changed = Reloaded::default();
    for row in rows() {
        if (row.same)(old, new) {
            continue;
        }
        match row.applies {
            Applies::Now => changed.now.push(row.key),
            Applies::Restart => {
                (row.keep)(new, old);
                changed.restart.push(row.key);
            }
        }
    }
    changed
}

/// All rows.
pub(super) fn rows() -> impl Iterator<Item = &'static Row> {
    ROWS.iter().chain(DATABASE_ROWS)
}
