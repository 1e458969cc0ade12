//! The real relay and the real gate between a client and a server, in memory, by a clock that moves
//! when it is told to. The relay is polled only when somebody has woken it.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use bytes::BytesMut;
use pgdrain::config::{Blocked, Config, Then};
use pgdrain::gate::Gate;
use pgdrain::gate::mode::{HoldSpec, Holder};
use pgdrain::metrics::Metrics;
use pgdrain::session::registry::{Activity, Session, Signals};
use pgdrain::session::relay::{End, Relay};

use super::client::Client;
use super::parts::{self, Parts};
use super::pipe::Pipe;
use super::script::{Instruction, Signal, read};
use super::server::Server;
use super::take_message;
use super::told::{check_read, check_refused, check_told};

/// What a socket takes that nobody reads from. Short, so that the relay has to keep some.
const ROOM: usize = 100;

/// What is kept of a held client; so little that it shows.
const BYTES_PER_CLIENT: usize = 150;

/// More than any timer of the relay for a session that ends.
const LONG: Duration = Duration::from_secs(120);

#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A client, the proxy's session, and a server.
struct Relayed {
    client: Client,
    near: Pipe,
    relay: Pin<Box<dyn Future<Output = End>>>,
    ended: Option<End>,
    woken: Arc<Woken>,
    session: Arc<Session>,
    gate: Arc<Gate>,
    far: Pipe,
    server: Server,
    /// All that the server was sent, and all that it sent.
    server_got: Vec<u8>,
    server_said: Vec<u8>,
    /// Where in that the next message begins, and how often it was ReadyForQuery.
    understood: usize,
    readies: usize,
    /// Not everything has to arrive: something was refused, or the session was ended.
    refuses: bool,
    /// A drain ended what stood still: not every gap is told by an error of the proxy's.
    frees: bool,
    /// The script let time pass.
    waited: bool,
}

/// Plays a script and checks after every step that no transaction is without a permit; at the end,
/// that all bytes came through, or whoever was refused was told, and that the session ends.
///
/// # Panics
/// When one of them does not hold.
pub(crate) fn play(script: &[u8]) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime without sockets");
    runtime.block_on(async {
        let mut play = Relayed::new();
        for instruction in read(script) {
            play.step(instruction).await;
            play.check();
        }
        play.open();
        play.settle_in_time().await;
        play.check_bytes();
        play.check_end();
        play.close().await;
    });
}

fn config() -> Arc<Config> {
    static CONFIG: OnceLock<Arc<Config>> = OnceLock::new();
    let load = || {
        let mut config = parts::config();
        config.hold.bytes_per_client = BYTES_PER_CLIENT;
        Arc::new(config)
    };
    Arc::clone(CONFIG.get_or_init(load))
}

fn metrics() -> Arc<Metrics> {
    static METRICS: OnceLock<Arc<Metrics>> = OnceLock::new();
    Arc::clone(METRICS.get_or_init(|| Arc::new(Metrics::new())))
}

impl Relayed {
    fn new() -> Self {
        let (near, far) = (Pipe::new(ROOM), Pipe::new(ROOM));
        let Parts {
            session,
            gate,
            common,
        } = Parts::new(metrics());
        let relay = Relay::new(
            (near.clone(), BytesMut::new()),
            (far.clone(), BytesMut::new()),
            Arc::clone(&session),
            (Arc::clone(&gate), Vec::new()),
            config(),
            common,
        );
        Self {
            client: Client::new(),
            near,
            relay: Box::pin(relay.run()),
            ended: None,
            woken: Arc::new(Woken(AtomicBool::new(true))),
            session,
            gate,
            far,
            server: Server::new(),
            server_got: Vec::new(),
            server_said: Vec::new(),
            understood: 0,
            readies: 0,
            refuses: false,
            frees: false,
            waited: false,
        }
    }

