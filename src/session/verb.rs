//! Which statements end a transaction and do nothing else: a matcher that knows a handful of texts
//! and takes everything else for unknown.
//!
//! It is asked only about sessions whose transaction was aborted under them and about the first
//! statement of a transaction while a gate is closed to transactions alone; no other text is read.

use crate::wire::frame::{HEADER_LEN, Header};
use crate::wire::frontend::tag;

/// A statement that ends a transaction, or goes back in it, and nothing besides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// `ROLLBACK`, `ABORT`.
    Rollback,
    /// `ROLLBACK TO`.
    RollbackTo,
    /// `COMMIT`, `END`.
    Commit,
    /// `PREPARE TRANSACTION`.
    PrepareTransaction,
}

/// What a statement's text is, as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Text {
    /// This and nothing else.
    Lone(Verb),
    /// It begins by giving the transaction up, and goes on.
    RollsBack,
    /// It begins a transaction block.
    Begins,
    /// It may end a transaction, or what it is cannot be told.
    Unknown,
    /// Nothing of all that: a failed transaction stays failed by it.
    Other,
}

/// What stands at the front of what a client sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// It cannot be told yet.
    More,
    /// So many bytes that touch no transaction and are answered: Syncs, and Closes with theirs.
    Passes(usize),
    /// A message that is answered by nothing: a Flush, or the data of a COPY that is over.
    Stray,
    /// The client leaves.
    Terminate,
    /// A whole unit of so many bytes that holds this and nothing else.
    Lone(Verb, usize),
    /// It begins with this.
    Begins(Text),
}

/// Whether what stands at the front of what a client sent begins a transaction block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opens {
    /// Its first statement is `BEGIN` or `START TRANSACTION`.
    Block,
    /// Its first statement is another, or one that was prepared before and is not known.
    Statement,
    /// That cannot be told before more of it is there.
    More,
}

/// With so much there a text that still cannot be told is taken for another.
const OPENS_MAX: usize = 512;

/// Words and signs of a statement.
#[derive(Debug, PartialEq, Eq)]
enum Token<'a> {
    Word(&'a [u8]),
    /// A name in double quotes, or a literal in single ones, with nothing special in it.
    Quoted(u8),
    Semicolon,
    Else,
}

/// Cuts a text into tokens; what it does not know is [`Token::Else`], and the rest means nothing.
struct Tokens<'a>(&'a [u8]);

impl<'a> Iterator for Tokens<'a> {
    type Item = Token<'a>;

    fn next(&mut self) -> Option<Token<'a>> {
        self.0 = self.0.trim_ascii_start();
        let (first, rest) = self.0.split_first()?;
        match first {
            b';' => {
                self.0 = rest;
                Some(Token::Semicolon)
            }
            b'"' | b'\'' => Some(self.quoted(*first)),
            b'a'..=b'z' | b'A'..=b'Z' | b'_' => {
                let of_word = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'$');
                let end = self.0.iter().position(|b| !of_word(b));
                let (word, rest) = self.0.split_at(end.unwrap_or(self.0.len()));
                self.0 = rest;
                // Letters of other scripts go on with the word.
                if rest.first().is_some_and(|next| !next.is_ascii()) {
                    return Some(Token::Else);
                }
                Some(Token::Word(word))
            }
            _ => {
                self.0 = rest;
                Some(Token::Else)
            }
        }
    }
}

impl Tokens<'_> {
    fn quoted<'a>(&mut self, quote: u8) -> Token<'a> {
        let inside = &self.0[1..];
        let end = inside.iter().position(|b| *b == quote);
        let Some(end) = end.filter(|end| *end > 0) else {
            self.0 = inside;
            return Token::Else;
        };
        let (name, rest) = (&inside[..end], &inside[end + 1..]);
        self.0 = rest;
        let plain = |b: &u8| b.is_ascii_graphic() && *b != b'\\' || *b == b' ';
        // A doubled quote goes on with the name.
        if name.iter().all(plain) && rest.first() != Some(&quote) {
            Token::Quoted(quote)
        } else {
            Token::Else
        }
    }
}

