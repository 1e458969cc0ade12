//! Databases that are made for a restore: like the one that was dumped, and empty.
//!
//! One that verifies a backup is called `pgdrain_verify_RUN`, one for a rehearsal
//! `pgdrain_rehearse_RUN`, one that is to take its place `pgdrain_restore_ID`, and the session that made it carries
//! the run in its `application_name` as long as it lives. So whoever comes later finds those that a
//! crash left: their sessions are gone. (`application_name` is shown to every role.)

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio_postgres::Client;

use super::error::BackupError;
use crate::runner::connect::{Connector, Session};
use crate::runner::shape::quote;

const VERIFY: &str = "pgdrain_verify_";
const REHEARSE: &str = "pgdrain_rehearse_";
const RESTORE: &str = "pgdrain_restore_";

/// Databases of killed runs that we may drop.
const LEFT: &str = "\
    select d.datname from pg_catalog.pg_database d \
    where (starts_with(d.datname, $1) or starts_with(d.datname, $2) or starts_with(d.datname, $3)) \
      and pg_catalog.pg_has_role(d.datdba, 'usage') \
      and not exists (select from pg_catalog.pg_stat_activity a \
                      where a.application_name = d.datname) \
    order by 1";

/// A database that we made, and the session that makes and drops.
#[derive(Debug)]
pub(in crate::runner) struct Scratch {
    connector: Arc<Connector>,
    beside: String,
    session: Session,
    pub(in crate::runner) name: String,
}

impl Scratch {
    /// The name of the database that verifies the backup of a run.
    pub(super) fn name_for(run: &str) -> String {
        format!("{VERIFY}{}", run.replace('-', "_"))
    }

    /// The name of the database in which a run is rehearsed.
    pub(in crate::runner) fn name_for_rehearsal(run: &str) -> String {
        format!("{REHEARSE}{}", run.replace('-', "_"))
    }

    /// The name of a database that is to take the place of another one.
    pub(super) fn name_for_place(id: &str) -> String {
        format!("{RESTORE}{}", id.replace('-', "_"))
    }

    /// Puts it where the database beside it lies. It has to be empty, so that nothing is copied.
    pub(super) async fn to_tablespace(&self) -> Result<(), BackupError> {
        let sql = "select pg_catalog.quote_ident(t.spcname) from pg_catalog.pg_database d \
                   join pg_catalog.pg_tablespace t on t.oid = d.dattablespace \
                   where d.datname = pg_catalog.current_database() \
                     and d.dattablespace <> (select dattablespace from pg_catalog.pg_database \
                                             where datname = $1)";
        let moved = async {
            if let Some(row) = self.session.client.query_opt(sql, &[&self.name]).await? {
                let (name, to): (_, String) = (quote(&self.name), row.get(0));
                let sql = format!("alter database {name} set tablespace {to}");
                self.session.client.batch_execute(&sql).await?;
            }
            Ok(())
        };
        let moved: Result<(), tokio_postgres::Error> = moved.await;
        moved.map_err(BackupError::server(
            "cannot move the database to its tablespace",
        ))
    }

    /// Makes an empty database beside another one, with its encoding and its collation.
    ///
    /// # Errors
    /// When there is one of that name, or our role may not make databases.
    pub(super) async fn create(
        connector: &Arc<Connector>,
        beside: &str,
        name: &str,
    ) -> Result<Self, BackupError> {
        let session = maker(connector, beside, name).await?;
        let made = async {
            let sql = create_statement(&session.client, name).await?;
            session.client.batch_execute(&sql).await
        };
        if let Err(error) = made.await {
            session.close(Duration::from_secs(5)).await;
            return Err(BackupError::server("cannot create a scratch database")(
                error,
            ));
        }
        Ok(Self {
            connector: Arc::clone(connector),
            beside: beside.to_owned(),
            session,
            name: name.to_owned(),
        })
    }

    /// Keeps everybody else out, superusers excepted: who may connect to a database is not in its dump,
    /// and a new one is open to all.
    pub(super) async fn keep_others_out(&self) -> Result<(), BackupError> {
        let name = quote(&self.name);
        let sql = format!("revoke connect on database {name} from public");
        let revoked = self.session.client.batch_execute(&sql).await;
        revoked.map_err(BackupError::server("cannot close the scratch database"))
    }

    /// Connects to it.
    pub(in crate::runner) async fn connect(&self) -> Result<Session, BackupError> {
        let connected = self.connector.connect_beside(&self.beside, &self.name);
        Ok(connected.await?)
    }

