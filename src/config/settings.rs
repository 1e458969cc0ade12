//! The configuration as the program uses it: checked, complete, in types of its own.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::address::Host;
use super::admin::Admin;
use super::approvals::Approvals;
use super::canary::Canary;
use super::compare::{BatchLimits, Compare};
use super::console::Console;
use super::copies::Copies;
use super::demands::Demands;
use super::hooks::{Hook, Notify};
use super::listen::Listen;
use super::measures::Measures;
use super::passfile::Passfile;
use super::postflight::{Postflight, Reports};
use super::quantity::HumanDuration;
use super::rules::{CertificateName, CertificateUser, Rule};
use super::runs::Trigger;
use super::scope::Exempt;
use super::secret::Secret;
use super::traces::Traces;
use super::upstream::UrlTls;
use super::users::Users;
use super::validation::Validate;
use super::words::{
    AfterRestart, Blocked, Bypass, LogFormat, LogLevel, OnDrift, PreflightCheck, Preset,
    ReplicationHold, SaveObjects, Stateful, Then, Verify, WhenFull,
};
use crate::tls::acceptor::Acceptor;
use crate::tls::connector::Connector;
use crate::tls::tcp::TcpOptions;
use crate::wire::refusal::Sqlstate;

/// A configuration that was found valid. `config/reference.toml` explains every key.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Where clients connect; at least one.
    pub listen: Vec<Listen>,
    /// The directory of the journal, reports and `endpoints.json`.
    pub state_dir: PathBuf,
    /// Threads of the relay; at least one.
    pub workers: usize,
    /// What becomes of holds when the proxy starts again.
    pub after_restart: AfterRestart,
    /// How long a statement may run on after its client vanished; `None` lets it run to its end.
    pub client_gone: Option<Duration>,
    /// Whether strangers may use a server that lets them in without a challenge.
    pub allow_unauthenticated: bool,
    /// Whether the client's address is added to `application_name`.
    pub application_name_add_client: bool,
    /// How clients are encrypted.
    pub tls: Tls,
    /// The server of every database that has none of its own.
    pub upstream: Upstream,
    /// Who watches and cancels, as far as it is said.
    pub control: ControlRole,
    /// Who runs migrations, as far as it is said.
    pub migrate: MigrateRole,
    /// Who gets in, and how.
    pub auth: Auth,
    /// Where the admin HTTP listens, and who may ask it for what.
    pub admin: Admin,
    /// What a hold does when its command says nothing else.
    pub hold: Hold,
    /// What the read-only mode does when its command says nothing else.
    pub read_only: ReadOnly,
    /// What is limited.
    pub limits: Limits,
    /// How TCP finds out that a peer is gone.
    pub tcp: TcpOptions,
    /// What is logged, and how.
    pub log: Log,
    /// How much of what was done to traffic is written down.
    pub audit: Audit,
    /// How operators are let in by psql.
    pub console: Console,
    /// Where windows and migrations are told to as traces, if they are.
    pub traces: Option<Traces>,
    /// The databases that pass, by name; when empty, all pass.
    pub databases: BTreeMap<String, Database>,
    /// Passwords that are in no setting.
    pub passwords: Arc<Passwords>,
}

/// How clients are encrypted.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tls {
    /// Answers their handshakes; `None` when there is no certificate, so that nobody is encrypted.
    pub acceptor: Option<Acceptor>,
}

/// A Postgres server.
#[derive(Clone, Debug, PartialEq)]
pub struct Upstream {
    /// At least one, in the order in which they are tried.
    pub hosts: Vec<Host>,
    /// Who we are there when no role says otherwise.
    pub user: Option<String>,
    /// The password of that user.
    pub password: Option<Secret>,
    /// The database that the URL names.
    pub database: Option<String>,
    /// How connections to it are encrypted.
    pub tls: Connector,
    /// The same as it was written, for programs of Postgres that we start.
    pub url_tls: UrlTls,
    /// How TCP finds out that it is gone; [`Config::target`] fills it in.
    pub tcp: TcpOptions,
    /// The longest time for one attempt at one host.
    pub connect_timeout: Duration,
    /// How long attempts are begun anew, the pauses between them included.
    pub connect_retry: Duration,
}

