//! The configuration as it is written: the keys of the file, each possibly absent.
//!
//! The same keys come from the file, the environment and flags; each of them is one `Raw`, and
//! they are laid over each other before anything is checked.

use std::collections::BTreeMap;
use std::path::PathBuf;

use ipnet::IpNet;
use serde::Deserialize;

use super::admin::{ClientCertificate, RawPlaces, RawToken};
use super::approvals::GateUse;
use super::canary::OnCanaryFailure;
use super::compare::CompareWhen;
use super::console::RawConsoleUsers;
use super::demands::RawCheckCommand;
use super::hooks::{RawHook, RawNotify};
use super::listen::RawListen;
use super::permission::Permission;
use super::postflight::{Analyze, Fingerprints, PostflightCheck};
use super::quantity::{ByteSize, CountOrNone, DurationOrNever, HumanDuration};
use super::rules::{CertificateName, CertificateUser, RawRule};
use super::runs::Trigger;
use super::scope::Exempt;
use super::secret::Secret;
use super::words::{
    AfterRestart, Blocked, Bypass, ClientTls, CountRows, LogFormat, LogLevel, OnDrift,
    PreflightCheck, Preset, ReplicationHold, SaveObjects, Stateful, Then, Verify, WhenFull,
};
use crate::wire::refusal::Sqlstate;

/// What can be laid over another of its kind, key by key.
pub(super) trait Layer {
    /// Keeps what is set here and takes the rest from below.
    fn over(self, below: Self) -> Self;

