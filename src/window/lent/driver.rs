//! The task of one window that somebody was given: it does what the window's steps say, and tells them
//! what comes of it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::sleep_until;

use super::Lent;
use super::waits::{Under, changed, lost, moved_on, said, told, under_way};
use crate::clock;
use crate::config::AskedCap;
use crate::drain::report::DrainReport;
use crate::gate::cap::Cap;
use crate::session::passes::{Arrived, Passes};
use crate::window::caps::CapRequest;
use crate::window::controller::Controller;
use crate::window::desk::IfBusy;
use crate::window::drains::Draining;
use crate::window::journal::LentRecord;
use crate::window::opening::Steering;
use crate::window::steps::{Effect, Event, Stage};
use crate::window::windows::{Granted, Refused, WindowRequest};

/// Connections that wait to be written down; the next waits for a place.
const ARRIVALS: usize = 16;

/// Carries out what a window's steps say, and tells them what comes of it.
pub(in crate::window) struct Driver {
    controller: Arc<Controller>,
    passes: Arc<Passes>,
    window: Arc<Lent>,
    to_do: mpsc::UnboundedReceiver<Effect>,
    arrivals: (mpsc::Sender<Arrived>, mpsc::Receiver<Arrived>),
    opening: Under<Result<Granted, Refused>>,
    give_up: Option<oneshot::Sender<()>>,
    /// For one that lets reads go on first: that this is over.
    hold_all: Option<oneshot::Sender<()>>,
    begun: Option<mpsc::UnboundedReceiver<Draining>>,
    drain: Option<watch::Receiver<DrainReport>>,
    granted: Option<Granted>,
    lost: Option<watch::Receiver<Option<String>>>,
    ending: Under<()>,
    /// Its cap on traffic.
    capped: Option<Cap>,
}

impl Driver {
    pub(in crate::window) fn new(
        controller: Arc<Controller>,
        passes: Arc<Passes>,
        window: Arc<Lent>,
        to_do: mpsc::UnboundedReceiver<Effect>,
    ) -> Driver {
        Driver {
            controller,
            passes,
            window,
            to_do,
            arrivals: mpsc::channel(ARRIVALS),
            opening: None,
            give_up: None,
            hold_all: None,
            begun: None,
            drain: None,
            granted: None,
            lost: None,
            ending: None,
            capped: None,
        }
    }

    /// Runs until the window is over and nothing is left to do.
    pub(in crate::window) async fn run(mut self) {
        loop {
            if self.window.stage() == Stage::Closed && self.to_do.is_empty() {
                break;
            }
            self.step().await;
        }
        let window = Arc::clone(&self.window);
        let (database, id) = (&window.order.database, &window.id);
        let (used, _) = self.passes.counts(id);
        self.window.inner().used = used;
        self.passes.forget(id);
        if let Some(cap) = &self.capped {
            self.controller.end_cap(database, cap.generation).await;
        }
        self.controller.windows.unqueue(database, id);
        self.window.tell();
    }

    async fn step(&mut self) {
        let window = Arc::clone(&self.window);
        let (database, id) = (&window.order.database, &window.id);
        // Before it is looked where the window stands.
        let mut news = window.news.subscribe();
        let (stage, due) = (window.stage(), window.due());
        let queued = stage == Stage::Queued;
        tokio::select! {
            biased;
            Some(effect) = self.to_do.recv() => self.carry_out(effect).await,
            () = sleep_until(due.unwrap_or_else(clock::now).into()), if due.is_some() => {
                window.apply(Event::Clock);
            }
            Some(draining) = told(&mut self.begun) => self.begun(draining),
            outcome = under_way(&mut self.opening) => self.opened(outcome),
            () = lost(&mut self.lost) => window.apply(Event::Opened),
            () = under_way(&mut self.ending) => window.apply(Event::Gone),
            () = self.controller.windows.turn(database, id), if queued => {
                window.apply(Event::Turn);
            }
            Some(arrived) = self.arrivals.1.recv() => self.arrived(arrived).await,
            () = changed(&mut self.drain) => window.tell(),
            // A command can end a window that asks for nothing to be done.
            () = moved_on(&mut news, &window, stage) => {}
        }
    }

