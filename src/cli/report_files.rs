//! Files that keep what was found: all of them whole, or none.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;

/// Writes a file for each extension, all with one name, and returns their paths. Each is written beside
/// its place and moved there when all of them are on the disk.
///
/// # Errors
/// When the directory cannot be made, or a file cannot be written (a full disk, say); then nothing
/// of them is left.
pub(super) fn save(
    directory: &Path,
    name: &str,
    files: &[(&str, Vec<u8>)],
) -> anyhow::Result<Vec<PathBuf>> {
    let here = directory.display();
    fs::create_dir_all(directory).with_context(|| format!("{here} cannot be made"))?;
    let paths: Vec<_> = files
        .iter()
        .map(|(extension, _)| {
            let path = directory.join(format!("{name}.{extension}"));
            let beside = directory.join(format!(".{name}.{extension}.part"));
            (path, beside)
        })
        .collect();
    let written = write_all(files, &paths);
    if written.is_err() {
        for (_, beside) in &paths {
            // What is not there cannot be left behind.
            let _gone = fs::remove_file(beside);
        }
    }
    written.with_context(|| format!("no report was written to {here}"))?;
    Ok(paths.into_iter().map(|(path, _)| path).collect())
}

fn write_all(files: &[(&str, Vec<u8>)], paths: &[(PathBuf, PathBuf)]) -> io::Result<()> {
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
        let mut names: Vec<_> = fs::read_dir(directory)
            .expect("a directory")
            .map(|it| {
                it.expect("an entry")
                    .file_name()
                    .to_string_lossy()
                    .into_owned()
            })
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
        let text = format!("{error:#}");
        assert!(text.contains("no report was written"), "{text}");
        assert!(text.contains("No space left on device"), "{text}");
        assert!(names(directory.path()).is_empty());
    }

    #[test]
    fn a_directory_that_is_a_file_is_said() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("file");
        fs::write(&file, "x").expect("a file");
        let error = save(&file, "r", &[]).expect_err("it is no directory");
        assert!(format!("{error:#}").contains("cannot be made"), "{error:#}");
    }
}
