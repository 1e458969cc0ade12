//! Processes of others by number: signals, children, and a leash that outlives us.
//!
//! std has no `kill(2)` for processes that are not our children, and this crate forbids the unsafe
//! code it would take; every system has `sh` with its built-in `kill`.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// The signals in use here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// SIGHUP: read the configuration anew.
    Hangup,
    /// SIGINT: to a postmaster, fast shutdown.
    Interrupt,
    /// SIGQUIT: to a postmaster, immediate shutdown.
    Quit,
    /// SIGTERM: end in good order.
    Terminate,
    /// SIGKILL: end now.
    Kill,
    /// SIGSTOP: freeze.
    Stop,
    /// SIGCONT: go on after SIGSTOP.
    Continue,
    /// SIGALRM: to pgbench, the end of its time.
    Alarm,
}

impl Signal {
    fn name(self) -> &'static str {
        match self {
            Self::Hangup => "HUP",
            Self::Interrupt => "INT",
            Self::Quit => "QUIT",
            Self::Terminate => "TERM",
            Self::Kill => "KILL",
            Self::Stop => "STOP",
            Self::Continue => "CONT",
            Self::Alarm => "ALRM",
        }
    }
}

/// Sends `signal` to each of `pids`. A process that is already gone is no error.
///
/// # Errors
/// The shell that sends it could not be started.
pub fn send(signal: Signal, pids: &[u32]) -> io::Result<()> {
    Command::new("sh")
        .args([
            "-c",
            r#"for pid; do kill -s "$0" "$pid"; done"#,
            signal.name(),
        ])
        .args(pids.iter().map(u32::to_string))
        .stderr(Stdio::null())
        .status()
        .map(drop)
}

/// The processes whose parent is `pid`, now.
///
/// # Errors
/// `/proc` cannot be read.
pub fn children(pid: u32) -> io::Result<Vec<u32>> {
    let processes = fs::read_dir("/proc")?.filter_map(Result::ok);
    let numbers = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    Ok(numbers
        .filter(|child| stat(*child).is_some_and(|stat| stat.parent == pid))
        .collect())
}

/// Whether `pid` runs no more. A zombie is gone: it only waits for its parent to look.
#[must_use]
pub fn is_gone(pid: u32) -> bool {
    stat(pid).is_none_or(|stat| stat.zombie)
}

struct Stat {
    zombie: bool,
    parent: u32,
}

/// `/proc/PID/stat` is `pid (name) state ppid ...`, and a name may hold blanks and parentheses.
fn stat(pid: u32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = text.rsplit_once(')')?.1.split_whitespace();
    let zombie = matches!(fields.next()?, "Z" | "X");
    Some(Stat {
        zombie,
        parent: fields.next()?.parse().ok()?,
    })
}

/// Removes the System V segment that a killed postmaster could not remove. Its number stands on
/// line 7 of `postmaster.pid` (`src/include/utils/pidfile.h`), a file that a clean end removes.
pub(super) fn remove_shared_memory(data_dir: &Path) {
    let Ok(text) = fs::read_to_string(data_dir.join("postmaster.pid")) else {
        return;
    };
    let segment = text
        .lines()
        .nth(6)
        .and_then(|line| line.split_whitespace().nth(1));
    if let Some(segment) = segment {
        let remove = Command::new("ipcrm")
            .args(["-m", segment])
            .stderr(Stdio::null())
            .status();
        // Without `ipcrm` 56 bytes stay until the next boot, which is no reason to fail.
        drop(remove);
    }
}

/// Runs a shell script if this process ends without dropping the leash: killed, or aborted.
///
/// A shell of its own waits for the end of a pipe whose other end only we hold.
#[derive(Debug)]
pub struct Leash {
    shell: Child,
}

impl Leash {
    /// Ties `script`, which finds `args` in `$0`, `$1` and so on.
    ///
    /// # Errors
    /// No shell could be started.
    pub fn new(script: &str, args: &[&OsStr]) -> io::Result<Self> {
        let shell = Command::new("sh")
            .args(["-c", &format!("read -r _\n{script}")])
            .args(args)
            .current_dir("/")
            .stdin(Stdio::piped())
            // Our own output may be a pipe whose reader waits for its end.
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Ctrl-C reaches a whole process group, and this one has to survive it.
            .process_group(0)
            .spawn()?;
        Ok(Self { shell })
    }
}

impl Drop for Leash {
    fn drop(&mut self) {
        // Killed while the pipe is still open, so that the script never starts.
        let _ = self.shell.kill();
        let _ = self.shell.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn children_are_found_and_killed_ones_are_gone() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        assert!(children(std::process::id()).unwrap().contains(&child.id()));
        assert!(!is_gone(child.id()));
        send(Signal::Kill, &[child.id()]).unwrap();
        assert!(!child.wait().unwrap().success());
        assert!(is_gone(child.id()));
    }

    #[test]
    fn the_leash_acts_when_the_pipe_ends_and_not_when_it_is_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let mark = dir.path().join("mark");
        drop(Leash::new(r#"touch "$0""#, &[mark.as_os_str()]).unwrap());
        assert!(!mark.exists());

        let mut leash = Leash::new(r#"touch "$0""#, &[mark.as_os_str()]).unwrap();
        drop(leash.shell.stdin.take());
        leash.shell.wait().unwrap();
        assert!(mark.exists());
    }
}
