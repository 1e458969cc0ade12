//! Cuts a script into statements: squawk's lexer finds the tokens, psql's rule finds the ends.
//!
//! A statement ends at a `;` outside parentheses and outside a `BEGIN ATOMIC … END` body, which is
//! how psql's `psqlscan.l` decides. No grammar is involved: a statement that only a newer server
//! knows is cut as well as any other, nothing recurses, and the time is linear in the text.

use std::ops::Range;

use squawk_lexer::{LiteralKind, TokenKind, tokenize};

use super::class::{Class, Word, classify};
use super::source::FILE_BYTES_MAX;

/// One statement of a script, as it will be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// Bytes of the script, from the first token to the last: no `;`, no comment around it.
    pub range: Range<usize>,
    /// The line its first token stands on, from 1.
    pub line: u32,
    /// What the runner has to know about it.
    pub class: Class,
}

/// Why a script cannot be run, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}{}: {problem}", column.map(|it| format!(", column {it}")).unwrap_or_default())]
pub struct ScriptError {
    /// The line at fault, from 1.
    pub line: u32,
    /// The column at fault in characters, from 1, if it is known.
    pub column: Option<u32>,
    /// What is wrong there.
    #[source]
    pub problem: ScriptProblem,
}

/// The kinds of script that cannot be run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScriptProblem {
    /// Above `FILE_BYTES_MAX`.
    #[error("the file is larger than {} MiB", FILE_BYTES_MAX / 1024 / 1024)]
    TooLarge,
    /// Nothing but comments.
    #[error("the file holds no statement")]
    NoStatement,
    /// A quote, dollar quote or comment that never ends.
    #[error("this {0} is not closed")]
    Unterminated(&'static str),
    /// A parenthesis or `BEGIN ATOMIC` body that never ends hides every `;` behind it.
    #[error("the last statement is not complete: a parenthesis or a BEGIN ATOMIC body is open")]
    Incomplete,
    /// A command of psql's own, which no server understands.
    #[error("{0} is a command of psql, not SQL")]
    MetaCommand(String),
    /// The rest of an escape string on another line, where lexers differ about backslashes.
    #[error(
        "an E'...' string that goes on in another line with a backslash: write it as one string"
    )]
    EscapeContinued,
    /// Data would have to follow in the file.
    #[error("COPY from STDIN or to STDOUT cannot run in a migration: use INSERT, or load it apart")]
    ClientCopy,
    /// Begins or ends transactions by itself.
    #[error(
        "{0}: the runner begins and ends the transaction itself (a file that is wholly wrapped in \
         one BEGIN and COMMIT is accepted)"
    )]
    TransactionControl(String),
    /// A directive that is not understood, or cannot be carried out.
    #[error("{0}")]
    Directive(String),
    /// Wrapped in a transaction, and told to run without one.
    #[error("the file says that it runs without a transaction, but is wrapped in BEGIN and COMMIT")]
    WrappedWithout,
    /// Cannot work in the transaction that the file asks for.
    #[error("{0} cannot run inside a transaction, but the file is wrapped in BEGIN and COMMIT")]
    AloneInTransaction(String),
}

impl ScriptProblem {
    pub(super) fn at(self, line: u32) -> ScriptError {
        ScriptError {
            line,
            column: None,
            problem: self,
        }
    }
}

/// Cuts a script into its statements.
///
/// # Errors
/// The first fault, from the top: what stands behind COPY data or an open quote means nothing.
pub fn split(text: &str) -> Result<Vec<Statement>, ScriptError> {
    if text.len() > FILE_BYTES_MAX {
        return Err(ScriptProblem::TooLarge.at(1));
    }
    let mut cutter = Cutter {
        text,
        ..Cutter::default()
    };
    let mut offset = 0;
    for token in tokenize(text) {
        let range = offset..offset + token.len as usize;
        offset = range.end;
        cutter.token(token.kind, range)?;
    }
    cutter.finish()
}

/// Where a byte offset lies: line and column (in characters), both from 1.
pub(super) fn line_and_column(text: &str, offset: usize) -> (u32, u32) {
    let before = &text[..offset];
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    (
        count(newlines(before)) + 1,
        count(before[line_start..].chars()) + 1,
    )
}

fn newlines(text: &str) -> impl Iterator {
    text.bytes().filter(|&byte| byte == b'\n')
}

fn count(items: impl Iterator) -> u32 {
    u32::try_from(items.count()).unwrap_or(u32::MAX)
}

#[derive(Default)]
struct Cutter<'a> {
    text: &'a str,
    done: Vec<Statement>,
    /// Bytes of the current statement, once it has a token.
    current: Option<Range<usize>>,
    /// Its tokens, kept only for verbs that have to be classified.
    words: Vec<Word<'a>>,
    /// Every token so far was an identifier that may head a `CREATE FUNCTION`.
    head: Head,
    parentheses: usize,
    /// `BEGIN` and `CASE` of a routine's body that wait for their `END`.
    bodies: usize,
    after_escape_string: bool,
    /// An offset, and the line ends before it.
    counted: (usize, u32),
}