/// Reads the text of a statement.
#[must_use]
pub fn text(text: &[u8]) -> Text {
    let mut tokens = Tokens(text);
    let Some(Token::Word(first)) = tokens.next() else {
        return Text::Unknown;
    };
    let is = |word: &str| first.eq_ignore_ascii_case(word.as_bytes());
    if is("begin") || is("start") {
        Text::Begins
    } else if is("rollback") || is("abort") {
        rollback(tokens, is("rollback"))
    } else if is("commit") || is("end") {
        let rest = optional(tokens, &["work", "transaction"]);
        lone(rest, Verb::Commit)
    } else if is("prepare") {
        prepare(tokens)
    } else {
        Text::Other
    }
}

fn rollback(tokens: Tokens<'_>, may_go_back: bool) -> Text {
    let mut rest = optional(tokens, &["work", "transaction"]);
    match lone(Tokens(rest.0), Verb::Rollback) {
        Text::Unknown => {}
        lone @ (Text::Lone(_) | Text::RollsBack | Text::Begins | Text::Other) => return lone,
    }
    match rest.next() {
        Some(Token::Word(word)) if may_go_back && word.eq_ignore_ascii_case(b"to") => {
            let mut rest = optional(rest, &["savepoint"]);
            match rest.next() {
                Some(Token::Word(_) | Token::Quoted(b'"')) => lone(rest, Verb::RollbackTo),
                Some(Token::Quoted(_) | Token::Semicolon | Token::Else) | None => Text::Unknown,
            }
        }
        // The transaction is given up; what comes behind is another.
        Some(Token::Semicolon) => Text::RollsBack,
        Some(Token::Word(_) | Token::Quoted(_) | Token::Else) | None => Text::Unknown,
    }
}

fn prepare(mut tokens: Tokens<'_>) -> Text {
    match (tokens.next(), tokens.next()) {
        (Some(Token::Word(word)), Some(Token::Quoted(b'\'')))
            if word.eq_ignore_ascii_case(b"transaction") =>
        {
            lone(tokens, Verb::PrepareTransaction)
        }
        _ => Text::Unknown,
    }
}

/// Behind one of these words, if one of them comes.
fn optional<'a>(tokens: Tokens<'a>, words: &[&str]) -> Tokens<'a> {
    let mut behind = Tokens(tokens.0);
    match behind.next() {
        Some(Token::Word(word))
            if words
                .iter()
                .any(|one| word.eq_ignore_ascii_case(one.as_bytes())) =>
        {
            behind
        }
        Some(Token::Word(_) | Token::Quoted(_) | Token::Semicolon | Token::Else) | None => tokens,
    }
}

/// The statement is this one if nothing but semicolons is left.
fn lone(mut rest: Tokens<'_>, verb: Verb) -> Text {
    if rest.all(|token| token == Token::Semicolon) {
        Text::Lone(verb)
    } else {
        Text::Unknown
    }
}

/// A batch of extended messages as far as it was read.
#[derive(Debug, Default)]
struct Batch<'a> {
    /// Its Parse: the statement's name, and what its text is.
    parsed: Option<(&'a [u8], Text)>,
    bound: bool,
    executed: bool,
}

impl Batch<'_> {
    /// What the batch amounts to when it is not one whole lone statement.
    fn longer(&self) -> Unit {
        Unit::Begins(match self.parsed {
            Some((_, Text::Lone(Verb::Rollback))) if self.executed => Text::RollsBack,
            Some((_, Text::Other)) => Text::Other,
            Some(_) | None => Text::Unknown,
        })
    }
}

