//! One statement: its first word says by which rule it is read.

use super::lexer::{Token, Tokens};
use super::query::{self, Copies};
use super::{Access, Ends, Tag, Why, functions};

/// What one statement is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind<'a> {
    /// A read, or session state; with whether it runs a query, and so may call functions: operators,
    /// casts and views do, too.
    Reads {
        calls: bool,
        /// Any other session could execute it as well.
        anywhere: bool,
    },
    Begins(Access),
    Defers(Tag),
    Ends(Ends),
    /// Ends a transaction and begins the next of the same kind.
    Chains,
    ResetsAll,
    Executes(&'a [u8]),
    Prepares,
    Writes(Why),
}

/// Touches session state.
const PASSES: Kind<'_> = Kind::Reads {
    calls: false,
    anywhere: false,
};
const RUNS: Kind<'_> = Kind::Reads {
    calls: true,
    anywhere: false,
};
const UNKNOWN: Kind<'_> = Kind::Writes(Why::Unknown);

/// What the first word of a statement promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verb {
    Begin,
    Commit,
    Copy,
    Ddl,
    Declare,
    Discard,
    Execute,
    Explain,
    /// Goes on with the query of a cursor.
    Fetch,
    /// Session state, savepoints that go: nothing in it matters.
    Passes,
    Prepare,
    Prepares,
    Query,
    Reset,
    Rollback,
    Savepoint,
    Set,
    Start,
    Write,
}

const VERBS: [(&str, Verb); 51] = [
    ("select", Verb::Query),
    ("with", Verb::Query),
    ("begin", Verb::Begin),
    ("commit", Verb::Commit),
    ("set", Verb::Set),
    ("insert", Verb::Write),
    ("update", Verb::Write),
    ("delete", Verb::Write),
    ("rollback", Verb::Rollback),
    ("show", Verb::Passes),
    ("values", Verb::Query),
    ("table", Verb::Query),
    ("execute", Verb::Execute),
    ("prepare", Verb::Prepare),
    ("deallocate", Verb::Prepares),
    ("savepoint", Verb::Savepoint),
    ("release", Verb::Passes),
    ("start", Verb::Start),
    ("end", Verb::Commit),
    ("abort", Verb::Rollback),
    ("reset", Verb::Reset),
    ("discard", Verb::Discard),
    ("fetch", Verb::Fetch),
    ("move", Verb::Fetch),
    ("close", Verb::Passes),
    ("declare", Verb::Declare),
    ("listen", Verb::Passes),
    ("unlisten", Verb::Passes),
    ("notify", Verb::Passes),
    ("load", Verb::Passes),
    ("explain", Verb::Explain),
    ("copy", Verb::Copy),
    ("merge", Verb::Write),
    ("truncate", Verb::Write),
    ("lock", Verb::Write),
    ("vacuum", Verb::Write),
    ("analyze", Verb::Write),
    ("analyse", Verb::Write),
    ("reindex", Verb::Write),
    ("cluster", Verb::Write),
    ("checkpoint", Verb::Write),
    ("refresh", Verb::Write),
    ("create", Verb::Ddl),
    ("alter", Verb::Ddl),
    ("drop", Verb::Ddl),
    ("grant", Verb::Ddl),
    ("revoke", Verb::Ddl),
    ("comment", Verb::Ddl),
    ("security", Verb::Ddl),
    ("reassign", Verb::Ddl),
    ("import", Verb::Ddl),
];

fn verb(word: &[u8]) -> Option<Verb> {
    VERBS
        .iter()
        .find(|(text, _)| word.eq_ignore_ascii_case(text.as_bytes()))
        .map(|(_, verb)| *verb)
}

