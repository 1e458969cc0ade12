//! The process that takes over.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::net::UnixStream;

use super::talk::{Former, Hello, Newer, PROTOCOL, Talk};
use super::{AT_ONCE, GET_READY, socket};
use crate::app::App;
use crate::audit::{Event, Kind};
use crate::client::inherited::Inherited;
use crate::drain::report::millis;
use crate::window::generations::{Answer, FormerView, Question, ask, former_lives};
use crate::window::journal::{Journal, Record};

/// A former process that hands over to somebody else closes the door in between.
const AGAIN: Duration = Duration::from_millis(100);
const TRIES: u32 = 50;

/// How often the former process is looked at.
const LOOK: Duration = Duration::from_millis(500);

/// How long it may take to say how it is.
const PATIENCE: Duration = Duration::from_secs(2);

/// What there is to take over.
pub(in crate::app) enum Found {
    /// Nobody serves.
    Nobody,
    /// A process that is willing.
    Willing(Box<Taking>),
}

/// A hand-over that has begun; the sockets are here.
pub(in crate::app) struct Taking {
    talk: Talk,
    process: Process,
    lock: File,
    /// The listening sockets.
    pub(in crate::app) sockets: Inherited,
    /// Whether they are systemd's.
    pub(in crate::app) borrowed: bool,
}

/// The other process, whose number cannot become another's while it is held.
struct Process {
    pid: u32,
    handle: Option<OwnedFd>,
}

impl Process {
    fn of(stream: &UnixStream) -> Process {
        let pid = stream.peer_cred().ok().and_then(|cred| cred.pid());
        let of = pid.and_then(Pid::from_raw);
        Process {
            pid: pid.and_then(|pid| pid.try_into().ok()).unwrap_or(0),
            handle: of.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok()),
        }
    }

    /// Whether it has ended. One that cannot be looked at may live.
    fn has_ended(&self) -> bool {
        let Some(handle) = &self.handle else {
            return false;
        };
        let mut ended = [PollFd::new(handle, PollFlags::IN)];
        let now = rustix::event::Timespec::default();
        matches!(poll(&mut ended, Some(&now)), Ok(1..))
    }
}

impl Taking {
    /// Asks the process that serves with this state directory for its sockets.
    pub(in crate::app) async fn begin(
        state_dir: &Path,
        old_for: Option<Duration>,
    ) -> anyhow::Result<Found> {
        for _ in 0..TRIES {
            let stream = match UnixStream::connect(socket(state_dir)).await {
                Ok(stream) => stream,
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
                    ) =>
                {
                    return Ok(Found::Nobody);
                }
                // It died with us in its queue; the next try finds nobody.
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                    tokio::time::sleep(AGAIN).await;
                    continue;
                }
                Err(error) => return Err(error).context("asking the process that serves"),
            };
            let process = Process::of(&stream);
            let mut talk = Talk::new(stream);
            let hello = Hello {
                hand_over: PROTOCOL,
                version: env!("CARGO_PKG_VERSION").to_owned(),
                pid: std::process::id(),
                old_for_ms: old_for.map(millis),
            };
            // Who has gone does not answer either.
            let _ = talk.say(&hello).await;
            // It may be busy with another one.
            match talk.hear(2 * GET_READY).await? {
                Some(Former::Offer {
                    version,
                    names,
                    borrowed,
                }) => {
                    tracing::info!(pid = process.pid, version, sockets = ?names, "taking over");
                    let mut taking = Taking::with(talk, process, names)?;
                    taking.borrowed = borrowed;
                    return Ok(Found::Willing(Box::new(taking)));
                }
                Some(said) => bail!(refusal(process.pid, said)),
                None => tokio::time::sleep(AGAIN).await,
            }
        }
        bail!("the process that serves does not say whether it hands over")
    }

    fn with(mut talk: Talk, process: Process, names: Vec<String>) -> anyhow::Result<Taking> {
        let mut came = talk.sockets();
        let (lock, admin) = (came.pop_back(), came.pop_back());
        let (Some(lock), Some(admin), true) = (lock, admin, came.len() == names.len()) else {
            bail!("process {} did not send what it offered", process.pid);
        };
        let mut sockets = Inherited::default();
        for (name, socket) in names.into_iter().zip(came) {
            sockets.push(name, socket);
        }
        sockets.push("admin".into(), admin);
        Ok(Taking {
            talk,
            process,
            lock: lock.into(),
            sockets,
            borrowed: false,
        })
    }

    /// Everything that can fail has been done: takes the journal up. From here on the former
    /// process accepts nobody.
    pub(in crate::app) async fn journal(
        &mut self,
        state_dir: &Path,
    ) -> anyhow::Result<(Journal, Record)> {
        self.tell(&Newer::Ready).await;
        match self.hear().await? {
            Some(Former::Yours) => {}
            Some(said) => bail!(refusal(self.process.pid, said)),
            None => self.outlived().await?,
        }
        let lock = self.lock.try_clone().context("state directory")?;
        Journal::inherited(state_dir, lock).context("state directory")
    }

    /// Clients are accepted: the former process lets go.
    pub(in crate::app) async fn serving(mut self, app: &Arc<App>) -> anyhow::Result<()> {
        self.tell(&Newer::Serving).await;
        match self.hear().await {
            Ok(Some(Former::Over(standing))) => app.controller.keep_standing(&standing).await,
            Ok(Some(said)) => bail!(refusal(self.process.pid, said)),
            // Clients are here already. If it lives it accepts too, which harms nobody.
            Ok(None) | Err(_) => {
                tracing::error!(
                    pid = self.process.pid,
                    "the former process broke off at the end"
                );
            }
        }
        app.controller.audit().tell(Event {
            outcome: Some(format!("took over from process {}", self.process.pid)),
            ..Event::here(Kind::HandOver)
        });
        Ok(())
    }

    /// Who has gone is noticed when its answer is waited for.
    async fn tell(&mut self, what: &Newer) {
        let _ = self.talk.say(what).await;
    }

    async fn hear(&mut self) -> io::Result<Option<Former>> {
        self.talk.hear(GET_READY).await
    }

    /// The former process said nothing more. That is no harm if it has ended: the sockets and the
    /// lock are here.
    async fn outlived(&self) -> anyhow::Result<()> {
        let until = tokio::time::Instant::now() + AT_ONCE;
        while tokio::time::Instant::now() < until {
            if self.process.has_ended() {
                tracing::warn!(
                    pid = self.process.pid,
                    "it ended in the middle: going on alone"
                );
                return Ok(());
            }
            tokio::time::sleep(AGAIN).await;
        }
        bail!("process {} broke off the hand-over", self.process.pid)
    }
}

