//! What is counted while pgdrain runs, recorded through typed calls and rendered for Prometheus.
//!
//! Nothing here is on the path of a statement: sessions count for themselves, and their totals are
//! set here when somebody asks for the metrics.

mod access;
mod migrations;
pub mod names;
pub mod statements;
mod status;
mod traces;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, Key, Label, Level, Metadata, Recorder};
use metrics_exporter_prometheus::{
    Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder,
};

pub use access::{EndFigure, Refusal};
pub use migrations::MigrationFigures;
use migrations::MigrationGauges;
use names::{Kind, Name};
use statements::Statements;
pub use status::{
    DRAIN_WHATS, DatabaseFigures, HOLDERS, HoldFigures, ProcessFigures, WINDOW_STATES,
};

/// Databases that get labels of their own. Their names come from a server's catalogue, but a
/// server may have any number of them.
const DATABASES_MAX: usize = 1000;

/// Holds on some clients that get labels of their own.
const SCOPES_MAX: usize = 1000;

/// What of the time of measured statements is shown, as the label has it.
const QUANTILES: [(&str, f64); 2] = [("0.5", 0.5), ("0.99", 0.99)];

/// The buckets of all durations, in seconds: a drain is a matter of milliseconds, a hold of
/// minutes.
const BUCKETS: &[f64] = &[
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
    120.0, 300.0, 600.0, 1800.0, 3600.0,
];

