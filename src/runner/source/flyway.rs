//! Files in Flyway's manner: `V1_2__name.sql`, `U1_2__name.sql` to go back, `R__name.sql` to run again
//! whenever it changes; at any depth, with a `.sql.conf` beside a file if it needs one.
//!
//! Its other kinds (`B` baselines, callbacks, Java) are refused by name. A placeholder `${name}` is
//! refused too: Flyway would put a value there that is not in the file.

use std::collections::BTreeMap;

use super::gather::{Gathering, arrived_whole, base_name, plain_name};
use super::{
    Format, MigrationSet, PostedFile, SourceError, SourceProblem, SqlFile, ToolChecksum, Version,
};

/// Makes a set of migrations from posted files.
///
/// # Errors
/// Every fault found, not only the first.
pub fn collect(files: &[PostedFile]) -> Result<MigrationSet, Vec<SourceError>> {
    let mut gathering = Gathering::new(Format::Flyway);
    let mut settings = BTreeMap::new();
    for file in files {
        if let Some(name) = file.name.strip_suffix(".conf") {
            gathering.take(file, |_| {
                arrived_whole(file)?;
                settings.insert(name, Settings::read(&file.sql)?);
                Ok(())
            });
        }
    }
    for file in files {
        gathering.take(file, |gathering| {
            let Some((kind, version, stem)) = parse_name(&file.name)? else {
                return Ok(());
            };
            gathering.check(file)?;
            let settings = settings.remove(file.name.as_str()).unwrap_or_default();
            if !settings.placeholders_stay {
                no_placeholder(&file.sql)?;
            }
            let sql = SqlFile {
                tool_checksum: Some(ToolChecksum::flyway(&file.sql)),
                no_transaction: settings.no_transaction,
                ..SqlFile::new(&file.name, &file.sql)
            };
            gathering.add(kind != Kind::Undo, version, stem, sql)
        });
    }
    for name in settings.into_keys() {
        let text = "belongs to no migration".to_owned();
        gathering.fail(&format!("{name}.conf"), SourceProblem::Rule(text));
    }
    gathering.finish()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Versioned,
    Undo,
    Repeatable,
}

/// Kind, version and name of a file; `None` for one that is none of ours.
fn parse_name(name: &str) -> Result<Option<(Kind, Version, &str)>, SourceProblem> {
    const WRONG: SourceProblem = SourceProblem::Name(Format::Flyway);
    let (base, nested) = base_name(name);
    let Some(stem) = base.strip_suffix(".sql") else {
        return Ok(None);
    };
    if !is_flyway(base) {
        return if nested { Ok(None) } else { Err(WRONG) };
    }
    let (head, description) = stem.split_once("__").ok_or(WRONG)?;
    if description.is_empty() || !plain_name(name) {
        return Err(WRONG);
    }
    let numbered = |version: &str| {
        let digits = version
            .bytes()
            .all(|it| it.is_ascii_digit() || it == b'.' || it == b'_');
        match Version::dotted(version) {
            Ok(version) => Ok(version),
            Err(_) if digits && !version.is_empty() => Err(SourceProblem::Version),
            Err(_) => Err(WRONG),
        }
    };
    let found = match head.split_at(1) {
        ("V", version) => (Kind::Versioned, numbered(version)?),
        ("U", version) => (Kind::Undo, numbered(version)?),
        ("R", "") => (Kind::Repeatable, Version::repeatable(description)),
        ("B", _) => {
            let text = "is a baseline, which only Flyway can apply";
            return Err(SourceProblem::Rule(text.to_owned()));
        }
        _ => return Err(WRONG),
    };
    Ok(Some((found.0, found.1, stem)))
}

/// Whether a file's name is one of Flyway's: a letter, a version or none, two underscores.
pub(super) fn is_flyway(base: &str) -> bool {
    let Some((head, _)) = base.strip_suffix(".sql").and_then(|it| it.split_once("__")) else {
        return false;
    };
    match head.split_at_checked(1) {
        Some(("V" | "U" | "B", version)) => version.starts_with(|it: char| it.is_ascii_digit()),
        Some(("R", rest)) => rest.is_empty(),
        _ => false,
    }
}

/// What a `.sql.conf` says.
#[derive(Default)]
struct Settings {
    no_transaction: bool,
    placeholders_stay: bool,
}

