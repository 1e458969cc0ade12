//! Whose grants a statement changes: read from the words of `GRANT` and `REVOKE`, also of those in the
//! body of a `DO`.

use squawk_lexer::{TokenKind, tokenize};

use super::Name;
use super::guard::{body, is_nothing};

/// What a GRANT or REVOKE is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Granted {
    /// These relations, functions, schemas or whatever it be.
    Named(Vec<Name>),
    /// Everything of a kind in these schemas.
    InSchemas(Vec<String>),
}

/// A word, a quoted name, or a sign.
struct Word<'a> {
    text: &'a str,
    lower: String,
    is_name: bool,
}

/// Everything whose grants a statement changes. Roles that are granted to roles are not told.
pub fn granted(sql: &str) -> Vec<Granted> {
    let mut found = Vec::new();
    let words = words(sql);
    if words.first().is_some_and(|it| it.lower == "do") {
        for inner in bodies(sql) {
            let inside = self::words(inner);
            let begins = |at: usize| match at.checked_sub(1).and_then(|it| inside.get(it)) {
                None => true,
                Some(before) => {
                    before.text == ";"
                        || ["begin", "then", "else", "loop"].contains(&before.lower.as_str())
                }
            };
            for at in (0..inside.len()).filter(|at| begins(*at)) {
                found.extend(one(&inside[at..]));
            }
        }
    }
    found.extend(one(&words));
    found
}

/// `GRANT … ON what TO …`, up to its end.
fn one(words: &[Word<'_>]) -> Option<Granted> {
    if !words
        .first()
        .is_some_and(|it| it.lower == "grant" || it.lower == "revoke")
    {
        return None;
    }
    let mut depth = 0_usize;
    let mut names: Option<Vec<Vec<&str>>> = None;
    let mut rest = words.iter().enumerate().skip(1);
    while let Some((at, word)) = rest.next() {
        match (word.text, &mut names) {
            ("(" | "[", _) => depth += 1,
            (")" | "]", _) => depth = depth.saturating_sub(1),
            (";", _) => break,
            _ if depth > 0 => {}
            (_, None) if word.lower == "on" => {
                let skipped = kind_words(&words[at + 1..]);
                if skipped > 0 {
                    rest.nth(skipped - 1);
                }
                names = Some(vec![Vec::new()]);
            }
            // Roles to roles.
            (_, None) if word.lower == "to" || word.lower == "from" => return None,
            (_, Some(_)) if word.lower == "to" || word.lower == "from" => break,
            (",", Some(names)) => names.push(Vec::new()),
            (text, Some(names)) => {
                if let Some(last) = names.last_mut() {
                    last.push(text);
                }
            }
            (_, None) => {}
        }
    }
    let names: Vec<Name> = names?
        .iter()
        .filter_map(|it| Name::parse(&it.concat()))
        .collect();
    let whole = words
        .windows(2)
        .any(|it| it[0].lower == "in" && it[1].lower == "schema");
    Some(match whole {
        true => Granted::InSchemas(names.into_iter().map(|it| it.name).collect()),
        false => Granted::Named(names),
    })
}

/// How many words say of what kind the names are.
fn kind_words(words: &[Word<'_>]) -> usize {
    let kinds = [
        "table",
        "sequence",
        "function",
        "procedure",
        "routine",
        "schema",
        "type",
        "domain",
        "database",
        "language",
        "tablespace",
        "parameter",
    ];
    let word = |at: usize| words.get(at).map_or("", |it| it.lower.as_str());
    match word(0) {
        // ALL TABLES IN SCHEMA
        "all" if word(2) == "in" => 4,
        "large" => 2,
        "foreign" if word(1) == "data" => 3,
        "foreign" => 2,
        // These are names as well.
        kind if kinds.contains(&kind)
            && words.get(1).is_some_and(|it| it.is_name)
            && word(1) != "to"
            && word(1) != "from" =>
        {
            1
        }
        _ => 0,
    }
}

fn words(sql: &str) -> Vec<Word<'_>> {
    let mut words = Vec::new();
    let mut offset = 0;
    for token in tokenize(sql) {
        let text = &sql[offset..offset + token.len as usize];
        offset += token.len as usize;
        if !is_nothing(token.kind) {
            words.push(Word {
                text,
                lower: text.to_lowercase(),
                is_name: matches!(token.kind, TokenKind::Ident | TokenKind::QuotedIdent { .. }),
            });
        }
    }
    words
}

fn bodies(sql: &str) -> Vec<&str> {
    let mut bodies = Vec::new();
    let mut offset = 0;
    for token in tokenize(sql) {
        let text = &sql[offset..offset + token.len as usize];
        offset += token.len as usize;
        bodies.extend(body(token.kind, text));
    }
    bodies
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(sql: &str) -> String {
        let all = granted(sql).into_iter().map(|it| match it {
            Granted::Named(names) => {
                let names: Vec<_> = names.iter().map(ToString::to_string).collect();
                names.join(" ")
            }
            Granted::InSchemas(schemas) => format!("in {}", schemas.join(" ")),
        });
        all.collect::<Vec<_>>().join("; ")
    }

    #[test]
    fn what_is_granted_is_told() {
        let cases = [
            ("grant select on t to app", "t"),
            (
                "GRANT SELECT (a, b), UPDATE (c) ON TABLE s.t, \"Deals\" TO app WITH GRANT OPTION",
                "s.t \"Deals\"",
            ),
            (
                "revoke all on function f(int, s.t), g() from public cascade",
                "f g",
            ),
            ("grant usage on schema s to app", "s"),
            ("grant select on schema to app", "schema"),
            (
                "grant select on all tables in schema s, \"T\" to app",
                "in s T",
            ),
            ("revoke grant option for select on t from app", "t"),
            ("grant app to report", ""),
            ("create table t (a int)", ""),
            (
                "do $$ begin if true then grant select on t to app; end if; revoke all on u from app; end $$",
                "t; u",
            ),
            ("do $$ begin perform 'grant select on t to app'; end $$", ""),
        ];
        for (sql, expected) in cases {
            assert_eq!(named(sql), expected, "{sql}");
        }
    }
}
