//! From the server to the client.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use super::door::GateDoor;
use super::held::Server;
use super::leaving::Remains;
use super::{Backlog, End, KEPT_MAX, Phase, Relay, SCRATCH, Step, Tracker, read_scratch};
use crate::session::measure::Listener;
use crate::session::registry::{Activity, Session};
use crate::session::scan::{Door, Nonsense, Seen, ServerScan};
use crate::tls::stream::Socket;
use crate::wire::frame::BadLength;
use crate::wire::refusal::Refusal;

/// How long a client may take to read the last words of its server.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// What one read from the server came to.
pub(super) enum FromServer {
    Some,
    Ended,
    ClientBroke(std::io::Error),
    Misbehaved(BadLength),
}

/// What a session needs to hand on what its server sent.
pub(super) struct Down<'a, C> {
    client: &'a mut C,
    session: &'a Session,
    to_client: &'a mut Backlog,
    tracker: &'a mut Tracker,
    pub(super) door: &'a mut GateDoor,
    scan: &'a mut ServerScan,
    phase: &'a mut Phase,
    pub(super) listener: &'a mut Option<Box<Listener>>,
}

impl<C: Socket> Down<'_, C> {
    /// Tells the tracker what the server sent, and sends it on.
    #[inline]
    pub(super) fn hand(&mut self, bytes: &[u8], cx: &mut Context<'_>) -> FromServer {
        let (bytes, seen, bad) = match self.scan.read(self.tracker, bytes) {
            Ok(seen) => (bytes, seen, None),
            Err(Nonsense { after, seen, bad }) => (&bytes[..after], seen, Some(bad)),
        };
        if seen.ready {
            self.session.answered();
        }
        self.leave_at_boundary();
        if self.listener.is_some() {
            self.listen(bytes);
        }
        let passed = passed(self.phase, bytes, seen);
        let written = match &mut self.door.enforced {
            None => self.to_client.write_through(self.client, cx, passed),
            Some(enforced) => {
                let own = enforced.setting.filter(passed);
                self.to_client.write_through(self.client, cx, &own)
            }
        };
        match (written, bad) {
            (Ok(()), None) => FromServer::Some,
            (Ok(()), Some(bad)) => FromServer::Misbehaved(bad),
            (Err(error), _) => FromServer::ClientBroke(error),
        }
    }

    /// Gives the permit back if the transaction has ended.
    #[inline]
    pub(super) fn leave_at_boundary(&mut self) {
        if self.door.has_permit()
            && (self.tracker.at_boundary() || self.tracker.streams_both_ways())
        {
            self.door.release();
            self.session.transaction_ended();
        }
    }
}

impl<C: Socket, S: Socket> Relay<C, S> {
    pub(super) fn poll_down(&mut self, cx: &mut Context<'_>) -> Step {
        if !self.ours.is_empty() && self.server_scan.at_message_start() {
            let ours = std::mem::take(&mut self.ours);
            self.to_client.push(&ours);
        }
        if !self.to_client.is_empty() || self.client.has_unsent() {
            match self.to_client.poll_drain(&mut self.client, cx) {
                // The answers to messages of ours are not for the client.
                Poll::Pending if self.injection.is_some() => {}
                Poll::Pending => {
                    return match self.phase {
                        Phase::Closing(..) => self.poll_closing(cx),
                        Phase::Flowing
                        | Phase::Held(_)
                        | Phase::Discarding(..)
                        | Phase::Aborted(_)
                        | Phase::Leaving(_) => self.poll_stalled(cx),
                    };
                }
                Poll::Ready(Err(error)) => return self.client_broke(&error),
                Poll::Ready(Ok(())) => self.stalled = None,
            }
        }
        if matches!(self.phase, Phase::Closing(..)) {
            return self.poll_closing(cx);
        }
        self.read_on(cx)
    }

    /// Reads from the server once.
    fn read_on(&mut self, cx: &mut Context<'_>) -> Step {
        match self.read_server(cx) {
            Poll::Pending => Step::Stuck,
            Poll::Ready(Ok(FromServer::Some)) => Step::Moved,
            Poll::Ready(Ok(FromServer::Ended) | Err(_)) => self.server_ended(),
            Poll::Ready(Ok(FromServer::ClientBroke(error))) => self.client_broke(&error),
            Poll::Ready(Ok(FromServer::Misbehaved(error))) => self.server_misbehaved(error),
        }
    }

    #[inline]
    pub(super) fn down(&mut self) -> (&mut S, Down<'_, C>) {
        let down = Down {
            client: &mut self.client,
            session: &self.session,
            to_client: &mut self.to_client,
            tracker: &mut self.tracker,
            door: &mut self.door,
            scan: &mut self.server_scan,
            phase: &mut self.phase,
            listener: &mut self.listener,
        };
        (&mut self.server, down)
    }

    fn read_server(&mut self, cx: &mut Context<'_>) -> Poll<std::io::Result<FromServer>> {
        let read = if self.is_away() && self.injection.is_none() {
            self.read_standby(cx)
        } else if self.injection.is_some() || self.again.is_some() {
            let read = self.read_copy(cx);
            read.map_ok(|bytes| self.heard(cx, &bytes))
        } else {
            let (server, mut down) = self.down();
            read_scratch(server, cx, SCRATCH, |bytes, cx| {
                if bytes.is_empty() {
                    return FromServer::Ended;
                }
                down.session.count_out(bytes.len());
                down.hand(bytes, cx)
            })
        };
        self.note_flowing();
        read
    }

