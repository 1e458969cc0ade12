//! Approvals and decisions in the history: each entry is one statement, and none is ever changed.

use std::time::Duration;

use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::{
    Approval, ApprovalError, ApproveRequest, DecideRequest, Decision, RevokeRequest, Standing,
};
use crate::runner::history::{Ledger, LedgerError};

/// A time as RFC 3339 in UTC.
macro_rules! utc {
    ($column:literal) => {
        concat!(
            "to_char(",
            $column,
            " at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"')"
        )
    };
}

/// Every entry with what it stands for now, by the server's clock.
const ENTRIES: &str = concat!(
    "select a.id, a.plan, a.role, a.said_by, ",
    utc!("a.at"),
    ", ",
    utc!("a.expires_at"),
    ", a.reason, case \
       when a.kind = 'revoke' then 'revocation' \
       when exists (select from pgdrain.approval r where r.plan = a.plan and r.role = a.role \
                    and r.kind = 'revoke' and r.id > a.id) then 'revoked' \
       when a.expires_at <= clock_timestamp() then 'expired' else 'valid' end \
     from pgdrain.approval a"
);

impl Ledger {
    /// Whether the tables are there; those of an older layout are not.
    pub(super) async fn has_approvals(&self) -> Result<bool, LedgerError> {
        let sql = "select to_regclass('pgdrain.approval') is not null";
        Ok(self.session().client.query_one(sql, &[]).await?.get(0))
    }

    /// The newest entries, oldest first, of one plan or of all; none without the tables.
    pub(in crate::runner) async fn approvals(
        &self,
        plan: Option<&str>,
    ) -> Result<Vec<Approval>, LedgerError> {
        if !self.has_approvals().await? {
            return Ok(Vec::new());
        }
        let sql = format!(
            "{ENTRIES} where $1::text is null or a.plan = $1 order by a.id desc limit 1000"
        );
        let rows = self.session().client.query(&sql, &[&plan]).await?;
        rows.iter().rev().map(entry).collect()
    }

    pub(super) async fn approve(
        &self,
        request: &ApproveRequest,
        by: &str,
        expires: Duration,
    ) -> Result<Approval, LedgerError> {
        let sql = "insert into pgdrain.approval (kind, plan, role, said_by, expires_at, reason) \
                   values ('approve', $1, $2, $3, \
                           clock_timestamp() + make_interval(secs => $4), $5) returning id";
        let seconds = expires.as_secs_f64();
        let ApproveRequest {
            plan, role, reason, ..
        } = request;
        let parameters: [&(dyn ToSql + Sync); 5] = [plan, role, &by, &seconds, reason];
        let row = self.session().client.query_one(sql, &parameters).await?;
        self.approval(row.get(0)).await
    }

    /// `None` when the role has no valid approval of that plan.
    pub(super) async fn revoke(
        &self,
        request: &RevokeRequest,
        by: &str,
    ) -> Result<Option<Approval>, LedgerError> {
        let sql = format!(
            "insert into pgdrain.approval (kind, plan, role, said_by, reason) \
             select 'revoke', $1, $2, $3, $4 \
             where exists (select from ({ENTRIES} where a.plan = $1 and a.role = $2) \
                           as e (id, plan, role, said_by, at, expires_at, reason, standing) \
                           where standing = 'valid') returning id"
        );
        let RevokeRequest {
            plan, role, reason, ..
        } = request;
        let parameters: [&(dyn ToSql + Sync); 4] = [plan, role, &by, reason];
        let row = self.session().client.query_opt(&sql, &parameters).await?;
        match row {
            Some(row) => Ok(Some(self.approval(row.get(0)).await?)),
            None => Ok(None),
        }
    }

    async fn approval(&self, id: i64) -> Result<Approval, LedgerError> {
        let sql = format!("{ENTRIES} where a.id = $1");
        entry(&self.session().client.query_one(&sql, &[&id]).await?)
    }

    /// Writes a decision, and into the report of its run, in one statement.
    pub(super) async fn decide(
        &self,
        request: &DecideRequest,
        by: &str,
    ) -> Result<Decision, ApprovalError> {
        let sql = concat!(
            "with failed as (select run_id from pgdrain.run where run_id = $1::text::uuid \
                             and finished_at is not null and state <> 'succeeded'), \
             done as (insert into pgdrain.decision (run_id, decision, decided_by, reason) \
                      select run_id, $2, $3, $4 from failed returning run_id, ",
            utc!("decision.at"),
            " as at), \
             said as (select run_id, at, jsonb_build_object('decision', $2::text, 'by', $3::text, \
                             'reason', $4::text, 'at', at) as data from done), \
             told as (insert into pgdrain.event (run_id, type, data) \
                      select run_id, 'decided', data from said) \
             update pgdrain.run r set report = jsonb_set(r.report, '{decision}', said.data) \
             from said where r.run_id = said.run_id returning said.at"
        );
        let decision = request.decision.as_str();
        let DecideRequest { run, reason, .. } = request;
        let parameters: [&(dyn ToSql + Sync); 4] = [run, &decision, &by, reason];
        let client = &self.session().client;
        let written = client.query_opt(sql, &parameters).await;
        if let Some(row) = written.map_err(LedgerError::from)? {
            return Ok(Decision {
                decision: request.decision,
                by: by.to_owned(),
                reason: reason.clone(),
                at: row.get(0),
            });
        }
        let sql =
            "select state, finished_at is null from pgdrain.run where run_id = $1::text::uuid";
        let known = client.query_opt(sql, &[run]).await;
        Err(match known.map_err(LedgerError::from)? {
            None => ApprovalError::NoRun(run.clone()),
            Some(row) if row.get::<_, bool>(1) => ApprovalError::Nothing(format!(
                "run {run} has not ended, or not been recovered yet"
            )),
            Some(row) => {
                let state: String = row.get(0);
                ApprovalError::Nothing(format!("run {run} {state}: there is nothing to decide"))
            }
        })
    }
}

fn entry(row: &Row) -> Result<Approval, LedgerError> {
    let standing = match row.get(7) {
        "valid" => Standing::Valid,
        "expired" => Standing::Expired,
        "revoked" => Standing::Revoked,
        "revocation" => Standing::Revocation,
        other => {
            return Err(LedgerError::Unreadable(format!(
                "an approval that is {other:?}"
            )));
        }
    };
    Ok(Approval {
        id: row.get(0),
        plan: row.get(1),
        role: row.get(2),
        by: row.get(3),
        at: row.get(4),
        expires_at: row.get(5),
        reason: row.get(6),
        standing,
    })
}
