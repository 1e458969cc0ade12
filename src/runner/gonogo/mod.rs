//! The decision gate before a migration: a line for each thing that has to be so, from what is known.
//!
//! What is not known counts against it. Nothing is written to the database.

mod facts;
mod lines;

use serde::{Deserialize, Serialize};

use super::Runner;
use super::lint::LintReport;
use super::plan::PlanReport;
use super::preflight::PreflightReport;
use super::source::{Format, PostedFile};
use super::timing::When;
use super::traffic::Traffic;
use super::types::{Direction, MigrationRequest, PlanRequest, TrafficMode};
use super::{StatusError, texts};
use crate::config::GateUse;

pub(super) use facts::Facts;

/// Body of `POST /v1/databases/{db}/migrations/gonogo`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GoNoGoRequest {
    /// Every file of the directory.
    pub files: Vec<PostedFile>,
    /// How many migrations at most.
    #[serde(default)]
    pub steps: Option<u32>,
    /// How the files are named and written; told by their names if it is not said.
    #[serde(default)]
    pub format: Option<Format>,
    /// The table in which the format's own tool keeps its history.
    #[serde(default)]
    pub history: Option<String>,
    /// What traffic the files may meet.
    #[serde(default)]
    pub traffic: TrafficMode,
    /// When the run is to begin.
    #[serde(default)]
    pub when: Option<When>,
    /// Who would lead back.
    #[serde(default)]
    pub rollback_by: Option<String>,
    /// Whether the run makes a backup first; as configured if it is not said.
    #[serde(default)]
    pub backup: Option<bool>,
}

/// What a line says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It is so.
    Go,
    /// It is not so.
    NoGo,
    /// It is not known; counts as no-go.
    Unknown,
}

impl Verdict {
    /// As a table shows it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Go => "go",
            Self::NoGo => "NO-GO",
            Self::Unknown => "UNKNOWN",
        }
    }
}

/// One thing that has to be so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// Its name, a word.
    pub name: String,
    /// What is known of it.
    pub verdict: Verdict,
    /// A sentence.
    pub text: String,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// Answer of `POST /v1/databases/{db}/migrations/gonogo`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GoNoGo {
    /// The database.
    pub database: String,
    /// When it was decided.
    pub at: jiff::Timestamp,
    /// The hash of the plan that it is about.
    pub plan: Option<String>,
    /// The files that would run.
    pub files: Vec<String>,
    /// Whether every line says go.
    pub go: bool,
    /// The same for a shell: 0 or 1; 5 when the files cannot be used.
    pub exit_code: u8,
    /// Every line.
    pub lines: Vec<Line>,
}

/// What the lines are made of.
pub(super) struct Known<'a> {
    preflight: &'a PreflightReport,
    plan: &'a PlanReport,
    lint: &'a LintReport,
    facts: &'a Facts,
    request: &'a GoNoGoRequest,
}

impl<T: Traffic> Runner<T> {
    /// What the gate is asked for a run, if it is to be.
    pub(super) fn gate_of(&self, request: &MigrationRequest) -> Option<GoNoGoRequest> {
        let asked = self.options.approvals.gate != GateUse::Off;
        (asked && request.direction == Direction::Up).then(|| GoNoGoRequest {
            files: request.files.clone(),
            steps: request.steps,
            format: request.format,
            history: request.history.clone(),
            traffic: request.traffic,
            when: request.when.clone(),
            rollback_by: request.rollback_by.clone(),
            backup: request.backup,
        })
    }

    /// Looks at everything that speaks for or against running the files up. Writes nothing.
    ///
    /// # Errors
    /// When the files cannot be used or the database cannot be asked at all.
    pub async fn gonogo(
        &self,
        database: &str,
        request: &GoNoGoRequest,
    ) -> Result<GoNoGo, StatusError> {
        if let Some(when) = &request.when {
            let course = when.course(jiff::Timestamp::now());
            course.map_err(|why| StatusError::Invalid(texts(&[why])))?;
        }
        self.decide_gate(database, request).await
    }

    /// The same for a run whose time has come.
    pub(super) async fn decide_gate(
        &self,
        database: &str,
        request: &GoNoGoRequest,
    ) -> Result<GoNoGo, StatusError> {
        let wish = PlanRequest {
            direction: Direction::Up,
            steps: request.steps,
            files: request.files.clone(),
            format: request.format,
            history: request.history.clone(),
            traffic: request.traffic,
        };
        let preflight = self.preflight(database, &wish).await?;
        let plan = self.plan(database, &wish).await?;
        let lint = self.lint(database, &wish).await?;
        let facts = self.facts(database, plan.hash.as_deref(), &plan).await;
        let known = Known {
            preflight: &preflight,
            plan: &plan,
            lint: &lint,
            facts: &facts,
            request,
        };
        let lines = lines::all(&known, &self.options);
        let go = lines.iter().all(|it| it.verdict == Verdict::Go);
        Ok(GoNoGo {
            database: database.to_owned(),
            at: jiff::Timestamp::now(),
            files: preflight.files.clone(),
            plan: plan.hash,
            go,
            exit_code: match (go, preflight.exit_code) {
                (true, _) => 0,
                (false, 5) => 5,
                (false, _) => 1,
            },
            lines,
        })
    }
}
