//! One client, the relay of its session, and the server at the other end.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use pgdrain::gate::mode::Mode;
use pgdrain::gate::{Gate, Gates};
use pgdrain::session::registry::{Activity, Session, Sessions};
use pgdrain::session::relay::End;

use crate::inside::Turn;
use crate::model::client::Client;
use crate::model::pipe::Pipe;
use crate::model::script::Act;
use crate::model::server::Server;
use crate::model::take_message;
use crate::model::told::{check_read, check_refused, check_told, is_of_proxy, is_ours, messages};

/// What a socket takes that nobody reads from. Short, so that the relay has to keep some.
pub(crate) const ROOM: usize = 200;

/// Whether a relay was woken since its last poll. Every poll comes with another waker, as polls of
/// a task that moves do, and those of before wake nobody any more.
#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A relay at work.
type Running = Pin<Box<dyn Future<Output = End>>>;

pub(crate) struct Conn {
    pub(crate) database: &'static str,
    pub(crate) session: Arc<Session>,
    gates: Arc<Gates>,
    sessions: Arc<Sessions>,
    client: Client,
    near: Pipe,
    relay: Option<Running>,
    woken: Arc<Woken>,
    far: Pipe,
    server: Server,
    /// How much of the client's bytes came to the proxy.
    delivered: usize,
    /// All that the server was sent, and all that it sent.
    server_got: Vec<u8>,
    server_said: Vec<u8>,
    /// Where in that the next message begins, and how often it was ReadyForQuery.
    understood: usize,
    readies: usize,
    /// The client's end was seen by the proxy.
    vanished: bool,
    /// The session was told to end, or lost its server.
    pub(crate) cut_off: bool,
    /// No more than so many messages may be started.
    started_at_most: Option<usize>,
    /// A message that was cancelled before it was started.
    cancelled: Option<Vec<u8>>,
    was_asked_to_cancel: bool,
    /// Its transaction was aborted in place, and its end has not been seen.
    aborted: bool,
    /// How much the proxy had read of it and passed on when it came to be held, or the gate changed
    /// for the last time.
    held: Option<(Turn, usize, usize)>,
}

impl Conn {
    pub(crate) fn new(
        database: &'static str,
        (near, far): (Pipe, Pipe),
        (session, sessions): (Arc<Session>, Arc<Sessions>),
        gates: Arc<Gates>,
        relay: Running,
    ) -> Self {
        Self {
            database,
            session,
            gates,
            sessions,
            client: Client::new(),
            near,
            relay: Some(relay),
            woken: Arc::new(Woken(AtomicBool::new(true))),
            far,
            server: Server::new(),
            delivered: 0,
            server_got: Vec::new(),
            server_said: Vec::new(),
            understood: 0,
            readies: 0,
            vanished: false,
            cut_off: false,
            started_at_most: None,
            cancelled: None,
            was_asked_to_cancel: false,
            aborted: false,
            held: None,
        }
    }

    /// The gate of its database.
    fn gate(&self) -> Arc<Gate> {
        match self.session.held_by_holds {
            true => self.gates.of(self.database),
            false => self.gates.unheld(),
        }
    }

    /// Whether it is one of those that this gate is for.
    pub(crate) fn goes_through(&self, gate: &Gate) -> bool {
        let held = self.session.held_by_holds && gate.database() == self.database;
        held && gate.scope().fits(self.session.who())
    }

    /// Whether all gates that it goes through are open to anybody.
    fn stands_open(&self) -> bool {
        let narrow = self.gates.narrow(self.database);
        self.gate().is_open() && !narrow.iter().any(|gate| self.goes_through(gate))
    }

    /// Whether a hold is on it.
    fn is_stopped(&self) -> bool {
        let narrow = self.gates.narrow(self.database);
        self.gate().holds().0 == Mode::Hold || narrow.iter().any(|gate| self.goes_through(gate))
    }

    /// Whether it waits for others alone: no hold is on it, and there is room for another transaction.
    fn is_forgotten(&self) -> bool {
        let gate = self.gate();
        let cap = gate.capped().map_or(u32::MAX, |cap| cap.spec.transactions);
        gate.permits() < cap && !self.is_stopped()
    }

    pub(crate) fn is_over(&self) -> bool {
        self.relay.is_none()
    }

    /// Nobody looks at what is left of it.
    pub(crate) fn may_go(&self) -> bool {
        self.server.lost
    }

    pub(crate) fn is_held(&self) -> bool {
        !self.is_over() && self.session.activity() == Activity::Held
    }

    /// The client does these things, as soon as it does not wait.
    pub(crate) fn shall(&mut self, acts: Vec<Act>) {
        for act in acts {
            self.client.shall(act);
        }
    }

