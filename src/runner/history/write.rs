//! Entries in the history. Each is one statement, so that it is whole or absent, and each names the
//! state it expects to find: a row that somebody else changed is not overwritten.

use tokio_postgres::types::ToSql;

use super::{Key, Ledger, LedgerError, RowState};
use crate::runner::plan::{Action, Step};
use crate::runner::report::{Failure, Report};
use crate::runner::source::SqlFile;
use crate::runner::types::{Direction, TrafficMode};

/// The statement that ends a file well, with what a tool is told besides (`WriteBack::parts`, or
/// nothing). In a file's own transaction the row must be the one that this very transaction began: a
/// script that managed to end our transaction and begin another does not find it.
pub(in crate::runner) fn finish_statement(in_transaction: bool, tool: &str) -> String {
    let ours = match in_transaction {
        true => "and xid = pg_current_xact_id()",
        false => "",
    };
    format!(
        "with done as ( \
            update pgdrain.migration set state = $4, statements_done = statements_total, \
                   finished_at = clock_timestamp(), failed_stmt = null, failed_sqlstate = null, \
                   failed_message = null, alone = null, up_done = null, up_total = null \
            where source = $1 and version = $2 and run_id = $3::text::uuid and state = 'running' \
              {ours} \
            returning run_id, version, name, started_at){tool} \
        insert into pgdrain.event (run_id, type, version, data) \
        select run_id, $4, version, jsonb_build_object('name', name) from done"
    )
}

/// Marks an up file as running, new or again. The statement text of the parameters is checked by
/// the server: source, version, name, checksums, mode, count, texts, xid, pid, run.
const BEGIN_UP: &str = "\
    insert into pgdrain.migration as m (source, version, version_key, name, checksum, raw_sha256, \
           tx_mode, state, direction, statements_total, up_sql, down_sql, xid, pid, backend_start, \
           run_id, statements_done, counted) \
    values ($1, $2, $13::text::numeric[], $3, $4, $5, $6, 'running', 'up', $7, $8, $9, \
            $10::text::xid8, $11, (select backend_start from pg_stat_activity where pid = $11), \
            $12::text::uuid, $14, true) \
    on conflict (source, version) do update set name = excluded.name, \
           checksum = excluded.checksum, raw_sha256 = excluded.raw_sha256, \
           tx_mode = excluded.tx_mode, state = 'running', direction = 'up', \
           statements_total = excluded.statements_total, \
           statements_done = excluded.statements_done, counted = true, alone = null, \
           up_done = null, failed_stmt = null, \
           failed_sqlstate = null, failed_message = null, up_sql = excluded.up_sql, \
           down_sql = excluded.down_sql, xid = excluded.xid, pid = excluded.pid, \
           backend_start = excluded.backend_start, run_id = excluded.run_id, \
           applied_by = excluded.applied_by, started_at = excluded.started_at, finished_at = null \
    where m.state in ('failed', 'reverted', 'begun') \
       or (m.state = 'partial' and m.direction = 'up' \
           and m.statements_done = excluded.statements_done) \
       or (m.state = 'applied' and m.version like 'R\\_\\_%')";

/// Records as applied what another tool applied.
const ADOPT: &str = "\
    insert into pgdrain.migration (source, version, version_key, name, checksum, raw_sha256, \
           tx_mode, state, direction, statements_total, up_sql, run_id, finished_at) \
    values ($1, $2, $3::text::numeric[], $4, $5, $6, 'file', 'applied', 'up', 0, $7, \
            $8::text::uuid, clock_timestamp()) \
    on conflict (source, version) do update set state = 'applied', direction = 'up', \
           finished_at = excluded.finished_at \
    where pgdrain.migration.state in ('failed', 'reverted')";

/// Marks a down file as running. Checksums and texts stay those of what is applied.
const BEGIN_DOWN: &str = "\
    update pgdrain.migration set state = 'running', direction = 'down', tx_mode = $3, \
           statements_total = $4, statements_done = $8, counted = true, alone = null, down_run = $9, \
           up_done = case when state = 'partial' and direction = 'up' then statements_done \
                          else up_done end, \
           up_total = case when state = 'partial' and direction = 'up' then statements_total \
                           else up_total end, failed_stmt = null, \
           failed_sqlstate = null, failed_message = null, xid = $5::text::xid8, pid = $6, \
           backend_start = (select backend_start from pg_stat_activity where pid = $6), \
           run_id = $7::text::uuid, started_at = clock_timestamp(), finished_at = null \
    where source = $1 and version = $2 and (state in ('applied', 'begun') \
           or (state = 'partial' and (direction = 'up' or statements_done = $8)))";

/// Records how a file failed: rolled back or dirty.
const FAIL: &str = "\
    with done as ( \
        update pgdrain.migration set state = $3, failed_stmt = $4, failed_sqlstate = $5, \
               failed_message = $6, finished_at = clock_timestamp() \
        where source = $1 and version = $2 and state = 'running' \
        returning run_id, version, name, direction) \
    insert into pgdrain.event (run_id, type, version, data) \
    select run_id, $7, version, jsonb_build_object('name', name, 'direction', direction, \
           'statement', $4, 'sqlstate', $5, 'message', $6) from done";

