//! From a start-up packet to a session that is logged in, or to a client that knows why not.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

use super::life::{Farewell, Host, Settled};
use super::registry::Login;
use super::relay::{End, Relay};
use super::room::{RoomTaken, Tallied};
use crate::auth::passthrough::{Authenticated, Encrypted, Failed, Unchallenged, login};
use crate::auth::rules::{self, method};
use crate::config::{AuthMethod, Config, ReplicationHold, Target, Upstream};
use crate::gate::Gate;
use crate::server::connect::{Opened, Route, open};
use crate::tls::Encryption;
use crate::tls::stream::{Peer, Stream};
use crate::wire::refusal::{NotProved, Origin, Refusal};
use crate::wire::startup::{Replication, Startup};

const APPLICATION_NAME: &str = "application_name";

/// `NAMEDATALEN - 1`: the server keeps so many bytes of a name.
const NAME_MAX: usize = 63;

/// Between a name and the client's address, as PgBouncer has it.
const SEPARATOR: &[u8] = b" - ";

/// A client that wants a session.
#[derive(Debug)]
pub(super) struct Applicant {
    pub(super) stream: Stream,
    pub(super) peer: Peer,
    /// What its encryption tells; `None` on a plain connection.
    pub(super) encryption: Option<Encryption>,
    /// Whether its certificate must be one of the user that it names, however else it has to prove
    /// itself (`tls = "verify-full"`).
    pub(super) certified: bool,
    pub(super) startup: Startup,
    /// What it sent behind its start-up packet.
    pub(super) behind: BytesMut,
    /// Its place among the connections from its address, if it has one.
    pub(super) address: Option<Tallied<IpAddr>>,
    /// As it is at its arrival; the session keeps it.
    pub(super) config: Arc<Config>,
}

/// A server that has let the client in.
pub(super) struct LoggedIn {
    pub(super) stream: Stream,
    pub(super) route: Route,
    pub(super) login: Authenticated,
}

/// The same, and the client's place.
pub(super) struct Server {
    logged_in: LoggedIn,
    places: Places,
}

/// What a session takes of what is limited, given back with it.
pub(super) struct Places {
    _session: RoomTaken,
    _database: Option<Tallied<String>>,
    _user: Tallied<String>,
    _address: Option<Tallied<IpAddr>>,
}

/// Where the client's server is. The log of a cluster belongs to none of its databases, and what
/// clients name then (`replication`, as libpq has it) is nobody's.
fn target(config: &Config, startup: &Startup) -> Option<Target> {
    let named = config.target(startup.database());
    match startup.replication() {
        Some(Replication::Physical) => Some(named.unwrap_or_else(|| config.default_target())),
        Some(Replication::Logical) | None => named,
    }
}

/// The start-up packet as the server gets it.
pub(super) fn forwarded(config: &Config, startup: &Startup, peer: Peer) -> Startup {
    let named = if config.application_name_add_client {
        let name = startup
            .parameter_bytes(APPLICATION_NAME)
            .unwrap_or_default();
        startup.with_parameter(APPLICATION_NAME, &name_with_client(name, peer))
    } else {
        None
    };
    named.unwrap_or_else(|| startup.clone())
}

/// A name, shortened so that the client's address behind it stays whole.
fn name_with_client(name: &[u8], peer: Peer) -> Vec<u8> {
    let address = peer.to_string();
    if name.is_empty() {
        return address.into_bytes();
    }
    let room = NAME_MAX.saturating_sub(address.len() + SEPARATOR.len());
    let mut end = name.len().min(room);
    // As the server cuts names: not inside of a character.
    while end > 0 && name.get(end).is_some_and(|byte| byte & 0xc0 == 0x80) {
        end -= 1;
    }
    [&name[..end], SEPARATOR, address.as_bytes()].concat()
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
}

impl Host {
    /// Logs the client in at the server of its database, in the way that the rules say. Not cancel
    /// safe.
    pub(super) async fn log_in(&self, applicant: &mut Applicant) -> Result<Server, Failed> {
        let config = Arc::clone(&applicant.config);
        let room = self.rooms.sessions.take(config.limits.connections);
        let room = room.ok_or_else(|| self.full("connections", Refusal::TooManyConnections))?;
        let logging_in = self.rooms.logins.take(config.limits.logins);
        let _logging_in =
            logging_in.ok_or_else(|| self.full("logins", Refusal::TooManyConnections))?;
        let target = target(&config, &applicant.startup);
        let target = target.ok_or(Failed::Refused(Refusal::UnknownDatabase))?;
        if applicant.certified {
            applicant.check_certificate()?;
        }
        let logged_in = match method(&config.auth.rules, applicant.for_rules()) {
            None => {
                return Err(Failed::Refused(
                    NotProved::NoRule(applicant.origin()).into(),
                ));
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
            ) => self.terminate(applicant, &target, method).await?,
        };
        let places = (room, applicant.address.take());
        let places = self.places(places, &applicant.startup, &config)?;
        Ok(Server { logged_in, places })
    }

