//! What outlives the proxy's process, and the process: plays the steps and checks after each.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use pgdrain::config::Config;
use pgdrain::gate::Gate;
use pgdrain::gate::mode::Mode;
use pgdrain::window::LeftWindow;
use pgdrain::window::lease::Term;
use pgdrain::window::steps::{After, Command};
use tokio::time::Instant;

use crate::conn::Conn;
use crate::dice::Dice;
use crate::inside::{Inside, Turn};
use crate::lent::Loan;
use crate::promised::Promised;
use crate::proxy::Proxy;
use crate::step::{DATABASES, Habits, Step, WAIT_MAX};
use crate::windows::Window;

/// The clock begins ahead of the machine's, so that it need never wait for it.
const AHEAD: u64 = 3_600_000;

/// Steps that are remembered for whoever reads of a failure.
const REMEMBERED: usize = 30;

/// The last steps; all of them when one seed is replayed.
#[derive(Debug, Default)]
pub(crate) struct Log {
    pub(crate) steps: VecDeque<(u64, Step)>,
    pub(crate) all: bool,
}

pub(crate) struct World {
    pub(crate) dice: Dice,
    habits: Habits,
    steps_left: usize,
    /// Milliseconds of the simulation.
    pub(crate) now: u64,
    /// When it began, by the machine's clock.
    origin: Option<Instant>,
    pub(crate) config: Config,
    directory: tempfile::TempDir,
    pub(crate) promised: Promised,
    /// The greatest term that was given.
    pub(crate) last_term: Term,
    /// The process id of the last backend of a window.
    pub(crate) pid: i32,
    log: Rc<RefCell<Log>>,
}

/// What dies with the process.
pub(crate) struct Life {
    pub(crate) proxy: Proxy,
    pub(crate) conns: Vec<Conn>,
    pub(crate) windows: Vec<Window>,
    pub(crate) left: Vec<LeftWindow>,
    pub(crate) inside: Inside,
    pub(crate) loans: Vec<Loan>,
}

impl Life {
    /// How often gates have changed.
    fn changes(&self) -> Vec<Turn> {
        let gates = self.proxy.gates.all();
        let turn = |gate: &Arc<Gate>| Turn::of(gate, &self.proxy.gates.narrow(gate.database()));
        gates.iter().map(turn).collect()
    }

    /// Whether something is still to come when time passes: of a client, or at a gate that lets in who
    /// waited.
    fn goes_on(&self) -> bool {
        let reopens = |gate: &Arc<Gate>| {
            gate.holds().0 == Mode::Open && !gate.is_open() && gate.capped().is_none()
        };
        // Whose turn it is may have to be looked at once more.
        let unused = |gate: &Arc<Gate>| self.has_unused(gate);
        let gates = self.proxy.gates.all();
        self.conns.iter().any(Conn::lags) || gates.iter().any(|it| reopens(it) || unused(it))
    }

    /// How many are at work that go through this gate.
    fn busy(&self, gate: &Gate) -> usize {
        let of_it = self.conns.iter().filter(|conn| conn.goes_through(gate));
        of_it.filter(|conn| conn.is_busy()).count()
    }

    /// Whether permits are out that nobody is at work with.
    fn has_unused(&self, gate: &Gate) -> bool {
        let mut of_it = self.conns.iter().filter(|conn| conn.goes_through(gate));
        of_it.all(Conn::is_countable) && gate.permits() as usize > self.busy(gate)
    }
}

/// How a life ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Died {
    /// By a crash.
    Crashed,
    /// All is over.
    AtTheEnd,
}

impl World {
    pub(crate) fn new(seed: u64, log: Rc<RefCell<Log>>) -> Self {
        let mut dice = Dice::new(seed);
        Self {
            habits: Habits::new(&mut dice),
            steps_left: dice.between(40, 160),
            now: AHEAD,
            origin: None,
            config: crate::proxy::settings(&mut dice),
            directory: tempfile::tempdir().expect("a directory"),
            promised: Promised::default(),
            last_term: Term::default(),
            pid: 0,
            log,
            dice,
        }
    }

    /// One life of the process, on a runtime of its own.
    pub(crate) async fn live(&mut self) -> Died {
        self.set_clock().await;
        let (proxy, _, left) = Proxy::start(&self.config, self.directory.path());
        let policy = self.config.after_restart;
        self.promised.after_crash(&proxy.gates, self.now, policy);
        let mut life = Life {
            proxy,
            conns: Vec::new(),
            windows: Vec::new(),
            left,
            inside: Inside::default(),
            loans: Vec::new(),
        };
        self.check(&mut life, false);
        while self.steps_left > 0 {
            self.steps_left -= 1;
            let there = (life.conns.len(), life.windows.len(), life.loans.len());
            let step = self.habits.next(&mut self.dice, there);
            self.remember(&step);
            if matches!(step, Step::Crash) {
                life.conns.iter_mut().for_each(Conn::crash);
                life.gather(&mut self.promised, self.now);
                return Died::Crashed;
            }
            self.play(&mut life, step).await;
        }
        self.end(&mut life).await;
        Died::AtTheEnd
    }

    /// The clock goes on where it was in the last life.
    async fn set_clock(&mut self) {
        let origin = *self.origin.get_or_insert_with(Instant::now);
        let then = origin + Duration::from_millis(self.now);
        let ahead = then.checked_duration_since(Instant::now());
        tokio::time::advance(ahead.expect("an hour is enough")).await;
    }

