//! Files in golang-migrate's manner: `NNN_name.up.sql` beside `NNN_name.down.sql`.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::Path;

use super::{FILE_BYTES_MAX, Migration, MigrationSet, PostedFile, Sha256, SqlFile, Version};

/// What is wrong with a directory or a posted list, naming the file.
#[derive(Debug, thiserror::Error)]
#[error("{}: {problem}", file.escape_debug())]
pub struct SourceError {
    /// The file (or directory) at fault.
    pub file: String,
    /// What is wrong with it.
    #[source]
    pub problem: SourceProblem,
}

/// The kinds of fault a file can have before its SQL is looked at.
#[derive(Debug, thiserror::Error)]
pub enum SourceProblem {
    /// The directory or file cannot be read.
    #[error("cannot be read: {0}")]
    Read(#[from] std::io::Error),
    /// Ends in `.sql` but is no migration: more likely a typing error than something to pass over.
    #[error("is no migration file: expected NUMBER_name.up.sql or NUMBER_name.down.sql")]
    Name,
    /// The number does not fit in 64 bits.
    #[error("the version does not fit in 64 bits")]
    Version,
    /// Two files claim one version and direction.
    #[error("has the same version as {0}")]
    Duplicate(String),
    /// A down file that belongs to nothing.
    #[error("has no up file of the same version")]
    DownWithoutUp,
    /// The bytes are not UTF-8.
    #[error("is not UTF-8 (byte {0})")]
    Encoding(usize),
    /// Postgres cannot be sent a NUL.
    #[error("holds a NUL byte")]
    Nul,
    /// Nothing but white space.
    #[error("is empty")]
    Empty,
    /// Above `FILE_BYTES_MAX`.
    #[error("is larger than {} MiB", FILE_BYTES_MAX / 1024 / 1024)]
    TooLarge,
    /// The text that arrived is not the text that was sent.
    #[error("arrived with SHA-256 {actual}, announced was {announced:?}")]
    Checksum {
        /// What the sender said.
        announced: String,
        /// What was computed here.
        actual: Sha256,
    },
}

impl SourceProblem {
    fn of(self, file: impl Into<String>) -> SourceError {
        SourceError {
            file: file.into(),
            problem: self,
        }
    }
}

/// Reads a directory (not its subdirectories) and checks that it forms a set of migrations.
///
/// Files that do not end in `.sql` are passed over.
///
/// # Errors
/// Every fault found, not only the first.
pub fn read_directory(directory: &Path) -> Result<Vec<PostedFile>, Vec<SourceError>> {
    let unreadable = |error: std::io::Error| {
        vec![SourceProblem::from(error).of(directory.display().to_string())]
    };
    let mut paths = std::fs::read_dir(directory)
        .and_then(|entries| {
            entries
                .map(|entry| Ok(entry?.path()))
                .collect::<Result<Vec<_>, _>>()
        })
        .map_err(unreadable)?;
    paths.retain(|path| path.extension().is_some_and(|it| it == "sql") && !path.is_dir());
    paths.sort();

    let mut files = Vec::new();
    let mut errors = Vec::new();
    for path in paths {
        let name = path
            .file_name()
            .map(|it| it.to_string_lossy().into_owned())
            .unwrap_or_default();
        match read_file(&path) {
            Ok(sql) => {
                let sha256 = Sha256::of(sql.as_bytes()).to_string();
                files.push(PostedFile { name, sql, sha256 });
            }
            Err(problem) => errors.push(problem.of(name)),
        }
    }
    if let Err(more) = collect(&files) {
        errors.extend(more);
    }
    if errors.is_empty() {
        Ok(files)
    } else {
        Err(errors)
    }
}

fn read_file(path: &Path) -> Result<String, SourceProblem> {
    if std::fs::metadata(path)?.len() > FILE_BYTES_MAX as u64 {
        return Err(SourceProblem::TooLarge);
    }
    String::from_utf8(std::fs::read(path)?)
        .map_err(|error| SourceProblem::Encoding(error.utf8_error().valid_up_to()))
}

/// Makes a set of migrations from posted files.
///
/// # Errors
/// Every fault found, not only the first.
pub fn collect(files: &[PostedFile]) -> Result<MigrationSet, Vec<SourceError>> {
    let mut ups = BTreeMap::new();
    let mut downs = BTreeMap::new();
    let mut errors = Vec::new();
    for file in files {
        match accept(file) {
            Ok(None) => {}
            Ok(Some(name)) => {
                let side = if name.up { &mut ups } else { &mut downs };
                match side.entry(name.version) {
                    Entry::Vacant(entry) => {
                        entry.insert((name.stem, SqlFile::new(&file.name, &file.sql)));
                    }
                    Entry::Occupied(other) => errors
                        .push(SourceProblem::Duplicate(other.get().1.name.clone()).of(&file.name)),
                }
            }
            Err(problem) => errors.push(problem.of(&file.name)),
        }
    }

    let mut migrations = BTreeMap::new();
    for (version, (stem, up)) in ups {
        let down = downs.remove(&version).map(|(_, file)| file);
        migrations.insert(
            version,
            Migration {
                version,
                name: stem.to_owned(),
                up,
                down,
            },
        );
    }
    // A faulty up file would make its innocent down file look like a second fault.
    if errors.is_empty() {
        errors.extend(
            downs
                .into_values()
                .map(|(_, it)| SourceProblem::DownWithoutUp.of(it.name)),
        );
    }
    if errors.is_empty() {
        Ok(MigrationSet { migrations })
    } else {
        Err(errors)
    }
}

/// The file's parsed name, or `None` for a file that is none of our business.
fn accept(file: &PostedFile) -> Result<Option<Name<'_>>, SourceProblem> {
    let Some(name) = parse_name(&file.name)? else {
        return Ok(None);
    };
    if file.sql.len() > FILE_BYTES_MAX {
        return Err(SourceProblem::TooLarge);
    }
    let actual = Sha256::of(file.sql.as_bytes());
    if !file.sha256.eq_ignore_ascii_case(&actual.to_string()) {
        return Err(SourceProblem::Checksum {
            announced: file.sha256.clone(),
            actual,
        });
    }
    if file.sql.contains('\0') {
        return Err(SourceProblem::Nul);
    }
    if file.sql.trim_start_matches('\u{feff}').trim().is_empty() {
        return Err(SourceProblem::Empty);
    }
    Ok(Some(name))
}