fn refusal(pid: u32, said: Former) -> String {
    match said {
        Former::Refused { why } => format!("process {pid} does not hand over: {why}"),
        said @ (Former::Offer { .. } | Former::Yours | Former::Over(_)) => {
            format!("process {pid} said what was not asked for: {said:?}")
        }
    }
}

impl App {
    /// Looks after the former process, if there is one: also one that another process took over
    /// from, and that outlived it.
    pub(in crate::app) async fn watch_former(self: &Arc<Self>) {
        let state_dir = self.config.load().state_dir.clone();
        if !lives(&state_dir) {
            return;
        }
        self.look_at_former(&state_dir).await;
        let (app, stop) = (Arc::clone(self), self.tasks.shutdown_token());
        self.tasks.spawn("former process", async move {
            while lives(&state_dir) {
                tokio::select! {
                    () = tokio::time::sleep(LOOK) => app.look_at_former(&state_dir).await,
                    () = stop.cancelled() => return,
                }
            }
            let pid = app
                .controller
                .generations()
                .former()
                .map_or(0, |former| former.pid);
            app.controller.generations().note(None);
            app.sessions.served_elsewhere(Vec::new());
            tracing::info!(pid, "the former process has ended");
            app.controller.audit().tell(Event {
                outcome: Some(format!("the former process {pid} has ended")),
                ..Event::here(Kind::HandOver)
            });
        });
    }

    async fn look_at_former(&self, state_dir: &Path) {
        let generations = self.controller.generations();
        match ask(state_dir, &Question::Status, PATIENCE).await {
            Ok(Answer::Status { former, backends }) => {
                generations.note(Some(former));
                self.sessions.served_elsewhere(backends);
            }
            Ok(other) => tracing::warn!(?other, "the former process answers something else"),
            // It is there all the same, and stands in the way.
            Err(error) if generations.former().is_none() => {
                tracing::warn!(%error, "the former process does not say how it is");
                generations.note(Some(FormerView::unknown()));
            }
            Err(error) => tracing::debug!(%error, "the former process does not say how it is"),
        }
    }
}

fn lives(state_dir: &Path) -> bool {
    former_lives(state_dir).unwrap_or_else(|error| {
        tracing::warn!(%error, "it is not known whether a former process lives");
        false
    })
}
