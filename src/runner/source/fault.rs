//! What can be wrong with a migration file before its SQL is looked at.

use super::{FILE_BYTES_MAX, Format, Sha256};

/// What is wrong with a directory or a posted list, naming the file.
#[derive(Debug, thiserror::Error)]
#[error("{}: {problem}", file.escape_debug())]
pub struct SourceError {
    /// The file (or directory) at fault.
    pub file: String,
    /// What is wrong with it.
    #[source]
    pub problem: SourceProblem,
}

/// The kinds of fault a file can have before its SQL is looked at.
#[derive(Debug, thiserror::Error)]
pub enum SourceProblem {
    /// The directory or file cannot be read.
    #[error("cannot be read: {0}")]
    Read(#[from] std::io::Error),
    /// Ends in `.sql` but is no migration: more likely a typing error than something to pass over.
    #[error("is no migration file: expected {}", .0.names())]
    Name(Format),
    /// The number does not fit in 64 bits.
    #[error("the version does not fit in 64 bits")]
    Version,
    /// Two files claim one version and direction.
    #[error("has the same version as {0}")]
    Duplicate(String),
    /// A down file that belongs to nothing.
    #[error("has no up file of the same version")]
    DownWithoutUp,
    /// The bytes are not UTF-8.
    #[error("is not UTF-8 (byte {0})")]
    Encoding(usize),
    /// Postgres cannot be sent a NUL.
    #[error("holds a NUL byte")]
    Nul,
    /// Nothing but white space.
    #[error("is empty")]
    Empty,
    /// Above `FILE_BYTES_MAX`.
    #[error("is larger than {} MiB", FILE_BYTES_MAX / 1024 / 1024)]
    TooLarge,
    /// The text that arrived is not the text that was sent.
    #[error("arrived with SHA-256 {actual}, announced was {announced:?}")]
    Checksum {
        /// What the sender said.
        announced: String,
        /// What was computed here.
        actual: Sha256,
    },
    /// A line of the file breaks a rule of its format.
    #[error("line {line}: {text}")]
    Line {
        /// The line, from 1.
        line: u32,
        /// Which rule, in a sentence.
        text: String,
    },
    /// The file as a whole breaks a rule of its format.
    #[error("{0}")]
    Rule(String),
}

impl SourceProblem {
    pub(super) fn of(self, file: impl Into<String>) -> SourceError {
        SourceError {
            file: file.into(),
            problem: self,
        }
    }

    pub(super) fn at(line: usize, text: impl Into<String>) -> Self {
        Self::Line {
            line: u32::try_from(line).unwrap_or(u32::MAX),
            text: text.into(),
        }
    }
}
