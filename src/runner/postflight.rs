//! What is looked at when the files of a run are applied: the checks of `verify`, held against what there was
//! before, and whether somebody still waits.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use tokio_postgres::Client;

use super::history::{Ledger, LedgerError};
use super::preflight::Check;
use super::source::Reading;
use super::types::Direction;
use super::verify;
use crate::config::{Postflight, PostflightCheck};

/// How often it is looked who waits.
const LOOK: Duration = Duration::from_millis(100);

/// Sessions of this database that wait for a lock, but those of $1.
const WAITING: &str = "\
    select l.pid, format('process %s (%s, %s) waits for %s on %s', l.pid, a.usename, \
                         coalesce(nullif(a.application_name, ''), '?'), l.mode, \
                         coalesce(l.relation::pg_catalog.regclass::text, l.locktype)) \
    from pg_catalog.pg_locks l join pg_catalog.pg_stat_activity a on a.pid = l.pid \
    where not l.granted and a.datname = pg_catalog.current_database() and l.pid <> all ($1) \
    order by 1";

/// What a run found when its files were applied: the content of `postflight-report-<timestamp>.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PostflightReport {
    /// The run.
    pub run: String,
    /// The database.
    pub database: String,
    /// Towards newer or older versions.
    pub direction: Direction,
    /// When everything had been looked at.
    pub at: jiff::Timestamp,
    /// The version of pgdrain that looked.
    pub pgdrain: String,
    /// Whether every check was passed.
    pub passed: bool,
    /// Every check.
    pub checks: Vec<Check>,
    /// The SHA-256 of the schema before the first file; none if it could not be read.
    pub fp_before: Option<String>,
    /// The same behind the last.
    pub fp_after: Option<String>,
}

/// What was wrong before the first file, and is nobody's fault here.
#[derive(Clone, Debug, Default)]
pub(super) struct Before {
    indexes: Vec<String>,
    constraints: Vec<String>,
}

impl Before {
    pub(super) async fn look(client: &Client) -> Result<Self, tokio_postgres::Error> {
        Ok(Self {
            indexes: verify::lines(client, verify::INDEXES).await?,
            constraints: verify::lines(client, verify::CONSTRAINTS).await?,
        })
    }
}

/// What is looked at, and with what it is compared.
pub(super) struct Looking<'a> {
    pub(super) settings: &'a Postflight,
    pub(super) reading: &'a Reading,
    /// The table of the files' own tool, if it was named.
    pub(super) history: Option<&'a str>,
    /// None if nobody could look.
    pub(super) before: Option<&'a Before>,
    /// Whether a file may only leave a constraint NOT VALID if it says so.
    pub(super) declared: bool,
    /// Server processes of this proxy's runs.
    pub(super) own: Vec<i32>,
    /// Ways back that left another schema than there had been: file and lines.
    pub(super) strange: &'a [(String, Vec<String>)],
    /// Whether the schema could be read, if it was to be.
    pub(super) schema_read: Option<bool>,
}