/// Reads the unit at the front of `bytes`, which begin a message. With `all` no more of it can be
/// had before something is decided.
#[must_use]
pub fn unit(bytes: &[u8], all: bool) -> Unit {
    let (mut at, mut batch) = (0, Batch::default());
    loop {
        let more = |batch: &Batch<'_>| if all { batch.longer() } else { Unit::More };
        let Some((header, rest)) = bytes[at..].split_first_chunk::<HEADER_LEN>() else {
            return more(&batch);
        };
        let Ok(Header { tag, body }) = Header::parse(header) else {
            // Whoever discards it says what is wrong with it.
            return Unit::Begins(Text::Other);
        };
        let length = usize::try_from(body).unwrap_or(usize::MAX);
        let first = at == 0;
        match tag {
            tag::TERMINATE if first => return Unit::Terminate,
            tag::FLUSH | tag::COPY_DATA | tag::COPY_DONE | tag::COPY_FAIL if first => {
                return Unit::Stray;
            }
            tag::FUNCTION_CALL if first => return Unit::Begins(Text::Other),
            _ => {}
        }
        let Some(body) = rest.get(..length) else {
            return cut(tag, rest, &batch, more(&batch));
        };
        at += HEADER_LEN + length;
        match tag {
            tag::QUERY if first => return query(body, at),
            tag::CLOSE => {}
            tag::DESCRIBE if batch.bound => {}
            tag::PARSE if batch.parsed.is_none() => match parse(body) {
                Some((_, Text::Other)) => return Unit::Begins(Text::Other),
                Some(parsed) => batch.parsed = Some(parsed),
                None => return Unit::Begins(Text::Unknown),
            },
            tag::BIND if !batch.bound && batch.binds(body) => batch.bound = true,
            tag::EXECUTE if batch.bound && !batch.executed => batch.executed = true,
            tag::SYNC => {
                return match batch.parsed {
                    None => Unit::Passes(at),
                    Some((_, Text::Lone(verb))) if batch.executed => Unit::Lone(verb, at),
                    Some(_) => batch.longer(),
                };
            }
            _ => return batch.longer(),
        }
    }
}

/// Reads the unit at the front of `bytes`, which begin a message, as far as its first statement.
#[must_use]
pub fn opens(bytes: &[u8]) -> Opens {
    match first_statement(bytes) {
        Opens::More if bytes.len() >= OPENS_MAX => Opens::Statement,
        opens @ (Opens::Block | Opens::Statement | Opens::More) => opens,
    }
}

fn first_statement(bytes: &[u8]) -> Opens {
    let mut at = 0;
    loop {
        let Some((header, rest)) = bytes[at..].split_first_chunk::<HEADER_LEN>() else {
            return Opens::More;
        };
        let Ok(Header { tag, body }) = Header::parse(header) else {
            // Whoever reads on says what is wrong with it.
            return Opens::Statement;
        };
        let length = usize::try_from(body).unwrap_or(usize::MAX);
        let (there, whole) = match rest.get(..length) {
            Some(body) => (body, true),
            None => (rest, false),
        };
        match (tag, until_zero(there)) {
            (tag::QUERY, Some((sql, _))) => return begins(sql, true),
            (tag::QUERY, None) => return begins(there, whole),
            (tag::PARSE, Some((_name, rest))) => {
                return match until_zero(rest) {
                    Some((sql, _)) => begins(sql, true),
                    None => begins(rest, whole),
                };
            }
            (tag::PARSE, None) if !whole => return Opens::More,
            (tag::CLOSE, _) if !whole => return Opens::More,
            (tag::CLOSE, _) => at += HEADER_LEN + length,
            (_, _) => return Opens::Statement,
        }
    }
}

/// The same of a text, behind its comments; `whole` when no more of it is to come.
fn begins(text: &[u8], whole: bool) -> Opens {
    let more = if whole { Opens::Statement } else { Opens::More };
    let Some(text) = behind_comments(text) else {
        return more;
    };
    let of_word = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'$') || !b.is_ascii();
    let end = text.iter().position(|b| !of_word(b));
    let word = &text[..end.unwrap_or(text.len())];
    let is = |begin: &&str| word.eq_ignore_ascii_case(begin.as_bytes());
    let may_be = |begin: &&str| {
        let front = begin.as_bytes().get(..word.len());
        front.is_some_and(|front| word.eq_ignore_ascii_case(front))
    };
    match end {
        None if !whole && BEGINS.iter().any(may_be) => Opens::More,
        Some(_) | None if BEGINS.iter().any(is) => Opens::Block,
        Some(_) | None => Opens::Statement,
    }
}