    /// Takes away what every new database has and the dumped one has not.
    pub(super) async fn without_public(&self) -> Result<(), BackupError> {
        let session = self.connect().await?;
        let dropped = session.client.batch_execute("drop schema public").await;
        session.close(Duration::from_secs(5)).await;
        dropped.map_err(BackupError::server("cannot prepare the scratch database"))
    }

    /// Keeps it, and gives the session back.
    pub(in crate::runner) async fn keep(self) {
        self.session.close(Duration::from_secs(5)).await;
    }

    /// Drops it, whoever is still in it.
    ///
    /// # Errors
    /// When the server is gone; the next backup that is verified drops it then.
    pub(in crate::runner) async fn drop(self) -> Result<(), BackupError> {
        let sql = drop_statement(&self.name);
        let mut dropped = self.session.client.batch_execute(&sql).await;
        self.session.close(Duration::from_secs(5)).await;
        if dropped.as_ref().is_err_and(|it| it.is_closed()) {
            // The session was ended, and the server may live.
            let session = maker(&self.connector, &self.beside, &self.name).await?;
            dropped = session.client.batch_execute(&sql).await;
            session.close(Duration::from_secs(5)).await;
        }
        dropped.map_err(BackupError::server("cannot drop the scratch database"))
    }
}

/// Drops what killed runs left; the names of those.
pub(in crate::runner) async fn drop_left(
    connector: &Arc<Connector>,
    beside: &str,
) -> Result<Vec<String>, BackupError> {
    let session = maker(connector, beside, crate::runner::connect::APPLICATION_NAME).await?;
    let dropped = async {
        let mut names = Vec::new();
        for row in session
            .client
            .query(LEFT, &[&VERIFY, &REHEARSE, &RESTORE])
            .await?
        {
            let name: String = row.get(0);
            session.client.batch_execute(&drop_statement(&name)).await?;
            names.push(name);
        }
        Ok(names)
    };
    let dropped = dropped.await;
    session.close(Duration::from_secs(5)).await;
    dropped.map_err(BackupError::server(
        "cannot drop a scratch database that was left",
    ))
}

/// A session that makes and drops databases, under a name that others see.
async fn maker(
    connector: &Arc<Connector>,
    beside: &str,
    name: &str,
) -> Result<Session, BackupError> {
    let session = connector.connect(beside, Box::new(|_| {})).await?;
    let settings = format!(
        "set application_name = {}; set statement_timeout = 0; set idle_session_timeout = 0; \
         set lock_timeout = '1min'; set default_transaction_read_only = off",
        literal(name)
    );
    let set = session.client.batch_execute(&settings).await;
    set.map_err(BackupError::server("cannot make a scratch database"))?;
    Ok(session)
}

/// `CREATE DATABASE` with what cannot be changed later, as the database has it that we are in. The
/// columns of pg_database differ from version to version.
async fn create_statement(client: &Client, name: &str) -> Result<String, tokio_postgres::Error> {
    let sql = "select to_jsonb(d) || jsonb_build_object('encoding', pg_encoding_to_char(encoding)) \
               from pg_catalog.pg_database d where datname = current_database()";
    let row = client.query_one(sql, &[]).await?;
    let database: Value = row.get(0);
    let text = |key: &str| database.get(key).and_then(Value::as_str).map(literal);
    let mut sql = format!("create database {} template template0", quote(name));
    let mut add = |option: &str, value: Option<String>| {
        if let Some(value) = value {
            sql += &format!(" {option} {value}");
        }
    };
    add("encoding", text("encoding"));
    add("lc_collate", text("datcollate"));
    add("lc_ctype", text("datctype"));
    let locale = text("datlocale").or_else(|| text("daticulocale"));
    match database.get("datlocprovider").and_then(Value::as_str) {
        Some("i") => add("locale_provider icu icu_locale", locale),
        Some("b") => add("locale_provider builtin builtin_locale", locale),
        Some(_) | None => {}
    }
    Ok(sql)
}

fn drop_statement(name: &str) -> String {
    format!("drop database if exists {} with (force)", quote(name))
}

fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_scratch_database_fits() {
        let name = Scratch::name_for("01234567-89ab-cdef-0123-456789abcdef");
        assert_eq!(name, "pgdrain_verify_01234567_89ab_cdef_0123_456789abcdef");
        // NAMEDATALEN is 64, with its zero.
        assert!(name.len() < 64);
        assert!(Scratch::name_for_rehearsal(&"x".repeat(36)).len() < 64);
    }
}
