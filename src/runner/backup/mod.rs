//! Backups that are whole before a window is asked for, and the way back from them.
//!
//! ```text
//! versions ─ snapshot ─┬─ pg_dump -Fd -j, in that snapshot ─┬─ checksums ─ verified ─ its name
//!                      └─ (schema and hashes of the rows) ──┘
//! ```
//!
//! Applications work all the while. Whatever goes wrong ends the run before anything was changed in
//! the database. What is kept where, `place` says.

mod clone;
mod dump;
mod error;
mod manifest;
mod place;
mod point;
pub(super) mod program;
mod restore;
mod scratch;
mod snapshot;
mod verify;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::connect::{ConnectError, Connector, Endpoint};
use super::stop::Stop;
use crate::config::Backup;

pub(super) use clone::clone;
pub(super) use dump::make;
pub use error::BackupError;
pub use manifest::{FileSum, Manifest, Verified};
use place::Place;
pub use point::RestorePoint;
pub(super) use point::mark;
pub use program::Trouble;
pub(super) use restore::{beside, restore};
pub(super) use scratch::{Scratch, drop_left};
pub(super) use snapshot::Contents;
pub(super) use snapshot::schema;

/// A backup that was made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Made {
    /// Its directory.
    pub path: String,
    /// When its snapshot was taken.
    pub snapshot_at: Timestamp,
    /// Where the write-ahead log stood then.
    pub lsn: String,
    /// Size of its files, in bytes.
    pub bytes: u64,
    /// How many files it has.
    pub files: usize,
    /// How it was looked at.
    pub verified: Verified,
    /// How long all of it took, in milliseconds.
    pub elapsed_ms: u64,
}

/// Answer of `GET /v1/databases/{db}/migrations/backups`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Backups {
    /// The directory of this database.
    pub directory: String,
    /// Whole backups, oldest first; without the list of their files.
    pub backups: Vec<BackupView>,
    /// Backups that are not whole: being written, or left by a crash.
    pub partial: Vec<PartialView>,
    /// What is there besides and is no backup, with the reason.
    pub unreadable: Vec<String>,
}

/// A whole backup.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BackupView {
    /// The run that made it.
    pub run: String,
    /// Its directory.
    pub path: String,
    /// Who asked for the run.
    pub by: String,
    /// What it shows: the database as it was then.
    pub snapshot_at: Timestamp,
    /// When it was whole.
    pub finished_at: Timestamp,
    /// Size of its files, in bytes.
    pub bytes: u64,
    /// Which program made it.
    pub made_by: String,
    /// The server's version.
    pub server: String,
    /// How it was looked at.
    pub verified: Verified,
}

/// A backup that is not whole.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PartialView {
    /// Its directory.
    pub path: String,
    /// Whether somebody writes it; else `prune` removes it.
    pub written: bool,
}

/// Answer of `POST /v1/databases/{db}/migrations/backups/prune`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Pruned {
    /// The runs whose backups were removed.
    pub removed: Vec<String>,
    /// Partial backups that a crash had left, removed.
    pub abandoned: Vec<String>,
    /// Databases that a backup had replaced, dropped.
    #[serde(default)]
    pub replaced: Vec<String>,
    /// Copies of tables within the database, dropped.
    #[serde(default)]
    pub copies: Vec<String>,
    /// What could not be removed, with the reason.
    pub failed: Vec<String>,
}

/// Body of `POST /v1/databases/{db}/migrations/restore`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RestoreRequest {
    /// The run whose backup is restored.
    pub run: String,
    /// The database to create for it, on the server of the one that was backed up.
    pub into: String,
}

/// Answer of `POST /v1/databases/{db}/migrations/restore`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Restored {
    /// The run whose backup it is.
    pub run: String,
    /// The database that was created.
    pub into: String,
    /// What it shows: the database as it was then.
    pub snapshot_at: Timestamp,
    /// How many tables it has.
    pub tables: u64,
    /// How many rows they have.
    pub rows: u64,
    /// Whether owners and grants were restored too, which takes a superuser.
    pub owners: bool,
    /// How long it took, in milliseconds.
    pub elapsed_ms: u64,
}

