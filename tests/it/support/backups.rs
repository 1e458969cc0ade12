//! A directory for backups, and programs that stand in for pg_dump and pg_restore.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use pgdrain::config::{Backup, Verify};
use pgdrain::runner::Options;
use pgdrain::runner::types::{EventKind, RunView};
use serde_json::Value;
use tempfile::TempDir;

use super::migrations::{DATABASE, Site, options};
use super::tool;

/// A runner that backs up into a directory of the test's own.
pub(crate) struct Kept {
    pub(crate) site: Site,
    pub(crate) dir: TempDir,
}

impl Kept {
    /// With these settings, but for the directory.
    pub(crate) async fn start(backup: Backup) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let backup = Backup {
            dir: Some(dir.path().join("backups")),
            ..backup
        };
        let options = Options {
            backup,
            ..options()
        };
        Self {
            site: Site::start_with(options).await,
            dir,
        }
    }

    /// Where the backups of the database are.
    pub(crate) fn place(&self) -> PathBuf {
        self.dir.path().join("backups").join(DATABASE)
    }

    /// What is there, by name.
    pub(crate) fn names(&self) -> Vec<String> {
        names(&self.place())
    }

    /// What a file below the directory of the test says.
    pub(crate) fn read(&self, name: impl AsRef<Path>) -> String {
        let path = self.dir.path().join(name);
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path:?}: {error}"))
    }

    /// The manifest of a run's backup.
    pub(crate) fn manifest(&self, run: &str) -> Value {
        let text = self.read(self.place().join(run).join("manifest.json"));
        serde_json::from_str(&text).expect("JSON")
    }
}

/// The names in a directory, in order; none if it is not there.
pub(crate) fn names(directory: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(directory) else {
        return Vec::new();
    };
    let mut names: Vec<_> = entries
        .map(|entry| entry.expect("an entry").file_name())
        .map(|name| name.to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

/// Settings with the programs of the cluster's version.
pub(crate) fn backup(verify: Verify) -> Backup {
    Backup {
        verify,
        pg_dump: tool::program("pg_dump"),
        pg_restore: tool::program("pg_restore"),
        ..Backup::default()
    }
}

/// Writes a program for the shell. Not by ourselves: a test beside this one that starts a process
/// in that instant would keep the file open for writing, and the system would not run it.
pub(crate) fn script(directory: &Path, name: &str, text: &str) -> PathBuf {
    let path = directory.join(name);
    let written = Command::new("sh")
        .args(["-c", "printf '%s' \"$1\" >\"$0\" && chmod 700 \"$0\""])
        .arg(&path)
        .arg(format!("#!/bin/sh\n{text}\n"))
        .status();
    assert!(written.expect("a shell").success());
    path
}

/// A program that does something and then becomes pg_dump, or pg_restore.
pub(crate) fn before(directory: &Path, name: &str, text: &str) -> PathBuf {
    let real = tool::program(name);
    script(
        directory,
        name,
        &format!("{text}\nexec {} \"$@\"", real.display()),
    )
}

/// The place of the first event in a run that begins like this.
#[track_caller]
pub(crate) fn place_of(view: &RunView, text: &str) -> usize {
    let place = view.events.iter().position(|it| it.text.starts_with(text));
    place.unwrap_or_else(|| panic!("{text} in {view:#?}"))
}

/// Whether a note of a run begins like this.
pub(crate) fn noted(view: &RunView, text: &str) -> bool {
    let notes = view.events.iter().filter(|it| it.kind == EventKind::Note);
    notes.into_iter().any(|it| it.text.starts_with(text))
}
