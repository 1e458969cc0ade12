//! Extended messages, one after the other, up to the end of their unit.

use super::names::{Known, Names, Note, SoFar};
use super::unit::{Class, End, Look, Unit, known, meaning};
use crate::session::class::{Ends, Shape, Why, shape};
use crate::session::verb::{Text, Verb, text as verb_of};
use crate::wire::frontend::tag;

/// A portal that the batch makes.
#[derive(Debug)]
struct Bound<'a> {
    portal: &'a [u8],
    class: Class<'a>,
    executed: bool,
}

/// A statement that the batch prepares.
#[derive(Debug)]
struct Parsed<'a> {
    name: &'a [u8],
    text: &'a [u8],
    shape: Shape<'a>,
    class: Class<'a>,
}

/// Extended messages as far as they were read.
#[derive(Debug)]
pub(super) struct Batch<'a> {
    names: &'a Names,
    asks: bool,
    /// How many bytes of whole messages were read.
    pub(super) at: usize,
    parsed: Vec<Parsed<'a>>,
    bound: Vec<Bound<'a>>,
    executed: Vec<Class<'a>>,
    so_far: SoFar,
    notes: Vec<Note>,
    /// See the fields of the same names in [`Unit`].
    front: Option<usize>,
    plain: bool,
    closes: bool,
}

