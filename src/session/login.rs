//! From a start-up packet to a session that is logged in, or to a client that knows why not.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

use super::forwarded::{APPLICATION_NAME, forwarded, target};
use super::life::{Farewell, Host, Settled};
use super::passes::Pass;
use super::places::Places;
use super::reader::Reader;
use super::registry::Login;
use super::relay::{End, Relay};
use super::room::{ASIDES_MAX, Tallied};
use crate::auth::passthrough::{Authenticated, Encrypted, Failed, Unchallenged, login};
use crate::auth::rules::{self, method};
use crate::auth::verify;
use crate::config::{
    AuthMethod, ClientTls, Config, Listen, ReplicationHold, Target, Upstream, Who,
};
use crate::server::connect::{Opened, Route, open};
use crate::tls::Encryption;
use crate::tls::stream::{Peer, Stream};
use crate::wire::refusal::{NotProved, Origin, Refusal};
use crate::wire::startup::Startup;
use crate::wire::window_key;

/// A client that wants a session.
#[derive(Debug)]
pub(super) struct Applicant {
    pub(super) stream: Stream,
    pub(super) peer: Peer,
    /// Where it came in.
    pub(super) listen: Arc<Listen>,
    /// What its encryption tells; `None` on a plain connection.
    pub(super) encryption: Option<Encryption>,
    pub(super) startup: Startup,
    /// What it sent behind its start-up packet.
    pub(super) behind: BytesMut,
    /// Its place among the connections from its address, if it has one.
    pub(super) address: Option<Tallied<IpAddr>>,
    /// As it is at its arrival; the session keeps it.
    pub(super) config: Arc<Config>,
    /// Its right to go through a window, if it showed the key of one.
    pub(super) pass: Option<Pass>,
}

/// A server that has let the client in.
pub(super) struct LoggedIn {
    pub(super) stream: Stream,
    pub(super) route: Route,
    pub(super) login: Authenticated,
    /// How it can log in at a standby, if it can.
    pub(super) reader: Option<Arc<Reader>>,
}

/// The same, and the client's places.
pub(super) struct Server {
    logged_in: LoggedIn,
    places: Places,
}

impl Applicant {
    fn for_rules(&self) -> rules::Applicant<'_> {
        rules::Applicant {
            database: self.startup.database(),
            user: self.startup.user(),
            address: match self.peer {
                // Loopback in the mouth of a proxy is another machine's: no rule about ours.
                Peer::Told(address) if address.ip().to_canonical().is_loopback() => {
                    Some(Ipv4Addr::UNSPECIFIED.into())
                }
                Peer::Tcp(_) | Peer::Told(_) | Peer::Unix => self.peer.ip(),
            },
            tls: self.encryption.is_some(),
        }
    }

    /// Where it comes from, as the texts of refusals tell it.
    fn origin(&self) -> Origin {
        let ip = self.peer.ip();
        Origin {
            host: ip.map_or("[local]".into(), |ip| ip.to_string()),
            user: self.startup.user().to_owned(),
            database: self.startup.database().to_owned(),
            tls: self.encryption.is_some(),
        }
    }

    /// Where certificates have to be those of users, whether this one is.
    pub(super) fn check_certificate(&self) -> Result<(), Failed> {
        if self.listen.tls != ClientTls::VerifyFull {
            return Ok(());
        }
        let auth = &self.config.auth;
        verify::certificate(
            self.startup.user(),
            self.encryption.as_ref(),
            auth.certificate_name,
            &auth.certificate_users,
        )
    }
}

impl Host {
    /// Logs the client in at the server of its database, in the way that the rules say. Not cancel
    /// safe.
    pub(super) async fn log_in(&self, applicant: &mut Applicant) -> Result<Server, Failed> {
        let config = Arc::clone(&applicant.config);
        let session = self.rooms.sessions.take(config.limits.connections);
        let session =
            session.ok_or_else(|| self.full("connections", Refusal::TooManyConnections))?;
        let logging_in = self.rooms.logins.take(config.limits.logins);
        let _logging_in =
            logging_in.ok_or_else(|| self.full("logins", Refusal::TooManyConnections))?;
        applicant.check_certificate()?;
        self.take_window_key(applicant)?;
        let target =
            target(&config, &applicant.startup).ok_or(Failed::Refused(Refusal::UnknownDatabase))?;
        let logged_in = match method(&config.auth.rules, applicant.for_rules()) {
            None => {
                let why = NotProved::NoRule(applicant.origin());
                return Err(Failed::Refused(why.into()));
            }
            Some(AuthMethod::Reject) => {
                let why = NotProved::RuleRejects(applicant.origin());
                return Err(Failed::Refused(why.into()));
            }
            Some(AuthMethod::PassThrough) => self.pass_through(applicant, &target).await?,
            Some(
                method @ (AuthMethod::ScramSha256
                | AuthMethod::Md5
                | AuthMethod::Password
                | AuthMethod::Cert
                | AuthMethod::Trust),
            ) => {
                // Boxed, as the handshakes of TLS are: who needs none has no room for it.
                Box::pin(self.terminate(applicant, &target, method)).await?
            }
        };
        let places = (session, applicant.address.take());
        let places = self.places(places, &applicant.startup, &config)?;
        if let Some(pass) = &mut applicant.pass {
            let pid = logged_in.login.server_key.as_ref().map(|key| key.pid);
            // Its backend is written down before it may do anything: it can outlive us.
            if !pass.arrive(pid).await {
                return Err(Failed::Refused(Refusal::WindowKey));
            }
        }
        Ok(Server { logged_in, places })
    }

