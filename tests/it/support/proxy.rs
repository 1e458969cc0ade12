//! The real binary as a process of its own: started, killed, restarted, and heard.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use pgdrain::cli::demo::cluster::process::{self, Leash, Signal};
use serde_json::Value;
use tempfile::TempDir;

use super::admin::Admin;
use super::cluster::Postgres;
use super::poll::{PATIENCE, SOON, eventually, within};
use super::wire::Wire;

/// A `pgdrain serve`, running or ended. Dropping it kills the process; if the test panics, its log
/// is printed first.
pub(crate) struct Proxy {
    upstream: Option<String>,
    args: Vec<String>,
    env: Vec<(String, String)>,
    /// Whether the configuration says where it listens.
    listens_as_configured: bool,
    dir: TempDir,
    running: Option<Running>,
}

/// What a command left: `code` is `None` after a signal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ran {
    /// The exit code.
    pub(crate) code: Option<i32>,
    /// What it printed.
    pub(crate) stdout: String,
    /// What it complained about.
    pub(crate) stderr: String,
}

struct Running {
    child: Child,
    listen: SocketAddr,
    admin: SocketAddr,
    _leash: Leash,
}

impl Proxy {
    /// In front of `postgres`, as its superuser, on ports of its own.
    pub(crate) async fn start(postgres: &Postgres) -> Self {
        Self::start_with(postgres, &[]).await
    }

    /// The same with more arguments for `serve`.
    pub(crate) async fn start_with(postgres: &Postgres, args: &[&str]) -> Self {
        let upstream = format!("postgres://postgres@{}", postgres.addr());
        Self::before(&upstream, args).await
    }

    /// The same with settings by environment variables, whose names are written without
    /// `PGDRAIN_`.
    pub(crate) async fn start_set(postgres: &Postgres, settings: &[(&str, &str)]) -> Self {
        let upstream = format!("postgres://postgres@{}", postgres.addr());
        Self::before_set(&upstream, settings).await
    }

    /// In front of anything.
    pub(crate) async fn before(upstream: &str, args: &[&str]) -> Self {
        let mut proxy = Self::not_started(upstream);
        proxy.args = args.iter().map(ToString::to_string).collect();
        proxy.launch().await;
        proxy
    }

    /// In front of anything, with settings as for [`Proxy::start_set`].
    pub(crate) async fn before_set(upstream: &str, settings: &[(&str, &str)]) -> Self {
        let mut proxy = Self::not_started(upstream);
        for (name, value) in settings {
            proxy.set(&format!("PGDRAIN_{name}"), value);
        }
        proxy.launch().await;
        proxy
    }

    /// In front of anything, once it is launched; without an upstream it has to be set.
    pub(crate) fn not_started(upstream: &str) -> Self {
        Self {
            upstream: (!upstream.is_empty()).then(|| upstream.to_owned()),
            args: Vec::new(),
            // Most tests of migrations are about the way up.
            env: [
                ("PGDRAIN_MIGRATE_DOWN_REQUIRED", "false"),
                // And they put things right between two runs by themselves.
                ("PGDRAIN_MIGRATE_PREFLIGHT_DRIFT", "tell"),
                // Who may ask for what is a matter of tests of their own.
                (
                    "PGDRAIN_ADMIN_LOCAL",
                    "look,hold,open,migrate,approve,administer",
                ),
            ]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .to_vec(),
            listens_as_configured: false,
            dir: tempfile::tempdir().expect("a temporary directory"),
            running: None,
        }
    }

    /// In front of `postgres`, with this configuration, which says where it listens (on port 0).
    pub(crate) async fn start_configured(postgres: &Postgres, config: &str) -> Self {
        Self::configured(&format!("postgres://postgres@{}", postgres.addr()), config).await
    }

    /// With this configuration, which says where it listens, and also where the server is if that
    /// is not said here.
    pub(crate) async fn configured(upstream: &str, config: &str) -> Self {
        let mut proxy = Self::not_started(upstream);
        let file = proxy.dir.path().join("pgdrain.toml");
        fs::write(&file, config).expect("a file in a directory of ours");
        proxy.arg("--config");
        proxy.arg(&file.display().to_string());
        proxy.listens_as_configured = true;
        proxy.launch().await;
        proxy
    }

