//! One window that somebody was given: what can be asked and told about it, and the task that does
//! what its steps say.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{sleep_until, timeout};

use super::caps::CapRequest;
use super::controller::Controller;
use super::desk::{IfBusy, Order};
use super::drains::Draining;
use super::journal::LentRecord;
use super::lease::Term;
use super::opening::Steering;
use super::steps::{Command, Denied, Effect, End, Event, Life, Stage};
use super::windows::{Granted, Refused, WindowRequest};
use crate::audit::{self, Audit, Kind};
use crate::clock;
use crate::config::AskedCap;
use crate::drain::report::DrainReport;
use crate::session::passes::{Arrived, Hash, Passes};

/// Connections that wait to be written down; the next waits for a place.
const ARRIVALS: usize = 16;

/// A window of somebody else's, as long as it is remembered.
#[derive(Debug)]
pub struct Lent {
    /// Its name.
    pub id: String,
    /// When it was asked for.
    pub since: Timestamp,
    /// What was asked for.
    pub order: Order,
    /// The hash of the idempotency key it was ordered by.
    key: Option<Hash>,
    secret: Hash,
    inner: Mutex<Inner>,
    effects: mpsc::UnboundedSender<Effect>,
    /// Counts what there is to tell.
    news: watch::Sender<u64>,
    audit: Arc<Audit>,
}

#[derive(Debug)]
struct Inner {
    life: Life,
    drain: Option<watch::Receiver<DrainReport>>,
    /// Why it was not granted, or what it waits for.
    detail: Option<String>,
    /// The backends of its connections so far.
    backends: Vec<i32>,
    /// How many came in, kept beyond its end.
    used: u32,
}

impl Lent {
    pub(super) fn new(
        (id, since): (String, Timestamp),
        order: Order,
        (key, secret): (Option<Hash>, Hash),
        life: Life,
        (effects, audit): (mpsc::UnboundedSender<Effect>, Arc<Audit>),
    ) -> Lent {
        let inner = Inner {
            life,
            drain: None,
            detail: None,
            backends: Vec::new(),
            used: 0,
        };
        Lent {
            id,
            since,
            order,
            key,
            secret,
            inner: Mutex::new(inner),
            effects,
            news: watch::Sender::new(1),
            audit,
        }
    }

    pub(super) fn is_ordered_by(&self, key: &Hash) -> bool {
        self.key.as_ref() == Some(key)
    }

    /// Where it stands.
    pub fn stage(&self) -> Stage {
        self.inner().life.stage()
    }

    /// How it ended, or is about to.
    pub fn end(&self) -> Option<End> {
        self.inner().life.end()
    }

    /// Its term.
    pub fn term(&self) -> Term {
        self.inner().life.lease().term()
    }

    /// Until when its lease lasts, and its own end once traffic is held for it.
    pub fn times(&self) -> (Instant, Option<Instant>) {
        let inner = self.inner();
        (inner.life.lease().until(), inner.life.lease().end())
    }

    /// How its drain goes, or went.
    pub fn drain(&self) -> Option<DrainReport> {
        let inner = self.inner();
        inner.drain.as_ref().map(|drain| drain.borrow().clone())
    }

    /// Why it was not granted, or what it waits for.
    pub fn detail(&self) -> Option<String> {
        self.inner().detail.clone()
    }

    /// How many connections came in, and how many are inside now.
    pub fn connections(&self, passes: &Passes) -> (u32, usize) {
        let (used, inside) = passes.counts(&self.id);
        (used.max(self.inner().used), inside)
    }

    /// How many pieces of news there were.
    pub fn seq(&self) -> u64 {
        *self.news.borrow()
    }

    /// Waits for news behind `after`, at most so long. Cancel safe.
    pub async fn news(&self, after: u64, wait: Duration) {
        let mut news = self.news.subscribe();
        // An error only says that there were none.
        let _ = timeout(wait, news.wait_for(|seq| *seq > after)).await;
    }

    /// Does what a command of this term wants, or says why not. `caller` is who commands, and from
    /// where.
    pub fn command(
        &self,
        command: Command,
        term: Term,
        caller: (&str, &str),
    ) -> Result<(), Denied> {
        self.change(caller, |life| life.command(command, term, clock::now()))
    }

    fn apply(&self, event: Event) {
        let caller = match event {
            Event::Clock => (self.order.by.as_str(), "timer"),
            Event::Turn
            | Event::Busy
            | Event::Granted
            | Event::NotGranted
            | Event::Opened
            | Event::Gone => (self.order.by.as_str(), self.order.from.as_str()),
        };
        self.change(caller, |life| (life.apply(event, clock::now()), ()));
    }

