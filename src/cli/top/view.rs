//! What `pgdrain top` knows and shows: answers and keys go in, wishes come out.
//!
//! Nothing here asks, draws or reads a clock.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::order::{Action, Order};
use super::pane::{Pane, Told};
use super::rate::Rate;
use crate::admin::types::{DatabaseStatus, Stage, Status, WindowView};
use crate::runner::types::{EventKind, RunView};

/// What one look at pgdrain found.
#[derive(Debug)]
pub(super) struct News {
    pub(super) status: Status,
    pub(super) windows: Vec<WindowView>,
    /// The migrations that run, with what is new about them.
    pub(super) runs: Vec<RunView>,
    /// What the lower half asked for.
    pub(super) told: Told,
}

/// A key, as far as it means anything here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    Up,
    Down,
    /// Escape.
    Leave,
    Letter(char),
    /// Ctrl-C.
    Interrupt,
    /// Any other, which answers a question too: with no.
    Other,
}

/// What a key leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    Nothing,
    /// To be asked of pgdrain.
    Do(Order),
    /// To look at once.
    Look,
    Quit,
    /// The same, by Ctrl-C.
    Interrupted,
}

/// How far a migration is, as its events tell.
#[derive(Clone, Debug, Default)]
pub(super) struct Progress {
    pub(super) id: String,
    /// Its state in a word.
    pub(super) state: String,
    pub(super) file: Option<String>,
    /// Statements of that file that are done, and how many it has.
    pub(super) statements: Option<(u64, u64)>,
    /// What was said last.
    pub(super) last: String,
    /// The event that was heard last.
    pub(super) seen: u64,
}

/// Since when nobody answers, by the clock of this machine, and why.
#[derive(Clone, Debug)]
pub(super) struct Lost {
    pub(super) since: Timestamp,
    pub(super) why: String,
}

/// Everything that is drawn.
#[derive(Debug)]
pub(super) struct View {
    /// Whom it is asked of.
    pub(super) admin: String,
    pub(super) status: Option<Status>,
    pub(super) windows: Vec<WindowView>,
    /// By database.
    pub(super) progress: BTreeMap<String, Progress>,
    /// By database.
    pub(super) rates: BTreeMap<String, Rate>,
    /// The database that keys are about.
    pub(super) chosen: Option<String>,
    /// What the lower half is about.
    pub(super) pane: Pane,
    /// What is done if the next key is y.
    pub(super) asked: Option<Order>,
    /// What came of the last order.
    pub(super) said: String,
    pub(super) lost: Option<Lost>,
    /// When the last answer came, by the clock of this machine.
    heard: Timestamp,
    pub(super) colours: bool,
}

impl View {
    /// Before the first answer; `chosen` is looked for in it.
    pub(super) fn new(admin: &str, chosen: Option<String>, colours: bool, now: Timestamp) -> Self {
        Self {
            admin: admin.to_owned(),
            status: None,
            windows: Vec::new(),
            progress: BTreeMap::new(),
            rates: BTreeMap::new(),
            chosen,
            pane: Pane::default(),
            asked: None,
            said: String::new(),
            lost: None,
            heard: now,
            colours,
        }
    }

    /// Every database that has a gate.
    pub(super) fn databases(&self) -> &[DatabaseStatus] {
        self.status.as_ref().map_or(&[], |it| &it.databases)
    }

    /// The database that keys are about, as it was last heard of.
    pub(super) fn current(&self) -> Option<&DatabaseStatus> {
        let chosen = self.chosen.as_ref()?;
        self.databases().iter().find(|it| it.database == *chosen)
    }

    /// Its place in the list.
    pub(super) fn place(&self) -> Option<usize> {
        let chosen = self.chosen.as_ref()?;
        self.databases()
            .iter()
            .position(|it| it.database == *chosen)
    }

    /// Its window, if one is not over.
    pub(super) fn window(&self) -> Option<&WindowView> {
        let chosen = self.chosen.as_ref()?;
        let open = |it: &&WindowView| it.database == *chosen && it.state != Stage::Closed;
        // The newest is last, and those that wait for their turn stand behind the one that works.
        let queued = |it: &&WindowView| it.state == Stage::Queued;
        let mut all = self.windows.iter().filter(open);
        all.clone().find(|it| !queued(it)).or_else(|| all.next())
    }

    /// What is left of a window's time or of its lease, as far as is known now: it was told with the
    /// last answer, and has run on since.
    pub(super) fn left(&self, told_ms: Option<u64>, now: Timestamp) -> Option<u64> {
        let since = now.as_millisecond() - self.heard.as_millisecond();
        Some(told_ms?.saturating_sub(u64::try_from(since).unwrap_or(0)))
    }

    /// What time it is for pgdrain, whose machine may have another clock.
    pub(super) fn server_time(&self, now: Timestamp) -> Timestamp {
        let Some(status) = &self.status else {
            return now;
        };
        let up = i64::try_from(status.uptime_ms).unwrap_or(i64::MAX);
        let since = now.as_millisecond() - self.heard.as_millisecond();
        let then = status.started_at.as_millisecond().saturating_add(up);
        Timestamp::from_millisecond(then.saturating_add(since)).unwrap_or(now)
    }

