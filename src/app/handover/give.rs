//! The process that serves, when another wants to take over.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::net::UnixListener;

use super::talk::{Former, Hello, Newer, PROTOCOL, SOCKETS_MAX, Talk};
use super::{AT_ONCE, GET_READY, socket};
use crate::admin::ApiError;
use crate::app::App;
use crate::audit::{Event, Kind};
use crate::window::generations::{Seat, is_ours, listen_privately};

/// How long requests to the admin HTTP may take to end when it is the newer process's.
const ADMIN_TIME: Duration = Duration::from_secs(1);

/// A pause after accept failed, which it does for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Whether this process is the one that serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::app) enum Succession {
    /// It is.
    Serving,
    /// Another is about to take over: what would not survive that does not begin.
    HandingOver,
    /// Another has: this is the former one.
    Former {
        /// When it ends, whoever is still there.
        ends_at: Option<Instant>,
    },
}

/// Why nothing is handed over, or not to the end.
enum Broken {
    /// The other is told.
    Refused(String),
    /// The other has gone.
    Gone(String),
}

impl From<io::Error> for Broken {
    fn from(error: io::Error) -> Broken {
        Broken::Gone(error.to_string())
    }
}

impl App {
    /// Waits for a process that takes over. That there can be none keeps nothing from being served.
    pub(in crate::app) fn await_successor(self: &Arc<Self>) {
        let path = socket(&self.config.load().state_dir);
        let listener = match listen_privately(&path) {
            Ok(listener) => listener,
            Err(error) => {
                let path = path.display();
                tracing::warn!(%path, %error, "no other process will be able to take over");
                return;
            }
        };
        let (app, stop) = (Arc::clone(self), self.sessions_tasks.shutdown_token());
        self.tasks.spawn("hand-over", async move {
            tokio::select! {
                () = app.hand_over_once(listener, &path) => {}
                () = stop.cancelled() => {}
            }
        });
    }

