//! The unit at the front of what a client sent: where it ends, what it does, and what may be done with
//! it.

use super::batch::Batch;
use super::names::{Known, Names, Note};
use crate::session::class::{Access, Ends, Shape, Tag, Why, shape, shape_and_alone};
use crate::session::verb::{Text, Verb, text as verb_of};
use crate::wire::frame::{HEADER_LEN, Header};
use crate::wire::frontend::tag;

/// What stands at the front of what a client sent.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::session) enum Look<'a> {
    /// It cannot be told before more of it is there.
    More,
    /// So many bytes that begin nothing: a Flush, a Terminate, the data of a COPY that is over, or what
    /// the server will refuse.
    Passes(usize),
    /// First it has to be known what this prepared statement does.
    Asks(&'a [u8]),
    /// A unit, or a part of one.
    Unit(Unit<'a>),
}

/// What ends a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::session) enum End {
    /// It is one Query.
    Query,
    /// It is one FunctionCall.
    Call,
    /// A Sync.
    Sync,
    /// A Flush.
    Flush,
    /// It goes on, but no more of it can be had before this part has gone on; or it ends by a message
    /// that does not belong to it.
    Cut,
}

/// What a unit does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::session) enum Class<'a> {
    /// It executes nothing.
    Nothing,
    /// It executes an empty statement.
    Empty,
    /// It reads, or touches nothing but the session's state.
    Reads,
    /// It begins a block, and that is all.
    Begins(Access, &'a [u8]),
    /// It can be answered in a block, and sent later; that is all.
    Defers(Tag, &'a [u8]),
    /// It ends a transaction, and that is all.
    Ends(Ends),
    /// It sets all settings back, and that is all.
    ResetsAll,
    /// It changes what names of statements mean, and reads.
    Prepares,
    /// It may write.
    Writes(Why),
}

impl Class<'_> {
    /// Whether it may write.
    #[must_use]
    pub(in crate::session) fn writes(self) -> bool {
        self.why().is_some()
    }

    /// Why it may write, if it may.
    #[must_use]
    pub(in crate::session) fn why(self) -> Option<Why> {
        if let Class::Writes(why) = self {
            Some(why)
        } else {
            None
        }
    }
}

/// A unit.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::session) struct Unit<'a> {
    /// From the front.
    pub(in crate::session) bytes: usize,
    pub(in crate::session) end: End,
    pub(in crate::session) class: Class<'a>,
    /// How many statements it executes, as far as messages tell.
    pub(in crate::session) executes: u32,
    /// Its first statement begins a block, whatever else there is.
    pub(in crate::session) begins_block: bool,
    /// It is nothing but `ROLLBACK TO`.
    pub(in crate::session) goes_back: bool,
    /// It is nothing but one statement, as far as its text tells.
    pub(in crate::session) alone: bool,
    /// How many of its bytes come in front of its first Bind, or of its end.
    pub(in crate::session) front: usize,
    /// From there on there are only Binds, Executes, and what concerns portals.
    pub(in crate::session) plain: bool,
    /// It is sent again as a whole if it was refused: otherwise from its first Bind on.
    pub(in crate::session) from_start: bool,
    /// What is known when it has gone on.
    pub(in crate::session) notes: Vec<Note>,
}

/// Reads the unit at the front of `bytes`, which begin a message. When it is `full`, no more can be had
/// before something of it has gone on. Where nobody can be asked, what is not known may write.
#[must_use]
pub(in crate::session) fn look<'a>(
    bytes: &'a [u8],
    full: bool,
    names: &'a Names,
    asks: bool,
) -> Look<'a> {
    let mut batch = Batch::new(names, asks);
    loop {
        let Some((header, rest)) = bytes[batch.at..].split_first_chunk::<HEADER_LEN>() else {
            return batch.part(full, bytes.len());
        };
        let Ok(Header { tag, body }) = Header::parse(header) else {
            // Whoever forwards it says what is wrong with it.
            return batch.ends_before(Look::Passes(bytes.len()));
        };
        let length = usize::try_from(body).unwrap_or(usize::MAX);
        match tag {
            tag::QUERY | tag::FUNCTION_CALL if batch.at > 0 => return batch.ends(End::Cut),
            tag::FUNCTION_CALL => {
                let bytes = HEADER_LEN.saturating_add(length);
                let class = Class::Writes(Why::Unknown);
                return Look::Unit(Unit::alone(bytes, End::Call, class));
            }
            tag::FLUSH if batch.at > 0 => {}
            tag::QUERY
            | tag::SYNC
            | tag::PARSE
            | tag::BIND
            | tag::DESCRIBE
            | tag::EXECUTE
            | tag::CLOSE => {}
            // A Flush in front of everything too: it asks for nothing, however long it is.
            _ => {
                let whole = HEADER_LEN.saturating_add(length).min(bytes.len());
                return batch.ends_before(Look::Passes(whole));
            }
        }
        let Some(body) = rest.get(..length) else {
            return match tag {
                tag::BIND if full => batch.long_bind(rest, bytes.len()),
                _ => batch.part(full, bytes.len()),
            };
        };
        if tag == tag::QUERY {
            return query(body, HEADER_LEN + length, names, asks);
        }
        if let Err(name) = batch.message(tag, body) {
            return Look::Asks(name);
        }
        batch.at += HEADER_LEN + length;
        match tag {
            tag::SYNC => return batch.ends(End::Sync),
            tag::FLUSH => return batch.ends(End::Flush),
            _ => {}
        }
    }
}

