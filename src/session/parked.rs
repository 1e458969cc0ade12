//! Logins to a database behind a fence: they wait in front of the server, watched like everybody.

use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, timeout_at};

use super::life::Host;
use super::login::Applicant;
use crate::auth::passthrough::{Failed, Limit};
use crate::wire::refusal::Refusal;
use crate::wire::startup::Replication;
use crate::wire::window_key;

/// How much a parked client may send ahead; nobody has to before it was asked.
const AHEAD_MAX: usize = 8 << 10;

impl Host {
    /// Waits until no fence is around the database of `applicant`. A turn if it had to wait: what time
    /// a login may take counts from now then, and the next may come when it is dropped. Not cancel
    /// safe.
    ///
    /// # Errors
    /// When its client left, or the fence was up for too long, or too many wait.
    pub(super) async fn park(
        &self,
        applicant: &mut Applicant,
    ) -> Result<Option<OwnedSemaphorePermit>, Failed> {
        let database = applicant.startup.database().to_owned();
        // A standby's connection is to no database, and a window's has to come in now or never: a
        // wrong key is refused at once.
        let passes = applicant.startup.replication() == Some(Replication::Physical)
            || window_key::take(&applicant.startup).is_some();
        if passes || !self.gates.fences().is_up(&database) {
            return Ok(None);
        }
        let config = &applicant.config;
        // Apart from the logins and the sessions, which a window's own connections need.
        let limit = config.hold.clients_max_total.min(config.limits.connections);
        let place = self.rooms.parked.take(limit);
        let _place = place.ok_or_else(|| self.full("parked", Refusal::TooManyConnections))?;
        let deadline = Instant::now() + self.parked_for(&database, config.hold.client_deadline);
        let _parked = self.gates.fences().park(&database);
        tracing::debug!(database, peer = %applicant.peer, "login parked at the fence");
        let turn = self.turn(&database);
        tokio::pin!(turn);
        loop {
            let ahead = applicant.behind.len() < AHEAD_MAX;
            tokio::select! {
                waited = timeout_at(deadline, &mut turn) => {
                    return waited.map_err(|_elapsed| Failed::Refused(Refusal::Fenced));
                }
                read = applicant.stream.read_buf(&mut applicant.behind), if ahead => {
                    if read.map_err(Failed::Client)? == 0 {
                        return Err(Failed::ClientLeft);
                    }
                }
            }
        }
    }

    /// Waits until there is no fence and it is this client's turn.
    async fn turn(&self, database: &str) -> Option<OwnedSemaphorePermit> {
        let fences = self.gates.fences();
        loop {
            fences.down(database).await;
            let turn = self.rooms.turns.turn().await;
            if !fences.is_up(database) {
                return turn;
            }
        }
    }

    /// As long as a client of the holds there would wait.
    fn parked_for(&self, database: &str, configured: Duration) -> Duration {
        let gate = self.gates.find(database);
        let holds = gate.map(|gate| gate.holds().1).unwrap_or_default();
        let deadlines = holds.iter().map(|(_, hold)| hold.spec.client_deadline);
        deadlines.max().unwrap_or(configured)
    }

    /// Whose doing it is when the server lets this client not in for want of room.
    pub(super) fn limit(&self, applicant: &Applicant) -> Limit {
        match applicant.pass.is_some() && self.gates.fences().is_up(applicant.startup.database()) {
            true => Limit::Fence,
            false => Limit::Server,
        }
    }
}