/// `[control]` as written; [`Config::target`] fills it up.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ControlRole {
    /// The user; the upstream's when not given.
    pub user: Option<String>,
    /// The password, from the file or from `password_file`.
    pub password: Option<Secret>,
    /// Where it connects; the upstream's database, or `postgres`, when not given.
    pub database: Option<String>,
}

/// `[migrate]` as written; [`Config::target`] fills it up.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MigrateRole {
    /// The user; the upstream's when not given.
    pub user: Option<String>,
    /// The password, from the file or from `password_file`.
    pub password: Option<Secret>,
    /// The role that migrations run as (`SET ROLE`).
    pub owner: Option<String>,
    /// Whether each new up file needs a down file, or a reason why there is none.
    pub down_required: bool,
    /// Whether the tool that the files are written for is told, in its own table, of what is done.
    pub write_back: bool,
    /// What preflight asks for.
    pub preflight: Preflight,
    /// What is kept of a database before its files run.
    pub backup: Backup,
    /// Who has to say yes to a plan.
    pub approvals: Approvals,
    /// Commands that a run waits for.
    pub hooks: Vec<Hook>,
    /// Who is told how a run goes.
    pub notify: Vec<Notify>,
    /// Of which objects the definitions are saved before its files run.
    pub save_objects: SaveObjects,
    /// What a file has to leave as it was.
    pub validate: Validate,
    /// What is asked of a run besides that its files are applied.
    pub thresholds: Thresholds,
    /// What is watched for after a run.
    pub triggers: Vec<Trigger>,
    /// How statements are measured around a run.
    pub measures: Measures,
    /// What is tried before traffic is let in again.
    pub canary: Canary,
    /// Where what happens in runs is written down.
    pub log: RunLog,
    /// How often a statement is tried that meets a lock.
    pub retry: Retry,
    /// `maintenance_work_mem` of the sessions that run files, in bytes; the server's if it is not said.
    pub maintenance_work_mem: Option<u64>,
    /// What is looked at when its files are applied.
    pub postflight: Postflight,
    /// Where reports and schemas of runs are written.
    pub reports: Reports,
    /// What of the database is compared before and after a run.
    pub compare: Compare,
    /// What keeps batches waiting that do not say it themselves.
    pub batch: BatchLimits,
    /// How tables are copied within their database.
    pub copies: Copies,
}

/// `[migrate.thresholds]`: what a run's figures have to stay below; a run that does not keep to one ends
/// with exit code 3. `None` asks for nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Thresholds {
    /// How long a file holds a lock that keeps others from reading or writing.
    pub lock_held: Option<Duration>,
    /// How long others wait for a lock meanwhile.
    pub lock_wait: Option<Duration>,
    /// How many sessions wait for locks at once.
    pub blocked: Option<usize>,
    /// By how many percent clients' statements take longer than before the run.
    pub degradation_percent: Option<usize>,
    /// Above how many percent of the scans of touched tables have to be by an index.
    pub index_use_percent: Option<usize>,
    /// What row-level security costs a query of `rls_role`.
    pub rls: Option<Duration>,
    /// The role as which that is measured.
    pub rls_role: Option<String>,
    /// How long it is looked at traffic behind the files, if something asks for it.
    pub over: Duration,
}

impl Thresholds {
    /// Whether one of them is about the traffic behind the files.
    #[must_use]
    pub fn look_at_traffic(&self) -> bool {
        self.degradation_percent.is_some() || self.index_use_percent.is_some()
    }
}

impl Default for Thresholds {
    fn default() -> Self {
        Self {
            lock_held: None,
            lock_wait: None,
            blocked: None,
            degradation_percent: None,
            index_use_percent: None,
            rls: None,
            rls_role: None,
            over: Duration::from_secs(30),
        }
    }
}

