//! `pgdrain migrate verify`: is a database as it should be, and is another one like it?

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use clap::Args;
use hyper::Method;
use serde::Serialize;

use super::arguments::Asking;
use super::client::{Client, ClientError, Patience, path};
use super::exit::Exit;
use super::migrate::read_files;
use super::output::{note, plain};
use super::report_files::save;
use crate::config::Secret;
use crate::runner::preflight::CheckOutcome;
use crate::runner::source::Format;
use crate::runner::verify::{VerifyReport, VerifyRequest, differences, elsewhere};

#[derive(Args, Debug)]
pub(super) struct Verifying {
    /// The database.
    #[arg(value_name = "DB")]
    database: String,
    /// The directory of the migration files, to compare checksums.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// How the files are named and written.
    #[arg(long, value_name = "FORMAT")]
    format: Option<Format>,
    /// The table in which the files' own tool keeps its history, if it is not the usual one.
    #[arg(long, value_name = "SCHEMA.TABLE")]
    history: Option<String>,
    /// Compare schemas line by line, with another database of this pgdrain, with one that is connected to
    /// from here (postgres://..., its password best from ~/.pgpass), or with the report that `verify --json`
    /// or `--report` has written elsewhere (a file).
    #[arg(long, value_name = "DB|URL|FILE")]
    against: Option<String>,
    /// Write postflight-report-TIME.json into this directory.
    #[arg(long, value_name = "DIR")]
    report: Option<PathBuf>,
    #[command(flatten)]
    asking: Asking,
}

/// What is printed.
#[derive(Serialize)]
struct Verified {
    #[serde(flatten)]
    report: VerifyReport,
    /// What it was compared with.
    against: Option<String>,
    /// What only one of the two has; empty when nothing was compared as well.
    differences: Vec<String>,
}

impl Verifying {
    pub(super) async fn show(self) -> anyhow::Result<Exit> {
        let client = self.asking.client()?;
        let request = VerifyRequest {
            files: match &self.dir {
                Some(dir) => read_files(dir, self.format)?,
                None => Vec::new(),
            },
            format: self.format,
            history: self.history.clone(),
        };
        let report = ask(&client, &self.database, &request).await?;
        let mut against = self.against.clone();
        let other = match &self.against {
            None => None,
            Some(url) if is_url(url) => {
                let there = elsewhere(&Secret::new(url.as_str())).await;
                let (name, report) = there.map_err(|why| anyhow!("the other database: {why}"))?;
                // The URL may hold a password.
                against = Some(name);
                Some(report)
            }
            Some(name) if Path::new(name).is_file() => Some(read(name)?),
            Some(name) => Some(ask(&client, name, &VerifyRequest::default()).await?),
        };
        let verified = Verified {
            differences: other
                .as_ref()
                .map(|other| differences(&report.schema, &other.schema))
                .unwrap_or_default(),
            against,
            report,
        };
        // A schema that could not be read is like no other.
        let unread = other.is_some_and(|other| other.fingerprint.is_none());
        self.asking.format().print(&verified, text)?;
        if let Some(directory) = &self.report {
            let json = serde_json::to_vec_pretty(&verified)?;
            let at = verified.report.at.strftime("%Y%m%dT%H%M%S%.3fZ");
            for path in save(
                directory,
                &format!("postflight-report-{at}"),
                &[("json", json)],
            )? {
                note(&format!("wrote {}", path.display()));
            }
        }
        match verified.report.passed && verified.differences.is_empty() && !unread {
            true => Ok(Exit::SUCCESS),
            false => Ok(Exit::POSTFLIGHT),
        }
    }
}

fn is_url(text: &str) -> bool {
    ["postgres://", "postgresql://"]
        .iter()
        .any(|it| text.starts_with(it))
}

async fn ask(
    client: &Client,
    database: &str,
    request: &VerifyRequest,
) -> Result<VerifyReport, ClientError> {
    let path = path(&["v1", "databases", database, "migrations", "verify"]);
    client
        .send(Method::POST, &path, request, Patience::Endless)
        .await
}

fn read(file: &str) -> anyhow::Result<VerifyReport> {
    let text = fs::read(file).with_context(|| format!("{file} cannot be read"))?;
    serde_json::from_slice(&text)
        .with_context(|| format!("{file} is no report of `migrate verify`"))
}

/// A line for each check, and below them what differs.
fn text(verified: &Verified) -> String {
    let mut text = String::new();
    for check in &verified.report.checks {
        let word = match check.outcome {
            CheckOutcome::Passed => "passed",
            CheckOutcome::Failed => "FAILED",
            CheckOutcome::Unknown => "UNKNOWN",
        };
        text += &format!("{word:<8}{}: {}\n", plain(&check.name), plain(&check.text));
        for detail in &check.details {
            text += &format!("          {}\n", plain(detail));
        }
        if let Some(hint) = &check.hint {
            text += &format!("          what to do: {}\n", plain(hint));
        }
    }
    if let Some(fingerprint) = &verified.report.fingerprint {
        text += &format!("fingerprint {fingerprint}\n");
    }
    let Some(against) = &verified.against else {
        return text;
    };
    let here = plain(&verified.report.database);
    match verified.differences.as_slice() {
        [] => text += &format!("the schema is that of {}\n", plain(against)),
        lines => {
            text += &format!("- only in {here}, + only in {}:\n", plain(against));
            for line in lines {
                text += &format!("{}\n", plain(line));
            }
        }
    }
    text
}
