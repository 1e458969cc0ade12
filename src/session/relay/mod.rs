//! The pump between one client and its server.
//!
//! ```text
//!                 gate closed            admitted
//!      Flowing ───────────────► Held ───────────────► Flowing
//!         ▲                       │ deadline, cancel, reject
//!         │    end of the unit    ▼
//!         └────────────────── Discarding
//!
//!      Flowing ── its idle transaction is aborted in place ──► Aborted ──► Flowing, Held
//!      any ── the client ends, or is dismissed ──► Leaving ──┐
//!      any ── the server ends ──► Closing ◄──────────────────┘
//! ```
//!
//! One task polls both sockets. Bytes go from one to the other through a scratch buffer that the
//! sessions of a thread share; only what a socket did not take, and what a closed gate keeps back,
//! is stored with the session.

mod abort;
mod again;
mod ask;
mod away;
mod backlog;
mod besides;
mod deferred;
mod door;
mod down;
mod enforce;
mod guarded;
mod held;
mod inject;
mod late;
mod leaving;
mod stalled;
mod stuck;
mod up;

use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll, Waker};

use bytes::BytesMut;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::sync::oneshot;
use tokio::time::Sleep;

use self::abort::Aborted;
use self::again::Again;
use self::away::Away;
use self::backlog::Backlog;
use self::door::{GateDoor, Life};
use self::enforce::Unsettled;
use self::guarded::Guard;
use self::held::Held;
use self::inject::Injection;
use self::leaving::{Leaving, Remains};
use self::stalled::Stalled;
use self::stuck::Unread;
use super::measure::Listener;
use super::registry::{Activity, Running, Session, Signals};
use super::scan::{ClientScan, Discard, Door, ServerScan};
use super::transaction::Tracker;
use crate::config::Config;
use crate::gate::Gate;
use crate::metrics::Metrics;
use crate::server::cancel::{Cancels, Sent};
use crate::tasks::Tasks;
use crate::tls::stream::Socket;
use crate::wire::refusal::Refusal;

/// What one read takes at most where it goes straight on. It matters for bulk data alone (see
/// `docs/PERFORMANCE.md`). A peer that does not read leaves no more in our memory than that, little
/// beside what the kernel keeps for it.
const SCRATCH: usize = 256 * 1024;

/// What one read takes at most where it may have to be kept, and what is kept at most.
const KEPT_MAX: usize = 64 * 1024;

/// So often one direction is read before the other is looked at.
const IN_A_ROW: usize = 8;

thread_local! {
    static SHARED: RefCell<Box<[u8]>> = RefCell::new(vec![0; SCRATCH].into_boxed_slice());
}

/// What every relay of the process has in common.
#[derive(Debug)]
pub struct Common {
    /// Where cancel requests run.
    pub tasks: Tasks,
    /// How they get to servers.
    pub cancels: Cancels,
    /// Where refusals are counted.
    pub metrics: Arc<Metrics>,
}

/// How a relay ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The server closed its connection.
    ServerClosed,
    /// The server's end was waited for in vain, or not at all: its backend may still run.
    ServerLeft,
}

/// See the drawing above.
#[derive(Debug)]
enum Phase {
    Flowing,
    Held(Box<Held>),
    /// What the client sends is thrown away up to an end.
    Discarding(Discard, Then),
    Aborted(Box<Aborted>),
    Leaving(Box<Leaving>),
    /// Until then the client may read what is left; how the server ended.
    Closing(Pin<Box<Sleep>>, End),
}

/// What follows when all is thrown away that was to be.
#[derive(Debug)]
enum Then {
    /// The unit was refused: the client is owed a `ReadyForQuery`.
    Ready,
    /// It was nothing that is answered.
    Resume(Box<Aborted>),
}

/// A cancel request on its way to the server.
#[derive(Debug)]
struct Cancelling {
    running: Running,
    /// Dropped, which tells them, when the server has acted.
    waiting: Mutex<Vec<oneshot::Sender<()>>>,
}

/// What one look at one direction came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// Nothing to do until somebody wakes us.
    Stuck,
    /// Something changed; look again.
    Moved,
    /// The session is over.
    End(End),
}

/// A logged-in session between its two sockets.
#[derive(Debug)]
pub struct Relay<C, S> {
    client: C,
    server: S,
    session: Arc<Session>,
    /// As it was at login: a session keeps its settings.
    config: Arc<Config>,
    common: Arc<Common>,
    door: GateDoor,
    tracker: Tracker,
    client_scan: ClientScan,
    server_scan: ServerScan,
    to_client: Backlog,
    to_server: Backlog,
    /// What the client sent and a closed gate, or an unanswered unit, keeps from going on.
    kept: Vec<u8>,
    /// Messages of ours that wait for a place between the server's.
    ours: Vec<u8>,
    phase: Phase,
    /// Messages of ours that the server has not answered to their end.
    injection: Option<Box<Injection>>,
    /// While not every transaction may start, what is known of the client's conversation.
    guard: Option<Box<Guard>>,
    /// The last of them may have left a statement of ours behind.
    left_behind: bool,
    /// When it did not do as it was told.
    unsettled: Option<Box<Unsettled>>,
    /// The batch that the server is at, if it may have to be sent again.
    again: Option<Box<Again>>,
    /// The cancel request that is on its way to the server, if one is.
    cancelling: Weak<Cancelling>,
    /// Since when the client takes nothing.
    stalled: Option<Box<Stalled>>,
    /// What the client left untaken when a drain last asked.
    unread: Option<Unread>,
    /// When a client that is not read is looked at next.
    look: Option<Pin<Box<Sleep>>>,
    waker: Option<Waker>,
    /// How its reads get to a standby, if they may.
    away: Option<Box<Away<S>>>,
    /// While statements are measured, who hears them.
    listener: Option<Box<Listener>>,
}

