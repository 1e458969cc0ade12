//! Queries: `SELECT`, `WITH`, `VALUES`, `TABLE`, and what stands around and inside of them.

use super::Why;
use super::functions::{self, Effect};
use super::lexer::{Token, Tokens};

/// What a query does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Query {
    /// Why it is a write, if it is one.
    pub(super) writes: Option<Why>,
    /// Functions among them that are the session's, or the server's that it is on.
    pub(super) personal: bool,
    /// Where the first `TO` or `FROM` outside parentheses points: of use for COPY alone.
    pub(super) copies: Option<Copies>,
}

/// The direction of a COPY.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Copies {
    /// `TO STDOUT`.
    ToClient,
    /// To a file or a program at the server.
    ToServer,
    /// `FROM` anything.
    From,
}

/// Words that matter in a query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Keyword {
    As,
    Cycle,
    Delete,
    For,
    From,
    Insert,
    Into,
    Key,
    Merge,
    No,
    Search,
    Share,
    To,
    Update,
}

fn keyword(word: &[u8]) -> Option<Keyword> {
    let is = |text: &str, keyword| {
        word.eq_ignore_ascii_case(text.as_bytes())
            .then_some(keyword)
    };
    match (word.len(), word.first()?.to_ascii_lowercase()) {
        (2, b'a') => is("as", Keyword::As),
        (2, b'n') => is("no", Keyword::No),
        (2, b't') => is("to", Keyword::To),
        (3, b'f') => is("for", Keyword::For),
        (3, b'k') => is("key", Keyword::Key),
        (4, b'f') => is("from", Keyword::From),
        (4, b'i') => is("into", Keyword::Into),
        (5, b'c') => is("cycle", Keyword::Cycle),
        (5, b'm') => is("merge", Keyword::Merge),
        (5, b's') => is("share", Keyword::Share),
        (6, b'd') => is("delete", Keyword::Delete),
        (6, b'i') => is("insert", Keyword::Insert),
        (6, b's') => is("search", Keyword::Search),
        (6, b'u') => is("update", Keyword::Update),
        _ => None,
    }
}

/// The token before, as far as it matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Last<'a> {
    /// A parenthesis: a statement may begin behind it.
    Edge,
    Dot,
    Keyword(Keyword),
    /// `DELETE` where a statement may begin.
    VerbDelete,
    /// `UPDATE` where a statement may begin.
    VerbUpdate,
    Name(&'a [u8]),
    EscapedName,
    /// `set_config(`
    Sets,
    /// `set_config('harmless'`
    SetsHarmless,
    Other,
}

/// Reads a query to the end of its statement; its first word, or nothing but what can stand before
/// it, has been read.
pub(super) fn read(tokens: &mut Tokens<'_>) -> Query {
    let mut reader = Reader {
        last: Last::Other,
        locking: false,
        loose: false,
        depth: 0,
        query: Query {
            writes: None,
            personal: false,
            copies: None,
        },
    };
    while let Some(token) = tokens.next() {
        if token == Token::Semicolon {
            break;
        }
        if let Err(why) = reader.token(token) {
            reader.query.writes = Some(why);
            break;
        }
    }
    reader.query
}

struct Reader<'a> {
    last: Last<'a>,
    /// A `FOR [NO] [KEY]` was the last.
    locking: bool,
    /// Behind `SEARCH` and `CYCLE` the verb of a statement can follow on any name.
    loose: bool,
    /// Open parentheses.
    depth: u32,
    query: Query,
}

impl<'a> Reader<'a> {
    fn token(&mut self, token: Token<'a>) -> Result<(), Why> {
        self.finishes_sets(token)?;
        if self.last == Last::Keyword(Keyword::To) && self.depth == 0 {
            self.query.copies.get_or_insert(target(token));
        }
        self.last = match token {
            Token::Word(word) => self.word(word)?,
            Token::Quoted(name) => self.name(Last::Name(name))?,
            Token::Escaped => self.name(Last::EscapedName)?,
            Token::Open => {
                self.depth = self.depth.saturating_add(1);
                self.open()?
            }
            Token::Close => {
                self.depth = self.depth.saturating_sub(1);
                Last::Edge
            }
            Token::Dot => Last::Dot,
            Token::Text(_) if self.last == Last::Sets => Last::SetsHarmless,
            Token::Text(_) | Token::Literal | Token::Comma | Token::Sign(_) => Last::Other,
            Token::Semicolon | Token::Unclear => return Err(Why::Unknown),
        };
        self.locking &= matches!(
            self.last,
            Last::Keyword(Keyword::For | Keyword::No | Keyword::Key)
        );
        Ok(())
    }

