//! Other proxies in front of the same databases, and what we look at all the while.

use std::time::Instant;

use super::controller::Controller;
use super::pace::{AtGate, Course};
use crate::server::control::{ControlError, OtherProxy};

impl Controller {
    /// Tells other proxies which databases we serve; false when a server could not be told.
    pub async fn announce(&self) -> bool {
        let mut told = true;
        for gate in self.gates.all() {
            let database = gate.database();
            match self.control(database).announce(database).await {
                // Without a role for it nobody can be told, and no window opens unless overridden.
                Ok(()) | Err(ControlError::NoRole) => {}
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::debug!(database, error, "not announced");
                    told = false;
                }
            }
        }
        told
    }

    /// Another proxy that serves this database. A server that cannot be asked proves nothing later
    /// on either, so that is left to the drain.
    pub(super) async fn other_proxy(&self, database: &str) -> Option<OtherProxy> {
        let control = self.control(database);
        // First ourselves: of two that begin at once, each sees the other.
        control.announce(database).await.ok()?;
        control.others(database).await.ok()?.into_iter().next()
    }

    /// What was seen of a database in the last minutes.
    pub fn course(&self, database: &str) -> Course {
        self.pace.course(database)
    }

    /// Looks how long transactions run.
    pub fn look_at_pace(&self, now: Instant) {
        let gates = self.gates.all();
        let databases = gates.iter().map(|gate| {
            let seen = AtGate {
                running: gate.permits(),
                waiting: gate.waiting_in_database().0 as u64,
                timed: gate.statements().timed(),
            };
            (gate.database().to_owned(), seen)
        });
        self.pace.look(&self.sessions, &databases.collect(), now);
    }
}
