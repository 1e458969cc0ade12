//! What is kept of a watch in the state directory, so that a restart takes it up.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::baseline::{Baseline, TopStatement};
use super::catalog::{LockWaits, Snapshot};
use super::triggers::{Figures, Fired};
use crate::config::Trigger;
use crate::runner::source::{Format, PostedFile};
use crate::runner::types::{Direction, TrafficMode};

/// Where watches are kept, in the state directory.
const DIRECTORY: &str = "watches";

/// The version of the form of such a file.
const VERSION: u32 = 1;

/// A watch, as it is kept.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Kept {
    pub(super) version: u32,
    pub(super) run: String,
    pub(super) database: String,
    pub(super) by: String,
    pub(super) began_at: Timestamp,
    pub(super) until: Timestamp,
    pub(super) triggers: Vec<Trigger>,
    pub(super) baseline: Baseline,
    /// The statements of the baseline as the watch began.
    pub(super) start: Vec<TopStatement>,
    pub(super) worst: Figures,
    pub(super) fired: Vec<Fired>,
    /// How the run is taken back; none where no trigger asks for it.
    pub(super) way_back: Option<WayBack>,
    /// Towards newer or older versions.
    #[serde(default = "up")]
    pub(super) direction: Direction,
    /// What the run touches.
    #[serde(default)]
    pub(super) relations: Vec<u32>,
    /// The server's counters as the watch began.
    #[serde(default)]
    pub(super) counted: Option<Snapshot>,
    /// Who waited for locks since then.
    #[serde(default)]
    pub(super) lock_waits: LockWaits,
    /// When it is reported in its middle; none if it was, or ends before.
    #[serde(default)]
    pub(super) report_at: Option<Timestamp>,
}

/// What an earlier version has watched.
fn up() -> Direction {
    Direction::Up
}

/// What a run down needs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct WayBack {
    pub(super) files: Vec<PostedFile>,
    pub(super) format: Option<Format>,
    pub(super) history: Option<String>,
    pub(super) write_back: bool,
    pub(super) traffic: TrafficMode,
    pub(super) steps: u32,
}

impl Kept {
    pub(super) fn new(run: &str, database: &str, by: &str, until: Timestamp) -> Self {
        Self {
            version: VERSION,
            run: run.to_owned(),
            database: database.to_owned(),
            by: by.to_owned(),
            began_at: Timestamp::now(),
            until,
            triggers: Vec::new(),
            baseline: Baseline::default(),
            start: Vec::new(),
            worst: Figures::default(),
            fired: Vec::new(),
            way_back: None,
            direction: up(),
            relations: Vec::new(),
            counted: None,
            lock_waits: LockWaits::default(),
            report_at: None,
        }
    }

    /// The file of this watch. A run's id is a UUID: it cannot lead elsewhere.
    pub(super) fn path(&self, state_dir: &Path) -> PathBuf {
        state_dir.join(DIRECTORY).join(format!("{}.json", self.run))
    }

    /// Writes it: whole, or as it was.
    pub(super) fn save(&self, state_dir: &Path) -> io::Result<()> {
        let path = self.path(state_dir);
        fs::create_dir_all(state_dir.join(DIRECTORY))?;
        let beside = path.with_extension("json.part");
        // It holds the texts of migrations.
        let mut file = File::options()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&beside)?;
        file.write_all(&serde_json::to_vec(self)?)?;
        file.sync_all()?;
        fs::rename(&beside, &path)
    }

    /// Forgets it.
    pub(super) fn remove(&self, state_dir: &Path) {
        if let Err(error) = fs::remove_file(self.path(state_dir))
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::error!(run = self.run, %error, "a watch that is over cannot be forgotten");
        }
    }

    /// Every watch that an earlier process left. One that cannot be read is told and left alone.
    pub(super) fn all(state_dir: &Path) -> Vec<Self> {
        let Ok(entries) = fs::read_dir(state_dir.join(DIRECTORY)) else {
            return Vec::new();
        };
        let mut found = Vec::new();
        for path in entries.filter_map(|it| it.ok().map(|it| it.path())) {
            if path.extension().is_none_or(|it| it != "json") {
                continue;
            }
            let read = fs::read(&path).and_then(|it| Ok(serde_json::from_slice::<Self>(&it)?));
            match read {
                Ok(kept) if kept.version == VERSION => found.push(kept),
                Ok(kept) => {
                    let version = kept.version;
                    tracing::error!(?path, version, "a watch of another version is left alone");
                }
                Err(error) => tracing::error!(?path, %error, "a watch cannot be read"),
            }
        }
        // Of two for one database the later counts.
        found.sort_by_key(|it| it.began_at);
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watch_is_found_again_and_what_cannot_be_read_is_passed_over() {
        let dir = tempfile::tempdir().expect("a directory");
        assert!(Kept::all(dir.path()).is_empty());
        let kept = Kept::new("r-1", "shop", "me", Timestamp::UNIX_EPOCH);
        kept.save(dir.path()).expect("room");
        kept.save(dir.path()).expect("room");
        let place = dir.path().join(DIRECTORY);
        fs::write(place.join("torn.json"), "{\"version\": 1").expect("room");
        fs::write(place.join("r-2.json.part"), "").expect("room");
        let other = Kept {
            version: 2,
            run: "r-3".to_owned(),
            ..kept.clone()
        };
        other.save(dir.path()).expect("room");
        let runs: Vec<_> = Kept::all(dir.path()).into_iter().map(|it| it.run).collect();
        assert_eq!(runs, ["r-1"]);
        kept.remove(dir.path());
        kept.remove(dir.path());
        assert!(Kept::all(dir.path()).is_empty());
    }
}
