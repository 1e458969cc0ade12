//! Looks at a backup before it counts.

use std::path::Path;
use std::time::Duration;

use super::error::BackupError;
use super::manifest::{FileSum, Verified, differences};
use super::program::{Program, connection_string};
use super::scratch::Scratch;
use super::snapshot::Contents;
use super::{Tools, quickly};
use crate::config::Verify;
use crate::runner::record::Run;

/// Its table of contents can be read, and its files are those that were written.
pub(super) async fn readable(
    tools: &Tools<'_>,
    directory: &Path,
    files: &[FileSum],
) -> Result<(), BackupError> {
    let list = Program::new(&tools.settings.pg_restore)
        .args(["--list"])
        .args([directory]);
    list.run(tools.stop, std::future::pending()).await?;
    same_files(tools, directory, files).await
}

/// Its files are those that were written.
pub(super) async fn same_files(
    tools: &Tools<'_>,
    directory: &Path,
    files: &[FileSum],
) -> Result<(), BackupError> {
    let (path, files) = (directory.to_owned(), files.to_vec());
    let what = directory.display().to_string();
    let compared = tools.aside(&what, move |give_up| differences(&path, &files, give_up));
    let differences = compared.await?;
    if differences.is_empty() {
        return Ok(());
    }
    let text = format!("{what}: {}", differences.join(", "));
    Err(BackupError::Different(text))
}

/// Restores it into a scratch database and compares schema and rows. The scratch database is
/// dropped in any case.
pub(super) async fn by_restoring(
    tools: &Tools<'_>,
    run: &Run,
    directory: &Path,
    mut dumped: Contents,
    superuser: bool,
) -> Result<Verified, BackupError> {
    let name = Scratch::name_for(&run.id);
    let scratch = Scratch::create(tools.connector, tools.database, &name).await?;
    let restored = fill(tools, &scratch, directory, &dumped, superuser).await;
    if let Err(error) = scratch.drop().await {
        run.note(format!(
            "{name} could not be dropped, and the next verified backup will do it: {error}"
        ));
    }
    let mut restored = restored?;
    if !superuser {
        dumped.without_owners();
        restored.without_owners();
    }
    let differences = dumped.differences(&restored);
    if !differences.is_empty() {
        return Err(BackupError::Different(differences.join("; ")));
    }
    let (tables, rows) = restored.counts();
    Ok(Verified {
        fingerprint: Some(restored.fingerprint()),
        tables: Some(tables),
        rows: Some(rows),
        owners: Some(superuser),
        ..Verified::only(Verify::Restore)
    })
}

/// Restores into a scratch database, and says what is in it then.
async fn fill(
    tools: &Tools<'_>,
    scratch: &Scratch,
    directory: &Path,
    dumped: &Contents,
    superuser: bool,
) -> Result<Contents, BackupError> {
    if !dumped.has_public() {
        scratch.without_public().await?;
    }
    restore_into(tools, scratch, directory, superuser).await?;
    contents(tools, scratch).await
}

/// What a scratch database holds.
pub(super) async fn contents(
    tools: &Tools<'_>,
    scratch: &Scratch,
) -> Result<Contents, BackupError> {
    let session = scratch.connect().await?;
    let found = tokio::select! {
        biased;
        reason = tools.stop.fired() => Err(BackupError::Stopped(reason)),
        found = Contents::of_restored(&session.client) => {
            found.map_err(BackupError::server("cannot read what was restored"))
        }
    };
    session.close(Duration::from_secs(5)).await;
    found
}

/// Runs pg_restore.
pub(super) async fn restore_into(
    tools: &Tools<'_>,
    scratch: &Scratch,
    directory: &Path,
    superuser: bool,
) -> Result<(), BackupError> {
    let mut program = Program::new(&tools.settings.pg_restore)
        .reaching(&tools.endpoint()?, &scratch.name)
        // A subscription would keep the database from being dropped.
        .args(["--exit-on-error", "--no-password", "--no-subscriptions"])
        .args([
            format!("--jobs={}", tools.settings.jobs),
            format!("--dbname={}", connection_string(&scratch.name)),
        ]);
    if !superuser {
        program = program.args(["--no-owner", "--no-privileges"]);
    }
    let gone = std::future::pending();
    program.args([directory]).run(tools.stop, gone).await?;
    Ok(())
}

/// A backup is there whose files can be read; kept for whoever restores.
pub(super) async fn exists(path: &Path) -> Result<(), BackupError> {
    let toc = path.join("toc.dat");
    let what = path.display().to_string();
    let found = quickly(&what, move || toc.try_exists()).await?;
    match found {
        true => Ok(()),
        false => Err(BackupError::Refused(format!(
            "{what} was not written by pg_dump: restore it with the tool of migrate.backup.command"
        ))),
    }
}
