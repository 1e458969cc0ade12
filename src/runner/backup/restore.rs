//! Restores a backup into a database that is made for it.

use std::path::Path;

use tokio::time::Instant;

use super::error::BackupError;
use super::scratch::Scratch;
use super::snapshot::Snapshot;
use super::{RestoreRequest, Restored, Tools, quickly, verify};
use crate::runner::execute::millis;

/// A longer name is cut by the server, and might then be another database's.
const NAME_MAX: usize = 63;

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
    let place = tools.place()?;
    let what = format!(
        "no backup of run {} in {}",
        request.run,
        place.path().display()
    );
    let run = request.run.clone();
    let (path, manifest, keep) = quickly(&what, move || place.open(&run)).await?;
    let directory = path.join("dump");
    verify::exists(&directory).await?;
    verify::same_files(tools, &directory, &manifest.files).await?;
    let superuser = {
        let snapshot = Snapshot::take(tools.connector, tools.database).await?;
        let superuser = snapshot.facts.superuser;
        snapshot.close().await;
        superuser
    };
    let scratch = Scratch::create(tools.connector, tools.database, &request.into).await?;
    let (tables, rows) = match fill(tools, &scratch, &directory, superuser).await {
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
    // Only now may it be pruned.
    drop(keep);
    Ok(Restored {
        run: request.run.clone(),
        into: request.into.clone(),
        snapshot_at: manifest.snapshot_at,
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