impl<'a> Batch<'a> {
    pub(super) fn new(names: &'a Names, asks: bool) -> Batch<'a> {
        Batch {
            names,
            asks,
            at: 0,
            parsed: Vec::new(),
            bound: Vec::new(),
            executed: Vec::new(),
            so_far: names.so_far,
            notes: Vec::new(),
            front: None,
            plain: true,
            closes: false,
        }
    }

    /// Reads a message. `Err` is the name of a statement that has to be known first.
    pub(super) fn message(&mut self, tag: u8, body: &'a [u8]) -> Result<(), &'a [u8]> {
        match tag {
            tag::PARSE => self.parse(body)?,
            tag::BIND => self.bind(body)?,
            tag::EXECUTE => self.execute(body)?,
            tag::CLOSE => self.close(body),
            tag::DESCRIBE => self.plain &= self.front.is_none() || body.first() == Some(&b'P'),
            _ => {}
        }
        Ok(())
    }

    fn parse(&mut self, body: &'a [u8]) -> Result<(), &'a [u8]> {
        self.plain &= self.front.is_none();
        let named = until_zero(body);
        let text = named.and_then(|(name, rest)| Some((name, until_zero(rest)?.0)));
        let Some((name, text)) = text else {
            // The server refuses it.
            return Ok(());
        };
        let shape = shape(text);
        let class = if let Shape::Executes(name) = shape
            && self.may_be_there_now(name)
        {
            Class::Writes(Why::Unknown)
        } else {
            self.unless_asked(meaning(shape, text, self.names))?
        };
        self.notes
            .push(Note::Statement(name.into(), Known::of(shape, text)));
        self.parsed.push(Parsed {
            name,
            text,
            shape,
            class,
        });
        Ok(())
    }

    fn bind(&mut self, body: &'a [u8]) -> Result<(), &'a [u8]> {
        self.front.get_or_insert(self.at);
        let named = until_zero(body);
        let both = named.and_then(|(portal, rest)| Some((portal, until_zero(rest)?.0)));
        let Some((portal, statement)) = both else {
            return Ok(());
        };
        let here = self.parsed.iter().rev().find(|one| one.name == statement);
        let (class, remembered) = match (here, self.names.statement(statement)) {
            (Some(one), _) => (one.class, Known::of(one.shape, one.text)),
            (None, Some(_)) if self.may_be_there_now(statement) => {
                let why = Why::Unknown;
                (Class::Writes(why), Known::Writes(why))
            }
            (None, Some(it)) => {
                let class = self.unless_asked(known(it, self.names))?;
                (class, it.clone())
            }
            (None, None) if statement.is_empty() || !self.asks => {
                let why = Why::Unknown;
                (Class::Writes(why), Known::Writes(why))
            }
            (None, None) => return Err(statement),
        };
        self.notes.push(Note::Portal(portal.into(), remembered));
        self.bound.push(Bound {
            portal,
            class,
            executed: false,
        });
        Ok(())
    }

    fn execute(&mut self, body: &'a [u8]) -> Result<(), &'a [u8]> {
        self.plain &= self.front.is_some();
        self.front.get_or_insert(self.at);
        let Some((portal, _most)) = until_zero(body) else {
            return Ok(());
        };
        let here = self.bound.iter_mut().rev().find(|one| one.portal == portal);
        let class = match (here, self.names.portal(portal)) {
            (Some(one), _) => {
                one.executed = true;
                one.class
            }
            (None, Some(it)) => self.unless_asked(known(it, self.names))?,
            // A cursor, which reads; or there is none.
            (None, None) => Class::Reads,
        };
        self.executed.push(self.so_far.then(class));
        Ok(())
    }

    /// There was no such statement, but what this batch called may have prepared it.
    fn may_be_there_now(&self, name: &[u8]) -> bool {
        self.so_far.ran && self.names.statement(name) == Some(&Known::Missing)
    }

    /// What is not known may write, where nobody can be asked.
    fn unless_asked(&self, class: Result<Class<'a>, &'a [u8]>) -> Result<Class<'a>, &'a [u8]> {
        match class {
            Err(_) if !self.asks => Ok(Class::Writes(Why::Unknown)),
            other => other,
        }
    }

    fn close(&mut self, body: &'a [u8]) {
        if let Some((b'S', name)) = body.split_first() {
            self.plain &= self.front.is_none();
            self.closes = true;
            let name = name.strip_suffix(&[0]).unwrap_or(name);
            self.notes.push(Note::Closed(name.into()));
            self.parsed.retain(|one| one.name != name);
        }
    }

    /// A Bind that is longer than what can be had at once: its names are at its front.
    pub(super) fn long_bind(mut self, there: &'a [u8], all: usize) -> Look<'a> {
        let names = there.iter().filter(|byte| **byte == 0).count();
        if names < 2 {
            return self.part(true, all);
        }
        match self.bind(there) {
            Ok(()) => {
                self.at = all;
                self.ends(End::Cut)
            }
            Err(name) => Look::Asks(name),
        }
    }

    /// No more is there. With a `full` store what is there has to go on first.
    pub(super) fn part(self, full: bool, all: usize) -> Look<'a> {
        match (full, self.at) {
            (false, _) => Look::More,
            // A message that is so long that its text is not looked at.
            (true, 0) => Look::Unit(Unit::alone(all, End::Cut, Class::Writes(Why::Unknown))),
            (true, _) => self.ends(End::Cut),
        }
    }

    /// Something comes that does not belong to it, and is this if it comes first.
    pub(super) fn ends_before(self, otherwise: Look<'a>) -> Look<'a> {
        match self.at {
            0 => otherwise,
            _ => self.ends(End::Cut),
        }
    }

    pub(super) fn ends(mut self, end: End) -> Look<'a> {
        let class = self.class(end);
        if self.executed.contains(&Class::Prepares) {
            self.notes.push(Note::AllChanged);
        }
        if end != End::Sync {
            self.notes.push(Note::SoFar(self.so_far));
        }
        let first = self.executed.first();
        let only = match self.parsed.as_slice() {
            [only] => Some(only),
            _ => None,
        };
        let executes = u32::try_from(self.executed.len()).unwrap_or(u32::MAX);
        Look::Unit(Unit {
            bytes: self.at,
            end,
            class,
            executes,
            begins_block: matches!(first, Some(Class::Begins(..))),
            goes_back: executes == 1
                && only.is_some_and(|one| verb_of(one.text) == Text::Lone(Verb::RollbackTo)),
            alone: executes == 1,
            front: self.front.unwrap_or(self.at),
            plain: self.plain,
            from_start: !self.closes && self.parsed.iter().all(|one| one.name.is_empty()),
            notes: self.notes,
        })
    }

    /// What it all amounts to.
    fn class(&self, end: End) -> Class<'a> {
        let mut class = Class::Nothing;
        for executed in &self.executed {
            class = both(class, *executed);
        }
        for bound in self.bound.iter().filter(|bound| !bound.executed) {
            let reads = !bound.class.writes();
            class = both(class, if reads { Class::Reads } else { bound.class });
        }
        if end != End::Sync {
            // What is prepared is about to be executed, and the server has it open until then.
            for parsed in &self.parsed {
                if parsed.class.writes() {
                    class = both(class, parsed.class);
                } else if class == Class::Nothing {
                    class = Class::Reads;
                }
            }
        }
        class
    }
}

impl SoFar {
    /// One more statement is executed; gives what it amounts to behind the others.
    fn then<'a>(&mut self, class: Class<'a>) -> Class<'a> {
        match class {
            Class::Nothing | Class::Empty | Class::Writes(_) => class,
            _ if self.reset => Class::Writes(Why::Escape),
            Class::Reads if self.committed => Class::Writes(Why::Escape),
            Class::Reads if self.prepared => Class::Writes(Why::Unknown),
            Class::Reads => {
                self.ran = true;
                class
            }
            Class::Ends(Ends::Commit) => {
                self.committed |= self.ran;
                class
            }
            Class::ResetsAll => {
                self.reset = true;
                class
            }
            Class::Prepares => {
                self.prepared = true;
                class
            }
            Class::Begins(..) | Class::Defers(..) | Class::Ends(Ends::Rollback) => class,
        }
    }
}

/// What two statements are, one behind the other.
fn both<'a>(first: Class<'a>, second: Class<'a>) -> Class<'a> {
    match (first, second) {
        (Class::Nothing, other) | (other, Class::Nothing) => other,
        (writes @ Class::Writes(_), _) | (_, writes @ Class::Writes(_)) => writes,
        // What comes behind it could write, before it is undone.
        (Class::ResetsAll, _) | (_, Class::ResetsAll) => Class::Writes(Why::Escape),
        (Class::Prepares, _) | (_, Class::Prepares) => Class::Prepares,
        (
            Class::Empty | Class::Reads | Class::Begins(..) | Class::Defers(..) | Class::Ends(_),
            Class::Empty | Class::Reads | Class::Begins(..) | Class::Defers(..) | Class::Ends(_),
        ) => Class::Reads,
    }
}

fn until_zero(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.iter().position(|b| *b == 0)?;
    Some((&bytes[..end], &bytes[end + 1..]))
}
