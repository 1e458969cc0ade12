//! What is said about a plan before it runs: the JSON, and the hash that approvals bind to.

use serde::{Deserialize, Serialize};

use super::effect::Work;
use super::lock::LockMode;
use crate::config::{Canary, OnCanaryFailure, Scope, Then};
use crate::runner::script::TxMode;
use crate::runner::source::{Sha256, Version};
use crate::runner::types::{Direction, StepTraffic};

/// Answer of `POST /v1/databases/{db}/migrations/plan`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanReport {
    /// The database.
    pub database: String,
    /// Towards newer or older versions.
    pub direction: Direction,
    /// SHA-256 over files, statements and decisions, in hexadecimal; none when there is no plan.
    pub hash: Option<String>,
    /// `server_version_num` of the server that was asked; none if it could not be.
    pub server_version: Option<i32>,
    /// The files, in the order in which they would run.
    pub steps: Vec<PlannedStep>,
    /// Neighbouring files that meet the same traffic.
    pub phases: Vec<Phase>,
    /// The tables that are locked, with their sizes.
    pub tables: Vec<TableSize>,
    /// What is tried before the last window lets everybody in; none where nothing is, or there is no window
    /// then. No part of the hash.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary: Option<PlannedCanary>,
    /// What is worth knowing but stops nothing.
    pub notes: Vec<String>,
    /// Why there is no plan; empty when there is one.
    pub problems: Vec<String>,
}

impl PlanReport {
    /// There is no plan.
    pub(in crate::runner) fn refused(
        database: &str,
        direction: Direction,
        problems: Vec<String>,
    ) -> Self {
        Self {
            database: database.to_owned(),
            direction,
            hash: None,
            server_version: None,
            steps: Vec::new(),
            phases: Vec::new(),
            tables: Vec::new(),
            canary: None,
            notes: Vec::new(),
            problems,
        }
    }
}

/// A canary, as it is configured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedCanary {
    /// Whose new connections are let in; none where only the command is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<Scope>,
    /// Whether a command is run.
    pub command: bool,
    /// How long the scope is let in at least, in milliseconds.
    pub lasting_ms: u64,
    /// What becomes of the files that are applied when it fails.
    pub on_failure: OnCanaryFailure,
    /// What happens to traffic then, if they stay.
    pub then: Then,
}

impl PlannedCanary {
    /// What is configured, if it comes to a canary: a way up whose last file has a window.
    pub(in crate::runner) fn of(canary: &Canary, report: &PlanReport) -> Option<Self> {
        let last = report.steps.last()?;
        let comes = report.direction == Direction::Up && last.traffic != StepTraffic::Open;
        (comes && canary.is_wanted()).then(|| Self {
            scope: canary.scope.clone(),
            command: canary.command.is_some(),
            lasting_ms: u64::try_from(canary.lasting.as_millis()).unwrap_or(u64::MAX),
            on_failure: canary.on_failure,
            then: canary.then,
        })
    }
}

impl std::fmt::Display for PlannedCanary {
    /// `canary before everybody is let in: user "app", its command; if it fails, traffic stays held`
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("canary before everybody is let in: ")?;
        match (&self.scope, self.command) {
            (Some(scope), true) => write!(f, "{scope}, and its command")?,
            (Some(scope), false) => write!(f, "{scope}")?,
            (None, _) => f.write_str("its command")?,
        }
        if self.lasting_ms > 0 {
            let lasting = std::time::Duration::from_millis(self.lasting_ms);
            write!(f, ", for {} at least", humantime::format_duration(lasting))?;
        }
        f.write_str(match (self.on_failure, self.then) {
            (OnCanaryFailure::Down, _) => "; if it fails, all is taken back in the same window",
            (OnCanaryFailure::Hold, Then::Stay) => "; if it fails, traffic stays held",
            (OnCanaryFailure::Hold, Then::Open) => {
                "; if it fails, everybody is let in all the same"
            }
        })
    }
}

/// One file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedStep {
    /// The migration's version.
    pub version: Version,
    /// The file.
    pub file: String,
    /// SHA-256 of the file, without byte order mark and with LF.
    pub sha256: String,
    /// How it meets transactions.
    pub mode: TxMode,
    /// What traffic it will meet.
    pub traffic: StepTraffic,
    /// The most traffic that would be safe.
    pub needs: Needs,
    /// The worst of its statements.
    pub risk: Risk,
    /// How to go back.
    pub way_down: WayDown,
    /// How it is run piece by piece, in a sentence; none if it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batches: Option<String>,
    /// Its statements.
    pub statements: Vec<PlannedStatement>,
}

