//! A client that does not read: its server waits for it, and after a time, if one is set, no more.

use std::future::Future;
use std::pin::Pin;
use std::task::Context;

use tokio::time::{Instant, Sleep, sleep};

use super::leaving::Remains;
use super::{Relay, Step};
use crate::tls::stream::Socket;

/// A client that left bytes untaken.
#[derive(Debug)]
pub(super) struct Stalled {
    /// How many there were when it was last seen to take some.
    left: usize,
    give_up: Pin<Box<Sleep>>,
}

impl<C: Socket, S: Socket> Relay<C, S> {
    /// The client's socket is full. Each byte that it takes gives it the whole time again.
    pub(super) fn poll_stalled(&mut self, cx: &mut Context<'_>) -> Step {
        let Some(patience) = self.config.limits.client_stalled else {
            return Step::Stuck;
        };
        let left = self.to_client.len();
        let stalled = self.stalled.get_or_insert_with(|| {
            let give_up = Box::pin(sleep(patience));
            Box::new(Stalled { left, give_up })
        });
        if left < stalled.left {
            stalled.give_up.as_mut().reset(Instant::now() + patience);
        }
        stalled.left = left;
        if stalled.give_up.as_mut().poll(cx).is_pending() {
            return Step::Stuck;
        }
        self.stalled = None;
        self.common.metrics.limited("client_stalled");
        tracing::info!(
            session = self.session.id.0,
            peer = %self.session.client,
            left,
            "the client does not read and is ended"
        );
        let step = self.leave(Remains::Nothing);
        self.cancel_at_once();
        step
    }
}
