//! What is held, on disk before it takes effect, so that a crash is survived in the declared mode.
//!
//! One small JSON file, replaced whole: written beside, synced, renamed, and the directory synced.
//! Either the old or the new file is there, whatever happens in between.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::fence::FenceRecord;
use super::lease::Term;
use super::steps::After;
use crate::clock;
use crate::config::Scope;
use crate::gate::cap::CapSpec;
use crate::gate::mode::HoldSpec;

/// The file in the state directory.
const FILE: &str = "journal.json";
const FORMAT: u32 = 1;

/// What is on disk.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// The hold on every database.
    pub everywhere: Option<HoldRecord>,
    /// Holds on single databases.
    pub databases: BTreeMap<String, HoldRecord>,
    /// Holds on some clients.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scopes: Vec<ScopeRecord>,
    /// Caps, by database.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub caps: BTreeMap<String, CapRecord>,
    /// Windows that were begun and not ended, by database.
    pub windows: BTreeMap<String, WindowRecord>,
    /// Connection limits that have to be put back, by database.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub fences: BTreeMap<String, FenceRecord>,
    /// The greatest term that was given to a window so far.
    #[serde(default, skip_serializing_if = "is_first")]
    pub term: Term,
}

/// Nothing was given out yet: versions that know no terms can read that too.
#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde hands over a reference"
)]
fn is_first(term: &Term) -> bool {
    *term == Term::default()
}

/// A hold with its place in time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HoldRecord {
    /// What was asked for.
    pub spec: HoldSpec,
    /// When it began.
    pub since: Timestamp,
}

impl HoldRecord {
    /// A hold that begins now.
    #[must_use]
    pub fn beginning(spec: HoldSpec) -> HoldRecord {
        HoldRecord {
            spec,
            since: clock::wall(),
        }
    }

    /// What is left of its time at `now`. A wall clock that went back makes it no longer than it
    /// was.
    #[must_use]
    pub fn left(&self, now: Timestamp) -> Duration {
        left_of(self.spec.duration, self.since, now)
    }
}

fn left_of(duration: Duration, since: Timestamp, now: Timestamp) -> Duration {
    let passed = now.duration_since(since);
    let passed = Duration::try_from(passed).unwrap_or(Duration::ZERO);
    duration.saturating_sub(passed)
}

/// A hold on some clients.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScopeRecord {
    /// In this database; in every one when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<String>,
    /// Whom it is for there.
    pub scope: Scope,
    /// The hold.
    pub hold: HoldRecord,
}

/// A cap with its place in time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CapRecord {
    /// What was asked for.
    pub spec: CapSpec,
    /// When it began.
    pub since: Timestamp,
}

impl CapRecord {
    /// What is left of its time at `now`, as for a hold.
    #[must_use]
    pub fn left(&self, now: Timestamp) -> Duration {
        left_of(self.spec.duration, self.since, now)
    }
}

/// A window, and how it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WindowRecord {
    /// Its name.
    pub id: String,
    /// When it was asked for.
    pub since: Timestamp,
    /// Who asked.
    pub by: String,
    /// Whether reads go on meanwhile.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub read_only: bool,
    /// Why traffic stays held although the work is over; absent while the work goes on.
    pub stays: Option<String>,
    /// What was agreed with its holder, if that is not the runner of this process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lent: Option<LentRecord>,
}

/// A window that somebody else works in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LentRecord {
    /// Its term.
    pub term: Term,
    /// What happens to traffic when its holder is lost: this process is one of those it can be lost
    /// by.
    pub on_lost: After,
    /// The backends of the connections that came in, which can outlive this process.
    #[serde(default)]
    pub backends: Vec<i32>,
    /// When they were started, as far as that is known: process ids are used again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub born: Vec<BornRecord>,
}

/// When a backend was started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BornRecord {
    /// Its process id.
    pub pid: i32,
    /// In microseconds since 1970, by the server's clock.
    pub born: i64,
}

