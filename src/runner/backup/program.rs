//! Programs of Postgres and commands of the operator: started, watched, stopped.
//!
//! They learn where the server is by libpq's environment variables ("Environment Variables" in the
//! libpq chapter of the Postgres documentation), the password too: arguments can be read by every
//! user of the machine.

use std::ffi::OsStr;
use std::io::{self, PipeReader, PipeWriter};
use std::path::Path;
use std::pin::pin;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};

use crate::config::{Host, Secret};
use crate::runner::connect::Endpoint;
use crate::runner::stop::{Stop, StopReason};

/// How long a program may take to end: after it was asked to, and after its server has gone.
const END_WAIT: Duration = Duration::from_secs(5);

/// How long a program may take to say which version it is.
const VERSION_WAIT: Duration = Duration::from_secs(30);

/// How long what a program said is still read when it has ended and a child of its own has not.
const SAID_WAIT: Duration = Duration::from_secs(1);

/// How much of what a program says is kept, in bytes: the end of it, where the reason stands.
const SAID_MAX: usize = 4 << 10;

/// What went wrong with a program.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// There is no such program, or it may not be run.
    #[error("{program} cannot be started: {source}")]
    NotStarted {
        /// Its name.
        program: String,
        /// What the system says.
        source: io::Error,
    },
    /// It ended, and not well.
    #[error("{program} failed ({status}): {said}")]
    Failed {
        /// Its name.
        program: String,
        /// How it ended.
        status: ExitStatus,
        /// The last that it said on standard error.
        said: String,
    },
    /// It was ended because its server had gone and it did not notice.
    #[error("{program} was ended because the connection to the server was lost")]
    ServerGone {
        /// Its name.
        program: String,
    },
    /// It was ended because somebody asked for it.
    #[error("{0}")]
    Stopped(StopReason),
}

/// A program that is about to be started.
#[derive(Debug)]
pub(in crate::runner) struct Program {
    name: String,
    command: Command,
    password: Option<Secret>,
    /// Where it reads from and writes to; nowhere unless it is said.
    input: Option<PipeReader>,
    output: Option<PipeWriter>,
}

impl Program {
    /// A program by its path, or by its name in PATH.
    pub(super) fn new(path: &Path) -> Self {
        let name = path.file_name().unwrap_or(path.as_os_str());
        Self::of(Command::new(path), name.to_string_lossy().into_owned())
    }

    /// A command line for the shell.
    pub(in crate::runner) fn shell(line: &str, name: &str) -> Self {
        let mut command = Command::new("sh");
        command.arg("-c").arg(line);
        Self::of(command, name.to_owned())
    }

    fn of(mut command: Command, name: String) -> Self {
        // Ours (PGDRAIN_...) may hold passwords, and libpq's would lead to another server.
        for (variable, _) in std::env::vars_os() {
            if variable.to_string_lossy().starts_with("PG") {
                command.env_remove(variable);
            }
        }
        Self {
            name,
            command,
            password: None,
            input: None,
            output: None,
        }
    }

    /// Tells it how to reach a database.
    pub(in crate::runner) fn reaching(mut self, endpoint: &Endpoint, database: &str) -> Self {
        let host = |host: &Host| match host {
            Host::Tcp { name, .. } => name.clone(),
            Host::Unix(unix) => unix.directory.display().to_string(),
        };
        let list = |part: &dyn Fn(&Host) -> String| {
            let all: Vec<_> = endpoint.hosts.iter().map(part).collect();
            all.join(",")
        };
        let command = &mut self.command;
        command
            .env("PGHOST", list(&host))
            .env("PGPORT", list(&|it| it.port().to_string()))
            .env("PGUSER", &endpoint.user)
            .env("PGDATABASE", database)
            .env("PGAPPNAME", crate::runner::connect::APPLICATION_NAME)
            // Whole seconds, and not fewer than 2: libpq's own least.
            .env(
                "PGCONNECT_TIMEOUT",
                endpoint.connect_timeout.as_secs().max(2).to_string(),
            )
            .envs(endpoint.url_tls.variables());
        if endpoint.hosts.len() > 1 {
            command.env("PGTARGETSESSIONATTRS", "read-write");
        }
        if let Some(options) = &endpoint.options {
            command.env("PGOPTIONS", options);
        }
        if let Some(password) = &endpoint.password {
            command.env("PGPASSWORD", password.expose());
            self.password = Some(password.clone());
        }
        self
    }

