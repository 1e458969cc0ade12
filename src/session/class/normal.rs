//! The text of a statement without what changes from one execution to the next, and a number for it: what
//! statements are counted by.

use std::sync::Arc;

use super::lexer::{Token, Tokens};

/// So much of a text is kept to show it.
const SHOWN_MAX: usize = 300;

/// A statement without its constants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Normal {
    /// The same for statements that differ in constants, blanks, comments and the case of words only.
    pub fingerprint: u64,
    /// What it reads like; no constant of the client is in it. The front of it, if it is long.
    pub text: Arc<str>,
}

impl Normal {
    /// Something that is no statement, or whose text is not known.
    #[must_use]
    pub fn named(text: &str) -> Normal {
        Normal {
            fingerprint: hash(text.as_bytes()),
            text: text.into(),
        }
    }

    /// What several statements amount to that were sent as one unit; the same ones in a row are one.
    #[must_use]
    pub fn of_unit(statements: &[Arc<Normal>]) -> Arc<Normal> {
        match statements {
            [] => Arc::new(Normal::named("(nothing executed)")),
            [one] => Arc::clone(one),
            several => {
                let texts: Vec<&str> = several.iter().map(|it| &*it.text).collect();
                let numbers = several.iter().flat_map(|it| it.fingerprint.to_be_bytes());
                let numbers: Vec<u8> = numbers.collect();
                Arc::new(Normal {
                    fingerprint: hash(&numbers),
                    text: cut(&texts.join("; ")).into(),
                })
            }
        }
    }
}

/// Reads the text of a Query or a Parse, or the front of it.
#[must_use]
pub fn normal(sql: &[u8]) -> Normal {
    let mut out = Writer::default();
    let mut tokens = Tokens::new(sql);
    while let Some(token) = tokens.next() {
        out.write(token);
    }
    let text = out.text.trim_end_matches([';', ' ']);
    Normal {
        fingerprint: hash(text.as_bytes()),
        text: cut(text).into(),
    }
}

/// The text as it is made.
#[derive(Default)]
struct Writer {
    text: String,
    /// Where the parentheses begin that are open.
    open: Vec<usize>,
    /// The last one was a sign, which another sign may go on.
    sign: bool,
    /// The last one was a constant, which a word may go on.
    constant: bool,
}

impl Writer {
    fn write(&mut self, token: Token<'_>) {
        let constant = matches!(token, Token::Text(_) | Token::Literal);
        let after_constant = std::mem::replace(&mut self.constant, constant);
        if let Token::Word(word) = token
            && after_constant
            && is_rest_of_number(word)
        {
            return;
        }
        let sign = matches!(token, Token::Sign(_));
        let tight = matches!(
            token,
            Token::Close | Token::Comma | Token::Dot | Token::Semicolon
        );
        let begun = self.text.is_empty() || self.text.ends_with(['(', '.']);
        if !(begun || tight || sign && self.sign) {
            self.text.push(' ');
        }
        self.sign = sign;
        match token {
            Token::Word(word) => {
                let word = String::from_utf8_lossy(word);
                self.text.push_str(&word.to_ascii_lowercase());
            }
            Token::Quoted(name) => {
                self.text.push('"');
                self.text.push_str(&String::from_utf8_lossy(name));
                self.text.push('"');
            }
            Token::Escaped => self.text.push_str("U&\"…\""),
            Token::Text(_) | Token::Literal => self.constant(),
            Token::Open => {
                self.open.push(self.text.len());
                self.text.push('(');
            }
            Token::Close => self.close(),
            Token::Comma => self.text.push(','),
            Token::Dot => self.text.push('.'),
            Token::Semicolon => self.text.push(';'),
            Token::Sign(sign) => self.text.push(char::from(sign)),
            // What it would have been nobody can tell, so that it is not shown.
            Token::Unclear => self.text.push('…'),
        }
    }

    /// A list of constants is the same however long it is.
    fn constant(&mut self) {
        if self.text.ends_with("?, ") {
            self.text.truncate(self.text.len() - 2);
            self.text.push_str(", …");
        } else if self.text.ends_with("…, ") {
            self.text.truncate(self.text.len() - 2);
        } else {
            self.text.push('?');
        }
    }

    /// So is a list of rows of constants.
    fn close(&mut self) {
        self.text.push(')');
        let Some(begin) = self.open.pop() else {
            return;
        };
        let row = &self.text[begin..];
        let before = self.text[..begin].strip_suffix(", ");
        if matches!(row, "(?)" | "(?, …)") && before.is_some_and(|before| before.ends_with(row)) {
            self.text.truncate(begin - 2);
        }
    }
}

