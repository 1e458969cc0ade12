//! Statements and portals of the extended protocol (Postgres documentation section 55.2.3).

use std::collections::HashMap;

use super::command::Command;
use super::complaint::Complaint;
use super::value::{Formats, Row};

/// The most statements, and the most portals, that one connection may have.
const NAMES_MAX: usize = 64;

/// A statement that is bound.
#[derive(Debug, Clone)]
pub(super) struct Portal {
    /// Nothing stands for an empty text.
    pub(super) command: Option<Command>,
    pub(super) formats: Formats,
    pub(super) course: Course,
}

/// How far it has come.
#[derive(Debug, Clone)]
pub(super) enum Course {
    /// It was not carried out yet.
    Bound,
    /// These rows are left to be sent.
    Rows(std::vec::IntoIter<Row>),
    /// It was carried out, and all was sent.
    Over,
}

/// All of one connection.
#[derive(Debug, Default)]
pub(super) struct Prepared {
    statements: HashMap<Vec<u8>, Option<Command>>,
    portals: HashMap<Vec<u8>, Portal>,
}

impl Prepared {
    /// Keeps a statement; only the unnamed one may take another's place.
    pub(super) fn put_statement(
        &mut self,
        name: &[u8],
        command: Option<Command>,
    ) -> Result<(), Complaint> {
        room(self.statements.len())?;
        if !name.is_empty() && self.statements.contains_key(name) {
            return Err(exists("42P05", "prepared statement", name));
        }
        self.statements.insert(name.to_vec(), command);
        Ok(())
    }

    pub(super) fn statement(&self, name: &[u8]) -> Result<&Option<Command>, Complaint> {
        let found = self.statements.get(name);
        found.ok_or_else(|| missing("26000", "prepared statement", name))
    }

    /// Keeps a portal; only the unnamed one may take another's place.
    pub(super) fn put_portal(&mut self, name: &[u8], portal: Portal) -> Result<(), Complaint> {
        room(self.portals.len())?;
        if !name.is_empty() && self.portals.contains_key(name) {
            return Err(exists("42P03", "portal", name));
        }
        self.portals.insert(name.to_vec(), portal);
        Ok(())
    }

    pub(super) fn portal(&self, name: &[u8]) -> Result<&Portal, Complaint> {
        let found = self.portals.get(name);
        found.ok_or_else(|| missing("34000", "portal", name))
    }

    pub(super) fn portal_mut(&mut self, name: &[u8]) -> Result<&mut Portal, Complaint> {
        let found = self.portals.get_mut(name);
        found.ok_or_else(|| missing("34000", "portal", name))
    }

    /// Forgets one; that there is none is no error.
    pub(super) fn close(&mut self, is_portal: bool, name: &[u8]) {
        match is_portal {
            true => drop(self.portals.remove(name)),
            false => drop(self.statements.remove(name)),
        }
    }

    /// Forgets the portals, as the end of a transaction does.
    pub(super) fn end_portals(&mut self) {
        self.portals.clear();
    }

    /// Forgets the unnamed statement, as a simple query does.
    pub(super) fn end_unnamed(&mut self) {
        self.statements.remove(&b""[..]);
    }
}

fn room(taken: usize) -> Result<(), Complaint> {
    if taken < NAMES_MAX {
        return Ok(());
    }
    let text = format!("the console keeps {NAMES_MAX} statements and portals at most");
    Err(Complaint::new("54000", text))
}

fn exists(sqlstate: &'static str, what: &str, name: &[u8]) -> Complaint {
    let name = String::from_utf8_lossy(name);
    Complaint::new(sqlstate, format!("{what} \"{name}\" already exists"))
}

fn missing(sqlstate: &'static str, what: &str, name: &[u8]) -> Complaint {
    let name = String::from_utf8_lossy(name);
    Complaint::new(sqlstate, format!("{what} \"{name}\" does not exist"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_once_and_are_few() {
        let mut prepared = Prepared::default();
        let begin = || Some(Command::Begin);
        assert_eq!(prepared.put_statement(b"", begin()), Ok(()));
        assert_eq!(prepared.put_statement(b"", None), Ok(()));
        assert_eq!(prepared.statement(b""), Ok(&None));
        assert_eq!(prepared.put_statement(b"a", begin()), Ok(()));
        let twice = prepared.put_statement(b"a", begin()).expect_err("taken");
        assert_eq!(twice.sqlstate, "42P05");
        prepared.close(false, b"a");
        assert_eq!(
            prepared.statement(b"a").expect_err("closed").sqlstate,
            "26000"
        );
        for number in 0..NAMES_MAX - 1 {
            let name = number.to_string();
            assert_eq!(prepared.put_statement(name.as_bytes(), begin()), Ok(()));
        }
        let full = prepared.put_statement(b"more", begin()).expect_err("full");
        assert_eq!(full.sqlstate, "54000");
    }
}