/// How much of `CREATE [OR REPLACE] {FUNCTION | PROCEDURE}` the statement has shown.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Head {
    #[default]
    Nothing,
    Create,
    Or,
    Replace,
    Routine,
    Other,
}

impl<'a> Cutter<'a> {
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "the list is the lexer's and grows with it"
    )]
    fn token(&mut self, kind: TokenKind, range: Range<usize>) -> Result<(), ScriptError> {
        let text = &self.text[range.clone()];
        if let Some(what) = unterminated(kind) {
            return Err(ScriptProblem::Unterminated(what).at(self.line(range.start)));
        }
        match kind {
            TokenKind::Whitespace | TokenKind::LineComment | TokenKind::BlockComment { .. } => {
                return Ok(());
            }
            TokenKind::Eof => return Ok(()),
            TokenKind::Semi if self.parentheses == 0 && self.bodies == 0 => return self.cut(),
            TokenKind::OpenParen => self.parentheses += 1,
            TokenKind::CloseParen => self.parentheses = self.parentheses.saturating_sub(1),
            TokenKind::Ident => self.identifier(text),
            TokenKind::Unknown if text.starts_with('\\') => {
                return Err(self.meta_command(range.start));
            }
            TokenKind::Literal {
                kind: LiteralKind::Str { .. },
            } if self.after_escape_string && text.contains('\\') => {
                return Err(ScriptProblem::EscapeContinued.at(self.line(range.start)));
            }
            // Any other token is only a part of the statement.
            _ => {}
        }
        self.after_escape_string = matches!(
            kind,
            TokenKind::Literal {
                kind: LiteralKind::EscStr { .. }
            }
        );
        let first = self.current.is_none();
        let start = self.current.as_ref().map_or(range.start, |it| it.start);
        self.current = Some(start..range.end);
        if first || self.words.first().is_some_and(Word::needs_the_rest) {
            self.words.push(Word::new(kind, text));
        }
        Ok(())
    }

    /// psql's rule: only a routine has a body, and `CASE` shares `END` with it.
    fn identifier(&mut self, text: &str) {
        let is = |word: &str| text.eq_ignore_ascii_case(word);
        self.head = match self.head {
            Head::Nothing if is("create") => Head::Create,
            Head::Create if is("or") => Head::Or,
            Head::Or if is("replace") => Head::Replace,
            Head::Create | Head::Replace if is("function") || is("procedure") => Head::Routine,
            Head::Routine => Head::Routine,
            Head::Nothing | Head::Create | Head::Or | Head::Replace | Head::Other => Head::Other,
        };
        if self.head != Head::Routine || self.parentheses > 0 {
            return;
        }
        if is("begin") || (is("case") && self.bodies > 0) {
            self.bodies += 1;
        } else if is("end") {
            self.bodies = self.bodies.saturating_sub(1);
        }
    }

    /// Ends the current statement, if there is one: `;;` is nothing.
    fn cut(&mut self) -> Result<(), ScriptError> {
        let words = std::mem::take(&mut self.words);
        self.head = Head::Nothing;
        self.after_escape_string = false;
        let Some(range) = self.current.take() else {
            return Ok(());
        };
        let line = self.line(range.start);
        let class = classify(&words);
        if class == Class::ClientCopy {
            return Err(ScriptProblem::ClientCopy.at(line));
        }
        self.done.push(Statement { range, line, class });
        Ok(())
    }

    fn finish(mut self) -> Result<Vec<Statement>, ScriptError> {
        if self.parentheses > 0 || self.bodies > 0 {
            let start = self.current.as_ref().map_or(0, |it| it.start);
            return Err(ScriptProblem::Incomplete.at(self.line(start)));
        }
        self.cut()?;
        Ok(self.done)
    }

    fn meta_command(&mut self, start: usize) -> ScriptError {
        let command = self.text[start..].split_whitespace().next().unwrap_or("\\");
        let command = command.chars().take(20).collect();
        ScriptProblem::MetaCommand(command).at(self.line(start))
    }

    /// The line of an offset. Offsets mostly grow, so a long script is read once.
    fn line(&mut self, offset: usize) -> u32 {
        let (from, lines) = if self.counted.0 <= offset {
            self.counted
        } else {
            (0, 0)
        };
        let lines = lines + count(newlines(&self.text[from..offset]));
        self.counted = (offset, lines);
        lines + 1
    }
}

/// What stands open at the end of the text, if this token does.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the list is the lexer's and grows with it"
)]
fn unterminated(kind: TokenKind) -> Option<&'static str> {
    match kind {
        TokenKind::BlockComment { terminated: false } => Some("comment"),
        TokenKind::QuotedIdent {
            terminated: false, ..
        } => Some("quoted identifier"),
        TokenKind::Literal {
            kind:
                LiteralKind::Str { terminated: false }
                | LiteralKind::NationalStr { terminated: false }
                | LiteralKind::ByteStr { terminated: false }
                | LiteralKind::BitStr { terminated: false }
                | LiteralKind::UnicodeEscStr { terminated: false }
                | LiteralKind::EscStr { terminated: false },
        } => Some("string"),
        TokenKind::Literal {
            kind: LiteralKind::DollarQuotedString { terminated: false },
        } => Some("dollar quote"),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
