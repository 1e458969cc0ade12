//! `pgdrain migrate plan` and `pgdrain migrate lint`: what would be done, and what is wrong with it.

use std::path::PathBuf;

use clap::Args;
use hyper::Method;

use super::arguments::Asking;
use super::client::{Client, ClientError, Patience, path};
use super::exit::Exit;
use super::migrate::{Files, read_files};
use super::output::{millis, plain, table};
use crate::runner::lint::{Finding, LintReport, Severity};
use crate::runner::lint_offline;
use crate::runner::plan::{Back, PlanReport, PlannedStatement, PlannedStep, TableSize};
use crate::runner::source::Format;
use crate::runner::types::{Direction, PlanRequest, StepTraffic, TrafficMode};

/// Which files, and what traffic they may meet.
#[derive(Args, Debug)]
pub(super) struct Wish {
    /// What traffic the files may meet: open, read_only, exclusive, or auto, which decides for each
    /// file.
    #[arg(long, value_name = "HOW", default_value = "auto")]
    pub(super) traffic: TrafficMode,
    /// How many migrations at most.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) steps: Option<u32>,
}

impl Wish {
    /// The same as the admin HTTP has it, with the files themselves.
    ///
    /// # Errors
    /// When the files cannot be read; every fault of them.
    pub(super) fn request(&self, files: &Files, down: bool) -> anyhow::Result<PlanRequest> {
        Ok(PlanRequest {
            direction: match down {
                true => Direction::Down,
                false => Direction::Up,
            },
            steps: self.steps,
            files: read_files(&files.dir, files.format)?,
            format: files.format,
            history: files.history.clone(),
            traffic: self.traffic,
        })
    }
}

#[derive(Args, Debug)]
pub(super) struct Planning {
    #[command(flatten)]
    files: Files,
    #[command(flatten)]
    wish: Wish,
    /// The way down instead of the way up.
    #[arg(long)]
    down: bool,
    #[command(flatten)]
    asking: Asking,
}

impl Planning {
    pub(super) async fn show(self) -> anyhow::Result<Exit> {
        let request = self.wish.request(&self.files, self.down)?;
        let client = self.asking.client()?;
        let report: PlanReport = ask(&client, &self.files.database, "plan", &request).await?;
        self.asking.format().print(&report, plan)?;
        match report.problems.is_empty() {
            true => Ok(Exit::SUCCESS),
            false => Ok(Exit::PREFLIGHT),
        }
    }
}

#[derive(Args, Debug)]
pub(super) struct Linting {
    /// The database; with --offline none is needed.
    #[arg(value_name = "DB", required_unless_present = "offline")]
    database: Option<String>,
    /// The directory of the migration files.
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// How the files are named and written; told by their names if it is not said.
    #[arg(long, value_name = "FORMAT")]
    format: Option<Format>,
    /// The table in which the files' own tool keeps its history, if it is not the usual one.
    #[arg(long, value_name = "SCHEMA.TABLE")]
    history: Option<String>,
    #[command(flatten)]
    wish: Wish,
    /// Ask no database and no pgdrain: every file, by the rules that need its text alone.
    #[arg(long, conflicts_with = "database")]
    offline: bool,
    /// End with 1 for warnings too.
    #[arg(long)]
    strict: bool,
    #[command(flatten)]
    asking: Asking,
}

impl Linting {
    pub(super) async fn show(self) -> anyhow::Result<Exit> {
        let request = PlanRequest {
            direction: Direction::Up,
            steps: self.wish.steps,
            files: read_files(&self.dir, self.format)?,
            format: self.format,
            history: self.history.clone(),
            traffic: self.wish.traffic,
        };
        let report = match &self.database {
            Some(database) => ask(&self.asking.client()?, database, "lint", &request).await?,
            None => lint_offline(&request).map_err(|faults| anyhow::anyhow!(faults.join("\n")))?,
        };
        self.asking.format().print(&report, lint)?;
        let failed = report.errors > 0
            || !report.problems.is_empty()
            || (self.strict && report.warnings > 0);
        match failed {
            true => Ok(Exit::PREFLIGHT),
            false => Ok(Exit::SUCCESS),
        }
    }
}

pub(super) async fn ask<T: serde::de::DeserializeOwned>(
    client: &Client,
    database: &str,
    what: &str,
    request: &PlanRequest,
) -> Result<T, ClientError> {
    let path = path(&["v1", "databases", database, "migrations", what]);
    // The rows are asked too, each question for five seconds.
    client
        .send(Method::POST, &path, request, Patience::Endless)
        .await
}

