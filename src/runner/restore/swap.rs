//! The swap itself: sessions outside of both databases end everybody in them and exchange their names.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;

use super::alike::{Alike, literal};
use crate::runner::backup::BackupError;
use crate::runner::connect::{Connector, Session};
use crate::runner::lock::pause;
use crate::runner::shape::quote;
use crate::runner::stop::Stop;

/// Databases that every server has, and that nobody is expected to restore both of.
const OUTSIDE: [&str; 2] = ["postgres", "template1"];

/// How often it is tried while somebody is in one of the databases: the server waits for five seconds each time.
const TRIES: u32 = 4;

/// Between two looks for sessions to end.
const LOOK: Duration = Duration::from_millis(50);

/// For how long a closing session is waited for.
const CLOSE: Duration = Duration::from_secs(5);

/// Two databases that are to exchange their names, so to speak.
pub(super) struct Swap {
    pub(super) connector: Arc<Connector>,
    /// The name that applications know.
    pub(super) name: String,
    /// The database that has it, by its oid.
    pub(super) old: u32,
    /// The one that gets it, and what it is called until then.
    pub(super) new: u32,
    pub(super) fresh: String,
    /// What the old one is called from then on, and what is written at it.
    pub(super) kept: String,
    pub(super) comment: String,
    /// How the new one is to be beside what it holds.
    pub(super) alike: Alike,
}

/// How it ended.
pub(super) enum Swapped {
    /// The new one has the name.
    Done,
    /// The old one has it still.
    Not(BackupError),
    /// Nobody answered who could say.
    Unknown(String),
}

/// A session outside of a database, on its server, that is called as is said.
pub(super) async fn outside(
    connector: &Arc<Connector>,
    database: &str,
    called: &str,
) -> Result<Session, BackupError> {
    let mut last = None;
    for place in OUTSIDE.into_iter().filter(|place| *place != database) {
        match connector.connect_beside(database, place).await {
            Ok(session) => {
                let settings = format!(
                    "set application_name = {}; set statement_timeout = '30s'; set lock_timeout = '20s'; \
                     set idle_session_timeout = 0; set default_transaction_read_only = off; \
                     set standard_conforming_strings = on; set synchronous_commit = on",
                    literal(called)
                );
                let set = session.client.batch_execute(&settings).await;
                set.map_err(BackupError::server("cannot prepare a session"))?;
                return Ok(session);
            }
            Err(error) => last = Some(error),
        }
    }
    Err(last.map_or_else(
        || BackupError::Refused("there is no other database to connect to".to_owned()),
        BackupError::from,
    ))
}

impl Swap {
    /// Ends every session in both and swaps the names. Tries again while somebody comes in.
    pub(super) async fn make(&self, stop: &Stop, settle: Duration) -> Swapped {
        let mut tries = 0;
        loop {
            if let Some(reason) = stop.now() {
                return Swapped::Not(BackupError::Stopped(reason));
            }
            tries += 1;
            let error = match self.once().await {
                Ok(()) => return Swapped::Done,
                Err(error) => error,
            };
            // An answer may have been lost: the server knows, not the error.
            match self.look(Instant::now() + settle).await {
                Ok(true) => return Swapped::Done,
                Ok(false) if is_used(&error) && tries < TRIES => {}
                Ok(false) => return Swapped::Not(error),
                Err(why) => return Swapped::Unknown(format!("{error}; then: {why}")),
            }
        }
    }

    async fn once(&self) -> Result<(), BackupError> {
        let session = outside(&self.connector, &self.name, &self.fresh).await?;
        let ending = outside(&self.connector, &self.name, &self.fresh).await?;
        let done = tokio::select! {
            done = self.rename(&session.client) => done,
            lost = self.end_sessions(&ending.client) => Err(lost),
        };
        // Its end is awaited: what it was told may otherwise still be under way.
        session.close(CLOSE).await;
        ending.close(CLOSE).await;
        done.map_err(BackupError::server("the names were not swapped"))
    }

    /// One transaction. `ALTER DATABASE .. RENAME` locks its database, so that nobody logs in to it until the end.
    async fn rename(&self, client: &Client) -> Result<(), tokio_postgres::Error> {
        let (name, kept, fresh) = (quote(&self.name), quote(&self.kept), quote(&self.fresh));
        let mut script = vec![
            "begin".to_owned(),
            format!("alter database {name} rename to {kept}"),
            format!("alter database {kept} connection limit 0"),
            format!("comment on database {kept} is {}", literal(&self.comment)),
            format!("alter database {fresh} rename to {name}"),
        ];
        script.extend(self.alike.statements(&self.name));
        for statement in &script {
            client.batch_execute(statement).await?;
        }
        // What could not be made like it, a grant by somebody else than the owner say, is no end to live with.
        if Alike::of(client, &self.name).await?.as_ref() != Some(&self.alike) {
            let wrong = "do $$ begin raise exception 'owner, grants or settings of the database are not \
                         what they were'; end $$";
            return client.batch_execute(wrong).await;
        }
        client.batch_execute("commit").await
    }

    /// Ends whoever is in one of the two, again and again. Returns only when it cannot.
    async fn end_sessions(&self, client: &Client) -> tokio_postgres::Error {
        let sql = "select pg_catalog.pg_terminate_backend(pid) from pg_catalog.pg_stat_activity \
                   where datid = any ($1) and pid <> pg_catalog.pg_backend_pid()";
        loop {
            if let Err(error) = client.query(sql, &[&vec![self.old, self.new]]).await {
                return error;
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Whether the new one has the name. Waits until no session of ours is at it any more.
    async fn look(&self, deadline: Instant) -> Result<bool, BackupError> {
        loop {
            let looked = async {
                // Under a name of its own, to tell it from those that are looked for.
                let session = outside(&self.connector, &self.name, "pgdrain look").await?;
                let sql = "select d.datname = $2::text, exists (select from pg_catalog.pg_stat_activity a \
                                  where a.application_name = $3::text and a.state <> 'idle') \
                           from pg_catalog.pg_database d where d.oid = $1";
                let asked: [&(dyn ToSql + Sync); 3] = [&self.new, &self.name, &self.fresh];
                let row = session.client.query_one(sql, &asked).await;
                session.close(CLOSE).await;
                let row = row.map_err(BackupError::server("cannot look at the names"))?;
                Ok::<(bool, bool), BackupError>((row.get(0), row.get(1)))
            };
            match looked.await {
                Ok((true, _)) => return Ok(true),
                Ok((false, false)) => return Ok(false),
                Ok((false, true)) if Instant::now() >= deadline => {
                    let text = "a session that swaps the names is still at it";
                    return Err(BackupError::Refused(text.to_owned()));
                }
                Err(error) if Instant::now() >= deadline => return Err(error),
                Ok((false, true)) | Err(_) => tokio::time::sleep(pause()).await,
            }
        }
    }
}

/// Whether somebody was in one of the two.
fn is_used(error: &BackupError) -> bool {
    match error {
        BackupError::Server { source, .. } => source.code() == Some(&SqlState::OBJECT_IN_USE),
        BackupError::NotConfigured
        | BackupError::Refused(_)
        | BackupError::File { .. }
        | BackupError::Program(_)
        | BackupError::Connect(_)
        | BackupError::Different(_)
        | BackupError::Stopped(_) => false,
    }
}