    /// `set_config(` must go on with a plain literal that names a harmless parameter.
    fn finishes_sets(&self, token: Token<'_>) -> Result<(), Why> {
        let harmless = |name: &[u8]| !functions::is_guarded(name) && !name.contains(&b'\\');
        match (self.last, token) {
            (Last::Sets, Token::Text(name)) if harmless(name) => Ok(()),
            (Last::SetsHarmless, Token::Comma) => Ok(()),
            (Last::Sets | Last::SetsHarmless, _) => Err(Why::Escape),
            _ => Ok(()),
        }
    }

    fn word(&mut self, word: &'a [u8]) -> Result<Last<'a>, Why> {
        // Behind these any word is a name.
        if matches!(self.last, Last::Dot | Last::Keyword(Keyword::As)) {
            return Ok(Last::Name(word));
        }
        // What escapes then is another character.
        if self.last == Last::EscapedName && word.eq_ignore_ascii_case(b"uescape") {
            return Err(Why::Unknown);
        }
        let Some(keyword) = keyword(word) else {
            return self.name(Last::Name(word));
        };
        let may_begin = self.loose || self.last == Last::Edge;
        match keyword {
            Keyword::Into
                if matches!(self.last, Last::Keyword(Keyword::Insert | Keyword::Merge)) =>
            {
                return Err(Why::Write);
            }
            Keyword::Into => return Err(Why::Ddl),
            Keyword::Update | Keyword::Share if self.locking => return Err(Why::Write),
            Keyword::Delete if may_begin => return Ok(Last::VerbDelete),
            Keyword::Update if may_begin => return Ok(Last::VerbUpdate),
            Keyword::From => return self.from(),
            Keyword::For => self.locking = true,
            Keyword::Search | Keyword::Cycle => self.loose = true,
            Keyword::As
            | Keyword::Delete
            | Keyword::Insert
            | Keyword::Key
            | Keyword::Merge
            | Keyword::No => {}
            Keyword::Share | Keyword::To | Keyword::Update => {}
        }
        self.name(Last::Keyword(keyword))
    }

    fn from(&mut self) -> Result<Last<'a>, Why> {
        if self.last == Last::VerbDelete {
            return Err(Why::Write);
        }
        if self.depth == 0 {
            self.query.copies.get_or_insert(Copies::From);
        }
        Ok(Last::Keyword(Keyword::From))
    }

    /// Behind the verb `UPDATE` comes the name of a table, which may look like a keyword.
    fn name(&self, name: Last<'a>) -> Result<Last<'a>, Why> {
        match self.last {
            Last::VerbUpdate => Err(Why::Write),
            _ => Ok(name),
        }
    }

    /// Before a parenthesis a name is a function's.
    fn open(&mut self) -> Result<Last<'a>, Why> {
        let effect = match self.last {
            Last::Name(name) => functions::effect(name),
            Last::EscapedName => Effect::Unknown,
            _ => return Ok(Last::Edge),
        };
        self.query.personal |=
            matches!(self.last, Last::Name(name) if functions::is_personal(name));
        match effect {
            Effect::Reads => Ok(Last::Edge),
            Effect::Writes => Err(Why::Write),
            Effect::Unknown => Err(Why::Unknown),
            Effect::Sets => Ok(Last::Sets),
        }
    }
}

fn target(token: Token<'_>) -> Copies {
    match token {
        // The server takes one for the other.
        Token::Word(word)
            if word.eq_ignore_ascii_case(b"stdout") || word.eq_ignore_ascii_case(b"stdin") =>
        {
            Copies::ToClient
        }
        _ => Copies::ToServer,
    }
}
