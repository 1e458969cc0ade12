//! The client's side is over: the server is told, and its end is waited for.
//!
//! The permit is kept until the server has ended, or has said that it is idle: a backend that still
//! runs is not drained, whatever became of its client.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep};

use super::{End, Phase, Relay, Step};
use crate::session::registry::Activity;
use crate::tls::stream::Socket;
use crate::wire::frontend;
use crate::wire::refusal::Refusal;

/// How long a server may take to end its connection before we give up watching it.
const LINGER: Duration = Duration::from_secs(30);

/// After an unheeded cancel request, the next one is sent so much later.
const CANCEL_AGAIN: Duration = Duration::from_secs(1);

/// What is left of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Remains {
    /// It sends no more, and may still read.
    HalfOpen,
    /// Nothing.
    Nothing,
}

/// A session whose client has left.
#[derive(Debug)]
pub(super) struct Leaving {
    pub(super) remains: Remains,
    /// When a statement that still runs is cancelled; `None` is never.
    cancel: Option<Pin<Box<Sleep>>>,
    give_up: Pin<Box<Sleep>>,
    ending: Ending,
    /// What the client is told once the server has answered what it was sent.
    pub(super) last_words: Option<Refusal>,
}

/// How far the server has been told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    /// Bytes for it are still in the backlog, or its side of the socket is not shut.
    Untold,
    /// It reads the end of the stream behind what it was sent.
    Told,
}

impl<C: Socket, S: Socket> Relay<C, S> {
    /// The client ended its side. What it left in our hands is not started.
    pub(super) fn leave(&mut self, remains: Remains) -> Step {
        if let Phase::Leaving(leaving) = &mut self.phase {
            if leaving.remains == Remains::Nothing {
                return Step::Stuck;
            }
            // It was half-open, and is gone now: nothing more can reach it.
            leaving.remains = remains;
            self.to_client.clear();
            return Step::Moved;
        }
        if let Phase::Closing(_, end) = self.phase {
            return Step::End(end);
        }
        if self.server_is_ending() && remains == Remains::HalfOpen {
            return self.close(End::ServerLeft, None);
        }
        if let Phase::Held(_) = std::mem::replace(&mut self.phase, Phase::Flowing) {
            self.unpark();
        }
        self.kept = Vec::new();
        if remains == Remains::Nothing {
            self.to_client.clear();
            self.ours.clear();
        }
        let grace = match remains {
            Remains::HalfOpen => self.config.client_gone,
            Remains::Nothing => self.config.client_gone.map(|_| Duration::ZERO),
        };
        self.session.set_activity(Activity::Closing);
        self.phase = Phase::Leaving(Box::new(Leaving {
            remains,
            cancel: grace.map(|grace| Box::pin(sleep(grace))),
            give_up: Box::pin(sleep(LINGER)),
            ending: Ending::Untold,
            last_words: None,
        }));
        Step::Moved
    }

    /// Ends the session with an error of ours. Only for sessions that run nothing, or must stop
    /// whatever they run.
    pub(super) fn dismiss(&mut self, refusal: &Refusal, remains: Remains) {
        if matches!(self.phase, Phase::Leaving(_) | Phase::Closing(..)) {
            return;
        }
        if self.server_is_ending() {
            self.close(End::ServerLeft, None);
            return;
        }
        let polite = self.client_scan.at_message_start();
        self.leave(Remains::HalfOpen);
        self.say_goodbye(refusal);
        if polite {
            self.to_server.push(&frontend::TERMINATE);
        }
        if remains == Remains::Nothing {
            self.cancel_at_once();
        }
    }

    /// What runs for a client that is gone is cancelled, whatever `client_gone` says.
    pub(super) fn cancel_at_once(&mut self) {
        if let Phase::Leaving(leaving) = &mut self.phase {
            leaving.cancel = Some(Box::pin(sleep(Duration::ZERO)));
        }
    }

    /// Queues the last message of a session.
    pub(super) fn say_goodbye(&mut self, refusal: &Refusal) {
        self.common.metrics.refused(refusal.sqlstate().as_str());
        self.ours.extend_from_slice(&refusal.encode());
    }

    /// Nothing can be sent to the server any more; what it still says is passed on.
    pub(super) fn server_broke(&mut self) -> Step {
        self.to_server.clear();
        self.leave(Remains::HalfOpen);
        if let Phase::Leaving(leaving) = &mut self.phase {
            leaving.ending = Ending::Told;
        }
        Step::Moved
    }

    pub(super) fn poll_leaving(&mut self, cx: &mut Context<'_>) -> Step {
        let Phase::Leaving(leaving) = &mut self.phase else {
            return Step::Stuck;
        };
        if leaving.ending == Ending::Untold && self.to_server.is_empty() {
            match Pin::new(&mut self.server).poll_shutdown(cx) {
                Poll::Pending => {}
                // A socket that cannot be shut is one whose end shows when it is read.
                Poll::Ready(_) => leaving.ending = Ending::Told,
            }
        }
        if leaving.cancel.is_none() && self.tracker.is_busy() {
            // A statement that may run on for ever is not given up either.
            leaving.give_up.as_mut().reset(Instant::now() + LINGER);
        }
        if leaving.give_up.as_mut().poll(cx).is_ready() {
            return Step::End(End::ServerLeft);
        }
        let Some(cancel) = &mut leaving.cancel else {
            return Step::Stuck;
        };
        if cancel.as_mut().poll(cx).is_ready() {
            cancel.as_mut().reset(Instant::now() + CANCEL_AGAIN);
            // Registers the timer anew.
            let _ = cancel.as_mut().poll(cx);
            if self.tracker.is_busy() {
                self.cancel_server(Vec::new());
            }
        }
        Step::Stuck
    }
}
