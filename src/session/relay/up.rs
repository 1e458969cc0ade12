//! From the client to the server.

use std::future::Future;
use std::io;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::besides::Besides;
use super::leaving::Remains;
use super::{KEPT_MAX, Phase, Relay, SCRATCH, Step, read_scratch};
use crate::session::registry::Activity;
use crate::session::scan::{Door, Pause};
use crate::tls::stream::Socket;
use crate::wire::frame::BadLength;
use crate::wire::refusal::Refusal;

/// How often a client that is not read, or that waits for an answer behind a closed gate, is looked
/// at: nothing wakes us when it leaves, or the gate opens.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// What one read from the client came to.
pub(super) enum FromClient {
    /// Nothing is there.
    Nothing,
    /// Bytes came, or a place where they could not go on.
    Some,
    /// The client closed its side.
    Ended,
    /// The connection broke.
    Broke(io::Error),
}

impl<C: Socket, S: Socket> Relay<C, S> {
    pub(super) fn poll_up(&mut self, cx: &mut Context<'_>) -> Step {
        if !self.to_server.is_empty() || self.server.has_unsent() {
            match self.to_server.poll_drain(&mut self.server, cx) {
                Poll::Pending => return self.poll_leaving(cx),
                Poll::Ready(Err(_)) if self.falls_back(&[]) => return Step::Moved,
                Poll::Ready(Err(_)) => return self.server_broke(),
                Poll::Ready(Ok(())) => {}
            }
        }
        if self.waits_for_injection() {
            return Step::Stuck;
        }
        if (self.is_enforced() || self.door.wants_read_only())
            && let Some(step) = self.enforce(cx)
        {
            return step;
        }
        match &self.phase {
            Phase::Flowing => self.poll_flowing(cx),
            Phase::Held(_) => self.poll_held(cx),
            Phase::Discarding(..) => self.poll_discarding(cx),
            Phase::Aborted(_) => self.poll_aborted(cx),
            Phase::Leaving(_) => self.poll_leaving(cx),
            Phase::Closing(..) => Step::Stuck,
        }
    }

    #[inline]
    fn poll_flowing(&mut self, cx: &mut Context<'_>) -> Step {
        if self.guard.is_some() {
            return self.poll_guarded(cx);
        }
        if !self.kept.is_empty() {
            let kept = std::mem::take(&mut self.kept);
            let before = kept.len();
            match self.forward(cx, &kept) {
                Ok(Pause::Nothing) => return Step::Moved,
                Ok(Pause::Gate { mid_message: false }) if self.is_aborted() => {
                    self.phase = self.at_rest();
                    return Step::Moved;
                }
                Ok(Pause::Gate { mid_message: false }) if self.set_guard() => return Step::Moved,
                Ok(Pause::Gate { mid_message }) => return self.park(cx, mid_message),
                Ok(Pause::Answer | Pause::Text) if self.kept.len() < before => return Step::Moved,
                // The client is read on.
                Ok(Pause::Text) => {}
                // Nobody wakes us when the gate opens: an answer will, unless it never comes.
                Ok(Pause::Answer) => self.look_again(cx),
                Err(error) => return self.client_misbehaved(error),
            }
        }
        match self.read_client(cx) {
            FromClient::Nothing => Step::Stuck,
            FromClient::Some => Step::Moved,
            FromClient::Ended => self.leave(Remains::HalfOpen),
            FromClient::Broke(error) => self.client_broke(&error),
        }
    }

    /// Reads once. What may go on goes on from the scratch buffer; the rest is kept, up to the
    /// limit, behind which the client is not read.
    pub(super) fn read_client(&mut self, cx: &mut Context<'_>) -> FromClient {
        let limit = if !self.door.is_open() {
            let most = self.config.hold.bytes_per_client;
            most.saturating_sub(self.kept.len())
        } else if self.kept.is_empty() && self.door.has_permit() {
            SCRATCH
        } else {
            KEPT_MAX.saturating_sub(self.kept.len())
        };
        if limit == 0 {
            return self.poll_unread(cx);
        }
        // The closure needs all of the relay but its client socket.
        let flows =
            matches!(self.phase, Phase::Flowing) && self.kept.is_empty() && self.guard.is_none();
        let Relay {
            client,
            session,
            server,
            to_server,
            ..
        } = self;
        let tracker = &mut self.tracker;
        let (door, scan, kept) = (&mut self.door, &mut self.client_scan, &mut self.kept);
        let (again, listener) = (&mut self.again, &mut self.listener);
        let most = self.config.hold.bytes_per_client;
        let read = read_scratch(client, cx, limit, |bytes, cx| {
            session.count_in(bytes.len());
            if bytes.is_empty() {
                return Ok(FromClient::Ended);
            }
            if let Some(again) = again {
                again.forgo();
            }
            let mut good = Ok(0);
            if flows {
                let before = (door.has_permit(), tracker.is_busy());
                let besides = door
                    .has_besides()
                    .then(|| Besides::before(door, tracker, scan, session));
                let taken = scan.take(tracker, door, bytes);
                good = taken.map(|taken| taken.bytes);
                note_start(session, before, (door.has_permit(), tracker.is_busy()));
                let now = good.unwrap_or_else(|nonsense| nonsense.after);
                if let Some(besides) = besides {
                    besides.after((door, session), (again, listener), (bytes, now), most);
                }
                // An error of the server's socket shows again, and better, when it is read.
                let _ = to_server.write_through(server, cx, &bytes[..now]);
            }
            kept.extend_from_slice(&bytes[good.map_err(|nonsense| nonsense.bad)?..]);
            Ok(FromClient::Some)
        });
        match read {
            Poll::Pending => FromClient::Nothing,
            Poll::Ready(Err(error)) => FromClient::Broke(error),
            Poll::Ready(Ok(Ok(from_client))) => from_client,
            Poll::Ready(Ok(Err(bad))) => {
                self.client_misbehaved(bad);
                FromClient::Some
            }
        }
    }

