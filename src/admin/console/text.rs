//! From the text of a query to statements made of words.
//!
//! The lexical rules are those of SQL (Postgres documentation section 4.1): blanks and comments part
//! words, `'...'` is a text and `"..."` a name, both with doubled quotes inside. A bare word is anything
//! else up to a blank, so that `10.0.0.0/8`, `50%` and `*` need no quotes. Names keep their case.

use super::complaint::Complaint;

/// One word of a statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Word {
    /// As it stands there: a keyword, a name, a number.
    Bare(String),
    /// In double quotes: a name and never a keyword.
    Name(String),
    /// In single quotes.
    Text(String),
    /// `=`
    Equals,
    /// `,`, `(` or `)`
    Mark(char),
}

impl Word {
    /// Whether it is this keyword.
    pub(super) fn is(&self, keyword: &str) -> bool {
        matches!(self, Word::Bare(word) if word.eq_ignore_ascii_case(keyword))
    }

    /// The text of whatever may stand for a name or a value.
    pub(super) fn value(&self) -> Option<&str> {
        match self {
            Word::Bare(text) | Word::Name(text) | Word::Text(text) => Some(text),
            Word::Equals | Word::Mark(_) => None,
        }
    }

    /// As a message quotes it.
    pub(super) fn shown(&self) -> String {
        match self {
            Word::Bare(text) | Word::Name(text) | Word::Text(text) => text.clone(),
            Word::Equals => "=".to_owned(),
            Word::Mark(mark) => mark.to_string(),
        }
    }
}

/// The statements of a text, each with at least one word.
///
/// # Errors
/// A quote or a comment that does not end.
pub(super) fn statements(text: &str) -> Result<Vec<Vec<Word>>, Complaint> {
    let mut statements = vec![Vec::new()];
    let mut rest = text;
    loop {
        rest = rest.trim_start();
        let Some(first) = rest.chars().next() else {
            statements.retain(|words| !words.is_empty());
            return Ok(statements);
        };
        let behind = &rest[first.len_utf8()..];
        let mut put = |word| {
            if let Some(words) = statements.last_mut() {
                words.push(word);
            }
        };
        rest = match first {
            ';' => {
                statements.push(Vec::new());
                behind
            }
            '=' => {
                put(Word::Equals);
                behind
            }
            ',' | '(' | ')' => {
                put(Word::Mark(first));
                behind
            }
            '\'' => {
                let (text, behind) =
                    quoted(behind, '\'').ok_or_else(|| unended("quoted string"))?;
                put(Word::Text(text));
                behind
            }
            '"' => {
                let (name, behind) =
                    quoted(behind, '"').ok_or_else(|| unended("quoted identifier"))?;
                put(Word::Name(name));
                behind
            }
            _ if rest.starts_with("--") => rest.split_once('\n').map_or("", |(_, next)| next),
            _ if rest.starts_with("/*") => comment(rest).ok_or_else(|| unended("/* comment"))?,
            _ => {
                let (word, behind) = rest.split_at(bare(rest));
                put(Word::Bare(word.to_owned()));
                behind
            }
        };
    }
}

fn unended(what: &str) -> Complaint {
    Complaint::syntax(format!("unterminated {what}"))
}

/// Takes a quoted text whose first quote was read.
fn quoted(text: &str, quote: char) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut rest = text;
    loop {
        let (part, behind) = rest.split_once(quote)?;
        value.push_str(part);
        match behind.strip_prefix(quote) {
            Some(more) => {
                value.push(quote);
                rest = more;
            }
            None => return Some((value, behind)),
        }
    }
}

/// What is behind a comment; comments may hold comments.
fn comment(text: &str) -> Option<&str> {
    let mut depth = 0_usize;
    let mut rest = text;
    loop {
        if let Some(inside) = rest.strip_prefix("/*") {
            (depth, rest) = (depth + 1, inside);
        } else if let Some(behind) = rest.strip_prefix("*/") {
            (depth, rest) = (depth - 1, behind);
            if depth == 0 {
                return Some(rest);
            }
        } else {
            let mut chars = rest.chars();
            chars.next()?;
            rest = chars.as_str();
        }
    }
}

/// How long the bare word at the front is.
fn bare(text: &str) -> usize {
    let ends = |(at, c): &(usize, char)| {
        c.is_whitespace()
            || matches!(c, ';' | '\'' | '"' | '=' | ',' | '(' | ')')
            || text[*at..].starts_with("--")
            || text[*at..].starts_with("/*")
    };
    text.char_indices()
        .find(ends)
        .map_or(text.len(), |(at, _)| at)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shown(text: &str) -> Vec<Vec<String>> {
        let statements = statements(text).expect("well formed");
        let shown = |words: &Vec<Word>| words.iter().map(Word::shown).collect();
        statements.iter().map(shown).collect()
    }

    #[test]
    fn words_are_parted_by_blanks_marks_and_comments() {
        let cases: [(&str, &[&[&str]]); 8] = [
            ("", &[]),
            (" ;; -- ping", &[]),
            ("SHOW pools", &[&["SHOW", "pools"]]),
            ("a;b ;\n c", &[&["a"], &["b"], &["c"]]),
            (
                "cap shop 50% for=5m",
                &[&["cap", "shop", "50%", "for", "=", "5m"]],
            ),
            ("a/* x /* y */ ; */b--c\nd", &[&["a", "b", "d"]]),
            ("'it''s; --' \"a\"\"b;\"", &[&["it's; --", "a\"b;"]]),
            (
                "client 10.0.0.0/8, *",
                &[&["client", "10.0.0.0/8", ",", "*"]],
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(shown(text), expected, "{text}");
        }
    }

    #[test]
    fn a_name_in_quotes_is_no_keyword() {
        let words = statements("\"SHOW\" Show 'SHOW'")
            .expect("well formed")
            .remove(0);
        let are: Vec<_> = words.iter().map(|word| word.is("SHOW")).collect();
        assert_eq!(are, [false, true, false]);
    }

    #[test]
    fn what_does_not_end_is_told() {
        for text in ["pause 'x", "pause \"x", "pause /* x", "'a''", "/* /* */"] {
            let complaint = statements(text).expect_err(text);
            assert_eq!(complaint.sqlstate, "42601");
            assert!(complaint.message.starts_with("unterminated"));
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in ".*", marks in "[-/*'\";=a \n]{0,24}") {
            let _ = (statements(&text), statements(&marks));
        }

        #[test]
        fn quoting_keeps_any_name(name in "[^\0]{0,12}") {
            let quoted = format!("pause \"{}\"", name.replace('"', "\"\""));
            let words = statements(&quoted).expect("well formed").remove(0);
            prop_assert_eq!(&words[1], &Word::Name(name));
        }
    }
}