/// `[migrate.log]`: the files that tell of runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunLog {
    /// Where they are; `None` writes none.
    pub dir: Option<PathBuf>,
    /// How large each of them grows.
    pub max_bytes: u64,
    /// How many old ones are kept of each kind.
    pub keep: usize,
}

impl Default for RunLog {
    fn default() -> Self {
        Self {
            dir: None,
            max_bytes: 16 << 20,
            keep: 20,
        }
    }
}

/// `[migrate.retry]`: how often a statement is tried that meets a lock (55P03) or a deadlock (40P01).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    /// Tries of a statement, the first one counted.
    pub tries: u32,
    /// How long they may take in all, the waits for the lock and the pauses counted.
    pub time: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            tries: 5,
            time: Duration::from_secs(30),
        }
    }
}

/// `[migrate.backup]`: how a database is backed up before migration files run in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backup {
    /// Where backups are kept, each database in a directory of its own; `None` makes none.
    pub dir: Option<PathBuf>,
    /// How many tables are dumped at once.
    pub jobs: usize,
    /// How long a backup is kept; the newest one is kept in any case.
    pub keep: Duration,
    /// How it is looked at before it counts.
    pub verify: Verify,
    /// What makes the backup instead of pg_dump, for the shell.
    pub command: Option<String>,
    /// The program pg_dump, looked for in PATH unless it is a path.
    pub pg_dump: PathBuf,
    /// The program pg_restore, looked for in PATH unless it is a path.
    pub pg_restore: PathBuf,
}

impl Default for Backup {
    fn default() -> Self {
        Self {
            dir: None,
            jobs: 2,
            keep: Duration::from_secs(48 * 3600),
            verify: Verify::List,
            command: None,
            pg_dump: PathBuf::from("pg_dump"),
            pg_restore: PathBuf::from("pg_restore"),
        }
    }
}

/// What preflight asks for before a migration: limits, and the checks that are left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Preflight {
    /// Checks that are not made.
    pub off: Vec<PreflightCheck>,
    /// Extensions that have to be installed.
    pub extensions: Vec<String>,
    /// From which age on a transaction is named.
    pub long_transaction: Duration,
    /// For how long a session may sit idle in a transaction before it is named.
    pub idle_in_transaction: Duration,
    /// For how long somebody may wait for a lock.
    pub lock_wait: Duration,
    /// How much of `max_connections` may be in use.
    pub connections_percent: usize,
    /// How long a standby may take to replay what was written when it was looked at.
    pub replication_lag: Duration,
    /// How many bytes of WAL a standby may be behind.
    pub replication_bytes: u64,
    /// How many bytes of WAL a replication slot may hold back.
    pub slot_bytes: u64,
    /// How much of a table's size a new index of it is taken to need.
    pub index_percent: usize,
    /// How much room is taken for granted where the disk cannot be asked.
    pub disk_unasked: u64,
    /// A shell command that prints how many bytes are free where the server keeps its data.
    pub disk_free_command: Option<String>,
    /// How long all questions to rows may take together.
    pub rows_time: Duration,
    /// Whether the tables that files touch are analyzed first.
    pub analyze_first: bool,
    /// What a schema does that is no longer what the last run left.
    pub drift: OnDrift,
    /// What may change between two runs: names, `*` for any characters.
    pub drift_ignore: Vec<String>,
    /// What has to be there.
    pub demands: Demands,
}

impl Default for Preflight {
    fn default() -> Self {
        Self {
            off: Vec::new(),
            extensions: Vec::new(),
            long_transaction: Duration::from_secs(30),
            idle_in_transaction: Duration::from_secs(30),
            lock_wait: Duration::from_secs(5),
            connections_percent: 90,
            replication_lag: Duration::from_secs(10),
            replication_bytes: 64 << 20,
            slot_bytes: 1 << 30,
            index_percent: 20,
            disk_unasked: 1 << 30,
            disk_free_command: None,
            rows_time: Duration::from_secs(5),
            analyze_first: false,
            drift: OnDrift::default(),
            drift_ignore: Vec::new(),
            demands: Demands::default(),
        }
    }
}

