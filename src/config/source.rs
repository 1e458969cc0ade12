//! Where the configuration comes from: flags over environment over file over defaults.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::nearest::nearest;
use super::problem::{ConfigError, Origin, Origins, Problem};
use super::raw::{self, Layer, Raw};
use super::secret::Secret;
use super::settings::Config;
use super::surroundings::Surroundings;
use super::validate::validate;
use super::{bare, file, upstream};

/// Everything that begins with this is ours, as far as it is a key.
const PREFIX: &str = "PGDRAIN_";

/// Variables with our prefix that are no keys: what the command line reads, and what Kubernetes
/// sets for a service that is called pgdrain.
const NO_KEYS: &[&str] = &[
    "PGDRAIN_ADMIN",
    "PGDRAIN_CA_FILE",
    "PGDRAIN_CERT_FILE",
    "PGDRAIN_KEY_FILE",
    "PGDRAIN_TOKEN",
    "PGDRAIN_TOKEN_FILE",
    "PGDRAIN_CONFIG",
    "PGDRAIN_REHEARSE_ON",
    "PGDRAIN_CI_URL",
];
const NO_KEYS_PREFIXES: &[&str] = &["PGDRAIN_PORT", "PGDRAIN_SERVICE_"];

/// The file and the flags of a command line; read again on each reload.
#[derive(Clone, Debug, Default)]
pub struct Source {
    file: Option<PathBuf>,
    flags: Vec<Flag>,
}

/// A flag that sets a key.
#[derive(Clone, Debug)]
struct Flag {
    name: &'static str,
    key: &'static str,
    value: Secret,
}

/// A configuration, and what its reader should say about it.
#[derive(Debug)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// Sentences to log as warnings; they hold no secret.
    pub warnings: Vec<String>,
}

impl Source {
    /// A file, or none.
    pub fn new(file: Option<PathBuf>) -> Self {
        Self {
            file,
            flags: Vec::new(),
        }
    }

    /// Adds a flag; `name` is how it is written, `key` the dotted key that it sets. The items of
    /// a list are parted by commas.
    #[must_use]
    pub fn flag(mut self, name: &'static str, key: &'static str, value: impl Into<Secret>) -> Self {
        self.flags.push(Flag {
            name,
            key,
            value: value.into(),
        });
        self
    }

    /// The file, if one was named.
    pub fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// Reads and checks everything anew. Reads small files and so blocks for a moment.
    ///
    /// # Errors
    /// All that is wrong, at once.
    pub fn load(&self, around: &Surroundings) -> Result<Loaded, ConfigError> {
        let mut layers = Layers::default();
        if let Some(path) = &self.file {
            layers.file(path)?;
        }
        self.finish(layers, around)
    }

    /// The same with this text in place of the file's.
    ///
    /// # Errors
    /// All that is wrong, at once.
    pub fn load_text(&self, text: &str, around: &Surroundings) -> Result<Loaded, ConfigError> {
        let mut layers = Layers::default();
        layers.text(text);
        self.finish(layers, around)
    }

    fn finish(&self, mut layers: Layers, around: &Surroundings) -> Result<Loaded, ConfigError> {
        layers.environment(around);
        for flag in &self.flags {
            layers.set(flag.key, flag.value.expose(), Origin::Flag(flag.name));
        }
        layers
            .finish(around)
            .map_err(|problems| ConfigError::Invalid {
                file: self.file.clone(),
                problems,
            })
    }
}

/// The layers so far, the newest on top.
#[derive(Default)]
struct Layers {
    raw: Raw,
    origins: Origins,
    problems: Vec<Problem>,
    warnings: Vec<String>,
}

