//! How far a file without a transaction came: what its own transactions have counted, and for the one
//! statement that none could count, what the catalogs hold.

use std::sync::Arc;
use std::time::Duration;

use super::probe::{Probe, probe};
use crate::runner::class::Class;
use crate::runner::connect::{ConnectError, Connector, Session};
use crate::runner::history::Suspect;
use crate::runner::report::{Failure, chain};
use crate::runner::script::{Script, TxMode, headline};
use crate::runner::shape::quote;
use crate::runner::source::SqlFile;

/// A session that looks; it clears away what it is told to as well.
pub(super) struct Looker {
    session: Session,
}

/// Something that is half-done, and what makes it undone or whole.
pub(super) struct Remains {
    /// The statement that does it.
    pub(super) sql: String,
    /// The same in words.
    pub(super) done: String,
}

/// What was found out about a file.
pub(super) enum Judged {
    /// So many statements are done, and the next is not, once the remains are cleared.
    Stands {
        done: u32,
        remains: Vec<Remains>,
        found: Vec<String>,
    },
    /// It cannot be told.
    CannotTell { found: Vec<String> },
}

impl Looker {
    /// A session of our role.
    pub(super) async fn connect(
        connector: &Arc<Connector>,
        database: &str,
    ) -> Result<Self, ConnectError> {
        let session = connector.connect(database, Box::new(|_| {})).await?;
        Ok(Self { session })
    }

    pub(super) async fn close(self) {
        self.session.close(Duration::from_secs(5)).await;
    }

    /// Runs a statement that clears remains. It waits for those that use them, as the statement that
    /// left them did: a `lock_timeout` would leave more of them.
    pub(super) async fn clear(&self, sql: &str) -> Result<(), String> {
        let set = "set lock_timeout = 0; set statement_timeout = '10min'";
        for sql in [set, sql] {
            let done = self.session.client.batch_execute(sql).await;
            done.map_err(|error| Failure::from_error(&error).to_string())?;
        }
        Ok(())
    }

    /// Finds out how far a file came.
    ///
    /// # Errors
    /// Why it could not be looked at.
    pub(super) async fn judge(
        &self,
        suspect: &Suspect,
        owner: Option<&str>,
    ) -> Result<Judged, String> {
        let (done, total) = suspect.statements;
        if suspect.mode != TxMode::None {
            let text =
                "the file ended the runner's transaction by itself, and part of it is committed";
            return Ok(Judged::CannotTell {
                found: vec![text.to_owned()],
            });
        }
        let mut found = vec![match (done, suspect.counted) {
            (0, true) => "no statement of it is counted as done".to_owned(),
            (0, false) => "no statement of it is recorded as done".to_owned(),
            (1, true) => "statement 1 is done: its own transaction counted it".to_owned(),
            (_, true) => format!("statements 1 to {done} are done: each is counted"),
            (_, false) => format!("statements 1 to {done} are recorded as done"),
        }];
        let in_doubt = match (suspect.counted, suspect.alone) {
            (true, None) => None,
            (true, alone) => alone,
            (false, _) => Some(done + 1).filter(|it| *it <= total),
        };
        let Some(number) = in_doubt else {
            if done < total {
                found.push(format!(
                    "statement {} is not: it would be counted",
                    done + 1
                ));
            }
            let remains = Vec::new();
            return Ok(Judged::Stands {
                done,
                remains,
                found,
            });
        };
        if number != done + 1 {
            found.push(format!(
                "statement {number} was sent, which is not the next"
            ));
            return Ok(Judged::CannotTell { found });
        }
        self.judge_statement(suspect, owner, number, found).await
    }

    async fn judge_statement(
        &self,
        suspect: &Suspect,
        owner: Option<&str>,
        number: u32,
        mut found: Vec<String>,
    ) -> Result<Judged, String> {
        let done = number - 1;
        let text = suspect
            .text
            .as_deref()
            .ok_or("its text is not in the history")?;
        let script = Script::of(&SqlFile::new(&suspect.name, text));
        let cut = script.ok();
        let script = cut.ok_or("its text in the history cannot be cut any more")?;
        let statement = script.statements().get(done as usize);
        let statement = statement.ok_or("its text in the history has fewer statements")?;
        let sql = script.written(statement);
        let what = headline(sql);
        self.stand_where_it_stood(&script, owner, done as usize)
            .await?;
        let probed = probe(&self.session.client, sql).await;
        let probed = probed
            .map_err(|error| format!("the catalogs could not be asked: {}", chain(&error)))?;
        let told =
            |text: &str| format!("statement {number} ({what}) was sent and is not counted: {text}");
        let by_itself = matches!(what.split(' ').next(), Some("DO" | "CALL"))
            && statement.class == Class::Ordinary;
        let refused = refused(suspect.sqlstate.as_deref()).filter(|_| !by_itself);
        let (done, remains) = match (probed, refused) {
            (Probe::Remains { text, sql, cleared }, _) => {
                found.push(told(&text));
                (done, vec![Remains { sql, done: cleared }])
            }
            (Probe::Finish { text, sql, cleared }, _) => {
                found.push(told(&text));
                (number, vec![Remains { sql, done: cleared }])
            }
            (Probe::NotDone(text), _) => {
                found.push(told(&text));
                (done, Vec::new())
            }
            (Probe::Done(_) | Probe::CannotTell, Some(sqlstate)) => {
                found.push(told(&format!(
                    "the server refused it ({sqlstate}), so it is not done"
                )));
                (done, Vec::new())
            }
            (Probe::Done(text), None) => {
                found.push(told(&text));
                (number, Vec::new())
            }
            (Probe::CannotTell, None) => {
                found.push(told("nothing in the catalogs tells whether it happened"));
                return Ok(Judged::CannotTell { found });
            }
        };
        Ok(Judged::Stands {
            done,
            remains,
            found,
        })
    }

    /// Gives the session the role and the settings that the file's had, so that names mean the same.
    async fn stand_where_it_stood(
        &self,
        script: &Script,
        owner: Option<&str>,
        done: usize,
    ) -> Result<(), String> {
        let owner = script.directives().owner.as_deref().or(owner);
        let role = owner.map(|owner| format!("set role {}", quote(owner)));
        let before = script.statements().iter().take(done);
        let settings = before.filter(|it| it.class == Class::Session);
        let settings = settings.map(|it| script.sql(it).to_owned());
        for sql in role.into_iter().chain(settings) {
            let set = self.session.client.batch_execute(&sql).await;
            set.map_err(|error| Failure::from_error(&error).to_string())?;
        }
        let limits = "set lock_timeout = '10s'; set statement_timeout = '30s'";
        let set = self.session.client.batch_execute(limits).await;
        set.map_err(|error| Failure::from_error(&error).to_string())
    }
}

/// What the server refused a statement for, if it surely answered before anything was committed. An end
/// of the connection, of the process or of the server says nothing about that.
fn refused(sqlstate: Option<&str>) -> Option<&str> {
    sqlstate.filter(|it| {
        !["08", "57P", "58", "XX"]
            .iter()
            .any(|class| it.starts_with(class))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_of_the_connection_is_no_answer() {
        assert_eq!(refused(Some("23505")), Some("23505"));
        assert_eq!(refused(Some("57014")), Some("57014"));
        for none in [
            None,
            Some("57P01"),
            Some("08006"),
            Some("XX000"),
            Some("58030"),
        ] {
            assert_eq!(refused(none), None);
        }
    }
}
