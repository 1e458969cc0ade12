//! The database that somebody named for a rehearsal: reached, and proved not to be the one that is
//! meant to be spared.

use std::sync::Arc;
use std::time::Duration;

use super::{End, Job};
use crate::config::{Secret, Source, Surroundings};
use crate::runner::connect::{Connector, Endpoint, Session};
use crate::runner::report::Failure;
use crate::runner::types::Exit;

/// What is taken in one database is seen in the other only if they are one: advisory locks are kept
/// for each database of a server. Two keys, ours first, so that nobody else's is met.
const MARK: &str = "select pg_catalog.pg_try_advisory_lock(1885824115, $1)";
const SEEN: &str = "\
    select exists (select from pg_catalog.pg_locks l \
                   join pg_catalog.pg_database d on d.oid = l.database \
                   where l.locktype = 'advisory' and l.classid = 1885824115 and l.objid = $1 \
                     and l.objsubid = 2 and l.pid = $2 and d.datname = current_database())";

impl Job {
    /// A connector to the database of the request's URL, and its name.
    pub(super) async fn staging(&self) -> Result<(Arc<Connector>, String), End> {
        let Some(url) = self.request.on.clone() else {
            return Err(End::before("no database was named"));
        };
        let usage = |text: String| End::Failed(Exit::Usage, Failure::new(text));
        let found = tokio::task::spawn_blocking(move || endpoint(&url)).await;
        let found = found.map_err(End::before)?;
        let (endpoint, database) = found.map_err(usage)?;
        let connector = self.connector.elsewhere(endpoint);
        let (target, own) = (&self.run.database, &self.connector);
        let target = own
            .connect(target, Box::new(|_| {}))
            .await
            .map_err(End::before)?;
        let named = connector.connect(&database, Box::new(|_| {})).await;
        let named = match named {
            Ok(named) => named,
            Err(error) => {
                target.close(Duration::from_secs(5)).await;
                return Err(End::before(format!("the database to rehearse in: {error}")));
            }
        };
        let same = are_one(&target, &named).await;
        target.close(Duration::from_secs(5)).await;
        named.close(Duration::from_secs(5)).await;
        match same {
            Ok(false) => Ok((connector, database)),
            Ok(true) => Err(usage(format!(
                "the database to rehearse in is {} itself",
                self.run.database
            ))),
            Err(error) => Err(End::before(crate::runner::report::chain(&error))),
        }
    }
}

/// Whether two sessions are in the same database of the same server, by whatever address.
async fn are_one(a: &Session, b: &Session) -> Result<bool, tokio_postgres::Error> {
    // Objects are compared as unsigned numbers.
    let key = rand::random_range(1..i32::MAX);
    a.client.query_one(MARK, &[&key]).await?;
    let object = key.unsigned_abs();
    let row = b.client.query_one(SEEN, &[&object, &a.pid]).await?;
    Ok(row.get(0))
}

/// What a connection URL says, read as `upstream.url` is.
///
/// Reads libpq's files for certificates and passwords, and so blocks for a moment.
///
/// # Errors
/// What is wrong with it, in words that hold no secret.
pub fn endpoint(url: &Secret) -> Result<(Endpoint, String), String> {
    let mut around = Surroundings::of_process();
    // Settings of ours are about another server, and so is the password.
    around
        .variables
        .retain(|name, _| !name.starts_with("PGDRAIN_") && name != "PGPASSWORD");
    let source = Source::new(None)
        .flag("the URL", "upstream.url", url.clone())
        .flag("", "state_dir", "/");
    let loaded = source.load(&around).map_err(|error| error.to_string())?;
    let target = loaded.config.default_target();
    let database = target.upstream.database.clone();
    let database = database.ok_or("the URL names no database")?;
    let endpoint = Endpoint::of(&target).ok_or("the URL names no user")?;
    Ok((endpoint, database))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_server_user_and_database() {
        let (endpoint, database) =
            endpoint(&Secret::new("postgres://ann:hunter2@db.example:5433/shop")).expect("a URL");
        assert_eq!((endpoint.user.as_str(), database.as_str()), ("ann", "shop"));
        assert_eq!(endpoint.hosts[0].to_string(), "db.example:5433");
        assert_eq!(endpoint.password.expect("one").expose(), "hunter2");
    }

    #[test]
    fn what_is_missing_is_said_without_the_url() {
        for (url, says) in [
            ("postgres://ann:hunter2@db/", "names no database"),
            ("postgres://db/shop", "names no user"),
            ("mysql://ann:hunter2@db/shop", "postgres://"),
        ] {
            let error = super::endpoint(&Secret::new(url)).expect_err(url);
            assert!(
                error.contains(says) && !error.contains("hunter2"),
                "{error}"
            );
        }
    }
}
