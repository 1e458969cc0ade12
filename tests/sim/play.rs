//! Carries the steps out, and writes down what they promise.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use pgdrain::config::{AskedCap, Bypass, Then};
use pgdrain::drain::escalation::Ladder;
use pgdrain::gate::mode::{HoldSpec, Holder};
use pgdrain::gate::{Gate, Gates};
use pgdrain::session::registry::Signals;
use pgdrain::window::steps::{After, WindowMode};
use pgdrain::window::{
    CapRequest, Draining, HoldRequest, LeftWindow, Steering, Target, WindowRequest,
};
use tokio::sync::{mpsc, oneshot};

use crate::lent::{Asks, Loan};
use crate::promised::{Capped, Hold, Promised};
use crate::proxy::Proxy;
use crate::step::{Ask, DATABASES, Step};
use crate::whom::Whom;
use crate::windows::Window;
use crate::world::{Life, World};

impl World {
    pub(crate) async fn play(&mut self, life: &mut Life, step: Step) {
        match step {
            Step::Connect {
                database,
                client,
                collects,
            } => {
                let conn = life.proxy.connect(database, client, collects);
                life.conns.push(conn);
                life.gather(&mut self.promised, self.now);
            }
            Step::Say(conn, acts) => life.conns[conn].shall(acts),
            Step::Forward(conn, bytes) => {
                life.conns[conn].forward(bytes);
            }
            Step::Serve(conn, count) => {
                life.conns[conn].serve(count);
            }
            Step::Answer(conn, bytes) => {
                life.conns[conn].answer(bytes);
            }
            Step::Vanish(conn) => life.conns[conn].vanish(),
            Step::Cancel(conn) => life.conns[conn].cancel(),
            Step::Kill(conn) => {
                life.conns[conn].cut_off = true;
                life.conns[conn].session.signal(Signals::KILL);
            }
            Step::LoseServer(conn) => life.conns[conn].lose_server(),
            Step::Hold {
                database,
                whom,
                ask,
            } => self.hold(life, database, whom, ask).await,
            Step::Open {
                database,
                whom,
                force,
            } => self.open(life, database, whom, force).await,
            Step::Cap {
                database,
                at,
                lasts,
            } => self.cap(life, database, at, lasts).await,
            Step::BreakGlass => {
                life.gather(&mut self.promised, self.now);
                life.proxy.controller.break_glass();
                self.promised.glass_broken();
            }
            Step::BeginWindow { database, ask } => self.begin_window(life, database, ask),
            Step::GiveUp(window) => {
                let window = &mut life.windows[window];
                if window.granted.is_none() && window.wanted.take().is_some() {
                    unwanted(&mut self.promised, window);
                }
            }
            Step::Finish(window) => self.finish(life, window, true).await,
            Step::StayHeld(window) => self.finish(life, window, false).await,
            Step::HolderDies(window) => {
                // Whoever waits for a window that is being opened gives it up by leaving.
                let window = &mut life.windows[window];
                window.over = window.granted.take().is_some();
            }
            Step::Order { database, asks } => self.order(life, database, asks).await,
            Step::OrderAgain(loan) => life.loans[loan].ask_again(&life.proxy.desk).await,
            Step::Command(loan, command, off_by) => {
                life.loans[loan].command(command, off_by, self.now);
            }
            Step::Show(loan) => {
                self.pid += 1;
                let Proxy {
                    desk,
                    passes,
                    tasks,
                    ..
                } = &life.proxy;
                life.loans[loan].show(desk, passes, (self.pid, tasks));
            }
            Step::Forget => life.proxy.sessions.forget_departed(|_| false),
            Step::Settle { reopen } => self.settle(life, reopen).await,
            Step::Pass(milliseconds) => self.pass(milliseconds).await,
            Step::Turn(turns) => {
                for _ in 0..turns {
                    self.turn(life).await;
                }
            }
            Step::Rest => self.rest(life).await,
            Step::Upkeep => life.proxy.controller.forget_ended().await,
            Step::Crash => unreachable!("a life ends with it"),
        }
        if self.dice.percent(50) {
            self.turn(life).await;
        }
        self.check(life, false);
        life.conns.retain(|conn| !conn.is_over() || !conn.may_go());
        life.windows.retain(|window| !window.over);
    }

