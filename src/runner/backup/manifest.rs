//! What a backup says about itself: `manifest.json`, with the checksum of every file.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::Digest;

use super::place::sync_directory;
use crate::config::Verify;

/// The format of the manifest; a reader refuses a newer one by a key that it does not find.
pub(super) const FORMAT: u32 = 1;

/// How much of a file is read at once.
const CHUNK: usize = 256 << 10;

/// A whole backup.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// The version of this format: 1.
    pub format: u32,
    /// The run that made it.
    pub run: String,
    /// The database.
    pub database: String,
    /// Who asked for the run.
    pub by: String,
    /// Which program made it, with its version; `command` where it was the operator's own.
    pub made_by: String,
    /// The server's version.
    pub server: String,
    /// When its snapshot was taken; of a command, when it began.
    pub snapshot_at: Timestamp,
    /// Where the write-ahead log stood then.
    pub lsn: String,
    /// When it was whole.
    pub finished_at: Timestamp,
    /// Size of all files, in bytes.
    pub bytes: u64,
    /// Every file below `dump`, by name.
    pub files: Vec<FileSum>,
    /// How it was looked at.
    pub verified: Verified,
}

/// A file of a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileSum {
    /// Its path below `dump`.
    pub path: String,
    /// Its size.
    pub bytes: u64,
    /// The SHA-256 of its bytes, in hexadecimal digits.
    pub sha256: String,
}

/// How a backup was looked at before it counted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Verified {
    /// What was done.
    pub how: Verify,
    /// The SHA-256 of the schema, in the database and as restored; only by a restore.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<String>,
    /// How many tables had the same rows; only by a restore.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tables: Option<u64>,
    /// How many rows they had.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<u64>,
    /// Whether owners and grants were compared too, which takes a superuser.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owners: Option<bool>,
}

impl Verified {
    /// Nothing but what is named was done.
    pub(super) fn only(how: Verify) -> Self {
        Self {
            how,
            fingerprint: None,
            tables: None,
            rows: None,
            owners: None,
        }
    }
}

/// The checksum of every file below a directory, by name; each has reached the disk then. Gives up
/// when `give_up` is set.
pub(super) fn sums(directory: &Path, give_up: &AtomicBool) -> io::Result<Vec<FileSum>> {
    let mut all = Vec::new();
    gather(directory, "", give_up, &mut all)?;
    all.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(all)
}

fn gather(
    directory: &Path,
    below: &str,
    give_up: &AtomicBool,
    into: &mut Vec<FileSum>,
) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let path = format!("{below}{}", entry.file_name().to_string_lossy());
        let kind = entry.file_type()?;
        if kind.is_dir() {
            gather(&entry.path(), &format!("{path}/"), give_up, into)?;
        } else if kind.is_file() {
            into.push(sum(&entry.path(), path, give_up)?);
        }
    }
    sync_directory(directory)
}

fn sum(file: &Path, path: String, give_up: &AtomicBool) -> io::Result<FileSum> {
    let mut file = File::open(file)?;
    let mut digest = sha2::Sha256::new();
    let mut chunk = vec![0; CHUNK];
    let mut bytes = 0;
    loop {
        if give_up.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        match file.read(&mut chunk)? {
            0 => break,
            length => {
                digest.update(&chunk[..length]);
                bytes += length as u64;
            }
        }
    }
    file.sync_all()?;
    let digest: [u8; 32] = digest.finalize().into();
    let sha256 = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(FileSum {
        path,
        bytes,
        sha256,
    })
}

/// In what the files below a directory differ from what was written down; nothing if in nothing.
pub(super) fn differences(
    directory: &Path,
    written: &[FileSum],
    give_up: &AtomicBool,
) -> io::Result<Vec<String>> {
    let found = sums(directory, give_up)?;
    let mut differences = Vec::new();
    for file in written {
        match found.iter().find(|it| it.path == file.path) {
            None => differences.push(format!("{} is missing", file.path)),
            Some(it) if it != file => differences.push(format!("{} was changed", file.path)),
            Some(_) => {}
        }
    }
    for file in &found {
        if !written.iter().any(|it| it.path == file.path) {
            differences.push(format!("{} was added", file.path));
        }
    }
    Ok(differences)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A manifest of no files.
    pub(in crate::runner::backup) fn manifest(run: &str, finished_at: Timestamp) -> Manifest {
        Manifest {
            format: FORMAT,
            run: run.to_owned(),
            database: "shop".to_owned(),
            by: "a test".to_owned(),
            made_by: "pg_dump (PostgreSQL) 15.1".to_owned(),
            server: "15.1".to_owned(),
            snapshot_at: finished_at,
            lsn: "0/0".to_owned(),
            finished_at,
            bytes: 0,
            files: Vec::new(),
            verified: Verified::only(Verify::None),
        }
    }

    #[test]
    fn every_change_of_a_file_is_found() {
        let dir = tempfile::tempdir().expect("a directory");
        let never = AtomicBool::new(false);
        let file = |name: &str| dir.path().join(name);
        fs::create_dir(file("blobs")).expect("a directory");
        for name in ["toc.dat", "1.dat", "blobs/2"] {
            fs::write(file(name), name).expect("room");
        }
        let written = sums(dir.path(), &never).expect("sums");
        let names: Vec<_> = written.iter().map(|it| it.path.as_str()).collect();
        assert_eq!(names, ["1.dat", "blobs/2", "toc.dat"]);
        // As `sha256sum` says.
        let sum = "5e78ab6c3f2d9ccbff01a687ed3de902c79942dcec6c0757ef5f97a927d0f8a3";
        assert_eq!((written[0].bytes, written[0].sha256.as_str()), (5, sum));
        let same = differences(dir.path(), &written, &never).expect("a look");
        assert!(same.is_empty(), "{same:?}");

        fs::write(file("1.dat"), "1.dax").expect("room");
        fs::remove_file(file("toc.dat")).expect("it is there");
        fs::write(file("blobs/3"), "").expect("room");
        let changed = differences(dir.path(), &written, &never).expect("a look");
        assert_eq!(
            changed,
            [
                "1.dat was changed",
                "toc.dat is missing",
                "blobs/3 was added"
            ]
        );
    }

    #[test]
    fn summing_can_be_given_up() {
        let dir = tempfile::tempdir().expect("a directory");
        fs::write(dir.path().join("a"), "a").expect("room");
        let error = sums(dir.path(), &AtomicBool::new(true)).expect_err("given up");
        assert_eq!(error.kind(), io::ErrorKind::Interrupted);
    }
}