impl Unit<'_> {
    /// Of one message, or of one that is not looked into.
    pub(super) fn alone(bytes: usize, end: End, class: Class<'_>) -> Unit<'_> {
        Unit {
            bytes,
            end,
            class,
            executes: 1,
            begins_block: false,
            goes_back: false,
            alone: false,
            front: 0,
            plain: true,
            from_start: true,
            notes: Vec::new(),
        }
    }
}

fn query<'a>(body: &'a [u8], bytes: usize, names: &'a Names, asks: bool) -> Look<'a> {
    let sql = match body.split_last() {
        Some((0, sql)) if !sql.contains(&0) => sql,
        _ => {
            let class = Class::Writes(Why::Unknown);
            return Look::Unit(Unit::alone(bytes, End::Query, class));
        }
    };
    let (shape, alone) = shape_and_alone(sql);
    let class = match meaning(shape, sql, names) {
        Ok(class) => class,
        Err(name) if asks => return Look::Asks(name),
        Err(_) => Class::Writes(Why::Unknown),
    };
    let verb = verb_of(sql);
    let mut unit = Unit::alone(bytes, End::Query, class);
    unit.begins_block = verb == Text::Begins;
    unit.goes_back = verb == Text::Lone(Verb::RollbackTo);
    unit.alone = alone || matches!(shape, Shape::Executes(_));
    if !unit.alone {
        // Any of several statements may be one that prepares.
        unit.notes.push(Note::AllChanged);
    }
    Look::Unit(unit)
}

/// What a text of this shape does, or the name of a statement that has to be known first.
pub(super) fn meaning<'a>(
    shape: Shape<'a>,
    sql: &'a [u8],
    names: &'a Names,
) -> Result<Class<'a>, &'a [u8]> {
    Ok(match shape {
        Shape::Empty => Class::Empty,
        Shape::Reads => Class::Reads,
        Shape::Begins(Access::ReadWrite) => Class::Writes(Why::Escape),
        Shape::Begins(access) => Class::Begins(access, sql),
        Shape::Defers(tag) => Class::Defers(tag, sql),
        Shape::Ends(ends) => Class::Ends(ends),
        Shape::ResetsAll => Class::ResetsAll,
        Shape::Prepares => Class::Prepares,
        Shape::Writes(why) => Class::Writes(why),
        // No statement that EXECUTE can name is anything else than a plan.
        Shape::Executes(name) => match names.statement(name).ok_or(name)? {
            Known::Reads | Known::Missing => Class::Reads,
            Known::Writes(why) => Class::Writes(*why),
            Known::Empty | Known::Ends(_) | Known::ResetsAll | Known::Prepares | Known::Text(_) => {
                Class::Writes(Why::Unknown)
            }
        },
    })
}

/// What is known to do what.
pub(super) fn known<'a>(known: &'a Known, names: &'a Names) -> Result<Class<'a>, &'a [u8]> {
    Ok(match known {
        // The server says that there is none.
        Known::Missing => Class::Reads,
        Known::Empty => Class::Empty,
        Known::Reads => Class::Reads,
        Known::Ends(ends) => Class::Ends(*ends),
        Known::ResetsAll => Class::ResetsAll,
        Known::Prepares => Class::Prepares,
        Known::Writes(why) => Class::Writes(*why),
        Known::Text(text) => meaning(shape(text), text, names)?,
    })
}
