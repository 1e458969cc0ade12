//! Asks the server what it keeps of a client's password.
//!
//! The connection is one of our own, as a role of its own. Nothing that a client sent reaches it
//! but the name it gave, and that as a value (CVE-2025-12819 is about a proxy where more did).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::Mutex;
use tokio::time::timeout;
use tokio_postgres::{Client, Row, Statement};

use super::driver::{NotOpen, open_as};
use super::own::{OwnBackend, OwnBackends};
use crate::config::{BadStored, Host, Role, Stored, Target};
use crate::tasks::Tasks;

/// How long a client may wait for the answer, a connection that has to be opened included.
const ANSWER_TIME: Duration = Duration::from_secs(5);

/// Set on the connection before anything else. Whatever the role or the database say, other schemas
/// than `pg_catalog` are found by their name alone.
const SETTINGS: &str = "set search_path = pg_catalog, pg_temp; set statement_timeout = '5s'; \
                        set lock_timeout = '1s'; set default_transaction_read_only = off";

/// Why nobody knows what the server keeps. A client must not learn it.
#[derive(Debug, thiserror::Error)]
pub enum LookupError {
    /// No connection to the server.
    #[error("the connection for it could not be opened")]
    NotOpen(#[from] NotOpen),
    /// The server refused, or the connection broke.
    #[error("the query for a user's secret failed")]
    Postgres(#[from] tokio_postgres::Error),
    /// The answer did not come in time.
    #[error("the query for a user's secret gave no answer within {ANSWER_TIME:?}")]
    Timeout,
    /// The row is not one that could be read.
    #[error("the query for a user's secret has no column")]
    NoColumn,
}

/// Asks servers for secrets. Connections are opened when first needed, kept, and opened again after
/// they broke; questions of several clients go over one at the same time.
#[derive(Debug)]
pub struct Lookups {
    own: OwnBackends,
    tasks: Tasks,
    /// By the hosts of the upstream.
    open: Mutex<BTreeMap<String, Arc<Open>>>,
}

/// A connection, and what it was opened for.
#[derive(Debug)]
struct Open {
    role: Role,
    sql: String,
    client: Client,
    statement: Statement,
    _own: OwnBackend,
}

impl Open {
    /// Whether it can be asked this, by this role.
    fn is_for(&self, role: &Role, sql: &str) -> bool {
        !self.client.is_closed() && (&self.role, self.sql.as_str()) == (role, sql)
    }
}

fn hosts(target: &Target) -> String {
    let hosts = target.upstream.hosts.iter().map(Host::to_string);
    hosts.collect::<Vec<_>>().join(",")
}

impl Lookups {
    /// Nothing is opened yet.
    #[must_use]
    pub fn new(own: OwnBackends, tasks: Tasks) -> Lookups {
        Lookups {
            own,
            tasks,
            open: Mutex::default(),
        }
    }

    /// What the server of this target keeps of the user's password; `None` when there is no such
    /// user, it may not log in, has no password, or one that is no longer good.
    ///
    /// # Errors
    /// When that is not known.
    pub async fn stored(
        &self,
        target: &Target,
        (role, sql): (&Role, &str),
        user: &str,
    ) -> Result<Option<Stored>, LookupError> {
        let row = timeout(ANSWER_TIME, self.row(target, role, sql, user))
            .await
            .map_err(|_elapsed| LookupError::Timeout)??;
        let Some(row) = row else { return Ok(None) };
        let (secret, valid_until) = columns(&row)?;
        if valid_until.is_some_and(|end| end <= SystemTime::now()) {
            return Ok(None);
        }
        Ok(secret.and_then(|secret| usable(user, &secret)))
    }

    async fn row(
        &self,
        target: &Target,
        role: &Role,
        sql: &str,
        user: &str,
    ) -> Result<Option<Row>, LookupError> {
        let kept = self.kept(target, role, sql).await;
        if let Some(open) = kept {
            match open.client.query_opt(&open.statement, &[&user]).await {
                Ok(row) => return Ok(row),
                // It may have broken, which nobody had noticed yet.
                Err(_) => self.forget(target, &open).await,
            }
        }
        let open = self.connection(target, role, sql).await?;
        Ok(open.client.query_opt(&open.statement, &[&user]).await?)
    }

    /// The connection that is there for this target.
    async fn kept(&self, target: &Target, role: &Role, sql: &str) -> Option<Arc<Open>> {
        let all = self.open.lock().await;
        let open = all.get(&hosts(target))?;
        open.is_for(role, sql).then(|| Arc::clone(open))
    }

    async fn forget(&self, target: &Target, open: &Arc<Open>) {
        let mut all = self.open.lock().await;
        if all
            .get(&hosts(target))
            .is_some_and(|kept| Arc::ptr_eq(kept, open))
        {
            all.remove(&hosts(target));
        }
    }

    /// The connection for this target, opened anew where there is none, or one for something else.
    async fn connection(
        &self,
        target: &Target,
        role: &Role,
        sql: &str,
    ) -> Result<Arc<Open>, LookupError> {
        let mut all = self.open.lock().await;
        if let Some(open) = all.get(&hosts(target))
            && open.is_for(role, sql)
        {
            return Ok(Arc::clone(open));
        }
        let open = Arc::new(self.open(target, role, sql).await?);
        all.insert(hosts(target), Arc::clone(&open));
        Ok(open)
    }

    async fn open(&self, target: &Target, role: &Role, sql: &str) -> Result<Open, LookupError> {
        let (client, _) = open_as(&target.upstream, role, "pgdrain auth", &self.tasks).await?;
        client.batch_execute(SETTINGS).await?;
        let pid = client
            .query_one("select pg_catalog.pg_backend_pid()", &[])
            .await?
            .try_get(0)?;
        Ok(Open {
            statement: client.prepare(sql).await?,
            role: role.clone(),
            sql: sql.to_owned(),
            client,
            _own: self.own.insert(pid),
        })
    }
}

/// The secret and the time until which it is good, by the names they have in `pg_authid`, else by
/// their places.
fn columns(row: &Row) -> Result<(Option<String>, Option<SystemTime>), LookupError> {
    let named = |name: &str| {
        row.columns()
            .iter()
            .position(|column| column.name() == name)
    };
    let (secret, valid_until) = match named("rolpassword") {
        Some(secret) => (secret, named("rolvaliduntil")),
        None => (0, (row.len() > 1).then_some(1)),
    };
    if row.is_empty() {
        return Err(LookupError::NoColumn);
    }
    let valid_until = valid_until.map(|place| row.try_get(place)).transpose()?;
    Ok((row.try_get(secret)?, valid_until.flatten()))
}

/// A password as it is gets nobody in: a table that strangers' names are looked up in is no place
/// for one, and the hashing it needs would tell its user from others.
fn usable(user: &str, secret: &str) -> Option<Stored> {
    let why = match Stored::parse(secret) {
        Ok(stored @ (Stored::Scram(_) | Stored::Md5(_))) => return Some(stored),
        Ok(Stored::Plain(_)) => "it is neither a SCRAM verifier nor an MD5 hash".to_owned(),
        Err(BadStored::Empty) => return None,
        Err(bad) => bad.to_string(),
    };
    tracing::warn!(user, why, "the secret that auth.query gave is not used");
    None
}
