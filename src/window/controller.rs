//! Carries out commands about traffic: journal first, then the gates, then the drain.
//!
//! Opening never waits for anything: not for the disk, not for the server, not for another command.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Mutex as AsyncMutex;

use super::drains::Drains;
use super::fence::Fencing;
use super::generations::Generations;
use super::journal::{Journal, JournalError, Record};
use super::pace::Pace;
use super::windows::Windows;
use crate::audit::Audit;
use crate::config::{Bypass, Config, Scope, Shared, Target as Upstream};
use crate::drain::escalation::Ladder;
use crate::gate::Gates;
use crate::gate::mode::HoldSpec;
use crate::metrics::Metrics;
use crate::server::control::Control;
use crate::server::own::OwnBackends;
use crate::session::registry::{Sessions, Signals};
use crate::tasks::{Tasks, blocking};

/// What a command is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// Every database, those to come included.
    Everywhere,
    /// One database.
    Database(String),
}

impl Target {
    /// `*` is every database.
    #[must_use]
    pub fn parse(text: &str) -> Target {
        if text == "*" {
            Target::Everywhere
        } else {
            Target::Database(text.to_owned())
        }
    }
}

/// A hold as a command asks for it.
#[derive(Debug, Clone)]
pub struct HoldRequest {
    /// Whom it is for within its databases.
    pub scope: Scope,
    /// The hold itself.
    pub spec: HoldSpec,
    /// How what still runs is ended.
    pub ladder: Ladder,
    /// What is done about sessions that did not come through us.
    pub bypass: Bypass,
}

/// Why traffic was not reopened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenRefused {
    /// A window works behind the hold.
    #[error("the window {id} works in {database}: cancel it, or open by force")]
    Window {
        /// The database.
        database: String,
        /// The window.
        id: String,
    },
    /// A hold on everything is on this database too.
    #[error("every database is held, {database} with them: open '*'")]
    Everywhere {
        /// The database.
        database: String,
    },
    /// The former process could not be told.
    #[error(
        "opened here, but the former process {pid} could not be told: {why}; its {sessions} \
         sessions are held until their own deadline, or until SIGUSR2 to it"
    )]
    Former {
        /// The process.
        pid: u32,
        /// How many sessions it serves.
        sessions: u64,
        /// What went wrong.
        why: String,
    },
}

/// See the module.
#[derive(Debug)]
pub struct Controller {
    pub(super) gates: Arc<Gates>,
    pub(super) sessions: Arc<Sessions>,
    pub(super) config: Arc<Shared>,
    pub(super) tasks: Tasks,
    pub(super) metrics: Arc<Metrics>,
    pub(super) audit: Arc<Audit>,
    pub(super) windows: Windows,
    pub(super) generations: Generations,
    /// The one writer of the journal, and what it wrote last. Commands that close take it first,
    /// so that they are carried out one after the other.
    pub(super) journal: AsyncMutex<(Journal, Record)>,
    controls: Mutex<Vec<(Upstream, Arc<Control>)>>,
    pub(super) own: OwnBackends,
    pub(super) drains: Drains,
    pub(super) pace: Pace,
    pub(super) fencing: Fencing,
}

impl Controller {
    /// Commands these gates. `journal` is what the last process left; see
    /// [`Controller::take_up`].
    pub fn new(
        gates: Arc<Gates>,
        sessions: Arc<Sessions>,
        config: Arc<Shared>,
        (journal, record): (Journal, Record),
        own: OwnBackends,
        tasks: Tasks,
        (metrics, audit): (Arc<Metrics>, Arc<Audit>),
    ) -> Controller {
        tell_sessions_of_read_only(&gates, &sessions);
        Controller {
            gates,
            sessions,
            config,
            tasks,
            metrics,
            audit,
            windows: Windows::default(),
            generations: Generations::default(),
            journal: AsyncMutex::new((journal, record)),
            controls: Mutex::default(),
            own,
            drains: Drains::default(),
            pace: Pace::default(),
            fencing: Fencing::default(),
        }
    }

    /// The former process, if it still serves sessions.
    pub fn generations(&self) -> &Generations {
        &self.generations
    }

    /// What was done to traffic, and where to tell it.
    pub fn audit(&self) -> &Arc<Audit> {
        &self.audit
    }

    /// The gates.
    pub fn gates(&self) -> &Arc<Gates> {
        &self.gates
    }

    /// The sessions.
    pub fn sessions(&self) -> &Arc<Sessions> {
        &self.sessions
    }

    /// The configuration as it is now.
    pub fn config(&self) -> Arc<Config> {
        self.config.load()
    }

    /// The control connection for a database; databases of one upstream share it.
    pub fn control(&self, database: &str) -> Arc<Control> {
        let config = self.config.load();
        let target = config
            .target(database)
            .unwrap_or_else(|| config.default_target());
        let mut controls = self.controls.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, control)) = controls.iter().find(|(of, _)| *of == target) {
            return Arc::clone(control);
        }
        // After a reload the one with the former role is of no more use.
        controls.retain(|(of, _)| of.upstream.hosts != target.upstream.hosts);
        let new = Control::new(target.clone(), self.own.clone(), self.tasks.clone());
        let new = Arc::new(new);
        controls.push((target, Arc::clone(&new)));
        new
    }

    /// Asks the servers about connections that we closed and that may still have run.
    pub async fn forget_departed(&self) {
        for gate in self.gates.all() {
            let database = gate.database();
            if !self.sessions.departed_of(database).is_empty() {
                crate::drain::forget_departed(database, &self.sessions, &self.control(database))
                    .await;
            }
        }
    }

    /// Changes the journal, and does what it now says before anybody can compare the two.
    pub(super) async fn record<T>(
        &self,
        change: impl FnOnce(&mut Record),
        act: impl FnOnce() -> T,
    ) -> Result<T, JournalError> {
        let mut journal = self.journal.lock().await;
        write(&mut journal, change).await?;
        Ok(act())
    }

    /// Changes the journal before the first command. What cannot be written down is held all the
    /// same, until the next restart.
    pub(super) fn record_at_start(&self, change: impl FnOnce(&mut Record)) {
        let Ok(mut journal) = self.journal.try_lock() else {
            return;
        };
        if let Err(error) = write_now(&mut journal, change) {
            let error = &error as &dyn std::error::Error;
            tracing::error!(error, "the journal does not say that holds stay");
        }
    }
}

/// Lets every session look that a gate is for, whenever that begins or ceases to want read-only: a command,
/// a timer and a window end a hold alike.
fn tell_sessions_of_read_only(gates: &Gates, sessions: &Arc<Sessions>) {
    let sessions = Arc::downgrade(sessions);
    gates.on_read_only(move |gate| {
        let Some(sessions) = sessions.upgrade() else {
            return;
        };
        for session in sessions.held_with(gate.database()) {
            if gate.scope().fits(session.who()) {
                session.signal(Signals::READ_ONLY);
                session.signal(Signals::SAY_ALONE);
            }
        }
    });
}

/// Writes the changed record, off the threads that relay; keeps the old one if that fails.
pub(super) async fn write(
    journal: &mut (Journal, Record),
    change: impl FnOnce(&mut Record),
) -> Result<(), JournalError> {
    write_now(journal, change)
}

fn write_now(
    journal: &mut (Journal, Record),
    change: impl FnOnce(&mut Record),
) -> Result<(), JournalError> {
    let mut record = journal.1.clone();
    change(&mut record);
    if record == journal.1 {
        return Ok(());
    }
    // Small, rare, and in order: the other worker goes on relaying.
    blocking(|| journal.0.write(&record))?;
    journal.1 = record;
    Ok(())
}
