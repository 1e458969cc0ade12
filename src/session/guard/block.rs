//! A transaction block of which the client knows and the server does not yet.

use super::unit::{Class, Unit};

/// So many statements are deferred at most; the next one is sent, and those in front of it.
const STATEMENTS_MAX: usize = 64;

/// So many bytes of their texts are kept at most.
const TEXT_MAX: usize = 16 * 1024;

/// What the client was told of a block that the server knows nothing of.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(in crate::session) enum Block {
    /// There is none: all is as the server says.
    #[default]
    None,
    /// It was begun.
    Begun(Deferred),
    /// It was begun, and has failed since.
    Failed(Deferred),
}

/// The texts of the statements that began it, in their order.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(in crate::session) struct Deferred(Vec<Box<[u8]>>);

impl Deferred {
    /// That of a `BEGIN`.
    pub(in crate::session) fn of(begin: &[u8]) -> Deferred {
        Deferred(vec![begin.into()])
    }

    /// Adds a statement.
    pub(in crate::session) fn add(&mut self, text: &[u8]) {
        self.0.push(text.into());
    }

    /// Whether one more with this text is too many, or too long.
    fn is_full_for(&self, text: &[u8]) -> bool {
        let texts: usize = self.0.iter().map(|text| text.len()).sum();
        self.0.len() >= STATEMENTS_MAX || texts + text.len() > TEXT_MAX
    }

    /// The texts, in their order.
    pub(in crate::session) fn texts(&self) -> impl Iterator<Item = &[u8]> {
        self.0.iter().map(AsRef::as_ref)
    }
}

impl Block {
    /// The status that the client was told last, if it is not the server's.
    pub(in crate::session) fn status(&self) -> Option<u8> {
        match self {
            Block::None => None,
            Block::Begun(_) => Some(b'T'),
            Block::Failed(_) => Some(b'E'),
        }
    }

    /// Whether the statement of this unit is one too many to be deferred, or too long.
    pub(in crate::session) fn is_full_for(&self, unit: &Unit<'_>) -> bool {
        match (unit.class, self) {
            (Class::Begins(_, text) | Class::Defers(_, text), Block::Begun(deferred)) => {
                deferred.is_full_for(text)
            }
            (Class::Begins(_, text), _) => text.len() > TEXT_MAX,
            _ => false,
        }
    }

    /// A statement in it was answered by an error.
    pub(in crate::session) fn fail(&mut self) {
        *self = match std::mem::take(self) {
            Block::Begun(deferred) | Block::Failed(deferred) => Block::Failed(deferred),
            Block::None => Block::None,
        };
    }
}