/// The first word of a text, behind white space, semicolons and comments.
#[must_use]
pub fn first_word(text: &[u8]) -> Option<&[u8]> {
    match Tokens(behind_comments(text)?).next() {
        Some(Token::Word(word)) => Some(word),
        Some(Token::Quoted(_) | Token::Semicolon | Token::Else) | None => None,
    }
}

/// Words that a statement begins with which begins a transaction block.
const BEGINS: [&str; 2] = ["begin", "start"];

/// What comes behind white space, semicolons and comments, which may be nested; `None` when nothing
/// does.
fn behind_comments(mut text: &[u8]) -> Option<&[u8]> {
    loop {
        text = match text {
            [] => return None,
            [b';', rest @ ..] => rest,
            [first, rest @ ..] if first.is_ascii_whitespace() || *first == 0x0b => rest,
            [b'-', b'-', rest @ ..] => {
                let end = rest.iter().position(|b| matches!(b, b'\n' | b'\r'))?;
                &rest[end..]
            }
            [b'/', b'*', rest @ ..] => behind_comment(rest)?,
            // One sign that may be the first half of a comment's beginning.
            [b'-' | b'/'] => return None,
            _ => return Some(text),
        };
    }
}

/// Behind the comment that this is the inside of.
fn behind_comment(mut text: &[u8]) -> Option<&[u8]> {
    let mut depth = 1_u32;
    while depth > 0 {
        text = match text {
            [] => return None,
            [b'/', b'*', rest @ ..] => {
                depth += 1;
                rest
            }
            [b'*', b'/', rest @ ..] => {
                depth -= 1;
                rest
            }
            [_, rest @ ..] => rest,
        };
    }
    Some(text)
}

/// A message that is not all there: its text may say enough.
fn cut(tag: u8, there: &[u8], batch: &Batch<'_>, otherwise: Unit) -> Unit {
    let begins = match tag {
        tag::QUERY => there,
        tag::PARSE if batch.parsed.is_none() => match there.iter().position(|b| *b == 0) {
            Some(end) => &there[end + 1..],
            None => return otherwise,
        },
        _ => return otherwise,
    };
    // A word that is cut may be the beginning of another.
    let whole = begins.iter().rposition(|b| b.is_ascii_whitespace());
    match text(&begins[..whole.unwrap_or(0)]) {
        Text::Other => Unit::Begins(Text::Other),
        Text::Lone(_) | Text::RollsBack | Text::Begins | Text::Unknown => otherwise,
    }
}

fn query(body: &[u8], length: usize) -> Unit {
    match body.split_last() {
        Some((0, sql)) if !sql.contains(&0) => match text(sql) {
            Text::Lone(verb) => Unit::Lone(verb, length),
            begins @ (Text::RollsBack | Text::Begins | Text::Unknown | Text::Other) => {
                Unit::Begins(begins)
            }
        },
        _ => Unit::Begins(Text::Unknown),
    }
}

/// The name and the text of a Parse without parameters; of one with them only that it is another.
fn parse(body: &[u8]) -> Option<(&[u8], Text)> {
    let (name, rest) = until_zero(body)?;
    let (sql, parameters) = until_zero(rest)?;
    let text = match text(sql) {
        Text::Other => Text::Other,
        known @ (Text::Lone(_) | Text::RollsBack | Text::Begins | Text::Unknown)
            if parameters == [0, 0] =>
        {
            known
        }
        Text::Lone(_) | Text::RollsBack | Text::Begins | Text::Unknown => Text::Unknown,
    };
    Some((name, text))
}

impl Batch<'_> {
    /// Whether this Bind is of the statement that was parsed.
    fn binds(&self, body: &[u8]) -> bool {
        let statement = until_zero(body).and_then(|(_portal, rest)| until_zero(rest));
        match (self.parsed, statement) {
            (Some((parsed, _)), Some((bound, _))) => parsed == bound,
            (None, _) | (_, None) => false,
        }
    }
}

fn until_zero(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.iter().position(|b| *b == 0)?;
    Some((&bytes[..end], &bytes[end + 1..]))
}

#[cfg(test)]
mod tests;
