//! A throw-away Postgres cluster: created in a private directory, gone without a trace on drop.
//!
//! Everything it owns lies in one directory (`data/`, `log`, the Unix socket) under the system's
//! temporary directory. Its shared memory does too, apart from one System V segment that Postgres
//! insists on and removes itself, unless it was killed: then we remove it.
//!
//! Linux only: the children of a crashed postmaster are found through `/proc`.

mod account;
mod binaries;
mod prepare;
pub mod process;
mod template;

use std::ffi::OsStr;
use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use self::account::Account;
use self::process::{Leash, Signal};

/// How long Postgres may take to accept or to end before we call it stuck.
const PATIENCE: Duration = Duration::from_secs(60);

/// The database superuser of every throw-away cluster.
pub const SUPERUSER: &str = "postgres";

/// What a cluster is made of.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Where `postgres` and `initdb` are; otherwise `PG_BIN`, Debian's newest, then `PATH`.
    pub bin_dir: Option<PathBuf>,
    /// Lines for `postgresql.conf`, unquoted. They win over our own, except for the addresses.
    pub settings: Vec<(String, String)>,
    /// Lines for `pg_hba.conf`. Empty means `trust` on the Unix socket and on loopback.
    pub pg_hba: Vec<String>,
}

/// How to ask a running cluster to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shutdown {
    /// Roll back what runs, end the sessions, write a checkpoint.
    Fast,
    /// Drop everything at once; the next start recovers.
    Immediate,
}

/// A cluster of its own, running or stopped. Dropping it ends it and removes its directory; so does
/// the end of this process, however it comes.
#[derive(Debug)]
pub struct Cluster {
    bin_dir: PathBuf,
    account: Account,
    dir: PathBuf,
    port: u16,
    postmaster: Option<Child>,
    leash: Option<Leash>,
}

impl Cluster {
    /// Runs `initdb` and starts the cluster; returns once it accepts connections.
    ///
    /// # Errors
    /// No binaries found, `initdb` failed, or Postgres did not accept in time; the end of its log
    /// is part of the error.
    pub async fn create(options: Options) -> anyhow::Result<Self> {
        Self::build(options, None).await
    }

    /// Like [`Cluster::create`], but copies the data directory that an earlier call left in
    /// `templates`, which takes a fifth of the time. Several processes may share `templates`.
    ///
    /// # Errors
    /// As for [`Cluster::create`], and when `templates` cannot be written.
    pub async fn from_template(options: Options, templates: &Path) -> anyhow::Result<Self> {
        Self::build(options, Some(templates.to_owned())).await
    }

    async fn build(options: Options, templates: Option<PathBuf>) -> anyhow::Result<Self> {
        let prepare = move || prepare::stopped_cluster(&options, templates.as_deref());
        let mut cluster = tokio::task::spawn_blocking(prepare)
            .await
            .context("the task that prepares a cluster panicked")??;
        // Somebody may take the port between our look and Postgres's bind.
        for _ in 0..4 {
            match cluster.start().await {
                Err(_) if cluster.log().contains("could not bind") => {
                    cluster.port = prepare::free_port()?;
                }
                result => return result.map(|()| cluster),
            }
        }
        cluster.start().await.map(|()| cluster)
    }