/// The metrics of one process; a value, so that tests have their own.
pub struct Metrics {
    recorder: PrometheusRecorder,
    handle: PrometheusHandle,
    hold_duration: Histogram,
    held_wait: Histogram,
    drain_duration: Histogram,
    connections: Counter,
    server_connect_failures: Counter,
    refusals: Mutex<BTreeMap<String, Counter>>,
    limited: Mutex<BTreeMap<&'static str, Counter>>,
    databases: Mutex<BTreeMap<String, DatabaseMetrics>>,
    migration_duration: Histogram,
    migrations: Mutex<BTreeMap<String, MigrationGauges>>,
    /// By database and by whom a hold is for.
    scopes: Mutex<BTreeMap<(String, String), ScopeGauges>>,
    /// By the key of the configuration, and the name of a token.
    ends: Mutex<BTreeMap<(&'static str, String), Gauge>>,
    /// Databases whose status is shown.
    shown: Mutex<BTreeSet<String>>,
}

/// Held, longest wait, permits.
type ScopeGauges = [Gauge; 3];

/// Who waits at a hold on some clients of a database.
#[derive(Clone, Debug, PartialEq)]
pub struct ScopeFigures {
    /// For whom it is.
    pub scope: String,
    /// Clients that wait.
    pub held: usize,
    /// The longest of their waits.
    pub oldest_wait: Option<Duration>,
    /// Transactions of such clients that run.
    pub permits: usize,
}

/// The metrics of one database. Clones count the same.
#[derive(Clone)]
pub struct DatabaseMetrics {
    sessions: Gauge,
    held: Gauge,
    permits: Gauge,
    open: Gauge,
    read_only: Gauge,
    hold: Gauge,
    transactions: Counter,
    bytes_in: Counter,
    bytes_out: Counter,
    measuring_left: Gauge,
    /// The median and the 99th percentile.
    measured: [Gauge; 2],
    measured_errors: Gauge,
}

/// The mode of a database, as the metric's label has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModeLabel {
    /// Transactions start at will.
    Open,
    /// Transactions that only read start, others wait at the gate.
    ReadOnly,
    /// Transactions wait at the gate.
    Hold,
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Metrics {
    /// Metrics that start at zero.
    pub fn new() -> Self {
        // Only the recorder is taken from the exporter; the admin HTTP serves the text.
        let recorder = names::ALL
            .iter()
            .filter(|metric| metric.kind == Kind::Histogram)
            .try_fold(PrometheusBuilder::new(), |builder, metric| {
                builder.set_buckets_for_metric(Matcher::Full(metric.name.to_owned()), BUCKETS)
            })
            .expect("there are buckets, which is all that is asked of them")
            .build_recorder();
        for metric in names::ALL {
            describe(&recorder, metric);
        }
        Self {
            hold_duration: histogram(&recorder, names::HOLD_DURATION),
            held_wait: histogram(&recorder, names::HELD_WAIT),
            drain_duration: histogram(&recorder, names::DRAIN_DURATION),
            connections: counter(&recorder, names::CONNECTIONS, &[]),
            server_connect_failures: counter(&recorder, names::SERVER_CONNECT_FAILURES, &[]),
            refusals: Mutex::default(),
            limited: Mutex::default(),
            databases: Mutex::default(),
            migration_duration: histogram(&recorder, names::MIGRATION_DURATION),
            migrations: Mutex::default(),
            scopes: Mutex::default(),
            ends: Mutex::default(),
            shown: Mutex::default(),
            handle: recorder.handle(),
            recorder,
        }
        .beginning_at_zero()
        .nobody_refused()
        .no_spans_yet()
    }

    /// The text of all metrics (Prometheus text format 0.0.4).
    pub fn render(&self) -> String {
        self.handle.render()
    }

    /// Moves samples of histograms into their buckets. To be called every few seconds: between two
    /// calls each sample takes memory.
    pub fn run_upkeep(&self) {
        self.handle.run_upkeep();
    }

    /// A client was accepted.
    pub fn connection_accepted(&self) {
        self.connections.increment(1);
    }

    /// A client was refused because no server could be reached.
    pub fn server_connect_failed(&self) {
        self.server_connect_failures.increment(1);
    }

    /// A client got an error of ours.
    pub fn refused(&self, sqlstate: &str) {
        lock(&self.refusals)
            .entry(sqlstate.to_owned())
            .or_insert_with(|| counter(&self.recorder, names::REFUSALS, &[("sqlstate", sqlstate)]))
            .increment(1);
    }

    /// A client was turned away or ended by the limit that this key of `[limits]` sets.
    pub fn limited(&self, limit: &'static str) {
        lock(&self.limited)
            .entry(limit)
            .or_insert_with(|| counter(&self.recorder, names::LIMITED, &[("limit", limit)]))
            .increment(1);
    }

    /// A hold ended after this time.
    pub fn hold_ended(&self, duration: Duration) {
        self.hold_duration.record(duration);
    }

    /// A client stopped waiting at the gate after this time, however it ended.
    pub fn client_waited(&self, duration: Duration) {
        self.held_wait.record(duration);
    }

    /// A database was proved drained this long after its hold began.
    pub fn drained(&self, duration: Duration) {
        self.drain_duration.record(duration);
    }

    /// Clients that wait now at holds on some clients of a database, by whom these are for. One that is
    /// not named has none; past 1000 of them a further one is not counted.
    pub fn set_held_in_scopes(&self, database: &str, held: &[ScopeFigures]) {
        let mut scopes = lock(&self.scopes);
        let here = scopes.iter_mut().filter(|((of, _), _)| of == database);
        here.for_each(|(_, gauges)| gauges.iter().for_each(|gauge| gauge.set(0.0)));
        for figures in held {
            let (key, room) = (
                (database.to_owned(), figures.scope.clone()),
                scopes.len() < SCOPES_MAX,
            );
            if room || scopes.contains_key(&key) {
                let labels = [("database", database), ("scope", figures.scope.as_str())];
                let new = |name| gauge(&self.recorder, name, &labels);
                let [waiting, oldest, permits] = scopes.entry(key).or_insert_with(|| {
                    [
                        new(names::HELD_IN_SCOPE),
                        new(names::OLDEST_WAIT_IN_SCOPE),
                        new(names::PERMITS_IN_SCOPE),
                    ]
                });
                waiting.set(as_f64(figures.held));
                oldest.set(figures.oldest_wait.map_or(0.0, |wait| wait.as_secs_f64()));
                permits.set(as_f64(figures.permits));
            }
        }
    }

    /// How much runs on each worker thread, in their order.
    pub fn set_worker_tasks(&self, tasks: impl Iterator<Item = usize>) {
        for (worker, tasks) in tasks.enumerate() {
            let worker = worker.to_string();
            let labels = [("worker", worker.as_str())];
            gauge(&self.recorder, names::WORKER_TASKS, &labels).set(as_f64(tasks));
        }
    }

    /// The metrics of a database, to be kept by whoever sets them often.
    ///
    /// Past 1000 databases a further one is not counted.
    pub fn database(&self, name: &str) -> DatabaseMetrics {
        let mut databases = lock(&self.databases);
        if let Some(known) = databases.get(name) {
            return known.clone();
        }
        if databases.len() >= DATABASES_MAX {
            return DatabaseMetrics::uncounted();
        }
        let database = DatabaseMetrics::new(&self.recorder, name);
        databases.insert(name.to_owned(), database.clone());
        database
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl DatabaseMetrics {
    fn new(recorder: &PrometheusRecorder, database: &str) -> Self {
        let only = [("database", database)];
        let mode = |mode| gauge(recorder, names::MODE, &[only[0], ("mode", mode)]);
        let bytes = |way| counter(recorder, names::BYTES, &[only[0], ("direction", way)]);
        Self {
            sessions: gauge(recorder, names::SESSIONS, &only),
            held: gauge(recorder, names::HELD, &only),
            permits: gauge(recorder, names::PERMITS, &only),
            open: mode("open"),
            read_only: mode("read_only"),
            hold: mode("hold"),
            transactions: counter(recorder, names::TRANSACTIONS, &only),
            bytes_in: bytes("in"),
            bytes_out: bytes("out"),
            measuring_left: gauge(recorder, names::MEASURING_LEFT, &only),
            measured: QUANTILES
                .map(|(word, _)| gauge(recorder, names::MEASURED, &[only[0], ("quantile", word)])),
            measured_errors: gauge(recorder, names::MEASURED_ERRORS, &only),
        }
    }

    fn uncounted() -> Self {
        Self {
            sessions: Gauge::noop(),
            held: Gauge::noop(),
            permits: Gauge::noop(),
            open: Gauge::noop(),
            read_only: Gauge::noop(),
            hold: Gauge::noop(),
            transactions: Counter::noop(),
            bytes_in: Counter::noop(),
            bytes_out: Counter::noop(),
            measuring_left: Gauge::noop(),
            measured: [Gauge::noop(), Gauge::noop()],
            measured_errors: Gauge::noop(),
        }
    }

    /// Clients that are connected now.
    pub fn set_sessions(&self, sessions: usize) {
        self.sessions.set(as_f64(sessions));
    }

    /// Clients that wait now.
    pub fn set_held(&self, held: usize) {
        self.held.set(as_f64(held));
    }

    /// Transactions that run now.
    pub fn set_permits(&self, permits: usize) {
        self.permits.set(as_f64(permits));
    }

    /// The mode now.
    pub fn set_mode(&self, mode: ModeLabel) {
        for (label, gauge) in [
            (ModeLabel::Open, &self.open),
            (ModeLabel::ReadOnly, &self.read_only),
            (ModeLabel::Hold, &self.hold),
        ] {
            gauge.set(if label == mode { 1.0 } else { 0.0 });
        }
    }

    /// All transactions that ended since the start; a smaller total than before is ignored.
    pub fn set_transactions(&self, total: u64) {
        self.transactions.absolute(total);
    }

    /// What was measured of its statements, while they are measured.
    pub fn set_measured(&self, statements: &Statements) {
        let left = statements.left();
        let nothing = f64::NAN;
        self.measuring_left
            .set(left.map_or(nothing, |left| left.as_secs_f64()));
        let totals = left.map(|_| statements.totals());
        for (gauge, (_, share)) in self.measured.iter().zip(QUANTILES) {
            let took = totals.as_ref().and_then(|it| it.0.quantile_ms(share));
            gauge.set(took.map_or(nothing, |ms| ms / 1000.0));
        }
        let errors = totals.map_or(nothing, |(_, errors)| status::count(errors));
        self.measured_errors.set(errors);
    }

    /// All bytes since the start, from clients and to them; smaller totals are ignored.
    pub fn set_bytes(&self, from_clients: u64, to_clients: u64) {
        self.bytes_in.absolute(from_clients);
        self.bytes_out.absolute(to_clients);
    }
}

/// The maps behind the locks are whole at every moment, so that a panic elsewhere spoils nothing.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Counts of clients are far below 2^53, up to where every whole number is exact.
#[expect(clippy::cast_precision_loss, reason = "exact up to 2^53")]
fn as_f64(count: usize) -> f64 {
    count as f64
}

/// Says where a metric is recorded; the exporter makes no use of it.
const HERE: Metadata<'static> = Metadata::new("pgdrain", Level::INFO, None);

fn key(metric: Name, labels: &[(&'static str, &str)]) -> Key {
    debug_assert!(labels.iter().map(|(name, _)| name).eq(metric.labels));
    let labels: Vec<_> = labels
        .iter()
        .map(|(name, value)| Label::new(*name, (*value).to_owned()))
        .collect();
    Key::from_parts(metric.name, labels)
}

fn counter(
    recorder: &PrometheusRecorder,
    metric: Name,
    labels: &[(&'static str, &str)],
) -> Counter {
    recorder.register_counter(&key(metric, labels), &HERE)
}

fn gauge(recorder: &PrometheusRecorder, metric: Name, labels: &[(&'static str, &str)]) -> Gauge {
    recorder.register_gauge(&key(metric, labels), &HERE)
}

fn histogram(recorder: &PrometheusRecorder, metric: Name) -> Histogram {
    recorder.register_histogram(&key(metric, &[]), &HERE)
}

fn describe(recorder: &PrometheusRecorder, metric: &Name) {
    let (name, unit, help) = (metric.name.into(), Some(metric.unit), metric.help.into());
    match metric.kind {
        Kind::Counter => recorder.describe_counter(name, unit, help),
        Kind::Gauge => recorder.describe_gauge(name, unit, help),
        Kind::Histogram => recorder.describe_histogram(name, unit, help),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_recorded_is_rendered_under_its_name() {
        let metrics = Metrics::new();
        metrics.connection_accepted();
        metrics.server_connect_failed();
        metrics.refused("55P03");
        metrics.refused("55P03");
        metrics.limited("connections");
        metrics.hold_ended(Duration::from_secs(3));
        metrics.client_waited(Duration::from_millis(4));
        metrics.drained(Duration::from_millis(7));
        let shop = metrics.database("shop");
        shop.set_sessions(64);
        shop.set_held(3);
        let in_scope = |scope: &str, held| ScopeFigures {
            scope: scope.to_owned(),
            held,
            oldest_wait: Some(Duration::from_secs(1)),
            permits: 4,
        };
        metrics.set_held_in_scopes("shop", &[in_scope("old", 5)]);
        metrics.set_held_in_scopes("shop", &[in_scope("new", 2)]);
        metrics.set_process(&ProcessFigures::default());
        metrics.set_database("shop", &DatabaseFigures::default());
        metrics.set_console_visitors(1);
        metrics.set_ends(&[None, Some("ci")].map(|token| EndFigure {
            key: "tls.certificate",
            token: token.map(str::to_owned),
            at: 5.0,
        }));
        shop.set_measured(&Statements::default());
        shop.set_permits(2);
        shop.set_mode(ModeLabel::Hold);
        shop.set_transactions(100);
        shop.set_transactions(90);
        metrics.database("shop").set_bytes(10, 20);
        metrics.set_worker_tasks([7, 2].into_iter());
        metrics.migration_took(Duration::from_secs(2));
        let figures = MigrationFigures {
            pending: Some(3),
            checksum: Some((1 << 48) - 1),
            bytes: Some(1),
            connections: Some(1),
            keys_not_validated: Some(1),
            dirty: None,
        };
        metrics.set_migrations("shop", &figures);
        metrics.run_upkeep();

        let text = metrics.render();
        for line in [
            "pgdrain_connections_total 1",
            "pgdrain_server_connect_failures_total 1",
            "pgdrain_refusals_total{sqlstate=\"55P03\"} 2",
            "pgdrain_limited_total{limit=\"connections\"} 1",
            "pgdrain_hold_duration_seconds_bucket{le=\"5\"} 1",
            "pgdrain_hold_duration_seconds_bucket{le=\"2.5\"} 0",
            "pgdrain_held_wait_seconds_sum 0.004",
            "pgdrain_drain_duration_seconds_count 1",
            "pgdrain_sessions{database=\"shop\"} 64",
            "pgdrain_held{database=\"shop\"} 3",
            "pgdrain_held_in_scope{database=\"shop\",scope=\"old\"} 0",
            "pgdrain_held_in_scope{database=\"shop\",scope=\"new\"} 2",
            "pgdrain_oldest_wait_in_scope_seconds{database=\"shop\",scope=\"new\"} 1",
            "pgdrain_permits_in_scope{database=\"shop\",scope=\"old\"} 0",
            "pgdrain_permits{database=\"shop\"} 2",
            "pgdrain_measured_errors{database=\"shop\"} NaN",
            "pgdrain_console_visitors 1",
            "pgdrain_worker_tasks{worker=\"0\"} 7",
            "pgdrain_worker_tasks{worker=\"1\"} 2",
            "pgdrain_mode{database=\"shop\",mode=\"hold\"} 1",
            "pgdrain_mode{database=\"shop\",mode=\"open\"} 0",
            "pgdrain_mode{database=\"shop\",mode=\"read_only\"} 0",
            "pgdrain_migration_duration_seconds_sum 2",
            "pgdrain_migrations_pending{database=\"shop\"} 3",
            "pgdrain_migrations_dirty{database=\"shop\"} NaN",
            "pgdrain_schema_checksum{database=\"shop\"} 281474976710655",
            "pgdrain_transactions_total{database=\"shop\"} 100",
            "pgdrain_bytes_total{database=\"shop\",direction=\"in\"} 10",
            "pgdrain_bytes_total{database=\"shop\",direction=\"out\"} 20",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} in\n{text}");
        }
        for metric in names::ALL {
            let help = format!("# HELP {} {}", metric.name, metric.help);
            assert!(text.lines().any(|l| l == help), "{help} in\n{text}");
        }
    }

    #[test]
    fn labels_do_not_grow_without_bound() {
        let metrics = Metrics::new();
        for n in 0..DATABASES_MAX + 5 {
            metrics.database(&format!("db{n}")).set_sessions(1);
        }
        let series = metrics.render().matches("pgdrain_sessions{").count();
        assert_eq!(series, DATABASES_MAX);
    }

    #[test]
    fn a_hostile_database_name_stays_inside_its_label() {
        let metrics = Metrics::new();
        metrics.database("a\"} 1\nevil{x=\"\\").set_sessions(1);
        let text = metrics.render();
        assert!(
            text.contains(r#"pgdrain_sessions{database="a\"} 1\nevil{x=\"\\"} 1"#),
            "{text}"
        );
    }
}
