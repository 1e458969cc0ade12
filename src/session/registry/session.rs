//! One session that is logged in, as the rest of the program sees it.

use std::sync::atomic::AtomicU16;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Waker;
use std::time::SystemTime;

use tokio::sync::oneshot;

use super::meter::Meter;
use super::signals::Signals;
use crate::clock::Ticker;
use crate::config::Who;
use crate::server::connect::Route;
use crate::session::enforcement::{Enforcement, Shared};
use crate::session::inbox::{Inbox, Presumed};
use crate::session::passes::Pass;
use crate::tls::stream::Peer;
use crate::wire::startup::{CancelKey, Replication};

/// Numbers sessions over the life of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u64);

/// A session as the rest of the program sees it. The relay alone writes the counters.
#[derive(Debug)]
pub struct Session {
    /// Its number.
    pub id: SessionId,
    /// The database it was opened for.
    pub database: Arc<str>,
    /// The user it was opened as.
    pub user: Arc<str>,
    /// The `application_name` it was opened with.
    pub application_name: Box<str>,
    /// What kind of replication it was opened for, if any.
    pub replication: Option<Replication>,
    /// Whether holds stop it, and drains wait for it.
    pub held_by_holds: bool,
    /// The window it works in, if it went through one.
    pub window: Option<Box<str>>,
    /// Whether it is no client's but ours, and tries whether a write is refused: what it sends is taken for
    /// a read.
    pub probe: bool,
    /// Where the client is.
    pub client: Peer,
    /// When it was logged in.
    pub connected_at: SystemTime,
    /// The way to the server it is connected to.
    pub route: Route,
    /// The key of the server's session.
    pub server_key: Option<CancelKey>,
    /// The key that the client was given.
    pub client_key: Option<CancelKey>,
    /// The measures of its traffic.
    pub meter: Meter,
    /// What its transactions are timed by.
    pub clock: Arc<Ticker>,
    pub(super) signals: AtomicU16,
    /// Given back when its server connection is at its end.
    pass: Mutex<Option<Box<Pass>>>,
    pub(super) waker: Mutex<Option<Waker>>,
    pub(super) cancels: Mutex<Vec<oneshot::Sender<()>>>,
    pub(super) inbox: Inbox,
    enforcement: Shared,
}

/// What a session is made of at its login.
#[derive(Debug)]
pub struct Login {
    /// The database it asked for.
    pub database: Arc<str>,
    /// The user it claimed to be, and proved to the server.
    pub user: Arc<str>,
    /// Its `application_name`, or nothing.
    pub application_name: Box<str>,
    /// What kind of replication it asked for, if any.
    pub replication: Option<Replication>,
    /// Whether holds stop it, and drains wait for it.
    pub held_by_holds: bool,
    /// Its right to be in a window, if it goes through one.
    pub pass: Option<Pass>,
    /// Where it comes from.
    pub client: Peer,
    /// The way to the server it got.
    pub route: Route,
    /// The key of the server's session.
    pub server_key: Option<CancelKey>,
    /// The key that the client was given.
    pub client_key: Option<CancelKey>,
}

impl Session {
    pub(super) fn new(id: SessionId, login: Login, clock: Arc<Ticker>) -> Session {
        Session {
            id,
            database: login.database,
            user: login.user,
            application_name: login.application_name,
            replication: login.replication,
            held_by_holds: login.held_by_holds,
            window: login.pass.as_ref().map(|pass| pass.window().into()),
            probe: false,
            pass: Mutex::new(login.pass.map(Box::new)),
            client: login.client,
            connected_at: SystemTime::now(),
            route: login.route,
            server_key: login.server_key,
            client_key: login.client_key,
            meter: Meter::default(),
            clock,
            signals: AtomicU16::new(0),
            waker: Mutex::default(),
            cancels: Mutex::default(),
            inbox: Inbox::default(),
            enforcement: Shared::default(),
        }
    }

    /// A session of our own that tries whether a write is refused. It is in no registry.
    #[must_use]
    pub fn probe(login: Login) -> Session {
        Session {
            probe: true,
            ..Session::new(SessionId(0), login, Arc::default())
        }
    }

    /// The session as scopes see it.
    #[must_use]
    pub fn who(&self) -> Who<'_> {
        Who {
            user: &self.user,
            application_name: &self.application_name,
            address: self.client.ip(),
        }
    }

    /// Puts another gate in its way.
    pub fn attach(&self, presumed: Presumed) {
        self.inbox.post(presumed);
        self.signal(Signals::ATTACH);
    }

    /// The gates that were put in its way since the last look.
    pub fn take_attached(&self) -> Vec<Presumed> {
        self.inbox.take()
    }

    /// The server's process id.
    #[must_use]
    pub fn pid(&self) -> Option<i32> {
        self.server_key.as_ref().map(|key| key.pid)
    }

    /// How far read-only mode is enforced for it.
    #[must_use]
    pub fn enforcement(&self) -> Enforcement {
        self.enforcement.get()
    }

    /// Says how far. For its relay alone.
    pub fn set_enforcement(&self, enforcement: Enforcement) {
        self.enforcement.set(enforcement);
    }

    /// It runs nothing in its window any more, and never will again.
    pub fn leave_window(&self) {
        let pass = self
            .pass
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        drop(pass);
    }
}
