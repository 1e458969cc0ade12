//! One client from its first byte to the last: wish, login, relay, farewell.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::time::{Instant, timeout, timeout_at};

use super::login::Applicant;
use super::registry::{Session, Sessions, Signals};
use super::relay::{Common, End, Relay};
use super::room::{Room, RoomTaken};
use crate::auth::passthrough::Failed;
use crate::client::arrival::Arrival;
use crate::client::handshake::{NoWish, Wish};
use crate::config::Config;
use crate::gate::Gates;
use crate::tasks::Tasks;
use crate::tls::stream::Stream;
use crate::wire::refusal::Refusal;
use crate::wire::startup::CancelKey;

/// How long a cancel request may wait for the session it names.
const CANCEL_TIME: Duration = Duration::from_secs(10);

/// How long a client may take to hear that it is closed.
const CLOSE_TIME: Duration = Duration::from_secs(1);

/// What every session of the process is made with.
#[derive(Debug)]
pub struct Host {
    /// The gates.
    pub gates: Arc<Gates>,
    /// The sessions.
    pub sessions: Arc<Sessions>,
    /// What relays have in common.
    pub common: Arc<Common>,
    /// Sessions run here; its token asks them to end at their next boundary.
    pub tasks: Tasks,
    /// How many sessions are open, or about to be.
    pub room: Arc<Room>,
}

/// A session that is logged in, and its place among the others.
pub(super) struct Settled {
    pub(super) relay: Relay<Stream, Stream>,
    pub(super) farewell: Farewell,
}

/// Takes the session out of the registry, however its task ends.
pub(super) struct Farewell {
    pub(super) sessions: Arc<Sessions>,
    pub(super) session: Arc<Session>,
    pub(super) end: End,
    pub(super) _room: RoomTaken,
}

impl Drop for Farewell {
    fn drop(&mut self) {
        self.sessions
            .remove(&self.session, self.end == End::ServerClosed);
    }
}

impl Host {
    /// Serves one client to its end.
    pub async fn serve(self: Arc<Self>, arrival: Arrival, config: Arc<Config>) {
        // Boxed: a login needs far more room than the relay that lives on for hours.
        let settled = Box::pin(self.settle(arrival, config));
        let stop = self.tasks.shutdown_token();
        let settled = tokio::select! {
            settled = settled => settled,
            () = stop.cancelled() => return,
        };
        let Some(Settled {
            relay,
            mut farewell,
        }) = settled
        else {
            return;
        };
        if stop.is_cancelled() {
            // It was not in the registry yet when the others were asked to stop.
            farewell.session.signal(Signals::STOP);
        }
        farewell.end = relay.run().await;
    }

    /// Everything up to the first statement; `None` when the client got what it asked for, or no.
    async fn settle(&self, mut arrival: Arrival, config: Arc<Config>) -> Option<Settled> {
        let deadline = Instant::now() + config.limits.login_time;
        let acceptor = config.tls.acceptor.as_ref();
        let wish = timeout_at(deadline, arrival.wish(acceptor)).await;
        let Arrival {
            stream,
            peer,
            encryption,
            ..
        } = arrival;
        let stream = stream?;
        let (startup, behind) = match wish.unwrap_or(Err(NoWish::Refused(Refusal::LoginTimeout))) {
            Ok(Wish::Session(startup, behind)) => (startup, behind),
            Ok(Wish::Cancel(key)) => {
                self.cancel(&key).await;
                close(stream).await;
                return None;
            }
            Err(NoWish::Refused(refusal)) => {
                self.tell(stream, peer, &refusal).await;
                return None;
            }
            Ok(Wish::Encryption) | Err(NoWish::Closed | NoWish::Io(_)) => return None,
        };
        let mut applicant = Applicant {
            stream,
            peer,
            encryption,
            startup,
            behind,
            config,
        };
        let login = timeout_at(deadline, self.log_in(&mut applicant)).await;
        match login.unwrap_or(Err(Failed::Refused(Refusal::LoginTimeout))) {
            Ok(server) => Some(self.register(applicant, server)),
            Err(failed) => {
                self.turn_away(applicant, failed).await;
                None
            }
        }
    }

    /// Passes a cancel request on to the session it names. Nobody is told whether there is one; the
    /// connection is closed when the server has acted, as clients expect.
    async fn cancel(&self, key: &CancelKey) {
        if let Some(session) = self.sessions.by_key(key) {
            // A session that has just ended drops the other half.
            let _ = timeout(CANCEL_TIME, session.request_cancel()).await;
        }
    }
}

/// Ends a connection in order: who encrypts waits for a word of it.
async fn close(mut stream: Stream) {
    let _ = timeout(CLOSE_TIME, stream.shutdown()).await;
}
