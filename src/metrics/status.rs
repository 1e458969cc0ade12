//! The numbers of the status, set when somebody asks for the metrics.
//!
//! Every series of a database is set each time, so that what is over shows as over and not as its last
//! value. What does not apply is NaN, with which no comparison is true; what can be counted is 0.

use std::time::Duration;

use super::{DATABASES_MAX, Metrics, as_f64, counter, gauge, lock, names};

/// Who may hold a database, as the label has it.
pub const HOLDERS: [&str; 3] = ["everywhere", "operator", "window"];

/// What sessions are to a drain, as the label has it.
pub const DRAIN_WHATS: [&str; 11] = [
    "waited_for",
    "in_the_way",
    "cancelled",
    "freed",
    "aborted",
    "terminated",
    "bypass",
    "exempt",
    "pending",
    "not_enforced",
    "obstacles",
];

/// Where a window may stand before it is over, as the label has it.
pub const WINDOW_STATES: [&str; 6] = [
    "queued",
    "capped",
    "read_only",
    "draining",
    "exclusive",
    "ending",
];

/// The numbers of one process.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ProcessFigures {
    /// Its version.
    pub version: &'static str,
    /// When it started, in seconds since 1970.
    pub started_at: f64,
    /// Sessions of the process that it took over from.
    pub former_sessions: u64,
    /// `limits.connections`.
    pub connections_limit: usize,
    /// `hold.clients_max`.
    pub held_limit: usize,
}

/// The numbers of one database.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DatabaseFigures {
    /// Clients inside a transaction.
    pub in_transaction: u64,
    /// The longest wait of those that wait.
    pub oldest_wait: Option<Duration>,
    /// In the order of [`HOLDERS`].
    pub holds: [HoldFigures; 3],
    /// Whether it stays held until somebody has looked.
    pub stays: bool,
    /// How long the drain under way has lasted.
    pub drain_age: Option<Duration>,
    /// In the order of [`DRAIN_WHATS`].
    pub drain_sessions: [usize; 11],
    /// Enforced, pending, exempt; zeroes where it is not read-only.
    pub read_only: [usize; 3],
    /// The most transactions at once, if that is capped.
    pub cap: Option<u32>,
    /// What is left of the cap.
    pub cap_left: Option<Duration>,
    /// Logins in front of the fence, and the limit that comes back.
    pub fence: Option<(u64, i32)>,
    /// Whether a migration runs.
    pub migrates: bool,
    /// In the order of [`WINDOW_STATES`].
    pub windows: [usize; 6],
    /// What is left of the window for which traffic is held.
    pub window_left: Option<Duration>,
    /// What is left of its lease.
    pub lease_left: Option<Duration>,
    /// Connections that work in it.
    pub window_connections: u64,
}

/// The numbers of one holder's hold.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct HoldFigures {
    /// How long it has lasted; `None` if there is none.
    pub age: Option<Duration>,
    /// What is left until its own end, if it has one.
    pub left: Option<Duration>,
    /// Whether that end has passed.
    pub overdue: bool,
}

impl Metrics {
    /// Sets the numbers of the process.
    pub fn set_process(&self, figures: &ProcessFigures) {
        let set = |name, value| gauge(&self.recorder, name, &[]).set(value);
        let version = [("version", figures.version)];
        gauge(&self.recorder, names::BUILD_INFO, &version).set(1.0);
        set(names::START_TIME, figures.started_at);
        set(names::FORMER_SESSIONS, count(figures.former_sessions));
        set(names::CONNECTIONS_LIMIT, as_f64(figures.connections_limit));
        set(names::HELD_LIMIT, as_f64(figures.held_limit));
    }

    /// Sets the numbers of a database. Past 1000 databases a further one is not shown.
    pub fn set_database(&self, database: &str, figures: &DatabaseFigures) {
        {
            let mut shown = lock(&self.shown);
            if !shown.contains(database) && shown.len() >= DATABASES_MAX {
                return;
            }
            shown.insert(database.to_owned());
        }
        let of = ("database", database);
        let set = |name, value| gauge(&self.recorder, name, &[of]).set(value);
        set(names::IN_TRANSACTION, count(figures.in_transaction));
        set(names::OLDEST_WAIT, seconds_or_0(figures.oldest_wait));
        set(names::HOLD_STAYS, flag(figures.stays));
        set(names::DRAIN_AGE, seconds_or_0(figures.drain_age));
        set(names::CAP, figures.cap.map_or(0.0, f64::from));
        set(names::CAP_LEFT, seconds(figures.cap_left));
        let (parked, limit) = figures.fence.unzip();
        set(names::FENCE_PARKED, parked.map_or(f64::NAN, count));
        set(names::FENCE_LIMIT, limit.map_or(f64::NAN, f64::from));
        set(names::MIGRATION_RUNNING, flag(figures.migrates));
        set(names::WINDOW_LEFT, seconds(figures.window_left));
        set(names::WINDOW_LEASE_LEFT, seconds(figures.lease_left));
        set(names::WINDOW_CONNECTIONS, count(figures.window_connections));

        let each = |name, label, value: &'static str, figure| {
            gauge(&self.recorder, name, &[of, (label, value)]).set(figure);
        };
        for (holder, hold) in HOLDERS.into_iter().zip(&figures.holds) {
            each(names::HOLD_AGE, "holder", holder, seconds_or_0(hold.age));
            each(names::HOLD_LEFT, "holder", holder, seconds(hold.left));
            each(names::HOLD_OVERDUE, "holder", holder, flag(hold.overdue));
        }
        for (what, many) in DRAIN_WHATS.into_iter().zip(figures.drain_sessions) {
            each(names::DRAIN_SESSIONS, "what", what, as_f64(many));
        }
        let kinds = ["enforced", "pending", "exempt"];
        for (kind, many) in kinds.into_iter().zip(figures.read_only) {
            each(names::READ_ONLY_SESSIONS, "enforcement", kind, as_f64(many));
        }
        for (state, many) in WINDOW_STATES.into_iter().zip(figures.windows) {
            each(names::WINDOW, "state", state, as_f64(many));
        }
    }

    /// A run of migrations ended in this state.
    pub fn migration_ended(&self, state: &'static str) {
        counter(&self.recorder, names::MIGRATIONS_ENDED, &[("state", state)]).increment(1);
    }

    /// The configuration was read again: `None` when it was refused, else how many changed keys need a
    /// restart.
    pub fn reloaded(&self, restart: Option<usize>) {
        let outcome = restart.map_or("refused", |_| "taken");
        counter(&self.recorder, names::RELOADS, &[("outcome", outcome)]).increment(1);
        if let Some(keys) = restart {
            gauge(&self.recorder, names::RESTART_PENDING, &[]).set(as_f64(keys));
        }
    }

    /// Shows what has not happened yet as 0, so that its first time is a change that can be seen.
    pub(super) fn beginning_at_zero(self) -> Self {
        for state in ["succeeded", "failed", "cancelled", "dirty", "unknown"] {
            let _shown = counter(&self.recorder, names::MIGRATIONS_ENDED, &[("state", state)]);
        }
        for outcome in ["taken", "refused"] {
            let _shown = counter(&self.recorder, names::RELOADS, &[("outcome", outcome)]);
        }
        gauge(&self.recorder, names::RESTART_PENDING, &[]).set(0.0);
        self
    }
}

