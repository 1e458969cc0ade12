//! `[migrate.copies]`: copies of tables within their database, and the part of validation that is about them.

use std::time::Duration;

use super::quantity::ByteSize;
use super::raw::RawCopies;
use super::validate::Check;

/// How the tables that files touch are copied before them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Copies {
    /// Whether each run makes them, also without `--copy-tables`.
    pub every_run: bool,
    /// The run ends before its first file where the tables have more bytes than that.
    pub max_bytes: u64,
    /// How long the copy of one table may take.
    pub time: Duration,
    /// Older ones are dropped after new ones were made.
    pub keep: Duration,
}

impl Default for Copies {
    fn default() -> Self {
        Self {
            every_run: false,
            max_bytes: 1 << 30,
            time: Duration::from_secs(5 * 60),
            keep: Duration::from_secs(48 * 3600),
        }
    }
}

impl Check<'_> {
    pub(super) fn copies(&mut self, raw: RawCopies) -> Copies {
        let default = Copies::default();
        Copies {
            every_run: raw.every_run.unwrap_or(default.every_run),
            max_bytes: raw
                .max_bytes
                .map_or(default.max_bytes, |ByteSize(bytes)| bytes as u64),
            time: self.time("migrate.copies.time", raw.time, default.time),
            keep: self.time("migrate.copies.keep", raw.keep, default.keep),
        }
    }
}
