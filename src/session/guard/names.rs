//! What prepared statements and portals are, as far as it is known: from their Parse and Bind, or
//! because the server was asked. Not more than a bounded number is kept; what is forgotten is asked for
//! again.

use std::collections::BTreeMap;

use crate::session::class::{Ends, Shape, Why, shape};

/// So many names of each kind are kept.
const NAMES_MAX: usize = 512;

/// A longer name, or the text of a statement that is kept for its text, is not.
const LENGTH_MAX: usize = 2048;

/// What a prepared statement does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::session) enum Known {
    /// There is none of this name.
    Missing,
    /// Nothing.
    Empty,
    /// It reads.
    Reads,
    /// It ends a transaction.
    Ends(Ends),
    /// It sets all settings back.
    ResetsAll,
    /// It changes what names mean.
    Prepares,
    /// It may write.
    Writes(Why),
    /// The text of one that has to be read again: what begins a transaction, is deferred, or executes
    /// another.
    Text(Box<[u8]>),
}

impl Known {
    /// Of the text of a Parse, which has this shape.
    pub(in crate::session) fn of(shape: Shape<'_>, text: &[u8]) -> Known {
        match shape {
            Shape::Empty => Known::Empty,
            Shape::Reads => Known::Reads,
            Shape::Ends(ends) => Known::Ends(ends),
            Shape::ResetsAll => Known::ResetsAll,
            Shape::Prepares => Known::Prepares,
            Shape::Writes(why) => Known::Writes(why),
            Shape::Begins(_) | Shape::Defers(_) | Shape::Executes(_) => {
                if text.len() <= LENGTH_MAX {
                    Known::Text(text.into())
                } else {
                    Known::Writes(Why::Unknown)
                }
            }
        }
    }

    /// Of what the server has for a name, a row of its text, if that is not too long, and whether the
    /// text is that of a `PREPARE`.
    pub(in crate::session) fn of_row(row: &[u8]) -> Known {
        let columns = row.strip_prefix(&[0, 2]).and_then(column);
        match columns.and_then(|(text, rest)| Some((text, column(rest)?.0))) {
            Some((Some(text), Some(b"f"))) => Known::of(shape(text), text),
            Some((Some(text), Some(b"t"))) => Known::of_prepare(text),
            _ => Known::Writes(Why::Unknown),
        }
    }

    fn of_prepare(text: &[u8]) -> Known {
        // Only what can be planned can be prepared so: the text behind AS reads or writes.
        match (shape(text), prepared(text).map(shape)) {
            (Shape::Prepares, Some(Shape::Reads)) => Known::Reads,
            _ => Known::Writes(Why::Unknown),
        }
    }
}

/// The value at the front of a row, if it is not NULL, and what is behind it.
fn column(bytes: &[u8]) -> Option<(Option<&[u8]>, &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    match usize::try_from(i32::from_be_bytes(*length)) {
        Ok(length) => rest
            .split_at_checked(length)
            .map(|(value, rest)| (Some(value), rest)),
        Err(_) => Some((None, rest)),
    }
}

/// What a `PREPARE name (types) AS` prepares.
fn prepared(text: &[u8]) -> Option<&[u8]> {
    let (mut rest, mut depth) = (text, 0_u32);
    // Neither a name in quotes nor a comment is looked into: such a text is not known.
    while let Some((first, behind)) = rest.split_first() {
        let of_word = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'$');
        match first {
            b'(' => depth += 1,
            b')' => depth = depth.checked_sub(1)?,
            b'"' | b'\'' | b'-' | b'/' | b';' => return None,
            _ if of_word(first) => {
                let end = rest.iter().position(|b| !of_word(b))?;
                let (word, behind) = rest.split_at(end);
                if depth == 0 && word.eq_ignore_ascii_case(b"as") {
                    return Some(behind);
                }
                rest = behind;
                continue;
            }
            _ => {}
        }
        rest = behind;
    }
    None
}

/// What the statements of a batch have done that counts for those behind them, up to its Sync. What one
/// of them sets is seen only with the answer to the Sync, and undone behind it.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(in crate::session) struct SoFar {
    /// One ran a query, which can set anything by what it calls.
    pub(super) ran: bool,
    /// And what it set counts, for a transaction was committed behind it.
    pub(super) committed: bool,
    /// All settings were set back.
    pub(super) reset: bool,
    /// A name was prepared: what is known of names may not be so.
    pub(super) prepared: bool,
}

/// Something that becomes known, or does not hold any more, when a message has gone on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::session) enum Note {
    /// A statement was prepared.
    Statement(Box<[u8]>, Known),
    /// A portal was made.
    Portal(Box<[u8]>, Known),
    /// A statement was closed.
    Closed(Box<[u8]>),
    /// Any name may mean another statement.
    AllChanged,
    /// The batch goes on.
    SoFar(SoFar),
}

/// All that is known.
#[derive(Debug, Default)]
pub(in crate::session) struct Names {
    statements: BTreeMap<Box<[u8]>, Known>,
    portals: BTreeMap<Box<[u8]>, Known>,
    pub(super) so_far: SoFar,
}

impl Names {
    /// What this prepared statement does, if it is known.
    pub(in crate::session) fn statement(&self, name: &[u8]) -> Option<&Known> {
        self.statements.get(name)
    }

    /// What is executed with this portal, if it is known.
    pub(in crate::session) fn portal(&self, name: &[u8]) -> Option<&Known> {
        self.portals.get(name)
    }

    /// The server has told.
    pub(in crate::session) fn learn(&mut self, name: &[u8], known: Known) {
        remember(&mut self.statements, name, known);
    }

    /// A message went on.
    pub(in crate::session) fn note(&mut self, note: Note) {
        match note {
            // A name that is taken keeps its meaning, unless it is that of the unnamed one; and it may
            // have been given away where nobody saw it.
            Note::Statement(name, known) => {
                let before = self.statements.get(&name);
                let writes = matches!(known, Known::Writes(_));
                let free = before.is_none_or(|known| *known == Known::Missing);
                if name.is_empty() || free || writes {
                    remember(&mut self.statements, &name, known);
                }
            }
            Note::Portal(name, known) => remember(&mut self.portals, &name, known),
            Note::Closed(name) => {
                self.statements.remove(&name);
            }
            Note::AllChanged => self.forget_statements(),
            Note::SoFar(so_far) => self.so_far = so_far,
        }
    }

    /// Something failed: what was noted of late may not be so. The unnamed statement is what its last
    /// Parse said, or there is none.
    pub(in crate::session) fn forget_statements(&mut self) {
        self.statements.retain(|name, _known| name.is_empty());
    }

    /// The batch has ended.
    pub(in crate::session) fn end_batch(&mut self) {
        self.so_far = SoFar::default();
    }

    /// The transaction has ended, and with it its portals.
    pub(in crate::session) fn forget_portals(&mut self) {
        self.portals.clear();
    }
}

fn remember(names: &mut BTreeMap<Box<[u8]>, Known>, name: &[u8], known: Known) {
    if names.len() >= NAMES_MAX && !names.contains_key(name) {
        names.retain(|name, _known| name.is_empty());
    }
    if name.len() <= LENGTH_MAX {
        names.insert(name.into(), known);
    }
}
