//! The append-only file of events: one JSON object a line, rotated by size.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::event::Told;

const FILE: &str = "audit.jsonl";

/// The file that is written.
#[derive(Debug)]
pub(super) struct AuditFile {
    path: PathBuf,
    rotate_bytes: u64,
    keep: u32,
    /// Open behind a whole line; `None` after an error, to be opened again.
    file: Option<(File, u64)>,
    /// Whether the last write failed, which is said once.
    failed: bool,
}

impl AuditFile {
    /// Opens the file and reads the last `last` events of it and of the one before. Never fails: a
    /// file that cannot be used is tried again with each event.
    pub(super) fn open(
        state_dir: &Path,
        rotate_bytes: u64,
        keep: u32,
        last: usize,
    ) -> (AuditFile, Vec<Told>) {
        let mut file = AuditFile {
            path: state_dir.join(FILE),
            rotate_bytes,
            keep,
            file: None,
            failed: false,
        };
        let mut events = read(&file.rotated(1));
        events.extend(read(&file.path));
        events.drain(..events.len().saturating_sub(last));
        if let Err(error) = file.reopen() {
            file.complain(&error);
        }
        (file, events)
    }

    /// Appends an event, with one write, so that a crash leaves whole lines and at most one torn one.
    pub(super) fn append(&mut self, told: &Told) {
        match self.try_append(told) {
            Ok(()) => self.failed = false,
            Err(error) => {
                // Part of a line may be there; opening again ends it.
                self.file = None;
                self.complain(&error);
            }
        }
    }

    fn try_append(&mut self, told: &Told) -> io::Result<()> {
        let mut line = serde_json::to_vec(told)?;
        line.push(b'\n');
        if self.file.is_none() {
            self.reopen()?;
        }
        let full =
            |(_, bytes): &(File, u64)| *bytes > 0 && bytes + line.len() as u64 > self.rotate_bytes;
        if self.file.as_ref().is_some_and(full) {
            self.rotate()?;
        }
        let Some((file, bytes)) = &mut self.file else {
            return Ok(());
        };
        file.write_all(&line)?;
        *bytes += line.len() as u64;
        Ok(())
    }

    fn reopen(&mut self) -> io::Result<()> {
        // Names, addresses and reasons are not for everybody.
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .read(true)
            .mode(0o600)
            .open(&self.path)?;
        let bytes = file.metadata()?.len();
        if bytes > 0 && !ends_whole(&file, bytes)? {
            (&file).write_all(b"\n")?;
        }
        self.file = Some((file, bytes));
        Ok(())
    }

    /// `audit.jsonl` becomes `.1`, `.1` becomes `.2`; the oldest goes.
    fn rotate(&mut self) -> io::Result<()> {
        self.file = None;
        for number in (1..self.keep).rev() {
            rename(&self.rotated(number), &self.rotated(number + 1))?;
        }
        match self.keep {
            0 => fs::remove_file(&self.path)?,
            1.. => rename(&self.path, &self.rotated(1))?,
        }
        self.reopen()
    }

    fn rotated(&self, number: u32) -> PathBuf {
        self.path.with_extension(format!("jsonl.{number}"))
    }

    fn complain(&mut self, error: &io::Error) {
        if !self.failed {
            let path = self.path.display();
            tracing::error!(%path, %error, "events are not written down");
        }
        self.failed = true;
    }
}

fn ends_whole(file: &File, bytes: u64) -> io::Result<bool> {
    use std::os::unix::fs::FileExt;
    let mut last = [0];
    file.read_exact_at(&mut last, bytes - 1)?;
    Ok(last == *b"\n")
}

fn rename(from: &Path, to: &Path) -> io::Result<()> {
    match fs::rename(from, to) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// The events of a file; a torn line, or one of a later version, is none.
fn read(path: &Path) -> Vec<Told> {
    let Ok(file) = File::open(path) else {
        return Vec::new();
    };
    let lines = BufReader::new(file).split(b'\n').map_while(Result::ok);
    lines
        .filter_map(|line| serde_json::from_slice(&line).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::event::{Event, Kind};
    use super::*;
    use jiff::Timestamp;

    fn told(id: u64) -> Told {
        Told {
            id,
            at: Timestamp::UNIX_EPOCH,
            event: Event::of(Kind::Hold, "shop"),
        }
    }

    fn ids(events: &[Told]) -> Vec<u64> {
        events.iter().map(|told| told.id).collect()
    }

    #[test]
    fn a_file_that_is_full_is_put_away() {
        let directory = tempfile::tempdir().expect("a directory");
        let line = serde_json::to_vec(&told(1)).expect("JSON").len() as u64 + 1;
        let (mut file, _) = AuditFile::open(directory.path(), 2 * line, 2, 100);
        for id in 1..=9 {
            file.append(&told(id));
        }
        let at = |name: &str| ids(&read(&directory.path().join(name)));
        assert_eq!(at("audit.jsonl"), [9]);
        assert_eq!(at("audit.jsonl.1"), [7, 8]);
        assert_eq!(at("audit.jsonl.2"), [5, 6]);
        assert!(!directory.path().join("audit.jsonl.3").exists());
        let (_, before) = AuditFile::open(directory.path(), 2 * line, 2, 2);
        assert_eq!(ids(&before), [8, 9]);
    }

    #[test]
    fn a_torn_line_is_ended_and_passed_over() {
        let directory = tempfile::tempdir().expect("a directory");
        let (mut file, _) = AuditFile::open(directory.path(), 1 << 20, 1, 10);
        file.append(&told(1));
        drop(file);
        let path = directory.path().join(FILE);
        let mut torn = OpenOptions::new().append(true).open(&path).expect("there");
        torn.write_all(b"{\"id\":2,\"at").expect("room on the disk");
        let (mut file, before) = AuditFile::open(directory.path(), 1 << 20, 1, 10);
        assert_eq!(ids(&before), [1]);
        file.append(&told(2));
        assert_eq!(ids(&read(&path)), [1, 2]);
    }

    #[test]
    fn a_directory_that_comes_back_is_used_again() {
        let directory = tempfile::tempdir().expect("a directory");
        let state = directory.path().join("state");
        let (mut file, before) = AuditFile::open(&state, 1 << 20, 1, 10);
        file.append(&told(1));
        assert!(before.is_empty() && file.failed);
        fs::create_dir(&state).expect("room on the disk");
        file.append(&told(2));
        assert!(!file.failed);
        assert_eq!(ids(&read(&state.join(FILE))), [2]);
    }
}
