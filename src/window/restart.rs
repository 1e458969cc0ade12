//! Takes up what the last process left: holds with the rest of their time, and windows.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::controller::Controller;
use super::journal::{HoldRecord, LentRecord, Record, WindowRecord};
use crate::clock;
use crate::config::{AfterRestart, Blocked, Scope, Then};
use crate::gate::mode::{Generation, HoldSpec, Holder};

/// Said of a window that was open when the last process died.
const UNSETTLED: &str = "it is not known yet what became of the migration before the restart";

/// A window that the last process left open: its work may have been done, or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftWindow {
    /// The database.
    pub database: String,
    /// Its name.
    pub id: String,
    /// Why traffic was to stay held, if the work was over.
    pub stays: Option<String>,
    /// What was agreed with its holder, if that was not the runner.
    pub lent: Option<LentRecord>,
    generation: Generation,
}

impl Controller {
    /// Puts the holds of `record` back on, before any client is let in. Windows are held until
    /// [`Controller::settle`] says what became of them.
    pub fn take_up(self: &Arc<Self>, record: &Record) -> Vec<LeftWindow> {
        let (now, policy) = (clock::wall(), self.config().after_restart);
        self.find_fences(record);
        if policy == AfterRestart::Hold {
            // Or the next restart would take them for over once their own time has passed.
            self.record_at_start(|journal| {
                let scopes = journal.scopes.iter_mut().map(|scoped| &mut scoped.hold);
                let commands = journal.everywhere.iter_mut().chain(scopes);
                for hold in commands.chain(journal.databases.values_mut()) {
                    if let Some(rest) = rest_of(hold, now, policy) {
                        hold.spec.then = rest.then;
                    }
                }
            });
        }
        let rest_of = |hold: &HoldRecord| rest_of(hold, now, policy);
        if let Some(spec) = record.everywhere.as_ref().and_then(rest_of) {
            tracing::warn!(?spec, "every database is held, as before the restart");
            self.gates.hold(None, &Scope::default(), &spec);
        }
        for (database, hold) in &record.databases {
            if let Some(spec) = rest_of(hold) {
                tracing::warn!(database, ?spec, "held, as before the restart");
                self.gates.of(database).hold(Holder::Operator, spec);
            }
        }
        for scoped in &record.scopes {
            if let Some(spec) = rest_of(&scoped.hold) {
                tracing::warn!(?scoped, "held, as before the restart");
                let database = scoped.database.as_deref();
                self.gates.hold(database, &scoped.scope, &spec);
            }
        }
        self.take_up_caps(record, policy);
        let windows = record.windows.iter();
        let left = windows
            .map(|(database, window)| self.take_up_window(database, window))
            .collect();
        self.watch_fences(record);
        left
    }

    fn take_up_window(self: &Arc<Self>, database: &str, window: &WindowRecord) -> LeftWindow {
        let hold = self.config().hold.clone();
        tracing::warn!(
            database,
            window = window.id,
            "held: a window was open before the restart"
        );
        let why = window.stays.as_deref().unwrap_or(UNSETTLED);
        self.windows.left(database, &window.id, why);
        let generation = self.gates.of(database).hold(
            Holder::Window,
            HoldSpec {
                duration: hold.duration,
                then: Then::Stay,
                read_only: window.read_only,
                blocked: Blocked::Queue,
                sqlstate: None,
                first_stage: Duration::ZERO,
                client_deadline: hold.client_deadline,
                by: window.by.clone(),
                reason: Some(format!("window {} of before the restart", window.id)),
            },
        );
        LeftWindow {
            database: database.to_owned(),
            id: window.id.clone(),
            stays: window.stays.clone(),
            lent: window.lent.clone(),
            generation,
        }
    }

    /// Whether a left window is still there. A person may have opened meanwhile, and somebody else
    /// may work there now.
    pub fn is_left(&self, left: &LeftWindow) -> bool {
        self.windows.is_left(&left.database, &left.id)
    }

    /// It is still not known what became of a left window: says why, to who asks.
    pub fn still_unsettled(&self, left: &LeftWindow, why: &str) {
        let why = format!("{UNSETTLED}: {why}");
        self.windows.stay(&left.database, &left.id, &why);
    }

    /// What became of a left window asks for a person: traffic stays held.
    pub async fn settle_held(self: &Arc<Self>, left: &LeftWindow, why: &str) {
        if !self.windows.stay(&left.database, &left.id, why) {
            return;
        }
        tracing::error!(
            database = left.database,
            window = left.id,
            why,
            "traffic stays held: look, then `pgdrain open`"
        );
        self.note_stays(&left.database, why).await;
    }

    /// It is known what became of a left window: traffic may flow.
    pub async fn settle(self: &Arc<Self>, left: &LeftWindow) {
        self.windows.end(&left.database, &left.id);
        if let Some(gate) = self.gates.find(&left.database) {
            gate.end_hold(Holder::Window, Some(left.generation));
        }
        self.forget_ended().await;
    }
}

/// What is left of a hold, if anything, and if holds are to go on.
fn rest_of(hold: &HoldRecord, now: Timestamp, policy: AfterRestart) -> Option<HoldSpec> {
    let left = hold.left(now);
    if hold.spec.then == Then::Open && left == Duration::ZERO {
        // Over by its own time, whatever becomes of the others: it may have been so for long, since
        // the journal is told of such an end only now and then.
        return None;
    }
    let then = match policy {
        AfterRestart::Open => return None,
        AfterRestart::Hold => Then::Stay,
        AfterRestart::Resume => hold.spec.then,
    };
    Some(HoldSpec {
        then,
        duration: left,
        ..hold.spec.clone()
    })
}
