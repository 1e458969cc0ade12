//! Makes a backup: pg_dump, or the operator's command, and all that makes it one to rely on.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use serde_json::json;
use tokio::time::Instant;

use super::error::BackupError;
use super::manifest::{FORMAT, Manifest, sums};
use super::place::Partial;
use super::program::{Program, Trouble, Version, connection_string};
use super::snapshot::{Contents, Facts, Snapshot};
use super::{Made, Tools, quickly, scratch, verify};
use crate::config::Verify;
use crate::runner::execute::millis;
use crate::runner::record::Run;
use crate::runner::types::EventKind;

/// How often it is said how far a dump is.
const PROGRESS: Duration = Duration::from_secs(10);

/// How long pg_dump waits for the lock on a table. It only reads: it waits for DDL alone, and DDL
/// for it.
const LOCK_WAIT: &str = "--lock-wait-timeout=60000";

/// Makes a backup of a database for a run. Tells the run how far it is, and when there is something
/// left on the disk that could not be removed.
///
/// # Errors
/// Whenever it is not whole and verified: then there is none, and nothing was changed anywhere.
pub(in crate::runner) async fn make(tools: &Tools<'_>, run: &Run) -> Result<Made, BackupError> {
    let begun = Instant::now();
    let place = tools.place()?;
    let dumper = versions(tools).await?;
    let snapshot = Snapshot::take(tools.connector, tools.database).await?;
    let facts = snapshot.facts.clone();
    new_enough(&dumper, &facts)?;
    let (id, root) = (run.id.clone(), place.clone());
    let what = place.path().display().to_string();
    let partial = quickly(&what, move || root.begin(&id)).await?;
    let written = write(tools, run, snapshot, &partial).await;
    let (files, verified) = match written {
        Ok(written) => written,
        Err(error) => return Err(undone(run, partial, error).await),
    };
    let manifest = Manifest {
        format: FORMAT,
        run: run.id.clone(),
        database: tools.database.to_owned(),
        by: run.by.clone(),
        made_by: dumper.map_or_else(|| "command".to_owned(), |it| it.text),
        server: facts.server,
        snapshot_at: facts.at,
        lsn: facts.lsn,
        finished_at: Timestamp::now(),
        bytes: files.iter().map(|it| it.bytes).sum(),
        files,
        verified,
    };
    finish(run, place, partial, manifest, begun).await
}

/// Gives a backup its name, and points to it.
async fn finish(
    run: &Run,
    place: super::Place,
    partial: Partial,
    manifest: Manifest,
    begun: Instant,
) -> Result<Made, BackupError> {
    let what = partial.path.display().to_string();
    let leftover = partial.path.clone();
    let (bytes, files) = (manifest.bytes, manifest.files.len());
    let (snapshot_at, lsn) = (manifest.snapshot_at, manifest.lsn.clone());
    let verified = manifest.verified.clone();
    let named = quickly(&what, move || {
        let whole = partial.finish(&manifest)?;
        let pointed = place.point_to(&whole);
        Ok((whole, pointed))
    });
    let (whole, pointed) = match named.await {
        Ok(named) => named,
        Err(error) => {
            // Half of a manifest is none: the next pruning removes it too.
            let _ = quickly("", move || fs::remove_dir_all(leftover)).await;
            return Err(error);
        }
    };
    if let Err(error) = pointed {
        run.note(format!("latest-backup.txt could not be written: {error}"));
    }
    Ok(Made {
        path: whole.display().to_string(),
        snapshot_at,
        lsn,
        bytes,
        files,
        verified,
        elapsed_ms: millis(begun.elapsed()),
    })
}

/// Removes what there is of a backup that is none; says so if that fails.
async fn undone(run: &Run, partial: Partial, error: BackupError) -> BackupError {
    let path = partial.path.display().to_string();
    match quickly(&path, move || partial.discard()).await {
        Ok(()) => run.note(format!("the partial backup {path} was removed")),
        Err(left) => run.note(format!("the partial backup could not be removed: {left}")),
    }
    error
}

/// Which pg_dump will be started; none where a command makes the backup.
async fn versions(tools: &Tools<'_>) -> Result<Option<Version>, BackupError> {
    let settings = tools.settings;
    if settings.command.is_some() {
        return Ok(None);
    }
    let dump = Program::new(&settings.pg_dump).version().await?;
    if settings.verify != Verify::None {
        let restore = Program::new(&settings.pg_restore).version().await?;
        if restore.major < dump.major {
            return Err(BackupError::Refused(format!(
                "{} is older than {} and may not read what it writes: set \
                 migrate.backup.pg_restore",
                restore.text, dump.text
            )));
        }
    }
    Ok(Some(dump))
}

/// An older pg_dump refuses a newer server ("pg_dump" in the Postgres documentation, Notes); we say
/// it before anything else.
pub(super) fn new_enough(dumper: &Option<Version>, facts: &Facts) -> Result<(), BackupError> {
    match dumper {
        Some(dumper) if dumper.major < facts.major => Err(BackupError::Refused(format!(
            "{} is older than the server, which is {}: install the client programs of version {}, \
             and set migrate.backup.pg_dump and pg_restore",
            dumper.text, facts.server, facts.major
        ))),
        Some(_) | None => Ok(()),
    }
}

