//! Read-only mode, enforced by the server: `default_transaction_read_only` is put on between two
//! transactions of the client, and what the client had is put back when the mode ends.
//!
//! ```text
//!             told, and it said so                        wanted no more
//!   as it was ───────────────────► Enforced ──────────────────────────────────► as it was
//!       ▲ │                           ▲ │ the client has turned it off
//!       └─┘ failed: again, a few      └─┘ (RESET ALL, DISCARD ALL): told again before its
//!           times, and then later         next transaction
//! ```
//!
//! While it is put on, or back, and while that has failed, nothing of the client starts: the door lets
//! nothing in by itself as long as a session is enforced, and behind a gate that is read-only whoever
//! lets reads in asks here first. No permit is needed, since what is sent begins no transaction of the
//! client's, takes no snapshot and no lock.

use std::task::Context;
use std::time::Duration;

use tokio::time::Instant;

use super::held::Server;
use super::inject::{Purpose, statement};
use super::leaving::Remains;
use super::{Phase, Relay, Step, Tracker};
use crate::session::injected::{Answers, Ours};
use crate::session::registry::Enforcement;
use crate::session::scan::Door;
use crate::session::settings::{OwnSetting, READ_ONLY, value_of};
use crate::tls::stream::Socket;
use crate::wire::frontend::SYNC;
use crate::wire::refusal::Refusal;

/// A cancel request that is late, or the client's own `statement_timeout`, may hit a message of ours.
const TRIES_MAX: u32 = 3;

/// After so many of them in vain the next ones come so much later.
const LATER: Duration = Duration::from_secs(1);

/// So often at most; whoever could not be given its own value back has to connect anew then.
const ROUNDS_MAX: u32 = 10;

/// What became of a wish that the server enforces read-only mode, or does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Settled {
    /// The server does as is wanted now.
    Done,
    /// It was told, or is about to answer something else: whoever asked asks again when it has answered.
    UnderWay,
    /// It cannot be told now: it has half a message, or did not do as it was told. Nothing that may write
    /// may start.
    Impossible,
}

/// A session whose server refuses writes because it was told to.
#[derive(Debug)]
pub(super) struct Enforced {
    /// What the client has itself, and is shown.
    pub(super) setting: OwnSetting,
    back: Back,
}

/// What gives the client what it had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Back {
    /// It had what a session begins with.
    Reset,
    /// It had set another value.
    Set(bool),
}

impl Back {
    fn of(own: bool, reset: bool) -> Back {
        if own == reset {
            Back::Reset
        } else {
            Back::Set(own)
        }
    }

    /// A value that the client has reset meanwhile, unseen because both are the same, is not put back; from
    /// the second try on it is not asked, since the view may be closed to this role.
    fn sql(self, tries: u32) -> Option<String> {
        match self {
            Back::Reset => Some(format!("RESET {READ_ONLY}")),
            Back::Set(true) => None,
            Back::Set(false) if tries > 0 => Some(format!("SET {READ_ONLY} = off")),
            Back::Set(false) => Some(format!(
                "SELECT pg_catalog.set_config(name, 'off', false) FROM pg_catalog.pg_settings \
                 WHERE name OPERATOR(pg_catalog.=) '{READ_ONLY}' \
                 AND source OPERATOR(pg_catalog.=) 'session'"
            )),
        }
    }
}

/// How often the server was told in vain.
#[derive(Debug, Default)]
pub(super) struct Unsettled {
    tries: u32,
    /// When it is told again.
    later: Option<Instant>,
}

impl Unsettled {
    /// Whether it is told again at all.
    fn goes_on(&self) -> bool {
        self.tries < TRIES_MAX * ROUNDS_MAX
    }

    fn may_try(&self) -> bool {
        self.goes_on() && self.later.is_none_or(|later| later <= Instant::now())
    }
}

