//! The files themselves: appended line by line, opened again after an error, never larger than allowed.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::config::RunLog;
use crate::runner::types::Event;

/// A file of lines that is put away when it is full.
#[derive(Debug)]
pub(super) struct Lines {
    path: PathBuf,
    max_bytes: u64,
    keep: usize,
    /// Open behind a whole line, and how long it is; `None` after an error.
    file: Option<(File, u64)>,
}

impl Lines {
    pub(super) fn new(path: PathBuf, max_bytes: u64, keep: usize) -> Self {
        Self {
            path,
            max_bytes,
            keep,
            file: None,
        }
    }

    /// Appends a line with one write, so that a crash tears one at most.
    pub(super) fn append(&mut self, line: &[u8]) -> io::Result<()> {
        let done = self.try_append(line);
        if done.is_err() {
            self.file = None;
        }
        done
    }

    fn try_append(&mut self, line: &[u8]) -> io::Result<()> {
        let length = line.len() as u64;
        let (mut file, mut bytes) = match self.file.take() {
            Some(open) => open,
            None => open(&self.path)?,
        };
        if bytes > 0 && bytes + length > self.max_bytes {
            drop(file);
            self.rotate()?;
            (file, bytes) = open(&self.path)?;
        }
        file.write_all(line)?;
        self.file = Some((file, bytes + length));
        Ok(())
    }

    /// The file becomes `.1`, `.1` becomes `.2`; the oldest goes.
    fn rotate(&self) -> io::Result<()> {
        let old = |number: usize| self.path.with_extension(format!("jsonl.{number}"));
        for number in (1..self.keep).rev() {
            match fs::rename(old(number), old(number + 1)) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                Ok(()) | Err(_) => {}
            }
        }
        fs::rename(&self.path, old(1))
    }
}

/// Opens a file behind its last whole line; the directory is made if it is not there.
fn open(path: &Path) -> io::Result<(File, u64)> {
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir)?;
    }
    // Names and statements are not for everybody.
    let mut file = OpenOptions::new()
        .create(true)
        .append(true)
        .read(true)
        .mode(0o600)
        .open(path)?;
    let mut bytes = file.metadata()?.len();
    if bytes > 0 {
        let mut last = [0];
        file.read_exact_at(&mut last, bytes - 1)?;
        if last != *b"\n" {
            file.write_all(b"\n")?;
            bytes += 1;
        }
    }
    Ok((file, bytes))
}

/// The log of one run.
#[derive(Debug)]
pub(super) struct RunFile {
    dir: PathBuf,
    name: String,
    /// Its name if somebody else has taken that one in the same second.
    other: String,
    max_bytes: u64,
    keep: usize,
    file: Option<(File, u64)>,
    /// It has said that it is full.
    full: bool,
}

/// What the logs of runs are called.
const PREFIX: &str = "migrate-safe-";
const SUFFIX: &str = ".log";

impl RunFile {
    pub(super) fn new(dir: &Path, at: jiff::Timestamp, run: &str, settings: &RunLog) -> Self {
        let time = at.strftime("%Y%m%d-%H%M%S");
        let short: String = run.chars().take(8).collect();
        Self {
            dir: dir.to_owned(),
            name: format!("{PREFIX}{time}{SUFFIX}"),
            other: format!("{PREFIX}{time}-{short}{SUFFIX}"),
            max_bytes: settings.max_bytes,
            keep: settings.keep,
            file: None,
            full: false,
        }
    }

    /// Appends events, as long as there is room.
    pub(super) fn append(&mut self, events: &[Event]) -> io::Result<()> {
        let (mut file, mut bytes) = match self.file.take() {
            Some(open) => open,
            None => self.begin()?,
        };
        for event in events {
            if self.full {
                break;
            }
            let line = sentence(event);
            if bytes + line.len() as u64 > self.max_bytes {
                self.full = true;
                file.write_all(b"(full: migrate.log.max_bytes)\n")?;
                break;
            }
            file.write_all(line.as_bytes())?;
            bytes += line.len() as u64;
        }
        self.file = Some((file, bytes));
        Ok(())
    }

