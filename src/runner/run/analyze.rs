//! ANALYZE of what the files touch: before them on request, and behind them. It fails nothing: what cannot
//! be analyzed is noted, and left to autovacuum.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::Instant;

use super::{Findings, Job};
use crate::config::Analyze;
use crate::runner::connect::{ConnectError, Session};
use crate::runner::plan::Plan;
use crate::runner::report::chain;
use crate::runner::traffic::Traffic;
use crate::runner::validate::{Declared, touched};

/// Tables among these relations that hold rows, and whether our role may analyze them. A partitioned table
/// takes its partitions along.
const TABLES: &str = "\
    select format('%I.%I', n.nspname, c.relname), \
           pg_catalog.pg_has_role(c.relowner, 'usage') \
             or (select pg_catalog.pg_has_role(datdba, 'usage') from pg_catalog.pg_database \
                 where datname = pg_catalog.current_database()) \
    from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace \
    where c.oid = any ($1) and c.relkind in ('r', 'p', 'm') and c.relpersistence <> 't' \
      and n.nspname !~ '^pg_' and n.nspname not in ('information_schema', 'pgdrain', 'pgdrain_copies') \
    order by 1";

/// The tables of indexes: one that is dropped is gone behind the files.
const OF_INDEXES: &str = "\
    select distinct indrelid from pg_catalog.pg_index \
    where indexrelid = any ($1) and indrelid <> all ($1)";

/// How long ANALYZE waits for a lock: others come first.
const LOCK: &str = "set lock_timeout = '2s'";

impl<T: Traffic> Job<T> {
    /// Takes down which tables the files touch, while they still have their names.
    async fn note_touched(&self, plan: &Plan, findings: &mut Findings) {
        if let Ok(session) = self.open_analyzer().await {
            let found = touched(&session.client, &names(plan)).await;
            findings.touched = found.unwrap_or_default();
            findings.compared.clone_from(&findings.touched);
            let client = &session.client;
            let tables = client.query(OF_INDEXES, &[&findings.touched]).await;
            let tables = tables.unwrap_or_default();
            findings
                .compared
                .extend(tables.iter().map(|row| row.get::<_, u32>(0)));
            session.close(Duration::from_secs(1)).await;
        }
    }

    /// While nothing is held: which tables the files touch, and their statistics if that is asked for.
    pub(super) async fn look_at_touched(&self, plan: &Plan, findings: &mut Findings) {
        let first = self.request.analyze_first || self.options.preflight.analyze_first;
        let touched = first || self.copies_tables() || self.compares(findings);
        if touched || self.options.postflight.analyze != Analyze::Off {
            self.note_touched(plan, findings).await;
        }
        self.look_earlier(findings).await;
        if first {
            self.run
                .note("the tables that the files touch are analyzed");
            self.analyze(plan, findings).await;
        }
    }

    /// When traffic flows again, if that is when it is to be done.
    pub(super) async fn analyze_reopened(&self, plan: &Plan, findings: &Findings) {
        if self.options.postflight.analyze == Analyze::AfterReopening && !findings.files.is_empty()
        {
            self.analyze(plan, findings).await;
        }
    }

    /// Analyzes the tables that the files touch, under the names that they have now.
    pub(super) async fn analyze(&self, plan: &Plan, findings: &Findings) {
        let session = match self.open_analyzer().await {
            Ok(session) => session,
            Err(error) => return self.run.note(format!("nothing is analyzed: {error}")),
        };
        let done = {
            let mut work = std::pin::pin!(self.analyze_all(&session, plan, findings));
            let stop = self.run.stop();
            tokio::select! {
                done = &mut work => done,
                _reason = stop.fired() => {
                    session.cancel(Duration::from_secs(5)).await;
                    work.await
                }
            }
        };
        if let Err(error) = done {
            self.run
                .note(format!("not everything is analyzed: {}", chain(&error)));
        }
        session.close(Duration::from_secs(1)).await;
    }

    pub(super) async fn open_analyzer(&self) -> Result<Session, ConnectError> {
        let database = &self.run.database;
        let session = self.connector.connect(database, Box::new(|_| {})).await?;
        session.client.batch_execute(LOCK).await?;
        Ok(session)
    }

    async fn analyze_all(
        &self,
        session: &Session,
        plan: &Plan,
        findings: &Findings,
    ) -> Result<(), tokio_postgres::Error> {
        let client = &session.client;
        let now = touched(client, &names(plan)).await?;
        let all: Vec<u32> = BTreeSet::from_iter([now, findings.touched.clone()].concat())
            .into_iter()
            .collect();
        let deadline = Instant::now() + self.options.postflight.analyze_time;
        let (mut done, mut left) = (0, Vec::new());
        for row in client.query(TABLES, &[&all]).await? {
            let (table, may): (String, bool) = (row.get(0), row.get(1));
            let time = deadline.saturating_duration_since(Instant::now());
            if !may || time.is_zero() || self.run.stop().now().is_some() {
                left.push(table);
                continue;
            }
            // Zero would be without limit.
            let time = time.as_millis().max(1);
            let limit = format!("set statement_timeout = {time}");
            client.batch_execute(&limit).await?;
            match client.batch_execute(&format!("analyze {table}")).await {
                Ok(()) => done += 1,
                Err(error) if error.as_db_error().is_some() => left.push(table),
                Err(error) => return Err(error),
            }
        }
        if done > 0 {
            self.run.note(format!("analyzed {done} tables"));
        }
        if !left.is_empty() {
            let left = left.join(", ");
            self.run.note(format!(
                "not analyzed (not ours, locked, or no time): {left}"
            ));
        }
        Ok(())
    }
}

/// The relations that the files name.
pub(super) fn names(plan: &Plan) -> Vec<String> {
    let declared = plan.steps.iter().map(|it| Declared::of(&it.script));
    let names = declared.flat_map(|it| it.touches.into_iter().map(|name| name.quoted()));
    BTreeSet::from_iter(names).into_iter().collect()
}