struct Name<'a> {
    version: Version,
    /// The name without `.up.sql` or `.down.sql`.
    stem: &'a str,
    up: bool,
}

/// `^([0-9]+)_(.*)\.(down|up)\.sql$`, as golang-migrate's source driver has it.
fn parse_name(name: &str) -> Result<Option<Name<'_>>, SourceProblem> {
    let Some(base) = name.strip_suffix(".sql") else {
        return Ok(None);
    };
    let (stem, up) = match (base.strip_suffix(".up"), base.strip_suffix(".down")) {
        (Some(stem), _) => (stem, true),
        (None, Some(stem)) => (stem, false),
        (None, None) => return Err(SourceProblem::Name),
    };
    let (digits, _) = stem.split_once('_').ok_or(SourceProblem::Name)?;
    let plain = !digits.is_empty() && digits.bytes().all(|it| it.is_ascii_digit());
    // Names reach terminals and logs.
    if !plain || name.len() > 255 || name.chars().any(|it| it.is_control() || it == '/') {
        return Err(SourceProblem::Name);
    }
    // Only a number that is too large can fail here.
    let version = digits
        .parse()
        .map(Version)
        .or(Err(SourceProblem::Version))?;
    Ok(Some(Name { version, stem, up }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn posted(name: &str, sql: &str) -> PostedFile {
        let sha256 = Sha256::of(sql.as_bytes()).to_string();
        PostedFile {
            name: name.to_owned(),
            sql: sql.to_owned(),
            sha256,
        }
    }

    fn errors(files: &[PostedFile]) -> Vec<String> {
        let errors = collect(files).expect_err("faulty files");
        errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn pairs_are_ordered_by_number_not_by_text() {
        let set = collect(&[
            posted("10_ten.up.sql", "select 10"),
            posted("9_nine.up.sql", "select 9"),
            posted("009_other.down.sql", "select -9"),
            posted("README.md", "not ours"),
            posted("20240101000000_.up.sql", "select 1"),
        ])
        .unwrap();
        let names: Vec<_> = set
            .iter()
            .map(|it| (it.name.as_str(), it.down.is_some()))
            .collect();
        assert_eq!(
            names,
            [
                ("9_nine", true),
                ("10_ten", false),
                ("20240101000000_", false)
            ]
        );
    }

    #[test]
    fn every_fault_names_its_file() {
        let mut changed = posted("7_changed.up.sql", "select 7");
        changed.sql.push(' ');
        let found = errors(&[
            posted("1_a.up.sql", "select 1"),
            posted("01_b.up.sql", "select 1"),
            posted("notes.sql", "select 1"),
            posted("x_a.up.sql", "select 1"),
            posted("99999999999999999999_a.up.sql", "select 1"),
            posted("3_a.up.sql", "\u{feff} \r\n"),
            posted("4_a.up.sql", "select '\0'"),
            posted("5_\u{1b}[2J.up.sql", "select 1"),
            changed,
        ]);
        assert_eq!(found.len(), 8, "{found:#?}");
        assert_eq!(found[0], "01_b.up.sql: has the same version as 1_a.up.sql");
        assert!(
            found[1].starts_with("notes.sql: is no migration file"),
            "{}",
            found[1]
        );
        assert!(
            found[2].starts_with("x_a.up.sql: is no migration file"),
            "{}",
            found[2]
        );
        assert_eq!(
            found[3],
            "99999999999999999999_a.up.sql: the version does not fit in 64 bits"
        );
        assert_eq!(found[4], "3_a.up.sql: is empty");
        assert_eq!(found[5], "4_a.up.sql: holds a NUL byte");
        assert!(found[7].contains("announced was"), "{}", found[7]);
    }

    #[test]
    fn a_down_file_needs_an_up_file() {
        let found = errors(&[posted("1_a.down.sql", "select 1")]);
        assert_eq!(found, ["1_a.down.sql: has no up file of the same version"]);
    }

    #[test]
    fn a_directory_is_read_with_its_faults() {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, bytes: &[u8]| {
            std::fs::write(directory.path().join(name), bytes).unwrap();
        };
        write("002_b.up.sql", b"select 2");
        write("001_a.up.sql", b"select 1");
        write("atlas.sum", b"\xff");
        std::fs::create_dir(directory.path().join("old.sql")).unwrap();
        let files = read_directory(directory.path()).unwrap();
        assert_eq!(
            files.iter().map(|it| &*it.name).collect::<Vec<_>>(),
            ["001_a.up.sql", "002_b.up.sql"]
        );

        write("003_c.up.sql", b"select '\xff'");
        let found = read_directory(directory.path()).unwrap_err();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].to_string(), "003_c.up.sql: is not UTF-8 (byte 8)");
    }
}
