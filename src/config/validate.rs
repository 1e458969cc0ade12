//! From what is written to what is valid: every mistake of meaning at once, and every default.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::address::ListenAddress;
use super::admin::{Admin, AdminAddress};
use super::listen::{Listen, RawListen};
use super::problem::{Origins, Problem};
use super::quantity::{DurationOrNever, HumanDuration};
use super::raw::{Raw, RawLog, RawTls};
use super::settings::{Config, Log};
use super::surroundings::Surroundings;
use super::words::{AfterRestart, LogFormat, LogLevel};

/// Two threads carry some 180 000 round trips a second; more cores serve Postgres better.
const WORKERS_MAX_DEFAULT: usize = 2;

/// Turns what is written into a configuration; warnings go with it.
pub(super) fn validate(
    raw: Raw,
    origins: &Origins,
    around: &Surroundings,
) -> Result<(Config, Vec<String>), Vec<Problem>> {
    let mut check = Check {
        origins,
        problems: Vec::new(),
        warnings: Vec::new(),
    };
    let admin = check.admin(raw.admin);
    let tls = check.tls(&raw.tls);
    let listen = check.listen(raw.listen, &raw.tls, &admin);
    let state_dir = check.state_dir(raw.state_dir, around);
    let workers = raw
        .workers
        .unwrap_or(around.cores.clamp(1, WORKERS_MAX_DEFAULT));
    check.within("workers", workers, 1..=256);
    let upstream = check.upstream(&raw.upstream, around);
    let databases = check.databases(raw.databases, &raw.upstream, around);
    let (control, migrate) = check.roles(raw.control, raw.migrate, upstream.as_ref());
    let auth = check.auth(raw.auth, raw.tls.client_ca.is_some());
    check.read_upstreams_and_auth(&databases, &auth.rules);
    let hold = check.hold(raw.hold);
    let limits = check.limits(raw.limits);
    check.hold_among_limits(&hold, &limits);
    let read_only = check.read_only(&raw.read_only);
    check.read_only_among_holds(&read_only, &hold);
    let tcp = check.tcp(raw.tcp);
    let passwords = check.passwords(around);
    let audit = check.audit(raw.audit);
    let traces = check.traces(raw.traces);
    let console = check.console(raw.console, &databases, &auth.users);

    match (upstream, state_dir) {
        (Some(upstream), Some(state_dir)) if check.problems.is_empty() => {
            let config = Config {
                listen,
                state_dir,
                workers,
                after_restart: raw.after_restart.unwrap_or(AfterRestart::Resume),
                client_gone: raw
                    .client_gone
                    .map_or(Some(Duration::from_secs(1)), |DurationOrNever(gone)| gone),
                allow_unauthenticated: raw.allow_unauthenticated.unwrap_or(false),
                application_name_add_client: raw.application_name_add_client.unwrap_or(false),
                tls,
                upstream,
                control,
                migrate,
                auth,
                admin,
                hold,
                read_only,
                limits,
                tcp,
                log: log(raw.log),
                audit,
                console,
                traces,
                databases,
                passwords: Arc::new(passwords),
            };
            Ok((config, check.warnings))
        }
        _ => Err(check.problems),
    }
}

/// What was found so far.
pub(super) struct Check<'a> {
    pub(super) origins: &'a Origins,
    pub(super) problems: Vec<Problem>,
    pub(super) warnings: Vec<String>,
}

impl Check<'_> {
    pub(super) fn wrong(&mut self, key: &str, text: impl Into<String>) {
        self.problems.push(Problem {
            key: key.to_owned(),
            origin: self.origins.get(key).cloned(),
            text: text.into(),
        });
    }

    pub(super) fn within(
        &mut self,
        key: &str,
        value: usize,
        allowed: std::ops::RangeInclusive<usize>,
    ) {
        if !allowed.contains(&value) {
            let (low, high) = allowed.into_inner();
            self.wrong(key, format!("{value} is not between {low} and {high}"));
        }
    }

    /// A time that must not be zero.
    pub(super) fn time(
        &mut self,
        key: &str,
        written: Option<HumanDuration>,
        default: Duration,
    ) -> Duration {
        let time = written.map_or(default, |written| written.0);
        if time.is_zero() {
            self.wrong(key, "it must be longer than zero");
        }
        time
    }

    pub(super) fn not_empty(&mut self, key: &str, written: Option<&String>) {
        if written.is_some_and(String::is_empty) {
            self.wrong(key, "it is empty; leave the key out for its default");
        }
    }

    fn listen(
        &mut self,
        written: Option<Vec<RawListen>>,
        tls: &RawTls,
        admin: &Admin,
    ) -> Vec<Listen> {
        let default = SocketAddr::from((Ipv4Addr::LOCALHOST, super::address::LISTEN_PORT));
        let listen = written.unwrap_or_else(|| vec![ListenAddress::Tcp(default).into()]);
        if listen.is_empty() {
            self.wrong("listen", "it names no address");
        }
        // Port 0 lets the system choose, which gives another port each time.
        let fixed = |address: &ListenAddress| !matches!(address, ListenAddress::Tcp(tcp) if tcp.port() == 0);
        let mut seen = BTreeSet::new();
        let addresses = listen.iter().map(|listen| &listen.address);
        for address in addresses.filter(|address| fixed(address)) {
            if !seen.insert(address) {
                self.wrong("listen", format!("{address} is named twice"));
            }
            if admin.listen.iter().any(|it| is_there(it, address)) {
                self.wrong(
                    "listen",
                    format!("{address} is where the admin HTTP listens"),
                );
            }
        }
        for raw in &listen {
            if let (ListenAddress::Unix(_), [_, ..]) = (&raw.address, &raw.proxy_protocol[..]) {
                let text = format!("{}: a Unix socket has no addresses to list", raw.address);
                self.wrong("listen", text);
            }
        }
        listen
            .into_iter()
            .map(|raw| Listen {
                tls: self.client_tls(&raw, tls),
                address: raw.address,
                proxy_from: raw.proxy_protocol,
            })
            .collect()
    }

    fn state_dir(&mut self, written: Option<PathBuf>, around: &Surroundings) -> Option<PathBuf> {
        let Some(directory) = written.or_else(|| around.state_dir()) else {
            self.wrong(
                "state_dir",
                "it is not set, and neither is STATE_DIRECTORY, XDG_STATE_HOME or HOME",
            );
            return None;
        };
        match std::path::absolute(&directory) {
            Ok(directory) => Some(directory),
            Err(error) => {
                self.wrong("state_dir", format!("{}: {error}", directory.display()));
                None
            }
        }
    }
}

/// Whether the admin HTTP listens at this address.
fn is_there(admin: &AdminAddress, address: &ListenAddress) -> bool {
    match (admin, address) {
        (AdminAddress::Tcp(admin) | AdminAddress::Tls(admin), ListenAddress::Tcp(address)) => {
            admin == address
        }
        (AdminAddress::Unix(admin), ListenAddress::Unix(address)) => *admin == address.path(),
        (AdminAddress::Tcp(_) | AdminAddress::Tls(_), ListenAddress::Unix(_))
        | (AdminAddress::Unix(_), ListenAddress::Tcp(_)) => false,
    }
}

fn log(raw: RawLog) -> Log {
    Log {
        level: raw.level.unwrap_or(LogLevel::Info),
        format: raw.format.unwrap_or(LogFormat::Text),
    }
}