    /// One after the other; returns when one of them has taken over.
    async fn hand_over_once(self: &Arc<Self>, listener: UnixListener, path: &Path) {
        loop {
            let stream = match listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "a process that takes over cannot be heard");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            if !is_ours(&stream, path).unwrap_or(false) {
                tracing::warn!("another user wants to take over");
                continue;
            }
            let mut talk = Talk::new(stream);
            let handed = self.hand_over(&mut talk).await;
            let Err(broken) = handed else { return };
            self.succession.send_replace(Succession::Serving);
            match broken {
                Broken::Refused(why) => {
                    tracing::warn!(why, "nothing was handed over");
                    // It may have gone.
                    let _ = talk.say(&Former::Refused { why }).await;
                }
                Broken::Gone(why) => {
                    tracing::warn!(why, "the process that was to take over has gone");
                }
            }
        }
    }

    async fn hand_over(self: &Arc<Self>, talk: &mut Talk) -> Result<(), Broken> {
        let hello: Hello = heard(talk.hear(AT_ONCE).await)?;
        if hello.hand_over != PROTOCOL {
            return Err(Broken::Refused(format!(
                "process {} (version {}) hands over by version {PROTOCOL} of the protocol, and this \
                 one speaks version {}: stop it and start anew",
                std::process::id(),
                env!("CARGO_PKG_VERSION"),
                hello.hand_over
            )));
        }
        tracing::info!(
            pid = hello.pid,
            version = hello.version,
            "another process takes over"
        );
        self.may_hand_over()?;
        self.offer(talk).await?;
        let Newer::Ready = heard(talk.hear(GET_READY).await)? else {
            return Err(Broken::Refused("it was to be ready first".into()));
        };
        // From here on no migration begins, and what closes traffic waits.
        self.succession.send_replace(Succession::HandingOver);
        let frozen = self.controller.freeze().await;
        self.may_hand_over()?;
        if let [database, ..] = &frozen.windows()[..] {
            return Err(Broken::Refused(format!(
                "a window is open in {database}: let it end, or open by force"
            )));
        }
        let state_dir = self.config.load().state_dir.clone();
        let seat = Seat::take(&state_dir).map_err(|error| {
            Broken::Refused(format!(
                "this process cannot become the former one: {error}"
            ))
        })?;
        self.doors.close().await;
        self.controller.audit().write_down(false);
        let serving = async {
            talk.say(&Former::Yours).await?;
            heard(talk.hear::<Newer>(GET_READY).await)
        };
        match serving.await {
            Ok(Newer::Serving) => {}
            Ok(Newer::Ready) => return Err(self.go_on(Broken::Refused("it repeats itself".into()))),
            Err(broken) => return Err(self.go_on(broken)),
        }
        frozen.give_away();
        self.become_former(seat, &hello);
        // That it is over is known also when this is not heard.
        let _ = talk
            .say(&Former::Over(self.controller.standing().await))
            .await;
        Ok(())
    }

    /// The newer process failed: clients are let in here again.
    fn go_on(self: &Arc<Self>, broken: Broken) -> Broken {
        self.controller.audit().write_down(true);
        self.open_doors();
        broken
    }

    fn may_hand_over(&self) -> Result<(), Broken> {
        if self.shutdowns.asked().is_some() {
            return Err(Broken::Refused("it was told to stop".into()));
        }
        if let Err(former) = self.controller.alone() {
            return Err(Broken::Refused(former.to_string()));
        }
        if let Some((database, id)) = self.runner.any_live() {
            return Err(Broken::Refused(format!(
                "migration {id} runs in {database}: let it end, or cancel it"
            )));
        }
        if let Some((database, id)) = self.controller.any_window() {
            return Err(Broken::Refused(format!(
                "the window {id} is open in {database}: let it end, or open by force"
            )));
        }
        Ok(())
    }

    /// Whether a migration may begin: not while sessions are served, or will be, that this process
    /// cannot hold by itself.
    pub(in crate::app) fn may_migrate(&self) -> Result<(), ApiError> {
        match *self.succession.borrow() {
            Succession::Serving => {}
            Succession::HandingOver | Succession::Former { .. } => {
                let message = "Another process takes over from this one.";
                return Err(ApiError::unavailable("hand_over", message));
            }
        }
        let alone = self.controller.alone();
        alone.map_err(|former| ApiError::conflict("former_process", format!("{former}.")))
    }

    async fn offer(&self, talk: &mut Talk) -> Result<(), Broken> {
        let (mut names, mut sockets): (Vec<_>, Vec<_>) = self.doors.sockets()?.into_iter().unzip();
        // The first goes without a name, as it did when there was no other.
        let mut admin = self.admin_sockets.copies()?;
        let (_, first) = admin.remove(0);
        let (more_names, more) = admin.into_iter().unzip::<_, _, Vec<_>, Vec<_>>();
        names.extend(more_names);
        sockets.extend(more);
        sockets.push(first);
        sockets.push(self.controller.directory_lock().await?.into());
        if sockets.len() > SOCKETS_MAX {
            return Err(Broken::Refused(format!(
                "at most {SOCKETS_MAX} sockets can be handed over"
            )));
        }
        let offer = Former::Offer {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            names,
            borrowed: self.doors.are_borrowed(),
        };
        Ok(talk.say_with(&offer, &sockets).await?)
    }

    fn become_former(self: &Arc<Self>, seat: Seat, hello: &Hello) {
        self.doors.leave();
        self.admin_sockets.let_go();
        let (admin, left) = (self.admin_tasks.clone(), self.sessions_tasks.len());
        self.tasks.spawn("end of the admin HTTP", async move {
            admin.stop(ADMIN_TIME).await;
        });
        let old_for = hello.old_for_ms.map(Duration::from_millis);
        let ends_at = old_for.and_then(|old_for| Instant::now().checked_add(old_for));
        let shown = old_for.and_then(|old_for| Timestamp::now().checked_add(old_for).ok());
        let controller = Arc::clone(&self.controller);
        self.tasks
            .spawn("former process", seat.serve(controller, shown));
        tracing::info!(
            newer = hello.pid,
            sessions = left,
            "handed over; serving what is left"
        );
        self.controller.audit().tell(Event {
            outcome: Some(format!("handed over to process {}", hello.pid)),
            ..Event::here(Kind::HandOver)
        });
        self.succession.send_replace(Succession::Former { ends_at });
    }

    /// Returns when this process has handed over and its last session has ended, or its time is
    /// over.
    pub(in crate::app) async fn outlive(&self) {
        let mut succession = self.succession.subscribe();
        let ends_at = loop {
            match *succession.borrow_and_update() {
                Succession::Serving | Succession::HandingOver => {}
                Succession::Former { ends_at } => break ends_at,
            }
            // The sender lives as long as the app.
            if succession.changed().await.is_err() {
                return;
            }
        };
        let sessions = self.sessions_tasks.tracker();
        sessions.close();
        let late = async {
            match ends_at {
                Some(at) => tokio::time::sleep_until(at.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = sessions.wait() => tracing::info!("the last session has ended"),
            () = late => tracing::warn!(sessions = self.sessions.len(), "--old-for is over"),
        }
    }
}

fn heard<T>(heard: io::Result<Option<T>>) -> Result<T, Broken> {
    match heard {
        Ok(Some(heard)) => Ok(heard),
        Ok(None) => Err(Broken::Gone("it ended".into())),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            Err(Broken::Refused(format!("it is not understood: {error}")))
        }
        Err(error) if error.kind() == io::ErrorKind::TimedOut => {
            Err(Broken::Refused("it took too long".into()))
        }
        Err(error) => Err(error.into()),
    }
}
