//! `pgdrain migrate rehearse`: the files up, down and up again where nobody minds.

use std::path::PathBuf;

use clap::Args;
use hyper::Method;

use super::arguments::{Asking, operator, words};
use super::client::{Patience, path};
use super::exit::Exit;
use super::follow::Follower;
use super::migrate::{Files, gone_on, not_started, read_files};
use super::output::note;
use super::report_files::save;
use crate::admin::types::MigrationStarted;
use crate::config::{HumanDuration, Secret};
use crate::runner::rehearse::{Data, Limits, RehearseRequest, page};
use crate::runner::report::Report;

#[derive(Args, Debug)]
pub(super) struct Rehearse {
    #[command(flatten)]
    files: Files,
    /// What the scratch copy of the database holds: its schema alone, or its rows too.
    #[arg(long, value_name = "WHAT", default_value = "none", value_parser = words::<Data>(Data::WORDS))]
    data: Data,
    /// Rehearse in this database instead of a scratch copy: a connection URL, better given as
    /// PGDRAIN_REHEARSE_ON. What is pending there is applied there afterwards.
    #[arg(
        long,
        value_name = "URL",
        env = "PGDRAIN_REHEARSE_ON",
        hide_env_values = true
    )]
    on: Option<Secret>,
    /// Rehearse once more for each of these numbers, such as 1k,10k,50k, with so many made-up rows
    /// in each table that the files touch.
    #[arg(long, value_name = "ROWS", value_delimiter = ',', value_parser = rows)]
    scale: Vec<u32>,
    /// How many migrations at most.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    steps: Option<u32>,
    /// Rehearse files too that are disabled until a later day.
    #[arg(long)]
    disabled: bool,
    /// How long a statement may run.
    #[arg(long, value_name = "TIME")]
    statement_timeout: Option<HumanDuration>,
    /// Measure what row-level security costs this role.
    #[arg(long, value_name = "ROLE")]
    rls_role: Option<String>,
    /// Do not keep the result in the history of the database, where plans find it.
    #[arg(long)]
    no_record: bool,
    #[command(flatten)]
    limits: LimitArguments,
    /// Write rehearsal-report-TIME.json and a page in Markdown beside it into this directory.
    #[arg(long, value_name = "DIR")]
    report: Option<PathBuf>,
    #[command(flatten)]
    asking: Asking,
}

/// What must not take longer.
#[derive(Args, Clone, Copy, Debug)]
pub(super) struct LimitArguments {
    /// How long one file may take.
    #[arg(long, value_name = "TIME", default_value = "30s")]
    limit_migration: HumanDuration,
    /// How long one index may take.
    #[arg(long, value_name = "TIME", default_value = "10s")]
    limit_index: HumanDuration,
    /// How long the way down may take.
    #[arg(long, value_name = "TIME", default_value = "20s")]
    limit_rollback: HumanDuration,
}

impl LimitArguments {
    pub(super) fn limits(self) -> Limits {
        Limits {
            migration: self.limit_migration,
            index: self.limit_index,
            rollback: self.limit_rollback,
        }
    }
}

impl Rehearse {
    pub(super) async fn run(self) -> anyhow::Result<Exit> {
        let client = self.asking.client()?;
        let request = RehearseRequest {
            files: read_files(&self.files.dir, self.files.format)?,
            format: self.files.format,
            history: self.files.history.clone(),
            steps: self.steps,
            data: self.data,
            on: self.on,
            scale: self.scale,
            limits: self.limits.limits(),
            disabled: self.disabled,
            statement_timeout: self.statement_timeout,
            rls_role: self.rls_role,
            record: !self.no_record,
            by: Some(operator()),
        };
        let database = &self.files.database;
        let path = path(&["v1", "databases", database, "migrations", "rehearse"]);
        let started = client.send(Method::POST, &path, &request, Patience::Short);
        let MigrationStarted { id } = match started.await {
            Ok(started) => started,
            Err(error) => return not_started(error, database),
        };
        let followed = Follower::new(&client, self.asking.format(), &id).follow();
        match followed.await {
            Ok(Some(view)) => {
                if let (Some(directory), Some(report)) = (&self.report, &view.report) {
                    keep(directory, report)?;
                }
                Ok(Exit(view.exit_code.unwrap_or(Exit::MIGRATION.0)))
            }
            other => gone_on(other.map(|_| ()), &id, database),
        }
    }
}

/// Writes the report for programs and for people.
pub(super) fn keep(directory: &std::path::Path, report: &Report) -> anyhow::Result<()> {
    let json = serde_json::to_vec_pretty(report)?;
    let name = format!(
        "rehearsal-report-{}",
        report.finished_at.strftime("%Y%m%dT%H%M%S%.3fZ")
    );
    let files = [("json", json), ("md", page(report).into_bytes())];
    for path in save(directory, &name, &files)? {
        note(&format!("wrote {}", path.display()));
    }
    Ok(())
}

/// `1000`, `10k`, `1M`.
fn rows(text: &str) -> Result<u32, String> {
    let (digits, times) = match text.strip_suffix(['k', 'K']) {
        Some(digits) => (digits, 1_000),
        None => match text.strip_suffix('M') {
            Some(digits) => (digits, 1_000_000),
            None => (text, 1),
        },
    };
    let number = digits
        .parse::<u32>()
        .ok()
        .and_then(|it| it.checked_mul(times));
    number
        .filter(|it| *it > 0)
        .ok_or_else(|| format!("{text:?} is no number of rows, such as 500, 10k or 1M"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_counted_in_thousands_too() {
        assert_eq!(rows("500"), Ok(500));
        assert_eq!(rows("50k"), Ok(50_000));
        assert_eq!(rows("2M"), Ok(2_000_000));
        for text in ["", "k", "0", "-1", "1G", "99999M"] {
            assert!(rows(text).is_err(), "{text}");
        }
    }
}
