//! The part of validation that is about backups.

use super::raw::RawBackup;
use super::settings::Backup;
use super::validate::Check;
use super::words::Verify;

/// More dumps at once than this would only be in each other's way.
const JOBS_MAX: usize = 64;

impl Check<'_> {
    pub(super) fn backup(&mut self, raw: RawBackup) -> Backup {
        let key = |name: &str| format!("migrate.backup.{name}");
        let default = Backup::default();
        if let Some(dir) = &raw.dir
            && !dir.is_absolute()
        {
            self.wrong(&key("dir"), "it must be an absolute path");
        }
        self.not_empty(&key("command"), raw.command.as_ref());
        let verify = match (&raw.command, raw.verify) {
            (Some(_), None) => Verify::None,
            (_, written) => written.unwrap_or(default.verify),
        };
        if raw.command.is_some() {
            if raw.dir.is_none() {
                self.wrong(&key("command"), "it is set, but migrate.backup.dir is not");
            }
            if verify != Verify::None {
                let text =
                    "a command verifies what it made by itself: with it, only \"none\" is possible";
                self.wrong(&key("verify"), text);
            }
        }
        let jobs = raw.jobs.unwrap_or(default.jobs);
        self.within(&key("jobs"), jobs, 1..=JOBS_MAX);
        Backup {
            dir: raw.dir,
            jobs,
            keep: self.time(&key("keep"), raw.keep, default.keep),
            verify,
            command: raw.command,
            pg_dump: raw.pg_dump.unwrap_or(default.pg_dump),
            pg_restore: raw.pg_restore.unwrap_or(default.pg_restore),
        }
    }
}