type Written = (Vec<super::FileSum>, super::Verified);

/// Writes the dump and looks at it.
async fn write(
    tools: &Tools<'_>,
    run: &Run,
    snapshot: Snapshot,
    partial: &Partial,
) -> Result<Written, BackupError> {
    let directory = partial.dump();
    let superuser = snapshot.facts.superuser;
    let contents = match &tools.settings.command {
        Some(command) => {
            // It takes a view of its own.
            snapshot.close().await;
            by_command(tools, run, command, &directory).await?;
            None
        }
        None => by_pg_dump(tools, run, snapshot, &directory).await?,
    };
    let path = directory.clone();
    let what = directory.display().to_string();
    let summed = tools.aside(&what, move |give_up| sums(&path, give_up));
    let files = summed.await?;
    let verified = match (tools.settings.verify, contents) {
        (Verify::None, _) => super::Verified::only(Verify::None),
        (Verify::Restore, Some(contents)) => {
            run.note("restoring the backup into a scratch database");
            verify::readable(tools, &directory, &files).await?;
            for name in scratch::drop_left(tools.connector, tools.database).await? {
                run.note(format!("dropped {name}, which an earlier run had left"));
            }
            verify::by_restoring(tools, run, &directory, contents, superuser).await?
        }
        (Verify::List | Verify::Restore, _) => {
            verify::readable(tools, &directory, &files).await?;
            super::Verified::only(Verify::List)
        }
    };
    Ok((files, verified))
}

/// Dumps what the snapshot shows; meanwhile the snapshot says what that is, if it will be asked.
async fn by_pg_dump(
    tools: &Tools<'_>,
    run: &Run,
    snapshot: Snapshot,
    directory: &Path,
) -> Result<Option<Contents>, BackupError> {
    let settings = tools.settings;
    let program = Program::new(&settings.pg_dump)
        .reaching(&tools.endpoint()?, tools.database)
        .args(["--format=directory", "--no-password", LOCK_WAIT])
        .args([
            format!("--jobs={}", settings.jobs),
            format!("--snapshot={}", snapshot.facts.id),
            format!("--dbname={}", connection_string(tools.database)),
        ])
        .args([Path::new("--file"), directory]);
    let compared = settings.verify == Verify::Restore;
    let mut dumping = Box::pin(program.run(tools.stop, snapshot.gone()));
    let mut reading = Box::pin(async {
        match compared {
            true => Contents::of(snapshot.client()).await.map(Some),
            false => Ok(None),
        }
    });
    // The dump holds the locks under which the rows are read, so both at once.
    let both = async move {
        tokio::select! {
            dumped = &mut dumping => {
                dumped?;
                tokio::select! {
                    biased;
                    reason = tools.stop.fired() => Err(BackupError::Stopped(reason)),
                    read = &mut reading => Ok(read),
                }
            }
            read = &mut reading => {
                if read.as_ref().is_err_and(|it| !it.is_closed()) {
                    return Ok(read);
                }
                // If the server is gone, pg_dump knows why.
                dumping.await?;
                Ok(read)
            }
        }
    };
    let read = with_progress(run, directory, both).await;
    let read = read.and_then(|it| it.map_err(BackupError::server("cannot read what is dumped")));
    match &read {
        Ok(_) => snapshot.close().await,
        Err(_) => snapshot.give_up().await,
    }
    read
}

/// Lets a command make the backup in an empty directory.
async fn by_command(
    tools: &Tools<'_>,
    run: &Run,
    command: &str,
    directory: &Path,
) -> Result<(), BackupError> {
    fs::create_dir(directory).map_err(BackupError::path(directory))?;
    let program = Program::shell(command, "migrate.backup.command")
        .reaching(&tools.endpoint()?, tools.database)
        .env("PGDRAIN_BACKUP_DIR", directory)
        .env("PGDRAIN_DATABASE", tools.database)
        .env("PGDRAIN_RUN", &run.id)
        .env("PGDRAIN_BY", &run.by);
    let running = async {
        let ran = program.run(tools.stop, std::future::pending()).await;
        ran.map_err(|trouble: Trouble| trouble.into())
    };
    with_progress(run, directory, running).await
}

/// Says every now and then how much there is, until the work is done.
async fn with_progress<T>(run: &Run, directory: &Path, work: impl Future<Output = T>) -> T {
    let mut work = std::pin::pin!(work);
    loop {
        tokio::select! {
            biased;
            done = &mut work => return done,
            () = tokio::time::sleep(PROGRESS) => {}
        }
        let path = directory.to_owned();
        // What cannot be measured now is told next time.
        if let Ok(bytes) = quickly("", move || size(path)).await {
            let text = format!("backup: {} MiB so far", bytes >> 20);
            let data = json!({ "backup": { "bytes": bytes } });
            run.tell(EventKind::Note, text, data);
        }
    }
}

/// The size of the files in a directory, without those below.
fn size(directory: PathBuf) -> io::Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(directory)? {
        bytes += entry?.metadata()?.len();
    }
    Ok(bytes)
}
