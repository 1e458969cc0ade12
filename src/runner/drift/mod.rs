//! The schema as runs find and leave it: its fingerprint, its lines, and what somebody has changed between
//! two runs.
//!
//! ```text
//! run ─ first file: fp_before ─ file: fp ─ file: fp ─ … ─ last: fp_after ─► pgdrain.run, schema_dump
//!                                                                                  │
//! next run's preflight ─ the schema now ─ is it that one? ◄────────────────────────┘
//! ```
//!
//! What is changed past pgdrain for good is accepted, with who and why; the next run is then held
//! against that.

mod accept;
mod kept;
mod look;
mod shape;

use std::time::Duration;

pub use accept::{DriftError, DriftReport, DriftRequest};
pub(super) use kept::{accept, begin_run, end_run, file, left_by_file, lines};
pub(super) use look::{Standing, look};
pub(super) use shape::shape;

use super::backup;
use super::connect::Session;
use super::source::Sha256;

/// A schema without pgdrain's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Schema {
    /// A line for each part (kind, name and definition, parted by tabs), sorted.
    pub(super) lines: Vec<String>,
    /// The SHA-256 of the lines.
    pub(super) fingerprint: Sha256,
}

impl Schema {
    pub(super) fn of(lines: Vec<String>) -> Self {
        Self {
            fingerprint: Sha256::of(lines.join("\n").as_bytes()),
            lines,
        }
    }

    /// Reads the schema in at most this time; waits for nobody longer than 5 s.
    pub(super) async fn read(
        session: &Session,
        time: Duration,
    ) -> Result<Self, tokio_postgres::Error> {
        Ok(Self::of(backup::schema(&session.client, time).await?))
    }

    /// How much its lines take.
    fn bytes(&self) -> usize {
        self.lines.iter().map(String::len).sum()
    }
}
