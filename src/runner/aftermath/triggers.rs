//! When something has gone wrong for long enough: figures held against limits, with durations. Pure; time
//! is an argument.

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::compare::{Comparison, more_errors, named};
use crate::config::{Trigger, TriggerAction, TriggerOn};
use crate::metrics::statements::Measured;

/// What is measured; `None` is not known, and never zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// Sessions that wait for locks, pgdrain's left out.
    pub blocked: Option<f64>,
    /// The longest of their waits so far.
    pub lock_wait_ms: Option<f64>,
    /// By how many percent of all transactions more are rolled back than before the run.
    pub rolled_back_percent: Option<f64>,
    /// By how many percent the statements that took most time before the run are slower.
    pub slower_percent: Option<f64>,
    /// By how many percent more units of clients end in an error than before the run.
    #[serde(default)]
    pub client_error_percent: Option<f64>,
    /// Errors of the last half minute whose SQLSTATE no client was told before the run.
    #[serde(default)]
    pub new_errors: Option<f64>,
    /// By how many percent the statement is slower that got slowest, of the ten that took clients most time.
    #[serde(default)]
    pub statement_slower_percent: Option<f64>,
    /// Below which 99 of 100 units of clients stay.
    #[serde(default)]
    pub p99_ms: Option<f64>,
    /// The mean of units of clients.
    #[serde(default)]
    pub mean_ms: Option<f64>,
    /// How long the statement of a client has run that runs longest.
    #[serde(default)]
    pub longest_statement_ms: Option<f64>,
    /// How many percent of the server's connections are in use.
    #[serde(default)]
    pub pool_percent: Option<f64>,
    /// What row-level security costs a query of the role that is configured, in milliseconds.
    #[serde(default)]
    pub rls_ms: Option<f64>,
}

impl Figures {
    fn of(&self, on: TriggerOn) -> Option<f64> {
        match on {
            TriggerOn::Blocked => self.blocked,
            TriggerOn::LockWaitMs => self.lock_wait_ms,
            TriggerOn::RolledBackPercent => self.rolled_back_percent,
            TriggerOn::SlowerPercent => self.slower_percent,
            TriggerOn::ClientErrorPercent => self.client_error_percent,
            TriggerOn::NewErrors => self.new_errors,
            TriggerOn::StatementSlowerPercent => self.statement_slower_percent,
            TriggerOn::P99Ms => self.p99_ms,
            TriggerOn::MeanMs => self.mean_ms,
            TriggerOn::LongestStatementMs => self.longest_statement_ms,
            TriggerOn::PoolPercent => self.pool_percent,
            TriggerOn::RlsMs => self.rls_ms,
        }
    }

    /// What was measured of clients, lately and before the run.
    pub(super) fn measured(&mut self, before: Option<&Measured>, lately: &Measured) {
        self.p99_ms = lately.latency.quantile_ms(0.99);
        self.mean_ms = lately.latency.mean_ms();
        let Some(before) = before else {
            return;
        };
        let comparison = Comparison::new(before, lately);
        self.statement_slower_percent = comparison.slowest_percent();
        self.client_error_percent = more_errors(before, lately);
        #[expect(clippy::cast_precision_loss, reason = "errors of half a minute")]
        let new = comparison.new_errors.values().sum::<u64>() as f64;
        self.new_errors = Some(new);
    }

    /// The worst of both, figure by figure.
    pub(super) fn worst(self, other: Self) -> Self {
        let max = |a: Option<f64>, b: Option<f64>| match (a, b) {
            (Some(a), Some(b)) => Some(a.max(b)),
            (a, b) => a.or(b),
        };
        Self {
            blocked: max(self.blocked, other.blocked),
            lock_wait_ms: max(self.lock_wait_ms, other.lock_wait_ms),
            rolled_back_percent: max(self.rolled_back_percent, other.rolled_back_percent),
            slower_percent: max(self.slower_percent, other.slower_percent),
            client_error_percent: max(self.client_error_percent, other.client_error_percent),
            new_errors: max(self.new_errors, other.new_errors),
            statement_slower_percent: max(
                self.statement_slower_percent,
                other.statement_slower_percent,
            ),
            p99_ms: max(self.p99_ms, other.p99_ms),
            mean_ms: max(self.mean_ms, other.mean_ms),
            longest_statement_ms: max(self.longest_statement_ms, other.longest_statement_ms),
            pool_percent: max(self.pool_percent, other.pool_percent),
            rls_ms: max(self.rls_ms, other.rls_ms),
        }
    }
}

