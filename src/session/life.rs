//! One client from its first byte to the last: wish, login, relay, farewell.

use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::time::{Instant, timeout, timeout_at};

use super::console::Reception;
use super::elsewhere::Elsewhere;
use super::login::Applicant;
use super::passes::Passes;
use super::places::Places;
use super::registry::{Session, Sessions, Signals};
use super::relay::{Common, End, Relay};
use super::room::{ASIDES_MAX, Rooms, Tallied};
use super::standbys::Standbys;
use crate::auth::passthrough::Failed;
use crate::auth::users::Disguise;
use crate::client::arrival::{Arrival, Newcomer};
use crate::client::handshake::{NoWish, Wish};
use crate::config::Config;
use crate::gate::Gates;
use crate::server::lookup::Lookups;
use crate::tasks::Tasks;
use crate::tls::stream::{Peer, Socket, Stream};
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
    /// How many clients there are, of every kind that is limited.
    pub rooms: Rooms,
    /// Where the server is asked for clients' secrets.
    pub lookups: Arc<Lookups>,
    /// Which standbys can be read from.
    pub standbys: Arc<Standbys>,
    /// How users that do not exist look like those that do.
    pub disguise: Disguise,
    /// Who serves the sessions that are not here.
    pub elsewhere: Arc<dyn Elsewhere>,
    /// Which connections may go through a window.
    pub passes: Arc<Passes>,
    /// Where clients of the console go.
    pub reception: Reception,
}

/// A session that is logged in, and its place among the others.
pub struct Settled<C, S> {
    pub(super) relay: Relay<C, S>,
    pub(super) farewell: Farewell,
}

/// Relays to the end. Also when the relay panics, or is dropped, the session leaves nothing behind: the
/// permit is given back by its door, the rest by the farewell, which is dropped after it.
impl<C: Socket, S: Socket> Future for Settled<C, S> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.farewell.end = ready!(self.relay.poll(cx));
        Poll::Ready(())
    }
}

/// One client from its first byte to the last.
///
/// Written by hand: an `async` function keeps a place for every value that it ever moved, and a session
/// would carry its login, and itself several times over, for hours.
pub enum Serving {
    /// Up to the first statement. All that it took is given back at its end.
    Login(LoggingIn),
    /// From then on.
    Session(Box<Settled<Stream, Stream>>),
}

/// `None` when the client got what it asked for, or no.
type LoggingIn = Pin<Box<dyn Future<Output = Option<Box<Settled<Stream, Stream>>>> + Send>>;

impl Future for Serving {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            *self = match &mut *self {
                Serving::Session(settled) => return Pin::new(settled).poll(cx),
                Serving::Login(login) => match ready!(login.as_mut().poll(cx)) {
                    Some(settled) => Serving::Session(settled),
                    None => return Poll::Ready(()),
                },
            };
        }
    }
}

/// Takes the session out of the registry, however its task ends.
pub(super) struct Farewell {
    pub(super) sessions: Arc<Sessions>,
    pub(super) session: Arc<Session>,
    pub(super) end: End,
    pub(super) _places: Places,
}

/// A client that has said what it wants, or will not.
struct Arrived {
    arrival: Arrival,
    wish: Result<Wish, NoWish>,
    address: Address,
}

/// What a client may do, by the number of connections from its address.
enum Address {
    /// Log in. A client on our Unix socket has no address.
    Within(Option<Tallied<IpAddr>>),
    /// Cancel what its others run.
    Beyond(Tallied<IpAddr>),
}

impl Drop for Farewell {
    fn drop(&mut self) {
        self.sessions
            .remove(&self.session, self.end == End::ServerClosed);
        // Its window waits for it, and then looks who is left behind.
        self.session.leave_window();
    }
}

impl Host {
    /// Serves one client to its end, on the runtime that this is polled on first.
    pub fn serve(self: Arc<Self>, newcomer: Newcomer, config: Arc<Config>) -> Serving {
        Serving::Login(Box::pin(async move {
            let peer = newcomer.peer;
            let arrival = match newcomer.arrive() {
                Ok(arrival) => arrival,
                Err(error) => {
                    tracing::warn!(%peer, %error, "a client could not be served");
                    return None;
                }
            };
            let stop = self.tasks.shutdown_token();
            let settled = tokio::select! {
                settled = self.settle(arrival, config) => settled?,
                () = stop.cancelled() => return None,
            };
            if stop.is_cancelled() {
                // It was not in the registry yet when the others were asked to stop.
                settled.farewell.session.signal(Signals::STOP);
            }
            Some(settled)
        }))
    }