/// Reads a statement of which `first` is the first token, to its end. What follows a write is not
/// read.
pub(super) fn read<'a>(first: Token<'a>, tokens: &mut Tokens<'a>) -> Kind<'a> {
    let mut first = first;
    let parenthesised = first == Token::Open;
    while first == Token::Open {
        match tokens.next() {
            Some(token) => first = token,
            None => return UNKNOWN,
        }
    }
    let Token::Word(word) = first else {
        return UNKNOWN;
    };
    let Some(verb) = verb(word) else {
        return UNKNOWN;
    };
    if parenthesised && verb != Verb::Query {
        return UNKNOWN;
    }
    let mut rest = Rest(tokens);
    match verb {
        Verb::Begin => rest.begin(),
        Verb::Commit => rest.ends(Ends::Commit),
        Verb::Copy => rest.copy(),
        Verb::Ddl => Kind::Writes(Why::Ddl),
        Verb::Query => rest.query(),
        // One that is held runs at the end of its transaction; it is its session's in any case.
        Verb::Declare => match rest.query() {
            Kind::Reads { .. } => RUNS,
            writes => writes,
        },
        Verb::Discard => rest.discard(),
        Verb::Execute => rest.execute(),
        Verb::Explain => rest.explain(),
        Verb::Fetch => rest.whatever_follows(RUNS),
        Verb::Passes => rest.whatever_follows(PASSES),
        Verb::Prepare => rest.prepare(),
        Verb::Prepares => rest.whatever_follows(Kind::Prepares),
        Verb::Reset => rest.reset(),
        Verb::Rollback => rest.ends(Ends::Rollback),
        Verb::Savepoint => rest.whatever_follows(Kind::Defers(Tag::Savepoint)),
        Verb::Set => rest.set(),
        Verb::Start => rest.start(),
        Verb::Write => Kind::Writes(Why::Write),
    }
}

/// What stands behind the first word.
struct Rest<'a, 'b>(&'b mut Tokens<'a>);