    /// Reads what needs all of the relay to be handed on.
    fn read_copy(&mut self, cx: &mut Context<'_>) -> Poll<std::io::Result<Vec<u8>>> {
        read_scratch(&mut self.server, cx, KEPT_MAX, |bytes, _| bytes.to_vec())
    }

    /// What was read so is for us, or has to be looked at before the client gets it.
    fn heard(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> FromServer {
        self.session.count_out(bytes.len());
        if bytes.is_empty() {
            FromServer::Ended
        } else if self.injection.is_some() {
            self.injected(cx, bytes)
        } else {
            self.watch_answer(cx, bytes)
        }
    }

    /// A standby may turn out to be of no use.
    fn read_standby(&mut self, cx: &mut Context<'_>) -> Poll<std::io::Result<FromServer>> {
        match std::task::ready!(self.read_copy(cx)) {
            Ok(bytes) if self.falls_back(&bytes) => Poll::Ready(Ok(FromServer::Some)),
            Ok(bytes) => Poll::Ready(Ok(self.heard(cx, &bytes))),
            Err(_) if self.falls_back(&[]) => Poll::Ready(Ok(FromServer::Some)),
            Err(error) => Poll::Ready(Err(error)),
        }
    }

    #[inline]
    fn note_flowing(&self) {
        if let Phase::Flowing = self.phase {
            self.note_activity();
        }
    }

    /// The server has ended its side: the client gets what is left, and the reason if a statement
    /// of its was never sent.
    fn server_ended(&mut self) -> Step {
        // When it was a standby, the server's own connection is closed by us.
        let end = if self.is_away() {
            End::ServerLeft
        } else {
            End::ServerClosed
        };
        let step = self.close(end, None);
        if end == End::ServerClosed {
            self.session.note_server_ended();
        }
        // However long the client takes to read the last words.
        self.session.leave_window();
        if self.door.has_permit() {
            // The transaction ended with its server, whether the client reads of it or not.
            self.door.release();
            self.session.transaction_ended();
        }
        step
    }

    /// The server sent what nobody can pass on. Whatever it runs, it may run on, so that the permit
    /// is kept for as long as the session is there.
    pub(super) fn server_misbehaved(&mut self, error: BadLength) -> Step {
        tracing::warn!(session = self.session.id.0, %error, "server broke the protocol");
        self.close(End::ServerLeft, Some(Refusal::ServerProtocol))
    }

    /// The server is read no more. `why` is for a client that has not been told otherwise.
    pub(super) fn close(&mut self, end: End, why: Option<Refusal>) -> Step {
        self.say_the_rest();
        let unsent = !self.kept.is_empty() && (self.tracker.at_boundary() || self.is_aborted());
        if self.server_is_ending() {
            // Of the message that it may be in the client has seen nothing.
            self.server_scan = ServerScan::default();
        }
        let last_words = match std::mem::replace(&mut self.phase, Phase::Flowing) {
            Phase::Leaving(leaving) if leaving.remains == Remains::Nothing => {
                return Step::End(end);
            }
            Phase::Held(_) => {
                self.unpark();
                Some(Refusal::ServerLost)
            }
            Phase::Flowing | Phase::Aborted(_) if unsent => Some(Refusal::ServerLost),
            Phase::Leaving(leaving) => leaving.last_words,
            Phase::Flowing | Phase::Aborted(_) | Phase::Discarding(..) | Phase::Closing(..) => why,
        };
        if let Some(last_words) = last_words {
            self.say_goodbye(&last_words);
        }
        self.session.set_activity(Activity::Closing);
        self.phase = Phase::Closing(Box::pin(tokio::time::sleep(LAST_WORDS)), end);
        // Whatever the server left unfinished, no message of ours could follow it.
        if !self.server_scan.at_message_start() {
            self.ours.clear();
        }
        Step::Moved
    }

    /// The client reads what is left, then its connection is closed. It is read to its end first:
    /// closing a socket with unread bytes would take the last words back.
    fn poll_closing(&mut self, cx: &mut Context<'_>) -> Step {
        let Phase::Closing(deadline, end) = &mut self.phase else {
            return Step::Stuck;
        };
        let end = *end;
        if deadline.as_mut().poll(cx).is_ready() {
            return Step::End(end);
        }
        if !self.to_client.is_empty() {
            return Step::Stuck;
        }
        if Pin::new(&mut self.client).poll_shutdown(cx).is_pending() {
            return Step::Stuck;
        }
        match read_scratch(&mut self.client, cx, KEPT_MAX, |bytes, _| bytes.is_empty()) {
            Poll::Pending => Step::Stuck,
            Poll::Ready(Ok(false)) => Step::Moved,
            Poll::Ready(Ok(true) | Err(_)) => Step::End(end),
        }
    }
}

/// What the client gets of a chunk. A held statement must not be answered by the server's last
/// words, which do not say that it was never executed; ours do.
#[inline]
fn passed<'a>(phase: &mut Phase, bytes: &'a [u8], seen: Seen) -> &'a [u8] {
    match phase {
        Phase::Flowing | Phase::Aborted(_) | Phase::Discarding(..) | Phase::Closing(..) => bytes,
        Phase::Leaving(leaving) => match leaving.remains {
            Remains::HalfOpen => bytes,
            Remains::Nothing => &[],
        },
        Phase::Held(held) => match (held.server, seen.error_at) {
            (Server::Idle, None) => bytes,
            (Server::Idle, Some(at)) => {
                held.server = Server::Ending;
                &bytes[..at]
            }
            (Server::Ending, _) => &[],
        },
    }
}