    fn change<T>(
        &self,
        caller: (&str, &str),
        change: impl FnOnce(&mut Life) -> (Vec<Effect>, T),
    ) -> T {
        let mut inner = self.inner();
        let before = inner.life.stage();
        let (effects, outcome) = change(&mut inner.life);
        // Under the lock, so that they are carried out in the order of what they follow from.
        for effect in effects {
            // Without its driver the proxy is stopping.
            let _ = self.effects.send(effect);
        }
        let (after, end) = (inner.life.stage(), inner.life.end());
        let detail = inner.detail.clone();
        drop(inner);
        if before != after {
            self.tell_stage(caller, (before, after), (end, detail));
        }
        outcome
    }

    fn tell_stage(
        &self,
        (by, from): (&str, &str),
        (before, after): (Stage, Stage),
        (end, detail): (Option<End>, Option<String>),
    ) {
        let (database, window) = (&self.order.database, &self.id);
        tracing::info!(database, window, %before, %after, ?end, detail, "window");
        let why = end.map(|end| match detail {
            Some(detail) => format!("{window}: {}: {detail}", end.why),
            None => format!("{window}: {}", end.why),
        });
        self.audit.tell(audit::Event {
            by: Some(by.to_owned()),
            from: Some(from.to_owned()),
            reason: self.order.reason.clone(),
            before: Some(before.to_string()),
            after: Some(after.to_string()),
            outcome: why.or_else(|| Some(window.clone())),
            ..audit::Event::of(Kind::Window, database)
        });
        self.tell();
    }

    fn tell(&self) {
        self.news.send_modify(|seq| *seq += 1);
    }

    fn note(&self, detail: String) {
        self.inner().detail = Some(detail);
    }

    fn due(&self) -> Option<Instant> {
        self.inner().life.due()
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

type Under<T> = Option<Pin<Box<dyn Future<Output = T> + Send>>>;

/// Carries out what a window's steps say, and tells them what comes of it.
pub(super) struct Driver {
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
    /// At how many transactions at once traffic was capped for it.
    capped: Option<u32>,
}

impl Driver {
    pub(super) fn new(
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
    pub(super) async fn run(mut self) {
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
        if self.capped.is_some() {
            self.cap_at(AskedCap::Off, Duration::ZERO).await;
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

    /// Leaves the same cap on for a while; before traffic flows, so that it does not come at once.
    async fn cap_after(&mut self) {
        if let (Some(cap), Some(transactions)) = (self.window.order.cap, self.capped)
            && !cap.after.is_zero()
        {
            // As many as before: nothing has run lately that a part could be taken of.
            self.cap_at(AskedCap::Transactions(transactions), cap.after)
                .await;
            self.capped = None;
        }
    }

    async fn cap_at(&mut self, at: AskedCap, duration: Duration) -> Option<u32> {
        let order = &self.window.order;
        let request = CapRequest {
            at,
            duration,
            by: order.by.clone(),
            reason: Some(format!("window {}", self.window.id)),
        };
        match self.controller.cap(&order.database, request).await {
            Ok(set) => set.map(|set| set.transactions),
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
                noted.unwrap_or(false)
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

/// The outcome of what is under way; never, while nothing is.
async fn under_way<T>(task: &mut Under<T>) -> T {
    match task {
        Some(running) => {
            let outcome = running.await;
            *task = None;
            outcome
        }
        None => std::future::pending().await,
    }
}

/// The next thing that is told, if there is anybody to tell it.
async fn told<T>(receiver: &mut Option<mpsc::UnboundedReceiver<T>>) -> Option<T> {
    let told = match receiver {
        Some(waiting) => waiting.recv().await,
        None => std::future::pending().await,
    };
    if told.is_none() {
        *receiver = None;
    }
    told
}

/// Waits until this is said; for ever, if nobody is left to say it.
async fn said(word: oneshot::Receiver<()>) {
    if word.await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Waits until traffic is opened from under the window.
async fn lost(receiver: &mut Option<watch::Receiver<Option<String>>>) {
    let taken = match receiver {
        Some(lost) => lost.wait_for(Option::is_some).await.is_ok(),
        None => std::future::pending().await,
    };
    *receiver = None;
    if !taken {
        std::future::pending().await
    }
}

/// Waits until a window is somewhere else.
async fn moved_on(news: &mut watch::Receiver<u64>, window: &Lent, from: Stage) {
    // Its sender is the window's.
    let _told = news.wait_for(|_| window.stage() != from).await.is_ok();
}

/// Waits for the drain's next piece of news.
async fn changed(receiver: &mut Option<watch::Receiver<DrainReport>>) {
    let more = match receiver {
        Some(drain) => drain.changed().await.is_ok(),
        None => std::future::pending().await,
    };
    if !more {
        *receiver = None;
        std::future::pending().await
    }
}