/// A trigger that has fired.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Fired {
    /// When.
    pub at: jiff::Timestamp,
    /// Which.
    pub trigger: Trigger,
    /// The figure at that moment.
    pub figure: f64,
    /// What was done about it.
    pub done: String,
}

/// Triggers from look to look. Each fires once when its figure has been above its limit for its time
/// without a break, and again only after it was not.
#[derive(Debug)]
pub(super) struct Evaluator {
    triggers: Vec<Armed>,
}

#[derive(Debug)]
struct Armed {
    trigger: Trigger,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    /// Not above its limit when it was last known.
    Quiet,
    /// Above it since then.
    Above(Instant),
    /// It has fired, and is above it still.
    Fired,
}

impl Evaluator {
    pub(super) fn new(triggers: &[Trigger]) -> Self {
        let armed = |trigger: &Trigger| Armed {
            trigger: trigger.clone(),
            state: State::Quiet,
        };
        Self {
            triggers: triggers.iter().map(armed).collect(),
        }
    }

    /// Takes in a look, and returns what fires with its figure. Of a figure that is not known nothing
    /// follows: it neither fires nor calms.
    pub(super) fn look(
        &mut self,
        figures: &Figures,
        lately: Option<&Measured>,
        now: Instant,
    ) -> Vec<(Trigger, f64)> {
        let mut fired = Vec::new();
        for armed in &mut self.triggers {
            let figure = match &armed.trigger.statement {
                None => figures.of(armed.trigger.on),
                Some(wanted) => of_statement(armed.trigger.on, wanted, lately),
            };
            let Some(figure) = figure else {
                continue;
            };
            let above = figure > f64::from(armed.trigger.above);
            armed.state = match (armed.state, above) {
                (State::Quiet | State::Above(_) | State::Fired, false) => State::Quiet,
                (State::Fired, true) => State::Fired,
                (State::Quiet, true) => State::Above(now),
                (State::Above(since), true) => State::Above(since),
            };
            if let State::Above(since) = armed.state
                && now.saturating_duration_since(since) >= armed.trigger.lasting.0
            {
                armed.state = State::Fired;
                fired.push((armed.trigger.clone(), figure));
            }
        }
        fired
    }
}

/// The figure of one statement.
fn of_statement(on: TriggerOn, wanted: &str, lately: Option<&Measured>) -> Option<f64> {
    let statement = named(lately?, wanted)?;
    match on {
        TriggerOn::P99Ms => statement.latency.quantile_ms(0.99),
        TriggerOn::MeanMs => statement.latency.mean_ms(),
        TriggerOn::Blocked
        | TriggerOn::LockWaitMs
        | TriggerOn::RolledBackPercent
        | TriggerOn::SlowerPercent
        | TriggerOn::ClientErrorPercent
        | TriggerOn::NewErrors
        | TriggerOn::StatementSlowerPercent
        | TriggerOn::LongestStatementMs
        | TriggerOn::PoolPercent
        | TriggerOn::RlsMs => None,
    }
}

