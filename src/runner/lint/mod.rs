//! Looks for what goes wrong with migrations: by their text, by the catalog, by the rows.
//!
//! A rule is a line of the table in `rules`, and a function in the file of its group. How bad a
//! finding is depends on the traffic that the file meets: a plain `CREATE INDEX` is wrong beside
//! writers and right in an exclusive window. Squawk's linter is asked in `squawk` alone.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "a rule names the few kinds of acts that it is about"
)]

mod constraints;
mod destructive;
mod indexes;
mod locks;
mod names;
mod published;
mod report;
mod rows;
mod rules;
mod settings;
mod squawk;
mod suppress;

pub(super) use locks::is_ddl;
pub use report::{Finding, LintReport, LintedFile, NotRun, Severity, Suppressed};
pub use rules::{Asks, RULES, Rule, rule};

use std::collections::BTreeSet;

use super::catalog::Reader;
use super::plan::{Needs, Plan, Step, Studied, StudiedStep, study};
use super::source::MigrationSet;
use super::split::line_and_column;
use super::types::StepTraffic;
use suppress::Suppression;

/// A file that is looked at.
struct File<'a> {
    step: &'a Step,
    statements: &'a [Studied<'a>],
    /// What traffic it will meet.
    traffic: Needs,
}

/// What a rule found.
struct Hit {
    rule: &'static str,
    /// Byte of the file.
    at: usize,
    message: String,
    /// The tables are so small that it matters less.
    small: bool,
}

impl Hit {
    fn new(rule: &'static str, at: usize, message: impl Into<String>) -> Self {
        Self {
            rule,
            at,
            message: message.into(),
            small: false,
        }
    }
}

/// A question to the rows: if the query finds any, the rule has found something.
struct Probe {
    rule: &'static str,
    at: usize,
    query: String,
    message: String,
}

/// Where an act of a statement stands in its file.
fn place(studied: &Studied<'_>, act: &super::shape::Act) -> usize {
    studied.statement.range.start + act.range.start
}

/// Looks at every file, without a database.
pub fn offline(set: &MigrationSet, plan: &Plan) -> LintReport {
    let studied = study(plan, None);
    let mut report = LintReport::of(None, plan);
    for step in &studied {
        let file = file(step);
        let hits = by_text(&file);
        judge(&file, hits, true, &mut report);
    }
    report.hits(names::directory(set));
    for rule in RULES.iter().filter(|it| it.asks != Asks::Text) {
        report.not_run(rule.id, "no database was asked (--offline)");
    }
    report.finish()
}

/// Looks at the files of a plan with what the database said about it. The session only reads, and
/// gives a question up that has to wait.
pub(super) async fn online(
    database: &str,
    set: &MigrationSet,
    plan: &Plan,
    studied: &[StudiedStep<'_>],
    reader: &Reader,
) -> LintReport {
    let mut report = LintReport::of(Some(database.to_owned()), plan);
    let mut failed = BTreeSet::new();
    for step in studied {
        let file = file(step);
        let mut hits = by_text(&file);
        for probe in constraints::probes(&file) {
            match reader.finds(&probe.query).await {
                Ok(true) => hits.push(Hit::new(probe.rule, probe.at, probe.message)),
                Ok(false) => {}
                Err(error) => {
                    failed.insert(probe.rule);
                    let why = super::report::chain(&error);
                    let name = &file.step.file;
                    report.not_run(probe.rule, format!("{name}: {why}"));
                }
            }
        }
        judge(&file, hits, false, &mut report);
    }
    report.hits(names::directory(set));
    report.finish()
}

fn file<'a>(step: &'a StudiedStep<'a>) -> File<'a> {
    File {
        step: step.step,
        statements: &step.statements,
        traffic: needs(step.step.traffic),
    }
}

fn needs(traffic: StepTraffic) -> Needs {
    match traffic {
        StepTraffic::Open => Needs::Open,
        StepTraffic::ReadOnly => Needs::ReadOnly,
        StepTraffic::Exclusive => Needs::Exclusive,
    }
}

/// Every rule that asks nobody, and every one that asks what was asked already.
fn by_text(file: &File<'_>) -> Vec<Hit> {
    let mut hits = squawk::check(file);
    for check in [
        locks::check,
        constraints::check,
        destructive::check,
        indexes::check,
        names::check,
        published::check,
        rows::check,
        settings::check,
    ] {
        check(file, &mut hits);
    }
    hits
}

/// Weighs what was found, and takes off what the file allows with a reason.
fn judge(file: &File<'_>, hits: Vec<Hit>, offline: bool, report: &mut LintReport) {
    let text = file.step.script.text();
    let mut allowed = suppress::read(text, &ranges(file));
    let mut seen = BTreeSet::new();
    for hit in hits {
        let Some(rule) = rule(hit.rule) else { continue };
        let Some(severity) = rule.severity(file.traffic, hit.small) else {
            continue;
        };
        if !seen.insert((hit.rule, hit.at)) {
            continue;
        }
        let (line, column) = line_and_column(text, hit.at.min(text.len()));
        let finding = Finding {
            rule: rule.id.to_owned(),
            severity,
            file: file.step.file.clone(),
            line,
            column,
            message: hit.message,
            hint: rule.hint.to_owned(),
        };
        match reason(&mut allowed, file, rule.id, hit.at) {
            Some(reason) => report.suppressed.push(Suppressed { finding, reason }),
            None => report.findings.push(finding),
        }
    }
    for hit in suppress::faults(&allowed, offline) {
        let (line, column) = line_and_column(text, hit.at);
        report.add(hit.rule, &file.step.file, (line, column), hit.message);
    }
}

fn ranges(file: &File<'_>) -> Vec<std::ops::Range<usize>> {
    let statements = file.step.script.statements();
    statements.iter().map(|it| it.range.clone()).collect()
}

/// The reason for which a rule is allowed at a place, if it is.
fn reason(allowed: &mut [Suppression], file: &File<'_>, rule: &str, at: usize) -> Option<String> {
    let statements = file.step.script.statements();
    let statement = statements.iter().rposition(|it| it.range.start <= at);
    let it = allowed.iter_mut().find(|it| it.covers(rule, statement))?;
    it.used = true;
    Some(it.reason.clone())
}
