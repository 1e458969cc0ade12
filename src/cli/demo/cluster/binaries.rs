//! Where Postgres's programs are installed.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::bail;

/// Debian keeps each major version apart and only the client programs on `PATH`.
const DEBIAN: &str = "/usr/lib/postgresql";

/// The directory of `postgres` and `initdb`: `explicit`, else `PG_BIN`, else Debian's newest
/// version, else the first on `PATH`.
///
/// # Errors
/// A named directory lacks them (we then do not guess another), or none is found.
pub(super) fn find(explicit: Option<&Path>) -> anyhow::Result<PathBuf> {
    let named = explicit.map(Path::to_owned).or_else(|| {
        let dir = std::env::var_os("PG_BIN").filter(|dir| !dir.is_empty());
        dir.map(PathBuf::from)
    });
    if let Some(dir) = named {
        if !has_programs(&dir) {
            bail!("{} holds no postgres and initdb", dir.display());
        }
        return Ok(dir);
    }
    if let Some(dir) = newest(Path::new(DEBIAN)).or_else(|| on_path(std::env::var_os("PATH"))) {
        return Ok(dir);
    }
    bail!("no Postgres found in {DEBIAN} or on PATH; install it or set PG_BIN")
}

fn has_programs(dir: &Path) -> bool {
    ["postgres", "initdb"]
        .iter()
        .all(|program| dir.join(program).is_file())
}

/// The `bin` directory of the highest version under `root`, by number: 9 comes before 15.
fn newest(root: &Path) -> Option<PathBuf> {
    let versions = fs::read_dir(root)
        .ok()?
        .filter_map(Result::ok)
        .filter_map(|entry| {
            let version: f32 = entry.file_name().to_str()?.parse().ok()?;
            Some((version, entry.path().join("bin")))
        });
    versions
        .filter(|(_, bin)| has_programs(bin))
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, bin)| bin)
}

fn on_path(path: Option<impl AsRef<OsStr>>) -> Option<PathBuf> {
    std::env::split_paths(path?.as_ref()).find(|dir| has_programs(dir))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn install(bin: &Path) {
        fs::create_dir_all(bin).unwrap();
        for program in ["postgres", "initdb"] {
            fs::write(bin.join(program), "").unwrap();
        }
    }

    #[test]
    fn newest_version_wins_by_number_and_needs_a_server() {
        let root = tempfile::tempdir().unwrap();
        install(&root.path().join("9.6/bin"));
        install(&root.path().join("15/bin"));
        // Only the client package of 17 is installed here.
        fs::create_dir_all(root.path().join("17/bin")).unwrap();
        assert_eq!(newest(root.path()), Some(root.path().join("15/bin")));
    }

    #[test]
    fn a_named_directory_without_programs_is_an_error_and_not_a_guess() {
        let empty = tempfile::tempdir().unwrap();
        assert!(find(Some(empty.path())).is_err());
    }

    #[test]
    fn path_is_searched_in_order() {
        let root = tempfile::tempdir().unwrap();
        let (without, with) = (root.path().join("a"), root.path().join("b"));
        fs::create_dir_all(&without).unwrap();
        install(&with);
        let path = std::env::join_paths([&without, &with]).unwrap();
        assert_eq!(on_path(Some(path)), Some(with));
    }
}
