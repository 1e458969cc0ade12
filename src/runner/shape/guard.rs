//! How deep a text may nest before it is handed to a parser that recurses: a tree as deep as its
//! text is long would overflow the stack, and that ends the process.

use squawk_lexer::{LiteralKind, TokenKind, tokenize};

/// Tokens on the way from the statement to its deepest part; measured to leave most of a stack of
/// 2 MiB in a debug build.
const DEPTH_MAX: usize = 600;

/// Bytes of a statement that are read at most: beyond it lies data.
const BYTES_MAX: usize = 256 * 1024;

/// Whether a statement may be parsed. Counts every token that could open a level: a parenthesis, an
/// operator, a keyword; a comma or a semicolon goes back to the level of the parenthesis around it.
pub fn is_readable(sql: &str) -> bool {
    sql.len() <= BYTES_MAX && is_shallow(sql, 2)
}

/// Bodies of routines are texts in a text: `bodies` levels of them are looked into, and what is
/// deeper is refused.
fn is_shallow(sql: &str, bodies: usize) -> bool {
    let mut levels = vec![0_usize];
    let (mut depth, mut offset) = (0, 0);
    for token in tokenize(sql) {
        let text = &sql[offset..offset + token.len as usize];
        offset += token.len as usize;
        if is_nothing(token.kind) {
            continue;
        }
        if let Some(body) = body(token.kind, text)
            && (bodies == 0 || !is_shallow(body, bodies - 1))
        {
            return false;
        }
        match text {
            ")" | "]" if levels.len() > 1 => depth -= levels.pop().unwrap_or_default(),
            "," | ";" => {
                if let Some(level) = levels.last_mut() {
                    depth -= std::mem::take(level);
                }
            }
            _ => {
                if text == "(" || text == "[" {
                    levels.push(0);
                }
                if let Some(level) = levels.last_mut() {
                    *level += 1;
                    depth += 1;
                }
            }
        }
        if depth > DEPTH_MAX {
            return false;
        }
    }
    true
}

pub(super) fn is_nothing(kind: TokenKind) -> bool {
    matches!(
        kind,
        TokenKind::Whitespace
            | TokenKind::LineComment
            | TokenKind::BlockComment { .. }
            | TokenKind::Eof
    )
}

/// What stands between the dollar quotes.
pub(super) fn body(kind: TokenKind, text: &str) -> Option<&str> {
    let is_body = matches!(
        kind,
        TokenKind::Literal {
            kind: LiteralKind::DollarQuotedString { .. }
        }
    );
    if !is_body {
        return None;
    }
    let tag = text[1..].find('$')? + 2;
    text.get(tag..text.len().checked_sub(tag)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runner::shape::read;

    #[test]
    fn what_passes_can_be_parsed_on_a_small_stack() {
        let deep = [
            ("select ", "(", "1", ")"),
            ("select ", "- ", "1", ""),
            ("select ", "not ", "true", ""),
            ("select 1", " + 1", "", ""),
            ("select 1", " union select 1", "", ""),
            ("select ", "case when ", "true", " then 1 end"),
            ("select ", "f(g.h[", "1", "])"),
            ("do $$ begin ", "if a then ", "null;", " end if;"),
        ];
        for (head, open, middle, close) in deep {
            let end = if head.starts_with("do") {
                " end $$"
            } else {
                ""
            };
            let sql =
                |n: usize| format!("{head}{}{middle}{}{end}", open.repeat(n), close.repeat(n));
            assert!(!is_readable(&sql(2 * DEPTH_MAX)), "{head}{open}");
            let most = (1..DEPTH_MAX).rev().find(|n| is_readable(&sql(*n)));
            let acts = read(&sql(most.expect("a depth that is allowed")));
            assert!(!acts.is_empty());
        }
    }

    #[test]
    fn length_alone_is_no_depth() {
        let wide = format!("insert into t values {}(1, 2)", "(1, 2), ".repeat(20_000));
        assert!(is_readable(&wide));
        let long = format!("insert into t values {}(1, 2)", "(1, 2), ".repeat(60_000));
        assert!(!is_readable(&long));
    }
}
