//! The extended protocol: a command is parsed, bound, described and executed in messages of their own.

use super::command;
use super::complaint::Complaint;
use super::desk::Place;
use super::prepared::{Course, Portal};
use super::talk::{Block, End, Talk, bad_message, columns, utf8};
use super::value::Formats;
use crate::admin::api::Api;
use crate::wire::asked;
use crate::wire::backend::command_complete;
use crate::wire::rows::{
    BIND_COMPLETE, CLOSE_COMPLETE, EMPTY_QUERY, NO_DATA, PARSE_COMPLETE, PORTAL_SUSPENDED,
    no_parameters, row_description,
};

impl<A: Api> Talk<A> {
    pub(super) fn sync(&mut self) {
        self.skipping = false;
        if self.block == Block::None {
            self.prepared.end_portals();
        }
        self.ready();
    }

    pub(super) fn parse(&mut self, body: &[u8]) -> Result<(), End> {
        let parse = asked::parse(body).ok_or_else(|| bad_message("Parse"))?;
        let one = utf8(parse.sql).and_then(|text| {
            let mut commands = command::read(text)?;
            if commands.len() > 1 {
                let text = "cannot insert multiple commands into a prepared statement";
                return Err(Complaint::syntax(text));
            }
            self.prepared.put_statement(parse.statement, commands.pop())
        });
        self.said(one, &PARSE_COMPLETE);
        Ok(())
    }

    pub(super) fn bind(&mut self, body: &[u8]) -> Result<(), End> {
        let bind = asked::bind(body).ok_or_else(|| bad_message("Bind"))?;
        let formats = Formats(bind.formats);
        let (name, statement, parameters) = (bind.portal, bind.statement, bind.parameters);
        let bound = self.prepared.statement(statement).cloned();
        let bound = bound.and_then(|command| {
            if parameters > 0 {
                let text = format!(
                    "bind message supplies {parameters} parameters, and commands of the console have \
                     none"
                );
                return Err(Complaint::new("08P01", text).hint("Write values into the text."));
            }
            let width = command.as_ref().and_then(columns).map_or(0, |it| it.len());
            if !formats.fit(width) {
                let text = "the formats of the results fit neither their number nor what there is";
                return Err(Complaint::new("08P01", text));
            }
            let portal = Portal {
                command,
                formats,
                course: Course::Bound,
            };
            self.prepared.put_portal(name, portal)
        });
        self.said(bound, &BIND_COMPLETE);
        Ok(())
    }

    pub(super) fn describe(&mut self, body: &[u8]) -> Result<(), End> {
        let named = asked::named(body).ok_or_else(|| bad_message("Describe"))?;
        let (is_portal, name) = (named.portal, named.name);
        let found = match is_portal {
            true => {
                let portal = self.prepared.portal(name);
                portal.map(|portal| (portal.command.clone(), portal.formats.clone()))
            }
            false => {
                let statement = self.prepared.statement(name);
                statement.map(|command| (command.clone(), Formats::default()))
            }
        };
        match found {
            Err(complaint) => self.fail(&complaint),
            Ok((command, formats)) => {
                if !is_portal {
                    no_parameters(&mut self.out);
                }
                match command.as_ref().and_then(columns) {
                    None => self.out.extend_from_slice(&NO_DATA),
                    Some(columns) => {
                        let fields = columns.iter().enumerate();
                        let fields = fields.map(|(at, column)| column.field(formats.binary(at)));
                        row_description(&mut self.out, fields);
                    }
                }
            }
        }
        Ok(())
    }

    pub(super) async fn execute(&mut self, body: &[u8], place: &Place) -> Result<(), End> {
        let execute = asked::execute(body).ok_or_else(|| bad_message("Execute"))?;
        let (name, most) = (execute.portal, execute.rows);
        let portal = match self.prepared.portal(name) {
            Ok(portal) => portal.clone(),
            Err(complaint) => {
                self.fail(&complaint);
                return Ok(());
            }
        };
        let Some(command) = portal.command else {
            self.out.extend_from_slice(&EMPTY_QUERY);
            return Ok(());
        };
        let mut rows = match portal.course {
            Course::Bound => match self.run(&command, place).await? {
                Ok(done) => {
                    self.notices(&done);
                    done.rows.into_iter()
                }
                Err(complaint) => {
                    self.fail(&complaint);
                    return Ok(());
                }
            },
            Course::Rows(rows) => rows,
            Course::Over if columns(&command).is_some() => Vec::new().into_iter(),
            Course::Over => {
                self.fail(&Complaint::new("55000", "the portal cannot be run again"));
                return Ok(());
            }
        };
        let columns = columns(&command).unwrap_or_default();
        let mut sent = 0;
        while most.is_none_or(|most| sent < most) {
            let Some(row) = rows.next() else { break };
            self.row(&columns, &row, &portal.formats).await?;
            sent += 1;
        }
        let suspended = most == Some(sent);
        // A rollback has taken it away.
        if let Ok(kept) = self.prepared.portal_mut(name) {
            kept.course = match suspended {
                true => Course::Rows(rows),
                false => Course::Over,
            };
        }
        match suspended {
            true => self.out.extend_from_slice(&PORTAL_SUSPENDED),
            false => self.out.extend_from_slice(&command_complete(command.tag())),
        }
        Ok(())
    }

    pub(super) fn close(&mut self, body: &[u8]) -> Result<(), End> {
        let named = asked::named(body).ok_or_else(|| bad_message("Close"))?;
        self.prepared.close(named.portal, named.name);
        self.out.extend_from_slice(&CLOSE_COMPLETE);
        Ok(())
    }

    fn said(&mut self, outcome: Result<(), Complaint>, good: &[u8]) {
        match outcome {
            Ok(()) => self.out.extend_from_slice(good),
            Err(complaint) => self.fail(&complaint),
        }
    }

    /// What is left of the batch is passed over.
    fn fail(&mut self, complaint: &Complaint) {
        self.complain(complaint);
        self.skipping = true;
    }
}
