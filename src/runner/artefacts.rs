//! What is kept of runs as files: reports and schemas, whole or not at all.
//!
//! ```text
//! DIR/DATABASE/RUN/preflight-report-TIME.json     every check before it
//! DIR/DATABASE/RUN/schema-before-TIME.txt         the lines of the schema that its first file found
//! DIR/DATABASE/RUN/schema-after-TIME.txt          and of the one that it left
//! ```

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::config::Reports;

/// What may stand in the name of a directory as it is.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'_').remove(b'-');

/// A file to keep.
#[derive(Clone, Debug)]
pub(super) struct Artefact {
    /// What comes before the time in its name.
    pub(super) name: &'static str,
    pub(super) extension: &'static str,
    pub(super) bytes: Vec<u8>,
}

/// Where the files of a run are; none if none are written.
pub(super) fn place(settings: &Reports, database: &str, run: &str) -> Option<PathBuf> {
    let database = utf8_percent_encode(database, PLAIN).to_string();
    settings.dir.as_ref().map(|it| it.join(database).join(run))
}

/// Writes the files of a run, and removes those of runs that are long over. Returns what could not be
/// removed.
///
/// # Errors
/// When a file cannot be written (a full disk, say); then none of them is there.
pub(super) fn keep(
    place: &Path,
    keep: usize,
    at: jiff::Timestamp,
    files: Vec<Artefact>,
) -> io::Result<Vec<String>> {
    let time = at.strftime("%Y%m%dT%H%M%S%.3fZ").to_string();
    let named = files.into_iter().map(|it| {
        let name = format!("{}-{time}.{}", it.name, it.extension);
        (name, it.bytes)
    });
    write_together(place, named.collect())?;
    let all = place.parent().map(|it| prune(it, keep));
    Ok(all.transpose()?.unwrap_or_default())
}

/// Removes the directories of runs but the newest.
fn prune(database: &Path, keep: usize) -> io::Result<Vec<String>> {
    let mut runs = Vec::new();
    for entry in fs::read_dir(database)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        // Nobody else's directory has the name of a run.
        let is_run =
            name.len() == 36 && name.bytes().all(|it| it.is_ascii_hexdigit() || it == b'-');
        if is_run && entry.file_type()?.is_dir() {
            runs.push((entry.metadata()?.modified()?, entry.path()));
        }
    }
    runs.sort();
    let surplus = runs.len().saturating_sub(keep);
    let old = runs.into_iter().take(surplus);
    let failed = old.filter_map(|(_, path)| {
        let removed = fs::remove_dir_all(&path);
        removed.err().map(|it| format!("{}: {it}", path.display()))
    });
    Ok(failed.collect())
}

/// Writes a file for each extension, all with one name, and returns their paths.
///
/// # Errors
/// As for all files of a run: then nothing of them is left.
pub fn save(directory: &Path, name: &str, files: &[(&str, Vec<u8>)]) -> io::Result<Vec<PathBuf>> {
    let named = files
        .iter()
        .map(|(extension, bytes)| (format!("{name}.{extension}"), bytes.clone()));
    write_together(directory, named.collect())
}

/// Writes files, each beside its place, and moves them there when all of them are on the disk.
fn write_together(directory: &Path, files: Vec<(String, Vec<u8>)>) -> io::Result<Vec<PathBuf>> {
    fs::create_dir_all(directory)?;
    let paths: Vec<_> = files
        .iter()
        .map(|(name, _)| {
            (
                directory.join(name),
                directory.join(format!(".{name}.part")),
            )
        })
        .collect();
    let written = write_all(&files, &paths);
    if written.is_err() {
        for (_, beside) in &paths {
            // What is not there cannot be left behind.
            let _gone = fs::remove_file(beside);
        }
    }
    written?;
    Ok(paths.into_iter().map(|(path, _)| path).collect())
}

fn write_all(files: &[(String, Vec<u8>)], paths: &[(PathBuf, PathBuf)]) -> io::Result<()> {
    for ((_, bytes), (_, beside)) in files.iter().zip(paths) {
        let mut file = File::create(beside)?;
        file.write_all(bytes)?;
        file.sync_all()?;
    }
    for (path, beside) in paths {
        fs::rename(beside, path)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn names(directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(directory).expect("a directory");
        let name = |it: io::Result<fs::DirEntry>| it.expect("an entry").file_name();
        let mut names: Vec<_> = entries
            .map(|it| name(it).to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn files_are_written_whole_and_together() {
        let directory = tempfile::tempdir().expect("a directory");
        let inner = directory.path().join("new");
        let files = [("json", b"{}".to_vec()), ("html", b"<p>".to_vec())];
        let paths = save(&inner, "r", &files).expect("written");
        assert_eq!(names(&inner), ["r.html", "r.json"]);
        assert_eq!(fs::read(&paths[1]).expect("a file"), b"<p>");
    }

    #[test]
    fn a_full_disk_leaves_nothing_and_is_said() {
        let directory = tempfile::tempdir().expect("a directory");
        // /dev/full says what a full disk says; the first file is on the disk by then.
        let beside = directory.path().join(".r.html.part");
        symlink("/dev/full", beside).expect("a link");
        let files = [("json", b"{}".to_vec()), ("html", b"<p>".to_vec())];
        let error = save(directory.path(), "r", &files).expect_err("the disk is full");
        assert!(error.to_string().contains("No space left"), "{error}");
        assert!(names(directory.path()).is_empty());
    }

    #[test]
    fn files_of_runs_long_over_go_and_nothing_else() {
        let directory = tempfile::tempdir().expect("a directory");
        let reports = Reports {
            dir: Some(directory.path().to_owned()),
            keep: 2,
            ..Reports::default()
        };
        let runs = [1, 2, 3].map(|it| format!("0000000{it}-0000-4000-8000-000000000000"));
        fs::create_dir_all(directory.path().join("a%2Fb/notes")).expect("a directory");
        for run in &runs {
            let place = place(&reports, "a/b", run).expect("a place");
            let files = vec![Artefact {
                name: "report",
                extension: "txt",
                bytes: b"x".to_vec(),
            }];
            let at = jiff::Timestamp::UNIX_EPOCH;
            let failed = keep(&place, reports.keep, at, files).expect("written");
            assert!(failed.is_empty());
            assert_eq!(names(&place), ["report-19700101T000000.000Z.txt"]);
        }
        let left = names(&directory.path().join("a%2Fb"));
        assert_eq!(left, [&runs[1], &runs[2], "notes"]);
    }
}
