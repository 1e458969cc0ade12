//! `pgdrain migrate repair`: what stands part-way is looked at, and goes on or back.

use std::path::PathBuf;

use clap::Args;
use hyper::Method;
use serde_json::json;

use super::arguments::{Asking, operator};
use super::client::{ClientError, Patience, path};
use super::exit::Exit;
use super::migrate::{follow, not_started, read_files, start};
use super::output::{note, plain};
use crate::admin::types::MigrationStarted;
use crate::runner::RowState;
use crate::runner::repair::{Finding, RepairReport, RepairRequest};
use crate::runner::source::Format;
use crate::runner::types::{Direction, MigrationRequest};

#[derive(Args, Debug)]
pub(super) struct Repairing {
    /// The database.
    #[arg(value_name = "DB")]
    database: String,
    /// Say what would be done, and write nothing.
    #[arg(long, conflicts_with = "back")]
    dry_run: bool,
    /// Take back what is done of a migration that stands part-way, by its down file.
    #[arg(long, requires = "dir")]
    back: bool,
    /// The directory of the migration files, for --back.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// How the files are named and written.
    #[arg(long, value_name = "FORMAT")]
    format: Option<Format>,
    /// The table in which the files' own tool keeps its history, if it is not the usual one.
    #[arg(long, value_name = "SCHEMA.TABLE")]
    history: Option<String>,
    /// Why, for the history.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    #[command(flatten)]
    asking: Asking,
}

impl Repairing {
    pub(super) async fn ask(self) -> anyhow::Result<Exit> {
        // Before anything is written: files that cannot be read would leave it half-done.
        let back = self.way_back()?;
        let client = self.asking.client()?;
        let path = path(&["v1", "databases", &self.database, "migrations", "repair"]);
        let request = RepairRequest {
            dry_run: self.dry_run,
            reason: self.reason.clone(),
            by: Some(operator()),
        };
        let answer: Result<RepairReport, ClientError> = client
            .send(Method::POST, &path, &request, Patience::Endless)
            .await;
        let report = match answer {
            Ok(report) => report,
            Err(error) => return not_started(error, &self.database),
        };
        self.asking.format().print(&report, text)?;
        let (Some(request), 0) = (back, report.exit_code) else {
            return Ok(Exit(report.exit_code));
        };
        let there_in_part = |it: &&Finding| it.now == RowState::Partial;
        if report.findings.iter().filter(there_in_part).count() == 0 {
            note("there is nothing to take back");
            return Ok(Exit::SUCCESS);
        }
        let MigrationStarted { id } = match start(&client, &self.database, &request).await {
            Ok(started) => started,
            Err(error) => return not_started(error, &self.database),
        };
        follow(&client, &self.asking, &id, &self.database).await
    }

    /// The run that takes back what is done, if it is asked for.
    fn way_back(&self) -> anyhow::Result<Option<MigrationRequest>> {
        let (true, Some(dir)) = (self.back, &self.dir) else {
            return Ok(None);
        };
        let request = json!({
            "direction": Direction::Down,
            "steps": 1,
            "files": read_files(dir, self.format)?,
            "format": self.format,
            "history": self.history,
            "reason": self.reason,
            "by": operator(),
        });
        Ok(Some(serde_json::from_value(request)?))
    }
}

/// Each migration that stood part-way, and below it what was found and done.
fn text(report: &RepairReport) -> String {
    let mut text = String::new();
    for it in &report.findings {
        let (was, now) = (it.was.as_str(), it.now.as_str());
        let turn = match (was == now, report.dry_run) {
            (true, _) => format!("is {now}"),
            (false, true) => format!("is {was}, would be {now}"),
            (false, false) => format!("was {was}, is {now}"),
        };
        let far = match (it.done, it.of) {
            (Some(done), Some(of)) => format!(" ({done} of {of} statements)"),
            _ => String::new(),
        };
        text += &format!("{} ({}) {turn}{far}\n", plain(&it.name), it.direction);
        for found in &it.found {
            text += &format!("    found: {}\n", plain(found));
        }
        for did in &it.did {
            let verb = if report.dry_run { "would do" } else { "done" };
            text += &format!("    {verb}: {}\n", plain(did));
        }
        if let Some(next) = &it.next {
            text += &format!("    next: {}\n", plain(next));
        }
    }
    match text.is_empty() {
        true => "nothing stands part-way\n".to_owned(),
        false => text,
    }
}
