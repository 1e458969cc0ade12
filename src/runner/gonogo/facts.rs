//! What the gate asks of the database besides preflight, plan and lint.

use crate::runner::Runner;
use crate::runner::approvals;
use crate::runner::history::{Ledger, LedgerError};
use crate::runner::plan::PlanReport;
use crate::runner::preflight::Check;
use crate::runner::report::chain;
use crate::runner::traffic::Traffic;

/// What was found out; an `Err` is what could not be, in a sentence.
pub(in crate::runner) struct Facts {
    /// Whether everybody has approved; none if nobody has to.
    pub(super) approvals: Option<Check>,
    /// Whether a restore point can be made, or why not.
    pub(super) restore_point: Result<Result<(), String>, String>,
    /// Whether pg_stat_statements is there to compare with.
    pub(super) statements: Result<bool, String>,
    /// The newest verified backup: its age in seconds, and how it was verified.
    pub(super) backup: Result<Option<(i64, String)>, String>,
    /// The newest rehearsal of these files; none if there was none.
    pub(super) rehearsal: Result<Option<Rehearsal>, String>,
}

/// A rehearsal that was kept.
pub(in crate::runner) struct Rehearsal {
    /// How it ended.
    pub(super) exit_code: i16,
    /// When, RFC 3339 in UTC.
    pub(super) at: String,
}

impl<T: Traffic> Runner<T> {
    pub(super) async fn facts(
        &self,
        database: &str,
        hash: Option<&str>,
        plan: &PlanReport,
    ) -> Facts {
        let backup = self.newest_backup(database).await;
        let ledger = match Ledger::open(&self.connector, database).await {
            Ok(ledger) => ledger,
            Err(error) => {
                let why = error.to_string();
                return Facts {
                    approvals: Some(Check::unknown("approvals", &error)),
                    restore_point: Err(why.clone()),
                    statements: Err(why.clone()),
                    rehearsal: Err(why),
                    backup,
                };
            }
        };
        let settings = &self.options.approvals;
        let approvals = match hash {
            _ if settings.roles.is_empty() => None,
            Some(hash) => Some(approvals::check(&ledger, settings, database, hash).await),
            None => Some(Check::failed("approvals", "there is no plan to approve")),
        };
        let facts = Facts {
            approvals,
            restore_point: restore_point(&ledger).await,
            statements: statements(&ledger).await,
            rehearsal: rehearsal(&ledger, plan).await.map_err(|it| it.to_string()),
            backup,
        };
        ledger.close().await;
        facts
    }

    async fn newest_backup(&self, database: &str) -> Result<Option<(i64, String)>, String> {
        if self.options.backup.dir.is_none() {
            return Ok(None);
        }
        let backups = self.backups(database).await.map_err(|it| it.to_string())?;
        let now = jiff::Timestamp::now().as_second();
        let newest = backups.backups.last();
        Ok(newest.map(|it| {
            (
                now - it.snapshot_at.as_second(),
                it.verified.how.to_string(),
            )
        }))
    }
}

/// May we, and does the server keep enough of its log ("Backup Control Functions" in the Postgres
/// documentation)?
async fn restore_point(ledger: &Ledger) -> Result<Result<(), String>, String> {
    let sql = "select has_function_privilege('pg_catalog.pg_create_restore_point(text)', 'execute'), \
                      current_setting('wal_level'), pg_is_in_recovery()";
    let row = ledger.session().client.query_one(sql, &[]).await;
    let row = row.map_err(|error| chain(&error))?;
    let (may, level, standby): (bool, String, bool) = (row.get(0), row.get(1), row.get(2));
    Ok(match (may, level.as_str(), standby) {
        (_, _, true) => Err("the server is a standby".to_owned()),
        (false, _, _) => Err("our role may not make one".to_owned()),
        (_, "minimal", _) => Err("wal_level is minimal".to_owned()),
        (true, _, false) => Ok(()),
    })
}

async fn statements(ledger: &Ledger) -> Result<bool, String> {
    let sql = "select exists (select from pg_extension where extname = 'pg_stat_statements') \
               and current_setting('shared_preload_libraries') like '%pg_stat_statements%'";
    let row = ledger.session().client.query_one(sql, &[]).await;
    Ok(row.map_err(|error| chain(&error))?.get(0))
}

/// The newest rehearsal in which every file of the plan was run as it is now: a statement is known by its
/// text. `None` without one, or without the tables that rehearsals are kept in.
async fn rehearsal(ledger: &Ledger, plan: &PlanReport) -> Result<Option<Rehearsal>, LedgerError> {
    let client = &ledger.session().client;
    let sql = "select to_regclass('pgdrain.rehearsed') is not null";
    if !client.query_one(sql, &[]).await?.get::<_, bool>(0) {
        return Ok(None);
    }
    let statements = plan.steps.iter().flat_map(|it| &it.statements);
    let wanted: Vec<_> = statements.map(|it| it.sha256.as_str()).collect();
    let sql = "select r.exit_code, \
               to_char(r.finished_at at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"') \
               from pgdrain.rehearsal r where not exists ( \
                   select from unnest($1::text[]) as w (sha256) where not exists ( \
                       select from pgdrain.rehearsed s \
                       where s.rehearsal_id = r.rehearsal_id and s.sha256 = w.sha256)) \
               order by r.finished_at desc limit 1";
    let row = client.query_opt(sql, &[&wanted]).await?;
    Ok(row.map(|row| Rehearsal {
        exit_code: row.get(0),
        at: row.get(1),
    }))
}