    /// Everything up to the first statement; `None` when the client got what it asked for, or no.
    async fn settle(
        &self,
        arrival: Arrival,
        config: Arc<Config>,
    ) -> Option<Box<Settled<Stream, Stream>>> {
        let deadline = Instant::now() + config.limits.login_time;
        let Arrived {
            arrival,
            wish,
            address,
        } = self.arrive(arrival, &config, deadline).await?;
        let Arrival {
            stream,
            peer,
            listen,
            encryption,
        } = arrival;
        let stream = stream?;
        let (startup, behind) = match wish {
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
        // Whoever comes to open a database must get in when all is full.
        let for_console = config.console.is_called(startup.database());
        let address = match address {
            Address::Within(place) => place,
            Address::Beyond(_place) if for_console => None,
            Address::Beyond(_place) => {
                self.common.metrics.limited("connections_per_address");
                self.tell(stream, peer, &Refusal::TooManyFromAddress).await;
                return None;
            }
        };
        let mut applicant = Applicant {
            stream,
            peer,
            listen,
            encryption,
            startup,
            behind,
            address,
            config,
            pass: None,
        };
        if for_console {
            self.receive(applicant, deadline).await;
            return None;
        }
        let login = match self.park(&mut applicant).await {
            Ok(parked) => {
                // It was not the client's fault that it had to wait.
                let deadline = match &parked {
                    Some(_turn) => Instant::now() + applicant.config.limits.login_time,
                    None => deadline,
                };
                let login = timeout_at(deadline, self.log_in(&mut applicant)).await;
                login.unwrap_or_else(|_elapsed| Err(self.late()))
            }
            Err(failed) => Err(failed),
        };
        match login {
            Ok(server) => Some(Box::new(self.register(applicant, server))),
            Err(failed) => {
                self.turn_away(applicant, failed).await;
                None
            }
        }
    }

    /// Up to what the client wants; `None` when it lost its place before it said so, or its address
    /// has too many connections even for a cancel request.
    async fn arrive(
        &self,
        mut arrival: Arrival,
        config: &Config,
        deadline: Instant,
    ) -> Option<Arrived> {
        let (_silent, taken_away) = self.rooms.silent.enter(config.limits.logins);
        let acceptor = config.tls.acceptor.as_ref();
        let coming = async {
            arrival.learn_origin().await?;
            let address = self.address(arrival.peer, config);
            match address {
                Some(address) => Ok(Some((address, arrival.wish(acceptor).await))),
                None => Ok(None),
            }
        };
        let came = tokio::select! {
            came = timeout_at(deadline, coming) => came,
            Ok(()) = taken_away => {
                self.common.metrics.limited("logins");
                tracing::debug!(peer = %arrival.peer, "closed in favour of a newer connection");
                return None;
            }
        };
        let (address, wish) = match came {
            Ok(Ok(Some((address, wish)))) => (address, wish),
            Ok(Ok(None)) => {
                self.common.metrics.limited("connections_per_address");
                return None;
            }
            Ok(Err(no_wish)) => (Address::Within(None), Err(no_wish)),
            Err(_elapsed) => {
                self.common.metrics.limited("login_time");
                (
                    Address::Within(None),
                    Err(NoWish::Refused(Refusal::LoginTimeout)),
                )
            }
        };
        Some(Arrived {
            arrival,
            wish,
            address,
        })
    }

    /// A place among the connections from the client's address, or among as many again that may
    /// only cancel.
    fn address(&self, peer: Peer, config: &Config) -> Option<Address> {
        let Some(ip) = peer.ip() else {
            return Some(Address::Within(None));
        };
        let limit = config.limits.connections_per_address;
        if let Some(place) = self.rooms.addresses.take(ip, limit) {
            return Some(Address::Within(Some(place)));
        }
        self.rooms.surplus.take(ip, limit).map(Address::Beyond)
    }

    /// Counts what a limit did.
    pub(super) fn full(&self, limit: &'static str, refusal: Refusal) -> Failed {
        self.common.metrics.limited(limit);
        Failed::Refused(refusal)
    }

    fn late(&self) -> Failed {
        self.full("login_time", Refusal::LoginTimeout)
    }

    /// Passes a cancel request on to the session it names. Nobody is told whether there is one; the
    /// connection is closed when the server has acted, as clients expect.
    async fn cancel(&self, key: &CancelKey) {
        // The session itself is let go: with one that has just ended the other half is dropped.
        let acted = self.sessions.by_key(key);
        let acted = acted.map(|session| session.request_cancel());
        // It is carried out also when too many wait for that already.
        let Some(_place) = self.rooms.asides.take(ASIDES_MAX) else {
            return;
        };
        match acted {
            Some(acted) => {
                let _ = timeout(CANCEL_TIME, acted).await;
            }
            None if self.reception.cancel(key) => {}
            None => self.elsewhere.cancel(key).await,
        }
    }
}

/// Ends a connection in order: who encrypts waits for a word of it.
async fn close(mut stream: Stream) {
    let _ = timeout(CLOSE_TIME, stream.shutdown()).await;
}

#[cfg(test)]
mod sizes;
#[cfg(test)]
mod tests;
