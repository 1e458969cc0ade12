//! The system account Postgres runs under: it refuses to run as root.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, bail};

/// Whom to run as, and whose the files must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Account {
    /// Ourselves: an ordinary user needs no change.
    Own,
    /// We are root and become this user.
    Other {
        /// The user's number.
        uid: u32,
        /// The number of the user's first group.
        gid: u32,
    },
}

impl Account {
    /// The account for a process that created `dir`: itself, or `postgres`, or `nobody` if root.
    ///
    /// # Errors
    /// We are root, and neither user is in `/etc/passwd`.
    pub(super) fn for_owner_of(dir: &Path) -> anyhow::Result<Self> {
        // A new directory belongs to the effective user: the one question std does not answer.
        if fs::metadata(dir)?.uid() != 0 {
            return Ok(Self::Own);
        }
        let passwd = fs::read_to_string("/etc/passwd").context("reading /etc/passwd")?;
        match ["postgres", "nobody"]
            .iter()
            .find_map(|name| look_up(&passwd, name))
        {
            Some(account) => Ok(account),
            None => bail!("Postgres does not run as root, and no user postgres or nobody exists"),
        }
    }

    /// Makes `command` run under this account.
    pub(super) fn run(self, command: &mut Command) {
        match self {
            Self::Own => {}
            // std also drops root's supplementary groups then.
            Self::Other { uid, gid } => {
                command.uid(uid).gid(gid);
            }
        }
    }

    /// Makes `path` (not what is below it) belong to this account.
    pub(super) fn give(self, path: &Path) -> anyhow::Result<()> {
        match self {
            Self::Own => Ok(()),
            Self::Other { uid, gid } => chown(path, Some(uid), Some(gid))
                .with_context(|| format!("giving {} to user {uid}", path.display())),
        }
    }
}

/// One line of `/etc/passwd`: `name:password:uid:gid:...`.
fn look_up(passwd: &str, name: &str) -> Option<Account> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        if fields.next()? != name {
            return None;
        }
        let uid = fields.nth(1)?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        Some(Account::Other { uid, gid })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_found_by_its_whole_name() {
        let passwd = "root:x:0:0::/root:/bin/sh\npostgres2:x:7:8::/:\npostgres:x:101:104:a,b:/:\n";
        assert_eq!(
            look_up(passwd, "postgres"),
            Some(Account::Other { uid: 101, gid: 104 })
        );
        assert_eq!(look_up(passwd, "nobody"), None);
    }
}
