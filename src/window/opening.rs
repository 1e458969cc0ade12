//! Opening a window: traffic is held for it, first the writes alone if that was asked, and drained.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::mpsc;

use super::controller::Controller;
use super::drains::{Beginning, Draining};
use super::fence::{Fence, FenceFor, NoFence};
use super::journal::{Record, WindowRecord};
use super::steps::WindowMode;
use super::windows::{Granted, Refused, WindowRequest};
use crate::clock;
use crate::config::{Bypass, Then};
use crate::drain::report::{DrainReport, Outcome};
use crate::gate::Gate;
use crate::gate::mode::{Generation, HoldSpec, Holder};
use crate::wire::refusal::Sqlstate;

/// How a window that is being opened is watched and steered.
pub struct Steering<A, G> {
    /// Gets each of its drains when it begins.
    pub begun: mpsc::UnboundedSender<Draining>,
    /// Comes when reads have gone on for long enough, where they go on first.
    pub hold_all: A,
    /// Comes when nobody wants the window any more.
    pub given_up: G,
}

/// Whom a hold for a window lets in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lets {
    Reads,
    Nobody,
}

/// A gate that was closed for a window, or closed further.
struct Placed {
    gate: Arc<Gate>,
    generation: Generation,
    held_at: Instant,
}

impl Controller {
    /// Holds and drains a database; returns when nothing but the window may run in it, or write in it if
    /// it lets reads in. When that is not reached, or `given_up` comes first, traffic flows again. Between
    /// its stages it never does.
    ///
    /// Not cancel safe: dropping it leaves the database held until `duration` is over and an alert
    /// says so. That is what `given_up` is for.
    pub async fn begin_window(
        self: &Arc<Self>,
        request: WindowRequest,
        steering: Steering<impl Future<Output = ()>, impl Future<Output = ()>>,
    ) -> Result<Granted, Refused> {
        self.alone()?;
        let (database, id) = (request.database.clone(), request.id.clone());
        let lost = self.windows.begin(&database, &id)?;
        let opened = self.open_window(&request, steering).await;
        let (placed, report) = match opened {
            Ok(opened) => opened,
            Err(refused) => {
                self.windows.end(&database, &id);
                return Err(refused);
            }
        };
        let granted = Granted {
            id,
            database,
            ends_at: placed.held_at + request.duration,
            lost,
            report,
            generation: placed.generation,
        };
        match granted.report.outcome {
            Outcome::Drained => Ok(granted),
            Outcome::Unproved if request.unproved => Ok(granted),
            Outcome::Unproved
            | Outcome::Writable
            | Outcome::Exhausted
            | Outcome::Ended
            | Outcome::Draining => {
                let report = Box::new(granted.report.clone());
                self.reopen_after(granted).await;
                Err(Refused::NotDrained(report))
            }
        }
    }

    /// Up to the end of its last drain. Nothing is held where it is refused.
    async fn open_window(
        self: &Arc<Self>,
        request: &WindowRequest,
        steering: Steering<impl Future<Output = ()>, impl Future<Output = ()>>,
    ) -> Result<(Placed, DrainReport), Refused> {
        let Steering {
            begun,
            hold_all,
            given_up,
        } = steering;
        let mut given_up = pin!(given_up);
        if let Some(other) = self.other_proxy(&request.database).await {
            return Err(Refused::OtherProxy(other));
        }
        let lets = request.lets_first();
        // The server is to let new sessions in for as long as reads go on.
        let mut fence = match lets {
            Lets::Reads => None,
            Lets::Nobody => self.fence_for(request).await?,
        };
        let note = |journal: &mut Record| {
            let windows = &mut journal.windows;
            windows.insert(request.database.clone(), request.record());
        };
        let mut placed = self.record(note, || self.close_for(request, lets)).await?;
        let mut drain = self.drain_for(request, lets, &placed);
        // Nobody has to watch.
        let _ = begun.send(drain.clone());
        if request.read_only_first.is_some() {
            if let Err(report) = reads_go_on(&placed, &drain, hold_all, given_up.as_mut()).await {
                return Ok((placed, report));
            }
            fence = match self.fence_for(request).await {
                Ok(fence) => fence,
                Err(none) => {
                    placed.end();
                    self.forget_ended().await;
                    return Err(none.into());
                }
            };
            if !placed.is_on() {
                // By force, while the fence was raised.
                return Ok((placed, over(&drain, "the hold ended first")));
            }
            placed = self.close_for(request, Lets::Nobody);
            drain = self.drain_for(request, Lets::Nobody, &placed);
            let _ = begun.send(drain.clone());
        }
        if let Some(fence) = fence {
            fence.keep(Holder::Window, placed.generation);
        }
        let report = tokio::select! {
            // A window that is there when nobody wants it any more is given back.
            biased;
            report = drain.clone().ended() => report,
            () = given_up => {
                placed.end();
                drain.ended().await
            }
        };
        Ok((placed, report))
    }