    /// Polls the relay if somebody has woken it; true when it was.
    pub(crate) fn poll(&mut self) -> bool {
        if !self.woken.0.load(Ordering::Relaxed) {
            return false;
        }
        let Some(relay) = &mut self.relay else {
            return false;
        };
        self.woken = Arc::default();
        let waker = Waker::from(Arc::clone(&self.woken));
        if let Poll::Ready(end) = relay.as_mut().poll(&mut Context::from_waker(&waker)) {
            // Dropping it gives its permit back.
            self.relay = None;
            self.sessions
                .remove(&self.session, end == End::ServerClosed);
            self.session.leave_window();
        }
        true
    }

    /// So many of the client's bytes come to the proxy; true when there were some.
    pub(crate) fn forward(&mut self, bytes: usize) -> bool {
        let bytes = bytes.min(self.client.outbox.len());
        if self.vanished {
            return false;
        }
        if bytes > 0 {
            let bytes: Vec<u8> = self.client.outbox.drain(..bytes).collect();
            self.delivered += bytes.len();
            self.near.deliver(&bytes);
        } else if self.client.has_left {
            self.vanish();
        }
        bytes > 0
    }

    /// The server takes what arrived and reads so many messages.
    pub(crate) fn serve(&mut self, count: usize) -> bool {
        let arrived = self.far.take(usize::MAX);
        self.server_got.extend_from_slice(&arrived);
        self.server.unread.extend_from_slice(&arrived);
        let read = (0..count).take_while(|_| self.server.read()).count();
        if count > read && (self.far.is_shut() || self.is_over()) {
            // The end of the stream, behind all that was read.
            self.server.lost = true;
        }
        !arrived.is_empty() || read > 0
    }

    /// The server's bytes come to the proxy, and as many come to the client.
    pub(crate) fn answer(&mut self, bytes: usize) -> bool {
        let told = bytes.min(self.server.says.len());
        let said: Vec<u8> = self.server.says.drain(..told).collect();
        if told > 0 {
            self.server_said.extend_from_slice(&said);
            self.understand();
            self.far.deliver(&said);
        } else if self.server.lost {
            self.far.end();
        }
        let received = self.near.take(bytes);
        self.client.receive(&received);
        self.client.act();
        if self.near.is_shut() && !self.vanished {
            // Who reads the end of its connection closes its own side.
            self.client.has_left = true;
            self.near.end();
            self.vanished = true;
        }
        told > 0 || !received.is_empty()
    }

    fn understand(&mut self) {
        let mut rest = &self.server_said[self.understood..];
        while let Some((tag, _)) = take_message(&mut rest) {
            self.readies += usize::from(tag == b'Z');
        }
        self.understood = self.server_said.len() - rest.len();
    }

    /// The client is gone, with what it had not sent. What is held of it must not be started.
    pub(crate) fn vanish(&mut self) {
        if self.vanished {
            return;
        }
        self.client.has_left = true;
        self.client.outbox.clear();
        self.vanished = true;
        if self.is_held() && !self.was_asked_to_cancel {
            self.started_at_most = Some(started(&self.passed_on()));
        }
        self.near.end();
    }

    /// Asks for a cancel; what is held now must not be started.
    pub(crate) fn cancel(&mut self) {
        if self.is_held() {
            // What it pipelined behind that statement was not held yet, and may go on in this instant.
            self.was_asked_to_cancel = true;
            self.started_at_most = None;
        }
        if self.is_held()
            && !self.was_refused()
            && !self.was_meddled_with()
            && self.near.written().is_empty()
        {
            let passed_on = self.passed_on();
            let next = messages(&self.client.wrote[passed_on.len()..]);
            let first = next.first().map(|(tag, body)| [&[*tag], *body].concat());
            let whole = messages(&passed_on);
            let whole: usize = whole.iter().map(|(_, body)| body.len() + 5).sum();
            if whole == passed_on.len() {
                self.cancelled = first;
            }
        }
        drop(self.session.request_cancel());
    }

    /// The server ends the connection.
    pub(crate) fn lose_server(&mut self) {
        self.cut_off = true;
        self.server.lost = true;
        self.far.end();
    }

    /// The process died: both ends see the end, and the server does what it was sent.
    pub(crate) fn crash(&mut self) {
        self.relay = None;
        self.serve(usize::MAX);
        self.check_bytes();
    }

    /// Whether the client has read of a refusal.
    fn was_refused(&self) -> bool {
        messages(&self.client.read).into_iter().any(is_ours)
    }

    /// Whether a drain has put messages between the client's, or answered in the server's place.
    fn was_meddled_with(&self) -> bool {
        let session = &self.session;
        session.aborted_for().is_some()
            || session.freed_for().is_some()
            || messages(&self.server_got).into_iter().any(is_of_proxy)
    }