    /// Adds an argument for the next launch.
    pub(crate) fn arg(&mut self, arg: &str) {
        self.args.push(arg.to_owned());
    }

    /// Sets an environment variable for the next launch.
    pub(crate) fn set(&mut self, name: &str, value: &str) {
        self.env.push((name.to_owned(), value.to_owned()));
    }

    /// Starts the process again on the same state directory, on new ports, and waits until it
    /// serves. Kills the old one if it still runs.
    pub(crate) async fn launch(&mut self) {
        self.kill();
        let child = self.spawn();
        self.serving(child).await;
    }

    /// Waits until this process serves.
    async fn serving(&mut self, child: Child) {
        let pid = child.id();
        let script = r#"kill -s KILL "$0""#;
        let leash = Leash::new(script, &[OsStr::new(&pid.to_string())]).expect("a shell");
        // From here on the drop guard knows of the process.
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let running = Running {
            child,
            listen: nowhere,
            admin: nowhere,
            _leash: leash,
        };
        let running = self.running.insert(running);
        let file = self.dir.path().join("state/endpoints.json");
        let endpoints = eventually("endpoints.json of the proxy", SOON, async || {
            if let Ok(Some(status)) = running.child.try_wait() {
                panic!("pgdrain serve ended early: {status}");
            }
            endpoints_of(pid, &file)
        })
        .await;
        (running.listen, running.admin) = endpoints;
    }

    /// Starts another process that takes over from the one that runs, and waits until it serves.
    /// Returns the former one.
    pub(crate) async fn take_over(&mut self, args: &[&str]) -> Former {
        let former = self.running.take().expect("a running proxy");
        let child = self.spawn_with(&[&["--take-over"], args].concat());
        self.serving(child).await;
        Former(former)
    }

    /// The same for one that has to end by itself.
    pub(crate) async fn take_over_in_vain(&self, args: &[&str]) -> Ran {
        let mut serve = self.serve();
        serve.arg("--take-over").args(args);
        run("pgdrain serve --take-over", serve).await
    }

    fn spawn(&self) -> Child {
        self.spawn_with(&[])
    }

    fn spawn_with(&self, args: &[&str]) -> Child {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.log_path());
        let log = log.expect("a log file");
        let mut command = self.serve();
        command
            .args(args)
            .stdout(log.try_clone().expect("a file handle"))
            .stderr(log);
        command.spawn().expect("the binary starts")
    }

    /// Starts one more process on the same state directory, which has to end by itself.
    pub(crate) async fn serve_in_vain(&self) -> Ran {
        run("pgdrain serve", self.serve()).await
    }

    fn serve(&self) -> Command {
        let mut command = pgdrain();
        command
            .args(["serve", "--admin", "127.0.0.1:0"])
            .args(if self.listens_as_configured {
                &[][..]
            } else {
                &["--listen", "127.0.0.1:0"]
            })
            .arg("--state-dir")
            .arg(self.dir.path().join("state"))
            .args(&self.args)
            .args(self.upstream.iter().flat_map(|url| ["--upstream", url]))
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null());
        command
    }

    /// Where clients connect.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.running().listen
    }

    /// The admin interface.
    pub(crate) fn admin(&self) -> Admin {
        Admin {
            addr: self.running().admin,
        }
    }

    /// The process id.
    pub(crate) fn pid(&self) -> u32 {
        self.running().child.id()
    }

    /// A connection string for the superuser through the proxy.
    pub(crate) fn url(&self, database: &str) -> String {
        format!("postgres://postgres@{}/{database}", self.addr())
    }

    /// A raw session of the superuser through the proxy.
    pub(crate) async fn session(&self, database: &str) -> Wire {
        Wire::login(self.addr(), "postgres", database).await
    }

    /// The file of one that was started with a configuration.
    pub(crate) fn config_path(&self) -> PathBuf {
        self.dir.path().join("pgdrain.toml")
    }

    /// The state directory.
    pub(crate) fn state_dir(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    /// What the process has logged so far, over all its starts.
    pub(crate) fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.log_path()).unwrap_or_default()).into_owned()
    }

    /// A control command that speaks to this proxy, not yet run.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = pgdrain();
        command
            .args(args)
            .env("PGDRAIN_ADMIN", format!("http://{}", self.running().admin))
            .stdin(Stdio::null());
        command
    }

    /// Runs a control command to its end.
    pub(crate) async fn run(&self, args: &[&str]) -> Ran {
        run(&format!("pgdrain {args:?}"), self.command(args)).await
    }

    /// Sends a signal to the process.
    pub(crate) fn signal(&self, signal: Signal) {
        process::send(signal, &[self.pid()]).expect("a shell");
    }

    /// Ends the process as a crash would, and returns when it is gone.
    pub(crate) fn kill(&mut self) {
        if let Some(mut running) = self.running.take() {
            drop(running.child.kill());
            drop(running.child.wait());
        }
    }

    /// Asks the process to end and waits for it.
    pub(crate) async fn terminate(&mut self) -> ExitStatus {
        self.signal(Signal::Terminate);
        self.ended().await
    }

    /// Waits until the process has ended by itself.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        let running = self.running.as_mut().expect("a running proxy");
        let status = eventually("the proxy to end", SOON, async || {
            running.child.try_wait().expect("a child of ours")
        })
        .await;
        self.running = None;
        status
    }

    /// Resident memory of the process, in KiB.
    pub(crate) fn resident_kib(&self) -> u64 {
        let path = format!("/proc/{}/status", self.pid());
        let status = fs::read_to_string(path).expect("a running process");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
        number.expect("VmRSS in /proc/PID/status")
    }

    fn running(&self) -> &Running {
        self.running.as_ref().expect("a running proxy")
    }

    fn log_path(&self) -> PathBuf {
        self.dir.path().join("proxy.log")
    }
}