    /// Starts the cluster on its port and returns once it accepts connections. Does nothing to a
    /// cluster that runs.
    ///
    /// # Errors
    /// Postgres ended, or did not accept in time; the end of its log is part of the error.
    pub async fn start(&mut self) -> anyhow::Result<()> {
        if self.is_running() {
            return Ok(());
        }
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.log_path())?;
        let child = self
            .command("postgres")
            .arg("-D")
            .arg(self.data_dir())
            .args(["-p", &self.port.to_string()])
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            // Ctrl-C in a terminal is for whoever owns the cluster, who then drops it.
            .process_group(0)
            .spawn()
            .context("starting postgres")?;
        let pid = child.id();
        self.postmaster = Some(child);
        self.wait_for("to accept connections", |cluster| {
            cluster.postmaster_says_ready(pid)
        })
        .await
    }

    /// Stops the cluster and returns once its processes are gone. Does nothing to a stopped one.
    ///
    /// # Errors
    /// It did not end in time.
    pub async fn stop(&mut self, how: Shutdown) -> anyhow::Result<()> {
        let Some(pid) = self.pid() else { return Ok(()) };
        let signal = match how {
            Shutdown::Fast => Signal::Interrupt,
            Shutdown::Immediate => Signal::Quit,
        };
        process::send(signal, &[pid])?;
        self.wait_for_end().await
    }

    /// Kills the postmaster and every child with SIGKILL, as a crashing machine would, and returns
    /// once they are gone and the port is free. [`Cluster::start`] then recovers.
    ///
    /// # Errors
    /// The port did not become free in time.
    pub async fn crash(&mut self) -> anyhow::Result<()> {
        let Some(pid) = self.pid() else { return Ok(()) };
        // A stopped postmaster forks no more, so that the list of children is complete.
        process::send(Signal::Stop, &[pid])?;
        let mut pids = process::children(pid)?;
        pids.push(pid);
        process::send(Signal::Kill, &pids)?;
        self.wait_for_end().await?;
        let port = self.port;
        self.wait_for("to leave its port", |_| {
            port_is_free(port) && pids.iter().all(|pid| process::is_gone(*pid))
        })
        .await
    }

    /// [`Cluster::stop`] if it runs, then [`Cluster::start`].
    ///
    /// # Errors
    /// As theirs.
    pub async fn restart(&mut self) -> anyhow::Result<()> {
        self.stop(Shutdown::Fast).await?;
        self.start().await
    }

    /// Leaves the cluster running for good and returns its directory.
    #[must_use = "nobody removes this directory any more"]
    pub fn keep(mut self) -> PathBuf {
        self.postmaster = None;
        self.leash = None;
        std::mem::take(&mut self.dir)
    }

    /// The TCP address it listens on.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// Everything it owns, removed with it. Whoever owns the cluster may keep more in there.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The directory of its Unix socket, for a `host=` of libpq; the port is the same as for TCP.
    #[must_use]
    pub fn socket_dir(&self) -> &Path {
        &self.dir
    }

    /// A connection string for the superuser over TCP.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        format!("postgres://{SUPERUSER}@{}/{database}", self.addr())
    }

    /// The postmaster's process id, `None` while it is stopped.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.postmaster.as_ref().map(Child::id)
    }

    /// What Postgres has logged so far, over all its starts.
    #[must_use]
    pub fn log(&self) -> String {
        let bytes = fs::read(self.log_path()).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// A command for one of the cluster's own programs (`psql`, `pgbench`, ...), run as its user.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(self.bin_dir.join(program.as_ref()));
        // Nothing of the caller's libpq settings, and a directory that its user may enter.
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("PG") {
                command.env_remove(name);
            }
        }
        self.account.run(command.current_dir(&self.dir));
        command
    }

    fn data_dir(&self) -> PathBuf {
        self.dir.join("data")
    }

    fn log_path(&self) -> PathBuf {
        self.dir.join("log")
    }

    fn is_running(&mut self) -> bool {
        match self.postmaster.as_mut().map(Child::try_wait) {
            Some(Ok(None)) => true,
            Some(Ok(Some(_)) | Err(_)) => {
                self.postmaster = None;
                false
            }
            None => false,
        }
    }

    /// Line 8 of `postmaster.pid` holds the status (`src/include/utils/pidfile.h`); it needs no
    /// login, which `pg_hba.conf` might refuse.
    fn postmaster_says_ready(&self, pid: u32) -> bool {
        let text = fs::read_to_string(self.data_dir().join("postmaster.pid")).unwrap_or_default();
        let mut lines = text.lines();
        lines.next() == Some(&pid.to_string())
            && lines.nth(6).is_some_and(|status| status.trim() == "ready")
    }

    async fn wait_for_end(&mut self) -> anyhow::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while self.is_running() {
            self.pause_before(deadline, "to end").await?;
        }
        Ok(())
    }

    /// Polls `condition`; an end of the postmaster on the way is an error.
    async fn wait_for(
        &mut self,
        what: &str,
        condition: impl Fn(&Self) -> bool,
    ) -> anyhow::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        let was_running = self.postmaster.is_some();
        while !condition(self) {
            if was_running && !self.is_running() {
                bail!(
                    "postgres ended while we waited for it {what}:\n{}",
                    self.log_tail()
                );
            }
            self.pause_before(deadline, what).await?;
        }
        Ok(())
    }

    async fn pause_before(&self, deadline: Instant, what: &str) -> anyhow::Result<()> {
        if Instant::now() > deadline {
            bail!(
                "postgres took over {PATIENCE:?} {what}:\n{}",
                self.log_tail()
            );
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
        Ok(())
    }

    fn log_tail(&self) -> String {
        let log = self.log();
        let skip = log.lines().count().saturating_sub(20);
        log.lines().skip(skip).collect::<Vec<_>>().join("\n")
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if self.dir.as_os_str().is_empty() {
            return; // kept
        }
        if let Some(mut postmaster) = self.postmaster.take() {
            // Postgres itself kills children that do not follow SIGQUIT within five seconds, so
            // that this wait ends. A stopped postmaster has to be woken for it.
            let pid = [postmaster.id()];
            if process::send(Signal::Quit, &pid).is_err() {
                let _ = postmaster.kill();
            }
            let _ = process::send(Signal::Continue, &pid);
            let _ = postmaster.wait();
        }
        process::remove_shared_memory(&self.data_dir());
        let _ = fs::remove_dir_all(&self.dir);
    }
}

fn port_is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}