impl LentRecord {
    /// Whether a backend that the server shows, started then, is one of the window's. One of which
    /// nobody knows when it was started may be.
    #[must_use]
    pub fn has(&self, pid: i32, born: Option<i64>) -> bool {
        let mut known = self.born.iter().filter(|it| it.pid == pid);
        self.backends.contains(&pid)
            && match (known.next(), born) {
                (Some(noted), Some(born)) => noted.born == born,
                (None, _) | (_, None) => true,
            }
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct Document {
    format: u32,
    #[serde(flatten)]
    record: Record,
}

/// Why the journal cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The file system said no.
    #[error("{path}: {what}")]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What was being done.
        what: &'static str,
        /// What it said.
        #[source]
        source: io::Error,
    },
    /// The file is not one of ours.
    #[error("{path} is not a journal that this version can read")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What is wrong in it.
        #[source]
        source: serde_json::Error,
    },
    /// The file was written by another version.
    #[error("{path} has format {found}, and this version reads {FORMAT}")]
    Format {
        /// The file.
        path: PathBuf,
        /// The number in it.
        found: u32,
    },
    /// Another process has taken the state directory over from this one.
    #[error("this process has handed its listening sockets and its journal over to a newer one")]
    GivenAway,
    /// Another process works with this state directory.
    #[error("{path} is in use by another pgdrain")]
    InUse {
        /// The lock file.
        path: PathBuf,
    },
}

/// The journal of one state directory, which no other process uses meanwhile.
#[derive(Debug)]
pub struct Journal {
    directory: PathBuf,
    /// The lock goes with the open file, which processes that hand over to one another share;
    /// `None` when it was given away.
    lock: Option<File>,
}

impl Journal {
    /// Takes the directory, making it if need be, and reads what the last process left.
    pub fn open(directory: &Path) -> Result<(Journal, Record), JournalError> {
        fs::create_dir_all(directory).map_err(at(directory, "cannot be made"))?;
        let path = directory.join("lock");
        let lock = File::create(&path).map_err(at(&path, "cannot be written"))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => return Err(JournalError::InUse { path }),
            Err(fs::TryLockError::Error(source)) => {
                return Err(at(&path, "cannot be locked")(source));
            }
        }
        let journal = Journal {
            directory: directory.to_owned(),
            lock: Some(lock),
        };
        let record = journal.read()?;
        Ok((journal, record))
    }

    /// Takes the directory over from the process that holds `lock`, and reads what it wrote last.
    pub fn inherited(directory: &Path, lock: File) -> Result<(Journal, Record), JournalError> {
        let journal = Journal {
            directory: directory.to_owned(),
            lock: Some(lock),
        };
        let record = journal.read()?;
        Ok((journal, record))
    }

    /// The lock, for another process to share.
    #[must_use]
    pub fn lock(&self) -> Option<&File> {
        self.lock.as_ref()
    }

    /// Writes nothing more, and holds the directory no longer.
    pub fn give_away(&mut self) {
        self.lock = None;
    }

    fn read(&self) -> Result<Record, JournalError> {
        let path = self.directory.join(FILE);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Record::default()),
            Err(source) => return Err(at(&path, "cannot be read")(source)),
        };
        let document: Document =
            serde_json::from_slice(&bytes).map_err(|source| JournalError::Unreadable {
                path: path.clone(),
                source,
            })?;
        if document.format != FORMAT {
            return Err(JournalError::Format {
                path,
                found: document.format,
            });
        }
        Ok(document.record)
    }

    /// Replaces what is on disk; when this returns it survives a crash of the machine. Blocks.
    pub fn write(&self, record: &Record) -> Result<(), JournalError> {
        if self.lock.is_none() {
            return Err(JournalError::GivenAway);
        }
        let path = self.directory.join(FILE);
        let beside = self.directory.join("journal.json.new");
        let document = Document {
            format: FORMAT,
            record: record.clone(),
        };
        let bytes =
            serde_json::to_vec_pretty(&document).map_err(|source| JournalError::Unreadable {
                path: path.clone(),
                source,
            })?;
        let mut file = File::create(&beside).map_err(at(&beside, "cannot be written"))?;
        file.write_all(&bytes)
            .map_err(at(&beside, "cannot be written"))?;
        file.sync_all().map_err(at(&beside, "cannot be synced"))?;
        fs::rename(&beside, &path).map_err(at(&path, "cannot be replaced"))?;
        let directory = File::open(&self.directory);
        directory
            .and_then(|directory| directory.sync_all())
            .map_err(at(&self.directory, "cannot be synced"))
    }
}

fn at(path: &Path, what: &'static str) -> impl Fn(io::Error) -> JournalError {
    move |source| JournalError::Io {
        path: path.to_owned(),
        what,
        source,
    }
}

#[cfg(test)]
mod tests;
