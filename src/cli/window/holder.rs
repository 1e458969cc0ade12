//! Holding a window: asked for, waited for, renewed, watched, and ended.

use std::time::Duration;

use hyper::Method;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, sleep};

use super::{Wanted, command};
use crate::admin::types::{After, Stage, Status, Why, WindowTaken, WindowView};
use crate::cli::client::{Client, ClientError, Patience, path};
use crate::cli::demo::cluster::process::Signal;
use crate::cli::exit::Exit;
use crate::cli::output::{note, plain};

/// How long one request waits for news.
const WAIT: &str = "5s";

/// The pause before a request is tried again.
const PAUSE: Duration = Duration::from_millis(300);

/// How often nobody may answer at the admin address before pgdrain counts as gone.
const TRIES: u32 = 5;

/// How long the end of a window is waited for.
const END_TIME: Duration = Duration::from_secs(60);

/// A window that is exclusive, and ours.
pub(super) struct Holder {
    client: Client,
    lease: Duration,
    /// What a connection sets `pgdrain.window` to.
    pub(super) key: String,
    /// As it was last seen.
    pub(super) view: WindowView,
}

/// Why there is none.
pub(super) enum NoWindow {
    /// It was not granted; everybody has been told.
    NotGranted,
    /// A signal came first.
    Interrupted(Signal),
}

impl NoWindow {
    pub(super) fn exit(&self) -> Exit {
        match self {
            Self::NotGranted => Exit::NOT_GRANTED,
            Self::Interrupted(Signal::Terminate) => Exit::TERMINATED,
            Self::Interrupted(Signal::Hangup) => Exit::HUNG_UP,
            Self::Interrupted(_) => Exit::INTERRUPTED,
        }
    }
}

impl Holder {
    /// Asks for a window and waits until it is exclusive. What is in the way is told.
    ///
    /// # Errors
    /// When pgdrain cannot be asked.
    pub(super) async fn open(
        client: Client,
        database: &str,
        wanted: &Wanted,
        signals: &mut Signals,
    ) -> anyhow::Result<Result<Holder, NoWindow>> {
        let path = path(&["v1", "databases", database, "windows"]);
        let order = wanted.order();
        let sent = client.send(Method::POST, &path, &order, Patience::Short);
        let taken: WindowTaken = match sent.await {
            Ok(taken) => taken,
            Err(error) if ["busy", "too_many"].iter().any(|code| error.has_code(code)) => {
                note(&format!("error: {error}"));
                return Ok(Err(NoWindow::NotGranted));
            }
            Err(error) => return Err(error.into()),
        };
        let mut holder = Holder {
            client,
            lease: wanted.lease.into(),
            key: taken.key.unwrap_or_default(),
            view: taken.window,
        };
        let granted = tokio::select! {
            granted = holder.granted() => granted?,
            signal = signals.next() => {
                holder.end("abort", None).await;
                return Ok(Err(NoWindow::Interrupted(signal)));
            }
        };
        if granted {
            return Ok(Ok(holder));
        }
        note(&format!("error: {}", holder.why()));
        Ok(Err(NoWindow::NotGranted))
    }

    /// Waits until it is exclusive, or over.
    async fn granted(&mut self) -> Result<bool, ClientError> {
        let mut told = None;
        let mut renewed = Instant::now();
        loop {
            match self.view.state {
                Stage::Exclusive => return Ok(true),
                Stage::Ending | Stage::Closed => return Ok(false),
                Stage::Queued | Stage::Capped | Stage::ReadOnly | Stage::Draining => {}
            }
            let news = progress(&self.view);
            if told.as_ref() != Some(&news) {
                note(&news);
                told = Some(news);
            }
            let wait = (self.lease / 3).min(Duration::from_secs(5));
            self.view = self.news(wait).await?;
            if renewed.elapsed() >= self.lease / 3 {
                renewed = Instant::now();
                // What became of it is seen in the next piece of news.
                let _ = self.renew().await;
            }
        }
    }

    /// News behind what was seen, or how it stands when none came.
    async fn news(&self, wait: Duration) -> Result<WindowView, ClientError> {
        let WindowView { id, seq, .. } = &self.view;
        let path =
            path(&["v1", "windows", id]) + &format!("?after={seq}&wait={}ms", wait.as_millis());
        self.client.get(&path).await
    }

    async fn renew(&self) -> Result<WindowView, ClientError> {
        command(&self.client, &self.view.id, "renew", (self.view.term, None)).await
    }

    /// Keeps the lease alive; returns, with the reason, when the window is lost. Cancel safe.
    pub(super) async fn lost(&self) -> String {
        tokio::select! {
            why = self.renewing() => why,
            why = self.watching() => why,
        }
    }

    async fn renewing(&self) -> String {
        let mut until = Instant::now() + self.lease;
        let mut pause = self.lease / 3;
        loop {
            sleep(pause).await;
            let asked = Instant::now();
            match self.renew().await {
                Ok(_) => {
                    until = asked + self.lease;
                    pause = self.lease / 3;
                }
                Err(error) if error.is_no_answer() && Instant::now() < until => {
                    pause = PAUSE.min(self.lease / 3);
                }
                Err(error) => return format!("it was not renewed: {error}"),
            }
        }
    }

