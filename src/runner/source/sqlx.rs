//! Files in sqlx's manner: `NUMBER_name.sql`, or pairs `NUMBER_name.up.sql` and `.down.sql`.
//!
//! The rules are those of its `sqlx-core/src/migrate/source.rs`: names without an underscore are
//! passed over, as are directories; what stands before the first underscore has to be a number of 64
//! bits with a sign (here without: a negative version is refused). A file whose first bytes are
//! `-- no-transaction` runs without one.

use super::gather::{Gathering, plain_name};
use super::{
    Format, MigrationSet, PostedFile, SourceError, SourceProblem, SqlFile, ToolChecksum, Version,
};

/// How a file says that it runs without a transaction: with its first bytes, or not at all.
pub(super) const NO_TRANSACTION: &str = "-- no-transaction";

/// Makes a set of migrations from posted files.
///
/// # Errors
/// Every fault found, not only the first.
pub fn collect(files: &[PostedFile]) -> Result<MigrationSet, Vec<SourceError>> {
    let mut gathering = Gathering::new(Format::Sqlx);
    for file in files {
        gathering.take(file, |gathering| {
            let Some((version, stem, up)) = parse_name(&file.name)? else {
                return Ok(());
            };
            gathering.check(file)?;
            let sql = SqlFile {
                tool_checksum: Some(ToolChecksum::sqlx(&file.sql)),
                no_transaction: file.sql.starts_with(NO_TRANSACTION),
                ..SqlFile::new(&file.name, &file.sql)
            };
            gathering.add(up, version, stem, sql)
        });
    }
    gathering.finish()
}

/// Version, name, and whether it leads up.
fn parse_name(name: &str) -> Result<Option<(Version, &str, bool)>, SourceProblem> {
    let Some(base) = name.strip_suffix(".sql").filter(|it| !it.contains('/')) else {
        return Ok(None);
    };
    let Some((number, _)) = base.split_once('_') else {
        return Ok(None);
    };
    let (stem, up) = match (base.strip_suffix(".up"), base.strip_suffix(".down")) {
        (Some(stem), _) => (stem, true),
        (None, Some(stem)) => (stem, false),
        (None, None) => (base, true),
    };
    if number.is_empty() || !number.bytes().all(|it| it.is_ascii_digit()) || !plain_name(name) {
        return Err(SourceProblem::Name(Format::Sqlx));
    }
    let number: i64 = number.parse().or(Err(SourceProblem::Version))?;
    Ok(Some((Version::number(number.unsigned_abs()), stem, up)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runner::source::gather::posted;
    use proptest::prelude::*;

    #[test]
    fn simple_files_and_pairs_are_read() {
        let set = collect(&[
            posted("1_users.sql", "create table users ();"),
            posted("20240102_index.up.sql", "-- no-transaction\nselect 1;"),
            posted("20240102_index.down.sql", "\n-- no-transaction\nselect -1;"),
            posted("notes.sql", "passed over: no underscore"),
            posted("old/1_a.sql", "passed over: a directory"),
            posted("README.md", ""),
        ])
        .unwrap();
        assert_eq!(set.len(), 2);
        let index = set.get(&Version::number(20_240_102)).unwrap();
        assert_eq!(index.name, "20240102_index");
        assert!(index.up.no_transaction);
        // Only as the very first bytes.
        assert!(!index.down.as_ref().unwrap().no_transaction);
        assert!(index.up.tool_checksum.is_some());
    }

    #[test]
    fn what_is_no_number_is_an_error() {
        let table = [
            ("a_b.sql", "is no migration file"),
            ("-1_b.sql", "is no migration file"),
            ("9223372036854775808_b.sql", "does not fit in 64 bits"),
        ];
        for (name, text) in table {
            let errors = collect(&[posted(name, "select 1")]).unwrap_err();
            assert!(errors[0].to_string().contains(text), "{}", errors[0]);
        }
        let twice = collect(&[
            posted("1_a.sql", "select 1"),
            posted("1_b.up.sql", "select 1"),
        ]);
        assert_eq!(
            twice.unwrap_err()[0].to_string(),
            "1_b.up.sql: has the same version as 1_a.sql"
        );
    }

    proptest! {
        #[test]
        fn numbers_are_read_whatever_their_zeros(number in 0..=i64::MAX, zeros in 0_usize..4, name in "[a-z_.]{1,10}") {
            let file = format!("{}{number}_{name}.sql", "0".repeat(zeros));
            prop_assume!(!name.ends_with(".down"));
            let set = collect(&[posted(&file, "select 1")]).unwrap();
            prop_assert!(set.get(&Version::number(number.unsigned_abs())).is_some());
        }
    }
}