impl Layers {
    fn file(&mut self, path: &Path) -> Result<(), ConfigError> {
        let unreadable = |source| ConfigError::Unreadable {
            path: path.to_owned(),
            source,
        };
        let text = std::fs::read_to_string(path).map_err(unreadable)?;
        let mode = std::fs::metadata(path)
            .map_err(unreadable)?
            .permissions()
            .mode();
        self.text(&text);
        if mode & 0o007 != 0 && holds_password(&self.raw) {
            self.warnings.push(format!(
                "{} holds a password and every user of this machine can read it; use chmod o= or \
                 a password_file",
                path.display()
            ));
        }
        Ok(())
    }

    /// The lowest layer.
    fn text(&mut self, text: &str) {
        let reading = file::read(text);
        self.raw = reading.raw;
        self.origins = reading.origins;
        self.problems = reading.problems;
    }

    fn environment(&mut self, around: &Surroundings) {
        let keys: Vec<_> = raw::keys()
            .into_iter()
            .map(|key| (variable(&key), key))
            .collect();
        for (name, value) in &around.variables {
            // A variable that is set to nothing is one that somebody cleared.
            if value.is_empty() {
                continue;
            }
            if let Some((_, key)) = keys.iter().find(|(variable, _)| variable == name) {
                self.set(key, value, Origin::Environment(name.clone()));
            } else if name.starts_with(PREFIX)
                && !NO_KEYS.contains(&name.as_str())
                && !NO_KEYS_PREFIXES
                    .iter()
                    .any(|prefix| name.starts_with(prefix))
            {
                let variables = keys.iter().map(|(variable, _)| variable.as_str());
                let meant = nearest(name, variables);
                let meant = meant.map(|near| format!("; did you mean {near}?"));
                let meant = meant.unwrap_or_default();
                self.warnings.push(format!(
                    "the environment variable {name} sets no key{meant}"
                ));
            }
        }
    }

    fn set(&mut self, key: &str, value: &str, origin: Origin) {
        self.problems.retain(|problem| problem.key != key);
        match bare::read(key, value) {
            Ok(layer) => self.raw = layer.over(std::mem::take(&mut self.raw)),
            Err(error) => self.problems.push(Problem {
                key: key.to_owned(),
                origin: Some(origin.clone()),
                text: error.to_string(),
            }),
        }
        self.origins.insert(key.to_owned(), origin);
    }

    fn finish(self, around: &Surroundings) -> Result<Loaded, Vec<Problem>> {
        let Self {
            raw,
            origins,
            mut problems,
            mut warnings,
        } = self;
        // Of a text that is no TOML nothing was read, and nothing can be said to be missing.
        if problems.iter().any(|problem| problem.key.is_empty()) {
            return Err(problems);
        }
        match validate(raw, &origins, around) {
            Ok((config, more)) if problems.is_empty() => {
                warnings.extend(more);
                Ok(Loaded { config, warnings })
            }
            Ok(_) => Err(problems),
            Err(more) => {
                // A key that could not be read is not missing as well.
                let unread: Vec<String> = problems.iter().map(|p| p.key.clone()).collect();
                for problem in more {
                    // What all servers have in common is checked with each.
                    if !unread.contains(&problem.key) && !problems.contains(&problem) {
                        problems.push(problem);
                    }
                }
                Err(problems)
            }
        }
    }
}

/// The environment variable of a key.
fn variable(key: &str) -> String {
    format!("{PREFIX}{}", key.replace('.', "_").to_uppercase())
}

fn holds_password(raw: &Raw) -> bool {
    let in_url = |url: &Secret| upstream::parse(url.expose()).is_ok_and(|u| u.password.is_some());
    raw.control.password.is_some()
        || raw.migrate.password.is_some()
        || raw
            .migrate
            .notify
            .iter()
            .flatten()
            .any(|it| it.url.is_some())
        || raw.auth.query_password.is_some()
        || raw.console.users.values().any(|user| user.has_password())
        || raw.upstream.url.as_ref().is_some_and(in_url)
        || raw
            .databases
            .values()
            .any(|d| d.upstream.as_ref().is_some_and(in_url))
}
