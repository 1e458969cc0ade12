//! The seven metrics of document 2, measured when a run ends and when somebody asks how files stand: how
//! long migrations take, how many are pending and dirty, the size of the database, its connections, the
//! checksum of its schema, and foreign keys that are not validated.

use std::sync::Arc;
use std::time::Duration;

use super::Runner;
use super::adopt;
use super::history::{Ledger, LedgerError};
use super::report::Report;
use super::source::{Reading, Sha256};
use super::status;
use super::today;
use super::traffic::Traffic;
use super::types::StatusReport;
use crate::metrics::{Metrics, MigrationFigures};

/// How long all questions may take together.
const PATIENCE: Duration = Duration::from_secs(10);

/// None of it waits behind DDL: what cannot be had at once is not known. The settings make texts of the
/// schema the same, whoever asks.
const BEGIN: &str = "\
    begin isolation level repeatable read, read only; \
    set local lock_timeout = '100ms'; set local statement_timeout = '8s'; \
    set local search_path = ''; set local quote_all_identifiers = off; \
    set local datestyle = 'ISO, YMD'; set local intervalstyle = 'postgres'; \
    set local timezone = 'UTC'; set local bytea_output = 'hex'; \
    set local extra_float_digits = 1; set local lc_monetary = 'C'";

const FIGURES: &str = "\
    select pg_catalog.pg_database_size(pg_catalog.current_database()), \
           (select numbackends::int8 from pg_catalog.pg_stat_database \
            where datname = pg_catalog.current_database()), \
           (select count(*) from pg_catalog.pg_constraint \
            where contype = 'f' and not convalidated)";

impl<T: Traffic> Runner<T> {
    /// The same runner, which records what it measures.
    #[must_use]
    pub fn with_metrics(self, metrics: Arc<Metrics>) -> Self {
        Self {
            metrics: Some(metrics),
            ..self
        }
    }

    /// Measures a database after somebody has asked how its files stand; nobody waits for it.
    pub(super) fn measure_beside(&self, database: &str, report: &StatusReport) {
        let Some(metrics) = self.metrics.clone() else {
            return;
        };
        let stand = (report.pending.len(), report.dirty.len());
        let (connector, database) = (Arc::clone(&self.connector), database.to_owned());
        self.tasks.spawn(async move {
            let measured = async {
                let ledger = Ledger::open(&connector, &database).await?;
                let figures = figures(&ledger, stand).await;
                ledger.close().await;
                Ok::<_, LedgerError>(figures)
            };
            if let Ok(Ok(figures)) = tokio::time::timeout(PATIENCE, measured).await {
                metrics.set_migrations(&database, &figures);
            }
        });
    }
}

/// Measures a database when a run in it has ended.
pub(super) async fn measure(
    metrics: &Metrics,
    ledger: &Ledger,
    (reading, history): (&Reading, Option<&str>),
    report: &Report,
) {
    metrics.migration_took(Duration::from_millis(report.elapsed_ms));
    metrics.migration_ended(report.state.as_str());
    let measured = async {
        let rows = ledger.rows().await?;
        let (set, known) = adopt::learn(ledger.session(), reading, history, rows).await?;
        let stand = status::status(set, &known.rows, today());
        Ok::<_, LedgerError>(figures(ledger, (stand.pending.len(), stand.dirty.len())).await)
    };
    match tokio::time::timeout(PATIENCE, measured).await {
        Ok(Ok(figures)) => metrics.set_migrations(&report.database, &figures),
        Ok(Err(error)) => tracing::debug!(%error, "the database is not measured"),
        Err(_elapsed) => tracing::debug!("the database is not measured: no answer"),
    }
}

/// What is found; what cannot be asked now is not known.
async fn figures(ledger: &Ledger, (pending, dirty): (usize, usize)) -> MigrationFigures {
    let client = &ledger.session().client;
    let mut figures = MigrationFigures {
        pending: u64::try_from(pending).ok(),
        dirty: u64::try_from(dirty).ok(),
        ..MigrationFigures::default()
    };
    let count = |row: &tokio_postgres::Row, at: usize| {
        let count: Option<i64> = row.get(at);
        count.and_then(|it| u64::try_from(it).ok())
    };
    if let Ok(row) = client.query_one(FIGURES, &[]).await {
        figures.bytes = count(&row, 0);
        figures.connections = count(&row, 1);
        figures.keys_not_validated = count(&row, 2);
    }
    figures.checksum = checksum(ledger).await.ok();
    // Also after an error inside of it.
    let _ended = client.batch_execute("rollback").await;
    figures
}

/// The first 48 bits of the SHA-256 of the schema: as many as a metric carries without rounding.
async fn checksum(ledger: &Ledger) -> Result<u64, tokio_postgres::Error> {
    let client = &ledger.session().client;
    client.batch_execute(BEGIN).await?;
    let rows = client
        .query(include_str!("backup/fingerprint.sql"), &[])
        .await?;
    let lines: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    let hash = Sha256::of(lines.join("\n").as_bytes());
    let first = hash.as_bytes().iter().take(6);
    Ok(first.fold(0, |sum, byte| sum << 8 | u64::from(*byte)))
}
