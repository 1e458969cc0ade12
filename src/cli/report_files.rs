//! Files that keep what was found, in a directory of the operator's.

use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::runner::artefacts;

/// Writes a file for each extension, all with one name, and returns their paths.
///
/// # Errors
/// When the directory cannot be made, or a file cannot be written (a full disk, say); then nothing
/// of them is left.
pub(super) fn save(
    directory: &Path,
    name: &str,
    files: &[(&str, Vec<u8>)],
) -> anyhow::Result<Vec<PathBuf>> {
    let saved = artefacts::save(directory, name, files);
    saved.with_context(|| format!("no report was written to {}", directory.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_that_is_a_file_is_said() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("file");
        std::fs::write(&file, "x").expect("a file");
        let error = save(&file, "r", &[]).expect_err("it is no directory");
        let text = format!("{error:#}");
        assert!(text.contains("no report was written to"), "{text}");
    }
}