    /// An answer came.
    pub(super) fn hear(&mut self, news: News, now: Timestamp) {
        let News {
            status,
            windows,
            runs,
            told,
        } = news;
        self.pane.hear(told);
        let known = |name: &String| status.databases.iter().any(|it| it.database == *name);
        if !self.chosen.as_ref().is_some_and(known) {
            // It is gone, or has not come yet; whatever is asked for names what it is for.
            let first = status.databases.first().map(|it| it.database.clone());
            self.chosen = first.or(self.chosen.take());
        }
        self.rates.retain(|name, _| known(name));
        for database in &status.databases {
            let rate = self.rates.entry(database.database.clone()).or_default();
            rate.note(status.uptime_ms, database.transactions_total);
        }
        self.windows = windows;
        self.follow(&status, runs);
        self.status = Some(status);
        self.lost = None;
        self.heard = now;
    }

    /// Nobody answered.
    pub(super) fn lose(&mut self, why: String, now: Timestamp) {
        let since = self.lost.as_ref().map_or(now, |lost| lost.since);
        self.lost = Some(Lost { since, why });
        // What would be asked is no longer what is shown.
        self.asked = None;
    }

    /// Brings what is known of the migrations that run up to date.
    fn follow(&mut self, status: &Status, runs: Vec<RunView>) {
        let run = |name: &String| status.databases.iter().find(|it| it.database == *name);
        self.progress.retain(|name, progress| {
            run(name).is_some_and(|it| it.migration.as_ref() == Some(&progress.id))
        });
        for run in runs {
            let progress = self.progress.entry(run.database.clone()).or_default();
            progress.advance(&run);
        }
    }

    /// What a key means.
    pub(super) fn press(&mut self, key: Key) -> Wish {
        if key == Key::Interrupt {
            return Wish::Interrupted;
        }
        if let Some(order) = self.asked.take() {
            if key == Key::Letter('y') {
                self.said = format!("asked: {}", order.name());
                return Wish::Do(order);
            }
            self.said = format!("not done: {}", order.name());
            return Wish::Nothing;
        }
        match key {
            Key::Letter('q') => return Wish::Quit,
            Key::Up | Key::Letter('k') => self.choose(-1),
            Key::Down | Key::Letter('j') => self.choose(1),
            Key::Leave => {
                self.pane = Pane::All;
                self.said.clear();
            }
            Key::Letter('s') if matches!(self.pane, Pane::All) => {
                return self.turn(Pane::sessions());
            }
            Key::Letter('p') if matches!(self.pane, Pane::All) => {
                return self.turn(Pane::Precheck(None));
            }
            Key::Letter(letter) => self.ask(letter),
            Key::Other | Key::Interrupt => {}
        }
        Wish::Nothing
    }

    /// Turns to another lower half, which has to be asked for.
    fn turn(&mut self, pane: Pane) -> Wish {
        self.pane = pane;
        self.said.clear();
        Wish::Look
    }

    /// Another database, by so many places in the list; or another session.
    fn choose(&mut self, step: isize) {
        if matches!(self.pane, Pane::Sessions { .. }) {
            self.pane.choose(step);
            return;
        }
        let last = self.databases().len().saturating_sub(1);
        let place = self.place().unwrap_or(0);
        let place = place.saturating_add_signed(step).min(last);
        self.chosen = self.databases().get(place).map(|it| it.database.clone());
        self.said.clear();
    }

    /// Puts the question that a letter stands for.
    fn ask(&mut self, letter: char) {
        let action = match &self.pane {
            Pane::All => Action::of_key(letter, self),
            Pane::Sessions { marked, .. } => {
                let of_it = |id| Action::of_session(letter, id);
                let none = || "no session is marked: choose one by the arrows".to_owned();
                let is_key = of_it(0).is_some();
                is_key.then(|| marked.and_then(of_it).ok_or_else(none))
            }
            Pane::Precheck(_) => None,
        };
        let Some(action) = action else {
            return;
        };
        if self.lost.is_some() {
            self.said = "nobody answers: nothing can be done from here now".to_owned();
            return;
        }
        let Some(database) = self.current() else {
            self.said = "no database is chosen".to_owned();
            return;
        };
        match action.and_then(|it| it.objection(database).map_or(Ok(it), Err)) {
            Err(objection) => self.said = objection,
            Ok(action) => {
                self.asked = Some(Order {
                    database: database.database.clone(),
                    action,
                });
                self.said.clear();
            }
        }
    }

    /// What came of an order.
    pub(super) fn answered(&mut self, said: String) {
        self.said = said;
    }
}

impl Progress {
    fn advance(&mut self, run: &RunView) {
        if self.id != run.id {
            *self = Self {
                id: run.id.clone(),
                ..Self::default()
            };
        }
        run.state.as_str().clone_into(&mut self.state);
        for event in run.events.iter().filter(|event| event.seq > self.seen) {
            let number = |key| event.data.get(key).and_then(serde_json::Value::as_u64);
            match event.kind {
                EventKind::FileStarted => {
                    let file = event.data.get("file").and_then(serde_json::Value::as_str);
                    self.file = file.map(str::to_owned);
                    self.statements = number("statements").map(|all| (0, all));
                }
                EventKind::Statement => {
                    self.statements = number("statement").zip(number("of"));
                }
                EventKind::State
                | EventKind::Check
                | EventKind::Batch
                | EventKind::Watch
                | EventKind::Progress
                | EventKind::FileDone
                | EventKind::Failure
                | EventKind::Notice
                | EventKind::Note => {}
            }
            if let Some(line) = event.text.lines().next() {
                line.clone_into(&mut self.last);
            }
        }
        self.seen = run.events.last().map_or(self.seen, |last| last.seq);
    }
}
