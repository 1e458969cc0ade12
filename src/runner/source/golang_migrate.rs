//! Files in golang-migrate's manner: `NNN_name.up.sql` beside `NNN_name.down.sql`.
//!
//! The rule is that of its `source/parse.go`: `^([0-9]+)_(.*)\.(down|up)\.(.*)$`, a number of 64 bits.

use super::gather::{Gathering, plain_name};
use super::{Format, MigrationSet, PostedFile, SourceError, SourceProblem, SqlFile, Version};

/// Makes a set of migrations from posted files.
///
/// # Errors
/// Every fault found, not only the first.
pub fn collect(files: &[PostedFile]) -> Result<MigrationSet, Vec<SourceError>> {
    let mut gathering = Gathering::new(Format::GolangMigrate);
    for file in files {
        gathering.take(file, |gathering| {
            let Some(name) = parse_name(&file.name)? else {
                return Ok(());
            };
            gathering.check(file)?;
            let sql = SqlFile::new(&file.name, &file.sql);
            gathering.add(name.up, name.version, name.stem, sql)
        });
    }
    gathering.finish()
}

/// A name in two parts and a direction.
pub(super) struct Name<'a> {
    pub(super) version: Version,
    /// The name without `.up.sql` or `.down.sql`.
    pub(super) stem: &'a str,
    pub(super) up: bool,
}

/// The parsed name of a pair's file; `None` for a file that is none of our business.
pub(super) fn parse_name(name: &str) -> Result<Option<Name<'_>>, SourceProblem> {
    const WRONG: SourceProblem = SourceProblem::Name(Format::GolangMigrate);
    let Some(base) = name.strip_suffix(".sql").filter(|it| !it.contains('/')) else {
        return Ok(None);
    };
    let (stem, up) = match (base.strip_suffix(".up"), base.strip_suffix(".down")) {
        (Some(stem), _) => (stem, true),
        (None, Some(stem)) => (stem, false),
        (None, None) => return Err(WRONG),
    };
    let (digits, _) = stem.split_once('_').ok_or(WRONG)?;
    let plain = !digits.is_empty() && digits.bytes().all(|it| it.is_ascii_digit());
    if !plain || !plain_name(name) {
        return Err(WRONG);
    }
    // Only a number that is too large can fail here.
    let version = Version::dotted(digits).or(Err(SourceProblem::Version))?;
    Ok(Some(Name { version, stem, up }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runner::source::gather::posted;

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
}