    /// Adds arguments.
    pub(super) fn args<A: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.command.args(args);
        self
    }

    /// Sets a variable.
    pub(in crate::runner) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Runs it to its end. It is ended, with all that it started, when it is to stop, or when
    /// `gone` says that its server is.
    ///
    /// # Errors
    /// When it cannot be started, ends otherwise than with 0, or was ended.
    pub(in crate::runner) async fn run(
        mut self,
        stop: &Stop,
        gone: impl Future<Output = ()>,
    ) -> Result<(), Trouble> {
        let program = self.name.clone();
        let mut child = self.start()?;
        let stderr = child.stderr.take();
        let mut said = Vec::new();
        let status = {
            let mut reading = pin!(read_end(stderr, &mut said));
            let mut gone = pin!(gone);
            let mut read = false;
            let status = loop {
                tokio::select! {
                    biased;
                    status = child.wait() => break status,
                    () = &mut reading, if !read => read = true,
                    reason = stop.fired() => {
                        end(&mut child).await;
                        return Err(Trouble::Stopped(reason));
                    }
                    () = &mut gone => match tokio::time::timeout(END_WAIT, child.wait()).await {
                        // What it says of it is the better answer.
                        Ok(status) => break status,
                        Err(_elapsed) => {
                            end(&mut child).await;
                            return Err(Trouble::ServerGone { program });
                        }
                    },
                }
            };
            if !read {
                // Whoever keeps the pipe open beyond that is no part of the answer.
                let _ = tokio::time::timeout(SAID_WAIT, &mut reading).await;
            }
            status
        };
        match status {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(Trouble::Failed {
                program,
                status,
                said: self.without_password(&said),
            }),
            Err(source) => Err(Trouble::NotStarted { program, source }),
        }
    }

    /// Runs it to its end while another program reads what it writes.
    ///
    /// # Errors
    /// What went wrong with the one that failed first: the other one then fails for its sake.
    pub(super) async fn into(mut self, mut reader: Self, stop: &Stop) -> Result<(), Trouble> {
        let (input, output) = io::pipe().map_err(|source| Trouble::NotStarted {
            program: self.name.clone(),
            source,
        })?;
        self.output = Some(output);
        reader.input = Some(input);
        let writing = self.run(stop, std::future::pending());
        let reading = reader.run(stop, std::future::pending());
        let (mut writing, mut reading) = (pin!(writing), pin!(reading));
        // Whoever ends lets go of its end of the pipe, so that the other one ends, too.
        tokio::select! {
            written = &mut writing => {
                let read = reading.await;
                written.and(read)
            }
            read = &mut reading => {
                let written = writing.await;
                read.and(written)
            }
        }
    }

    /// Asks it which version it is: `pg_dump (PostgreSQL) 15.4`.
    ///
    /// # Errors
    /// When it cannot be started, or does not say.
    pub(super) async fn version(self) -> Result<Version, Trouble> {
        let program = self.name.clone();
        let mut command = self.args(["--version"]).command;
        command.stdin(Stdio::null()).kill_on_drop(true);
        let not_started = |source| Trouble::NotStarted {
            program: program.clone(),
            source,
        };
        let output = tokio::time::timeout(VERSION_WAIT, command.output())
            .await
            .map_err(|elapsed| not_started(io::Error::new(io::ErrorKind::TimedOut, elapsed)))?
            .map_err(not_started)?;
        let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        match Version::parse(&text) {
            Some(version) if output.status.success() => Ok(version),
            _ => Err(Trouble::Failed {
                program,
                status: output.status,
                said: format!("it does not say which version it is, but {text:?}"),
            }),
        }
    }

    fn start(&mut self) -> Result<Child, Trouble> {
        let started = self
            .command
            .stdin(self.input.take().map_or_else(Stdio::null, Stdio::from))
            .stdout(self.output.take().map_or_else(Stdio::null, Stdio::from))
            .stderr(Stdio::piped())
            // A group of its own: what it starts is ended with it.
            .process_group(0)
            .kill_on_drop(true)
            .spawn();
        started.map_err(|source| Trouble::NotStarted {
            program: self.name.clone(),
            source,
        })
    }

    /// What it said, for people. A command of the operator may say anything.
    fn without_password(&self, said: &[u8]) -> String {
        let text = String::from_utf8_lossy(said).trim().to_owned();
        let password = self.password.as_ref().map(Secret::expose);
        match password.filter(|it| !it.is_empty()) {
            _ if text.is_empty() => "it said nothing".to_owned(),
            Some(password) => text.replace(password, "********"),
            None => text,
        }
    }
}

