//! The list of statements, and what holds for any text.

mod any_text;

use super::*;

const STATEMENTS: &str = include_str!("statements.txt");

/// The shape that a line of the list names.
fn named(name: &str) -> Shape<'_> {
    match name {
        "empty" => Shape::Empty,
        "read" => Shape::Reads,
        "begin" => Shape::Begins(Access::Default),
        "begin-ro" => Shape::Begins(Access::ReadOnly),
        "begin-rw" => Shape::Begins(Access::ReadWrite),
        "savepoint" => Shape::Defers(Tag::Savepoint),
        "set" => Shape::Defers(Tag::Set),
        "constraints" => Shape::Defers(Tag::SetConstraints),
        "commit" => Shape::Ends(Ends::Commit),
        "rollback" => Shape::Ends(Ends::Rollback),
        "resets" => Shape::ResetsAll,
        "prepares" => Shape::Prepares,
        "write" => Shape::Writes(Why::Write),
        "ddl" => Shape::Writes(Why::Ddl),
        "escape" => Shape::Writes(Why::Escape),
        "unknown" => Shape::Writes(Why::Unknown),
        other => Shape::Executes(
            other
                .strip_prefix("execute ")
                .expect("a name of a shape")
                .as_bytes(),
        ),
    }
}

/// The list: names of shapes and texts.
fn statements() -> impl Iterator<Item = (&'static str, String)> {
    STATEMENTS
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| {
            let (name, text) = line.split_once('\t').expect("a name, a tab, a text");
            (name, unescaped(text))
        })
}

fn unescaped(text: &str) -> String {
    let mut plain = String::new();
    let mut rest = text.chars();
    while let Some(char) = rest.next() {
        plain.push(match (char, rest.clone().next()) {
            ('\\', Some('n')) => '\n',
            ('\\', Some('t')) => '\t',
            ('\\', Some('\\')) => '\\',
            (char, _) => {
                plain.push(char);
                continue;
            }
        });
        rest.next();
    }
    plain
}

#[test]
fn every_statement_of_the_list_is_what_it_is() {
    let mut wrong = Vec::new();
    let mut count = 0;
    for (name, text) in statements() {
        count += 1;
        let is = shape(text.as_bytes());
        if is != named(name) {
            wrong.push(format!("{text}\n    is {is:?}, and should be {name}"));
        }
    }
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
    assert!(count >= 400, "{count} statements");
}

#[test]
fn a_single_read_reads_alone() {
    for text in [
        "select 1",
        "; table t;",
        "copy t to stdout",
        "show all",
        "fetch c",
    ] {
        assert!(reads_alone(text.as_bytes()), "{text}");
    }
    for text in [
        "",
        "select 1; select 2",
        "begin",
        "commit and chain",
        "savepoint a",
        "execute p",
        "insert into t values (1)",
        "select 'cut off",
    ] {
        assert!(!reads_alone(text.as_bytes()), "{text}");
    }
}

/// In another client encoding than UTF-8.
#[test]
fn a_backslash_that_may_be_half_a_character_is_unclear() {
    let text = b"select E'\x95\\'; delete from t; --'";
    assert_eq!(shape(text), Shape::Writes(Why::Unknown));
}

#[test]
fn tags_are_those_of_the_server() {
    assert_eq!(Tag::Savepoint.text(), "SAVEPOINT");
    assert_eq!(Tag::Set.text(), "SET");
    assert_eq!(Tag::SetConstraints.text(), "SET CONSTRAINTS");
}
