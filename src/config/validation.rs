//! `[migrate.validate]`: what a migration file has to leave as it was, and the part of validation
//! that is about it.

use std::time::Duration;

use super::quantity::ByteSize;
use super::raw::RawValidate;
use super::validate::Check;
use super::words::CountRows;

/// What is looked at before a file is committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validate {
    /// Grants and owners.
    pub grants: bool,
    /// Row security and policies.
    pub row_security: bool,
    /// Views, and what can be written through them.
    pub views: bool,
    /// That no constraint becomes invalid.
    pub constraints: bool,
    /// That no index becomes invalid.
    pub indexes: bool,
    /// Whose rows are counted.
    pub rows: CountRows,
    /// Tables of more bytes are not counted, unless a file names them.
    pub rows_max: u64,
    /// How long each question may take.
    pub time: Duration,
    /// Whether statements of `[migrate.compare]` are planned, so that one that can no longer be is named.
    pub explain: bool,
}

impl Default for Validate {
    fn default() -> Self {
        Self {
            grants: true,
            row_security: true,
            views: true,
            constraints: true,
            indexes: true,
            rows: CountRows::default(),
            rows_max: 256 << 20,
            time: Duration::from_secs(30),
            explain: false,
        }
    }
}

impl Validate {
    /// Whether anything is looked at but rows.
    pub fn looks_at_catalogs(&self) -> bool {
        self.grants || self.row_security || self.views || self.constraints || self.indexes
    }

    /// Whether the rows of all that a file touches are counted.
    pub fn counts_touched(&self) -> bool {
        self.rows == CountRows::Touched
    }

    /// Whether the rows of what a file names are counted.
    pub fn counts_declared(&self) -> bool {
        self.rows != CountRows::Off
    }
}

impl Check<'_> {
    pub(super) fn validation(&mut self, raw: RawValidate) -> Validate {
        let default = Validate::default();
        Validate {
            grants: raw.grants.unwrap_or(default.grants),
            row_security: raw.row_security.unwrap_or(default.row_security),
            views: raw.views.unwrap_or(default.views),
            constraints: raw.constraints.unwrap_or(default.constraints),
            indexes: raw.indexes.unwrap_or(default.indexes),
            rows: raw.rows.unwrap_or(default.rows),
            rows_max: raw
                .rows_max
                .map_or(default.rows_max, |ByteSize(bytes)| bytes as u64),
            time: self.time("migrate.validate.time", raw.time, default.time),
            explain: raw.explain.unwrap_or(default.explain),
        }
    }
}
