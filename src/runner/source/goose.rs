//! Files in goose's manner: `NUMBER_name.sql`, with `-- +goose Up` and `-- +goose Down` inside.
//!
//! The rules are those of its `internal/sqlparser/parser.go`: an annotation is a line that begins with
//! `--` and holds `+goose`. `StatementBegin` and `StatementEnd` only tell goose where a statement ends;
//! they are checked to be paired, and the text between them is cut as any other is. `ENVSUB` would
//! put the proxy's environment into SQL, and is refused.

use super::gather::{Gathering, plain_name};
use super::sections::Lines;
use super::{Format, MigrationSet, PostedFile, SourceError, SourceProblem, SqlFile, Version};

/// Makes a set of migrations from posted files.
///
/// # Errors
/// Every fault found, not only the first.
pub fn collect(files: &[PostedFile]) -> Result<MigrationSet, Vec<SourceError>> {
    let mut gathering = Gathering::new(Format::Goose);
    for file in files {
        gathering.take(file, |gathering| {
            let Some((version, stem)) = parse_name(&file.name)? else {
                return Ok(());
            };
            gathering.check(file)?;
            let (up, down) = cut(file)?;
            gathering.add(true, version.clone(), stem, up)?;
            match down {
                Some(down) => gathering.add(false, version, stem, down),
                None => Ok(()),
            }
        });
    }
    gathering.finish()
}

/// A number from 1, an underscore, anything.
fn parse_name(name: &str) -> Result<Option<(Version, &str)>, SourceProblem> {
    const WRONG: SourceProblem = SourceProblem::Name(Format::Goose);
    let Some(stem) = name.strip_suffix(".sql").filter(|it| !it.contains('/')) else {
        return Ok(None);
    };
    let (digits, _) = stem.split_once('_').ok_or(WRONG)?;
    if digits.is_empty() || !digits.bytes().all(|it| it.is_ascii_digit()) || !plain_name(name) {
        return Err(WRONG);
    }
    match digits.parse::<i64>() {
        Ok(0) => Err(SourceProblem::Rule(
            "has version 0: goose counts from 1".to_owned(),
        )),
        Ok(number) => Ok(Some((Version::number(number.unsigned_abs()), stem))),
        Err(_) => Err(SourceProblem::Version),
    }
}

/// The text of an annotation, without `--` and `+goose`.
pub(super) fn annotation(line: &str) -> Option<String> {
    if !line.trim_start().starts_with("--") || !line.contains("+goose") {
        return None;
    }
    let text = line.replace("--", "").replacen("+goose", "", 1);
    Some(text.trim().to_ascii_lowercase())
}

/// Where the annotations of a file stand.
#[derive(Default)]
struct Annotations {
    up: Option<usize>,
    down: Option<usize>,
    no_transaction: bool,
    /// A `StatementBegin` that waits for its end.
    open: Option<usize>,
}

impl Annotations {
    fn note(&mut self, number: usize, word: &str) -> Result<(), String> {
        if let Some(begun) = self.open.filter(|_| word != "statementend") {
            return Err(format!(
                "an annotation inside a statement that begins in line {}",
                begun + 1
            ));
        }
        match word {
            "up" if self.up.is_some() => Err("`-- +goose Up` for the second time".to_owned()),
            "up" => {
                self.up = Some(number);
                Ok(())
            }
            "down" if self.up.is_none() => {
                Err("`-- +goose Down` without `-- +goose Up` before it".to_owned())
            }
            "down" if self.down.is_some() => Err("`-- +goose Down` for the second time".to_owned()),
            "down" => {
                self.down = Some(number);
                Ok(())
            }
            "statementbegin" if self.up.is_none() => {
                Err("`-- +goose StatementBegin` before `-- +goose Up`".to_owned())
            }
            "statementbegin" => {
                self.open = Some(number);
                Ok(())
            }
            "statementend" => match self.open.take() {
                Some(_) => Ok(()),
                None => Err("`-- +goose StatementEnd` without its begin".to_owned()),
            },
            "no transaction" => {
                self.no_transaction = true;
                Ok(())
            }
            "envsub on" | "envsub off" => Err(
                "ENVSUB is not done here: it would put the environment of pgdrain into SQL; write \
                 the values into the file, or run goose in a window"
                    .to_owned(),
            ),
            other => Err(format!(
                "{other:?} is no annotation of goose: it has Up, Down, StatementBegin, \
                 StatementEnd, NO TRANSACTION"
            )),
        }
    }
}