    async fn step(&mut self, instruction: Instruction) {
        match instruction {
            Instruction::Client(act) => self.client.shall(act),
            Instruction::Forward(bytes) => {
                self.forward(bytes);
            }
            Instruction::Answer(bytes) => {
                self.answer(bytes);
            }
            Instruction::Read(messages) => {
                self.serve(messages);
            }
            Instruction::Settle => self.settle(),
            Instruction::Mention(tag) => self.server.mention(tag),
            Instruction::Hold(waits) => self.hold(waits, Duration::ZERO),
            Instruction::Stage => self.hold(true, Duration::from_secs(3600)),
            Instruction::ReadOnly => self.let_reads_in(),
            Instruction::Reset => {
                self.refuses = true;
                self.server.reset();
            }
            Instruction::Open => self.open(),
            Instruction::Pass(milliseconds) => {
                self.waited = true;
                self.refuses |= milliseconds > 1000 && !self.gate.is_open();
                tokio::time::advance(Duration::from_millis(milliseconds)).await;
            }
            Instruction::Signal(signal) => self.signal(signal),
            Instruction::Collect => {
                self.near.collect();
                self.far.collect();
            }
        }
        self.poll_relay();
    }

    fn poll_relay(&mut self) {
        while self.ended.is_none() && self.woken.0.swap(false, Ordering::Relaxed) {
            let waker = Waker::from(Arc::clone(&self.woken));
            if let Poll::Ready(end) = self.relay.as_mut().poll(&mut Context::from_waker(&waker)) {
                self.ended = Some(end);
            }
        }
    }

    fn forward(&mut self, bytes: usize) -> bool {
        let bytes = bytes.min(self.client.outbox.len());
        if bytes > 0 {
            let bytes: Vec<u8> = self.client.outbox.drain(..bytes).collect();
            self.near.deliver(&bytes);
        } else if self.client.has_left {
            self.near.end();
        }
        self.poll_relay();
        bytes > 0
    }

    fn serve(&mut self, messages: usize) -> bool {
        let arrived = self.far.take(usize::MAX);
        self.server_got.extend_from_slice(&arrived);
        self.server.unread.extend_from_slice(&arrived);
        let read = (0..messages).take_while(|_| self.server.read()).count();
        if messages > read && self.far.is_shut() {
            // The end of the stream, behind all that was read.
            self.server.lost = true;
        }
        self.poll_relay();
        !arrived.is_empty() || read > 0
    }

    /// The server's bytes come to the proxy, and as many come to the client.
    fn answer(&mut self, bytes: usize) -> bool {
        let told = bytes.min(self.server.says.len());
        let said: Vec<u8> = self.server.says.drain(..told).collect();
        if told > 0 {
            self.server_said.extend_from_slice(&said);
            self.understand();
            self.far.deliver(&said);
        } else if self.server.lost {
            self.far.end();
        }
        self.poll_relay();
        let received = self.near.take(bytes);
        self.client.receive(&received);
        self.client.act();
        self.poll_relay();
        told > 0 || !received.is_empty()
    }

    fn understand(&mut self) {
        let mut rest = &self.server_said[self.understood..];
        while let Some((tag, _)) = take_message(&mut rest) {
            self.readies += usize::from(tag == b'Z');
        }
        self.understood = self.server_said.len() - rest.len();
    }

    fn hold(&mut self, waits: bool, first_stage: Duration) {
        self.refuses |= !waits;
        self.close_gate(waits, first_stage, false);
    }

    /// Nothing of the model is seen to read: all of it waits. What the proxy does besides changes the stream.
    fn let_reads_in(&mut self) {
        self.refuses = true;
        self.close_gate(true, Duration::ZERO, true);
    }

    fn open(&mut self) {
        self.gate.end_hold(Holder::Operator, None);
        self.session.signal(Signals::READ_ONLY);
    }

    fn close_gate(&mut self, waits: bool, first_stage: Duration, read_only: bool) {
        let spec = HoldSpec {
            sqlstate: None,
            duration: Duration::from_secs(3600),
            then: Then::Open,
            read_only,
            blocked: if waits {
                Blocked::Queue
            } else {
                Blocked::Reject
            },
            first_stage,
            client_deadline: Duration::from_secs(60),
            by: String::new(),
            reason: None,
        };
        self.gate.hold(Holder::Operator, spec);
        self.session.signal(Signals::READ_ONLY);
    }