impl<C: Socket, S: Socket> Relay<C, S> {
    /// Settles at a boundary, before anything of the client's is looked at. `None` when that may be done now.
    pub(super) fn enforce(&mut self, cx: &mut Context<'_>) -> Option<Step> {
        let over = matches!(
            self.phase,
            Phase::Aborted(_) | Phase::Leaving(_) | Phase::Closing(..)
        );
        if over || self.door.has_permit() || !self.tracker.at_boundary() {
            return None;
        }
        let waited = self.injection.is_some();
        match self.settle_read_only() {
            Settled::Done => None,
            Settled::UnderWay => (!waited).then_some(Step::Moved),
            Settled::Impossible => {
                if self.unsettled.as_ref().is_some_and(|it| it.goes_on()) {
                    self.look_again(cx);
                }
                let flows = matches!(self.phase, Phase::Flowing);
                // The rest of what the server says is on its way.
                let soon = !self.server_scan.at_message_start();
                // Nobody holds it, and nothing of it can start.
                let stays = self.is_enforced() && !self.door.wants_read_only();
                // In the middle of a message the server can be told nothing: its rest comes first.
                let between = self.client_scan.at_message_start();
                if stays && !between {
                    let step = self.pass_rest(cx)?;
                    if self.client_scan.at_message_start() {
                        // What it waited with has gone on.
                        self.go_on();
                    }
                    return Some(step);
                }
                (flows && between && (soon || stays)).then_some(Step::Stuck)
            }
        }
    }

    /// Sees to it that the server refuses writes if read-only mode is wanted of this session, and does what
    /// the client has set otherwise. To be asked before a transaction starts, and again until it is done.
    pub(super) fn settle_read_only(&mut self) -> Settled {
        let purpose = match (&self.door.enforced, self.door.wants_read_only()) {
            (None, false) => {
                self.session.set_enforcement(Enforcement::No);
                self.unsettled = None;
                return Settled::Done;
            }
            (Some(enforced), true) if enforced.setting.is_on() => {
                self.session.set_enforcement(Enforcement::Enforced);
                return Settled::Done;
            }
            (None | Some(_), true) => Purpose::Enforce,
            (Some(_), false) => Purpose::Restore,
        };
        self.note_enforcement();
        if self.injection.is_some() {
            return Settled::UnderWay;
        }
        let in_vain = self.unsettled.as_deref();
        if !self.may_settle() || in_vain.is_some_and(|it| !it.may_try()) {
            return Settled::Impossible;
        }
        let tries = in_vain.map_or(0, |it| it.tries);
        let mut messages = Vec::new();
        for sql in self.orders(purpose, tries) {
            messages.extend_from_slice(&statement(&sql));
        }
        messages.extend_from_slice(&SYNC);
        self.inject(&messages, Ours::All, purpose);
        Settled::UnderWay
    }

    /// The statements, one transaction together.
    fn orders(&self, purpose: Purpose, tries: u32) -> Vec<String> {
        let show = || format!("SHOW {READ_ONLY}");
        let back = self.door.enforced.as_ref().map(|it| it.back);
        match (purpose, back) {
            (Purpose::Restore, Some(back)) => back.sql(tries).into_iter().chain([show()]).collect(),
            _ => vec![
                show(),
                format!("RESET {READ_ONLY}"),
                show(),
                format!("SET {READ_ONLY} = on"),
            ],
        }
    }

    /// Lets go on what is there of a message that the server has the front of. `None` when nothing of
    /// it is there, or it may not end now.
    ///
    /// Behind the mode its last byte takes a permit if an answer is due to it: before that its client
    /// keeps nobody waiting. Where a guard lets messages go on in parts they are nothing that a server
    /// runs, and go on in any case.
    pub(super) fn pass_rest(&mut self, cx: &mut Context<'_>) -> Option<Step> {
        let (rest, whole) = self.client_scan.rest_of_message(&self.kept);
        if rest == 0 {
            return None;
        }
        let tag = self.client_scan.tag();
        let due = whole
            && tag.is_none_or(Tracker::starts_transaction)
            && self.tracker.at_boundary()
            && !self.door.has_permit()
            && !self.door.wants_read_only();
        if due && self.door.admit_read() {
            self.session.transaction_began();
        } else if due && self.guard.is_none() {
            return None;
        }
        Some(self.let_pass(cx, rest))
    }

    /// Whether the server is between two transactions of the client, and speaks as servers do for clients.
    fn may_settle(&self) -> bool {
        let waits = match &self.phase {
            Phase::Flowing | Phase::Discarding(..) => true,
            Phase::Held(held) => held.server == Server::Idle,
            Phase::Aborted(_) | Phase::Leaving(_) | Phase::Closing(..) => false,
        };
        // A server for replication takes no extended messages.
        waits
            && self.session.replication.is_none()
            && self.tracker.at_boundary()
            && !self.door.has_permit()
            && self.may_inject()
    }