impl<'a> Rest<'a, '_> {
    /// The next token of this statement; its semicolon is its end.
    fn next(&mut self) -> Option<Token<'a>> {
        self.0.next().filter(|token| *token != Token::Semicolon)
    }

    /// The next token, if it is a word.
    fn word(&mut self) -> Option<&'a [u8]> {
        match self.next() {
            Some(Token::Word(word)) => Some(word),
            _ => None,
        }
    }

    /// Goes to the end of a statement of this kind.
    fn whatever_follows(&mut self, kind: Kind<'a>) -> Kind<'a> {
        while let Some(token) = self.next() {
            if token == Token::Unclear {
                return UNKNOWN;
            }
        }
        kind
    }

    /// Nothing may follow.
    fn ended(&mut self, kind: Kind<'a>) -> Kind<'a> {
        match self.next() {
            None => kind,
            Some(_) => UNKNOWN,
        }
    }

    fn query(&mut self) -> Kind<'a> {
        let query = query::read(self.0);
        match query.writes {
            Some(why) => Kind::Writes(why),
            None => Kind::Reads {
                calls: true,
                anywhere: !query.personal,
            },
        }
    }

    /// `COPY t TO STDOUT`, `COPY (query) TO STDOUT`; everything else changes a table or a file.
    fn copy(&mut self) -> Kind<'a> {
        let query = query::read(self.0);
        match (query.writes, query.copies) {
            (Some(why), _) => Kind::Writes(why),
            (None, Some(Copies::ToClient)) => Kind::Reads {
                calls: true,
                anywhere: !query.personal,
            },
            (None, Some(Copies::ToServer | Copies::From)) => Kind::Writes(Why::Write),
            (None, None) => UNKNOWN,
        }
    }

    fn start(&mut self) -> Kind<'a> {
        match self.next() {
            Some(Token::Word(word)) if is(word, "transaction") => {
                let first = self.next();
                self.modes(first).map_or(UNKNOWN, Kind::Begins)
            }
            _ => UNKNOWN,
        }
    }

    fn begin(&mut self) -> Kind<'a> {
        let first = self.behind_work();
        self.modes(first).map_or(UNKNOWN, Kind::Begins)
    }

    /// The token behind `WORK` or `TRANSACTION`, if one of them comes.
    fn behind_work(&mut self) -> Option<Token<'a>> {
        match self.next() {
            Some(Token::Word(word)) if is(word, "work") || is(word, "transaction") => self.next(),
            other => other,
        }
    }

    /// Reads transaction modes to the end; none when there is something else.
    fn modes(&mut self, first: Option<Token<'a>>) -> Option<Access> {
        let (mut access, mut next) = (Access::Default, first);
        while let Some(token) = next {
            match token {
                Token::Comma => {}
                Token::Word(word) if is(word, "isolation") => self.isolation()?,
                Token::Word(word) if is(word, "read") => {
                    access = match self.next()? {
                        Token::Word(word) if is(word, "only") => Access::ReadOnly,
                        Token::Word(word) if is(word, "write") => Access::ReadWrite,
                        _ => return None,
                    };
                }
                Token::Word(word) if is(word, "deferrable") || is(word, "not") => {}
                _ => return None,
            }
            next = self.next();
        }
        Some(access)
    }

    /// `LEVEL` and one of four.
    fn isolation(&mut self) -> Option<()> {
        let level = self.word()?;
        let first = self.word()?;
        let known = if is(first, "read") {
            one_of(self.word()?, &["committed", "uncommitted"])
        } else if is(first, "repeatable") {
            is(self.word()?, "read")
        } else {
            is(first, "serializable")
        };
        (known && is(level, "level")).then_some(())
    }

    /// Behind `COMMIT`, `END`, `ROLLBACK` and `ABORT`.
    fn ends(&mut self, ends: Ends) -> Kind<'a> {
        let word = match self.behind_work() {
            None => return Kind::Ends(ends),
            Some(Token::Word(word)) => word,
            Some(_) => return UNKNOWN,
        };
        if is(word, "and") {
            return self.chain(ends);
        }
        if is(word, "to") && ends == Ends::Rollback {
            return self.whatever_follows(PASSES);
        }
        if is(word, "prepared") {
            return Kind::Writes(Why::Write);
        }
        UNKNOWN
    }

    fn chain(&mut self, ends: Ends) -> Kind<'a> {
        match self.next() {
            Some(Token::Word(word)) if is(word, "chain") => self.ended(Kind::Chains),
            Some(Token::Word(word)) if is(word, "no") => match self.next() {
                Some(Token::Word(word)) if is(word, "chain") => self.ended(Kind::Ends(ends)),
                _ => UNKNOWN,
            },
            _ => UNKNOWN,
        }
    }

    fn discard(&mut self) -> Kind<'a> {
        match self.next() {
            Some(Token::Word(word)) if is(word, "all") => self.ended(Kind::ResetsAll),
            Some(Token::Word(word))
                if one_of(word, &["plans", "sequences", "temp", "temporary"]) =>
            {
                self.ended(PASSES)
            }
            _ => UNKNOWN,
        }
    }

    fn reset(&mut self) -> Kind<'a> {
        match self.next() {
            Some(Token::Word(word)) if is(word, "all") => self.ended(Kind::ResetsAll),
            Some(Token::Word(word)) if is(word, "session") => self.whatever_follows(PASSES),
            Some(Token::Word(name) | Token::Quoted(name)) => self.parameter(name, PASSES),
            Some(Token::Escaped) => Kind::Writes(Why::Escape),
            _ => UNKNOWN,
        }
    }

    /// Sets or resets the parameter of this name.
    fn parameter(&mut self, name: &[u8], kind: Kind<'a>) -> Kind<'a> {
        if functions::is_guarded(name) {
            return Kind::Writes(Why::Escape);
        }
        self.whatever_follows(kind)
    }

    fn set(&mut self) -> Kind<'a> {
        let mut kind = PASSES;
        let mut prefixed = false;
        loop {
            let word = match self.next() {
                Some(Token::Word(word)) => word,
                Some(Token::Quoted(name)) => return self.parameter(name, kind),
                Some(Token::Escaped) => return Kind::Writes(Why::Escape),
                _ => return UNKNOWN,
            };
            if is(word, "session") {
                prefixed = true;
            } else if is(word, "local") {
                prefixed = true;
                kind = Kind::Defers(Tag::Set);
            } else if is(word, "characteristics") {
                return Kind::Writes(Why::Escape);
            } else if is(word, "authorization") {
                return self.whatever_follows(kind);
            } else if is(word, "transaction") {
                return self.set_transaction();
            } else if is(word, "constraints") && !prefixed {
                return self.whatever_follows(Kind::Defers(Tag::SetConstraints));
            } else {
                return self.parameter(word, kind);
            }
        }
    }

    fn set_transaction(&mut self) -> Kind<'a> {
        let first = self.next();
        if let Some(Token::Word(word)) = first
            && is(word, "snapshot")
        {
            return self.whatever_follows(Kind::Defers(Tag::Set));
        }
        match self.modes(first) {
            Some(Access::ReadWrite) => Kind::Writes(Why::Escape),
            Some(Access::Default | Access::ReadOnly) => Kind::Defers(Tag::Set),
            None => UNKNOWN,
        }
    }

    /// `PREPARE TRANSACTION 'x'` makes a transaction outlive its session; `transaction` may be the
    /// name of a statement, too.
    fn prepare(&mut self) -> Kind<'a> {
        match (self.next(), self.next()) {
            (
                Some(Token::Word(_) | Token::Quoted(_) | Token::Escaped),
                Some(Token::Word(_) | Token::Open),
            ) => self.whatever_follows(Kind::Prepares),
            _ => Kind::Writes(Why::Write),
        }
    }

    fn execute(&mut self) -> Kind<'a> {
        let name = match self.next() {
            // Folding would need memory, and beyond ASCII the database's encoding.
            Some(Token::Word(name)) if !name.iter().any(folds) => name,
            Some(Token::Quoted(name)) if !name.contains(&b'"') => name,
            _ => return UNKNOWN,
        };
        // The server cuts longer ones.
        if name.len() > NAME_MAX {
            return UNKNOWN;
        }
        match self.query() {
            Kind::Reads { .. } => Kind::Executes(name),
            writes => writes,
        }
    }

    fn explain(&mut self) -> Kind<'a> {
        let (runs, first) = match self.next() {
            Some(Token::Open) => match self.options() {
                Some(runs) => (runs, self.next()),
                None => return UNKNOWN,
            },
            first => self.plain_options(first),
        };
        let first = match first {
            Some(Token::Unclear) => return UNKNOWN,
            None => return PASSES,
            // Planning may call functions, too.
            Some(_) if !runs => return self.whatever_follows(RUNS),
            Some(first) => first,
        };
        // It cannot hold another EXPLAIN.
        match first {
            Token::Word(word) if matches!(verb(word), Some(Verb::Query | Verb::Declare)) => {
                self.query()
            }
            Token::Open => self.query(),
            Token::Word(word) if matches!(verb(word), Some(Verb::Execute) | None) => UNKNOWN,
            Token::Word(_) => Kind::Writes(Why::Write),
            _ => UNKNOWN,
        }
    }

    /// `EXPLAIN [ANALYZE] [VERBOSE]`: whether the statement is run, and its first token.
    fn plain_options(&mut self, first: Option<Token<'a>>) -> (bool, Option<Token<'a>>) {
        let (mut runs, mut next) = (false, first);
        while let Some(Token::Word(word)) = next {
            if is_analyze(word) {
                runs = true;
            } else if !is(word, "verbose") {
                break;
            }
            next = self.next();
        }
        (runs, next)
    }

    /// `EXPLAIN (...)`: whether the statement is run; none when the list does not end. A query in
    /// parentheses looks like a list that has no such option.
    fn options(&mut self) -> Option<bool> {
        let mut runs = false;
        loop {
            match self.next()? {
                Token::Close => return Some(runs),
                Token::Word(word) | Token::Quoted(word) if is_analyze(word) => {
                    let (on, closed) = self.switch()?;
                    runs |= on;
                    if closed {
                        return Some(runs);
                    }
                }
                Token::Escaped => runs = true,
                Token::Open => return Some(runs),
                Token::Unclear => return None,
                _ => {}
            }
        }
    }

    /// An option's value, through the comma or parenthesis behind it: whether it is on, and whether
    /// that was the parenthesis.
    fn switch(&mut self) -> Option<(bool, bool)> {
        let on = match self.next()? {
            Token::Comma => return Some((true, false)),
            Token::Close => return Some((true, true)),
            Token::Word(word) | Token::Text(word) => !is(word, "false") && !is(word, "off"),
            _ => true,
        };
        match self.next()? {
            Token::Comma => Some((on, false)),
            Token::Close => Some((on, true)),
            _ => None,
        }
    }
}

/// Longest name that is not cut: `NAMEDATALEN` - 1.
const NAME_MAX: usize = 63;

fn is(word: &[u8], text: &str) -> bool {
    word.eq_ignore_ascii_case(text.as_bytes())
}

fn one_of(word: &[u8], texts: &[&str]) -> bool {
    texts.iter().any(|text| is(word, text))
}

/// Whether the server may write this byte of a name in another way.
fn folds(byte: &u8) -> bool {
    byte.is_ascii_uppercase() || !byte.is_ascii()
}

fn is_analyze(word: &[u8]) -> bool {
    is(word, "analyze") || is(word, "analyse")
}
