//! The numbers of the status, as metrics: what `GET /metrics` says is what `GET /v1/status` says.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::api::AppApi;
use crate::admin::Databases;
use crate::admin::types::{
    DatabaseStatus, DrainOutcome, DrainReport, HoldStatus, Holder, Stage, WindowView,
};
use crate::gate::Gate;
use crate::gate::mode::Mode;
use crate::gate::state::Phase;
use crate::metrics::{DatabaseFigures, HoldFigures, ModeLabel, ProcessFigures};
use crate::session::registry::Tally;

impl AppApi {
    /// Sets everything that is not counted as it happens.
    pub(super) fn measure(&self) {
        let app = &self.app;
        let config = app.config.load();
        let former = app.controller.generations().former();
        app.metrics.set_process(&ProcessFigures {
            version: env!("CARGO_PKG_VERSION"),
            started_at: Duration::from_millis(
                u64::try_from(app.started_at.as_millisecond()).unwrap_or(0),
            )
            .as_secs_f64(),
            former_sessions: former.map_or(0, |former| former.sessions),
            connections_limit: config.limits.connections,
            held_limit: config.hold.clients_max,
        });
        let windows = app.windows(&Databases::All).windows;
        let tallies = app.sessions.tallies();
        for gate in app.controller.gates().all() {
            let tally = tallies.get(gate.database()).copied().unwrap_or_default();
            self.measure_database(&gate, tally, &windows);
        }
        app.measure_access();
        app.metrics.set_worker_tasks(app.workers.tasks());
    }

    fn measure_database(&self, gate: &Arc<Gate>, tally: Tally, windows: &[WindowView]) {
        let database = gate.database();
        let status = self.database_status(gate, tally);
        let metrics = self.app.metrics.database(database);
        let totals = tally.totals;
        metrics.set_sessions(whole(status.sessions));
        metrics.set_held(whole(status.held));
        metrics.set_permits(whole(status.permits));
        metrics.set_mode(match status.mode {
            Mode::Open => ModeLabel::Open,
            Mode::ReadOnly => ModeLabel::ReadOnly,
            Mode::Hold => ModeLabel::Hold,
        });
        metrics.set_transactions(totals.transactions);
        metrics.set_bytes(totals.bytes_in, totals.bytes_out);
        self.app.measure_scopes(database);
        metrics.set_measured(gate.statements());

        let mut figures = figures(&status, windows);
        self.times(gate, &mut figures);
        self.app.metrics.set_database(database, &figures);
    }

    /// Ages and what is left, by the clock that ends holds.
    fn times(&self, gate: &Gate, figures: &mut DatabaseFigures) {
        let now = Instant::now();
        for (holder, hold) in gate.holds().1 {
            let figure = &mut figures.holds[place(holder)];
            figure.age = Some(now.saturating_duration_since(hold.since));
            figure.left = match hold.phase {
                Phase::Running { until } => Some(until.saturating_duration_since(now)),
                Phase::Overdue => None,
            };
        }
        if let Some(cap) = gate.capped() {
            figures.cap_left = Some(cap.until.saturating_duration_since(now));
        }
    }
}

/// What the status of a database and its windows say.
fn figures(status: &DatabaseStatus, windows: &[WindowView]) -> DatabaseFigures {
    let mut figures = DatabaseFigures {
        in_transaction: status.in_transaction,
        oldest_wait: status.oldest_wait_ms.map(Duration::from_millis),
        cap: status.cap.as_ref().map(|cap| cap.transactions),
        fence: status
            .fence
            .as_ref()
            .map(|fence| (fence.parked, fence.former_limit)),
        migrates: status.migration.is_some(),
        ..DatabaseFigures::default()
    };
    for hold in &status.holds {
        add_hold(&mut figures, hold);
    }
    for window in windows.iter().filter(|it| it.database == status.database) {
        add_window(&mut figures, window);
    }
    figures
}

fn add_hold(figures: &mut DatabaseFigures, hold: &HoldStatus) {
    figures.holds[place(hold.holder)] = HoldFigures {
        overdue: hold.overdue,
        ..HoldFigures::default()
    };
    figures.stays |= hold.stays.is_some();
    if let Some(counts) = hold.enforcement {
        figures.read_only = [counts.enforced, counts.pending, counts.exempt];
    }
    let Some(drain) = &hold.drain else {
        return;
    };
    if drain.outcome == DrainOutcome::Draining {
        let begun = std::time::SystemTime::from(drain.held_at);
        figures.drain_age = figures.drain_age.max(begun.elapsed().ok());
    }
    for (sum, many) in figures.drain_sessions.iter_mut().zip(named(drain)) {
        *sum += many;
    }
}

/// How many sessions a drain names, in the order of the metric's label.
fn named(drain: &DrainReport) -> [usize; 11] {
    [
        drain.waited_for.len(),
        drain.in_the_way.len(),
        drain.cancelled.len(),
        drain.freed.len(),
        drain.aborted.len(),
        drain.terminated.len(),
        drain.bypass.len(),
        drain.exempt.len(),
        drain.pending.len(),
        drain.not_enforced.len(),
        drain.obstacles.len(),
    ]
}

fn add_window(figures: &mut DatabaseFigures, window: &WindowView) {
    let state = match window.state {
        Stage::Queued => 0,
        Stage::Capped => 1,
        Stage::ReadOnly => 2,
        Stage::Draining => 3,
        Stage::Exclusive => 4,
        Stage::Ending => 5,
        Stage::Closed => return,
    };
    figures.windows[state] += 1;
    figures.window_connections += window.connections_now;
    if window.state != Stage::Queued {
        figures.window_left = window.left_ms.map(Duration::from_millis);
        figures.lease_left = window.lease_left_ms.map(Duration::from_millis);
    }
}

