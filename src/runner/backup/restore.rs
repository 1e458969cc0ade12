//! Restores a backup into a database that is made for it.

use std::fs::File;
use std::path::{Path, PathBuf};

use tokio::time::Instant;

use super::error::BackupError;
use super::manifest::Manifest;
use super::scratch::Scratch;
use super::snapshot::{Contents, Snapshot};
use super::{RestoreRequest, Restored, Tools, quickly, verify};
use crate::runner::execute::millis;

/// A longer name is cut by the server, and might then be another database's.
const NAME_MAX: usize = 63;

/// Whether a database has the schema that every new one has.
const HAS_PUBLIC: &str =
    "select exists (select from pg_catalog.pg_namespace where nspname = 'public')";

/// A backup that was found to be as it was written, kept from being pruned.
struct Opened {
    directory: PathBuf,
    manifest: Manifest,
    _keep: File,
}

/// A backup in a database of its own, with owners and grants, and what it holds.
pub(in crate::runner) struct Beside {
    pub(in crate::runner) scratch: Scratch,
    pub(in crate::runner) contents: Contents,
    pub(in crate::runner) manifest: Manifest,
}

async fn open(tools: &Tools<'_>, run: &str) -> Result<Opened, BackupError> {
    let place = tools.place()?;
    let what = format!("no backup of run {run} in {}", place.path().display());
    let run = run.to_owned();
    let (path, manifest, keep) = quickly(&what, move || place.open(&run)).await?;
    let directory = path.join("dump");
    verify::exists(&directory).await?;
    verify::same_files(tools, &directory, &manifest.files).await?;
    Ok(Opened {
        directory,
        manifest,
        _keep: keep,
    })
}

/// Restores the backup of a run into a database that is to take the place of the one it was made of, closed to
/// others, and compares it with what was verified then.
///
/// # Errors
/// As for [`restore`]; also when our role is no superuser, since owners and grants would be lost. There is no
/// such database then.
pub(in crate::runner) async fn beside(
    tools: &Tools<'_>,
    run: &str,
    id: &str,
) -> Result<Beside, BackupError> {
    let opened = open(tools, run).await?;
    let snapshot = Snapshot::take(tools.connector, tools.database).await?;
    let superuser = snapshot.facts.superuser;
    let asked = snapshot.client().query_one(HAS_PUBLIC, &[]).await;
    snapshot.close().await;
    let has_public: bool = asked
        .map_err(BackupError::server("cannot look at the schema"))?
        .get(0);
    if !superuser {
        let text = "a restore in place takes a superuser: owners and grants would be lost";
        return Err(BackupError::Refused(text.to_owned()));
    }
    let name = Scratch::name_for_place(id);
    let scratch = Scratch::create(tools.connector, tools.database, &name).await?;
    let filled = async {
        scratch.keep_others_out().await?;
        scratch.to_tablespace().await?;
        if !has_public {
            scratch.without_public().await?;
        }
        verify::restore_into(tools, &scratch, &opened.directory, superuser).await?;
        let contents = verify::contents(tools, &scratch).await?;
        agrees(&opened.manifest, &contents)?;
        Ok(contents)
    };
    match filled.await {
        Ok(contents) => Ok(Beside {
            scratch,
            contents,
            manifest: opened.manifest,
        }),
        Err(error) => {
            let name = scratch.name.clone();
            if let Err(left) = scratch.drop().await {
                tracing::warn!(database = name, %left, "half of a restored backup is left");
            }
            Err(error)
        }
    }
}

/// Whether a restored backup is what it was when it was verified, if it was by a restore.
fn agrees(manifest: &Manifest, contents: &Contents) -> Result<(), BackupError> {
    let verified = &manifest.verified;
    let Some(fingerprint) = &verified.fingerprint else {
        return Ok(());
    };
    let mut schema = contents.without_rows();
    if verified.owners != Some(true) {
        schema.without_owners();
    }
    let (tables, rows) = contents.counts();
    let same = schema.fingerprint() == *fingerprint
        && verified.tables.is_none_or(|it| it == tables)
        && verified.rows.is_none_or(|it| it == rows);
    match same {
        true => Ok(()),
        false => Err(BackupError::Different(
            "what was restored is not what was verified when it was made".to_owned(),
        )),
    }
}

/// Restores the backup of a run into a new database beside the one that was backed up. The database
/// is dropped again unless all of it was restored.
///
/// # Errors
/// When there is no such backup, its files were changed, there is a database of that name, or a
/// program or the server fails.
pub(in crate::runner) async fn restore(
    tools: &Tools<'_>,
    request: &RestoreRequest,
) -> Result<Restored, BackupError> {
    let begun = Instant::now();
    if request.into.is_empty() || request.into.len() > NAME_MAX {
        let text = format!("the name of the new database must have 1 to {NAME_MAX} bytes");
        return Err(BackupError::Refused(text));
    }
    let opened = open(tools, &request.run).await?;
    let superuser = {
        let snapshot = Snapshot::take(tools.connector, tools.database).await?;
        let superuser = snapshot.facts.superuser;
        snapshot.close().await;
        superuser
    };
    let scratch = Scratch::create(tools.connector, tools.database, &request.into).await?;
    let (tables, rows) = match fill(tools, &scratch, &opened.directory, superuser).await {
        Ok(counts) => {
            scratch.keep().await;
            counts
        }
        Err(error) => {
            if let Err(left) = scratch.drop().await {
                let (into, left) = (&request.into, left.to_string());
                tracing::warn!(database = into, left, "half of a restored backup is left");
            }
            return Err(error);
        }
    };
    Ok(Restored {
        run: request.run.clone(),
        into: request.into.clone(),
        snapshot_at: opened.manifest.snapshot_at,
        tables,
        rows,
        owners: superuser,
        elapsed_ms: millis(begun.elapsed()),
    })
}

async fn fill(
    tools: &Tools<'_>,
    scratch: &Scratch,
    directory: &Path,
    superuser: bool,
) -> Result<(u64, u64), BackupError> {
    verify::restore_into(tools, scratch, directory, superuser).await?;
    Ok(verify::contents(tools, scratch).await?.counts())
}