    /// A client that has sent more than is kept is not read, so that its end does not show; behind
    /// a closed gate it is looked for.
    fn poll_unread(&mut self, cx: &mut Context<'_>) -> FromClient {
        if self.door.is_open() {
            return FromClient::Nothing;
        }
        if self.client.peer_has_closed(cx) {
            return FromClient::Ended;
        }
        self.look_again(cx);
        FromClient::Nothing
    }

    /// Wakes this task in a while, if nobody else does.
    pub(super) fn look_again(&mut self, cx: &mut Context<'_>) {
        let look = self.look.get_or_insert_with(|| Box::pin(sleep(LOOK_AGAIN)));
        while look.as_mut().poll(cx).is_ready() {
            look.as_mut().reset(Instant::now() + LOOK_AGAIN);
        }
    }

    /// Forwards what may go on of `bytes` and keeps the rest.
    pub(super) fn forward(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Result<Pause, BadLength> {
        let before = (self.door.has_permit(), self.tracker.is_busy());
        let besides = self
            .door
            .has_besides()
            .then(|| Besides::before(&self.door, &self.tracker, &self.client_scan, &self.session));
        let taken = self
            .client_scan
            .take(&mut self.tracker, &mut self.door, bytes);
        let after = (self.door.has_permit(), self.tracker.is_busy());
        note_start(&self.session, before, after);
        let now = taken.map_or_else(|nonsense| nonsense.after, |taken| taken.bytes);
        if let Some(besides) = besides {
            besides.after(
                (&self.door, &self.session),
                (&mut self.again, &mut self.listener),
                (bytes, now),
                self.config.hold.bytes_per_client,
            );
        }
        let (now, later) = bytes.split_at(now);
        // As above: a broken server shows when it is read.
        let _ = self.to_server.write_through(&mut self.server, cx, now);
        let taken = taken.map_err(|nonsense| nonsense.bad)?;
        self.kept.extend_from_slice(later);
        Ok(taken.pause)
    }

    /// The client sent what nobody can forward. What it sent before is answered first.
    pub(super) fn client_misbehaved(&mut self, error: BadLength) -> Step {
        tracing::info!(session = self.session.id.0, %error, "client broke the protocol");
        self.kept.clear();
        let refusal = Refusal::Protocol("invalid message length".into());
        if !self.tracker.is_busy() {
            self.dismiss(&refusal, Remains::HalfOpen);
            return Step::Moved;
        }
        self.leave(Remains::HalfOpen);
        if let Phase::Leaving(leaving) = &mut self.phase {
            leaving.last_words = Some(refusal);
        }
        Step::Moved
    }

    /// The connection to the client is no more.
    pub(super) fn client_broke(&mut self, error: &io::Error) -> Step {
        tracing::debug!(session = self.session.id.0, %error, "connection to the client broke");
        self.leave(Remains::Nothing)
    }
}

/// Records that a transaction or a statement has begun, from the permit and whether an answer is due,
/// before and after. Where none is due nobody may come by again to say what the session does.
#[inline]
pub(super) fn note_start(
    session: &crate::session::registry::Session,
    (had_permit, was_busy): (bool, bool),
    (has_permit, is_busy): (bool, bool),
) {
    if !has_permit || was_busy {
        return;
    }
    if had_permit {
        session.statement_began();
    } else {
        session.transaction_began();
    }
    session.set_activity(if is_busy {
        Activity::Active
    } else {
        Activity::InTransaction
    });
}