/// The place of a holder in `metrics::HOLDERS`.
fn place(holder: Holder) -> usize {
    match holder {
        Holder::Everywhere => 0,
        Holder::Operator => 1,
        Holder::Window => 2,
    }
}

/// Counts fit into memory, and so into a `usize`.
fn whole(count: u64) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::metrics::names;
    use crate::metrics::{DRAIN_WHATS, HOLDERS, WINDOW_STATES};

    /// A status in which nothing is absent.
    fn full() -> Value {
        let someone = json!([{
            "pid": 1, "user": "a", "application_name": "b", "client": "c", "state": "active",
            "transaction_age_ms": 1, "statement_started_at": "2026-01-02T03:04:05Z"
        }]);
        let at = "2026-01-02T03:04:05Z";
        let mut drain = json!({
            "outcome": "draining", "step": "wait", "held_at": at, "last_permit_released_at": at,
            "drained_at": at, "bypass_unknown": "x", "detail": "x", "enforced": 3,
            "obstacles": [{
                "kind": "prepared_transaction", "name": "x", "owner": "x", "age_ms": 1, "detail": "x"
            }]
        });
        for what in DRAIN_WHATS.iter().filter(|it| **it != "obstacles") {
            drain[*what] = someone.clone();
        }
        let hold = json!([{
            "holder": "operator", "mode": "read_only", "generation": 7, "since": at, "until": at,
            "then": "open", "blocked": "queue", "by": "x", "reason": "x", "overdue": true,
            "stays": "x", "drain": drain,
            "enforcement": { "enforced": 1, "pending": 2, "exempt": 3 }
        }]);
        json!({
            "version": "x", "started_at": at, "uptime_ms": 1, "listen": ["x"], "upstream": "x",
            "state_dir": "x",
            "former": { "pid": 1, "version": "x", "sessions": 2, "oldest_at": at, "ends_at": at },
            "databases": [{
                "database": "shop", "mode": "read_only", "sessions": 1, "in_transaction": 2,
                "held": 3, "oldest_wait_ms": 4, "permits": 5, "transactions_total": 6,
                "migration": "m1", "holds": hold,
                "cap": { "transactions": 8, "until": at, "by": "x", "reason": "x" },
                "fence": { "former_limit": -1, "parked": 2, "trouble": "x" },
                "scopes": [{
                    "scope": { "user": "a" }, "holds": hold, "held": 1, "oldest_wait_ms": 2,
                    "permits": 3
                }]
            }]
        })
    }

    /// The keys of everything that is a number, true or false.
    fn numbers(value: &Value, path: &str, into: &mut Vec<String>) {
        match value {
            Value::Object(keys) => {
                for (key, value) in keys {
                    let path = match path {
                        "" => key.clone(),
                        _ => format!("{path}.{key}"),
                    };
                    numbers(value, &path, into);
                }
            }
            Value::Array(items) => {
                for item in items {
                    numbers(item, &format!("{path}[]"), into);
                }
            }
            Value::Number(_) | Value::Bool(_) => into.push(path.to_owned()),
            Value::String(_) | Value::Null => {}
        }
    }

    #[test]
    fn every_number_of_the_status_is_a_metric() {
        let status: crate::admin::types::Status =
            serde_json::from_value(full()).expect("it is a status");
        let written = serde_json::to_value(&status).expect("it is JSON");
        let mut all = Vec::new();
        numbers(&written, "", &mut all);
        assert!(all.len() > 20, "{all:?}");
        let known: Vec<_> = names::ALL.iter().flat_map(|name| name.in_status).collect();
        for number in all {
            // Names, not figures: they tell one process and one hold from another.
            if number.ends_with(".pid") || number.ends_with(".generation") {
                continue;
            }
            // Of sessions that are listed there are as many as the list is long.
            let counted = |known: &&&str| number.starts_with(&format!("{known}[]."));
            // What a hold on some clients has is in the metric of all holds of its scope.
            let scoped = number.starts_with("databases[].scopes[].holds[]");
            let shown = known.contains(&&number.as_str()) || known.iter().any(counted);
            assert!(shown || scoped, "{number} has no metric");
        }
        // And what a metric says it is, is there.
        let text = written.to_string();
        for path in known {
            let key = path.rsplit('.').next().expect("a path has an end");
            assert!(
                text.contains(&format!("\"{}\"", key.trim_end_matches("[]"))),
                "{path}"
            );
        }
    }

    #[test]
    fn figures_are_those_of_the_status() {
        let status: DatabaseStatus =
            serde_json::from_value(full()["databases"][0].clone()).expect("a database");
        let found = figures(&status, &[]);
        assert_eq!(found.in_transaction, 2);
        assert_eq!(found.oldest_wait, Some(Duration::from_millis(4)));
        assert_eq!(found.drain_sessions, [1; 11]);
        assert_eq!(found.read_only, [1, 2, 3]);
        assert_eq!((found.cap, found.fence), (Some(8), Some((2, -1))));
        assert!(found.stays && found.migrates && found.drain_age.is_some());
        assert_eq!(found.holds.map(|hold| hold.overdue), [false, true, false]);
        let words = [Holder::Everywhere, Holder::Operator, Holder::Window];
        assert_eq!(
            words.map(|holder| HOLDERS[place(holder)]),
            words.map(Holder::as_str)
        );
    }

    #[test]
    fn labels_are_the_words_of_the_status() {
        let states: Vec<_> = Stage::WORDS.iter().filter(|it| **it != "closed").collect();
        assert!(WINDOW_STATES.iter().eq(states));
    }
}
