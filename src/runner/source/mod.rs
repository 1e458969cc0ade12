//! Migration files: what they are once read, and their checksums; a submodule per file format.

pub mod golang_migrate;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::Digest as _;

/// Bytes a single file may have. Beyond it lies data, which belongs in a load, not in a migration.
pub const FILE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// A migration's number, as golang-migrate reads it: leading zeros do not count.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(transparent)]
pub struct Version(pub u64);

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A file as it travels from the command line to the proxy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PostedFile {
    /// The file's name, without a directory.
    pub name: String,
    /// The file's text, byte for byte (a byte order mark and CR stay).
    pub sql: String,
    /// SHA-256 of the file's bytes, in hexadecimal: proves that nothing on the way changed them.
    pub sha256: String,
}

/// Every migration of a directory, in the order of versions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MigrationSet {
    migrations: BTreeMap<Version, Migration>,
}

impl MigrationSet {
    /// The migrations, lowest version first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Migration> {
        self.migrations.values()
    }

    /// The migration of a version.
    pub fn get(&self, version: Version) -> Option<&Migration> {
        self.migrations.get(&version)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.migrations.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.migrations.is_empty()
    }
}

/// One migration: what leads to its version, and perhaps what leads back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Migration {
    /// Its place in the order.
    pub version: Version,
    /// The up file's name without `.up.sql`.
    pub name: String,
    /// The file that applies it.
    pub up: SqlFile,
    /// The file that reverts it; without one `down` is refused.
    pub down: Option<SqlFile>,
}

/// A file's name, text and checksums.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SqlFile {
    /// The file's name, without a directory.
    pub name: String,
    /// What is sent to the server: the file without its byte order mark.
    pub sql: Arc<str>,
    /// Checksums of the whole file.
    pub checksums: Checksums,
}

impl SqlFile {
    /// Takes a file's text and computes its checksums.
    pub fn new(name: impl Into<String>, text: &str) -> Self {
        Self {
            name: name.into(),
            sql: without_mark(text).into(),
            checksums: Checksums::of(text),
        }
    }
}

/// Two checksums: editors and git change byte order marks and line ends, which change nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checksums {
    /// Of the bytes as they are.
    pub raw: Sha256,
    /// Of the text without byte order mark and with LF for CRLF: a difference here is a real one.
    pub normalised: Sha256,
}

impl Checksums {
    /// Checksums of a file's text.
    pub fn of(text: &str) -> Self {
        let normalised = without_mark(text).replace("\r\n", "\n");
        Self {
            raw: Sha256::of(text.as_bytes()),
            normalised: Sha256::of(normalised.as_bytes()),
        }
    }
}

fn without_mark(text: &str) -> &str {
    text.strip_prefix('\u{feff}').unwrap_or(text)
}

/// A SHA-256 digest, written in lower-case hexadecimal.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Sha256([u8; 32]);

impl Sha256 {
    /// The digest of some bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(sha2::Sha256::digest(bytes).into())
    }

    /// A digest kept in the database; `None` if it has not 32 bytes.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// The digest's bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_ends_and_mark_change_only_the_raw_checksum() {
        let unix = Checksums::of("select 1;\nselect 2;\n");
        let windows = Checksums::of("\u{feff}select 1;\r\nselect 2;\r\n");
        assert_eq!(unix.normalised, windows.normalised);
        assert_ne!(unix.raw, windows.raw);
        assert_ne!(
            unix.normalised,
            Checksums::of("select 1;\nselect 3;\n").normalised
        );
    }

    #[test]
    fn a_digest_is_written_as_sha256sum_does() {
        let digest = Sha256::of(b"abc").to_string();
        assert_eq!(
            digest,
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }

    #[test]
    fn the_mark_is_not_sent() {
        assert_eq!(
            &*SqlFile::new("1_a.up.sql", "\u{feff}select 1").sql,
            "select 1"
        );
    }
}
