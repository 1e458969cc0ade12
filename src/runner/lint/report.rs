//! What is said about the files: the JSON of `lint`.

use serde::{Deserialize, Serialize};

use super::Hit;
use super::rules::rule;
use crate::runner::plan::{Needs, Plan};
use crate::runner::types::StepTraffic;

/// Answer of `POST /v1/databases/{db}/migrations/lint`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LintReport {
    /// The database that was asked; none if none was.
    pub database: Option<String>,
    /// The files that were looked at.
    pub files: Vec<LintedFile>,
    /// What was found, the worst first.
    pub findings: Vec<Finding>,
    /// What was found, and is allowed for a reason.
    pub suppressed: Vec<Suppressed>,
    /// Rules that could not be run, wholly or at some place.
    pub not_run: Vec<NotRun>,
    /// Why nothing could be looked at; empty otherwise.
    pub problems: Vec<String>,
    /// How many findings are errors.
    pub errors: usize,
    /// How many findings are warnings.
    pub warnings: usize,
}

/// A file that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LintedFile {
    /// Its name.
    pub file: String,
    /// The traffic it meets, by which findings are weighed.
    pub traffic: StepTraffic,
}

/// Something that was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// The rule.
    pub rule: String,
    /// How bad it is in the traffic that the file meets.
    pub severity: Severity,
    /// The file.
    pub file: String,
    /// The line, from 1.
    pub line: u32,
    /// The column in characters, from 1.
    pub column: u32,
    /// What was found.
    pub message: String,
    /// What to do instead.
    pub hint: String,
}

/// How bad something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Worth knowing.
    Note,
    /// Worth a second look.
    Warning,
    /// Not to be run like this.
    Error,
}

impl Severity {
    /// The word used in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// Something that was found and is allowed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Suppressed {
    /// What was found.
    #[serde(flatten)]
    pub finding: Finding,
    /// Why it is allowed.
    pub reason: String,
}

/// A rule that was not run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotRun {
    /// The rule.
    pub rule: String,
    /// Why.
    pub why: String,
}

impl LintReport {
    /// A report with nothing found yet.
    pub(super) fn of(database: Option<String>, plan: &Plan) -> Self {
        let file = |step: &crate::runner::plan::Step| LintedFile {
            file: step.file.clone(),
            traffic: step.traffic,
        };
        Self {
            files: plan.steps.iter().map(file).collect(),
            ..Self::refused(database, Vec::new())
        }
    }

    /// Nothing could be looked at.
    pub fn refused(database: Option<String>, problems: Vec<String>) -> Self {
        Self {
            database,
            files: Vec::new(),
            findings: Vec::new(),
            suppressed: Vec::new(),
            not_run: Vec::new(),
            problems,
            errors: 0,
            warnings: 0,
        }
    }

    pub(super) fn not_run(&mut self, rule: &str, why: impl Into<String>) {
        self.not_run.push(NotRun {
            rule: rule.to_owned(),
            why: why.into(),
        });
    }

    /// Adds what depends on no traffic.
    pub(super) fn add(&mut self, id: &str, file: &str, place: (u32, u32), message: String) {
        let Some(rule) = rule(id) else { return };
        let Some(severity) = rule.severity(Needs::Open, false) else {
            return;
        };
        self.findings.push(Finding {
            rule: rule.id.to_owned(),
            severity,
            file: file.to_owned(),
            line: place.0,
            column: place.1,
            message,
            hint: rule.hint.to_owned(),
        });
    }

    /// Adds what was found about files as such.
    pub(super) fn hits(&mut self, hits: Vec<(String, Hit)>) {
        for (file, hit) in hits {
            if self.files.iter().any(|it| it.file == file) {
                self.add(hit.rule, &file, (1, 1), hit.message);
            }
        }
    }

    /// Sorts and counts.
    pub(super) fn finish(mut self) -> Self {
        let place = |it: &Finding| (it.file.clone(), it.line, it.column, it.rule.clone());
        self.findings
            .sort_by(|a, b| b.severity.cmp(&a.severity).then(place(a).cmp(&place(b))));
        self.suppressed.sort_by_key(|it| place(&it.finding));
        let count = |severity| {
            self.findings
                .iter()
                .filter(|it| it.severity == severity)
                .count()
        };
        (self.errors, self.warnings) = (count(Severity::Error), count(Severity::Warning));
        self
    }
}
