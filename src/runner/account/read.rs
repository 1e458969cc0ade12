//! What the history has of one run.

use serde_json::Value;
use tokio_postgres::types::Json;

use super::Entry;
use crate::runner::history::{Ledger, LedgerError};

/// A run, by its id or the last one; `$1` is the id. An id that is no UUID is nobody's.
const RUN: &str = "\
    select run_id::text, direction, state, requested_by, reason, \
           to_char(started_at at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"'), \
           to_char(finished_at at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"'), \
           exit_code, report \
    from pgdrain.run where $1::text is null or run_id::text = $1 \
    order by started_at desc limit 1";

/// What happened to its migrations; a run of very many files is known by its last ones.
const EVENTS: &str = "\
    select at, type, version, data from ( \
        select id, to_char(at at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"') as at, type, \
               version, data \
        from pgdrain.event where run_id::text = $1 order by id desc limit 1000) e \
    order by id";

/// A row of `pgdrain.run` with its events.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    pub(super) id: String,
    pub(super) direction: String,
    pub(super) state: String,
    pub(super) by: String,
    pub(super) reason: Option<String>,
    pub(super) started_at: String,
    pub(super) finished_at: Option<String>,
    pub(super) exit_code: Option<i16>,
    pub(super) report: Option<Value>,
    pub(super) history: Vec<Entry>,
}

impl Ledger {
    /// What is kept of a run; none without the tables.
    pub(super) async fn kept(&self, run: Option<&str>) -> Result<Option<Kept>, LedgerError> {
        if !self.has_layout().await? {
            return Ok(None);
        }
        let client = &self.session().client;
        let Some(row) = client.query_opt(RUN, &[&run]).await? else {
            return Ok(None);
        };
        let id: String = row.get(0);
        let events = client.query(EVENTS, &[&id]).await?;
        Ok(Some(Kept {
            direction: row.get(1),
            state: row.get(2),
            by: row.get(3),
            reason: row.get(4),
            started_at: row.get(5),
            finished_at: row.get(6),
            exit_code: row.get(7),
            report: row.get::<_, Option<Json<Value>>>(8).map(|Json(it)| it),
            history: events
                .iter()
                .map(|event| Entry {
                    at: event.get(0),
                    kind: event.get(1),
                    version: event.get(2),
                    data: event.get::<_, Json<Value>>(3).0,
                })
                .collect(),
            id,
        }))
    }
}