impl<C: Socket, S: Socket> Relay<C, S> {
    /// A session at its first boundary. What the client sent ahead of it, and what it is still to be
    /// sent, come first.
    pub fn new(
        (client, from_client): (C, BytesMut),
        (server, for_client): (S, BytesMut),
        session: Arc<Session>,
        (gate, narrow): (Arc<Gate>, Vec<Arc<Gate>>),
        config: Arc<Config>,
        common: Arc<Common>,
    ) -> Relay<C, S> {
        let mut tracker = Tracker::default();
        let mut server_scan = ServerScan::default();
        let mut to_client = Backlog::default();
        let read = server_scan.read(&mut tracker, &for_client);
        let good = read.map_or_else(|nonsense| nonsense.after, |_seen| for_client.len());
        to_client.push(&for_client[..good]);
        let mut relay = Relay {
            client,
            server,
            session,
            config,
            common,
            door: GateDoor::new(gate, narrow),
            tracker,
            client_scan: ClientScan::default(),
            server_scan,
            to_client,
            to_server: Backlog::default(),
            kept: from_client.to_vec(),
            ours: Vec::new(),
            phase: Phase::Flowing,
            injection: None,
            left_behind: false,
            guard: None,
            unsettled: None,
            again: None,
            cancelling: Weak::new(),
            stalled: None,
            unread: None,
            look: None,
            waker: None,
            away: None,
            listener: None,
        };
        if let Err(nonsense) = read {
            relay.server_misbehaved(nonsense.bad);
        }
        relay
    }

    /// Relays until one side has ended and the other knows.
    ///
    /// Dropping the future gives the permit back and closes both sockets; the server may still run
    /// what it was sent.
    pub async fn run(mut self) -> End {
        poll_fn(|cx| self.poll(cx)).await
    }

