//! Sessions that did not come through us: found again and again while a hold lasts, told of, and
//! treated as the policy says.
//!
//! The drain itself only counts them. Whoever comes when it has ended, in the middle of a window, is
//! found here.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::proof::{About, View, look, with_causes};
use super::report::{Blocker, DrainReport};
use crate::config::{Bypass, Scope};
use crate::gate::Gate;
use crate::gate::mode::{Generation, Holder};
use crate::server::control::{Backend, Control, Identity};
use crate::session::registry::Sessions;

/// The time between two looks: whoever comes is treated within a second.
const SCAN: Duration = Duration::from_millis(400);

/// The time after which an order is given again to one that is still there.
const AGAIN: Duration = Duration::from_secs(1);

/// How many sessions a report names in one list: one that comes back again and again is told of in
/// the log, and does not fill our memory.
pub(super) const NAMED_MAX: usize = 500;

/// Whom a watch has seen or done something to.
#[derive(Debug, Clone)]
pub struct Sighting {
    /// The database.
    pub database: String,
    /// Who it is.
    pub who: Blocker,
    /// What happened.
    pub news: News,
}

/// What happened to a bypass session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// It is in a transaction and was not before.
    Seen,
    /// What it ran was cancelled.
    Cancelled,
    /// It was terminated.
    Terminated,
    /// The server did not take the order, for this reason.
    Refused(String),
}

impl fmt::Display for News {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            News::Seen => f.write_str("in a transaction"),
            News::Cancelled => f.write_str("cancelled"),
            News::Terminated => f.write_str("terminated"),
            News::Refused(why) => write!(f, "cannot be ended: {why}"),
        }
    }
}

/// Who is told; never waits.
pub type Tell = Arc<dyn Fn(Sighting) + Send + Sync>;

/// Watches the bypass sessions of one hold.
pub struct Watch {
    /// The closed gate.
    pub gate: Arc<Gate>,
    /// Whose hold it is for: the watch ends with it.
    pub holder: Holder,
    /// Which hold.
    pub generation: Generation,
    /// The sessions that are ours.
    pub sessions: Arc<Sessions>,
    /// Whom to ask and to order.
    pub control: Arc<Control>,
    /// What is done about them.
    pub policy: Bypass,
    /// The report of the hold's drain, which goes on to name them when the drain has ended.
    pub progress: Arc<watch::Sender<DrainReport>>,
    /// Who is told.
    pub tell: Tell,
}

/// The bypass sessions of a database at one moment.
#[derive(Debug)]
pub struct Around {
    /// Those in a transaction.
    pub who: Vec<Blocker>,
    /// Why there may be more, or others.
    pub unknown: Option<String>,
}

/// Looks once for the bypass sessions of a database.
pub async fn around(database: &str, sessions: &Sessions, control: &Control) -> Around {
    let scope = Scope::default();
    let all = (&scope, About::All);
    let view = look(database, all, sessions, control, Bypass::Wait).await;
    Around {
        who: view.past_us(),
        unknown: view.unknown,
    }
}

/// Somebody who was told of; once, however many transactions it has.
#[derive(Default)]
struct Known {
    ordered: Option<Instant>,
    refused: bool,
}

impl Watch {
    /// Runs until the hold ends. One that ignores bypass sessions has nothing to do: the drain names
    /// them.
    pub async fn run(self) {
        if self.policy == Bypass::Ignore {
            return;
        }
        tokio::select! {
            () = self.watch() => {}
            () = self.gate.gone(self.holder, self.generation) => {}
        }
    }

    async fn watch(&self) {
        let mut known = BTreeMap::new();
        loop {
            let database = self.gate.database();
            let (sessions, control) = (&self.sessions, &self.control);
            let all = (self.gate.scope(), About::All);
            let view = look(database, all, sessions, control, self.policy).await;
            if self.publish(&view) {
                self.compare(&view, &mut known);
                // Behind a pooler a process id may be anybody's.
                if !view.pooled {
                    self.treat(&view, &mut known).await;
                }
            }
            tokio::time::sleep(SCAN).await;
        }
    }

    /// Puts the look into the report; false when it told nothing of bypass sessions.
    fn publish(&self, view: &View) -> bool {
        let seen = !view.failed;
        self.progress.send_if_modified(|report| {
            let unknown = view.unknown.clone();
            let past_us = match seen {
                true => view.past_us(),
                false => report.bypass.clone(),
            };
            let news = report.bypass != past_us || report.bypass_unknown != unknown;
            report.bypass = past_us;
            report.bypass_unknown = unknown;
            news
        });
        seen
    }

    /// Tells who came.
    fn compare(&self, view: &View, known: &mut BTreeMap<Identity, Known>) {
        let there: Vec<_> = view.bypass.iter().filter_map(Backend::identity).collect();
        if known.len() > NAMED_MAX {
            known.retain(|identity, _| there.contains(identity));
        }
        for backend in &view.bypass {
            let Some(identity) = backend.identity() else {
                continue;
            };
            known.entry(identity).or_insert_with(|| {
                self.tell(Blocker::past_us(backend), News::Seen);
                Known::default()
            });
        }
    }

    async fn treat(&self, view: &View, known: &mut BTreeMap<Identity, Known>) {
        for backend in &view.bypass {
            let Some(identity) = backend.identity() else {
                continue;
            };
            let Some(known) = known.get_mut(&identity) else {
                continue;
            };
            if known.ordered.is_some_and(|at| at.elapsed() < AGAIN) {
                continue;
            }
            let first = known.ordered.is_none();
            let (ordered, done) = match self.policy {
                Bypass::Ignore | Bypass::Wait => continue,
                Bypass::Cancel if !backend.is_active() => continue,
                Bypass::Cancel => (self.control.cancel_one(identity).await, News::Cancelled),
                Bypass::Terminate => (self.control.terminate_one(identity).await, News::Terminated),
            };
            known.ordered = Some(Instant::now());
            match ordered {
                // It has gone meanwhile.
                Ok(false) => {}
                Ok(true) if !first => {}
                Ok(true) => self.done(Blocker::past_us(backend), done),
                Err(error) if !known.refused => {
                    known.refused = true;
                    self.tell(
                        Blocker::past_us(backend),
                        News::Refused(with_causes(&error)),
                    );
                }
                Err(_) => {}
            }
        }
    }

    fn done(&self, who: Blocker, news: News) {
        self.progress.send_modify(|report| {
            let list = match news {
                News::Cancelled => &mut report.cancelled,
                News::Terminated => &mut report.terminated,
                News::Seen | News::Refused(_) => return,
            };
            if list.len() < NAMED_MAX {
                list.push(who.clone());
            }
        });
        self.tell(who, news);
    }

    fn tell(&self, who: Blocker, news: News) {
        let database = self.gate.database().to_owned();
        (self.tell)(Sighting {
            database,
            who,
            news,
        });
    }
}