    async fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Cap => self.cap().await,
            Effect::Begin => self.begin(),
            Effect::HoldAll => {
                if let Some(hold_all) = self.hold_all.take() {
                    // One that was refused meanwhile says so.
                    let _ = hold_all.send(());
                }
            }
            Effect::GiveUp => {
                if let Some(give_up) = self.give_up.take() {
                    // A drain that has ended needs no telling.
                    let _ = give_up.send(());
                }
            }
            Effect::LetIn => self.passes.issue(
                &self.window.id,
                &self.window.order.database,
                (self.window.secret, self.window.order.connections),
                self.arrivals.0.clone(),
            ),
            Effect::EndConnections => self.end_connections(),
            Effect::Reopen => {
                self.cap_after().await;
                if let Some(granted) = self.granted.take() {
                    self.controller.reopen_after(granted).await;
                }
            }
            Effect::StayHeld => {
                if let Some(granted) = self.granted.take() {
                    let why = self.window.end().map_or("ended", |end| end.why.as_str());
                    let (id, by) = (&self.window.id, &self.window.order.by);
                    let why = format!("the window {id} of {by} ended before its work: {why}");
                    self.controller.stay_held_after(granted, &why).await;
                }
            }
        }
    }

    /// Caps traffic for as long as the window may take: it is taken off, or made shorter, at the end.
    async fn cap(&mut self) {
        if let Some(cap) = self.window.order.cap {
            let reads = self.window.order.read_only_first.unwrap_or_default();
            let time = cap.before + reads + self.window.order.duration + cap.after;
            self.capped = self.cap_at(cap.at, time).await;
        }
    }

    /// Leaves the same cap on for a while; before traffic flows, so that it does not come at once. Where
    /// somebody has set another meanwhile, or taken it off, that is left as it is.
    async fn cap_after(&mut self) {
        let database = &self.window.order.database;
        if let Some(asked) = self.window.order.cap.filter(|cap| !cap.after.is_zero())
            && let Some(cap) = self.capped.take()
            && self.controller.is_capped(database, cap.generation)
        {
            // As many as before: nothing has run lately that a part could be taken of.
            let at = AskedCap::Transactions(cap.spec.transactions);
            self.cap_at(at, asked.after).await;
        }
    }

    async fn cap_at(&mut self, at: AskedCap, duration: Duration) -> Option<Cap> {
        let order = &self.window.order;
        let request = CapRequest {
            at,
            duration,
            by: order.by.clone(),
            from: Some(order.from.clone()),
            reason: Some(format!("window {}", self.window.id)),
        };
        match self.controller.cap(&order.database, request).await {
            Ok(set) => set,
            Err(error) => {
                // The window itself needs the journal too, and says so.
                let error = &error as &dyn std::error::Error;
                tracing::error!(error, "not capped");
                None
            }
        }
    }

    fn begin(&mut self) {
        let order = &self.window.order;
        let request = WindowRequest {
            id: self.window.id.clone(),
            database: order.database.clone(),
            mode: order.mode,
            read_only_first: order.read_only_first,
            duration: order.duration,
            blocked: order.blocked,
            client_deadline: order.client_deadline,
            ladder: order.ladder.clone(),
            bypass: order.bypass,
            fence: order.fence,
            unproved: order.unproved,
            by: order.by.clone(),
            reason: order.reason.clone(),
            lent: Some(LentRecord {
                term: self.window.term(),
                on_lost: order.on_lost,
                backends: Vec::new(),
                born: Vec::new(),
            }),
        };
        let (begun, draining) = mpsc::unbounded_channel();
        let (give_up, given_up) = oneshot::channel();
        let (hold_all, reads_over) = oneshot::channel();
        let controller = Arc::clone(&self.controller);
        self.opening = Some(Box::pin(async move {
            let steering = Steering {
                begun,
                hold_all: said(reads_over),
                given_up: said(given_up),
            };
            controller.begin_window(request, steering).await
        }));
        (self.begun, self.give_up) = (Some(draining), Some(give_up));
        self.hold_all = Some(hold_all);
    }

    fn begun(&mut self, draining: Draining) {
        let order = &self.window.order;
        let mut end = clock::now() + order.duration;
        if self.window.stage() == Stage::ReadOnly {
            end += order.read_only_first.unwrap_or_default();
        }
        let mut inner = self.window.inner();
        inner.life.ends_at(Some(end));
        inner.drain = Some(draining.report.clone());
        inner.detail = None;
        drop(inner);
        self.drain = Some(draining.report);
    }

    fn opened(&mut self, outcome: Result<Granted, Refused>) {
        let window = &self.window;
        match outcome {
            Ok(granted) => {
                window.inner().life.ends_at(Some(granted.ends_at));
                self.lost = Some(granted.lost.clone());
                self.granted = Some(granted);
                window.apply(Event::Granted);
            }
            Err(refused @ (Refused::Another(_) | Refused::StillHeld(_)))
                if window.order.if_busy == IfBusy::Queue =>
            {
                window.note(refused.to_string());
                window.apply(Event::Busy);
            }
            Err(refused) => {
                window.note(with_causes(&refused));
                window.apply(Event::NotGranted);
            }
        }
    }

    fn end_connections(&mut self) {
        self.passes.shut(&self.window.id);
        let (controller, passes) = (Arc::clone(&self.controller), Arc::clone(&self.passes));
        let window = Arc::clone(&self.window);
        self.ending = Some(Box::pin(async move {
            let backends = window.inner().backends.clone();
            let of = (window.order.database.as_str(), window.id.as_str());
            controller.end_connections(of, &backends, &passes).await;
        }));
    }

    /// Has the birth of a backend written down beside the work: it does not wait for that.
    fn ask_for_birth(&self, pid: i32) {
        let (controller, window) = (Arc::clone(&self.controller), Arc::clone(&self.window));
        let stop = controller.tasks.shutdown_token();
        self.controller.tasks.spawn("window backend", async move {
            let of = (window.order.database.as_str(), window.id.as_str());
            tokio::select! {
                () = controller.note_born(of, pid) => {}
                () = stop.cancelled() => {}
            }
        });
    }

    /// A connection has come: it may go on once its backend is written down.
    async fn arrived(&mut self, arrived: Arrived) {
        let window = &self.window;
        let may = match (window.stage(), arrived.pid) {
            (Stage::Exclusive, Some(pid)) => {
                let of = (window.order.database.as_str(), window.id.as_str());
                let mut backends = window.inner().backends.clone();
                backends.push(pid);
                let backends = self.controller.still_of_use(of.0, &backends);
                let noted = self.controller.note_backends(of, &backends).await;
                if let Err(error) = &noted {
                    let error = error as &dyn std::error::Error;
                    tracing::error!(error, "a window's connection is not let in");
                }
                window.inner().backends = backends;
                let noted = noted.unwrap_or(false);
                if noted {
                    self.ask_for_birth(pid);
                }
                noted
            }
            // Nobody could ever prove that it is gone.
            (Stage::Exclusive, None) => window.order.unproved,
            (
                Stage::Queued
                | Stage::Capped
                | Stage::ReadOnly
                | Stage::Draining
                | Stage::Ending
                | Stage::Closed,
                _,
            ) => false,
        };
        // It may have left.
        let _ = arrived.answer.send(may);
        window.tell();
    }
}

/// An error and its causes in one line.
fn with_causes(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    let texts: Vec<String> = causes.map(ToString::to_string).collect();
    texts.join(": ")
}