impl Settings {
    fn read(text: &str) -> Result<Self, SourceProblem> {
        let mut settings = Self::default();
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let pair = line
                .split_once('=')
                .map(|(key, value)| (key.trim(), value.trim()));
            match pair {
                Some(("executeInTransaction", "false")) => settings.no_transaction = true,
                Some(("executeInTransaction", "true")) => settings.no_transaction = false,
                Some(("placeholderReplacement", "false")) => settings.placeholders_stay = true,
                Some(("placeholderReplacement", "true")) => settings.placeholders_stay = false,
                Some(("encoding", "UTF-8" | "utf-8")) => {}
                _ => {
                    let text = "only executeInTransaction and placeholderReplacement (true or \
                                false) and encoding=UTF-8 are understood";
                    return Err(SourceProblem::at(number + 1, text));
                }
            }
        }
        Ok(settings)
    }
}

fn no_placeholder(text: &str) -> Result<(), SourceProblem> {
    for (number, line) in text.lines().enumerate() {
        let placeholder = line.find("${").and_then(|start| {
            let end = line[start..].find('}')?;
            Some(&line[start..=start + end])
        });
        if let Some(placeholder) = placeholder {
            let text = format!(
                "{placeholder} is a placeholder, whose value only Flyway knows: write it out, or \
                 set placeholderReplacement=false in the file's .sql.conf if it is SQL"
            );
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
    fn versions_go_back_by_u_and_repeatables_come_last() {
        let set = collect(&[
            posted("R__views.sql", "create view v as select 1"),
            posted("V1.10__c.sql", "select 3"),
            posted("V1_9__b.sql", "select 2"),
            posted("sub/V1__a.sql", "select 1"),
            posted("sub/notes.sql", "passed over"),
            posted("U1_9__b.sql", "select -2"),
            posted("V1.10__c.sql.conf", "# why\nexecuteInTransaction=false\n"),
        ])
        .unwrap();
        let found: Vec<_> = set
            .iter()
            .map(|it| (it.version.to_string(), it.name.as_str(), it.down.is_some()))
            .collect();
        assert_eq!(
            found,
            [
                ("1".to_owned(), "V1__a", false),
                ("1.9".to_owned(), "V1_9__b", true),
                ("1.10".to_owned(), "V1.10__c", false),
                ("R__views".to_owned(), "R__views", false),
            ]
        );
        let alone: Vec<_> = set.iter().map(|it| it.up.no_transaction).collect();
        assert_eq!(alone, [false, false, true, false]);
    }

    #[test]
    fn what_flyway_alone_could_do_is_refused() {
        let table = [
            ("V1_a.sql", "select 1", "is no migration file"),
            ("V1.x__a.sql", "select 1", "is no migration file"),
            (
                "V99999999999999999999__a.sql",
                "select 1",
                "does not fit in 64 bits",
            ),
            ("V1__.sql", "select 1", "is no migration file"),
            ("B2__base.sql", "select 1", "is a baseline"),
            ("afterMigrate.sql", "select 1", "is no migration file"),
            (
                "V1__a.sql",
                "select 1,\n '${schema}'",
                "line 2: ${schema} is a placeholder",
            ),
            (
                "V2__a.sql.conf",
                "executeInTransaction=false",
                "belongs to no migration",
            ),
            (
                "V2__a.sql.conf",
                "\nshouldExecute=x",
                "line 2: only executeInTransaction",
            ),
        ];
        for (name, sql, text) in table {
            let errors = collect(&[posted(name, sql)]).expect_err(name);
            assert!(errors[0].to_string().contains(text), "{}", errors[0]);
        }
        let dollar = [
            posted("V1__a.sql", "select $${a}$$"),
            posted("V1__a.sql.conf", "placeholderReplacement=false"),
        ];
        assert!(collect(&dollar).is_ok());
    }

    proptest! {
        #[test]
        fn versions_are_compared_by_their_numbers(a in prop::collection::vec(0_u64..20, 1..4), b in prop::collection::vec(0_u64..20, 1..4)) {
            let name = |parts: &[u64], separator: &str| {
                let parts: Vec<_> = parts.iter().map(ToString::to_string).collect();
                format!("V{}__x.sql", parts.join(separator))
            };
            let read = |name: &str| parse_name(name).unwrap().unwrap().1;
            let (first, second) = (read(&name(&a, "_")), read(&name(&b, ".")));
            let padded = |parts: &[u64]| {
                let mut parts = parts.to_vec();
                parts.resize(4, 0);
                parts
            };
            prop_assert_eq!(first.cmp(&second), padded(&a).cmp(&padded(&b)));
        }
    }
}