    fn remember(&self, step: &Step) {
        let mut log = self.log.borrow_mut();
        if !log.all && log.steps.len() == REMEMBERED {
            log.steps.pop_front();
        }
        log.steps.push_back((self.now - AHEAD, step.clone()));
    }

    pub(crate) async fn pass(&mut self, milliseconds: u64) {
        self.now += milliseconds;
        tokio::time::advance(Duration::from_millis(milliseconds)).await;
    }

    /// Some relays and one task have their turn.
    pub(crate) async fn turn(&mut self, life: &mut Life) {
        if !life.conns.is_empty() {
            let first = self.dice.below(life.conns.len());
            for place in 0..life.conns.len() {
                let place = (first + place) % life.conns.len();
                if self.dice.percent(70) {
                    life.conns[place].poll();
                }
            }
        }
        tokio::task::yield_now().await;
    }

    /// Relays and tasks go on until none of them has anything to do.
    pub(crate) async fn quiesce(&mut self, life: &mut Life) {
        let mut idle = 0;
        while idle < 8 {
            let polled = life.conns.iter_mut().map(Conn::poll);
            let polled = polled.fold(false, |any, polled| any | polled);
            idle = if polled { 0 } else { idle + 1 };
            // Behind all that are ready now.
            let turn = life.proxy.tasks.spawn("turn", async {});
            turn.await.expect("it does nothing");
            life.gather(&mut self.promised, self.now);
        }
    }

    /// Everybody goes on until nobody can.
    pub(crate) async fn rest(&mut self, life: &mut Life) {
        self.exchange(life).await;
        let (mut looks, mut changes) = (0, life.changes());
        let longest = self.config.hold.reopen.longest.as_secs();
        // Behind a gate that has opened some are looked at in a while only, and let in step by step.
        while looks < 3 + longest && life.goes_on() {
            self.pass(1_100).await;
            self.exchange(life).await;
            looks = if life.changes() == changes {
                looks + 1
            } else {
                0
            };
            changes = life.changes();
        }
        self.check(life, true);
    }

    /// Bytes go on until nobody has any.
    async fn exchange(&mut self, life: &mut Life) {
        let mut moved = true;
        while moved {
            self.quiesce(life).await;
            moved = false;
            for conn in &mut life.conns {
                moved |= conn.forward(usize::MAX);
                moved |= conn.serve(usize::MAX);
                moved |= conn.answer(usize::MAX);
            }
        }
        self.quiesce(life).await;
    }

    /// What must hold after every step.
    pub(crate) fn check(&mut self, life: &mut Life, at_rest: bool) {
        life.gather(&mut self.promised, self.now);
        let gates = &life.proxy.gates;
        self.promised.check(gates, self.now, at_rest);
        life.conns.iter_mut().for_each(Conn::look);
        life.inside
            .check(gates, self.config.hold.reopen.transactions);
        for database in DATABASES {
            let Some(gate) = gates.find(database) else {
                continue;
            };
            for gate in [&gate].into_iter().chain(&gates.narrow(database)) {
                let (busy, permits) = (life.busy(gate), gate.permits() as usize);
                assert!(
                    busy <= permits,
                    "{busy} at work in {} with {permits} permits",
                    gate.name()
                );
                if at_rest {
                    let nobodys = life.has_unused(gate);
                    assert!(!nobodys, "permits of nobody in {}", gate.name());
                }
            }
            let permits = gate.permits() as usize;
            let waiting = gate.waiting_in_database().0;
            assert!(waiting <= self.config.hold.clients_max, "{waiting} wait");
            let windows = life.windows.iter();
            let alone = windows.filter(|window| window.is_alone_in(database));
            let lent = life.loans.iter().filter(|loan| loan.is_alone_in(&gate));
            let alone = alone.count() + lent.count();
            assert!(alone <= 1, "{alone} windows are exclusive in {database}");
            assert!(
                alone == 0 || permits == 0,
                "{permits} permits in the window in {database}"
            );
        }
        for loan in &life.loans {
            loan.check(self.now, at_rest);
        }
        for conn in life.conns.iter().filter(|conn| conn.is_busy()) {
            let mut loans = life.loans.iter();
            let may = |window| loans.any(|it| it.window.id == window && it.may_work());
            let window = conn.session.window.as_deref();
            assert!(
                window.is_none_or(may),
                "at work in {window:?}, which is over"
            );
        }
        for conn in &mut life.conns {
            conn.check(self.config.hold.bytes_per_client);
            if at_rest {
                conn.check_at_rest(WAIT_MAX);
            }
        }
    }

    /// All is opened and everybody leaves: nothing is left.
    async fn end(&mut self, life: &mut Life) {
        for window in &mut life.windows {
            window.wanted = None;
        }
        for loan in &mut life.loans {
            loan.command(Command::Abort(Some(After::Reopen)), 0, self.now);
        }
        self.quiesce(life).await;
        self.remember(&Step::BreakGlass);
        self.play(life, Step::BreakGlass).await;
        self.rest(life).await;
        life.conns.iter_mut().for_each(Conn::vanish);
        for _ in 0..4 {
            life.proxy.sessions.forget_departed(|_| false);
            self.rest(life).await;
            self.pass(120_000).await;
        }
        self.rest(life).await;
        for conn in &life.conns {
            assert!(conn.is_over(), "the session has not ended: {conn:?}");
        }
        for gate in life.proxy.gates.all() {
            let left = (gate.permits(), gate.waiting().0, gate.is_open());
            assert_eq!(left, (0, 0, true), "permits and places that nobody has");
        }
        let tasks = life.proxy.tasks.len();
        assert_eq!(tasks, 0, "tasks that nobody waits for");
    }
}
