//! `pgdrain migrate backups`, `prune` and `restore`: what runs have kept, and the way back from it.

use clap::Args;
use hyper::Method;

use super::arguments::Asking;
use super::client::{ClientError, Patience, path};
use super::exit::Exit;
use super::output::{millis, note, plain, table};
use crate::config::Verify;
use crate::runner::backup::{BackupView, Backups, Pruned, RestoreRequest, Restored, Verified};

#[derive(Args, Debug)]
pub(super) struct Listing {
    /// The database.
    #[arg(value_name = "DB")]
    database: String,
    #[command(flatten)]
    asking: Asking,
}

impl Listing {
    pub(super) async fn show(self) -> anyhow::Result<Exit> {
        let path = path(&["v1", "databases", &self.database, "migrations", "backups"]);
        let backups: Backups = self.asking.client()?.get(&path).await?;
        self.asking.format().print(&backups, text)?;
        Ok(Exit::SUCCESS)
    }
}

#[derive(Args, Debug)]
pub(super) struct Pruning {
    /// The database.
    #[arg(value_name = "DB")]
    database: String,
    #[command(flatten)]
    asking: Asking,
}

impl Pruning {
    pub(super) async fn ask(self) -> anyhow::Result<Exit> {
        let path = path(&[
            "v1",
            "databases",
            &self.database,
            "migrations",
            "backups",
            "prune",
        ]);
        let client = self.asking.client()?;
        let pruned: Pruned = client
            .send(
                Method::POST,
                &path,
                &serde_json::json!({}),
                Patience::Endless,
            )
            .await?;
        self.asking.format().print(&pruned, pruned_text)?;
        match pruned.failed.is_empty() {
            true => Ok(Exit::SUCCESS),
            false => Ok(Exit::PREFLIGHT),
        }
    }
}

#[derive(Args, Debug)]
pub(super) struct Restoring {
    /// The database that was backed up.
    #[arg(value_name = "DB")]
    database: String,
    /// The run whose backup it is; `pgdrain migrate backups DB` lists them.
    #[arg(value_name = "RUN")]
    run: String,
    /// The database to create for it, on the same server.
    #[arg(long, value_name = "SCRATCH")]
    into: String,
    #[command(flatten)]
    asking: Asking,
}

impl Restoring {
    pub(super) async fn ask(self) -> anyhow::Result<Exit> {
        let path = path(&["v1", "databases", &self.database, "migrations", "restore"]);
        let client = self.asking.client()?;
        let request = RestoreRequest {
            run: self.run,
            into: self.into,
        };
        let answer: Result<Restored, ClientError> = client
            .send(Method::POST, &path, &request, Patience::Endless)
            .await;
        match answer {
            Ok(restored) => {
                self.asking.format().print(&restored, restored_text)?;
                Ok(Exit::SUCCESS)
            }
            Err(error) if error.has_code("not_restored") => {
                note(&format!("error: {error}"));
                Ok(Exit::ROLLBACK)
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// Every backup, and below them what is none.
fn text(all: &Backups) -> String {
    let mut text = match all.backups.is_empty() {
        true => format!("no backup in {}\n", plain(&all.directory)),
        false => {
            let header = ["run", "snapshot", "size", "verified", "by"];
            let rows = all.backups.iter().map(row);
            format!("{}\n{}\n", plain(&all.directory), table(header, rows))
        }
    };
    for it in &all.partial {
        let what = match it.written {
            true => "is being written",
            false => "was left by a crash; `pgdrain migrate prune` removes it",
        };
        text += &format!("{} {what}\n", plain(&it.path));
    }
    for it in &all.unreadable {
        text += &format!("no backup: {}\n", plain(it));
    }
    text
}

fn row(it: &BackupView) -> [String; 5] {
    [
        it.run.clone(),
        it.snapshot_at
            .round(jiff::Unit::Second)
            .unwrap_or(it.snapshot_at)
            .to_string(),
        size(it.bytes),
        verified(&it.verified),
        it.by.clone(),
    ]
}

fn verified(it: &Verified) -> String {
    match (it.how, it.tables, it.rows) {
        (Verify::Restore, Some(tables), Some(rows)) => {
            format!("restored, {tables} tables, {rows} rows")
        }
        (how, _, _) => how.to_string(),
    }
}

fn size(bytes: u64) -> String {
    match bytes >> 20 {
        0 => format!("{} KiB", bytes.div_ceil(1024)),
        some => format!("{some} MiB"),
    }
}

fn pruned_text(pruned: &Pruned) -> String {
    let mut text = String::new();
    for run in &pruned.removed {
        text += &format!("removed the backup of run {}\n", plain(run));
    }
    for path in &pruned.abandoned {
        text += &format!("removed {}, left by a crash\n", plain(path));
    }
    for failed in &pruned.failed {
        text += &format!("not removed: {}\n", plain(failed));
    }
    match text.is_empty() {
        true => "nothing to remove\n".to_owned(),
        false => text,
    }
}

fn restored_text(it: &Restored) -> String {
    let owners = match it.owners {
        true => "",
        false => "; owners and grants were not restored, which takes a superuser",
    };
    format!(
        "database {} holds {} tables with {} rows as of {}, restored in {}{owners}",
        plain(&it.into),
        it.tables,
        it.rows,
        it.snapshot_at,
        millis(it.elapsed_ms)
    )
}