/// One statement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedStatement {
    /// Its place in the file, from 1.
    pub number: u32,
    /// The line it starts on, from 1.
    pub line: u32,
    /// Its first words; never more, since statements may hold passwords.
    pub text: String,
    /// SHA-256 of its text.
    pub sha256: String,
    /// Whether it runs in the file's transaction.
    pub transaction: bool,
    /// Locks on tables, views and sequences; an unknown statement may lock anything.
    pub locks: Vec<PlannedLock>,
    /// How much there is to do meanwhile.
    pub work: Work,
    /// Whether all of this is known. What is not was taken for the worst.
    pub known: bool,
    /// The most traffic that would be safe.
    pub needs: Needs,
    /// What can go wrong.
    pub risk: Risk,
    /// Why.
    pub reasons: Vec<String>,
    /// Triggers that its rows will fire.
    pub triggers: Vec<String>,
    /// What goes with what it drops, or keeps it from being dropped; none if nobody could be asked.
    pub cascade: Option<Vec<String>>,
    /// How long it took in a rehearsal; none if it was in none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected: Option<Expected>,
}

/// What a rehearsal says of a statement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Expected {
    /// How long it took, in milliseconds.
    pub elapsed_ms: u64,
    /// Among which rows, in words.
    pub among: String,
    /// When the rehearsal began, RFC 3339 in UTC.
    pub at: String,
}

/// A lock on a relation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedLock {
    /// Its name; `*` is any.
    pub relation: String,
    /// How strong.
    pub mode: LockMode,
    /// Made by an earlier statement of this plan: nobody uses it yet.
    pub new: bool,
}

/// What traffic a statement can do with, most first.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Needs {
    /// Applications work on.
    #[default]
    Open,
    /// Applications only read.
    ReadOnly,
    /// Nobody else.
    Exclusive,
}

impl Needs {
    /// The word used in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::ReadOnly => "read_only",
            Self::Exclusive => "exclusive",
        }
    }
}

/// What can go wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Risk {
    /// Little.
    #[default]
    Low,
    /// Somebody may wait.
    Medium,
    /// Data can be lost, everybody can wait long, or it is not known.
    High,
}

impl Risk {
    /// The word used in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
        }
    }
}

/// How to go back behind a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WayDown {
    /// By what.
    pub by: Back,
    /// Whether rows or values are gone that no file brings back.
    pub loses_data: bool,
}

/// What leads back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Back {
    /// Its down file.
    DownFile,
    /// The up file, for a down file.
    UpFile,
    /// Only a backup.
    Backup,
}

/// Files in a row that meet the same traffic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Phase {
    /// What traffic.
    pub traffic: StepTraffic,
    /// The files.
    pub files: Vec<String>,
}

/// How large a table is, by the last ANALYZE or VACUUM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableSize {
    /// Its name.
    pub relation: String,
    /// Its rows; none if it was never analyzed.
    pub rows: Option<i64>,
    /// Bytes with TOAST; none if it was never analyzed.
    pub bytes: Option<i64>,
    /// Bytes of its indexes; none if it was never analyzed.
    pub index_bytes: Option<i64>,
}

/// What the hash is made of, in this order. Sizes and risks are not: they change by themselves.
#[derive(Serialize)]
struct Bound<'a> {
    /// Changes when the meaning of the rest does.
    format: &'static str,
    direction: Direction,
    files: Vec<BoundFile<'a>>,
}

#[derive(Serialize)]
struct BoundFile<'a> {
    version: &'a Version,
    file: &'a str,
    sha256: &'a str,
    mode: TxMode,
    traffic: StepTraffic,
    needs: Needs,
    statements: Vec<BoundStatement<'a>>,
}

#[derive(Serialize)]
struct BoundStatement<'a> {
    sha256: &'a str,
    locks: Vec<(&'a str, LockMode)>,
    work: Work,
    triggers: &'a [String],
    cascade: &'a Option<Vec<String>>,
}

/// The hash of what would be done. Stable: it changes when a file, a statement, a lock, the traffic,
/// a trigger that fires or a thing that is dropped changes, and by nothing else.
pub(super) fn hash(direction: Direction, steps: &[PlannedStep]) -> String {
    let files = steps
        .iter()
        .map(|step| BoundFile {
            version: &step.version,
            file: &step.file,
            sha256: &step.sha256,
            mode: step.mode,
            traffic: step.traffic,
            needs: step.needs,
            statements: step.statements.iter().map(bound).collect(),
        })
        .collect();
    let bound = Bound {
        format: "pgdrain plan 1",
        direction,
        files,
    };
    // Plain data in a fixed order: there is nothing that could not be written.
    let text = serde_json::to_string(&bound).unwrap_or_default();
    Sha256::of(text.as_bytes()).to_string()
}

fn bound(it: &PlannedStatement) -> BoundStatement<'_> {
    let locks = it
        .locks
        .iter()
        .map(|lock| (lock.relation.as_str(), lock.mode));
    BoundStatement {
        sha256: &it.sha256,
        locks: locks.collect(),
        work: it.work,
        triggers: &it.triggers,
        cascade: &it.cascade,
    }
}
