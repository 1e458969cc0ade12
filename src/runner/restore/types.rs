//! What is asked of a restore in place, and what is answered.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::config::{HumanDuration, Preset};

/// Body of `POST /v1/databases/{db}/migrations/restore/in-place`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InPlaceRequest {
    /// The run whose backup it is.
    pub run: String,
    /// The name of the database, from somebody who knows what will be lost. Without it nothing is replaced, and
    /// the answer says what would be.
    #[serde(default)]
    pub confirm: Option<String>,
    /// How long the window may last.
    #[serde(default, rename = "for")]
    pub window: Option<HumanDuration>,
    /// How transactions are ended that are in the way.
    #[serde(default)]
    pub ladder: Option<Preset>,
    /// Why, for the history.
    #[serde(default)]
    pub reason: Option<String>,
    /// Who asks.
    #[serde(default)]
    pub by: Option<String>,
}

impl InPlaceRequest {
    /// What is wrong with it, in a sentence.
    pub(super) fn check(&self, database: &str) -> Result<(), String> {
        match self.confirm.as_deref() {
            None => Ok(()),
            Some(name) if name == database => Ok(()),
            Some(name) => Err(format!(
                "what is confirmed is {name}, and the database is {database}"
            )),
        }
    }
}

/// Answer of `POST /v1/databases/{db}/migrations/restore/in-place`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InPlace {
    /// The run whose backup it is.
    pub run: String,
    /// The database.
    pub database: String,
    /// Whether the backup is in its place now.
    pub done: bool,
    /// The name under which the database is kept that was there before; none if nothing was replaced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaced: Option<String>,
    /// What the backup shows: the database as it was then.
    pub snapshot_at: Timestamp,
    /// How many tables it has.
    pub tables: u64,
    /// How many rows they have.
    pub rows: u64,
    /// Tables whose rows are others than those of the backup: what is lost, or would be.
    pub lost: Vec<LostRows>,
    /// Lines of the schema that only the database has which is replaced: what is lost besides rows.
    pub lost_schema: Vec<String>,
    /// How long traffic was held, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_ms: Option<u64>,
    /// How long all of it took, in milliseconds.
    pub elapsed_ms: u64,
    /// What else is to be known.
    pub notes: Vec<String>,
}

/// A table that has other rows than in the backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LostRows {
    /// The table.
    pub table: String,
    /// How many rows it has in the database that is replaced; none if it is not there.
    pub rows: Option<i64>,
    /// How many it has in the backup; none if it is not there.
    pub backup: Option<i64>,
}

impl std::fmt::Display for LostRows {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let table = &self.table;
        match (self.rows, self.backup) {
            (Some(rows), None) => write!(f, "{table}: {rows} rows, and it is not in the backup"),
            (None, Some(backup)) => write!(f, "{table} is not there, and comes back with {backup}"),
            (Some(rows), Some(backup)) if rows == backup => {
                write!(
                    f,
                    "{table}: {rows} rows, and some have other values in the backup"
                )
            }
            (rows, backup) => {
                let [rows, backup] = [rows, backup].map(|it| it.unwrap_or_default());
                write!(f, "{table}: {rows} rows, and {backup} in the backup")
            }
        }
    }
}