    fn spec(ask: Ask) -> HoldSpec {
        HoldSpec {
            duration: ask.lasts,
            then: ask.then,
            read_only: false,
            blocked: ask.blocked,
            sqlstate: None,
            first_stage: Duration::ZERO,
            client_deadline: ask.client_deadline,
            by: "an operator".into(),
            reason: None,
        }
    }

    async fn hold(&mut self, life: &mut Life, database: Option<&str>, whom: Whom, ask: Ask) {
        life.gather(&mut self.promised, self.now);
        let scope = whom.scope();
        let request = HoldRequest {
            scope: scope.clone(),
            spec: Self::spec(ask),
            ladder: Ladder::new(&self.config.hold.ladder),
            bypass: Bypass::Ignore,
        };
        let (target, holder) = match database {
            Some(name) => (Target::Database(name.into()), Holder::Operator),
            None => (Target::Everywhere, Holder::Everywhere),
        };
        let held = life.proxy.controller.hold(&target, request).await;
        let until = self.now + millis(ask.lasts);
        if holder == Holder::Everywhere {
            self.promised.everywhere(&scope, until, ask.then);
        }
        for draining in held.expect("room on the disk") {
            let gate = life.proxy.gates.find_scope(&draining.database, &scope);
            let gate = gate.expect("it was just closed");
            let hold = hold(gate, &draining, until, ask.then);
            self.promised.placed(holder, hold);
        }
        life.gather(&mut self.promised, self.now);
    }

    async fn open(&mut self, life: &mut Life, database: Option<&str>, whom: Whom, force: bool) {
        life.gather(&mut self.promised, self.now);
        let scope = whom.scope();
        let target = database.map_or(Target::Everywhere, |name| Target::Database(name.into()));
        if life
            .proxy
            .controller
            .open(&target, &scope, force)
            .await
            .is_ok()
        {
            self.promised.opened(database, &scope, force);
        }
    }

    async fn cap(&mut self, life: &mut Life, database: &str, at: AskedCap, lasts: Duration) {
        let request = CapRequest {
            at,
            duration: lasts,
            by: "an operator".into(),
            from: None,
            reason: None,
        };
        let set = life.proxy.controller.cap(database, request).await;
        let set = set.expect("room on the disk").map(|cap| Capped {
            transactions: cap.spec.transactions,
            until: self.now + millis(lasts),
        });
        self.promised.capped(database, set);
        life.gather(&mut self.promised, self.now);
    }

    async fn order(&mut self, life: &mut Life, database: &'static str, asks: Asks) {
        let ladder = Ladder::new(&self.config.hold.ladder);
        let asked = (database, asks, ladder);
        let loan = Loan::ask(&life.proxy.desk, asked, self.now, &mut self.last_term);
        life.loans.extend(loan.await);
    }

    fn begin_window(&mut self, life: &mut Life, database: &'static str, ask: Ask) {
        let request = WindowRequest {
            id: WindowRequest::new_id(),
            database: database.into(),
            mode: WindowMode::Exclusive,
            read_only_first: None,
            duration: ask.lasts,
            blocked: ask.blocked,
            client_deadline: ask.client_deadline,
            ladder: Ladder::new(&self.config.hold.ladder),
            bypass: Bypass::Ignore,
            fence: false,
            unproved: true,
            by: "a runner".into(),
            reason: None,
            lent: None,
        };
        let (begun, draining) = mpsc::unbounded_channel();
        let (wanted, given_up) = oneshot::channel::<()>();
        let answer = Arc::new(Mutex::new(None));
        let (controller, told) = (Arc::clone(&life.proxy.controller), Arc::clone(&answer));
        life.proxy.tasks.spawn("window", async move {
            let given_up = async {
                // Dropped is given up.
                let _ = given_up.await;
            };
            let steering = Steering {
                begun,
                hold_all: std::future::pending(),
                given_up,
            };
            let came = controller.begin_window(request, steering).await;
            *told.lock().unwrap_or_else(PoisonError::into_inner) = Some(came);
        });
        life.windows.push(Window {
            database,
            answer,
            begun: draining,
            wanted: Some(wanted),
            generation: None,
            granted: None,
            over: false,
        });
    }

