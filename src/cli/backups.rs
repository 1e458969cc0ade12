//! `pgdrain migrate backups`, `prune` and `restore`: what runs have kept, and the way back from it.

use clap::Args;
use hyper::Method;

use super::arguments::{Asking, operator, words};
use super::client::{ClientError, Patience, path};
use super::exit::Exit;
use super::output::{millis, note, plain, table};
use crate::config::{HumanDuration, Preset, Verify};
use crate::runner::backup::{BackupView, Backups, Pruned, RestoreRequest, Restored, Verified};
use crate::runner::restore::{InPlace, InPlaceRequest};

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
    #[arg(long, value_name = "SCRATCH", required_unless_present = "in_place")]
    into: Option<String>,
    /// Put it in the place of the database, which is kept under another name. Without --confirm, only say what
    /// would be lost.
    #[arg(long, conflicts_with = "into")]
    in_place: bool,
    /// The name of the database, once more: what was written since the backup is lost.
    #[arg(long, value_name = "DB", requires = "in_place")]
    confirm: Option<String>,
    /// How long the window may last.
    #[arg(long = "for", value_name = "TIME", requires = "in_place")]
    window: Option<HumanDuration>,
    /// How far to go to end transactions that are in the way: gentle, firm or force.
    #[arg(long, value_name = "PRESET", requires = "in_place",
          value_parser = words::<Preset>(Preset::WORDS))]
    ladder: Option<Preset>,
    /// Why, for the history.
    #[arg(long, value_name = "TEXT", requires = "in_place")]
    reason: Option<String>,
    #[command(flatten)]
    asking: Asking,
}

impl Restoring {
    pub(super) async fn ask(self) -> anyhow::Result<Exit> {
        let Some(into) = self.into else {
            return self.in_place().await;
        };
        let path = path(&["v1", "databases", &self.database, "migrations", "restore"]);
        let client = self.asking.client()?;
        let request = RestoreRequest {
            run: self.run,
            into,
        };
        let answer: Result<Restored, ClientError> = client
            .send(Method::POST, &path, &request, Patience::Endless)
            .await;
        match answer {
            Ok(restored) => {
                self.asking.format().print(&restored, restored_text)?;
                Ok(Exit::SUCCESS)
            }
            Err(error) => not_restored(error),
        }
    }

    async fn in_place(self) -> anyhow::Result<Exit> {
        let parts = [
            "v1",
            "databases",
            &self.database,
            "migrations",
            "restore",
            "in-place",
        ];
        let (path, client) = (path(&parts), self.asking.client()?);
        let request = InPlaceRequest {
            run: self.run,
            confirm: self.confirm,
            window: self.window,
            ladder: self.ladder,
            reason: self.reason,
            by: Some(operator()),
        };
        let answer: Result<InPlace, ClientError> = client
            .send(Method::POST, &path, &request, Patience::Endless)
            .await;
        match answer {
            Ok(answer) => {
                self.asking.format().print(&answer, in_place_text)?;
                // Asked without a confirmation nothing was done, which a script has to see.
                Ok(if answer.done {
                    Exit::SUCCESS
                } else {
                    Exit::PREFLIGHT
                })
            }
            Err(error) => not_restored(error),
        }
    }
}

fn not_restored(error: ClientError) -> anyhow::Result<Exit> {
    if !error.has_code("not_restored") {
        return Err(error.into());
    }
    note(&format!("error: {error}"));
    Ok(Exit::ROLLBACK)
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

/// What a restore in place has done, or would do.
fn in_place_text(it: &InPlace) -> String {
    let name = plain(&it.database);
    let mut text = match (&it.replaced, it.held_ms) {
        (Some(kept), held) => format!(
            "{name} is as of {} now: {} tables with {} rows; traffic was held for {}\n\
             what was there before is kept as {}\nlost with it:\n",
            it.snapshot_at,
            it.tables,
            it.rows,
            millis(held.unwrap_or_default()),
            plain(kept)
        ),
        (None, _) => format!(
            "nothing was changed. The backup is of {}: {} tables with {} rows.\nwould be lost:\n",
            it.snapshot_at, it.tables, it.rows
        ),
    };
    let rows = it
        .lost
        .iter()
        .map(|it| format!("  {}\n", plain(&it.to_string())));
    let schema = it.lost_schema.iter().map(|it| format!("  {}\n", plain(it)));
    let lost: Vec<_> = rows.chain(schema).collect();
    match lost.is_empty() {
        true => text += "  nothing\n",
        false => text.extend(lost),
    }
    for line in &it.notes {
        text += &format!("note: {}\n", plain(line));
    }
    if !it.done {
        text += &format!(
            "every session of {name} is ended by it, also those that do not come through pgdrain; \
             --confirm {name} does it\n"
        );
    }
    text
}

fn pruned_text(pruned: &Pruned) -> String {
    let mut text = String::new();
    for run in &pruned.removed {
        text += &format!("removed the backup of run {}\n", plain(run));
    }
    for name in &pruned.replaced {
        text += &format!("dropped {}, which a backup had replaced\n", plain(name));
    }
    for copy in &pruned.copies {
        text += &format!("dropped {}\n", plain(copy));
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
