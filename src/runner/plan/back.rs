//! The way back from a file of which only the first statements are done: those statements of its down
//! file that drop what they made. Where that cannot be told there is no way back.

use crate::runner::script::{Script, headline};
use crate::runner::shape::{self, Act, Kind, Name};
use crate::runner::split::Statement;

/// What a statement makes, or takes away.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Thing {
    /// A table, view, sequence or index.
    Relation(Name),
    /// A column of a table.
    Column(Name, String),
    /// A constraint of a table.
    Constraint(Name, String),
}

/// What a statement of an up file leaves to be taken back.
enum Made {
    /// These, each with the table whose end is its own end too.
    Things(Vec<(Thing, Option<Name>)>),
    /// Nobody can tell.
    NotKnown,
}

/// The text of a down file with only those statements left that take back the first `done` statements
/// of an up file; the others are blanked out, so that lines stay what they are.
///
/// # Errors
/// Why it cannot be told.
pub(super) fn text(up: &Script, done: usize, down: &Script) -> Result<String, String> {
    let mut made = Vec::new();
    for (index, statement) in up.statements().iter().take(done).enumerate() {
        match made_by(up, statement) {
            Made::Things(things) => made.extend(things),
            Made::NotKnown => {
                let what = headline(up.written(statement));
                return Err(format!(
                    "nobody can tell what takes back statement {} ({what})",
                    index + 1
                ));
            }
        }
    }
    let mut kept = vec![false; down.statements().len()];
    let mut gone: Vec<Thing> = Vec::new();
    for (index, statement) in down.statements().iter().enumerate() {
        let refuse = |why: &str| {
            let what = headline(down.written(statement));
            Err(format!(
                "statement {} ({what}) of the down file {why}",
                index + 1
            ))
        };
        let Some(things) = taken_by(down, statement) else {
            return refuse("does more than to drop what the up file made");
        };
        let ours = |thing: &Thing| made.iter().any(|(it, _)| same(it, thing));
        let count = things.iter().filter(|it| ours(it)).count();
        kept[index] = count > 0 || things.is_empty();
        if count > 0 && count < things.len() {
            return refuse("drops both what is there and what is not");
        }
        if count > 0 {
            gone.extend(things);
        }
    }
    let left = made.iter().find(|(thing, table)| {
        let dropped = |it: &Thing| match (it, table) {
            (Thing::Relation(name), Some(table)) => same_name(name, table),
            _ => false,
        };
        !gone.iter().any(|it| same(it, thing) || dropped(it))
    });
    if let Some((thing, _)) = left {
        return Err(format!("the down file does not drop {}", describe(thing)));
    }
    Ok(blanked(down, &kept))
}

fn made_by(up: &Script, statement: &Statement) -> Made {
    let mut things = Vec::new();
    for act in acts(up, statement) {
        match (&act.kind, &act.on) {
            (Kind::CreateTable { .. } | Kind::CreateOther, Some(on)) => {
                things.push((Thing::Relation(on.clone()), Some(on.clone())));
            }
            (Kind::CreateView { replace: false }, Some(on)) => {
                things.push((Thing::Relation(on.clone()), None));
            }
            (
                Kind::CreateIndex {
                    name: Some(name), ..
                },
                Some(on),
            ) => {
                let index = Name::bare(name.as_str()).beside(on);
                things.push((Thing::Relation(index), Some(on.clone())));
            }
            (Kind::AddColumn(column, _), Some(on)) => {
                things.push((
                    Thing::Column(on.clone(), column.name.clone()),
                    Some(on.clone()),
                ));
            }
            (Kind::AddConstraint(constraint), Some(on)) => match &constraint.name {
                Some(name) => {
                    things.push((
                        Thing::Constraint(on.clone(), name.clone()),
                        Some(on.clone()),
                    ));
                }
                None => return Made::NotKnown,
            },
            // They leave nothing to be taken back.
            (
                Kind::Setting { .. }
                | Kind::Vacuum { .. }
                | Kind::Analyze
                | Kind::Refresh { .. }
                | Kind::Reindex { .. }
                | Kind::Cluster,
                _,
            ) => {}
            _ => return Made::NotKnown,
        }
    }
    Made::Things(things)
}

