//! Windows that somebody else was given: what their holders ask and show, kept apart from the product,
//! and what must hold of them.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use pgdrain::config::{AskedCap, Blocked, Bypass};
use pgdrain::drain::escalation::Ladder;
use pgdrain::drain::report::Outcome;
use pgdrain::gate::Gate;
use pgdrain::gate::mode::Holder;
use pgdrain::session::passes::{Pass, Passes};
use pgdrain::tasks::Tasks;
use pgdrain::window::lease::Term;
use pgdrain::window::steps::{After, Command, Denied, Stage, WindowMode};
use pgdrain::window::{CapAround, Desk, IfBusy, Lent, NotTaken, Order};
use pgdrain::wire::window_key::WindowKey;

use crate::dice::Dice;
use crate::play::millis;
use crate::step::WAIT_MAX;

/// How the names of those begin who ask for a window: a hold and a cap carry them.
pub(crate) const HOLDER: &str = "holder ";

/// A window as it is asked for; the rest is as the settings have it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asks {
    lasts: Duration,
    lease: Duration,
    on_lost: After,
    if_busy: IfBusy,
    connections: Option<u32>,
    unproved: bool,
    cap: Option<CapAround>,
}

impl Asks {
    pub(crate) fn new(dice: &mut Dice) -> Self {
        let cap = CapAround {
            at: AskedCap::Transactions(1),
            before: Duration::from_millis(2_050),
            after: Duration::from_millis(dice.one_of(&[0, 5_050])),
        };
        Self {
            lasts: Duration::from_millis(dice.one_of(&[3_050, 20_050, 60_050])),
            lease: Duration::from_millis(dice.one_of(&[1_050, 10_050, 60_050])),
            on_lost: dice.one_of(&[After::Reopen, After::Stay]),
            if_busy: dice.one_of(&[IfBusy::Refuse, IfBusy::Queue]),
            connections: dice.one_of(&[None, Some(1), Some(2)]),
            unproved: dice.percent(90),
            cap: dice.percent(25).then_some(cap),
        }
    }
}

/// A pass on its way: `None` until the window has answered, and inside whether it may go on.
type Arriving = Arc<Mutex<Option<Option<(Pass, i32)>>>>;

/// A window, as its holder knows it.
pub(crate) struct Loan {
    pub(crate) window: Arc<Lent>,
    order: Order,
    idempotency_key: String,
    secret: String,
    /// Until when its lease lasts unless it is renewed, in milliseconds of the simulation.
    until: u64,
    /// How many of its connections were let in.
    let_in: u32,
    arriving: Vec<Arriving>,
}

/// An order by the one of that number.
fn order(database: &str, asks: Asks, ladder: Ladder, number: u64) -> Order {
    Order {
        database: database.into(),
        mode: WindowMode::Exclusive,
        read_only_first: None,
        duration: asks.lasts,
        lease: asks.lease,
        on_lost: asks.on_lost,
        if_busy: asks.if_busy,
        connections: asks.connections,
        blocked: Blocked::Queue,
        client_deadline: WAIT_MAX,
        ladder,
        unproved: asks.unproved,
        cap: asks.cap,
        bypass: Bypass::Ignore,
        fence: false,
        by: format!("{HOLDER}{number}"),
        from: String::new(),
        reason: None,
    }
}

impl Loan {
    /// `last` is the greatest term that was given before, in this life or another.
    pub(crate) async fn ask(
        desk: &Arc<Desk>,
        (database, asks, ladder): (&str, Asks, Ladder),
        now: u64,
        last: &mut Term,
    ) -> Option<Self> {
        let order = order(database, asks, ladder, last.0);
        let idempotency_key = format!("key {}", last.0);
        let taken = match desk.ask(order.clone(), Some(&idempotency_key)).await {
            Ok(taken) => taken,
            Err(NotTaken::Busy(_)) => {
                assert_eq!(order.if_busy, IfBusy::Refuse, "it would have waited");
                return None;
            }
            Err(error) => panic!("{error}"),
        };
        let term = taken.window.term();
        assert!(term > *last, "{term:?} was given before: {last:?}");
        *last = term;
        Some(Self {
            window: taken.window,
            order,
            idempotency_key,
            secret: taken.secret.expect("it is new"),
            until: now + millis(asks.lease),
            let_in: 0,
            arriving: Vec::new(),
        })
    }