/// Sessions and logins are far below 2^53, up to where every whole number is exact.
#[expect(clippy::cast_precision_loss, reason = "exact up to 2^53")]
pub(super) fn count(many: u64) -> f64 {
    many as f64
}

fn flag(is: bool) -> f64 {
    if is { 1.0 } else { 0.0 }
}

/// A time that does not apply is NaN.
fn seconds(time: Option<Duration>) -> f64 {
    time.map_or(f64::NAN, |time| time.as_secs_f64())
}

fn seconds_or_0(time: Option<Duration>) -> f64 {
    time.map_or(0.0, |time| time.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(metrics: &Metrics, lines: &[&str]) {
        let text = metrics.render();
        for line in lines {
            assert!(text.lines().any(|l| l == *line), "{line} in\n{text}");
        }
    }

    #[test]
    fn what_is_over_shows_as_over() {
        let metrics = Metrics::new();
        let mut figures = DatabaseFigures {
            oldest_wait: Some(Duration::from_millis(1500)),
            cap: Some(12),
            fence: Some((3, -1)),
            window_left: Some(Duration::from_secs(60)),
            ..DatabaseFigures::default()
        };
        figures.holds[1] = HoldFigures {
            age: Some(Duration::from_secs(7)),
            left: Some(Duration::from_secs(3)),
            overdue: false,
        };
        figures.windows[4] = 1;
        metrics.set_database("shop", &figures);
        check(
            &metrics,
            &[
                "pgdrain_oldest_wait_seconds{database=\"shop\"} 1.5",
                "pgdrain_hold_age_seconds{database=\"shop\",holder=\"operator\"} 7",
                "pgdrain_hold_left_seconds{database=\"shop\",holder=\"operator\"} 3",
                "pgdrain_hold_left_seconds{database=\"shop\",holder=\"window\"} NaN",
                "pgdrain_cap_transactions{database=\"shop\"} 12",
                "pgdrain_fence_former_limit{database=\"shop\"} -1",
                "pgdrain_window{database=\"shop\",state=\"exclusive\"} 1",
                "pgdrain_window_left_seconds{database=\"shop\"} 60",
            ],
        );
        metrics.set_database("shop", &DatabaseFigures::default());
        check(
            &metrics,
            &[
                "pgdrain_oldest_wait_seconds{database=\"shop\"} 0",
                "pgdrain_hold_age_seconds{database=\"shop\",holder=\"operator\"} 0",
                "pgdrain_hold_left_seconds{database=\"shop\",holder=\"operator\"} NaN",
                "pgdrain_cap_transactions{database=\"shop\"} 0",
                "pgdrain_fence_parked{database=\"shop\"} NaN",
                "pgdrain_window{database=\"shop\",state=\"exclusive\"} 0",
                "pgdrain_window_left_seconds{database=\"shop\"} NaN",
            ],
        );
    }

    #[test]
    fn what_has_not_happened_is_zero() {
        let metrics = Metrics::new();
        check(
            &metrics,
            &["pgdrain_migrations_ended_total{state=\"dirty\"} 0"],
        );
        metrics.migration_ended("dirty");
        metrics.reloaded(None);
        metrics.reloaded(Some(2));
        check(
            &metrics,
            &[
                "pgdrain_migrations_ended_total{state=\"dirty\"} 1",
                "pgdrain_config_reloads_total{outcome=\"refused\"} 1",
                "pgdrain_config_reloads_total{outcome=\"taken\"} 1",
                "pgdrain_config_restart_pending 2",
            ],
        );
    }

    #[test]
    fn labels_do_not_grow_without_bound() {
        let metrics = Metrics::new();
        for n in 0..DATABASES_MAX + 5 {
            metrics.set_database(&format!("db{n}"), &DatabaseFigures::default());
        }
        let series = metrics.render().matches("pgdrain_in_transaction{").count();
        assert_eq!(series, DATABASES_MAX);
    }
}