    /// Appends the dotted names of all keys, `path` being the name of this one, and the names of their
    /// types, which the documentation of keys is held against.
    fn keys(path: &str, into: &mut Vec<(String, &'static str)>);
}

impl<T> Layer for Option<T> {
    fn over(self, below: Self) -> Self {
        self.or(below)
    }

    fn keys(path: &str, into: &mut Vec<(String, &'static str)>) {
        into.push((path.to_owned(), std::any::type_name::<T>()));
    }
}

/// Declares a section of the file: its keys once, for reading, layering and naming them.
macro_rules! section {
    ($(#[$about:meta])* $name:ident { $($key:ident: $kind:ty,)+ }) => {
        $(#[$about])*
        #[derive(Clone, Debug, Default, PartialEq, Deserialize)]
        #[serde(deny_unknown_fields, default, expecting = "a section, its name in brackets")]
        pub(super) struct $name {
            $(pub(super) $key: $kind,)+
        }

        impl Layer for $name {
            fn over(self, below: Self) -> Self {
                Self { $($key: self.$key.over(below.$key),)+ }
            }

            fn keys(path: &str, into: &mut Vec<(String, &'static str)>) {
                $(
                    // `for` is a word of Rust; the file knows nothing of that.
                    let key = stringify!($key).trim_start_matches("r#");
                    let key = if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
                    <$kind as Layer>::keys(&key, into);
                )+
            }
        }
    };
}

section! {
    /// The whole of it.
    Raw {
        listen: Option<Vec<RawListen>>,
        state_dir: Option<PathBuf>,
        workers: Option<usize>,
        after_restart: Option<AfterRestart>,
        client_gone: Option<DurationOrNever>,
        allow_unauthenticated: Option<bool>,
        application_name_add_client: Option<bool>,
        tls: RawTls,
        upstream: RawUpstream,
        control: RawControl,
        migrate: RawMigrate,
        auth: RawAuth,
        admin: RawAdmin,
        hold: RawHold,
        read_only: RawReadOnly,
        limits: RawLimits,
        tcp: RawTcp,
        log: RawLog,
        audit: RawAudit,
        console: RawConsole,
        traces: RawTraces,
        databases: RawDatabases,
    }
}

section! {
    /// `[tls]`
    RawTls {
        mode: Option<ClientTls>,
        certificate: Option<PathBuf>,
        key: Option<PathBuf>,
        client_ca: Option<PathBuf>,
    }
}

section! {
    /// `[upstream]`
    RawUpstream {
        url: Option<Secret>,
        connect_timeout: Option<HumanDuration>,
        connect_retry: Option<HumanDuration>,
    }
}

section! {
    /// `[control]`
    RawControl {
        user: Option<String>,
        password: Option<Secret>,
        password_file: Option<PathBuf>,
        database: Option<String>,
    }
}

section! {
    /// `[migrate]`
    RawMigrate {
        user: Option<String>,
        password: Option<Secret>,
        password_file: Option<PathBuf>,
        owner: Option<String>,
        down_required: Option<bool>,
        write_back: Option<bool>,
        save_objects: Option<SaveObjects>,
        preflight: RawPreflight,
        backup: RawBackup,
        approvals: RawApprovals,
        hooks: Option<Vec<RawHook>>,
        notify: Option<Vec<RawNotify>>,
        validate: RawValidate,
        triggers: Option<Vec<Trigger>>,
        measures: RawMeasures,
        canary: RawCanary,
        thresholds: RawThresholds,
        log: RawRunLog,
        retry: RawRetry,
        maintenance_work_mem: Option<ByteSize>,
        postflight: RawPostflight,
        reports: RawReports,
        compare: RawCompare,
        batch: RawBatch,
        copies: RawCopies,
    }
}

section! {
    /// `[migrate.copies]`
    RawCopies {
        every_run: Option<bool>,
        max_bytes: Option<ByteSize>,
        time: Option<HumanDuration>,
        keep: Option<HumanDuration>,
    }
}

section! {
    /// `[migrate.canary]`
    RawCanary {
        user: Option<String>,
        application_name: Option<String>,
        client: Option<IpNet>,
        command: Option<String>,
        lasting: Option<HumanDuration>,
        timeout: Option<HumanDuration>,
        then: Option<Then>,
        on_failure: Option<OnCanaryFailure>,
    }
}

section! {
    /// `[migrate.measures]`
    RawMeasures {
        before: Option<HumanDuration>,
        one_in: Option<usize>,
    }
}

section! {
    /// `[migrate.retry]`
    RawRetry {
        tries: Option<usize>,
        time: Option<HumanDuration>,
    }
}

section! {
    /// `[migrate.preflight]`
    RawPreflight {
        off: Option<Vec<PreflightCheck>>,
        extensions: Option<Vec<String>>,
        long_transaction: Option<HumanDuration>,
        idle_in_transaction: Option<HumanDuration>,
        lock_wait: Option<HumanDuration>,
        connections_percent: Option<usize>,
        replication_lag: Option<HumanDuration>,
        replication_bytes: Option<ByteSize>,
        slot_bytes: Option<ByteSize>,
        index_percent: Option<usize>,
        disk_unasked: Option<ByteSize>,
        disk_free_command: Option<String>,
        rows_time: Option<HumanDuration>,
        analyze_first: Option<bool>,
        drift: Option<OnDrift>,
        drift_ignore: Option<Vec<String>>,
        required: Option<Vec<String>>,
        relations: Option<Vec<String>>,
        monitoring: Option<bool>,
        staging: Option<Secret>,
        backup_age: Option<DurationOrNever>,
        commands: Option<Vec<RawCheckCommand>>,
    }
}

section! {
    /// `[migrate.postflight]`
    RawPostflight {
        off: Option<Vec<PostflightCheck>>,
        then: Option<Then>,
        strict: Option<bool>,
        locks_time: Option<HumanDuration>,
        analyze: Option<Analyze>,
        analyze_time: Option<HumanDuration>,
        fingerprints: Option<Fingerprints>,
        time: Option<HumanDuration>,
    }
}

section! {
    /// `[migrate.reports]`
    RawReports {
        dir: Option<PathBuf>,
        keep: Option<usize>,
        watch_after: Option<HumanDuration>,
    }
}

section! {
    /// `[migrate.backup]`
    RawBackup {
        dir: Option<PathBuf>,
        jobs: Option<usize>,
        keep: Option<HumanDuration>,
        verify: Option<Verify>,
        command: Option<String>,
        pg_dump: Option<PathBuf>,
        pg_restore: Option<PathBuf>,
    }
}

section! {
    /// `[migrate.validate]`
    RawValidate {
        grants: Option<bool>,
        row_security: Option<bool>,
        views: Option<bool>,
        constraints: Option<bool>,
        indexes: Option<bool>,
        rows: Option<CountRows>,
        rows_max: Option<ByteSize>,
        time: Option<HumanDuration>,
        explain: Option<bool>,
    }
}

section! {
    /// `[migrate.approvals]`
    RawApprovals {
        roles: Option<Vec<String>>,
        required: Option<bool>,
        expire: Option<HumanDuration>,
        rollback_by: Option<bool>,
        gate: Option<GateUse>,
    }
}

section! {
    /// `[migrate.thresholds]`
    RawThresholds {
        lock_held: Option<DurationOrNever>,
        lock_wait: Option<DurationOrNever>,
        blocked: Option<CountOrNone>,
        degradation_percent: Option<CountOrNone>,
        index_use_percent: Option<CountOrNone>,
        rls: Option<DurationOrNever>,
        rls_role: Option<String>,
        over: Option<HumanDuration>,
    }
}

section! {
    /// `[migrate.compare]`
    RawCompare {
        when: Option<CompareWhen>,
        plans: Option<usize>,
        statements: Option<Vec<String>>,
    }
}

section! {
    /// `[migrate.batch]`
    RawBatch {
        p99: Option<DurationOrNever>,
    }
}

section! {
    /// `[migrate.log]`
    RawRunLog {
        dir: Option<PathBuf>,
        max_bytes: Option<ByteSize>,
        keep: Option<usize>,
    }
}

section! {
    /// `[auth]`
    RawAuth {
        users_file: Option<PathBuf>,
        query: Option<String>,
        query_user: Option<String>,
        query_password: Option<Secret>,
        query_password_file: Option<PathBuf>,
        query_database: Option<String>,
        server_passfile: Option<PathBuf>,
        certificate_name: Option<CertificateName>,
        certificate_users: Option<Vec<CertificateUser>>,
        iterations: Option<usize>,
        rules: Option<Vec<RawRule>>,
    }
}

section! {
    /// `[admin]`
    RawAdmin {
        listen: Option<RawPlaces>,
        local: Option<Vec<Permission>>,
        show_constants: Option<bool>,
        hosts: Option<Vec<String>>,
        certificate: Option<PathBuf>,
        key: Option<PathBuf>,
        client_ca: Option<PathBuf>,
        tokens: Option<Vec<RawToken>>,
        clients: Option<Vec<ClientCertificate>>,
    }
}

section! {
    /// `[hold]`
    RawHold {
        r#for: Option<HumanDuration>,
        then: Option<Then>,
        blocked: Option<Blocked>,
        client_deadline: Option<HumanDuration>,
        reject_sqlstate: Option<Sqlstate>,
        clients_max: Option<usize>,
        clients_max_total: Option<usize>,
        when_full: Option<WhenFull>,
        notice_after: Option<DurationOrNever>,
        exempt: Option<Vec<Exempt>>,
        reopen_rate: Option<usize>,
        reopen_transactions: Option<usize>,
        reopen_for: Option<HumanDuration>,
        bytes_per_client: Option<ByteSize>,
        replication: Option<ReplicationHold>,
        ladder: Option<Preset>,
        autocommit: Option<HumanDuration>,
        wait: Option<HumanDuration>,
        cancel: Option<HumanDuration>,
        stuck: Option<HumanDuration>,
        abort: Option<HumanDuration>,
        terminate: Option<HumanDuration>,
        bypass: Option<Bypass>,
        fence: Option<bool>,
        ready: Option<bool>,
    }
}

section! {
    /// `[read_only]`
    RawReadOnly {
        r#for: Option<HumanDuration>,
        then: Option<Then>,
        writes: Option<Blocked>,
    }
}

section! {
    /// `[limits]`
    RawLimits {
        connections: Option<usize>,
        connections_per_database: Option<CountOrNone>,
        connections_per_user: Option<CountOrNone>,
        connections_per_address: Option<CountOrNone>,
        logins: Option<usize>,
        login_time: Option<HumanDuration>,
        client_stalled: Option<DurationOrNever>,
        cancels: Option<usize>,
        accepts_per_second: Option<usize>,
    }
}

section! {
    /// `[tcp]`
    RawTcp {
        keepalive_idle: Option<HumanDuration>,
        keepalive_interval: Option<HumanDuration>,
        keepalive_count: Option<u32>,
        user_timeout: Option<DurationOrNever>,
    }
}

section! {
    /// `[audit]`
    RawAudit {
        rotate_bytes: Option<ByteSize>,
        keep: Option<usize>,
    }
}

section! {
    /// `[console]`
    RawConsole {
        enabled: Option<bool>,
        name: Option<String>,
        aliases: Option<Vec<String>>,
        connections: Option<usize>,
        users: RawConsoleUsers,
    }
}

section! {
    /// `[traces]`
    RawTraces {
        endpoint: Option<Secret>,
        headers: Option<Secret>,
        ca_file: Option<PathBuf>,
        service: Option<String>,
    }
}

section! {
    /// `[log]`
    RawLog {
        level: Option<LogLevel>,
        format: Option<LogFormat>,
    }
}

section! {
    /// `[databases.NAME]`
    RawDatabase {
        upstream: Option<Secret>,
        read_upstream: Option<Secret>,
        read_lag_max: Option<HumanDuration>,
        read_stateful: Option<Stateful>,
    }
}

/// `[databases]`: any names, each with the keys of [`RawDatabase`].
pub(super) type RawDatabases = BTreeMap<String, RawDatabase>;

impl Layer for RawDatabases {
    /// Names are no settings of their own: the upper list replaces the lower one.
    fn over(self, below: Self) -> Self {
        if self.is_empty() { below } else { self }
    }

    fn keys(path: &str, into: &mut Vec<(String, &'static str)>) {
        RawDatabase::keys(&format!("{path}.NAME"), into);
    }
}

/// The dotted names of all keys; the names of databases stand as `NAME`.
pub(super) fn keys() -> Vec<String> {
    keys_and_types().into_iter().map(|(key, _)| key).collect()
}

/// The same, each with the name of its type in the program.
pub(super) fn keys_and_types() -> Vec<(String, &'static str)> {
    let mut keys = Vec::new();
    Raw::keys("", &mut keys);
    keys
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_upper_layer_wins_key_by_key() {
        let read = |text: &str| toml::from_str::<Raw>(text).expect("well formed");
        let merged = read("workers = 1\n[hold]\nfor = '1m'").over(read(
            "workers = 2\nstate_dir = '/a'\n[hold]\nthen = 'stay'\nfor = '2m'",
        ));
        let expected = read("workers = 1\nstate_dir = '/a'\n[hold]\nthen = 'stay'\nfor = '1m'");
        assert_eq!(merged, expected);
    }

    #[test]
    fn keys_are_named_with_their_section() {
        let keys = keys();
        for key in [
            "listen",
            "hold.for",
            "upstream.url",
            "databases.NAME.upstream",
        ] {
            assert!(keys.iter().any(|k| k == key), "{key} in {keys:?}");
        }
    }
}
