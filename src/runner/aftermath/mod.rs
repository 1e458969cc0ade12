//! The watch after a run: for as long as was asked for, figures are held against triggers, and what they
//! ask for is done. It outlives the process: what is kept in the state directory is taken up by the next.
//!
//! ```text
//! run ends ─ watching ─┬─ its time is over ─► report in the history
//!                      ├─ a trigger fires ─┬─ alert: told, and watched on
//!                      │                   ├─ hold: traffic is held until somebody looks
//!                      │                   └─ roll back: the run's down files; if that fails, hold
//!                      └─ cancelled
//! ```

mod act;
pub mod baseline;
pub mod catalog;
mod clients;
pub mod compare;
mod database;
mod kept;
pub mod plans;
mod reports;
pub(super) mod rls;
mod task;
pub(super) mod thresholds;
pub mod triggers;

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use self::baseline::Baseline;
use self::catalog::CatalogComparison;
use self::compare::Comparison;
use self::kept::{Kept, WayBack};
use self::plans::PlanComparison;
use self::triggers::{Figures, Fired};
use super::Runner;
use super::record::Run;
use super::traffic::Traffic;
use super::types::{Direction, MigrationRequest};
use crate::config::{Trigger, TriggerAction};

/// The longest watch: document 4 asks for 24 to 48 hours.
pub(super) const LONGEST: Duration = Duration::from_secs(48 * 3600);

/// A watch, as it is shown.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WatchView {
    /// The run that is watched.
    pub run: String,
    /// Where it stands.
    pub state: WatchState,
    /// When it began.
    pub began_at: Timestamp,
    /// When it ends.
    pub until: Timestamp,
    /// The figures of the last look.
    pub now: Figures,
    /// The worst so far.
    pub worst: Figures,
    /// Triggers that have fired, oldest first.
    pub fired: Vec<Fired>,
    /// What clients felt before the run and since the watch began; none where nothing was measured before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comparison: Option<Comparison>,
    /// How the touched tables and the database were used before the run, and since the watch began; none where
    /// they were not compared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub catalog: Option<CatalogComparison>,
    /// How statements were planned before the run, and at the last report.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plans: Option<PlanComparison>,
    /// Why nobody looks at the moment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
}

/// Where a watch stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WatchState {
    /// It goes on.
    Watching,
    /// Its time is over.
    Over,
    /// Somebody ended it.
    Cancelled,
    /// A trigger had traffic held.
    Held,
    /// A trigger had the run taken back.
    RolledBack,
    /// A later run is watched instead.
    Replaced,
}

/// The watches of a process, the last one of each database.
#[derive(Debug, Default)]
pub(super) struct Watches(Mutex<BTreeMap<String, Watched>>);

#[derive(Debug)]
struct Watched {
    view: WatchView,
    /// Becomes the state with which it is to end.
    stop: watch::Sender<Option<WatchState>>,
}

impl Watches {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Watched>> {
        // Every operation leaves it whole, so a panic elsewhere cannot have torn it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn show(&self, database: &str, view: WatchView) {
        if let Some(watched) = self.lock().get_mut(database)
            && watched.view.run == view.run
        {
            watched.view = view;
        }
    }
}

/// What a request says of the time after its run.
#[derive(Clone)]
pub(super) struct Wanted {
    lasting: Duration,
    way_back: Option<WayBack>,
}

impl<T: Traffic> Runner<T> {
    /// What a request wants watched; the files are kept where a trigger may need them.
    pub(super) fn wanted(&self, request: &MigrationRequest) -> Option<Wanted> {
        let lasting = request.watch?.0;
        let goes_back = |it: &Trigger| it.action == TriggerAction::RollBack;
        let needed = request.direction == Direction::Up;
        let needed = needed && self.options.triggers.iter().any(goes_back);
        Some(Wanted {
            lasting,
            way_back: needed.then(|| WayBack {
                files: request.files.clone(),
                format: request.format,
                history: request.history.clone(),
                write_back: request.write_back,
                traffic: request.traffic,
                steps: 0,
            }),
        })
    }