    fn passed_on(&self) -> Vec<u8> {
        [self.server_got.as_slice(), &self.far.written()].concat()
    }

    /// Whether the server is at work for it or about to be, as long as the proxy watches it.
    pub(crate) fn is_busy(&self) -> bool {
        if self.server.lost || self.is_over() || self.aborted {
            return false;
        }
        let quiescent = self.server.is_quiescent_behind(&self.far.written());
        !quiescent || self.server.readies != self.readies
    }

    /// Whether the count of its permits follows from what it sent: see the known edge of a Sync in the
    /// data of a COPY that fails.
    pub(crate) fn is_countable(&self) -> bool {
        self.client.orderly && !self.server.lost && !self.was_meddled_with()
    }

    /// What it came to since the last look.
    pub(crate) fn look(&mut self) {
        let waits = self.server.is_quiescent() && self.server.readies == self.readies;
        self.aborted = self.server.aborted || (self.aborted && !waits);
    }

    /// What must hold after every step.
    pub(crate) fn check(&mut self, kept_max: usize) {
        if let Some(most) = self.started_at_most {
            let started = started(&self.passed_on());
            assert!(started <= most, "started after its client left");
        }
        if let Some(cancelled) = &self.cancelled {
            let passed_on = self.passed_on();
            let mut passed_on = messages(&passed_on).into_iter();
            let is = |(tag, body): (u8, &[u8])| [&[tag], body].concat() == *cancelled;
            assert!(!passed_on.any(is), "started after it was cancelled");
        }
        let seen_all = self.near.written().is_empty();
        if !self.is_stopped()
            || !self.is_held()
            || !seen_all
            || self.was_refused()
            || self.was_meddled_with()
        {
            // Whose turn has come at a paced gate reads on, which cannot be seen from outside. Of what was refused nobody knows from outside how much was thrown away already.
            self.held = None;
            return;
        }
        let read = self.delivered - self.near.unread();
        let written = self.server_got.len() + self.far.written().len();
        let turn = Turn::of(&self.gate(), &self.gates.narrow(self.database));
        // While the gate was open, it may have read more.
        self.held = self.held.take().filter(|(then, ..)| *then == turn);
        let held = self.held.get_or_insert((turn, read, written));
        let (read_then, written_then) = (held.1, held.2);
        let kept = (read - read_then).saturating_sub(written - written_then);
        assert!(kept <= kept_max, "{kept} bytes are kept of a held client");
    }

    /// What must hold when nobody has anything left to do: it does not wait longer than it may, nor
    /// at an open gate.
    pub(crate) fn check_at_rest(&self, wait_max: Duration) {
        if self.is_held() {
            assert!(!self.stands_open(), "it waits at an open gate");
            assert!(!self.is_forgotten(), "it waits although there is room");
            let waits = self.session.held_for().unwrap_or_default();
            assert!(waits <= wait_max, "it is held for {waits:?}");
        }
        self.check_bytes();
        if self.is_over()
            || self.cut_off
            || self.vanished
            || self.server.lost
            || self.was_meddled_with()
        {
            return;
        }
        let (wrote, got) = (&self.client.wrote, &self.server_got);
        check_told(wrote, got, &self.client.read);
        assert!(self.woken.0.load(Ordering::Relaxed) || self.client.outbox.is_empty());
        if self.stands_open() && !self.was_refused() {
            // Open is transparent.
            assert!(got == wrote, "not all was sent on: {self:?}");
            let read = self.client.read == self.server_said;
            assert!(read, "not all was read: {self:?}");
        }
    }

    /// Whether something of it is still to be sent on although nothing is in its way.
    pub(crate) fn lags(&self) -> bool {
        let all = match self.was_meddled_with() {
            true => !self.is_held(),
            false => self.server_got.len() == self.client.wrote.len(),
        };
        !self.is_over() && !self.vanished && self.is_forgotten() && !all
    }

    /// In order, and each at most once.
    fn check_bytes(&self) {
        check_refused(&self.client.wrote, &self.server_got);
        check_read(&self.server_said, &self.client.read);
    }
}

/// How many messages are whole that a server does something for: not the proxy's own, nor the data of a
/// COPY, which it ignores where none is under way.
fn started(bytes: &[u8]) -> usize {
    let whole = messages(bytes).into_iter();
    let ours = |message: &(u8, &[u8])| message.1.is_empty() || is_of_proxy(*message);
    let idle = |message: &(u8, &[u8])| b"dcfH".contains(&message.0);
    whole
        .filter(|message| !ours(message) && !idle(message))
        .count()
}

impl std::fmt::Debug for Conn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let activity = self.session.activity();
        write!(f, "{activity:?} in {}: {:?}", self.database, self.server)
    }
}