    /// Closes the gate for a window. One that is closed for it already is never open meanwhile.
    fn close_for(&self, request: &WindowRequest, lets: Lets) -> Placed {
        let (held_at, gate) = (clock::now(), self.gates.of(&request.database));
        let spec = HoldSpec {
            sqlstate: Some(match lets {
                Lets::Reads => Sqlstate::READ_ONLY,
                Lets::Nobody => self.config().hold.reject_sqlstate,
            }),
            ..request.spec(lets)
        };
        let generation = gate.hold(Holder::Window, spec);
        Placed {
            gate,
            generation,
            held_at,
        }
    }

    fn drain_for(
        self: &Arc<Self>,
        request: &WindowRequest,
        lets: Lets,
        placed: &Placed,
    ) -> Draining {
        let (database, window) = (&request.database, &request.id);
        let by = &request.by;
        tracing::info!(database, window, by, ?lets, "window begins to drain");
        let time = request.spec(lets).duration;
        self.drain(Beginning {
            gate: Arc::clone(&placed.gate),
            holder: Holder::Window,
            generation: placed.generation,
            held_at: placed.held_at,
            ladder: request.ladder.clone().within(time),
            bypass: request.bypass_while(lets),
        })
    }

    async fn fence_for(
        self: &Arc<Self>,
        request: &WindowRequest,
    ) -> Result<Option<Fence>, NoFence> {
        // Who shows a window's key comes as who he is; the runner's role is known.
        let whom = match request.lent {
            Some(_) => FenceFor::Others,
            None => FenceFor::Migration,
        };
        match request.fence {
            true => self.fence(&request.database, whom).await.map(Some),
            false => Ok(None),
        }
    }
}

/// Lets reads go on for as long as was agreed, whatever came of the drain by then: what is in the way is
/// held and drained with all else. When the window is not to go on, nothing is held, and the report says
/// why.
async fn reads_go_on(
    placed: &Placed,
    drain: &Draining,
    hold_all: impl Future<Output = ()>,
    given_up: Pin<&mut impl Future<Output = ()>>,
) -> Result<(), DrainReport> {
    tokio::select! {
        biased;
        () = given_up => {
            placed.end();
            Err(over(drain, "it was given up"))
        }
        () = placed.gate.gone(Holder::Window, placed.generation) => {
            Err(over(drain, "the hold ended first"))
        }
        () = hold_all => Ok(()),
    }
}

/// How a drain went whose hold is over.
fn over(drain: &Draining, why: &str) -> DrainReport {
    DrainReport {
        outcome: Outcome::Ended,
        detail: why.to_owned(),
        ..drain.report.borrow().clone()
    }
}

impl Placed {
    fn end(&self) {
        let generation = Some(self.generation);
        self.gate.end_hold(Holder::Window, generation);
    }

    fn is_on(&self) -> bool {
        self.gate.is_held_by(Holder::Window, self.generation)
    }
}

impl WindowRequest {
    fn lets_first(&self) -> Lets {
        match (self.mode, self.read_only_first) {
            (WindowMode::Exclusive, None) => Lets::Nobody,
            (WindowMode::ReadOnly, _) | (WindowMode::Exclusive, Some(_)) => Lets::Reads,
        }
    }

    /// Where only some stage of it lets reads in, a restart settles it before anybody has to read.
    fn record(&self) -> WindowRecord {
        WindowRecord {
            id: self.id.clone(),
            since: clock::wall(),
            by: self.by.clone(),
            read_only: self.mode == WindowMode::ReadOnly,
            stays: None,
            lent: self.lent.clone(),
        }
    }

    /// While reads go on, somebody who comes past us may read too: he is named.
    fn bypass_while(&self, lets: Lets) -> Bypass {
        match (lets, self.mode) {
            (Lets::Reads, WindowMode::Exclusive) => Bypass::Ignore,
            (Lets::Reads, WindowMode::ReadOnly) | (Lets::Nobody, _) => self.bypass,
        }
    }

    /// Traffic does not reopen by itself behind the back of whoever works: the window's own time is
    /// watched by its holder, and an overdue hold alerts.
    fn spec(&self, lets: Lets) -> HoldSpec {
        let first = match lets {
            Lets::Reads => self.read_only_first.unwrap_or_default(),
            Lets::Nobody => std::time::Duration::ZERO,
        };
        HoldSpec {
            duration: first + self.duration,
            then: Then::Stay,
            read_only: lets == Lets::Reads,
            blocked: self.blocked,
            sqlstate: None,
            first_stage: self.ladder.first_stage(),
            client_deadline: self.client_deadline,
            by: self.by.clone(),
            reason: self.reason.clone(),
        }
    }
}
