//! A whole query string: its statements, and what they amount to together.

use super::lexer::{Token, Tokens};
use super::statement::{self, Kind};
use super::{Access, Ends, Shape, Why};

/// What was seen of a query string.
#[derive(Debug, Default)]
pub(super) struct Unit<'a> {
    /// How many statements there are; when one writes, up to that.
    statements: usize,
    /// The last of them.
    last: Option<Kind<'a>>,
    writes: Option<Why>,
    /// One begins or ends a transaction.
    controls: bool,
    /// One commits a transaction in which functions were called.
    ended: bool,
    calls: bool,
    resets: bool,
    prepares: bool,
    executes: bool,
}

impl<'a> Unit<'a> {
    /// Reads the statements up to the first write.
    pub(super) fn read(sql: &'a [u8]) -> Self {
        let mut tokens = Tokens::new(sql);
        Self::of(&mut tokens)
    }

    pub(super) fn of(tokens: &mut Tokens<'a>) -> Self {
        let mut unit = Unit::default();
        while let (Some(token), None) = (tokens.next(), unit.writes) {
            if token != Token::Semicolon {
                unit.add(statement::read(token, tokens));
            }
        }
        unit
    }

    pub(super) fn reads_alone(&self) -> bool {
        self.statements == 1 && !self.controls && self.shape() == Shape::Reads
    }

    fn add(&mut self, kind: Kind<'a>) {
        self.statements += 1;
        match kind {
            Kind::Reads { calls: false, .. } | Kind::Defers(_) => {}
            // What it calls may have changed what the next transaction can do.
            Kind::Reads { calls: true, .. } if self.ended => self.writes = Some(Why::Escape),
            Kind::Reads { calls: true, .. } => self.calls = true,
            Kind::Begins(_) | Kind::Ends(Ends::Rollback) | Kind::Chains => self.controls = true,
            Kind::Ends(Ends::Commit) => {
                self.controls = true;
                self.ended |= self.calls;
            }
            Kind::ResetsAll => self.resets = true,
            Kind::Executes(_) => self.executes = true,
            Kind::Prepares => self.prepares = true,
            Kind::Writes(why) => self.writes = Some(why),
        }
        // Among others it would let them write.
        let read_write = |kind| matches!(kind, Some(Kind::Begins(Access::ReadWrite)));
        if self.statements > 1 && (read_write(self.last) || read_write(Some(kind))) {
            self.writes.get_or_insert(Why::Escape);
        }
        self.last = Some(kind);
    }

    pub(super) fn reads_anywhere(&self) -> bool {
        let anywhere = matches!(self.last, Some(Kind::Reads { anywhere: true, .. }));
        anywhere && self.reads_alone()
    }

    pub(super) fn shape(&self) -> Shape<'a> {
        if let Some(why) = self.writes {
            return Shape::Writes(why);
        }
        match self.last {
            None => Shape::Empty,
            Some(only) if self.statements == 1 => alone(only),
            Some(_) => self.together(),
        }
    }

    fn together(&self) -> Shape<'a> {
        if self.resets && self.controls {
            Shape::Writes(Why::Escape)
        } else if self.executes || self.resets && self.prepares {
            Shape::Writes(Why::Unknown)
        } else if self.resets {
            Shape::ResetsAll
        } else if self.prepares {
            Shape::Prepares
        } else {
            Shape::Reads
        }
    }
}

fn alone(kind: Kind<'_>) -> Shape<'_> {
    match kind {
        Kind::Reads { .. } | Kind::Chains => Shape::Reads,
        Kind::Begins(access) => Shape::Begins(access),
        Kind::Defers(tag) => Shape::Defers(tag),
        Kind::Ends(ends) => Shape::Ends(ends),
        Kind::ResetsAll => Shape::ResetsAll,
        Kind::Executes(name) => Shape::Executes(name),
        Kind::Prepares => Shape::Prepares,
        Kind::Writes(why) => Shape::Writes(why),
    }
}