/// A process that another has taken over from. Dropping it kills it.
pub(crate) struct Former(Running);

impl Former {
    /// The process id.
    pub(crate) fn pid(&self) -> u32 {
        self.0.child.id()
    }

    /// Waits until it has ended by itself.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        eventually("the former process to end", SOON, async || {
            self.0.child.try_wait().expect("a child of ours")
        })
        .await
    }

    /// Whether it runs.
    pub(crate) fn runs(&mut self) -> bool {
        self.0.child.try_wait().expect("a child of ours").is_none()
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        process::send(signal, &[self.pid()]).expect("a shell");
    }
}

impl Drop for Former {
    fn drop(&mut self) {
        drop(self.0.child.kill());
        drop(self.0.child.wait());
    }
}

impl Drop for Proxy {
    #[expect(
        clippy::print_stderr,
        reason = "the test harness shows it with the panic"
    )]
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!(
                "---- log of the proxy ----\n{}---- end of log ----",
                self.log()
            );
        }
    }
}

/// Runs a command to its end.
async fn run(what: &str, command: Command) -> Ran {
    let output = tokio::process::Command::from(command)
        .kill_on_drop(true)
        .output();
    let output = within(what, PATIENCE, output).await;
    let output = output.expect("the binary starts");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ran {
        code: output.status.code(),
        stdout: text(&output.stdout),
        stderr: text(&output.stderr),
    }
}

/// The two addresses, once the file is there and was written by `pid` (a killed predecessor leaves
/// its own).
fn endpoints_of(pid: u32, file: &Path) -> Option<(SocketAddr, SocketAddr)> {
    let json: Value = serde_json::from_str(&fs::read_to_string(file).ok()?).ok()?;
    if json["pid"].as_u64() != Some(pid.into()) {
        return None;
    }
    let addr = |value: &Value| value.as_str().and_then(|text| text.parse().ok());
    let both = addr(&json["listen"][0]).zip(addr(&json["admin"]));
    Some(both.unwrap_or_else(|| panic!("no addresses in endpoints.json: {json}")))
}

/// The binary that cargo built for this run, free of the settings that the environment holds for
/// libpq (`PG...`) and for us (`PGDRAIN_...`).
pub(crate) fn pgdrain() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pgdrain"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("PG") {
            command.env_remove(name);
        }
    }
    command
}