/// Who gets in, and how.
#[derive(Clone, Debug, PartialEq)]
pub struct Auth {
    /// The first that is for a client counts; without any, all pass through.
    pub rules: Vec<Rule>,
    /// The users of the users file.
    pub users: Arc<Users>,
    /// How the server is asked for secrets, if it is.
    pub query: Option<AuthQuery>,
    /// Passwords for servers that were told the clients' users.
    pub(super) server_passwords: Passfile,
    /// Which name of a certificate counts.
    pub certificate_name: CertificateName,
    /// Whom the names of certificates may log in as; when empty, the user of that name.
    pub certificate_users: Vec<CertificateUser>,
    /// The SCRAM iterations of users that have no verifier, or do not exist.
    pub iterations: u32,
}

/// How the server is asked for secrets.
#[derive(Clone, Debug, PartialEq)]
pub struct AuthQuery {
    /// The statement; `$1` is the user's name.
    pub sql: String,
    /// The role that asks.
    pub user: String,
    /// Its password, from the file or from `query_password_file`.
    pub password: Option<Secret>,
    /// Where it connects; the upstream's database, or `postgres`, when not given.
    pub database: Option<String>,
}

impl Auth {
    /// The password that was set for this user at this server, whoever the client is.
    #[must_use]
    pub fn server_password(&self, host: &Host, database: &str, user: &str) -> Option<&Secret> {
        self.server_passwords.find(host, database, user)
    }
}

/// What a hold does when its command says nothing else.
#[derive(Clone, Debug, PartialEq)]
pub struct Hold {
    /// Its own end, counted from its start.
    pub duration: Duration,
    /// What happens at that end.
    pub then: Then,
    /// What happens to transactions that may not start.
    pub blocked: Blocked,
    /// How long one client is held before it gets an error.
    pub client_deadline: Duration,
    /// What a rejected transaction is told.
    pub reject_sqlstate: Sqlstate,
    /// How many clients are held at once in one database.
    pub clients_max: usize,
    /// How many clients are held at once in all databases together.
    pub clients_max_total: usize,
    /// Who goes when one more comes.
    pub when_full: WhenFull,
    /// After how long a held client is told by a notice that it waits; `None` is never.
    pub notice_after: Option<Duration>,
    /// Sessions that it does not stop.
    pub exempt: Vec<Exempt>,
    /// How those that waited are let in.
    pub reopen: Reopen,
    /// How many bytes of a held client are kept before we stop reading it.
    pub bytes_per_client: usize,
    /// What it does to replication connections.
    pub replication: ReplicationHold,
    /// How a drain ends what still runs.
    pub ladder: Ladder,
    /// What it does about sessions that did not come through us; `None` leaves it to the kind of
    /// hold.
    pub bypass: Option<Bypass>,
    /// Whether the server keeps new sessions out of the database too.
    pub fence: bool,
    /// Whether `/readyz` says that clients are served while it lasts.
    pub ready: bool,
}

impl Hold {
    /// What a plain hold does about bypass sessions: it names them, for its traffic is ours alone.
    #[must_use]
    pub fn bypass_of_hold(&self) -> Bypass {
        self.bypass.unwrap_or(Bypass::Ignore)
    }

    /// What a window does about them: who wants to be alone waits for them.
    #[must_use]
    pub fn bypass_of_window(&self) -> Bypass {
        self.bypass.unwrap_or(Bypass::Wait)
    }
}

/// What the read-only mode does when its command says nothing else; the rest is as for a hold.
#[derive(Clone, Debug, PartialEq)]
pub struct ReadOnly {
    /// Its own end, counted from its start.
    pub duration: Duration,
    /// What happens at that end.
    pub then: Then,
    /// What happens to transactions that write.
    pub writes: Blocked,
}