    fn signal(&mut self, signal: Signal) {
        self.refuses = true;
        match signal {
            Signal::Cancel => drop(self.session.request_cancel()),
            Signal::Stop => self.session.signal(Signals::STOP),
            Signal::Kill => self.session.signal(Signals::KILL),
            Signal::Abort => {
                self.frees = true;
                self.session.signal(Signals::ABORT);
            }
            Signal::Free => {
                self.frees = true;
                self.session.signal(Signals::STUCK);
            }
        }
    }

    fn settle(&mut self) {
        loop {
            let moved = [
                self.forward(usize::MAX),
                self.serve(usize::MAX),
                self.answer(usize::MAX),
            ];
            self.check();
            if !moved.contains(&true) {
                return;
            }
        }
    }

    /// A client that was held with more than is kept of it goes on after a moment, and one that
    /// waits for an answer that never comes when it is looked at next.
    async fn settle_in_time(&mut self) {
        for _ in 0..3 {
            self.settle();
            tokio::time::advance(Duration::from_millis(1100)).await;
            self.poll_relay();
        }
        self.settle();
    }

    fn check(&self) {
        if self.server.lost || self.ended.is_some() || self.gate.permits() > 0 {
            return;
        }
        let (server, unread) = (&self.server, self.far.written());
        // What the proxy has it do needs no permit.
        let unheard = server.readies != self.readies && server.obeyed;
        if server.aborted || server.has_orders(&unread) || unheard {
            return;
        }
        let quiescent = server.is_quiescent_behind(&unread) && server.readies == self.readies;
        assert!(quiescent, "without a permit: {server:?} {unread:?}");
    }

    fn check_bytes(&self) {
        let (wrote, got) = (self.client.wrote.as_slice(), self.server_got.as_slice());
        let (said, read) = (self.server_said.as_slice(), self.client.read.as_slice());
        if self.refuses || self.server.lost {
            check_refused(wrote, got);
            check_read(said, read);
            // To the end of a session nobody waits for ever for a client that does not read.
            if (self.ended.is_none() || !self.waited) && !self.frees {
                check_told(wrote, got, read);
            }
            return;
        }
        assert!(wrote.starts_with(got), "the server got what was not sent");
        assert!(said.starts_with(read), "the client got what was not said");
        assert_eq!(read.len(), said.len(), "not all was read");
        if !self.client.has_left {
            assert_eq!(got.len(), wrote.len(), "not all was sent on");
        }
    }

    fn check_end(&self) {
        if self.server.lost || self.client.has_left || self.ended.is_some() {
            return;
        }
        let idle = self.server.is_quiescent();
        assert!(!idle || !self.server.is_read_only(), "still refuses writes");
        if self.server.aborted {
            assert_eq!(self.gate.permits(), 0, "aborted, and with a permit");
            return;
        }
        let (permits, activity) = (self.gate.permits(), self.session.activity());
        let quiescent = self.server.is_quiescent();
        if self.frees {
            // Behind an error of ours a client goes on that expected none: the count may be lost.
            assert!(permits > 0 || (quiescent && activity == Activity::Idle));
        } else if self.client.orderly {
            let server = &self.server;
            assert_eq!(
                permits == 0,
                quiescent,
                "at the end: {activity:?} {server:?}"
            );
            assert_eq!(
                activity == Activity::Idle,
                quiescent,
                "at the end: {activity:?} {server:?}"
            );
        }
    }

    /// The client leaves, the server sees it, and the session comes to its end.
    async fn close(&mut self) {
        self.near.end();
        self.poll_relay();
        for _ in 0..4 {
            self.settle();
            tokio::time::advance(LONG).await;
            self.poll_relay();
        }
        assert!(self.ended.is_some(), "the session has not ended");
        let left = (self.gate.permits(), self.gate.waiting().0);
        assert_eq!(left, (0, 0), "permits and places that nobody has");
    }
}
