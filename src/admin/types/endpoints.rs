//! `endpoints.json` in the state directory: which process serves, and where, for when it is not
//! known or no longer answers.

use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The running process and its addresses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoints {
    /// Its process id.
    pub pid: u32,
    /// When it started.
    pub started_at: Timestamp,
    /// Where clients connect.
    pub listen: Vec<String>,
    /// Where its admin HTTP listens, the first place: `ip:port`, or as below.
    pub admin: String,
    /// Everywhere it listens: `ip:port`, `https://ip:port` where it is encrypted, `unix:/path`.
    #[serde(default)]
    pub admin_all: Vec<String>,
}

impl Endpoints {
    /// The file in a state directory.
    pub fn path(state_dir: &Path) -> PathBuf {
        state_dir.join("endpoints.json")
    }

    /// Reads the file of a state directory.
    ///
    /// # Errors
    /// Those of reading, and `InvalidData` for another text.
    pub fn read(state_dir: &Path) -> io::Result<Self> {
        let text = std::fs::read(Self::path(state_dir))?;
        Ok(serde_json::from_slice(&text)?)
    }

    /// Writes the file of a state directory: wholly or not at all.
    ///
    /// # Errors
    /// Those of writing.
    pub fn write(&self, state_dir: &Path) -> io::Result<()> {
        let path = Self::path(state_dir);
        let new = path.with_extension("json.new");
        std::fs::write(&new, serde_json::to_vec_pretty(self)?)?;
        std::fs::rename(new, path)
    }

    /// Removes the file of a state directory; that there is none is fine.
    ///
    /// # Errors
    /// Those of removing.
    pub fn remove(state_dir: &Path) -> io::Result<()> {
        match std::fs::remove_file(Self::path(state_dir)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_until_it_is_removed() {
        let state_dir = tempfile::tempdir().expect("a temporary directory");
        let endpoints = Endpoints {
            pid: 4711,
            started_at: Timestamp::UNIX_EPOCH,
            listen: vec!["127.0.0.1:6432".to_owned()],
            admin: "127.0.0.1:6433".to_owned(),
            admin_all: vec!["127.0.0.1:6433".to_owned()],
        };
        endpoints.write(state_dir.path()).expect("writable");
        assert_eq!(Endpoints::read(state_dir.path()).ok(), Some(endpoints));
        Endpoints::remove(state_dir.path()).expect("removable");
        Endpoints::remove(state_dir.path()).expect("nothing to remove");
        assert!(Endpoints::read(state_dir.path()).is_err());
    }
}