/// What all of this works with.
pub(super) struct Tools<'a> {
    pub(super) connector: &'a Arc<Connector>,
    pub(super) settings: &'a Backup,
    pub(super) database: &'a str,
    pub(super) stop: &'a Stop,
}

impl Tools<'_> {
    fn endpoint(&self) -> Result<Endpoint, BackupError> {
        let endpoint = self.connector.endpoint(self.database);
        Ok(endpoint.ok_or(ConnectError::NoRole)?)
    }

    fn place(&self) -> Result<Place, BackupError> {
        place(self.settings, self.database)
    }

    /// Does what blocks beside the threads that carry traffic; `work` has to look at its flag.
    async fn aside<T: Send + 'static>(
        &self,
        what: &str,
        work: impl FnOnce(&AtomicBool) -> io::Result<T> + Send + 'static,
    ) -> Result<T, BackupError> {
        let give_up = Arc::new(AtomicBool::new(false));
        let theirs = Arc::clone(&give_up);
        let mut task = tokio::task::spawn_blocking(move || work(&theirs));
        let done = tokio::select! {
            biased;
            done = &mut task => done,
            reason = self.stop.fired() => {
                give_up.store(true, Ordering::Relaxed);
                // It ends at its next look; what it found is wanted by nobody.
                let _ = task.await;
                return Err(BackupError::Stopped(reason));
            }
        };
        let done = done.unwrap_or_else(|panicked| Err(io::Error::other(panicked)));
        done.map_err(BackupError::file(what))
    }
}

fn place(settings: &Backup, database: &str) -> Result<Place, BackupError> {
    let dir = settings.dir.as_deref().ok_or(BackupError::NotConfigured)?;
    Ok(Place::of(dir, database))
}

/// The backups of a database.
pub(super) async fn list(settings: &Backup, database: &str) -> Result<Backups, BackupError> {
    let place = place(settings, database)?;
    let directory = place.path().display().to_string();
    let found = quickly(&directory, move || place.look()).await?;
    Ok(Backups {
        directory,
        backups: found
            .whole
            .into_iter()
            .map(|(path, it)| BackupView {
                run: it.run,
                path: path.display().to_string(),
                by: it.by,
                snapshot_at: it.snapshot_at,
                finished_at: it.finished_at,
                bytes: it.bytes,
                made_by: it.made_by,
                server: it.server,
                verified: it.verified,
            })
            .collect(),
        partial: found
            .partial
            .into_iter()
            .map(|(path, written)| PartialView {
                path: path.display().to_string(),
                written,
            })
            .collect(),
        unreadable: found
            .unreadable
            .into_iter()
            .map(|(path, why)| format!("{}: {why}", path.display()))
            .collect(),
    })
}

/// Removes the backups of a database that are older than is to be kept, but not the newest, and
/// what crashes left.
pub(super) async fn prune(settings: &Backup, database: &str) -> Result<Pruned, BackupError> {
    let place = place(settings, database)?;
    let keep = settings.keep;
    let directory = place.path().display().to_string();
    let swept = quickly(&directory, move || place.prune(keep, Timestamp::now())).await?;
    let text = |it: std::path::PathBuf| it.display().to_string();
    Ok(Pruned {
        removed: swept.removed,
        abandoned: swept.abandoned.into_iter().map(text).collect(),
        replaced: Vec::new(),
        copies: Vec::new(),
        failed: swept.failed,
    })
}

/// Does what blocks, and cannot be given up, beside the threads that carry traffic.
async fn quickly<T: Send + 'static>(
    what: &str,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, BackupError> {
    let done = tokio::task::spawn_blocking(work).await;
    let done = done.unwrap_or_else(|panicked| Err(io::Error::other(panicked)));
    done.map_err(BackupError::file(what))
}