/// A plan for people: a head, a table of statements, what they mean, how to go back.
fn plan(report: &PlanReport) -> String {
    let mut text = String::new();
    for problem in &report.problems {
        text += &format!("{}\n", plain(problem));
    }
    if report.steps.is_empty() && report.problems.is_empty() {
        return "nothing to do\n".to_owned();
    }
    if let Some(hash) = &report.hash {
        text += &format!("plan {hash}\n");
    }
    for (number, phase) in report.phases.iter().enumerate() {
        let files = phase.files.join(", ");
        text += &format!(
            "phase {}, {}: {}\n",
            number + 1,
            traffic_word(phase.traffic),
            plain(&files)
        );
    }
    if let Some(canary) = &report.canary {
        text += &format!("{}\n", plain(&canary.to_string()));
    }
    for step in &report.steps {
        text += &format!("\n{}\n", step_text(step));
    }
    if !report.tables.is_empty() {
        let header = ["table", "rows", "size", "indexes"];
        text += &format!("\n{}\n", table(header, report.tables.iter().map(size_row)));
    }
    for note in &report.notes {
        text += &format!("\nnote: {}", plain(note));
    }
    text
}

fn traffic_word(traffic: StepTraffic) -> &'static str {
    match traffic {
        StepTraffic::Open => "open",
        StepTraffic::ReadOnly => "read_only",
        StepTraffic::Exclusive => "exclusive",
    }
}

fn step_text(step: &PlannedStep) -> String {
    let back = match step.way_down.by {
        Back::DownFile => "its down file",
        Back::UpFile => "its up file",
        Back::Backup => "a backup alone",
    };
    let lost = match step.way_down.loses_data {
        true => ", without the data that is gone",
        false => "",
    };
    let header = ["line", "statement", "tx", "locks", "work", "needs", "risk"];
    let mut text = format!(
        "{}: {}, risk {}\n{}\n",
        plain(&step.file),
        traffic_word(step.traffic),
        step.risk.as_str(),
        table(header, step.statements.iter().map(statement_row))
    );
    for statement in &step.statements {
        for detail in details(statement) {
            text += &format!("  line {}: {}\n", statement.line, plain(&detail));
        }
    }
    if let Some(batches) = &step.batches {
        text += &format!("  in {}\n", plain(batches));
    }
    text + &format!("  back by {back}{lost}")
}

fn statement_row(it: &PlannedStatement) -> [String; 7] {
    let locks = it.locks.iter().map(|lock| match lock.new {
        true => format!("{} (new)", lock.relation),
        false => format!("{} {}", lock.relation, lock.mode),
    });
    [
        it.line.to_string(),
        it.text.clone(),
        if it.transaction { "yes" } else { "no" }.to_owned(),
        locks.collect::<Vec<_>>().join(", "),
        it.work.as_str().to_owned(),
        it.needs.as_str().to_owned(),
        it.risk.as_str().to_owned(),
    ]
}

fn details(it: &PlannedStatement) -> Vec<String> {
    let mut all = it.reasons.clone();
    all.extend(it.expected.iter().map(|it| {
        let took = millis(it.elapsed_ms);
        format!(
            "took {took} in a rehearsal at {}, among {}",
            it.at, it.among
        )
    }));
    all.extend(it.triggers.iter().map(|it| format!("fires {it}")));
    match &it.cascade {
        Some(others) => all.extend(others.iter().map(|it| format!("depends on it: {it}"))),
        None => all.push("what depends on it could not be asked".to_owned()),
    }
    all
}

fn size_row(size: &TableSize) -> [String; 4] {
    let unknown = || "unknown".to_owned();
    let bytes = |bytes: Option<i64>| bytes.map_or_else(unknown, megabytes);
    [
        size.relation.clone(),
        size.rows.map_or_else(unknown, |it| it.to_string()),
        bytes(size.bytes),
        bytes(size.index_bytes),
    ]
}

fn megabytes(bytes: i64) -> String {
    match bytes >> 20 {
        0 => format!("{} KiB", bytes >> 10),
        some => format!("{some} MiB"),
    }
}

/// Findings for people, one a paragraph, as compilers write them.
fn lint(report: &LintReport) -> String {
    let mut text = String::new();
    for problem in &report.problems {
        text += &format!("error: {}\n", plain(problem));
    }
    for it in &report.findings {
        text += &finding(it);
    }
    for it in &report.suppressed {
        let (finding, reason) = (&it.finding, plain(&it.reason));
        let (file, line) = (plain(&finding.file), finding.line);
        text += &format!("{file}:{line}: allowed {}: {reason}\n", finding.rule);
    }
    let mut skipped: Vec<_> = report.not_run.iter().map(|it| it.rule.as_str()).collect();
    skipped.dedup();
    if !skipped.is_empty() {
        let why = report.not_run.first().map_or("", |it| it.why.as_str());
        text += &format!("not run: {} ({})\n", skipped.join(", "), plain(why));
    }
    let count = |many: usize, what: &str| match many {
        1 => format!("1 {what}"),
        _ => format!("{many} {what}s"),
    };
    text + &format!(
        "{}, {} in {}\n",
        count(report.errors, "error"),
        count(report.warnings, "warning"),
        count(report.files.len(), "file")
    )
}

fn finding(it: &Finding) -> String {
    let severity = match it.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
        Severity::Note => "note",
    };
    format!(
        "{}:{}:{}: {severity}: {} [{}]\n  instead: {}\n",
        plain(&it.file),
        it.line,
        it.column,
        plain(&it.message),
        it.rule,
        it.hint
    )
}