    /// Makes the file, and makes room for it among the older ones. After an error the one that is there
    /// is gone on with.
    fn begin(&mut self) -> io::Result<(File, u64)> {
        fs::create_dir_all(&self.dir)?;
        if !self.other.is_empty() {
            let new = OpenOptions::new()
                .create_new(true)
                .append(true)
                .mode(0o600)
                .open(self.dir.join(&self.name));
            if let Err(error) = new {
                if error.kind() != ErrorKind::AlreadyExists {
                    return Err(error);
                }
                self.name = std::mem::take(&mut self.other);
            }
            self.other.clear();
            self.prune()?;
        }
        open(&self.dir.join(&self.name))
    }

    /// Removes the oldest logs of runs; their names sort by time.
    fn prune(&self) -> io::Result<()> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let name = entry?.file_name();
            if let Some(name) = name.to_str()
                && name.starts_with(PREFIX)
                && name.ends_with(SUFFIX)
                && name != self.name
            {
                names.push(name.to_owned());
            }
        }
        names.sort();
        let surplus = names.len().saturating_sub(self.keep);
        for name in names.iter().take(surplus) {
            match fs::remove_file(self.dir.join(name)) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                Ok(()) | Err(_) => {}
            }
        }
        Ok(())
    }
}

/// An event as a line: what could end it or move a terminal's cursor is written out.
fn sentence(event: &Event) -> String {
    let at = event.at.strftime("%Y-%m-%dT%H:%M:%S%.3fZ");
    let kind = serde_json::to_value(event.kind).unwrap_or_default();
    let kind = kind.as_str().unwrap_or_default();
    let mut text = String::with_capacity(event.text.len());
    for c in event.text.chars() {
        match c.is_control() {
            true => text.extend(c.escape_default()),
            false => text.push(c),
        }
    }
    let data = match event.data.is_null() {
        true => String::new(),
        false => format!(" {}", event.data),
    };
    format!("{at} {kind} {text}{data}\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runner::types::EventKind;

    fn event(text: &str) -> Event {
        Event {
            seq: 1,
            at: jiff::Timestamp::UNIX_EPOCH,
            kind: EventKind::Note,
            text: text.to_owned(),
            data: serde_json::Value::Null,
        }
    }

    #[test]
    fn a_full_file_is_put_away_and_the_oldest_goes() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("migrations.jsonl");
        fs::write(&path, "torn").expect("a file");
        let mut lines = Lines::new(path.clone(), 12, 2);
        for number in 0..4 {
            lines
                .append(format!("line {number}\n").as_bytes())
                .expect("room");
        }
        let read = |name: &str| fs::read_to_string(dir.path().join(name)).expect("a file");
        assert_eq!(read("migrations.jsonl"), "line 3\n");
        assert_eq!(read("migrations.jsonl.1"), "line 2\n");
        assert_eq!(read("migrations.jsonl.2"), "line 1\n");
        // What was torn is ended, so that the next line is whole; it was put away and is gone by now.
        assert_eq!(fs::read_dir(dir.path()).expect("it").count(), 3);
    }

    #[test]
    fn the_log_of_a_run_stays_in_its_bounds() {
        let dir = tempfile::tempdir().expect("a directory");
        let settings = RunLog {
            dir: None,
            max_bytes: 100,
            keep: 1,
        };
        for day in 1..4 {
            let at = format!("2026-01-0{day}T00:00:00Z").parse().expect("a time");
            let mut file = RunFile::new(dir.path(), at, "abcdefgh-1", &settings);
            file.append(&[
                event("first \u{1b}[2J"),
                event(&"long ".repeat(30)),
                event("no"),
            ])
            .expect("room");
            file.append(&[event("neither")]).expect("room");
            let text = fs::read_to_string(dir.path().join(&file.name)).expect("it");
            assert_eq!(
                text,
                "1970-01-01T00:00:00.000Z note first \\u{1b}[2J\n(full: migrate.log.max_bytes)\n"
            );
        }
        // Two in the same second are told apart; of older ones as many are kept as is said.
        let at = "2026-01-03T00:00:00Z".parse().expect("a time");
        let mut file = RunFile::new(dir.path(), at, "abcdefgh-1", &settings);
        file.append(&[event("x")]).expect("room");
        assert_eq!(file.name, "migrate-safe-20260103-000000-abcdefgh.log");
        let mut names: Vec<_> = fs::read_dir(dir.path())
            .expect("it")
            .map(|it| it.expect("a file").file_name())
            .collect();
        names.sort();
        assert_eq!(
            names,
            [
                "migrate-safe-20260103-000000-abcdefgh.log",
                "migrate-safe-20260103-000000.log"
            ]
        );
    }
}
