//! What goes wrong with a backup or a restore, and what to do about it.

use std::io;
use std::path::Path;

use super::program::Trouble;
use crate::runner::connect::ConnectError;
use crate::runner::report::{Failure, chain};
use crate::runner::stop::StopReason;

/// Why there is no backup, or nothing was restored.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// Nobody said where backups go.
    #[error("no directory for backups is configured (migrate.backup.dir)")]
    NotConfigured,
    /// It cannot be done as things are; a sentence.
    #[error("{0}")]
    Refused(String),
    /// A file or directory of the backup.
    #[error("{what}: {source}")]
    File {
        /// Which, and what was done with it.
        what: String,
        /// What the system says.
        source: io::Error,
    },
    /// A program of Postgres, or the operator's command.
    #[error(transparent)]
    Program(Trouble),
    /// No connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The server said no, or is gone.
    #[error("{what}: {}", chain(.source))]
    Server {
        /// What was asked of it.
        what: &'static str,
        /// What it said.
        source: tokio_postgres::Error,
    },
    /// It was made, and is not what it should be.
    #[error("the backup is not what is in the database: {0}")]
    Different(String),
    /// Somebody asked for it.
    #[error("{0}")]
    Stopped(StopReason),
}

impl From<Trouble> for BackupError {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Stopped(reason) => Self::Stopped(reason),
            Trouble::NotStarted { .. } | Trouble::Failed { .. } | Trouble::ServerGone { .. } => {
                Self::Program(trouble)
            }
        }
    }
}

impl BackupError {
    pub(super) fn file(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::File { what, source }
    }

    pub(super) fn path(path: &Path) -> impl FnOnce(io::Error) -> Self {
        Self::file(path.display().to_string())
    }

    pub(in crate::runner) fn server(
        what: &'static str,
    ) -> impl FnOnce(tokio_postgres::Error) -> Self {
        move |source| Self::Server { what, source }
    }

    /// What can be done about it.
    fn hint(&self) -> &'static str {
        match self {
            Self::NotConfigured => "set it, or run without --backup",
            Self::File { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
                "make room there or set migrate.backup.dir; nothing was changed in the database"
            }
            Self::File { .. } => {
                "look at migrate.backup.dir and its rights; nothing was changed in the database"
            }
            Self::Program(Trouble::NotStarted { .. }) => {
                "install Postgres' client programs, or set migrate.backup.pg_dump and pg_restore"
            }
            Self::Program(_) | Self::Connect(_) | Self::Server { .. } => {
                "nothing was changed in the database; mend the cause (room in migrate.backup.dir, \
                 rights, the server) and run again, or run with --no-backup"
            }
            Self::Different(_) => {
                "nothing was changed in the database; do not trust this backup, and find out why"
            }
            Self::Refused(_) | Self::Stopped(_) => "nothing was changed in the database",
        }
    }

    /// The same as the failure of a run.
    pub(in crate::runner) fn into_failure(self) -> Failure {
        let hint = self.hint();
        let failure = Failure::new(format!("no backup: {self}"));
        let sqlstate = match &self {
            Self::Server { source, .. } => source.code().map(|it| it.code().to_owned()),
            Self::NotConfigured
            | Self::Refused(_)
            | Self::File { .. }
            | Self::Program(_)
            | Self::Connect(_)
            | Self::Different(_)
            | Self::Stopped(_) => None,
        };
        Failure {
            sqlstate,
            ..failure.with_hint(hint)
        }
    }
}