/// What a statement of a down file drops; nothing for one that only sets something. `None` if it does
/// anything else.
fn taken_by(down: &Script, statement: &Statement) -> Option<Vec<Thing>> {
    let mut things = Vec::new();
    for act in acts(down, statement) {
        match (&act.kind, &act.on) {
            (Kind::Setting { .. }, _) => {}
            (Kind::Drop(dropped), _) if dropped.what.is_relation() && !dropped.cascade => {
                things.push(Thing::Relation(dropped.name.clone()));
            }
            (
                Kind::DropColumn {
                    column,
                    cascade: false,
                },
                Some(on),
            ) => {
                things.push(Thing::Column(on.clone(), column.clone()));
            }
            (
                Kind::DropConstraint {
                    constraint,
                    cascade: false,
                },
                Some(on),
            ) => {
                things.push(Thing::Constraint(on.clone(), constraint.clone()));
            }
            _ => return None,
        }
    }
    Some(things)
}

fn acts(script: &Script, statement: &Statement) -> Vec<Act> {
    let sql = script.written(statement);
    match shape::is_readable(sql) {
        true => shape::read(sql),
        false => vec![Act {
            on: None,
            kind: Kind::Unknown("too deep to be read".to_owned()),
            inside: false,
            range: 0..sql.len(),
        }],
    }
}

fn same(a: &Thing, b: &Thing) -> bool {
    match (a, b) {
        (Thing::Relation(a), Thing::Relation(b)) => same_name(a, b),
        (Thing::Column(on, a), Thing::Column(of, b))
        | (Thing::Constraint(on, a), Thing::Constraint(of, b)) => same_name(on, of) && a == b,
        _ => false,
    }
}

/// A name without a schema means the one that the same file wrote with it.
fn same_name(a: &Name, b: &Name) -> bool {
    let schemas = a.schema.is_none() || b.schema.is_none() || a.schema == b.schema;
    a.name == b.name && schemas
}

fn describe(thing: &Thing) -> String {
    match thing {
        Thing::Relation(name) => name.to_string(),
        Thing::Column(on, column) => format!("column {column} of {on}"),
        Thing::Constraint(on, constraint) => format!("constraint {constraint} of {on}"),
    }
}

fn blanked(down: &Script, kept: &[bool]) -> String {
    let mut text = down.text().to_owned();
    for (statement, _) in down
        .statements()
        .iter()
        .zip(kept)
        .filter(|(_, kept)| !**kept)
    {
        let blank = |c: char| if c == '\n' { "\n" } else { " " }.repeat(c.len_utf8());
        let blanks: String = text[statement.range.clone()].chars().map(blank).collect();
        text.replace_range(statement.range.clone(), &blanks);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runner::source::SqlFile;

    fn back(up: &str, done: usize, down: &str) -> Result<Vec<String>, String> {
        let script = |text: &str| Script::of(&SqlFile::new("f", text)).expect("a script");
        let text = text(&script(up), done, &script(down))?;
        let left = script(&text);
        let sent = left
            .statements()
            .iter()
            .map(|it| left.written(it).to_owned());
        Ok(sent.collect())
    }

    const UP: &str = "create table t (a int);\nset lock_timeout = 0;\n\
                      create index concurrently t_a on t (a);\nalter table u add column b int;\n\
                      vacuum t;\nalter table u add constraint c check (b > 0);";
    const DOWN: &str = "alter table u drop constraint c;\nalter table u drop column b;\n\
                        drop index concurrently t_a;\ndrop table t;";

    #[test]
    fn only_what_was_done_is_taken_back() {
        assert_eq!(back(UP, 1, DOWN), Ok(vec!["drop table t".to_owned()]));
        let three = ["drop index concurrently t_a", "drop table t"];
        assert_eq!(back(UP, 3, DOWN).unwrap(), three);
        assert_eq!(back(UP, 6, DOWN).unwrap().len(), 4);
        // An index goes with its table.
        let short = back(
            UP,
            3,
            "drop table if exists t;\nalter table u drop column b;",
        );
        assert_eq!(short.unwrap(), ["drop table if exists t"]);
    }

    #[test]
    fn what_cannot_be_told_is_refused() {
        let text = back("update t set a = 1;\nvacuum t;", 1, "select 1;").unwrap_err();
        assert_eq!(
            text,
            "nobody can tell what takes back statement 1 (UPDATE T SET)"
        );
        let text = back(UP, 4, "drop index t_a;\ndrop table t;").unwrap_err();
        assert_eq!(text, "the down file does not drop column b of u");
        let text = back(UP, 1, "drop table t;\ndelete from u;").unwrap_err();
        assert!(text.contains("statement 2 (DELETE FROM U)"), "{text}");
        let text = back(UP, 1, "drop table t, v;").unwrap_err();
        assert!(
            text.contains("both what is there and what is not"),
            "{text}"
        );
        let text = back(UP, 1, "drop table t cascade;").unwrap_err();
        assert!(text.contains("does more"), "{text}");
    }
}