/// Ends a program and what it started: pg_dump then cancels what it runs on the server.
async fn end(child: &mut Child) {
    let group = child
        .id()
        .and_then(|id| i32::try_from(id).ok())
        .and_then(Pid::from_raw);
    let Some(group) = group else {
        // It has ended already.
        return;
    };
    for signal in [Signal::TERM, Signal::KILL] {
        // A group that is gone needs no signal.
        let _ = kill_process_group(group, signal);
        if tokio::time::timeout(END_WAIT, child.wait()).await.is_ok() {
            return;
        }
    }
}

/// Reads to the end and keeps the last of it.
async fn read_end(from: Option<impl AsyncRead + Unpin>, into: &mut Vec<u8>) {
    let Some(mut from) = from else { return };
    let mut chunk = [0; 1024];
    // A pipe that cannot be read has nothing more to say.
    while let Ok(length @ 1..) = from.read(&mut chunk).await {
        into.extend_from_slice(&chunk[..length]);
        let surplus = into.len().saturating_sub(SAID_MAX);
        into.drain(..surplus);
    }
}

/// Which version a program is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Version {
    /// As it says it.
    pub(super) text: String,
    /// The number in front.
    pub(super) major: u32,
}

impl Version {
    fn parse(text: &str) -> Option<Self> {
        let (_, number) = text.split_once("(PostgreSQL) ")?;
        // `17beta1` and `18devel` are 17 and 18.
        let digits = number.find(|c: char| !c.is_ascii_digit());
        let major = number[..digits.unwrap_or(number.len())].parse().ok()?;
        let text = text.to_owned();
        Some(Self { text, major })
    }
}

/// A database as libpq's connection string, with a server that is gone noticed in half a minute:
/// there are no variables for that.
pub(super) fn connection_string(database: &str) -> String {
    let name = database.replace('\\', "\\\\").replace('\'', "\\'");
    format!(
        "dbname='{name}' keepalives_idle=10 keepalives_interval=5 keepalives_count=3 \
         tcp_user_timeout=30000"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read() {
        for (text, major) in [
            ("pg_dump (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)", 15),
            ("pg_restore (PostgreSQL) 17beta1", 17),
            ("pg_dump (PostgreSQL) 18", 18),
        ] {
            let version = Version::parse(text).expect(text);
            assert_eq!((version.major, version.text.as_str()), (major, text));
        }
        for text in ["", "pg_dump 15.1", "pg_dump (PostgreSQL) devel"] {
            assert_eq!(Version::parse(text), None, "{text}");
        }
    }

    #[test]
    fn names_of_databases_are_quoted() {
        let text = connection_string(r"it's \a");
        assert!(text.starts_with(r"dbname='it\'s \\a' "), "{text}");
    }
}
