//! What the program finds around it: environment variables and the number of cores, as a value.

use std::collections::BTreeMap;
use std::path::PathBuf;

/// The surroundings that a configuration depends on; taken once, so that tests can make them up.
///
/// There is no `Debug`: passwords are among the variables.
#[derive(Clone, Default)]
pub struct Surroundings {
    /// Environment variables whose names and values are UTF-8.
    pub variables: BTreeMap<String, String>,
    /// Cores that this process may use.
    pub cores: usize,
}

impl Surroundings {
    /// Those of this process.
    pub fn of_process() -> Self {
        Self {
            variables: std::env::vars_os()
                .filter_map(|(name, value)| {
                    Some((name.into_string().ok()?, value.into_string().ok()?))
                })
                .collect(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
        }
    }

    /// A variable that is set and not empty.
    pub fn variable(&self, name: &str) -> Option<&str> {
        self.variables
            .get(name)
            .map(String::as_str)
            .filter(|value| !value.is_empty())
    }

    /// The directory of our state when no setting names one: systemd's, else the user's.
    pub fn state_dir(&self) -> Option<PathBuf> {
        // systemd parts several directories by colons; the first is the main one.
        if let Some(directories) = self.variable("STATE_DIRECTORY") {
            return directories.split(':').next().map(PathBuf::from);
        }
        let base = match self.variable("XDG_STATE_HOME") {
            Some(base) => PathBuf::from(base),
            None => PathBuf::from(self.variable("HOME")?).join(".local/state"),
        };
        Some(base.join("pgdrain"))
    }

    /// A file in libpq's directory for certificates.
    pub(super) fn libpq_file(&self, name: &str) -> Option<PathBuf> {
        let home = PathBuf::from(self.variable("HOME")?);
        Some(home.join(".postgresql").join(name))
    }

    /// libpq's password file.
    pub(super) fn passfile(&self) -> Option<PathBuf> {
        match self.variable("PGPASSFILE") {
            Some(path) => Some(PathBuf::from(path)),
            None => Some(PathBuf::from(self.variable("HOME")?).join(".pgpass")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_directory_is_systemds_or_the_users() {
        let state_dir = |variables: &[(&str, &str)]| {
            let variables = variables
                .iter()
                .map(|(n, v)| (n.to_string(), v.to_string()));
            Surroundings {
                variables: variables.collect(),
                cores: 1,
            }
            .state_dir()
        };
        let home = ("HOME", "/home/app");
        let xdg = ("XDG_STATE_HOME", "/state");
        let systemd = ("STATE_DIRECTORY", "/var/lib/pgdrain:/var/lib/other");
        assert_eq!(state_dir(&[]), None);
        assert_eq!(
            state_dir(&[home]),
            Some("/home/app/.local/state/pgdrain".into())
        );
        assert_eq!(state_dir(&[home, xdg]), Some("/state/pgdrain".into()));
        assert_eq!(
            state_dir(&[home, xdg, systemd]),
            Some("/var/lib/pgdrain".into())
        );
    }
}
