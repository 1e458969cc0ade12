//! Postgres's own programs, as Debian's version 15 has them.

use std::ffi::OsStr;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::process::{Child, Command};

use super::poll::{PATIENCE, within};

/// Where Debian puts them, if `PG_BIN` does not say otherwise.
const BIN: &str = "/usr/lib/postgresql/15/bin";

/// What a program left: `code` is `None` after a signal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Left {
    /// The exit code.
    pub(crate) code: Option<i32>,
    /// What it printed.
    pub(crate) stdout: String,
    /// What it complained about.
    pub(crate) stderr: String,
}

impl Left {
    /// What it printed, if it succeeded.
    pub(crate) fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "{}", self.stderr);
        self.stdout
    }
}

/// The path of a program.
pub(crate) fn program(name: &str) -> PathBuf {
    let bin = std::env::var_os("PG_BIN").unwrap_or_else(|| BIN.into());
    Path::new(&bin).join(name)
}

/// A program that speaks to the superuser's databases at this address, not started yet.
fn command(name: &str, addr: SocketAddr) -> Command {
    let mut command = Command::new(program(name));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("PG") {
            command.env_remove(name);
        }
    }
    command
        .env("PGHOST", addr.ip().to_string())
        .env("PGPORT", addr.port().to_string())
        .env("PGUSER", "postgres")
        .env("PGSSLMODE", "disable")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

/// Starts a program.
pub(crate) fn spawn(name: &str, addr: SocketAddr, args: &[impl AsRef<OsStr>]) -> Child {
    let child = command(name, addr).args(args).spawn();
    child.unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Runs a program to its end.
pub(crate) async fn run(name: &str, addr: SocketAddr, args: &[impl AsRef<OsStr>]) -> Left {
    finish(name, spawn(name, addr, args)).await
}

/// Waits for the end of a program.
pub(crate) async fn finish(name: &str, child: Child) -> Left {
    let output = within(name, PATIENCE, child.wait_with_output()).await;
    let output = output.expect("a child of ours");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Left {
        code: output.status.code(),
        stdout: text(&output.stdout),
        stderr: text(&output.stderr),
    }
}