/// How those that waited are let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reopen {
    /// Clients a second at first, doubled each tenth of a second.
    pub rate: usize,
    /// Transactions at once, at most.
    pub transactions: usize,
    /// How long it lasts at most.
    pub longest: Duration,
}

/// The steps of a drain and their times.
#[derive(Clone, Debug, PartialEq)]
pub struct Ladder {
    /// How far it goes.
    pub preset: Preset,
    /// For how long at most it first keeps only transaction blocks from starting.
    pub autocommit: Duration,
    /// How long it waits for transactions to end.
    pub wait: Duration,
    /// How long it waits after statements were cancelled.
    pub cancel: Duration,
    /// How long it waits after stuck conversations were freed.
    pub stuck: Duration,
    /// How long it waits after idle transactions were aborted in place.
    pub abort: Duration,
    /// How long it waits after sessions were terminated.
    pub terminate: Duration,
}

/// The parts of a ladder that one command asks for; the settings say the rest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AskedLadder {
    /// How far it goes.
    pub preset: Option<Preset>,
    /// For how long at most it first keeps only transaction blocks from starting.
    pub autocommit: Option<HumanDuration>,
    /// How long it waits for transactions to end.
    pub wait: Option<HumanDuration>,
    /// How long it waits after it cancelled statements.
    pub cancel: Option<HumanDuration>,
    /// How long it waits after it freed conversations that are stuck.
    pub stuck: Option<HumanDuration>,
    /// How long it waits after it aborted idle transactions in place.
    pub abort: Option<HumanDuration>,
    /// How long it waits after it terminated sessions.
    pub terminate: Option<HumanDuration>,
}

impl Ladder {
    /// These settings, but for what was asked for.
    #[must_use]
    pub fn with(&self, asked: &AskedLadder) -> Ladder {
        let or = |asked: Option<HumanDuration>, set| asked.map_or(set, Duration::from);
        Ladder {
            preset: asked.preset.unwrap_or(self.preset),
            autocommit: or(asked.autocommit, self.autocommit),
            wait: or(asked.wait, self.wait),
            cancel: or(asked.cancel, self.cancel),
            stuck: or(asked.stuck, self.stuck),
            abort: or(asked.abort, self.abort),
            terminate: or(asked.terminate, self.terminate),
        }
    }
}

/// What is limited.
#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    /// Clients at the same time.
    pub connections: usize,
    /// Of these, in one database; `None` is as many as come.
    pub connections_per_database: Option<usize>,
    /// Of these, of one user.
    pub connections_per_user: Option<usize>,
    /// Connections from one address, from their first byte on.
    pub connections_per_address: Option<usize>,
    /// Clients that have not finished their login.
    pub logins: usize,
    /// From accepting a client to the end of its authentication.
    pub login_time: Duration,
    /// How long a client may leave bytes untaken that are there for it; `None` is for ever.
    pub client_stalled: Option<Duration>,
    /// Cancel requests that are on their way to servers at the same time.
    pub cancels: usize,
    /// Connections that one listener takes in a second.
    pub accepts_per_second: usize,
}

/// How much of what was done to traffic is written down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Audit {
    /// How large its file grows before it is put away.
    pub rotate_bytes: u64,
    /// How many files that were put away are kept.
    pub keep: u32,
}

/// What is logged, and how.
#[derive(Clone, Debug, PartialEq)]
pub struct Log {
    /// The least important lines that are written.
    pub level: LogLevel,
    /// For people or for programs.
    pub format: LogFormat,
}

/// A database that the configuration names.
#[derive(Clone, Debug, PartialEq)]
pub struct Database {
    /// Its own server; `None` stands for the common one.
    pub upstream: Option<Upstream>,
    /// Where its reads go while it is in read-only mode, if anywhere else.
    pub read: Option<ReadUpstream>,
}

/// A standby of a database's server, which takes reads while the database is in read-only mode.
#[derive(Clone, Debug, PartialEq)]
pub struct ReadUpstream {
    /// The standby.
    pub upstream: Upstream,
    /// How far behind it may be.
    pub lag_max: Duration,
    /// What becomes of reads of sessions that cannot go there.
    pub stateful: Stateful,
}