    /// Takes a window's key off the start-up packet, before the server or a log can see it.
    fn take_window_key(&self, applicant: &mut Applicant) -> Result<(), Failed> {
        if let Some((startup, key)) = window_key::take(&applicant.startup) {
            applicant.startup = startup;
            let pass = self.passes.show(&key, applicant.startup.database());
            let pass = pass.ok_or(Failed::Refused(Refusal::WindowKey))?;
            applicant.pass = Some(pass);
        } else if applicant.startup.replication().is_none() {
            let startup = &applicant.startup;
            let who = Who {
                user: startup.user(),
                application_name: startup.parameter(APPLICATION_NAME).unwrap_or_default(),
                address: applicant.peer.ip(),
            };
            // It still has to prove that it is who it says.
            applicant.pass = self.passes.of_scope(startup.database(), who);
        }
        Ok(())
    }

    /// The client proves itself to the server.
    async fn pass_through(
        &self,
        applicant: &mut Applicant,
        target: &Target,
    ) -> Result<LoggedIn, Failed> {
        let limit = self.limit(applicant);
        let Applicant {
            stream: client,
            peer,
            startup,
            behind,
            config,
            encryption,
            ..
        } = applicant;
        let packet = forwarded(config, startup, *peer);
        let Opened {
            mut stream,
            route,
            answer,
            ..
        } = self.reach(&target.upstream, packet.packet()).await?;
        let unchallenged = unchallenged(config, *peer);
        let encrypted = Encrypted {
            client: encryption.is_some(),
            server: matches!(stream, Stream::Tls(_)),
        };
        let behind = std::mem::take(behind);
        let how = (unchallenged, encrypted, limit);
        let login = login((client, behind), (&mut stream, answer), how).await?;
        Ok(LoggedIn {
            stream,
            route,
            login,
            // What the client shows is between it and the server.
            reader: None,
        })
    }

    /// Connects to a server and sends a start-up packet; who cannot be reached is told of in the
    /// log alone.
    pub(super) async fn reach<'a>(
        &self,
        upstream: &'a Upstream,
        packet: &[u8],
    ) -> Result<Opened<'a>, Failed> {
        open(upstream, packet).await.map_err(|error| {
            self.common.metrics.server_connect_failed();
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "server not reached"
            );
            Failed::Refused(Refusal::ServerUnreachable)
        })
    }

    /// Puts the parts of a session together.
    pub(super) fn register(&self, applicant: Applicant, server: Server) -> Settled<Stream, Stream> {
        let Applicant {
            stream: client,
            peer,
            startup,
            config,
            pass,
            ..
        } = applicant;
        let Server { logged_in, places } = server;
        let LoggedIn {
            stream,
            route,
            login,
            reader,
        } = logged_in;
        let replication = startup.replication();
        let application_name = startup.parameter(APPLICATION_NAME).unwrap_or_default();
        let who = Who {
            user: startup.user(),
            application_name,
            address: peer.ip(),
        };
        let exempt = &config.hold.exempt;
        let held_by_holds = pass.is_none()
            && !exempt.iter().any(|it| it.fits(startup.database(), who))
            && match config.hold.replication {
                ReplicationHold::Exempt => replication.is_none(),
                ReplicationHold::Hold => true,
            };
        let session = self.sessions.add(Login {
            database: places
                .database()
                .unwrap_or_else(|| startup.database().into()),
            user: places.user(),
            application_name: application_name.into(),
            replication,
            held_by_holds,
            pass,
            client: peer,
            route,
            server_key: login.server_key,
            client_key: login.client_key,
        });
        // The server has accepted the name: only now may it get a gate. A hold on some clients that comes
        // after this finds the session in the registry, and one that came before is seen here.
        let gates = if held_by_holds {
            self.gates.of_session(startup.database(), session.who())
        } else {
            (self.gates.unheld(), Vec::new())
        };
        let (sessions, common) = (Arc::clone(&self.sessions), Arc::clone(&self.common));
        let farewell = Farewell {
            sessions,
            session: Arc::clone(&session),
            end: End::ServerLeft,
            _places: places,
        };
        let (client, server) = ((client, login.from_client), (stream, login.to_client));
        let mut relay = Relay::new(client, server, session, gates, config, common);
        if let Some(reader) = reader.filter(|_| held_by_holds && replication.is_none()) {
            relay.may_go_away(reader);
        }
        Settled { relay, farewell }
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
        tracing::info!(%peer, sqlstate = %refusal.sqlstate(), ?refusal, "client refused");
        self.common.metrics.refused(refusal.sqlstate().as_str());
        let Some(_place) = self.rooms.asides.take(ASIDES_MAX) else {
            return;
        };
        let farewell = async {
            client.write_all(&refusal.encode()).await?;
            client.shutdown().await?;
            // Unread bytes would turn the close into a reset, which takes the message back.
            tokio::io::copy(&mut client, &mut tokio::io::sink()).await
        };
        let _ = timeout(Duration::from_secs(1), farewell).await;
    }
}

/// Whether a server that asks for no proof may let this client in.
fn unchallenged(config: &Config, peer: Peer) -> Unchallenged {
    if config.allow_unauthenticated || peer.is_local() {
        Unchallenged::Allowed
    } else {
        Unchallenged::Refused
    }
}
