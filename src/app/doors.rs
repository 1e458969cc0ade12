//! The sockets where clients come in: opened, closed for a moment, or left to another process.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::App;
use crate::client::admin::AdminListener;
use crate::client::arrival::Newcomer;
use crate::client::inherited::admin_name;
use crate::client::listener::{Listener, OpenListener};
use crate::client::pace::Pace;
use crate::config::{AdminAddress, Listen};
use crate::session::life::Host;

/// Pause before a socket that could not be opened is opened again.
const OPEN_PAUSE: Duration = Duration::from_millis(100);

/// See the module.
pub(super) struct Doors {
    host: Arc<Host>,
    doors: Mutex<Vec<Door>>,
    open: Mutex<Open>,
    /// Whether somebody else made the sockets and keeps them, files and all.
    borrowed: bool,
}

#[derive(Clone)]
struct Door {
    listener: Arc<Listener>,
    listen: Arc<Listen>,
}

/// The tasks that accept, and what ends them.
#[derive(Default)]
struct Open {
    stop: CancellationToken,
    tasks: Vec<JoinHandle<()>>,
}

/// The listening sockets of the admin HTTP with their names, to be passed on.
pub(super) struct AdminSockets(Mutex<Vec<(String, OwnedFd)>>);

impl AdminSockets {
    pub(super) fn of(listeners: &[(AdminAddress, AdminListener)]) -> io::Result<AdminSockets> {
        let sockets = listeners.iter().map(|(place, listener)| {
            let socket = listener.as_fd().try_clone_to_owned()?;
            Ok((admin_name(place), socket))
        });
        Ok(AdminSockets(Mutex::new(
            sockets.collect::<io::Result<_>>()?,
        )))
    }

    /// Copies of them, in the order of the configuration.
    ///
    /// # Errors
    /// Out of file descriptors; `NotFound` when they were let go.
    pub(super) fn copies(&self) -> io::Result<Vec<(String, OwnedFd)>> {
        let sockets = self.sockets();
        if sockets.is_empty() {
            return Err(io::ErrorKind::NotFound.into());
        }
        let copies = sockets
            .iter()
            .map(|(name, socket)| Ok((name.clone(), socket.try_clone()?)));
        copies.collect()
    }

    pub(super) fn let_go(&self) {
        self.sockets().clear();
    }

    fn sockets(&self) -> MutexGuard<'_, Vec<(String, OwnedFd)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Doors {
    /// Closed as yet: who comes waits in the kernel's queue.
    pub(super) fn new(
        host: Arc<Host>,
        listeners: Vec<(Listener, Arc<Listen>)>,
        borrowed: bool,
    ) -> Doors {
        let doors = listeners.into_iter().map(|(listener, listen)| Door {
            listener: Arc::new(listener),
            listen,
        });
        Doors {
            host,
            doors: Mutex::new(doors.collect()),
            open: Mutex::default(),
            borrowed,
        }
    }

    /// Where clients connect, for people.
    pub(super) fn names(&self) -> Vec<String> {
        self.all().iter().map(|door| door.listener.name()).collect()
    }

    /// The sockets to pass on, each with the address as it was configured.
    ///
    /// # Errors
    /// Out of file descriptors.
    pub(super) fn sockets(&self) -> io::Result<Vec<(String, OwnedFd)>> {
        let all = self.all();
        let sockets = all.iter().map(|door| {
            let socket = door.listener.as_fd().try_clone_to_owned()?;
            Ok((door.listen.address.to_string(), socket))
        });
        sockets.collect()
    }

    /// Whether systemd made the sockets: it keeps them, files and all.
    pub(super) fn are_borrowed(&self) -> bool {
        self.borrowed
    }

    /// The files of Unix sockets are this process's alone, and are removed when it ends.
    pub(super) fn own(&self) {
        for door in &*self.all() {
            door.listener.own(!self.borrowed);
        }
    }

    /// Takes no more clients; returns when none can be accepted any more. Who comes waits.
    pub(super) async fn close(&self) {
        let Open { stop, tasks } = std::mem::take(&mut *self.opened());
        stop.cancel();
        for task in tasks {
            // A panic of it was logged; it has ended all the same.
            let _ = task.await;
        }
        // Who has them next may tell them something, and we may open again.
        self.all().iter().for_each(|door| door.listener.doubt());
    }

    /// Closes the sockets too: who comes is turned away by the kernel, unless somebody else listens
    /// there.
    pub(super) async fn shut(&self) {
        self.close().await;
        self.all().clear();
    }

    /// Leaves the sockets to who listens there too.
    pub(super) fn leave(&self) {
        for door in self.all().drain(..) {
            door.listener.own(false);
        }
    }

    fn all(&self) -> MutexGuard<'_, Vec<Door>> {
        self.doors.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn opened(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl App {
    /// Takes clients on every socket until the doors are closed or the proxy stops.
    pub(super) fn open_doors(self: &Arc<Self>) {
        let doors = self.doors.all().clone();
        let mut opened = self.doors.opened();
        for door in doors {
            let app = Arc::clone(self);
            let (closed, stop) = (opened.stop.clone(), self.sessions_tasks.shutdown_token());
            let listener = async move {
                tokio::select! {
                    () = app.accept(&door) => {}
                    () = closed.cancelled() => {}
                    () = stop.cancelled() => {}
                }
            };
            let first = self.workers.first();
            let task = self.tasks.spawn_on(first, "listener", listener);
            opened.tasks.push(task);
        }
    }

    async fn accept(&self, door: &Door) {
        let open = self.opened(door).await;
        let mut pace = Pace::default();
        loop {
            pace.wait(self.config.load().limits.accepts_per_second)
                .await;
            let (socket, peer) = open.accept(&self.config).await;
            self.metrics.connection_accepted();
            let newcomer = Newcomer {
                socket,
                peer,
                listen: Arc::clone(&door.listen),
            };
            let host = Arc::clone(&self.doors.host);
            let session = host.serve(newcomer, self.config.load());
            let worker = self.workers.least();
            self.sessions_tasks.spawn_on(worker, "session", session);
        }
    }

    /// Without files nobody can be let in: tries until there are some. Cancel safe.
    async fn opened<'a>(&self, door: &'a Door) -> OpenListener<'a> {
        loop {
            match door.listener.open() {
                Ok(open) => return open,
                Err(error) => {
                    let listen = door.listener.name();
                    tracing::error!(%error, listen, "nobody can be let in");
                    tokio::time::sleep(OPEN_PAUSE).await;
                }
            }
        }
    }
}
