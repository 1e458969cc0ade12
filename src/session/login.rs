//! From a start-up packet to a session that is logged in, or to a client that knows why not.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

use super::life::{Farewell, Host, Settled};
use super::registry::Login;
use super::relay::{End, Relay};
use super::room::RoomTaken;
use crate::auth::passthrough::{Authenticated, Failed, Unchallenged, login};
use crate::config::{Config, Target};
use crate::gate::Gate;
use crate::server::connect::{Opened, Route, open};
use crate::tls::Encryption;
use crate::tls::stream::{Peer, Stream};
use crate::wire::refusal::Refusal;
use crate::wire::startup::Startup;

/// A client that wants a session.
#[derive(Debug)]
pub(super) struct Applicant {
    pub(super) stream: Stream,
    pub(super) peer: Peer,
    /// What its encryption tells; `None` on a plain connection.
    pub(super) encryption: Option<Encryption>,
    pub(super) startup: Startup,
    /// What it sent behind its start-up packet.
    pub(super) behind: BytesMut,
    /// As it is at its arrival; the session keeps it.
    pub(super) config: Arc<Config>,
}

/// A server that has let the client in.
pub(super) struct Server {
    stream: Stream,
    route: Route,
    login: Authenticated,
    room: RoomTaken,
}

impl Host {
    /// Logs the client in at the server of its database. Not cancel safe.
    pub(super) async fn log_in(&self, applicant: &mut Applicant) -> Result<Server, Failed> {
        let Applicant {
            stream: client,
            peer,
            startup,
            behind,
            config,
            ..
        } = applicant;
        let room = self.room.take(config.limits.connections);
        let room = room.ok_or(Failed::Refused(Refusal::TooManyConnections))?;
        let target: Target = config
            .target(startup.database())
            .ok_or(Failed::Refused(Refusal::UnknownDatabase))?;
        let opened = open(&target.upstream, startup.packet()).await;
        let Opened {
            mut stream,
            route,
            answer,
        } = opened.map_err(|error| {
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
        let behind = std::mem::take(behind);
        let login = login((client, behind), (&mut stream, answer), unchallenged).await?;
        Ok(Server {
            stream,
            route,
            login,
            room,
        })
    }

    /// Puts the parts of a session together.
    pub(super) fn register(&self, applicant: Applicant, server: Server) -> Settled {
        let Applicant {
            stream: client,
            peer,
            startup,
            config,
            ..
        } = applicant;
        let Server {
            stream,
            route,
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
            route,
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

    /// Ends what did not become a session.
    pub(super) async fn turn_away(&self, applicant: Applicant, failed: Failed) {
        let Applicant {
            stream,
            peer,
            startup,
            ..
        } = applicant;
        match failed {
            Failed::Refused(refusal) => self.tell(stream, peer, &refusal).await,
            Failed::ByServer | Failed::ClientLeft => {
                tracing::debug!(%peer, user = startup.user(), "login failed: {failed}");
            }
            Failed::Client(error) => tracing::debug!(%peer, %error, "client lost during login"),
            Failed::Server(error) => {
                tracing::warn!(%peer, %error, "server lost during login");
                self.tell(stream, peer, &Refusal::ServerUnreachable).await;
            }
        }
    }

    /// Tells a client why it is refused. One that does not listen is not waited for.
    pub(super) async fn tell(&self, mut client: Stream, peer: Peer, refusal: &Refusal) {
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