    /// Whether the client has undone it for the transactions that it begins from now on.
    pub(super) fn has_escaped(&self) -> bool {
        let enforced = self.door.enforced.as_ref();
        enforced.is_some_and(|enforced| !enforced.setting.is_on())
    }

    /// Whether the server was told to refuse writes, and not yet to do as the client has set.
    pub(super) fn is_enforced(&self) -> bool {
        self.door.enforced.is_some()
    }

    /// Others want to know how far it is.
    pub(super) fn note_enforcement(&self) {
        let on = self
            .door
            .enforced
            .as_ref()
            .is_some_and(|it| it.setting.is_on());
        let enforcement = match (self.door.wants_read_only(), on) {
            (false, _) => Enforcement::No,
            (true, false) => Enforcement::Pending,
            (true, true) => Enforcement::Enforced,
        };
        self.session.set_enforcement(enforcement);
    }

    /// The mode begins or ends: what failed before is tried anew.
    pub(super) fn read_only_changed(&mut self) {
        self.unsettled = None;
        self.note_enforcement();
    }

    /// The server has answered whether it refuses writes from now on.
    pub(super) fn told_to_refuse(&mut self, answers: &Answers) {
        let value = |row: &Option<Vec<u8>>| row.as_deref().and_then(value_of);
        let values = (value(&answers.row_before), value(&answers.row));
        let (4, None, (Some(own), Some(reset))) = (answers.completed, &answers.error, values)
        else {
            return self.not_settled(answers, Purpose::Enforce);
        };
        self.unsettled = None;
        let mut enforced = match self.door.enforced.take() {
            Some(enforced) => enforced,
            None => Box::new(Enforced {
                setting: OwnSetting::of(own),
                back: Back::Reset,
            }),
        };
        enforced.back = Back::of(own, reset);
        enforced.setting.set_own(own);
        let settings = enforced.setting.filter(&answers.settings).into_owned();
        enforced.setting.set_on();
        self.to_client.push(&settings);
        self.door.enforced = Some(enforced);
        self.note_enforcement();
        tracing::debug!(session = self.session.id.0, "read-only, by the server");
    }

    /// The server has answered whether the client has its own value again.
    pub(super) fn told_to_obey(&mut self, answers: &Answers) {
        let back = self.door.enforced.as_ref().map(|it| it.back);
        let told = if back == Some(Back::Set(true)) { 1 } else { 2 };
        let value = answers.row.as_deref().and_then(value_of);
        let (true, None, Some(own)) = (answers.completed == told, &answers.error, value) else {
            return self.not_settled(answers, Purpose::Restore);
        };
        self.unsettled = None;
        if let Some(mut enforced) = self.door.enforced.take() {
            enforced.setting.set_own(own);
            let settings = enforced.setting.filter(&answers.settings).into_owned();
            self.to_client.push(&settings);
            self.to_client
                .push(&enforced.setting.correct().unwrap_or_default());
        }
        self.note_enforcement();
        tracing::debug!(session = self.session.id.0, "as the client had it");
    }

    /// The server did not do as it was told. Whoever settles next tries again.
    fn not_settled(&mut self, answers: &Answers, purpose: Purpose) {
        let settings = answers.settings.clone();
        let settings = self.own_settings(settings);
        self.to_client.push(&settings);
        if matches!(self.phase, Phase::Leaving(_) | Phase::Closing(..)) {
            return;
        }
        let unsettled = self.unsettled.get_or_insert_default();
        unsettled.tries += 1;
        let tries = unsettled.tries;
        unsettled.later = tries
            .is_multiple_of(TRIES_MAX)
            .then(|| Instant::now() + LATER);
        tracing::warn!(
            session = self.session.id.0,
            ?answers,
            ?purpose,
            tries,
            "the server did not change {READ_ONLY}"
        );
        if purpose == Purpose::Restore && tries >= TRIES_MAX * ROUNDS_MAX {
            self.dismiss(&Refusal::ReadOnlyStays, Remains::HalfOpen);
        }
    }

    /// What of these messages is for the client, which is shown its own value.
    pub(super) fn own_settings(&mut self, settings: Vec<u8>) -> Vec<u8> {
        match &mut self.door.enforced {
            Some(enforced) if !settings.is_empty() => {
                enforced.setting.filter(&settings).into_owned()
            }
            Some(_) | None => settings,
        }
    }
}

#[cfg(test)]
mod tests;