/// Passwords from outside the configuration, in libpq's order: `PGPASSWORD`, then the password
/// file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Passwords {
    /// The value of `PGPASSWORD`.
    pub(super) environment: Option<Secret>,
    /// The lines of `PGPASSFILE` or `~/.pgpass`.
    pub(super) passfile: Passfile,
}

/// Where one database is and who we are there.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    /// Its server.
    pub upstream: Upstream,
    /// Who watches and cancels; `None` when no user is known.
    pub control: Option<Role>,
    /// Who runs migrations; `None` when no user is known.
    pub migrate: Option<Role>,
    /// Who asks for the secrets of clients; `None` when nobody does.
    pub lookup: Option<Role>,
    /// The role that migrations run as (`SET ROLE`).
    pub owner: Option<String>,
}

/// Who we are on a connection of our own.
#[derive(Clone, Debug, PartialEq)]
pub struct Role {
    /// The user.
    pub user: String,
    /// The database it connects to when no other is meant.
    pub database: String,
    /// The password that was set for it.
    password: Option<Secret>,
    /// Where to look otherwise.
    passwords: Arc<Passwords>,
}

impl Config {
    /// Where a database is and who we are there; `None` when the configuration lists databases
    /// and this is not one of them.
    pub fn target(&self, database: &str) -> Option<Target> {
        let own = match self.databases.get(database) {
            Some(listed) => listed.upstream.as_ref(),
            None if self.databases.is_empty() => None,
            None => return None,
        };
        Some(self.target_at(own.unwrap_or(&self.upstream)))
    }

    /// The standby of a database, and who we are there; `None` when it has none.
    pub fn read_target(&self, database: &str) -> Option<(Target, &ReadUpstream)> {
        let read = self.databases.get(database)?.read.as_ref()?;
        Some((self.target_at(&read.upstream), read))
    }

    /// The common server and who we are there, whatever databases are listed.
    pub fn default_target(&self) -> Target {
        self.target_at(&self.upstream)
    }

    fn target_at(&self, upstream: &Upstream) -> Target {
        let home = self
            .control
            .database
            .as_ref()
            .or(upstream.database.as_ref());
        let role = |user: &Option<String>, password: &Option<Secret>| {
            let user = user.as_ref().or(upstream.user.as_ref())?;
            // The password in the URL belongs to the user in the URL.
            let inherited = (Some(user) == upstream.user.as_ref())
                .then_some(upstream.password.as_ref())
                .flatten();
            Some(Role {
                user: user.clone(),
                database: home.map_or("postgres", String::as_str).to_owned(),
                password: password.as_ref().or(inherited).cloned(),
                passwords: self.passwords.clone(),
            })
        };
        let lookup = self.auth.query.as_ref().map(|query| Role {
            user: query.user.clone(),
            database: query
                .database
                .as_ref()
                .or(upstream.database.as_ref())
                .map_or("postgres", String::as_str)
                .to_owned(),
            password: query.password.clone(),
            passwords: self.passwords.clone(),
        });
        Target {
            upstream: Upstream {
                tcp: self.tcp.clone(),
                ..upstream.clone()
            },
            lookup,
            control: role(&self.control.user, &self.control.password),
            migrate: role(&self.migrate.user, &self.migrate.password),
            owner: self.migrate.owner.clone(),
        }
    }
}

impl Role {
    /// The password for a connection to this host and database: the role's own, else
    /// `PGPASSWORD`, else the password file's. `None` when none is known, which is right for
    /// servers that ask for none.
    pub fn password(&self, host: &Host, database: &str) -> Option<&Secret> {
        let Passwords {
            environment,
            passfile,
        } = &*self.passwords;
        self.password
            .as_ref()
            .or(environment.as_ref())
            .or_else(|| passfile.find(host, database, &self.user))
    }
}
