//! What is asked of a rehearsal, and what it says.

use std::time::Duration;

use serde::{Deserialize, Serialize, Serializer};

use crate::config::{HumanDuration, Secret, words};
use crate::runner::plan::LockMode;
use crate::runner::report::FileReport;
use crate::runner::source::{Format, PostedFile};

words! {
    /// What a scratch copy of a database holds.
    #[derive(Default)]
    Data {
        /// The schema without any row.
        #[default]
        None = "none",
        /// Schema and rows.
        Full = "full",
    }
}

words! {
    /// Where a rehearsal is made.
    Place {
        /// In a copy that is made for it, on the server of the database, and dropped after it.
        Scratch = "scratch",
        /// In the database that somebody named for it.
        Staging = "staging",
        /// In the database itself, which exists for nothing else.
        Here = "here",
    }
}

/// Body of `POST /v1/databases/{db}/migrations/rehearse`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RehearseRequest {
    /// Every file of the directory.
    pub files: Vec<PostedFile>,
    /// How the files are named and written; told by their names if it is not said.
    #[serde(default)]
    pub format: Option<Format>,
    /// The table in which the format's own tool keeps its history, as `schema.table`.
    #[serde(default)]
    pub history: Option<String>,
    /// How many migrations at most; none is all that are pending.
    #[serde(default)]
    pub steps: Option<u32>,
    /// What the scratch copy holds.
    #[serde(default)]
    pub data: Data,
    /// The database to rehearse in instead of a scratch copy, as a connection URL. Its own history
    /// says what is pending there, and what was pending is applied there afterwards.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        serialize_with = "exposed"
    )]
    pub on: Option<Secret>,
    /// For each of these numbers another rehearsal, with so many made-up rows in each table that the
    /// files touch.
    #[serde(default)]
    pub scale: Vec<u32>,
    /// What must not take longer.
    #[serde(default)]
    pub limits: Limits,
    /// Whether files that are disabled until a later day are rehearsed too.
    #[serde(default)]
    pub disabled: bool,
    /// How long a statement may run; `0s` is without limit.
    #[serde(default)]
    pub statement_timeout: Option<HumanDuration>,
    /// A role whose row-level security is measured: queries as this role against the same as one that
    /// bypasses it.
    #[serde(default)]
    pub rls_role: Option<String>,
    /// Whether the history of the database keeps the result.
    #[serde(default = "yes")]
    pub record: bool,
    /// Who asks.
    #[serde(default)]
    pub by: Option<String>,
}

fn yes() -> bool {
    true
}

/// The one place where it travels: from the command line to the proxy.
#[expect(clippy::ref_option, reason = "serde asks for it")]
fn exposed<S: Serializer>(url: &Option<Secret>, serializer: S) -> Result<S::Ok, S::Error> {
    url.as_ref().map(Secret::expose).serialize(serializer)
}

/// The most tables of made-up rows that are asked for.
const SCALE_MAX: u32 = 10_000_000;

impl RehearseRequest {
    /// What the shape of the JSON does not tell; every fault found.
    pub(super) fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        if self.steps == Some(0) {
            faults.push("steps must be at least 1".to_owned());
        }
        if self.scale.iter().any(|it| *it == 0 || *it > SCALE_MAX) {
            faults.push(format!("scale must be from 1 to {SCALE_MAX} rows"));
        }
        if self.on.is_some() && (self.data != Data::None || !self.scale.is_empty()) {
            let text = "data and scale are for a scratch copy, on names a database that is there";
            faults.push(text.to_owned());
        }
        faults
    }
}

/// What must not take longer in a rehearsal; document 3's limits unless it is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// One file up.
    pub migration: HumanDuration,
    /// One index.
    pub index: HumanDuration,
    /// All files down.
    pub rollback: HumanDuration,
}

impl Default for Limits {
    fn default() -> Self {
        let seconds = |it| HumanDuration(Duration::from_secs(it));
        Self {
            migration: seconds(30),
            index: seconds(10),
            rollback: seconds(20),
        }
    }
}

/// What a rehearsal found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rehearsal {
    /// Where it was made.
    pub place: Place,
    /// What the scratch copy held at first.
    pub data: Data,
    /// The rehearsal that was asked for, and one for each scale.
    pub courses: Vec<Course>,
    /// Files without a way back. The way down ended behind the last of them.
    pub irreversible: Vec<String>,
    /// What is not as it should be.
    pub findings: Vec<String>,
    /// What is worth knowing.
    pub notes: Vec<String>,
}

/// Up, down, and up again.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Course {
    /// How many rows were made up for each table that is touched; none where they were not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scale: Option<u32>,
    /// Those tables.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub filled: Vec<Filled>,
    /// SHA-256 of the schema before the first file.
    pub before: Option<String>,
    /// The files up.
    pub up: Leg,
    /// The files down; none where nothing leads back.
    pub down: Option<Leg>,
    /// The same files up again.
    pub again: Option<Leg>,
    /// Queries as the role that was named against the same past row-level security.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rls: Vec<RlsCost>,
    /// The schema before the files and behind them, for runs to be held against; none if they did not come so far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shapes: Option<Shapes>,
}

/// A schema without owners and grants, before and behind the way up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shapes {
    /// SHA-256 before the first file.
    pub before: String,
    /// SHA-256 behind the last.
    pub after: String,
}

/// A table and the rows that were made up for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Filled {
    /// The table.
    pub table: String,
    /// Why there are none; none where there are.
    pub not_filled: Option<String>,
}

/// One way through the files.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Leg {
    /// The files that were begun.
    pub files: Vec<RehearsedFile>,
    /// How long they took, in milliseconds.
    pub elapsed_ms: u64,
    /// SHA-256 of the schema after them; none if they did not come so far.
    pub fingerprint: Option<String>,
}

/// A file and what its statements did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RehearsedFile {
    /// How it ended.
    pub file: FileReport,
    /// Its statements that ended well.
    pub trace: Vec<StatementTrace>,
}

/// What one statement really did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatementTrace {
    /// Its place in the file, from 1.
    pub number: u32,
    /// The line it starts on, from 1.
    pub line: u32,
    /// Its first words; never more, since statements may hold passwords.
    pub text: String,
    /// SHA-256 of its text, as in a plan.
    pub sha256: String,
    /// How long it took, in milliseconds.
    pub elapsed_ms: u64,
    /// The strongest lock on each table, view and sequence that it took and its file did not hold
    /// before.
    pub locks: Vec<TracedLock>,
    /// Whether the locks were looked for while it ran, since they are gone when it ends: short ones
    /// may be missing.
    pub sampled: bool,
    /// Tables, materialized views and indexes whose rows were written into a new file.
    pub rewritten: Vec<String>,
}

/// A lock that was taken.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TracedLock {
    /// What is locked.
    pub relation: String,
    /// How strong.
    pub mode: LockMode,
    /// Whether the files made it: nobody uses it yet.
    pub new: bool,
}

/// What row-level security costs a query.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RlsCost {
    /// The table that was read.
    pub table: String,
    /// How long it took as the role, in milliseconds: the median of several.
    pub as_role_ms: f64,
    /// The same past row-level security.
    pub bypassing_ms: f64,
}
