//! Files in dbmate's manner: `NUMBER_name.sql`, with `-- migrate:up` and `-- migrate:down` inside.
//!
//! The rules are those of its `pkg/dbmate/migration.go`: a marker stands at the start of a line, both
//! are there, up before down, and only comments before up. Behind a marker stand options, of which
//! there is one, `transaction:false`.

use super::gather::{Gathering, plain_name};
use super::sections::Lines;
use super::{Format, MigrationSet, PostedFile, SourceError, SourceProblem, SqlFile, Version};

/// Makes a set of migrations from posted files.
///
/// # Errors
/// Every fault found, not only the first.
pub fn collect(files: &[PostedFile]) -> Result<MigrationSet, Vec<SourceError>> {
    let mut gathering = Gathering::new(Format::Dbmate);
    for file in files {
        gathering.take(file, |gathering| {
            let Some((version, stem)) = parse_name(&file.name)? else {
                return Ok(());
            };
            gathering.check(file)?;
            let (up, down) = cut(file)?;
            gathering.add(true, version.clone(), stem, up)?;
            gathering.add(false, version, stem, down)
        });
    }
    gathering.finish()
}

/// `^(\d+).*\.sql$`.
fn parse_name(name: &str) -> Result<Option<(Version, &str)>, SourceProblem> {
    let Some(stem) = name.strip_suffix(".sql").filter(|it| !it.contains('/')) else {
        return Ok(None);
    };
    let digits = stem
        .find(|it: char| !it.is_ascii_digit())
        .unwrap_or(stem.len());
    if digits == 0 || !plain_name(name) {
        return Err(SourceProblem::Name(Format::Dbmate));
    }
    let version = Version::dotted(&stem[..digits]).or(Err(SourceProblem::Version))?;
    Ok(Some((version, stem)))
}

/// What stands behind `-- migrate:WORD`, if a line is such a marker.
pub(super) fn marker<'a>(line: &'a str, word: &str) -> Option<&'a str> {
    let rest = line.strip_prefix("--")?.trim_start();
    let rest = rest.strip_prefix("migrate:")?.strip_prefix(word)?;
    (rest.is_empty() || rest.starts_with(char::is_whitespace)).then_some(rest)
}

fn cut(file: &PostedFile) -> Result<(SqlFile, SqlFile), SourceProblem> {
    let lines = Lines::of(&file.sql);
    let mut up = None;
    let mut down = None;
    for (number, line) in lines.iter() {
        for (word, place) in [("up", &mut up), ("down", &mut down)] {
            let Some(options) = marker(line, word) else {
                continue;
            };
            if place
                .replace((number, no_transaction(number, options)?))
                .is_some()
            {
                let text = format!("`-- migrate:{word}` stands in this file for the second time");
                return Err(SourceProblem::at(number + 1, text));
            }
        }
    }
    let Some((up, up_alone)) = up else {
        return Err(SourceProblem::Rule(
            "has no line `-- migrate:up`".to_owned(),
        ));
    };
    let Some((down, down_alone)) = down else {
        return Err(SourceProblem::Rule(
            "has no line `-- migrate:down`".to_owned(),
        ));
    };
    if down < up {
        let text = "`-- migrate:down` stands before `-- migrate:up`";
        return Err(SourceProblem::at(down + 1, text));
    }
    let is_comment = |line: &str| line.trim().is_empty() || line.trim_start().starts_with("--");
    if let Some((number, _)) = lines.iter().take(up).find(|(_, it)| !is_comment(it)) {
        let text = "only comments may stand before `-- migrate:up`";
        return Err(SourceProblem::at(number + 1, text));
    }
    let part = |own, no_transaction| SqlFile {
        no_transaction,
        ..lines.part(&file.name, up, own)
    };
    Ok((
        part(up..down, up_alone),
        part(down..lines.len(), down_alone),
    ))
}

fn no_transaction(number: usize, options: &str) -> Result<bool, SourceProblem> {
    let mut alone = false;
    for option in options.split_whitespace() {
        alone = match option {
            "transaction:false" => true,
            "transaction:true" => false,
            _ => {
                let text = format!("{option:?} is no option of dbmate: it has transaction:false");
                return Err(SourceProblem::at(number + 1, text));
            }
        };
    }
    Ok(alone)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runner::source::gather::posted;
    use proptest::prelude::*;

    fn fault(sql: &str) -> String {
        let errors = collect(&[posted("1_a.sql", sql)]).expect_err("a fault");
        assert_eq!(errors.len(), 1);
        errors[0].to_string()
    }

    #[test]
    fn both_directions_are_in_one_file() {
        let sql = "-- about\n-- migrate:up transaction:false\ncreate table t ();\n\
                   --migrate:down\ndrop table t;\n";
        let set = collect(&[posted("20240101_t.sql", sql), posted("9.sql", sql)]).unwrap();
        let names: Vec<_> = set.iter().map(|it| it.name.as_str()).collect();
        assert_eq!(names, ["9", "20240101_t"]);
        let migration = set.get(&Version::number(9)).unwrap();
        let down = migration.down.as_ref().unwrap();
        assert_eq!(
            &*migration.up.sql,
            "-- about\n-- migrate:up transaction:false\ncreate table t ();\n"
        );
        assert_eq!(&*down.sql, "-- about\n\n\n--migrate:down\ndrop table t;\n");
        assert!(migration.up.no_transaction && !down.no_transaction);
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        let table = [
            ("select 1;", "1_a.sql: has no line `-- migrate:up`"),
            (
                "-- migrate:up\n-- migrate:downs",
                "1_a.sql: has no line `-- migrate:down`",
            ),
            (
                "-- migrate:down\n-- migrate:up\n",
                "1_a.sql: line 1: `-- migrate:down` stands before `-- migrate:up`",
            ),
            (
                "-- a\n\nselect 1;\n-- migrate:up\n-- migrate:down\n",
                "1_a.sql: line 3: only comments may stand before `-- migrate:up`",
            ),
            (
                "-- migrate:up\n-- migrate:up\n-- migrate:down",
                "1_a.sql: line 2: `-- migrate:up` stands in this file for the second time",
            ),
            (
                "-- migrate:up\n-- migrate:down transactions:false",
                "1_a.sql: line 2: \"transactions:false\" is no option of dbmate: it has \
                 transaction:false",
            ),
        ];
        for (sql, text) in table {
            assert_eq!(fault(sql), text);
        }
        let errors = collect(&[posted("a.sql", "-- migrate:up"), posted("README.md", "")]);
        assert_eq!(
            errors.unwrap_err()[0].to_string(),
            "a.sql: is no migration file: expected NUMBER_name.sql"
        );
    }

    proptest! {
        #[test]
        fn nothing_of_one_direction_reaches_the_other(
            up in prop::collection::vec("[a-z]{1,5}", 1..5), down in prop::collection::vec("[0-9]{1,5}", 1..5),
        ) {
            let sql = format!("-- migrate:up\n{}\n-- migrate:down\n{}", up.join("\n"), down.join("\n"));
            let set = collect(&[posted("1_a.sql", &sql)]).unwrap();
            let migration = set.iter().next().unwrap();
            let there: Vec<_> = migration.up.sql.lines().skip(1).collect();
            prop_assert_eq!(there, up.clone());
            let back: Vec<_> = migration.down.as_ref().unwrap().sql.lines().skip(up.len() + 2).collect();
            prop_assert_eq!(back, down);
        }
    }
}
