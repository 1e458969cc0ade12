//! Opening when the admin HTTP no longer answers: a signal to the process itself.

use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, bail, ensure};
use tokio::process::Command;

use super::exit::Exit;
use super::output::{line, note};
use crate::admin::types::Endpoints;
use crate::config::Surroundings;

/// Signals the pgdrain of a state directory to open everything; without one only says how.
pub(super) async fn open(state_dir: Option<&Path>) -> anyhow::Result<Exit> {
    let Some(state_dir) = state_dir else {
        note(&advice());
        return Ok(Exit::USAGE);
    };
    let endpoints = Endpoints::read(state_dir)
        .with_context(|| format!("{} cannot be read", Endpoints::path(state_dir).display()))?;
    check_is_ours(endpoints.pid)?;
    signal(endpoints.pid).await?;
    line(&format!(
        "sent SIGUSR2 to process {}: it opens every database",
        endpoints.pid
    ))?;
    Ok(Exit::SUCCESS)
}

/// Which signal to send, with the process id where it can be found.
fn advice() -> String {
    let default = Surroundings::of_process().state_dir();
    let pid = default
        .as_deref()
        .and_then(|dir| Endpoints::read(dir).ok())
        .map(|found| found.pid);
    match pid {
        Some(pid) if check_is_ours(pid).is_ok() => {
            format!("to open all the same, send it the signal: kill -USR2 {pid}")
        }
        Some(_) | None => "to open all the same, send SIGUSR2 to the process: its id is in \
                           STATE_DIR/endpoints.json, and --state-dir STATE_DIR sends it"
            .to_owned(),
    }
}

/// A process id in a file may be that of another process by now, which the signal would kill.
fn check_is_ours(pid: u32) -> anyhow::Result<()> {
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm"))
        .with_context(|| format!("process {pid} runs no longer"))?;
    ensure!(
        name.trim_end() == env!("CARGO_PKG_NAME"),
        "process {pid} is {}, not pgdrain: nothing was sent",
        name.trim_end()
    );
    Ok(())
}

/// The shell's own `kill` is everywhere; the program of that name is not in every container.
async fn signal(pid: u32) -> anyhow::Result<()> {
    let status = Command::new("sh")
        .args(["-c", "kill -s USR2 \"$0\"", &pid.to_string()])
        .stdin(Stdio::null())
        .status()
        .await
        .context("no shell to send the signal with")?;
    if !status.success() {
        bail!("the signal could not be sent to process {pid}; it may belong to another user");
    }
    Ok(())
}