    async fn finish(&mut self, life: &mut Life, window: usize, reopen: bool) {
        let window = &mut life.windows[window];
        window.look();
        let Some(granted) = window.granted.take() else {
            return;
        };
        window.over = true;
        let controller = &life.proxy.controller;
        if reopen {
            unwanted(&mut self.promised, window);
            controller.reopen_after(granted).await;
        } else {
            controller
                .stay_held_after(granted, "a person has to look")
                .await;
        }
    }

    /// What became of a window of before the restart is known now.
    async fn settle(&mut self, life: &mut Life, reopen: bool) {
        let Some(left) = life.left.pop() else {
            return;
        };
        let controller = &life.proxy.controller;
        if !controller.is_left(&left) {
            return;
        }
        if let Some(lent) = &left.lent {
            // Of those that worked nobody can be asked here.
            if lent.on_lost == After::Reopen && lent.backends.is_empty() {
                unwanted_left(&life.proxy.gates, &mut self.promised, &left);
            }
            let controller = Arc::clone(controller);
            let settles = async move { controller.settle_lent(&left).await };
            life.proxy.tasks.spawn("left window", settles);
            return;
        }
        if reopen {
            unwanted_left(&life.proxy.gates, &mut self.promised, &left);
            controller.settle(&left).await;
        } else {
            controller.settle_held(&left, "a person has to look").await;
        }
    }
}

impl Life {
    /// The holds of windows that somebody else was given, and the connections that came in.
    fn gather_lent(&mut self, promised: &mut Promised) {
        for gate in self.proxy.gates.all() {
            for (holder, held) in gate.holds().1 {
                let mut loans = self.loans.iter();
                if let Some(loan) = loans.find(|loan| loan.holds(&held.spec.by)) {
                    let hold = Hold {
                        gate: Arc::clone(&gate),
                        generation: held.generation,
                        until: u64::MAX,
                        then: Then::Stay,
                        drain: None,
                        unwanted: false,
                        lent: Some(Arc::clone(&loan.window)),
                    };
                    promised.placed(holder, hold);
                }
            }
        }
        for loan in &mut self.loans {
            for (pass, pid) in loan.arrived() {
                let mut databases = DATABASES.into_iter();
                let its = databases.find(|name| *name == loan.window.order.database);
                let its = its.expect("one of the two");
                self.conns.push(self.proxy.work(its, pass, pid));
            }
        }
    }

    /// Writes down the windows whose holds are on, and who works in one.
    pub(crate) fn gather(&mut self, promised: &mut Promised, now: u64) {
        for gate in self.proxy.gates.all() {
            promised.seen(&self.proxy.gates, &gate, now);
        }
        self.gather_lent(promised);
        for window in &mut self.windows {
            if let Ok(draining) = window.begun.try_recv() {
                window.generation = Some(draining.generation);
                let gate = self.proxy.gates.of(window.database);
                let mut hold = hold(gate, &draining, u64::MAX, Then::Stay);
                hold.unwanted = window.wanted.is_none();
                promised.placed(Holder::Window, hold);
            }
            window.look();
            if window.wanted.is_none() && window.granted.is_some() {
                // It came in the instant in which nobody wanted it any more.
                let controller = Arc::clone(&self.proxy.controller);
                let granted = window.granted.take().expect("just seen");
                window.over = true;
                let give_back = async move { controller.reopen_after(granted).await };
                self.proxy.tasks.spawn("window", give_back);
            }
        }
    }
}

fn unwanted_left(gates: &Gates, promised: &mut Promised, left: &LeftWindow) {
    let gate = gates.of(&left.database);
    if let Some(generation) = crate::promised::generation(&gate, Holder::Window) {
        promised.unwanted(&left.database, generation);
    }
}

fn unwanted(promised: &mut Promised, window: &Window) {
    if let Some(generation) = window.generation {
        promised.unwanted(window.database, generation);
    }
}

fn hold(gate: Arc<Gate>, draining: &Draining, until: u64, then: Then) -> Hold {
    Hold {
        gate,
        generation: draining.generation,
        until,
        then,
        drain: Some(draining.report.clone()),
        unwanted: false,
        lent: None,
    }
}

pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).expect("short")
}
