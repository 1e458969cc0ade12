//! Keeps what a rehearsal found in the history of the database, and tells plans what to expect.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::json;
use tokio::time::Instant;
use tokio_postgres::types::{Json, ToSql};

use super::Job;
use super::types::{Course, Rehearsal};
use crate::runner::connect::Connector;
use crate::runner::history::{Ledger, LedgerError};
use crate::runner::plan::{Expected, PlanReport};
use crate::runner::report::Report;

/// Keeps a rehearsal and its statements: one statement, so that it is whole or absent.
const KEEP: &str = "\
    with kept as ( \
        insert into pgdrain.rehearsal (rehearsal_id, place, data, requested_by, started_at, \
               exit_code, report) \
        values ($1::text::uuid, $2, $3, $4, $5::text::timestamptz, $6, $7) returning rehearsal_id) \
    insert into pgdrain.rehearsed (rehearsal_id, number, sha256, file, scale, elapsed_ms) \
    select kept.rehearsal_id, row_number() over (), s.sha256, s.file, s.scale, s.elapsed_ms \
    from kept, jsonb_to_recordset($8) as s(sha256 text, file text, scale int, elapsed_ms bigint)";

/// How long statements took. With the rows of the database counts most, then in a database that was
/// named, then with the most made-up rows; of those the last.
const EXPECT: &str = "\
    select distinct on (s.sha256) s.sha256, s.elapsed_ms, r.place, r.data, s.scale, \
           to_char(r.started_at at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"') \
    from pgdrain.rehearsed s join pgdrain.rehearsal r using (rehearsal_id) \
    where s.sha256 = any($1) \
    order by s.sha256, r.data = 'full' and s.scale is null desc, r.place = 'staging' desc, \
             s.scale desc nulls last, r.started_at desc, s.number";

impl Job {
    /// Keeps the report in the history of the database that it is about. What cannot be kept is
    /// noted; the rehearsal was made all the same.
    pub(super) async fn keep(&self, report: &mut Report) {
        let Some(found) = report.rehearsal.clone() else {
            return;
        };
        // Nothing was run that would be worth it.
        if !self.request.record || found.courses.is_empty() {
            return;
        }
        if let Err(error) = self.write(report, &found).await {
            let text = format!("the rehearsal is not kept in the history: {error}");
            self.run.note(text.clone());
            if let Some(found) = &mut report.rehearsal {
                found.notes.push(text);
            }
        }
    }

    async fn write(&self, report: &Report, found: &Rehearsal) -> Result<(), LedgerError> {
        let ledger = Ledger::open(&self.connector, &self.run.database).await?;
        let deadline = Instant::now() + self.options.lock_wait;
        let written = async {
            ledger.lock(deadline, None).await?;
            ledger.ensure_layout().await?;
            let statements: Vec<_> = found.courses.iter().flat_map(statements).collect();
            let (place, data) = (found.place.as_str(), found.data.as_str());
            let started = report.started_at.to_string();
            let exit = i16::from(report.exit_code);
            let (whole, statements) = (Json(found), Json(statements));
            let parameters: [&(dyn ToSql + Sync); 8] = [
                &report.id,
                &place,
                &data,
                &report.by,
                &started,
                &exit,
                &whole,
                &statements,
            ];
            let client = &ledger.session().client;
            client.execute(KEEP, &parameters).await?;
            Ok(())
        };
        let written = written.await;
        ledger.close().await;
        written
    }
}

/// Every statement that ended well, up and down.
fn statements(course: &Course) -> Vec<serde_json::Value> {
    let legs = [Some(&course.up), course.down.as_ref()];
    let files = legs.into_iter().flatten().flat_map(|leg| &leg.files);
    let all = files.flat_map(|it| it.trace.iter().map(|trace| (&it.file.file, trace)));
    all.map(|(file, it)| {
        json!({
            "sha256": it.sha256, "file": file, "scale": course.scale, "elapsed_ms": it.elapsed_ms,
        })
    })
    .collect()
}

/// Adds to a plan how long its statements took in rehearsals, if the history knows.
pub(in crate::runner) async fn expect(
    connector: &Arc<Connector>,
    database: &str,
    report: &mut PlanReport,
) -> Result<(), LedgerError> {
    let ledger = Ledger::open(connector, database).await?;
    let found = known(&ledger, report).await;
    ledger.close().await;
    let found = found?;
    for statement in report.steps.iter_mut().flat_map(|it| &mut it.statements) {
        statement.expected = found.get(&statement.sha256).cloned();
    }
    Ok(())
}

async fn known(
    ledger: &Ledger,
    report: &PlanReport,
) -> Result<BTreeMap<String, Expected>, LedgerError> {
    let client = &ledger.session().client;
    let there = "select to_regclass('pgdrain.rehearsed') is not null";
    if !client.query_one(there, &[]).await?.get::<_, bool>(0) {
        return Ok(BTreeMap::new());
    }
    let statements = report.steps.iter().flat_map(|it| &it.statements);
    let hashes: Vec<_> = statements.map(|it| it.sha256.clone()).collect();
    let rows = client.query(EXPECT, &[&hashes]).await?;
    let expected = |row: &tokio_postgres::Row| {
        let (place, data): (&str, &str) = (row.get(2), row.get(3));
        let elapsed: i64 = row.get(1);
        let among = match (place, data, row.get::<_, Option<i32>>(4)) {
            (_, _, Some(rows)) => format!("{rows} made-up rows in each table"),
            ("scratch", "none", None) => "no rows at all".to_owned(),
            ("scratch", _, None) => "the rows of the database".to_owned(),
            (place, _, None) => format!("the rows of a {place} database"),
        };
        let expected = Expected {
            elapsed_ms: u64::try_from(elapsed).unwrap_or(0),
            among,
            at: row.get(5),
        };
        (row.get(0), expected)
    };
    Ok(rows.iter().map(expected).collect())
}
