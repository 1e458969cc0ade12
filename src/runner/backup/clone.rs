//! Copies a database into a scratch database beside it: pg_dump into pg_restore, without a file.

use super::Tools;
use super::dump::new_enough;
use super::error::BackupError;
use super::program::{Program, connection_string};
use super::scratch::Scratch;
use super::snapshot::Snapshot;

/// How long pg_dump waits for the lock on a table: DDL waits for it in turn.
const LOCK_WAIT: &str = "--lock-wait-timeout=10000";

/// Whether a database has the schema that every new one has.
const HAS_PUBLIC: &str =
    "select exists (select from pg_catalog.pg_namespace where nspname = 'public')";

/// A copy of a database.
pub(in crate::runner) struct Copied {
    pub(in crate::runner) scratch: Scratch,
    /// Whether owners and grants are in it; else everything is ours.
    pub(in crate::runner) owners: bool,
}

/// Makes a database of this name that is like another one but for our own history, with or without
/// rows, and closed to others. Owners and grants are copied if our role is a superuser.
///
/// # Errors
/// When a program is missing, too old or fails, or our role may not make databases. Then there is
/// none, unless the server is gone: whoever drops what was left drops it.
pub(in crate::runner) async fn clone(
    tools: &Tools<'_>,
    name: &str,
    with_rows: bool,
) -> Result<Copied, BackupError> {
    let dumper = Program::new(&tools.settings.pg_dump).version().await?;
    let snapshot = Snapshot::take(tools.connector, tools.database).await?;
    let facts = snapshot.facts.clone();
    let asked = snapshot.client().query_one(HAS_PUBLIC, &[]).await;
    snapshot.close().await;
    new_enough(&Some(dumper), &facts)?;
    let has_public: bool = asked
        .map_err(BackupError::server("cannot look at the schema"))?
        .get(0);
    let scratch = Scratch::create(tools.connector, tools.database, name).await?;
    let filled = async {
        scratch.keep_others_out().await?;
        if !has_public {
            scratch.without_public().await?;
        }
        copy(tools, name, with_rows, facts.superuser).await
    };
    match filled.await {
        Ok(()) => Ok(Copied {
            scratch,
            owners: facts.superuser,
        }),
        Err(error) => {
            if let Err(left) = scratch.drop().await {
                tracing::warn!(database = name, %left, "half of a scratch database is left");
            }
            Err(error)
        }
    }
}

async fn copy(
    tools: &Tools<'_>,
    name: &str,
    with_rows: bool,
    superuser: bool,
) -> Result<(), BackupError> {
    let endpoint = tools.endpoint()?;
    let mut dump = Program::new(&tools.settings.pg_dump)
        .reaching(&endpoint, tools.database)
        .args([
            "--format=custom",
            "--compress=0",
            "--no-password",
            LOCK_WAIT,
        ])
        // Its history begins anew; a subscription would keep the database from being dropped.
        .args([
            "--exclude-schema=pgdrain",
            "--exclude-schema=pgdrain_copies",
        ])
        .args(["--no-subscriptions"])
        .args([format!("--dbname={}", connection_string(tools.database))]);
    if !with_rows {
        dump = dump.args(["--schema-only"]);
    }
    let mut restore = Program::new(&tools.settings.pg_restore)
        .reaching(&endpoint, name)
        .args(["--exit-on-error", "--no-password"])
        .args([format!("--dbname={}", connection_string(name))]);
    if !superuser {
        restore = restore.args(["--no-owner", "--no-privileges"]);
    }
    Ok(dump.into(restore, tools.stop).await?)
}