/// Who begins a file, and where.
#[derive(Clone, Copy, Debug)]
pub(in crate::runner) struct Beginning<'a> {
    /// The run.
    pub(in crate::runner) run: &'a str,
    /// The server process that runs the file.
    pub(in crate::runner) pid: i32,
    /// Its transaction, for a file that is one.
    pub(in crate::runner) xid: Option<&'a str>,
}

impl Ledger {
    /// Records a run as begun.
    pub(in crate::runner) async fn begin_run(
        &self,
        run: &str,
        direction: Direction,
        traffic: TrafficMode,
        by: &str,
        reason: Option<&str>,
    ) -> Result<(), LedgerError> {
        let sql = "insert into pgdrain.run (run_id, direction, traffic, state, requested_by, reason) \
                   values ($1::text::uuid, $2, $3, 'applying', $4, $5)";
        let (direction, traffic) = (direction.as_str(), traffic.as_str());
        let parameters: [&(dyn ToSql + Sync); 5] = [&run, &direction, &traffic, &by, &reason];
        self.session.client.execute(sql, &parameters).await?;
        Ok(())
    }

    /// Records that a run goes on against checks that were not passed; why stands with the run.
    pub(in crate::runner) async fn forced(
        &self,
        run: &str,
        checks: &[String],
    ) -> Result<(), LedgerError> {
        let sql = "insert into pgdrain.event (run_id, type, data) \
                   select run_id, 'forced', jsonb_build_object('checks', $2::text[], \
                          'by', requested_by, 'reason', reason) \
                   from pgdrain.run where run_id = $1::text::uuid";
        let parameters: [&(dyn ToSql + Sync); 2] = [&run, &checks];
        let rows = self.session.client.execute(sql, &parameters).await?;
        one_row(rows, "the run")
    }

    /// Records how a run ended; a run that has ended already stays as it is.
    pub(in crate::runner) async fn end_run(
        &self,
        run: &str,
        state: &str,
        report: Option<&Report>,
    ) -> Result<(), LedgerError> {
        let sql = "update pgdrain.run set state = $2, exit_code = $3, report = $4, \
                   finished_at = clock_timestamp() \
                   where run_id = $1::text::uuid and finished_at is null";
        let exit_code = report.map(|it| i16::from(it.exit_code));
        let report = report.map(tokio_postgres::types::Json);
        let parameters: [&(dyn ToSql + Sync); 4] = [&run, &state, &exit_code, &report];
        self.session.client.execute(sql, &parameters).await?;
        Ok(())
    }

    /// Records what happened in a run besides its files.
    pub(in crate::runner) async fn note(
        &self,
        run: &str,
        event: &str,
        data: &serde_json::Value,
    ) -> Result<(), LedgerError> {
        let sql = "insert into pgdrain.event (run_id, type, data) values ($1::text::uuid, $2, $3)";
        let data = tokio_postgres::types::Json(data);
        let parameters: [&(dyn ToSql + Sync); 3] = [&run, &event, &data];
        self.session.client.execute(sql, &parameters).await?;
        Ok(())
    }

    /// Records what happened to a run that has not begun yet; nothing without the tables.
    pub(in crate::runner) async fn note_without_run(
        &self,
        event: &str,
        data: &serde_json::Value,
    ) -> Result<(), LedgerError> {
        if !self.has_layout().await? {
            return Ok(());
        }
        let sql = "insert into pgdrain.event (type, data) values ($1, $2)";
        let data = tokio_postgres::types::Json(data);
        let parameters: [&(dyn ToSql + Sync); 2] = [&event, &data];
        self.session.client.execute(sql, &parameters).await?;
        Ok(())
    }

    /// Records a file as running. From here on a crash leaves a row that says so.
    pub(in crate::runner) async fn begin_file(
        &self,
        step: &Step,
        beginning: Beginning<'_>,
    ) -> Result<(), LedgerError> {
        let (source, version) = (step.format.as_str(), step.version.to_string());
        let mode = step.script.mode().as_str();
        let total = count(step.script.statements().len());
        let from = count(step.from);
        let Beginning { run, pid, xid } = beginning;
        let rows = match &step.action {
            Action::Apply {
                checksums,
                down_sql,
                tool_checksum: _,
            } => {
                let down_sql = down_sql.as_deref();
                let order = step.version.key();
                let parameters: [&(dyn ToSql + Sync); 14] = [
                    &source,
                    &version,
                    &step.name,
                    &checksums.normalised.as_bytes(),
                    &checksums.raw.as_bytes(),
                    &mode,
                    &total,
                    &step.script.text(),
                    &down_sql,
                    &xid,
                    &pid,
                    &run,
                    &order,
                    &from,
                ];
                self.session.client.execute(BEGIN_UP, &parameters).await?
            }
            Action::Revert { adopted } => {
                if let Some(up) = adopted {
                    self.adopt(step, up, run).await?;
                }
                let text = step.script.text();
                let parameters: [&(dyn ToSql + Sync); 9] = [
                    &source, &version, &mode, &total, &xid, &pid, &run, &from, &text,
                ];
                self.session.client.execute(BEGIN_DOWN, &parameters).await?
            }
        };
        one_row(rows, &step.name)
    }

