//! The table lock modes of Postgres and who waits for whom
//! ([documentation](https://www.postgresql.org/docs/current/explicit-locking.html), table 13.2).

use std::fmt;

use serde::{Deserialize, Serialize};

/// A lock on a table, weakest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum LockMode {
    /// SELECT.
    AccessShare,
    /// SELECT FOR UPDATE, and the other side of a foreign key.
    RowShare,
    /// INSERT, UPDATE, DELETE.
    RowExclusive,
    /// VACUUM, ANALYZE, CREATE INDEX CONCURRENTLY, VALIDATE CONSTRAINT.
    ShareUpdateExclusive,
    /// CREATE INDEX: writers wait.
    Share,
    /// CREATE TRIGGER, ADD FOREIGN KEY: writers wait.
    ShareRowExclusive,
    /// REFRESH MATERIALIZED VIEW CONCURRENTLY: writers wait.
    Exclusive,
    /// Most of ALTER TABLE: everybody waits.
    AccessExclusive,
}

impl LockMode {
    /// Every mode, weakest first.
    pub const ALL: [Self; 8] = [
        Self::AccessShare,
        Self::RowShare,
        Self::RowExclusive,
        Self::ShareUpdateExclusive,
        Self::Share,
        Self::ShareRowExclusive,
        Self::Exclusive,
        Self::AccessExclusive,
    ];

    /// Reads the words of `LOCK TABLE ... IN ... MODE`, or `pg_locks.mode`.
    pub fn parse(text: &str) -> Option<Self> {
        let letters = |it: &str| -> String {
            it.chars()
                .filter(char::is_ascii_alphabetic)
                .map(|c| c.to_ascii_lowercase())
                .collect()
        };
        let wanted = letters(text);
        let wanted = wanted.strip_suffix("lock").unwrap_or(&wanted);
        Self::ALL
            .into_iter()
            .find(|mode| letters(mode.as_str()) == wanted)
    }

    /// The name, as `pg_locks` has it without its end `Lock`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AccessShare => "AccessShare",
            Self::RowShare => "RowShare",
            Self::RowExclusive => "RowExclusive",
            Self::ShareUpdateExclusive => "ShareUpdateExclusive",
            Self::Share => "Share",
            Self::ShareRowExclusive => "ShareRowExclusive",
            Self::Exclusive => "Exclusive",
            Self::AccessExclusive => "AccessExclusive",
        }
    }

    /// Whether a SELECT has to wait.
    pub fn blocks_reads(self) -> bool {
        self == Self::AccessExclusive
    }

    /// Whether an UPDATE has to wait.
    pub fn blocks_writes(self) -> bool {
        self >= Self::Share
    }
}

impl fmt::Display for LockMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_read_as_the_server_writes_them() {
        for mode in LockMode::ALL {
            assert_eq!(LockMode::parse(&format!("{mode}Lock")), Some(mode));
        }
        assert_eq!(
            LockMode::parse("share  row exclusive"),
            Some(LockMode::ShareRowExclusive)
        );
        assert_eq!(LockMode::parse("shared"), None);
    }
}
