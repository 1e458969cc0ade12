//! `pgdrain serve` as a process of its own, on free ports, in a directory of the demo's.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use super::cluster::process::{self, Leash, Signal};
use super::cluster::{Cluster, SUPERUSER};
use crate::admin::types::Endpoints;
use crate::config::Permission;

/// How long it may take to serve, and to end.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running proxy. Dropping it kills the process; so does the end of ours, however it comes.
pub(super) struct Proxy {
    child: Option<Child>,
    leash: Option<Leash>,
    log: PathBuf,
    listen: String,
    admin: String,
}

impl Proxy {
    /// Starts it in front of a cluster, with its state and log in `directory`; returns once it
    /// serves.
    ///
    /// # Errors
    /// It ended or did not serve in time; the end of its log is part of the error.
    pub(super) async fn start(cluster: &Cluster, directory: &Path) -> anyhow::Result<Self> {
        fs::create_dir(directory).with_context(|| format!("creating {}", directory.display()))?;
        let state_dir = directory.join("state");
        let log = directory.join("log");
        let child = spawn(cluster, &state_dir, &log).context("starting pgdrain serve")?;
        let pid = child.id().to_string();
        let mut proxy = Self {
            child: Some(child),
            leash: None,
            log,
            listen: String::new(),
            admin: String::new(),
        };
        // From here on the guard ends the process, also on an early return.
        let leash = Leash::new(r#"kill -s KILL "$0""#, &[OsStr::new(&pid)]);
        proxy.leash = Some(leash.context("starting the shell that watches over us")?);
        let endpoints = proxy.endpoints(&state_dir).await?;
        proxy.listen = endpoints.listen.into_iter().next().unwrap_or_default();
        proxy.admin = format!("http://{}", endpoints.admin);
        Ok(proxy)
    }

    /// Its process id; none once it has ended.
    pub(super) fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// The URL of its admin HTTP.
    pub(super) fn admin(&self) -> &str {
        &self.admin
    }

    /// A connection string through it.
    pub(super) fn url(&self, database: &str) -> String {
        format!("postgres://{SUPERUSER}@{}/{database}", self.listen)
    }

    /// The last lines of its log.
    pub(super) fn log_tail(&self) -> String {
        let log = fs::read(&self.log).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let skip = log.lines().count().saturating_sub(20);
        log.lines().skip(skip).collect::<Vec<_>>().join("\n")
    }

    /// Ends it in good order.
    ///
    /// # Errors
    /// It did not end in time, or not well.
    pub(super) async fn stop(&mut self) -> anyhow::Result<()> {
        let Some(mut child) = self.child.take() else {
            return Ok(());
        };
        process::send(Signal::Terminate, &[child.id()])?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            match child.try_wait()? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => bail!("the proxy ended with {status}:\n{}", self.log_tail()),
                None if Instant::now() > deadline => {
                    // The guard has it again.
                    self.child = Some(child);
                    bail!("the proxy did not end within {PATIENCE:?}");
                }
                None => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    }

    /// Leaves it running for good.
    pub(super) fn keep(mut self) {
        self.child = None;
        self.leash = None;
    }

    async fn endpoints(&mut self, state_dir: &Path) -> anyhow::Result<Endpoints> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Ok(endpoints) = Endpoints::read(state_dir) {
                return Ok(endpoints);
            }
            let ended = self.child.as_mut().map(Child::try_wait).transpose()?;
            if let Some(status) = ended.flatten() {
                bail!("pgdrain serve ended with {status}:\n{}", self.log_tail());
            }
            if Instant::now() > deadline {
                bail!(
                    "pgdrain serve did not serve within {PATIENCE:?}:\n{}",
                    self.log_tail()
                );
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn spawn(cluster: &Cluster, state_dir: &Path, log: &Path) -> anyhow::Result<Child> {
    let log = File::create(log)?;
    let mut command = Command::new(std::env::current_exe()?);
    // Settings meant for another pgdrain, or for libpq, are not meant for this one.
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("PG") {
            command.env_remove(name);
        }
    }
    let child = command
        .args(["serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"])
        .arg("--upstream")
        .arg(format!("postgres://{SUPERUSER}@{}", cluster.addr()))
        .arg("--state-dir")
        .arg(state_dir)
        // Whoever tries it is alone on this machine, or else has to trust the others with an empty cluster.
        .env("PGDRAIN_ADMIN_LOCAL", Permission::WORDS.join(","))
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        // Ctrl-C in a terminal is for us, who then end it.
        .process_group(0)
        .spawn()?;
    Ok(child)
}