/// The strongest of what several triggers ask for at once.
pub(super) fn strongest(fired: &[(Trigger, f64)]) -> Option<TriggerAction> {
    let rank = |action: TriggerAction| match action {
        TriggerAction::Alert => 0,
        TriggerAction::Hold => 1,
        TriggerAction::RollBack => 2,
    };
    let actions = fired.iter().map(|(trigger, _)| trigger.action);
    actions.max_by_key(|action| rank(*action))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::HumanDuration;

    fn trigger(on: TriggerOn, above: u32, seconds: u64) -> Trigger {
        Trigger {
            on,
            above,
            lasting: HumanDuration(Duration::from_secs(seconds)),
            action: TriggerAction::Alert,
            statement: None,
        }
    }

    /// Feeds a figure a second, and tells in which seconds the trigger fired.
    fn seconds(trigger: Trigger, figures: &[Option<f64>]) -> Vec<usize> {
        let start = Instant::now();
        let mut evaluator = Evaluator::new(&[trigger]);
        let fired = figures.iter().enumerate().filter(|(second, figure)| {
            let figures = Figures {
                blocked: **figure,
                lock_wait_ms: **figure,
                ..Figures::default()
            };
            let now = start + Duration::from_secs(*second as u64);
            !evaluator.look(&figures, None, now).is_empty()
        });
        fired.map(|(second, _)| second).collect()
    }

    #[test]
    fn a_trigger_fires_when_its_time_is_over_and_once() {
        let known = |list: &[i32]| -> Vec<Option<f64>> {
            list.iter().map(|it| Some(f64::from(*it))).collect()
        };
        let none: [usize; 0] = [];
        for (above, lasting, figures, expected) in [
            // More than five for three seconds; five are not more than five.
            (5, 3, known(&[6, 6, 6, 6, 6, 6]), vec![3]),
            (5, 3, known(&[5, 5, 5, 5, 5, 5]), none.to_vec()),
            // A break begins it anew.
            (5, 3, known(&[6, 6, 6, 0, 6, 6, 6, 6]), vec![7]),
            // It fires again only after it was calm.
            (5, 1, known(&[9, 9, 9, 9, 0, 9, 9]), vec![1, 6]),
            // At once.
            (0, 0, known(&[0, 1, 1, 0, 1]), vec![1, 4]),
            // What is not known neither fires nor calms.
            (5, 3, vec![Some(6.0), None, None, None, Some(6.0)], vec![4]),
            (5, 1, vec![None, None, None], none.to_vec()),
        ] {
            let trigger = trigger(TriggerOn::Blocked, above, lasting);
            assert_eq!(seconds(trigger, &figures), expected, "{figures:?}");
        }
    }

    #[test]
    fn each_trigger_looks_at_its_own_figure_and_the_strongest_action_wins() {
        let start = Instant::now();
        let all = [
            trigger(TriggerOn::Blocked, 5, 0),
            trigger(TriggerOn::LockWaitMs, 1000, 0),
            Trigger {
                action: TriggerAction::RollBack,
                ..trigger(TriggerOn::SlowerPercent, 10, 0)
            },
            Trigger {
                action: TriggerAction::Hold,
                ..trigger(TriggerOn::RolledBackPercent, 5, 0)
            },
        ];
        let mut evaluator = Evaluator::new(&all);
        let figures = Figures {
            blocked: Some(5.0),
            lock_wait_ms: Some(1001.0),
            rolled_back_percent: Some(5.1),
            ..Figures::default()
        };
        let fired = evaluator.look(&figures, None, start);
        let names: Vec<_> = fired.iter().map(|(it, _)| it.on).collect();
        assert_eq!(names, [TriggerOn::LockWaitMs, TriggerOn::RolledBackPercent]);
        assert_eq!(strongest(&fired), Some(TriggerAction::Hold));
        let figures = Figures {
            slower_percent: Some(11.0),
            ..figures
        };
        let fired = evaluator.look(&figures, None, start);
        assert_eq!(strongest(&fired), Some(TriggerAction::RollBack));
        assert_eq!(strongest(&[]), None);
    }

    #[test]
    fn a_trigger_on_a_statement_looks_at_that_one_alone() {
        use crate::metrics::statements::Statements;
        use crate::session::class::normal;
        let all = Statements::default();
        all.measure(Duration::from_secs(60), 1);
        for (sql, ms) in [("select a where x = 1", 90), ("select b", 5)] {
            let it = normal(sql.as_bytes());
            let took = Duration::from_millis(ms);
            all.answered(Some((it.fingerprint, &it.text, took)), None);
        }
        let of = |statement: &str| Trigger {
            statement: Some(statement.to_owned()),
            ..trigger(TriggerOn::MeanMs, 50, 0)
        };
        let triggers = [of("SELECT a WHERE x = $1"), of("select b"), of("select c")];
        let mut evaluator = Evaluator::new(&triggers);
        let (lately, now) = (all.measured(), Instant::now());
        // A figure of all of them is none of one.
        let figures = Figures {
            mean_ms: Some(1000.0),
            ..Figures::default()
        };
        let fired = evaluator.look(&figures, Some(&lately), now);
        assert_eq!(fired, [(of("SELECT a WHERE x = $1"), 90.0)]);
        assert_eq!(
            fired[0].0.to_string(),
            "mean_ms above 50 for 0s of SELECT a WHERE x = $1"
        );
        assert!(
            Evaluator::new(&triggers)
                .look(&figures, None, now)
                .is_empty()
        );
    }

    #[test]
    fn the_worst_of_each_is_kept() {
        let one = Figures {
            blocked: Some(2.0),
            lock_wait_ms: None,
            rolled_back_percent: Some(-1.0),
            ..Figures::default()
        };
        let other = Figures {
            blocked: Some(1.0),
            lock_wait_ms: Some(7.0),
            ..Figures::default()
        };
        let worst = one.worst(other);
        assert_eq!((worst.blocked, worst.lock_wait_ms), (Some(2.0), Some(7.0)));
        assert_eq!(
            (worst.rolled_back_percent, worst.slower_percent),
            (Some(-1.0), None)
        );
    }
}