fn cut(file: &PostedFile) -> Result<(SqlFile, Option<SqlFile>), SourceProblem> {
    let lines = Lines::of(&file.sql);
    let mut found = Annotations::default();
    for (number, line) in lines.iter() {
        if let Some(word) = annotation(line) {
            if line.starts_with([' ', '\t']) {
                let text = "an annotation of goose begins its line";
                return Err(SourceProblem::at(number + 1, text));
            }
            found
                .note(number, &word)
                .map_err(|text| SourceProblem::at(number + 1, text))?;
        } else if found.up.is_none() && !is_comment(line) {
            let text = "only comments may stand before `-- +goose Up`";
            return Err(SourceProblem::at(number + 1, text));
        }
    }
    if let Some(begun) = found.open {
        let text = "`-- +goose StatementBegin` without its end";
        return Err(SourceProblem::at(begun + 1, text));
    }
    let Some(up) = found.up else {
        return Err(SourceProblem::Rule("has no line `-- +goose Up`".to_owned()));
    };
    let end = lines.len();
    let part = |own| SqlFile {
        no_transaction: found.no_transaction,
        ..lines.part(&file.name, up, own)
    };
    let down = found.down.map(|down| part(down..end));
    // goose takes a way back without statements for one that does nothing; here it is none.
    let down = down.filter(|it| it.sql.lines().any(|line| !is_comment(line)));
    Ok((part(up..found.down.unwrap_or(end)), down))
}

fn is_comment(line: &str) -> bool {
    line.trim().is_empty() || line.trim_start().starts_with("--")
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
    fn annotations_part_the_file() {
        let sql = "-- +goose NO TRANSACTION\n-- +goose up\n-- +goose StatementBegin\nselect 1;\n\
                   -- +goose StatementEnd\n-- +goose Down\nselect -1;\n";
        let only_up = "-- +goose Up\nselect 2;\n-- +goose Down\n-- nothing leads back\n";
        let set = collect(&[posted("00010_a.sql", sql), posted("2_b.sql", only_up)]).unwrap();
        let both = set.get(&Version::number(10)).unwrap();
        let down = both.down.as_ref().unwrap();
        assert!(both.up.no_transaction && down.no_transaction);
        assert!(!both.up.sql.contains("select -1") && both.up.sql.contains("select 1;"));
        assert_eq!(down.sql.lines().nth(6), Some("select -1;"));
        assert!(set.get(&Version::number(2)).unwrap().down.is_none());
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        let table = [
            ("-- nothing", "has no line `-- +goose Up`"),
            (
                "select 1;\n-- +goose Up",
                "line 1: only comments may stand before `-- +goose Up`",
            ),
            (
                "-- +goose Down\n",
                "line 1: `-- +goose Down` without `-- +goose Up` before it",
            ),
            (
                "-- +goose Up\n-- +goose Up",
                "line 2: `-- +goose Up` for the second time",
            ),
            (
                "-- +goose Up\n -- +goose Down",
                "line 2: an annotation of goose begins its line",
            ),
            (
                "-- +goose Up\n-- +goose StatementBegin\nselect 1;",
                "line 2: `-- +goose StatementBegin` without its end",
            ),
            (
                "-- +goose Up\n-- +goose StatementEnd",
                "line 2: `-- +goose StatementEnd` without its begin",
            ),
            (
                "-- +goose Up\n-- +goose StatementBegin\n-- +goose Down",
                "line 3: an annotation inside a statement that begins in line 2",
            ),
        ];
        for (sql, text) in table {
            assert_eq!(fault(sql), format!("1_a.sql: {text}"));
        }
        assert!(fault("-- +goose Up\n-- +goose ENVSUB ON").contains("line 2: ENVSUB is not done"));
        assert!(fault("-- +goose Up\n-- +goose Upp").contains("\"upp\" is no annotation of goose"));
        let zero = collect(&[posted("0_a.sql", "-- +goose Up")]).unwrap_err();
        assert_eq!(
            zero[0].to_string(),
            "0_a.sql: has version 0: goose counts from 1"
        );
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(lines in prop::collection::vec(
            prop_oneof!["-- \\+goose (Up|Down|StatementBegin|StatementEnd|NO TRANSACTION)", "[a-z; ]{0,8}"], 0..10,
        )) {
            let text = lines.join("\n");
            match collect(&[posted("1_a.sql", &text)]) {
                Ok(set) => {
                    let up = &set.iter().next().unwrap().up;
                    prop_assert!(up.sql.contains("-- +goose Up"));
                    prop_assert!(!up.sql.contains("-- +goose Down"));
                }
                Err(errors) => prop_assert_eq!(errors.len(), 1),
            }
        }
    }
}
