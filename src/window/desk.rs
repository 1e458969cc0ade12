//! Where anybody asks for a window, and where the windows that somebody was given are found again.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use tokio::sync::{Mutex as AsyncMutex, mpsc};

use super::controller::Controller;
use super::journal::{JournalError, Record};
use super::lease::{Lease, Term};
use super::lent::{Driver, Lent};
use super::steps::{After, Before, Life, Stage, WindowMode};
use super::windows::{Refused, WindowRequest};
use crate::clock;
use crate::config::{AskedCap, Blocked, Bypass, words};
use crate::drain::escalation::Ladder;
use crate::session::passes::{Hash, Passes, hash};
use crate::tasks::Tasks;

/// Windows that are open or wait, over all databases.
pub const OPEN_MAX: usize = 64;

/// Windows that are over and can still be asked about.
const KEPT_MAX: usize = 64;

/// How much of a secret's 256 bits is shown. With it, a key fits into `application_name`, of which
/// Postgres takes 63 bytes, and nobody guesses it.
const SECRET_BYTES: usize = 16;

words! {
    /// What a request does that finds another window before it.
    IfBusy {
        /// It is refused at once.
        Refuse = "refuse",
        /// It waits for its turn.
        Queue = "queue",
    }
}

/// A cap around a window: less is to be drained, and less comes at once when traffic flows again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CapAround {
    /// At how many transactions at once.
    pub at: AskedCap,
    /// How long before traffic is held.
    pub before: Duration,
    /// How long after it flows again.
    pub after: Duration,
}

/// A window as somebody asks for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// The database.
    pub database: String,
    /// Who waits for it.
    pub mode: WindowMode,
    /// How long reads go on first, while writes are held already.
    pub read_only_first: Option<Duration>,
    /// How long traffic may be held for it at most, the drain included.
    pub duration: Duration,
    /// How long it goes on without a renewal.
    pub lease: Duration,
    /// What happens to traffic when its holder, or its time, is lost while it works.
    pub on_lost: After,
    /// What to do when there is another window.
    pub if_busy: IfBusy,
    /// How many connections may show its key; `None` is any number.
    pub connections: Option<u32>,
    /// What the blocked get.
    pub blocked: Blocked,
    /// How long one client waits at most.
    pub client_deadline: Duration,
    /// How what still runs is ended.
    pub ladder: Ladder,
    /// Whether to go on when the server could not say that nothing runs.
    pub unproved: bool,
    /// How many transactions run at once before and after, if not all.
    pub cap: Option<CapAround>,
    /// What is done about sessions that did not come through us, for as long as it lasts.
    pub bypass: Bypass,
    /// Whether the server keeps new sessions out meanwhile.
    pub fence: bool,
    /// Who asks.
    pub by: String,
    /// From where.
    pub from: String,
    /// Why.
    pub reason: Option<String>,
}

/// Why an order was not taken.
#[derive(Debug, thiserror::Error)]
pub enum NotTaken {
    /// Another window comes first, and this one would not wait.
    #[error(transparent)]
    Busy(Refused),
    /// As many are open or wait as may.
    #[error("{OPEN_MAX} windows are open or wait already")]
    TooMany,
    /// The same idempotency key came with another order before.
    #[error("this idempotency key came with another request before")]
    OtherRequest,
    /// Nothing may be begun that a crash would forget.
    #[error("the journal cannot be written")]
    Journal(#[from] JournalError),
}

/// An order that was taken.
#[derive(Debug)]
pub struct Taken {
    /// The window.
    pub window: Arc<Lent>,
    /// Its secret, for the one who ordered it; nobody else is ever told. `None` for one who asks
    /// again after it was used.
    pub secret: Option<String>,
}

/// See the module.
#[derive(Debug)]
pub struct Desk {
    controller: Arc<Controller>,
    passes: Arc<Passes>,
    tasks: Tasks,
    /// What secrets are made of.
    seed: Hash,
    /// Orders are taken one after the other, so that the same one is not taken twice.
    asking: AsyncMutex<()>,
    /// Oldest first.
    windows: Mutex<VecDeque<Arc<Lent>>>,
}

impl Desk {
    /// Gives windows of this controller; who may go through them is told to `passes`.
    #[must_use]
    pub fn new(controller: Arc<Controller>, passes: Arc<Passes>, tasks: Tasks) -> Desk {
        Desk {
            controller,
            passes,
            tasks,
            seed: rand::random(),
            asking: AsyncMutex::default(),
            windows: Mutex::default(),
        }
    }

