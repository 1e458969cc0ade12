//! Migration files: what they are once read, and their checksums; a submodule per file format.
//!
//! `detect` tells the format by names (and markers in the text), `directory` reads files for the
//! command line, each format's `collect` turns them into a [`MigrationSet`]. Files that hold both
//! directions are cut by `sections`, which keeps every line where it was.

pub mod dbmate;
mod detect;
mod directory;
mod fault;
pub mod flyway;
mod gather;
pub mod golang_migrate;
pub mod goose;
pub mod prisma;
mod sections;
pub mod sqlx;
mod tool_checksum;
mod version;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::Digest as _;

use super::directives::Directives;
use crate::config::words;

pub use detect::{Reading, read};
pub use directory::read_directory;
pub use fault::{SourceError, SourceProblem};
pub use tool_checksum::ToolChecksum;
pub use version::{NoVersion, Version};

/// Bytes a single file may have. Beyond it lies data, which belongs in a load, not in a migration.
pub const FILE_BYTES_MAX: usize = 16 * 1024 * 1024;

words! {
    /// A way of naming and writing migration files, after the tool that has it.
    Format {
        /// `NUMBER_name.up.sql` and `.down.sql`.
        GolangMigrate = "golang-migrate",
        /// `V1_2__name.sql`, `U1_2__name.sql`, `R__name.sql`.
        Flyway = "flyway",
        /// `NUMBER_name.sql` with `-- migrate:up` and `-- migrate:down`.
        Dbmate = "dbmate",
        /// `NUMBER_name.sql`, or `.up.sql` and `.down.sql`.
        Sqlx = "sqlx",
        /// `NUMBER_name/migration.sql`.
        Prisma = "prisma",
        /// `NUMBER_name.sql` with `-- +goose Up` and `-- +goose Down`.
        Goose = "goose",
    }
}

impl Format {
    /// Every format.
    pub const ALL: [Self; 6] = [
        Self::GolangMigrate,
        Self::Flyway,
        Self::Dbmate,
        Self::Sqlx,
        Self::Prisma,
        Self::Goose,
    ];

    /// What its files are called.
    pub fn names(self) -> &'static str {
        match self {
            Self::GolangMigrate => "NUMBER_name.up.sql or NUMBER_name.down.sql",
            Self::Flyway => "V1_2__name.sql, U1_2__name.sql or R__name.sql",
            Self::Dbmate | Self::Goose => "NUMBER_name.sql",
            Self::Sqlx => "NUMBER_name.sql, NUMBER_name.up.sql or NUMBER_name.down.sql",
            Self::Prisma => "14 digits_name/migration.sql",
        }
    }

    /// Makes a set of migrations from posted files.
    ///
    /// # Errors
    /// Every fault found, not only the first.
    pub fn collect(self, files: &[PostedFile]) -> Result<MigrationSet, Vec<SourceError>> {
        match self {
            Self::GolangMigrate => golang_migrate::collect(files),
            Self::Flyway => flyway::collect(files),
            Self::Dbmate => dbmate::collect(files),
            Self::Sqlx => sqlx::collect(files),
            Self::Prisma => prisma::collect(files),
            Self::Goose => goose::collect(files),
        }
    }
}

/// A file as it travels from the command line to the proxy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PostedFile {
    /// The file's name below the directory, with `/` where it lies in another one.
    pub name: String,
    /// The file's text, byte for byte (a byte order mark and CR stay).
    pub sql: String,
    /// SHA-256 of the file's bytes, in hexadecimal: proves that nothing on the way changed them.
    pub sha256: String,
}

/// Every migration of a directory, in the order of versions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MigrationSet {
    format: Format,
    migrations: BTreeMap<Version, Migration>,
}

impl MigrationSet {
    /// How its files are named and written.
    pub fn format(&self) -> Format {
        self.format
    }

    /// The migrations, lowest version first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Migration> {
        self.migrations.values()
    }

    /// The migration of a version.
    pub fn get(&self, version: &Version) -> Option<&Migration> {
        self.migrations.get(version)
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
    /// The up file's name without its endings (or its directory's name).
    pub name: String,
    /// The file that applies it.
    pub up: SqlFile,
    /// The file that reverts it; without one `down` is refused.
    pub down: Option<SqlFile>,
}

/// A file's name, text and checksums.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SqlFile {
    /// The file's name below the directory.
    pub name: String,
    /// What is sent to the server: the file without its byte order mark, or the part of it that is
    /// for one direction, each line where it was.
    pub sql: Arc<str>,
    /// Checksums of the whole file, or of the part.
    pub checksums: Checksums,
    /// What the format's own tool keeps of the file; `None` for tools without checksums.
    pub tool_checksum: Option<ToolChecksum>,
    /// The format's own way of saying "no transaction" is used.
    pub no_transaction: bool,
}

impl SqlFile {
    /// Takes a file's text and computes its checksums.
    pub fn new(name: impl Into<String>, text: &str) -> Self {
        Self {
            name: name.into(),
            sql: without_mark(text).into(),
            checksums: Checksums::of(text),
            tool_checksum: None,
            no_transaction: false,
        }
    }

    /// The text as it is kept in the history, from where it may run without its directory: what the
    /// format says elsewhere is said in it, behind everything, so that no line moves.
    pub fn kept(&self) -> Arc<str> {
        let says_so = Directives::read(&self.sql).is_ok_and(|it| it.no_transaction);
        if self.no_transaction && !says_so {
            Arc::from(format!("{}\n-- pgdrain:tx none", self.sql))
        } else {
            Arc::clone(&self.sql)
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
