//! One window that somebody was given: what can be asked and told about it. What its steps say is done
//! by the task in `driver`.

mod driver;
mod waits;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use super::desk::Order;
use super::lease::Term;
use super::steps::{Command, Denied, Effect, End, Event, Life, Stage};
use crate::audit::{self, Audit, Kind};
use crate::clock;
use crate::drain::report::DrainReport;
use crate::session::passes::{Hash, Passes};

pub(super) use driver::Driver;

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