/// Whether a word behind a constant may be the rest of a number: from version 16 on `0x1F`, `0o17`, `0b11`
/// and `1_000` are numbers, before they were `0` and the name of a column.
fn is_rest_of_number(word: &[u8]) -> bool {
    let digits = match word {
        [b'_', rest @ ..] | [b'x' | b'X' | b'o' | b'O' | b'b' | b'B', rest @ ..] => rest,
        _ => return false,
    };
    let digit = |it: &u8| it.is_ascii_hexdigit() || *it == b'_';
    !digits.is_empty() && digits.iter().all(digit)
}

fn cut(text: &str) -> &str {
    let mut end = text.len().min(SHOWN_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// FNV-1a: the same in every version of pgdrain, since figures are compared over restarts.
fn hash(bytes: &[u8]) -> u64 {
    let fold = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, fold)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(sql: &str) -> String {
        normal(sql.as_bytes()).text.to_string()
    }

    #[test]
    fn constants_blanks_comments_and_case_do_not_matter() {
        for (sql, expected) in [
            ("SELECT 1", "select ?"),
            ("select   'a''b' -- secret\n;", "select ?"),
            (
                "SELECT * FROM t WHERE id = $1 /* x */ AND name = E'\\'x'",
                "select * from t where id = ? and name = ?",
            ),
            (
                "insert into \"My T\" (a, b) values (1, 'x'), (2, 'y'), ($3, $4)",
                "insert into \"My T\" (a, b) values (?, …)",
            ),
            (
                "select a from public.t where x in (1,2,3) and y in (7)",
                "select a from public.t where x in (?, …) and y in (?)",
            ),
            ("insert into t values (1), (2)", "insert into t values (?)"),
            (
                "select count(*), max(a) from t",
                "select count (*), max (a) from t",
            ),
            ("select a::int <> 2", "select a :: int <> ?"),
            ("begin; select 1; commit", "begin; select ?; commit"),
            ("", ""),
            ("select 'never closed", "select …"),
            (
                "select 0x4711, 0b11, 0o17, 1_000 from t",
                "select ?, … from t",
            ),
            ("select 1 bx, 2 b", "select ? bx, ? b"),
        ] {
            assert_eq!(text(sql), expected, "{sql}");
        }
        let same = |a: &str, b: &str| {
            assert_eq!(normal(a.as_bytes()), normal(b.as_bytes()), "{a} | {b}");
        };
        same("SELECT 1", "select  2;");
        same("select $1", "select 'x'");
        same(
            "select * from t where a in (1, 2)",
            "select * from t where a in (3,4,5)",
        );
        let differ = |a: &str, b: &str| {
            let of = |sql: &str| normal(sql.as_bytes()).fingerprint;
            assert_ne!(of(a), of(b), "{a} | {b}");
        };
        differ("select a from t", "select b from t");
        differ("select a from \"T\"", "select a from t");
    }

    #[test]
    fn a_long_text_is_told_from_another_by_what_is_not_shown() {
        let long = |end: &str| format!("select {} from {end}", "é, ".repeat(400));
        let (a, b) = (normal(long("a").as_bytes()), normal(long("b").as_bytes()));
        assert_eq!(a.text, b.text);
        assert!(a.text.len() <= SHOWN_MAX);
        assert_ne!(a.fingerprint, b.fingerprint);
        // Not valid as text: shown somehow, and counted.
        assert_eq!(text("select 1"), normal(b"SELECT\x0b2").text.as_ref());
        assert!(!normal(b"select \xff\xfe").text.is_empty());
    }

    #[test]
    fn a_unit_is_what_its_statements_are_in_their_order() {
        let of = |sql: &str| Arc::new(normal(sql.as_bytes()));
        let (a, b) = (of("select a"), of("select b"));
        assert_eq!(Normal::of_unit(&[Arc::clone(&a)]), a);
        let (ab, ba) = (
            Normal::of_unit(&[Arc::clone(&a), Arc::clone(&b)]),
            Normal::of_unit(&[b, a]),
        );
        assert_eq!(&*ab.text, "select a; select b");
        assert_ne!(ab.fingerprint, ba.fingerprint);
        // Never changes, or what was kept over a restart would mean something else.
        assert_eq!(Normal::named("a").fingerprint, 0xaf63_dc4c_8601_ec8c);
    }
}