    async fn watching(&self) -> String {
        let mut nobody = 0;
        let mut seq = self.view.seq;
        loop {
            let path =
                path(&["v1", "windows", &self.view.id]) + &format!("?after={seq}&wait={WAIT}");
            match self.client.get::<WindowView>(&path).await {
                Ok(view) if view.state == Stage::Exclusive => (nobody, seq) = (0, view.seq),
                Ok(view) => return why(&view),
                // A connection that is refused or broken: it is gone, or about to be.
                Err(error) if error.is_no_answer() && nobody < TRIES => {
                    nobody += 1;
                    sleep(PAUSE).await;
                }
                Err(error) => return error.to_string(),
            }
        }
    }

    /// What the work needs to begin; without it the window is finished, since nothing was done in it.
    pub(super) async fn unless_failed<T>(&self, begun: anyhow::Result<T>) -> anyhow::Result<T> {
        if begun.is_err() {
            self.end("finish", None).await;
        }
        begun
    }

    /// Ends the window and waits until traffic is as it was agreed; false, and everybody is told,
    /// when it had ended before or its end was not seen.
    pub(super) async fn end(&self, verb: &str, then: Option<After>) -> bool {
        let ended = async {
            let mut view =
                command(&self.client, &self.view.id, verb, (self.view.term, then)).await?;
            let begun = Instant::now();
            while view.state != Stage::Closed && begun.elapsed() < END_TIME {
                let path = path(&["v1", "windows", &view.id])
                    + &format!("?after={}&wait={WAIT}", view.seq);
                view = self.client.get(&path).await?;
            }
            Ok::<_, ClientError>(view)
        };
        match ended.await {
            Ok(view) if view.state == Stage::Closed => {
                if view.after == Some(After::Stay) {
                    note(&format!(
                        "traffic stays held: look, then `pgdrain open '{}'`",
                        view.database
                    ));
                }
                true
            }
            Ok(view) => {
                note(&format!(
                    "window {} is still {}: `pgdrain window list`",
                    view.id, view.state
                ));
                false
            }
            Err(error) => {
                note(&format!("error: window {}: {error}", self.view.id));
                false
            }
        }
    }

    fn why(&self) -> String {
        why(&self.view)
    }
}

/// Where clients of the proxy connect, the first place first.
pub(super) async fn listen(client: &Client) -> Result<Vec<String>, ClientError> {
    let status: Status = client.get(&path(&["v1", "status"])).await?;
    Ok(status.listen)
}

fn progress(view: &WindowView) -> String {
    let WindowView { id, database, .. } = view;
    match (view.state, view.position) {
        (Stage::Queued, Some(before)) if before > 0 => {
            format!(
                "window {id} of {}: waiting, {before} before it",
                plain(database)
            )
        }
        (Stage::Draining, _) => {
            let in_the_way = view
                .drain
                .as_ref()
                .map_or(0, |drain| drain.in_the_way.len());
            match in_the_way {
                0 => format!("window {id} of {}: draining", plain(database)),
                1 => format!(
                    "window {id} of {}: one session is in the way",
                    plain(database)
                ),
                many => format!(
                    "window {id} of {}: {many} sessions are in the way",
                    plain(database)
                ),
            }
        }
        (Stage::ReadOnly, _) => format!(
            "window {id} of {}: reads go on, writes wait",
            plain(database)
        ),
        (Stage::Queued | Stage::Capped | Stage::Exclusive | Stage::Ending | Stage::Closed, _) => {
            format!("window {id} of {}: {}", plain(database), view.state)
        }
    }
}

/// Why a window is no more, or never was.
fn why(view: &WindowView) -> String {
    let detail = view.detail.as_deref().map(plain);
    let why = match view.why {
        Some(Why::NotGranted) => "it was not granted",
        Some(Why::LeaseLost) => "it was not renewed in time",
        Some(Why::TimeOver) => "its time is over",
        Some(Why::Aborted) => "it was aborted",
        Some(Why::Finished) => "it was finished",
        Some(Why::Opened) => "traffic was opened by force",
        None => "it is no longer exclusive",
    };
    match detail {
        Some(detail) => format!("window {}: {why}: {detail}", view.id),
        None => format!("window {}: {why}", view.id),
    }
}

/// The signals that end a command, as they come.
pub(super) struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
    hangup: tokio::signal::unix::Signal,
}

impl Signals {
    /// From now on they end nothing by themselves.
    ///
    /// # Errors
    /// When the system refuses that.
    pub(super) fn install() -> std::io::Result<Signals> {
        Ok(Signals {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// The next one. Cancel safe.
    pub(super) async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.interrupt.recv() => Signal::Interrupt,
            _ = self.terminate.recv() => Signal::Terminate,
            _ = self.hangup.recv() => Signal::Hangup,
        }
    }
}