    /// Takes an order: the window is on its way when this returns. The same idempotency key gets
    /// the same window, for as long as that is remembered.
    pub async fn ask(
        self: &Arc<Self>,
        order: Order,
        idempotency_key: Option<&str>,
    ) -> Result<Taken, NotTaken> {
        let _one_after_the_other = self.asking.lock().await;
        let key = idempotency_key.map(|key| hash(&format!("{} {key}", order.database)));
        if let (Some(key), Some(shown)) = (key, idempotency_key)
            && let Some(known) = self.ordered_by(&key)
        {
            return self.again(known, &order, shown);
        }
        self.may_take(&order)?;
        let id = WindowRequest::new_id();
        let secret = self.secret(&id, idempotency_key);
        let mut term = Term::default();
        let count = |journal: &mut Record| {
            journal.term.0 += 1;
            term = journal.term;
        };
        self.controller.record(count, || ()).await?;
        let lease = Lease::begin(term, order.lease, clock::now());
        let (effects, to_do) = mpsc::unbounded_channel();
        let on_lost = order.on_lost;
        let before = Before {
            capped: order.cap.map(|cap| cap.before),
            read_only: order.read_only_first,
        };
        let window = Arc::new(Lent::new(
            (id, clock::wall()),
            order,
            (key, hash(&secret)),
            Life::begin(lease, on_lost, before),
            (effects, Arc::clone(self.controller.audit())),
        ));
        self.keep(Arc::clone(&window));
        let queue = &self.controller.windows;
        queue.queue(&window.order.database, &window.id);
        let driver = Driver::new(
            Arc::clone(&self.controller),
            Arc::clone(&self.passes),
            Arc::clone(&window),
            to_do,
        );
        let stop = self.tasks.shutdown_token();
        self.tasks.spawn("window", async move {
            tokio::select! {
                () = driver.run() => {}
                // What it held is in the journal, and is settled by the next process.
                () = stop.cancelled() => {}
            }
        });
        let secret = Some(secret);
        Ok(Taken { window, secret })
    }

    fn again(&self, known: Arc<Lent>, order: &Order, shown: &str) -> Result<Taken, NotTaken> {
        if !known.order.is_same(order) {
            return Err(NotTaken::OtherRequest);
        }
        let fresh = known.stage() != Stage::Closed && known.connections(&self.passes).0 == 0;
        let secret = fresh.then(|| self.secret(&known.id, Some(shown)));
        Ok(Taken {
            window: known,
            secret,
        })
    }

    fn may_take(&self, order: &Order) -> Result<(), NotTaken> {
        if self.open() >= OPEN_MAX {
            return Err(NotTaken::TooMany);
        }
        let busy = self.controller.windows.busy(&order.database);
        match (order.if_busy, busy) {
            (IfBusy::Refuse, Some(busy)) => Err(NotTaken::Busy(busy)),
            (IfBusy::Refuse, None) | (IfBusy::Queue, _) => Ok(()),
        }
    }

    /// The secret of a window. With an idempotency key it can be made again by who shows that, of
    /// which only a hash is kept here; without one it cannot be made again by anybody.
    fn secret(&self, id: &str, idempotency_key: Option<&str>) -> String {
        let once: Hash = rand::random();
        let mut keyed =
            Hmac::<Sha256>::new_from_slice(&self.seed).expect("HMAC takes keys of every length");
        keyed.update(id.as_bytes());
        keyed.update(idempotency_key.map_or(&once[..], str::as_bytes));
        let bytes = keyed.finalize().into_bytes();
        URL_SAFE_NO_PAD.encode(&bytes[..SECRET_BYTES])
    }

    /// A window by its name.
    #[must_use]
    pub fn find(&self, id: &str) -> Option<Arc<Lent>> {
        self.windows()
            .iter()
            .find(|window| window.id == id)
            .cloned()
    }

    /// Every window that is remembered, oldest first; of one database, if one is named.
    #[must_use]
    pub fn list(&self, database: Option<&str>) -> Vec<Arc<Lent>> {
        let windows = self.windows();
        let wanted = windows
            .iter()
            .filter(|window| database.is_none_or(|name| window.order.database == name));
        wanted.cloned().collect()
    }

    /// How many windows are before this one; `None` when it does not wait.
    #[must_use]
    pub fn position(&self, window: &Lent) -> Option<usize> {
        let queued = window.stage() == Stage::Queued;
        let windows = &self.controller.windows;
        let open = usize::from(windows.is_open(&window.order.database));
        let before = windows.before(&window.order.database, &window.id);
        before.filter(|_| queued).map(|before| before + open)
    }

    /// Who may go through windows.
    #[must_use]
    pub fn passes(&self) -> &Passes {
        &self.passes
    }

    fn ordered_by(&self, key: &Hash) -> Option<Arc<Lent>> {
        let windows = self.windows();
        let mut found = windows.iter().rev();
        found.find(|window| window.is_ordered_by(key)).cloned()
    }

    fn open(&self) -> usize {
        let windows = self.windows();
        let open = windows.iter();
        open.filter(|window| window.stage() != Stage::Closed)
            .count()
    }

    /// Remembers a window, and forgets the oldest of those that are over.
    fn keep(&self, window: Arc<Lent>) {
        let mut windows = self.windows();
        windows.push_back(window);
        let over = |window: &&Arc<Lent>| window.stage() == Stage::Closed;
        let mut surplus = windows.iter().filter(over).count().saturating_sub(KEPT_MAX);
        windows.retain(|window| {
            let forget = surplus > 0 && over(&window);
            surplus -= usize::from(forget);
            !forget
        });
    }

    fn windows(&self) -> MutexGuard<'_, VecDeque<Arc<Lent>>> {
        self.windows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Order {
    /// Whether this is the same order, from wherever it comes.
    fn is_same(&self, other: &Order) -> bool {
        let from = self.from.clone();
        *self
            == Order {
                from,
                ..other.clone()
            }
    }
}
