//! What guards the rows and stands on top of them, saved before a run's first file: views, rules,
//! triggers, policies and grants, each with the statements that make it from nothing; and the way
//! to put it back.
//!
//! ```text
//! plan ─ its relations ─ what depends on them ─ definitions ─► pgdrain.saved_object
//!                                                                     │ compared with what is there
//!                                        one transaction, looked at ◄─┘ before it is committed
//! ```
//!
//! Definitions are read before the window: they wait behind whoever alters a table. A view that is
//! made anew gets the default privileges of its maker, so that grants are put back as: everything
//! taken from everybody but the owner, then exactly what there was.

mod acl;
mod compare;
mod entry;
mod keep;
mod read;
mod replay;

use std::fmt;

use serde::{Deserialize, Serialize};

pub(super) use acl::{Grants, Privilege, grants};
pub(super) use keep::{Saver, Saving};

use super::connect::ConnectError;
use super::history::LedgerError;

/// What can be saved, in the order in which it is put back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SavedKind {
    /// A view with its owner, options, column defaults and comments.
    View,
    /// A materialized view, with its indexes too; its rows are computed again.
    MaterializedView,
    /// A rule of a table or view.
    Rule,
    /// A trigger that somebody made, with whether it fires.
    Trigger,
    /// A policy with its roles.
    Policy,
    /// Whether policies count for a table, and for its owner.
    RowSecurity,
    /// Who may do what with a relation and its columns, a schema, or a function.
    Grants,
}

impl SavedKind {
    const ALL: [Self; 7] = [
        Self::View,
        Self::MaterializedView,
        Self::Rule,
        Self::Trigger,
        Self::Policy,
        Self::RowSecurity,
        Self::Grants,
    ];

    /// The word for it, in JSON and in `KIND/NAME`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::View => "view",
            Self::MaterializedView => "materialized_view",
            Self::Rule => "rule",
            Self::Trigger => "trigger",
            Self::Policy => "policy",
            Self::RowSecurity => "row_security",
            Self::Grants => "grants",
        }
    }

    /// The kind of a word.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.as_str() == word)
    }

    /// Whether it is a state of something that is there, rather than a thing that is made.
    fn is_state(self) -> bool {
        matches!(self, Self::RowSecurity | Self::Grants)
    }
}

impl fmt::Display for SavedKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Something as it was before a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedObject {
    /// What it is.
    pub kind: SavedKind,
    /// Its name as SQL has it, with schema, and behind that of its table where it has one.
    pub name: String,
    /// The relation that it is, or that it belongs to; none for schemas and functions.
    pub relation: Option<String>,
    /// Statements that make it from nothing, in order. Two objects are alike if these are.
    pub statements: Vec<String>,
}

impl fmt::Display for SavedObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind, self.name)
    }
}

/// Answer of `GET /v1/databases/{db}/migrations/objects?run=RUN`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedObjects {
    /// The run before which they were saved.
    pub run: String,
    /// In the order in which they can be made.
    pub objects: Vec<SavedObject>,
}

/// Body of `POST /v1/databases/{db}/migrations/objects/replay`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReplayRequest {
    /// The run before which they were saved.
    pub run: String,
    /// Which, as `KIND/NAME`; all of them if none is named.
    #[serde(default)]
    pub objects: Vec<String>,
    /// Whether it is only said what would be done.
    #[serde(default)]
    pub dry_run: bool,
    /// Who asks.
    #[serde(default)]
    pub by: Option<String>,
}

/// Answer of `POST /v1/databases/{db}/migrations/objects/replay`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replayed {
    /// The run before which they were saved.
    pub run: String,
    /// Whether nothing was to be written.
    pub dry_run: bool,
    /// Whether everything that was asked for is (with a dry run: would be) as it was saved.
    pub done: bool,
    /// How many were as they had been saved.
    pub unchanged: usize,
    /// What was put back, in order.
    pub replayed: Vec<SavedObject>,
    /// Why nothing was put back: everything that stands in the way.
    pub refused: Vec<String>,
}

/// Why saved objects are not shown or not put back.
#[derive(Debug, thiserror::Error)]
pub enum SavedError {
    /// Nothing was saved there, or nothing of that name.
    #[error("{0}")]
    NotFound(String),
    /// Not now: a migration runs, or the history cannot be read.
    #[error(transparent)]
    History(#[from] LedgerError),
    /// No connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The server refused a statement; nothing was put back.
    #[error("{what}: {}", super::report::chain(.source))]
    Server {
        /// What was being done.
        what: String,
        /// What the server said.
        source: tokio_postgres::Error,
    },
    /// It was put back and is not what was saved; nothing of it stays.
    #[error("{0}")]
    Different(String),
}

impl SavedError {
    fn server(what: impl Into<String>) -> impl FnOnce(tokio_postgres::Error) -> Self {
        let what = what.into();
        move |source| Self::Server { what, source }
    }
}
