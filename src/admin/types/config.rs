//! The configuration over HTTP: what is in use, what is wrong with another one, what a reload changed.

use serde::{Deserialize, Serialize};

/// Answer of `GET /v1/config`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ConfigView {
    /// The file it is read from, if there is one.
    pub file: Option<String>,
    /// Every key.
    pub settings: Vec<Setting>,
}

/// One key of the configuration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Setting {
    /// The dotted key, as a reload names it.
    pub key: String,
    /// What it is now. Secrets, and texts that may hold one, are stars.
    pub value: String,
    /// Whether a changed one applies at a reload; else it does at a restart.
    pub reloads: bool,
}

/// Something that is wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigProblem {
    /// The dotted key; empty when the text is no TOML at all, or the file cannot be read.
    pub key: String,
    /// Where it was set: `line 7`, a variable of the environment, a flag; absent if it was not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<String>,
    /// What is wrong and what to write instead.
    pub text: String,
}

/// Answer of `POST /v1/config/validate`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ConfigChecked {
    /// Whether it could be used.
    pub valid: bool,
    /// Everything that is wrong with it.
    pub problems: Vec<ConfigProblem>,
    /// What is worth knowing about it all the same.
    pub warnings: Vec<String>,
    /// Keys that a reload with it would change at once.
    pub now: Vec<String>,
    /// Keys in which it differs, and that keep their value until a restart.
    pub restart: Vec<String>,
}

/// Answer of `POST /v1/config/reload`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ConfigReloaded {
    /// Keys that changed, and apply to what begins from now on.
    pub now: Vec<String>,
    /// Keys that are written otherwise, and keep their value until a restart.
    pub restart: Vec<String>,
    /// What is worth knowing about it all the same.
    pub warnings: Vec<String>,
}