    /// Asks for the same again, as who did not hear the answer does.
    pub(crate) async fn ask_again(&self, desk: &Arc<Desk>) {
        let again = desk.ask(self.order.clone(), Some(&self.idempotency_key));
        let again = again.await.expect("it is remembered");
        assert_eq!(again.window.id, self.window.id, "another window");
        if let Some(secret) = again.secret {
            assert_eq!(secret, self.secret, "another secret");
        }
    }

    fn is_over(&self) -> bool {
        self.window.end().is_some()
    }

    /// Commands as the holder that it is, or with the term of another.
    pub(crate) fn command(&mut self, command: Command, off_by: u64, now: u64) {
        let term = self.window.term();
        let shown = Term(term.0.wrapping_add(off_by));
        let was_over = self.is_over();
        let done = self.window.command(command, shown, ("a holder", ""));
        match done {
            Err(Denied::Late(_)) => {
                assert!(shown != term, "its own term is late");
                assert_eq!(self.is_over(), was_over, "ended by another term");
            }
            Err(Denied::Over(_)) => assert!(self.is_over(), "over and going on"),
            Ok(()) => {
                assert!(shown == term, "another term counts");
                assert!(!was_over, "a command to what is over");
                assert!(now < self.until, "the lease was over");
            }
        }
        if done.is_ok() && command == Command::Renew {
            self.until = self.until.max(now + millis(self.order.lease));
        }
    }

    /// Shows the key; who is let in waits until the window has written it down.
    pub(crate) fn show(&mut self, desk: &Desk, passes: &Arc<Passes>, (pid, tasks): (i32, &Tasks)) {
        let key = WindowKey {
            window: self.window.id.clone(),
            secret: self.secret.clone(),
        };
        let database = &self.order.database;
        let Some(mut pass) = passes.show(&key, database) else {
            return;
        };
        let stage = self.window.stage();
        assert!(
            matches!(stage, Stage::Exclusive | Stage::Ending),
            "the key is valid: {stage}"
        );
        let (_, inside) = self.window.connections(desk.passes());
        assert!(inside > 0, "inside, and not counted");
        let arriving = Arriving::default();
        self.arriving.push(Arc::clone(&arriving));
        tasks.spawn("arrival", async move {
            let may = pass.arrive(Some(pid)).await;
            let answered = may.then_some((pass, pid));
            *arriving.lock().unwrap_or_else(PoisonError::into_inner) = Some(answered);
        });
    }

    /// The connections that may go on.
    pub(crate) fn arrived(&mut self) -> Vec<(Pass, i32)> {
        let mut passes = Vec::new();
        self.arriving.retain(|arriving| {
            let mut arriving = arriving.lock().unwrap_or_else(PoisonError::into_inner);
            match arriving.take() {
                Some(pass) => {
                    passes.extend(pass);
                    false
                }
                None => true,
            }
        });
        self.let_in += u32::try_from(passes.len()).expect("few");
        passes
    }

    /// Whether this hold is its.
    pub(crate) fn holds(&self, by: &str) -> bool {
        self.order.by == by
    }

    /// Whether it is exclusive, and not opened from under it.
    pub(crate) fn is_alone_in(&self, gate: &Gate) -> bool {
        let holds = gate.holds().1.into_iter();
        let mut of_window = holds.filter(|(holder, _)| *holder == Holder::Window);
        self.order.database == gate.database()
            && self.window.stage() == Stage::Exclusive
            && of_window.any(|(_, hold)| self.holds(&hold.spec.by))
    }

    /// Whether its connections may still be at work.
    pub(crate) fn may_work(&self) -> bool {
        matches!(self.window.stage(), Stage::Exclusive | Stage::Ending)
    }

    /// What must hold after each step.
    pub(crate) fn check(&self, now: u64, at_rest: bool) {
        let most = self.order.connections.unwrap_or(u32::MAX);
        assert!(self.let_in <= most, "{} of {most} came in", self.let_in);
        if at_rest && !self.is_over() {
            assert!(now < self.until, "its lease was over: {:?}", self.window);
        }
    }
}

/// Something has ended its hold, although it may still be on for a moment.
pub(crate) fn is_done(window: &Lent) -> bool {
    let reopens = window.end().is_some_and(|end| end.after == After::Reopen);
    let refused = window.drain().is_some_and(|drain| match drain.outcome {
        Outcome::Writable | Outcome::Exhausted | Outcome::Ended => true,
        Outcome::Unproved => !window.order.unproved,
        Outcome::Draining | Outcome::Drained => false,
    });
    reopens || refused
}
