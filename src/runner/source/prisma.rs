//! Files in Prisma's manner: a directory for each migration, `20240101000000_name/migration.sql`.
//!
//! Prisma orders directories by name, which for 14 digits is the order of the numbers; the zeros of a
//! baseline or a squash (`0_init`) come before them in both. It has no way back of its own; a
//! `down.sql` in the directory, as its guide to down migrations makes one, is taken for it.

use super::gather::{Gathering, arrived_whole, plain_name};
use super::{
    Format, MigrationSet, PostedFile, SourceError, SourceProblem, SqlFile, ToolChecksum, Version,
};

/// Makes a set of migrations from posted files.
///
/// # Errors
/// Every fault found, not only the first.
pub fn collect(files: &[PostedFile]) -> Result<MigrationSet, Vec<SourceError>> {
    let mut gathering = Gathering::new(Format::Prisma);
    for file in files {
        gathering.take(file, |gathering| {
            if file.name == "migration_lock.toml" {
                arrived_whole(file)?;
                return provider(&file.sql);
            }
            let Some((version, stem, up)) = parse_name(&file.name)? else {
                return Ok(());
            };
            gathering.check(file)?;
            let sql = SqlFile {
                tool_checksum: Some(ToolChecksum::prisma(&file.sql)),
                ..SqlFile::new(&file.name, &file.sql)
            };
            gathering.add(up, version, stem, sql)
        });
    }
    gathering.finish()
}

/// Whether a name is that of a migration of Prisma's, or of its way back.
pub(super) fn is_prisma(name: &str) -> bool {
    let Some((directory, base)) = name.split_once('/') else {
        return false;
    };
    let digits = directory.split_once('_').map_or("", |(digits, _)| digits);
    let all_digits = !digits.is_empty() && digits.bytes().all(|it| it.is_ascii_digit());
    all_digits && matches!(base, "migration.sql" | "down.sql")
}

/// Version, directory, and whether it leads up.
fn parse_name(name: &str) -> Result<Option<(Version, &str, bool)>, SourceProblem> {
    let Some((directory, base)) = name.split_once('/') else {
        return match name.ends_with(".sql") {
            true => Err(SourceProblem::Name(Format::Prisma)),
            false => Ok(None),
        };
    };
    let up = match base {
        "migration.sql" => true,
        "down.sql" => false,
        _ => return Ok(None),
    };
    let (digits, _) = directory
        .split_once('_')
        .ok_or(SourceProblem::Name(Format::Prisma))?;
    let in_order = digits.len() == 14 || digits.bytes().all(|it| it == b'0');
    let version = Version::dotted(digits).ok();
    match version.filter(|_| in_order && !digits.is_empty() && plain_name(name)) {
        Some(version) => Ok(Some((version, directory, up))),
        None => Err(SourceProblem::Name(Format::Prisma)),
    }
}

/// `migration_lock.toml` names the kind of database.
fn provider(text: &str) -> Result<(), SourceProblem> {
    for (number, line) in text.lines().enumerate() {
        let Some((key, value)) = line.split_once('=') else {
            continue;
        };
        let value = value.trim().trim_matches('"');
        if key.trim() == "provider" && value != "postgresql" && value != "cockroachdb" {
            let text = format!("the migrations are for {value}, not for PostgreSQL");
            return Err(SourceProblem::at(number + 1, text));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runner::source::gather::posted;
    use proptest::prelude::*;

    #[test]
    fn a_directory_is_a_migration() {
        let set = collect(&[
            posted("20240102030405_b/migration.sql", "select 2"),
            posted("20240102030405_b/down.sql", "select -2"),
            posted("0_init/migration.sql", "select 1"),
            posted("20240102030405_b/notes.txt", "passed over"),
            posted(
                "migration_lock.toml",
                "# by Prisma\nprovider = \"postgresql\"\n",
            ),
        ])
        .unwrap();
        let found: Vec<_> = set
            .iter()
            .map(|it| (it.name.as_str(), it.down.is_some()))
            .collect();
        assert_eq!(found, [("0_init", false), ("20240102030405_b", true)]);
    }

    #[test]
    fn what_prisma_would_order_otherwise_is_refused() {
        let table = [
            (
                "2024_a/migration.sql",
                "select 1",
                "is no migration file: expected 14 digits",
            ),
            ("init/migration.sql", "select 1", "is no migration file"),
            ("1_a.sql", "select 1", "is no migration file"),
            ("20240102030405_a/migration.sql", " ", "is empty"),
            (
                "20240102030405_a/down.sql",
                "select 1",
                "has no up file of the same version",
            ),
            (
                "migration_lock.toml",
                "\nprovider=\"mysql\"",
                "line 2: the migrations are for mysql",
            ),
        ];
        for (name, sql, text) in table {
            let errors = collect(&[posted(name, sql)]).expect_err(name);
            assert!(errors[0].to_string().contains(text), "{}", errors[0]);
        }
    }

    proptest! {
        #[test]
        fn the_order_is_that_of_the_names(a in "[0-9]{14}_[a-z]{1,4}", b in "[0-9]{14}_[a-z]{1,4}") {
            prop_assume!(a[..14] != b[..14]);
            let set = collect(&[
                posted(&format!("{a}/migration.sql"), "select 1"),
                posted(&format!("{b}/migration.sql"), "select 1"),
            ]).unwrap();
            let names: Vec<_> = set.iter().map(|it| it.name.clone()).collect();
            let mut sorted = vec![a, b];
            sorted.sort();
            prop_assert_eq!(names, sorted);
        }
    }
}
