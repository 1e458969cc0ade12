//! What is wrong with a configuration: each problem with its key and where that key was set.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

/// Where a setting was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// In the file, on this line.
    Line(usize),
    /// In an environment variable.
    Environment(String),
    /// In a flag of the command line.
    Flag(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line(line) => write!(f, "line {line}"),
            Self::Environment(name) => f.write_str(name),
            Self::Flag(name) => f.write_str(name),
        }
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The dotted key; empty when the text is no TOML at all.
    pub key: String,
    /// Where the key was set, if it was.
    pub origin: Option<Origin>,
    /// What is wrong and what to write instead. Never holds a secret.
    pub text: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(origin) = &self.origin {
            write!(f, "{origin}: ")?;
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.text)
    }
}

/// Where each key that was set was set.
pub(super) type Origins = BTreeMap<String, Origin>;

/// A configuration that cannot be used, with everything that is wrong with it.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("the configuration file {} cannot be read", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// Some settings are wrong; all of them are listed.
    #[error("the configuration {}cannot be used:{}", named(file.as_ref()), listed(problems))]
    Invalid {
        /// The file, if there was one.
        file: Option<PathBuf>,
        /// At least one.
        problems: Vec<Problem>,
    },
}

fn named(file: Option<&PathBuf>) -> String {
    file.map_or_else(String::new, |file| format!("{} ", file.display()))
}

fn listed(problems: &[Problem]) -> String {
    problems.iter().map(|p| format!("\n  {p}")).collect()
}
