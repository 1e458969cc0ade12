//! `pgdrain migrate drift`: what somebody has changed past the migrations, shown and accepted.

use clap::Args;
use hyper::Method;

use super::arguments::{Asking, operator};
use super::client::{ClientError, Patience, path};
use super::exit::Exit;
use super::migrate::not_started;
use super::output::plain;
use crate::runner::drift::{DriftReport, DriftRequest};

#[derive(Args, Debug)]
pub(super) struct Drifting {
    /// The database.
    #[arg(value_name = "DB")]
    database: String,
    /// Take the schema as it is now for what the next run is held against.
    #[arg(long, requires = "reason")]
    accept: bool,
    /// Why, for the history.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    #[command(flatten)]
    asking: Asking,
}

impl Drifting {
    pub(super) async fn show(self) -> anyhow::Result<Exit> {
        let client = self.asking.client()?;
        let path = path(&["v1", "databases", &self.database, "migrations", "drift"]);
        let request = DriftRequest {
            accept: self.accept,
            reason: self.reason.clone(),
            by: Some(operator()),
        };
        let answer: Result<DriftReport, ClientError> = client
            .send(Method::POST, &path, &request, Patience::Endless)
            .await;
        match answer {
            Ok(report) => {
                self.asking.format().print(&report, text)?;
                Ok(Exit(report.exit_code))
            }
            Err(error) => not_started(error, &self.database),
        }
    }
}

fn text(report: &DriftReport) -> String {
    let mut text = format!("{}\n", plain(&report.text));
    if !report.differences.is_empty() {
        text += "- was left, + is there now:\n";
    }
    for line in &report.differences {
        text += &format!("{}\n", plain(line));
    }
    if report.accepted {
        text += "accepted: the next run is held against it\n";
    }
    text + &format!("fingerprint {}\n", report.fingerprint)
}
