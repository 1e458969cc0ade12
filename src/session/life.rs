//! One client from its first byte to the last: wish, route, login, relay, farewell.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::AsyncWriteExt;
use tokio::time::{Instant, timeout, timeout_at};

use super::registry::{Login, Session, Sessions, Signals};
use super::relay::{Common, End, Relay};
use crate::auth::passthrough::{Authenticated, Failed, Unchallenged, login};
use crate::client::handshake::{NoWish, Wish, read_wish};
use crate::config::{Config, Target};
use crate::gate::{Gate, Gates};
use crate::server::connect::{Endpoint, connect};
use crate::tasks::Tasks;
use crate::tls::stream::{Peer, Stream};
use crate::wire::refusal::Refusal;
use crate::wire::startup::{CancelKey, Startup};

/// How long a cancel request may wait for the session it names.
const CANCEL_TIME: Duration = Duration::from_secs(10);

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
struct Settled {
    relay: Relay<Stream, Stream>,
    farewell: Farewell,
}

/// A server that has let the client in.
struct Server {
    stream: Stream,
    endpoint: Endpoint,
    login: Authenticated,
    room: RoomTaken,
}

/// Takes the session out of the registry, however its task ends.
struct Farewell {
    sessions: Arc<Sessions>,
    session: Arc<Session>,
    end: End,
    _room: RoomTaken,
}

impl Drop for Farewell {
    fn drop(&mut self) {
        self.sessions
            .remove(&self.session, self.end == End::ServerClosed);
    }
}

/// Counts sessions against a limit that may change while they live.
#[derive(Debug, Default)]
pub struct Room {
    taken: AtomicUsize,
}

/// One session's place, given back when it is dropped.
#[derive(Debug)]
struct RoomTaken(Arc<Room>);

impl Room {
    fn take(self: &Arc<Self>, limit: usize) -> Option<RoomTaken> {
        let taken = RoomTaken(Arc::clone(self));
        let before = self.taken.fetch_add(1, Ordering::Relaxed);
        (before < limit).then_some(taken)
    }
}

impl Drop for RoomTaken {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Host {
    /// Serves one client to its end.
    pub async fn serve(self: Arc<Self>, client: Stream, peer: Peer, config: Arc<Config>) {
        // Boxed: a login needs far more room than the relay that lives on for hours.
        let settled = Box::pin(self.settle(client, peer, config));
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
    async fn settle(&self, mut client: Stream, peer: Peer, config: Arc<Config>) -> Option<Settled> {
        let deadline = Instant::now() + config.limits.login_time;
        let wish = timeout_at(deadline, read_wish(&mut client)).await;
        let (startup, behind) = match wish.unwrap_or(Err(NoWish::Refused(Refusal::LoginTimeout))) {
            Ok(Wish::Session(startup, behind)) => (startup, behind),
            Ok(Wish::Cancel(key)) => {
                self.cancel(&key).await;
                return None;
            }
            Err(NoWish::Refused(refusal)) => {
                self.tell(client, peer, &refusal).await;
                return None;
            }
            Err(NoWish::Closed | NoWish::Io(_)) => return None,
        };
        let login = self.log_in(&mut client, peer, &config, &startup, behind);
        let login = timeout_at(deadline, login).await;
        match login.unwrap_or(Err(Failed::Refused(Refusal::LoginTimeout))) {
            Ok(server) => Some(self.register(client, peer, &startup, server, config)),
            Err(failed) => {
                self.turn_away(client, peer, &startup, failed).await;
                None
            }
        }
    }

    async fn log_in(
        &self,
        client: &mut Stream,
        peer: Peer,
        config: &Config,
        startup: &Startup,
        behind: BytesMut,
    ) -> Result<Server, Failed> {
        let room = self.room.take(config.limits.connections);
        let room = room.ok_or(Failed::Refused(Refusal::TooManyConnections))?;
        let target: Target = config
            .target(startup.database())
            .ok_or(Failed::Refused(Refusal::UnknownDatabase))?;
        let (mut server, endpoint, _) = connect(&target.upstream).await.map_err(|error| {
            self.common.metrics.server_connect_failed();
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "server not reached"
            );
            Failed::Refused(Refusal::ServerUnreachable)
        })?;
        let unchallenged = if config.allow_unauthenticated || peer.is_local() {
            Unchallenged::Allowed
        } else {
            Unchallenged::Refused
        };
        let login = login(client, &mut server, startup, behind, unchallenged).await?;
        Ok(Server {
            stream: server,
            endpoint,
            login,
            room,
        })
    }

    /// Puts the parts of a session together.
    fn register(
        &self,
        client: Stream,
        peer: Peer,
        startup: &Startup,
        server: Server,
        config: Arc<Config>,
    ) -> Settled {
        let Server {
            stream,
            endpoint,
            login,
            room,
        } = server;
        // The server has accepted the name: only now may it get a gate.
        let gate: Arc<Gate> = self.gates.of(startup.database());
        let session = self.sessions.add(Login {
            database: startup.database().to_owned(),
            user: startup.user().to_owned(),
            application_name: startup
                .parameter("application_name")
                .unwrap_or_default()
                .to_owned(),
            client: peer,
            endpoint,
            server_key: login.server_key,
            client_key: login.client_key,
        });
        let (sessions, common) = (Arc::clone(&self.sessions), Arc::clone(&self.common));
        let farewell = Farewell {
            sessions,
            session: Arc::clone(&session),
            end: End::ServerLeft,
            _room: room,
        };
        let (client, server) = ((client, login.from_client), (stream, login.to_client));
        Settled {
            relay: Relay::new(client, server, session, gate, config, common),
            farewell,
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

    async fn turn_away(&self, client: Stream, peer: Peer, startup: &Startup, failed: Failed) {
        match failed {
            Failed::Refused(refusal) => self.tell(client, peer, &refusal).await,
            Failed::ByServer | Failed::ClientLeft => {
                tracing::debug!(%peer, user = startup.user(), "login failed: {failed}");
            }
            Failed::Client(error) => tracing::debug!(%peer, %error, "client lost during login"),
            Failed::Server(error) => {
                tracing::warn!(%peer, %error, "server lost during login");
                self.tell(client, peer, &Refusal::ServerUnreachable).await;
            }
        }
    }

    /// Tells a client why it is refused. One that does not listen is not waited for.
    async fn tell(&self, mut client: Stream, peer: Peer, refusal: &Refusal) {
        tracing::info!(%peer, sqlstate = refusal.sqlstate().0, ?refusal, "client refused");
        self.common.metrics.refused(refusal.sqlstate().0);
        let farewell = async {
            client.write_all(&refusal.encode()).await?;
            client.shutdown().await?;
            // Unread bytes would turn the close into a reset, which takes the message back.
            tokio::io::copy(&mut client, &mut tokio::io::sink()).await
        };
        let _ = timeout(Duration::from_secs(1), farewell).await;
    }
}
