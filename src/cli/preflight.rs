//! `pgdrain migrate preflight`: every check before a migration, as a list and as files to keep.

use std::path::PathBuf;

use clap::Args;

use super::arguments::Asking;
use super::exit::Exit;
use super::migrate::Files;
use super::output::{note, plain};
use super::planning::{Wish, ask};
use super::report_files::save;
use crate::runner::preflight::{Check, CheckOutcome, PreflightReport, page};

#[derive(Args, Debug)]
pub(super) struct Preflight {
    #[command(flatten)]
    files: Files,
    #[command(flatten)]
    wish: Wish,
    /// The way down instead of the way up.
    #[arg(long)]
    down: bool,
    /// Write preflight-report-TIME.json and a page for people beside it into this directory.
    #[arg(long, value_name = "DIR")]
    report: Option<PathBuf>,
    #[command(flatten)]
    asking: Asking,
}

impl Preflight {
    pub(super) async fn show(self) -> anyhow::Result<Exit> {
        let request = self.wish.request(&self.files, self.down)?;
        let client = self.asking.client()?;
        let report: PreflightReport =
            ask(&client, &self.files.database, "preflight", &request).await?;
        self.asking.format().print(&report, text)?;
        if let Some(directory) = &self.report {
            let json = serde_json::to_vec_pretty(&report)?;
            let html = page(&report).into_bytes();
            let name = format!(
                "preflight-report-{}",
                report.at.strftime("%Y%m%dT%H%M%S%.3fZ")
            );
            for path in save(directory, &name, &[("json", json), ("html", html)])? {
                note(&format!("wrote {}", path.display()));
            }
        }
        Ok(Exit(report.exit_code))
    }
}

/// A line for each check, and below it what there is to say about it.
fn text(report: &PreflightReport) -> String {
    let mut text = String::new();
    for check in &report.checks {
        text += &format!(
            "{:<8}{}: {}\n",
            word(check),
            plain(&check.name),
            plain(&check.text)
        );
        for detail in &check.details {
            text += &format!("          {}\n", plain(detail));
        }
        if let Some(hint) = &check.hint {
            text += &format!("          what to do: {}\n", plain(hint));
        }
    }
    let [failed, unknown] =
        [CheckOutcome::Failed, CheckOutcome::Unknown].map(|it| report.count(it));
    text + &match report.passed {
        true => format!("all {} checks passed\n", report.checks.len()),
        false => format!("{failed} failed, {unknown} unknown (counted as failed)\n"),
    }
}

fn word(check: &Check) -> &'static str {
    match check.outcome {
        CheckOutcome::Passed => "passed",
        CheckOutcome::Failed => "FAILED",
        CheckOutcome::Unknown => "UNKNOWN",
    }
}
