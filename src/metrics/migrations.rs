//! What is measured of databases in which migrations run.

use std::time::Duration;

use metrics::Gauge;
use metrics_exporter_prometheus::PrometheusRecorder;

use super::{DATABASES_MAX, Metrics, gauge, lock, names};

/// What was found when a database was last looked at; `None` is not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MigrationFigures {
    /// Migrations that would be applied.
    pub pending: Option<u64>,
    /// Migrations that stopped part-way or still run.
    pub dirty: Option<u64>,
    /// Size of the database in bytes.
    pub bytes: Option<u64>,
    /// Connections to it, however they came.
    pub connections: Option<u64>,
    /// The first 48 bits of the checksum of its schema.
    pub checksum: Option<u64>,
    /// Foreign keys that are not validated.
    pub keys_not_validated: Option<u64>,
}

/// The gauges of one database, in the order of the figures.
pub(super) struct MigrationGauges([Gauge; 6]);

impl MigrationGauges {
    fn new(recorder: &PrometheusRecorder, database: &str) -> Self {
        let of = |name| gauge(recorder, name, &[("database", database)]);
        Self([
            of(names::MIGRATIONS_PENDING),
            of(names::MIGRATIONS_DIRTY),
            of(names::DATABASE_SIZE),
            of(names::DATABASE_CONNECTIONS),
            of(names::SCHEMA_CHECKSUM),
            of(names::FOREIGN_KEYS_NOT_VALIDATED),
        ])
    }
}

impl Metrics {
    /// A run of migrations was over after this time.
    pub fn migration_took(&self, duration: Duration) {
        self.migration_duration.record(duration);
    }

    /// What was found in a database. Past 1000 databases a further one is not shown.
    pub fn set_migrations(&self, database: &str, figures: &MigrationFigures) {
        let mut all = lock(&self.migrations);
        if !all.contains_key(database) && all.len() >= DATABASES_MAX {
            return;
        }
        let new = || MigrationGauges::new(&self.recorder, database);
        let MigrationGauges(gauges) = all.entry(database.to_owned()).or_insert_with(new);
        let found = [
            figures.pending,
            figures.dirty,
            figures.bytes,
            figures.connections,
            figures.checksum,
            figures.keys_not_validated,
        ];
        for (gauge, found) in gauges.iter().zip(found) {
            gauge.set(found.map_or(f64::NAN, as_f64));
        }
    }
}

/// Sizes of databases are far below 2^53, up to where every whole number is exact.
#[expect(clippy::cast_precision_loss, reason = "exact up to 2^53")]
fn as_f64(count: u64) -> f64 {
    count as f64
}