impl Looking<'_> {
    /// Makes every check. Writes nothing.
    pub(super) async fn checks(&self, ledger: &Ledger) -> Vec<Check> {
        let mut checks = self.of_history(ledger).await;
        let client = &ledger.session().client;
        checks.push(self.indexes(client).await);
        checks.push(self.constraints(client).await);
        checks.push(self.locks(client).await);
        checks.push(self.schema());
        for check in &mut checks {
            let off = self.settings.off.iter().any(|it| it.as_str() == check.name);
            if off {
                *check = Check::passed(&check.name, "switched off (migrate.postflight.off)");
            }
        }
        checks
    }

    async fn of_history(&self, ledger: &Ledger) -> Vec<Check> {
        let looked = async {
            let rows = ledger.rows().await?;
            let dirty = verify::dirty(&rows);
            let checksums = verify::checksums(ledger, self.reading, self.history, rows).await?;
            Ok::<_, LedgerError>(vec![dirty, checksums])
        };
        looked.await.unwrap_or_else(|error| {
            ["dirty", "checksums"]
                .map(|it| Check::unknown(it, &error))
                .into()
        })
    }

    async fn indexes(&self, client: &Client) -> Check {
        let name = PostflightCheck::Indexes.as_str();
        let now = verify::lines(client, verify::INDEXES).await;
        let before = self.before.map(|it| it.indexes.as_slice());
        match now {
            Ok(now) => self.judged(name, now, before, "no index has become invalid"),
            Err(error) => Check::unknown(name, &error),
        }
    }

    async fn constraints(&self, client: &Client) -> Check {
        let name = PostflightCheck::Constraints.as_str();
        let now = verify::lines(client, verify::CONSTRAINTS).await;
        let well = "no constraint has become NOT VALID that was not declared so";
        match now {
            // Each file was held against what it says before its commit.
            Ok(now) if self.declared && !self.settings.strict => {
                Check::passed(name, well).with(now)
            }
            Ok(now) => {
                let before = self.before.map(|it| it.constraints.as_slice());
                self.judged(name, now, before, well)
            }
            Err(error) => Check::unknown(name, &error),
        }
    }

    /// What is wrong now and was not before; all of it where that is asked for.
    fn judged(&self, name: &str, now: Vec<String>, before: Option<&[String]>, well: &str) -> Check {
        let known: &[String] = match (self.settings.strict, before) {
            (true, _) | (_, None) => &[],
            (false, Some(before)) => before,
        };
        let (old, new): (Vec<_>, Vec<_>) = now.into_iter().partition(|it| known.contains(it));
        let notes = old.into_iter().map(|it| format!("{it}, and was before"));
        Check::of(name, new, well).with_notes(notes.collect())
    }

    /// Whoever waits on and on: those behind an ordinary statement of somebody else are gone soon.
    async fn locks(&self, client: &Client) -> Check {
        let name = PostflightCheck::Locks.as_str();
        let deadline = Instant::now() + self.settings.locks_time;
        let mut waiting: Option<BTreeMap<i32, String>> = None;
        loop {
            let rows = match client.query(WAITING, &[&self.own]).await {
                Ok(rows) => rows,
                Err(error) => return Check::unknown(name, &error),
            };
            let mut now: BTreeMap<i32, String> =
                rows.iter().map(|row| (row.get(0), row.get(1))).collect();
            if let Some(before) = &waiting {
                now.retain(|pid, _| before.contains_key(pid));
            }
            if now.is_empty() {
                return Check::passed(name, "nobody is left waiting for a lock");
            }
            if Instant::now() >= deadline {
                let wrong: Vec<_> = now.into_values().collect();
                return Check::of(name, wrong, String::new())
                    .hint("see who holds it: `pgdrain migrate preflight`, check blocking_locks");
            }
            waiting = Some(now);
            tokio::time::sleep(LOOK).await;
        }
    }

    fn schema(&self) -> Check {
        let name = PostflightCheck::Schema.as_str();
        match self.schema_read {
            None => return Check::does_not_apply(name, "no fingerprint is taken down"),
            Some(false) => return Check::not_known(name, "the schema could not be read"),
            Some(true) => {}
        }
        let details = self.strange.iter().flat_map(|(file, lines)| {
            let first = format!("{file} does not lead back to the schema that there was before");
            std::iter::once(first).chain(lines.iter().map(|it| format!("  {it}")))
        });
        let details: Vec<_> = details.collect();
        match (details.is_empty(), self.settings.strict) {
            (true, _) => Check::passed(name, "the schema is read, and known from now on"),
            (false, false) => {
                Check::passed(name, "a way back leaves something behind").with(details)
            }
            (false, true) => {
                Check::failed(name, "a way back leaves something behind").with(details)
            }
        }
    }
}
