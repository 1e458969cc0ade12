//! What traffic may do, under a name; and changes of it, which may depend on that name.
//!
//! Two operators who see the same state and both change it would undo each other's work. Whoever sends
//! the name of the state that he saw is told when it is another one by now, and nothing is done.

use std::sync::Arc;

use sha2::{Digest, Sha256};
use tokio::sync::{Mutex, MutexGuard};

use super::api::{AppApi, refused, target};
use crate::admin::types::{IfMatch, ModeRequest, ModeResults, ModeState, ModeStates};
use crate::admin::{Answer, ApiError, Caller, Databases};
use crate::gate::Gate;

/// Who changes a mode by a command takes a turn, from the look at what there is to the change.
#[derive(Debug, Default)]
pub(super) struct Turns(Mutex<()>);

impl Turns {
    /// A hold's turn, or that of an open with a condition: one after the other.
    pub(super) async fn take(&self) -> MutexGuard<'_, ()> {
        self.0.lock().await
    }

    /// The turn of an open. One without a condition takes none: a hold keeps its turn until the journal
    /// is on the disk, and opening waits for no disk.
    async fn to_open(&self, condition: Option<&IfMatch>) -> Option<MutexGuard<'_, ()>> {
        match condition {
            Some(_) => Some(self.take().await),
            None => None,
        }
    }
}

impl AppApi {
    /// Holds, lets only reads in, or opens; with a condition only if the mode is the one that it names.
    pub(super) async fn change_mode(
        &self,
        databases: Databases,
        request: ModeRequest,
        answer: Answer,
        caller: Caller,
        condition: Option<IfMatch>,
    ) -> Result<ModeResults, ApiError> {
        // Looked at again before anything is done; here before a fence is raised for it.
        self.is_as_meant(&databases, condition.as_ref())?;
        let command = self.app.command(&databases, &request, &caller, condition);
        match request {
            ModeRequest::Hold(body) => self.hold(&databases, body, answer, command).await,
            ModeRequest::ReadOnly(body) => self.read_only(&databases, body, answer, command).await,
            ModeRequest::Open(body) => {
                let by = body.by.as_deref().unwrap_or("unknown");
                tracing::info!(
                    ?databases,
                    force = body.force,
                    by,
                    reason = body.reason,
                    "open"
                );
                let (whom, scope) = (target(&databases), body.scope());
                let condition = command.condition.as_ref();
                let turn = self.app.turns.to_open(condition).await;
                let opened = match self.is_as_meant(&databases, condition) {
                    Ok(()) => {
                        let opened = self.app.controller.open(&whom, &scope, body.force).await;
                        opened.map_err(|error| ApiError::conflict("held", format!("{error}.")))
                    }
                    Err(changed) => Err(changed),
                };
                drop(turn);
                self.app.tell(command, refused(&opened));
                opened?;
                let meant = self.meant(&databases);
                // Named before it is told: what comes in between is another state then, and not this one.
                let tag = Some(self.tag(&meant));
                let results = meant.iter().map(|gate| self.opened(gate, &scope));
                Ok(ModeResults {
                    tag,
                    results: results.collect(),
                })
            }
        }
    }

    /// Whether the mode is one that a condition names. To be asked while one has a turn
    /// ([`Turns`]), so that of two commands that mean the same state one is carried out.
    pub(super) fn is_as_meant(
        &self,
        databases: &Databases,
        condition: Option<&IfMatch>,
    ) -> Result<(), ApiError> {
        let Some(condition) = condition else {
            return Ok(());
        };
        let gates = self.meant(databases);
        // RFC 9110, section 13.1.1: what is not there matches nothing, not even a star.
        if !gates.is_empty() && condition.holds(&self.tag(&gates)) {
            return Ok(());
        }
        Err(ApiError::changed(self.states(&gates)))
    }

    /// What traffic of these databases may do.
    pub(super) fn mode_states(&self, databases: &Databases) -> Result<ModeStates, ApiError> {
        let gates = self.meant(databases);
        match databases {
            Databases::One(name) if gates.is_empty() => {
                let message = format!("Nobody has connected to a database called {name:?} yet.");
                Err(ApiError::not_found(message))
            }
            Databases::One(_) | Databases::All => Ok(self.states(&gates)),
        }
    }

    pub(super) fn meant(&self, databases: &Databases) -> Vec<Arc<Gate>> {
        let gates = self.app.controller.gates();
        match databases {
            Databases::All => gates.all(),
            Databases::One(name) => gates.find(name).into_iter().collect(),
        }
    }

    fn states(&self, gates: &[Arc<Gate>]) -> ModeStates {
        let state = |gate: &Gate| {
            let (mode, holds) = gate.holds();
            let holds = holds.iter();
            ModeState {
                database: gate.database().to_owned(),
                mode,
                holds: holds
                    .map(|(holder, hold)| self.hold_status(gate, *holder, hold))
                    .collect(),
                scopes: self.scopes(gate.database()),
            }
        };
        ModeStates {
            tag: self.tag(gates),
            databases: gates.iter().map(|gate| state(gate)).collect(),
        }
    }

    /// Names the modes and holds of these gates and of those for some of their clients. Numbers of holds
    /// begin anew with the process, whose start is therefore in it.
    pub(super) fn tag(&self, gates: &[Arc<Gate>]) -> String {
        let mut hash = Sha256::new();
        let mut add = |text: String| {
            hash.update((text.len() as u64).to_be_bytes());
            hash.update(text);
        };
        add(self.app.started_at.to_string());
        for gate in gates {
            let narrow = self.app.controller.gates().narrow(gate.database());
            for gate in std::iter::once(gate).chain(&narrow) {
                let (mode, holds) = gate.holds();
                add(format!("{} {mode} {}", gate.name(), holds.len()));
                for (holder, hold) in holds {
                    add(format!("{holder} {}", hold.generation.0));
                }
            }
        }
        let digest = hash.finalize();
        let short = digest.iter().take(8);
        short.map(|byte| format!("{byte:02x}")).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    /// What it has at once, without waiting.
    fn at_once<T>(turn: impl Future<Output = T>) -> Option<T> {
        match pin!(turn).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(turn) => Some(turn),
            Poll::Pending => None,
        }
    }

    #[test]
    fn only_an_open_with_a_condition_waits_for_its_turn() {
        let turns = Turns::default();
        let seen = IfMatch::read("\"seen\"").expect("a condition");
        let writing = at_once(turns.take()).expect("nobody else is there");
        assert!(at_once(turns.take()).is_none());
        assert!(at_once(turns.to_open(Some(&seen))).is_none());
        let free = at_once(turns.to_open(None));
        assert!(free.expect("it waits for nobody").is_none());
        drop(writing);
        let turn = at_once(turns.to_open(Some(&seen)));
        assert!(turn.expect("its turn").is_some());
    }
}