    /// One step of [`Relay::run`].
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        self.register(cx);
        loop {
            self.obey();
            let down = self.poll_on(cx, Self::poll_down);
            if self.away.is_some() {
                self.come_home();
            }
            let up = if matches!(down, Step::End(_)) {
                Step::Stuck
            } else {
                self.poll_on(cx, Self::poll_up)
            };
            match (down, up) {
                (Step::End(end), _) | (_, Step::End(end)) => return Poll::Ready(end),
                (Step::Moved, _) | (_, Step::Moved) => {}
                (Step::Stuck, Step::Stuck) => return Poll::Pending,
            }
        }
    }

    /// Polls one direction until it is stuck, as long as its bytes are nothing to the other, which then
    /// need not be looked at again; but not for long, since the other may wait.
    #[inline]
    fn poll_on(
        &mut self,
        cx: &mut Context<'_>,
        poll: impl Fn(&mut Self, &mut Context<'_>) -> Step,
    ) -> Step {
        let mut step = poll(self, cx);
        for _ in 1..IN_A_ROW {
            if step != Step::Moved || !self.flows_freely() {
                break;
            }
            step = poll(self, cx);
        }
        step
    }

    /// Whether both directions pass on what they read and nothing else is going on.
    #[inline]
    fn flows_freely(&self) -> bool {
        matches!(self.phase, Phase::Flowing)
            && self.door.life == Life::Serving
            && self.to_client.is_empty()
            && self.to_server.is_empty()
            && self.kept.is_empty()
            && self.ours.is_empty()
            && self.injection.is_none()
            && self.guard.is_none()
            && self.door.enforced.is_none()
            && self.again.is_none()
            && self.away.is_none()
            && !self.client.has_unsent()
            && !self.server.has_unsent()
            && !self.session.has_signals()
    }

    /// Lets signals wake this task. A task's waker hardly ever changes, and registering costs.
    fn register(&mut self, cx: &Context<'_>) {
        if !self
            .waker
            .as_ref()
            .is_some_and(|waker| waker.will_wake(cx.waker()))
        {
            self.session.wake_with(cx.waker());
            self.waker = Some(cx.waker().clone());
        }
    }

    /// Does what others want of this session.
    #[inline]
    fn obey(&mut self) {
        let signals = self.session.take_signals();
        if !signals.is_empty() || self.door.life == Life::Stopping {
            self.obey_these(signals);
        }
    }

    #[cold]
    fn obey_these(&mut self, signals: Signals) {
        if signals.contains(Signals::ATTACH) {
            for presumed in self.session.take_attached() {
                self.door.attach(presumed);
            }
        }
        if signals.contains(Signals::READ_ONLY) {
            self.read_only_changed();
        }
        if signals.contains(Signals::SAY_ALONE) && self.tracker.runs_alone() {
            self.session.note_runs_alone();
        }
        if signals.contains(Signals::CANCEL) {
            self.cancel();
        }
        if signals.contains(Signals::CANCEL_RUNNING) && self.tracker.is_busy() {
            self.cancel_server(Vec::new());
        }
        if signals.contains(Signals::STUCK) {
            self.free_stuck();
        }
        if signals.contains(Signals::ABORT) && !self.door.is_open() {
            self.abort_in_place();
        }
        if signals.contains(Signals::ABORT_ANYWAY) {
            self.abort_in_place();
        }
        if signals.contains(Signals::STOP) {
            self.door.life = Life::Stopping;
        }
        if signals.contains(Signals::KILL) {
            self.dismiss(&Refusal::CutOff, Remains::Nothing);
        }
        if signals.contains(Signals::WINDOW_ENDED) {
            self.dismiss(&Refusal::WindowEnded, Remains::Nothing);
        }
        let unread = !self.to_client.is_empty() || self.client.has_unsent();
        if signals.contains(Signals::TERMINATED) && unread {
            // The end of the server lies behind what the client does not read.
            self.leave(Remains::Nothing);
        }
        if signals.contains(Signals::DISMISS) {
            if unread {
                // Last words would lie there too.
                self.leave(Remains::Nothing);
                self.cancel_at_once();
            } else {
                self.dismiss(&Refusal::Terminated, Remains::Nothing);
            }
        }
        // A stream of changes has no boundary, and whoever reads it takes it up where it ended.
        let may_end =
            self.tracker.at_boundary() || self.tracker.streams_both_ways() || self.is_aborted();
        if self.door.life == Life::Stopping && !self.door.has_permit() && may_end {
            let waits = !self.kept.is_empty() || matches!(self.phase, Phase::Held(_));
            let refusal = if waits {
                Refusal::HeldShuttingDown
            } else {
                Refusal::ShuttingDown
            };
            self.dismiss(&refusal, Remains::HalfOpen);
        }
    }

    /// A cancel request for this session: a held statement is answered by us, a running one by the
    /// server, and one that came too late is dropped.
    fn cancel(&mut self) {
        let waiting = self.session.take_cancels();
        if matches!(self.phase, Phase::Held(_)) {
            self.refuse(&Refusal::HeldCancelled);
        } else if self.tracker.is_busy() {
            self.cancel_server(waiting);
        }
    }

    /// Sends the server a cancel request; whoever waits for it is told when it has acted.
    /// Several requests for one statement are one.
    fn cancel_server(&mut self, waiting: Vec<oneshot::Sender<()>>) {
        let running = self.session.running();
        if let Some(under_way) = self.cancelling.upgrade()
            && under_way.running == running
        {
            let all = under_way.waiting.lock();
            all.unwrap_or_else(PoisonError::into_inner).extend(waiting);
            return;
        }
        let under_way = Arc::new(Cancelling {
            running,
            waiting: Mutex::new(waiting),
        });
        self.cancelling = Arc::downgrade(&under_way);
        let (session, common) = (Arc::clone(&self.session), Arc::clone(&self.common));
        let standby = self.standby_key();
        self.common.tasks.spawn("cancel request", async move {
            let (route, key) = match &standby {
                Some((route, key)) => (route, key),
                None => (&session.route, &session.server_key),
            };
            let Some(key) = key else {
                return;
            };
            let still_runs = || session.still_runs(under_way.running);
            let sent = common.cancels.send(route, key, still_runs);
            match sent.await {
                Ok(Sent::Yes) => {}
                Ok(Sent::Needless) => {
                    tracing::debug!(session = session.id.0, "cancel request came too late");
                }
                Err(error) => {
                    tracing::warn!(session = session.id.0, %error, "cancel request failed");
                }
            }
        });
    }

    /// Notes what the session does, from what its transaction is at.
    #[inline]
    fn note_activity(&self) {
        let activity = if self.tracker.is_busy() {
            Activity::Active
        } else if self.door.has_permit() {
            Activity::InTransaction
        } else if self.is_aborted() {
            Activity::Aborted
        } else if self.has_deferred() {
            Activity::Deferred
        } else {
            Activity::Idle
        };
        self.session.set_activity(activity);
    }
}

/// Reads once from a socket into the scratch of this thread, at most `limit` bytes, and hands over
/// what came; `Ok(empty)` is the end of the stream.
#[inline]
fn read_scratch<T>(
    socket: &mut (impl AsyncRead + Unpin),
    cx: &mut Context<'_>,
    limit: usize,
    then: impl FnOnce(&[u8], &mut Context<'_>) -> T,
) -> Poll<std::io::Result<T>> {
    SHARED.with_borrow_mut(|scratch| {
        let limit = limit.min(scratch.len());
        let mut buffer = ReadBuf::new(&mut scratch[..limit]);
        std::task::ready!(Pin::new(socket).poll_read(cx, &mut buffer))?;
        Poll::Ready(Ok(then(buffer.filled(), cx)))
    })
}