    /// Takes over what another tool applied and is to be reverted, so that the run of its down file
    /// can be recorded. What we know already stays as it is.
    async fn adopt(&self, step: &Step, up: &SqlFile, run: &str) -> Result<(), LedgerError> {
        let (source, version) = (step.format.as_str(), step.version.to_string());
        let order = step.version.key();
        let parameters: [&(dyn ToSql + Sync); 8] = [
            &source,
            &version,
            &order,
            &step.name,
            &up.checksums.normalised.as_bytes(),
            &up.checksums.raw.as_bytes(),
            &&*up.sql,
            &run,
        ];
        self.session.client.execute(ADOPT, &parameters).await?;
        Ok(())
    }

    /// Records how many statements of a file without a transaction have ended well.
    pub(in crate::runner) async fn statements_done(
        &self,
        step: &Step,
        done: usize,
    ) -> Result<(), LedgerError> {
        let sql = "update pgdrain.migration set statements_done = $3, alone = null \
                   where source = $1 and version = $2 and state = 'running'";
        let (source, version) = (step.format.as_str(), step.version.to_string());
        let parameters: [&(dyn ToSql + Sync); 3] = [&source, &version, &count(done)];
        one_row(
            self.session.client.execute(sql, &parameters).await?,
            &step.name,
        )
    }

    /// Records the good end of a file without a transaction; `tool` is what else is told to whom.
    pub(in crate::runner) async fn finish(
        &self,
        key: &Key,
        direction: Direction,
        run: &str,
        tool: &str,
    ) -> Result<(), LedgerError> {
        let (source, version) = (key.format.as_str(), key.version.to_string());
        let state = finished_state(direction).as_str();
        let parameters = finish_parameters(&source, &version, &run, &state);
        one_row(
            self.session
                .client
                .execute(&finish_statement(false, tool), &parameters)
                .await?,
            &version,
        )
    }

    /// Records that nothing of a file is in the database: an up file may run again, and what a
    /// down file should have reverted is still applied.
    pub(in crate::runner) async fn rolled_back(
        &self,
        key: &Key,
        direction: Direction,
        failure: &Failure,
    ) -> Result<(), LedgerError> {
        let left = self.left(key, direction).await?;
        self.fail(key, left, "rolled_back", failure).await?;
        match left {
            // A way back from a file that was not whole: it is as it was.
            RowState::Partial => self.up_again(key).await,
            RowState::Failed
            | RowState::Begun
            | RowState::Applied
            | RowState::Running
            | RowState::Dirty
            | RowState::Reverted => Ok(()),
        }
    }

    /// Records that part of a file is in the database.
    pub(in crate::runner) async fn dirty(
        &self,
        key: &Key,
        failure: &Failure,
    ) -> Result<(), LedgerError> {
        self.fail(key, RowState::Dirty, "dirty", failure).await
    }

    /// Records that a file stopped between two batches.
    pub(in crate::runner) async fn begun(
        &self,
        key: &Key,
        failure: &Failure,
    ) -> Result<(), LedgerError> {
        self.fail(key, RowState::Begun, "begun", failure).await
    }

    async fn fail(
        &self,
        key: &Key,
        state: RowState,
        event: &str,
        failure: &Failure,
    ) -> Result<(), LedgerError> {
        let (source, text) = (key.format.as_str(), key.version.to_string());
        let statement = failure.statement.and_then(|it| i32::try_from(it).ok());
        let state = state.as_str();
        let parameters: [&(dyn ToSql + Sync); 7] = [
            &source,
            &text,
            &state,
            &statement,
            &failure.sqlstate,
            &failure.message,
            &event,
        ];
        one_row(self.session.client.execute(FAIL, &parameters).await?, &text)
    }
}

/// The state in which a file's good end leaves its migration.
pub(in crate::runner) fn finished_state(direction: Direction) -> RowState {
    match direction {
        Direction::Up => RowState::Applied,
        Direction::Down => RowState::Reverted,
    }
}

/// Parameters of `finish_statement`.
pub(in crate::runner) fn finish_parameters<'a>(
    source: &'a &str,
    version: &'a String,
    run: &'a &str,
    state: &'a &str,
) -> [&'a (dyn ToSql + Sync); 4] {
    [source, version, run, state]
}

fn count(items: usize) -> i32 {
    i32::try_from(items).unwrap_or(i32::MAX)
}

pub(super) fn one_row(rows: u64, name: &str) -> Result<(), LedgerError> {
    if rows == 1 {
        Ok(())
    } else {
        Err(LedgerError::Changed(name.to_owned()))
    }
}