    /// The client proves itself to the server.
    async fn pass_through(
        &self,
        applicant: &mut Applicant,
        target: &Target,
    ) -> Result<LoggedIn, Failed> {
        let Applicant {
            stream: client,
            peer,
            startup,
            behind,
            config,
            encryption,
            ..
        } = applicant;
        let forwarded = forwarded(config, startup, *peer);
        let Opened {
            mut stream,
            route,
            answer,
            ..
        } = self.reach(&target.upstream, forwarded.packet()).await?;
        let unchallenged = if config.allow_unauthenticated || peer.is_local() {
            Unchallenged::Allowed
        } else {
            Unchallenged::Refused
        };
        let encrypted = Encrypted {
            client: encryption.is_some(),
            server: matches!(stream, Stream::Tls(_)),
        };
        let behind = std::mem::take(behind);
        let how = (unchallenged, encrypted);
        let login = login((client, behind), (&mut stream, answer), how).await?;
        Ok(LoggedIn {
            stream,
            route,
            login,
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

    /// Places for a session in its database and of its user. The server has accepted both names:
    /// before that they are anybody's.
    fn places(
        &self,
        (session, address): (RoomTaken, Option<Tallied<IpAddr>>),
        startup: &Startup,
        config: &Config,
    ) -> Result<Places, Failed> {
        let (database, user) = (startup.database(), startup.user());
        let limit = config.limits.connections_per_database;
        let in_database = match startup.replication() {
            Some(Replication::Physical) => None,
            Some(Replication::Logical) | None => {
                let place = self.rooms.databases.take(database.to_owned(), limit);
                Some(place.ok_or_else(|| {
                    let refusal = Refusal::TooManyInDatabase(database.to_owned());
                    self.full("connections_per_database", refusal)
                })?)
            }
        };
        let limit = config.limits.connections_per_user;
        let of_user = self.rooms.users.take(user.to_owned(), limit);
        let of_user = of_user.ok_or_else(|| {
            let refusal = Refusal::TooManyOfUser(user.to_owned());
            self.full("connections_per_user", refusal)
        })?;
        Ok(Places {
            _session: session,
            _database: in_database,
            _user: of_user,
            _address: address,
        })
    }

    /// Puts the parts of a session together.
    pub(super) fn register(&self, applicant: Applicant, server: Server) -> Settled<Stream, Stream> {
        let Applicant {
            stream: client,
            peer,
            startup,
            config,
            ..
        } = applicant;
        let Server { logged_in, places } = server;
        let LoggedIn {
            stream,
            route,
            login,
        } = logged_in;
        let replication = startup.replication();
        let held_by_holds = match config.hold.replication {
            ReplicationHold::Exempt => replication.is_none(),
            ReplicationHold::Hold => true,
        };
        // The server has accepted the name: only now may it get a gate.
        let gate: Arc<Gate> = if held_by_holds {
            self.gates.of(startup.database())
        } else {
            self.gates.unheld()
        };
        let session = self.sessions.add(Login {
            database: startup.database().to_owned(),
            user: startup.user().to_owned(),
            application_name: startup
                .parameter(APPLICATION_NAME)
                .unwrap_or_default()
                .to_owned(),
            replication,
            held_by_holds,
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
            _places: places,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_gives_way_to_the_address() {
        let peer = Peer::Tcp(
            "[2001:db8:1111:2222:3333:4444:5555:6666]:50122"
                .parse()
                .expect("an address"),
        );
        let added = |name: &[u8]| name_with_client(name, peer);
        let address = b"[2001:db8:1111:2222:3333:4444:5555:6666]:50122";
        assert_eq!(added(b""), address);
        assert_eq!(added(b"psql"), [b"psql - ".as_slice(), address].concat());
        let long = added(b"a name of some length");
        assert_eq!(long, [b"a name of some - ".as_slice(), address].concat());
        assert_eq!(long.len(), NAME_MAX);
        // Fourteen bytes would end inside of the last character.
        let cut = added("a name of \u{e9}\u{20ac}x".as_bytes());
        assert_eq!(
            cut,
            [" a name of \u{e9} - ".trim_start().as_bytes(), address].concat()
        );
        // What is not UTF-8 stays as it is.
        assert_eq!(
            added(b"\xff\xfe"),
            [b"\xff\xfe - ".as_slice(), address].concat()
        );
        assert_eq!(name_with_client(b"x", Peer::Unix), b"x - [local]");
    }
}