    /// Begins the watch after a run that has done something: has applied so many files, and touched these
    /// relations.
    pub(super) fn watch_after(
        &self,
        wanted: Wanted,
        run: &Run,
        (applied, relations): (usize, Vec<u32>),
        baseline: Baseline,
    ) {
        let now = Timestamp::now();
        let until = now + wanted.lasting;
        let mut kept = Kept::new(&run.id, &run.database, &run.by, until);
        kept.direction = run.direction;
        kept.triggers.clone_from(&self.options.triggers);
        kept.baseline = baseline;
        kept.relations = relations;
        kept.report_at = Some(now + self.options.reports.watch_after).filter(|it| *it < until);
        kept.way_back = wanted.way_back.map(|way| WayBack {
            steps: u32::try_from(applied).unwrap_or(u32::MAX),
            ..way
        });
        self.measure_on(&kept);
        self.attend(kept, false);
    }

    /// Takes up the watches that an earlier process left.
    pub fn take_up_watches(&self) {
        let Some(state_dir) = &self.options.state_dir else {
            return;
        };
        for kept in Kept::all(state_dir) {
            tracing::info!(run = kept.run, database = kept.database, "watched on");
            self.attend(kept, true);
        }
    }

    /// The last watch of a database.
    pub fn watching(&self, database: &str) -> Option<WatchView> {
        let watches = self.watches.lock();
        watches.get(database).map(|it| it.view.clone())
    }

    /// Ends the watch of a database; false if there is none.
    pub fn unwatch(&self, database: &str) -> bool {
        let watches = self.watches.lock();
        let goes_on = |it: &&Watched| it.view.state == WatchState::Watching;
        watches.get(database).filter(goes_on).is_some_and(|it| {
            it.stop.send_replace(Some(WatchState::Cancelled));
            true
        })
    }

    fn attend(&self, kept: Kept, taken_up: bool) {
        let (stop, stopped) = watch::channel(None);
        let view = WatchView {
            run: kept.run.clone(),
            state: WatchState::Watching,
            began_at: kept.began_at,
            until: kept.until,
            now: Figures::default(),
            worst: kept.worst,
            fired: kept.fired.clone(),
            comparison: None,
            catalog: None,
            plans: None,
            trouble: None,
        };
        let before = self.watches.lock().insert(
            kept.database.clone(),
            Watched {
                view: view.clone(),
                stop,
            },
        );
        if let Some(before) = before {
            before.stop.send_replace(Some(WatchState::Replaced));
        }
        let task = task::Task::new(self.clone(), (kept, taken_up), view, stopped);
        self.tasks.spawn(task.run());
    }
}

impl std::fmt::Display for WatchView {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = match self.state {
            WatchState::Watching => "watched until",
            WatchState::Over => "was watched until",
            WatchState::Cancelled => "the watch was cancelled, planned until",
            WatchState::Held => "traffic was held by a trigger; to be watched until",
            WatchState::RolledBack => "rolled back by a trigger; to be watched until",
            WatchState::Replaced => "a later run is watched; planned until",
        };
        write!(f, "run {}: {state} {}", self.run, self.until)?;
        match self.fired.last() {
            None => f.write_str(", no trigger has fired")?,
            Some(last) => write!(
                f,
                ", {} fired, last {} at {}: {}",
                self.fired.len(),
                last.trigger,
                last.at,
                last.done
            )?,
        }
        if let Some(comparison) = &self.comparison {
            write!(f, "; {comparison}")?;
        }
        if let Some(catalog) = &self.catalog {
            write!(f, "; {catalog}")?;
        }
        if let Some(plans) = &self.plans {
            write!(f, "; {plans}")?;
        }
        match &self.trouble {
            Some(why) => write!(f, "; nobody looks for now: {why}"),
            None => Ok(()),
        }
    }
}
