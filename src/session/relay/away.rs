//! Reads that go to a standby while the gates want this client to read only.
//!
//! ```text
//!   here ── a read that could be anybody's ──► asked: does the server hold anything for the session?
//!    ▲                                              │ yes: it stays, or waits         │ no
//!    │                                              └──────────── here                ▼
//!    └──────────── its answer has ended, or the standby said no word but no ──────  away
//! ```
//!
//! The two connections change places at a boundary, for one unit: everything else in the relay goes on
//! as if there were one server. The first such reads go to the server while a task logs in at the
//! standby. What the session holds is asked of the server again after every unit that it got, since that
//! may have changed it.

use std::sync::Arc;

use tokio::sync::oneshot;
use tokio::sync::oneshot::error::TryRecvError;
use tokio::time::{Duration, Instant};

use super::inject::{NAME, Purpose};
use super::{Relay, Step};
use crate::config::Stateful;
use crate::server::connect::Route;
use crate::session::injected::{Answers, Ours};
use crate::session::portable::is_portable;
use crate::session::reader::{AtStandby, Way};
use crate::tls::stream::Socket;
use crate::wire::backend::tag;
use crate::wire::frontend::{Named, SYNC, bind_text, close, execute, parse};
use crate::wire::startup::CancelKey;

/// Whether the server holds anything for this session that a standby would not know of; `$1` is who the
/// session was at login. Our own statement and portal do not count, nor does what we have set.
const HOLDS: &str = "SELECT EXISTS (SELECT FROM pg_catalog.pg_prepared_statements \
        WHERE name OPERATOR(pg_catalog.<>) '__pgdrain') \
    OR EXISTS (SELECT FROM pg_catalog.pg_cursors WHERE name OPERATOR(pg_catalog.<>) '__pgdrain') \
    OR EXISTS (SELECT FROM pg_catalog.pg_listening_channels()) \
    OR EXISTS (SELECT FROM pg_catalog.pg_locks WHERE locktype OPERATOR(pg_catalog.=) 'advisory' \
        AND pid OPERATOR(pg_catalog.=) pg_catalog.pg_backend_pid()) \
    OR pg_catalog.pg_my_temp_schema() OPERATOR(pg_catalog.<>) 0::pg_catalog.oid \
    OR EXISTS (SELECT FROM pg_catalog.pg_settings WHERE source OPERATOR(pg_catalog.=) 'session' \
        AND name OPERATOR(pg_catalog.<>) 'default_transaction_read_only') \
    OR session_user OPERATOR(pg_catalog.<>) $1::pg_catalog.name \
    OR current_user OPERATOR(pg_catalog.<>) session_user";

/// After a login or an answer that failed.
const TRY_AGAIN: Duration = Duration::from_secs(5);

/// A cancel request that is late may hit the question.
const TRIES_MAX: u32 = 3;

/// A longer unit is not kept, and so goes to the server.
const UNIT_MAX: usize = 64 * 1024;

/// A session that may read elsewhere.
#[derive(Debug)]
pub(super) struct Away<S> {
    way: Arc<dyn Way<S>>,
    standby: Standby<S>,
    /// Whether the server holds anything for the session, if that is known.
    holds: Option<bool>,
    /// How often that was asked in vain.
    asked_in_vain: u32,
}

/// The connection to the standby.
#[derive(Debug)]
enum Standby<S> {
    None,
    /// A task logs in.
    Coming(oneshot::Receiver<AtStandby<S>>),
    Ready(Box<AtStandby<S>>),
    /// It is in the place of the server's, which is kept here.
    InUse(Box<InUse<S>>),
    /// None before then.
    Failed(Instant),
}

#[derive(Debug)]
struct InUse<S> {
    server: S,
    route: Route,
    key: Option<CancelKey>,
    /// What was sent, until the standby answers.
    unit: Vec<u8>,
}

/// Where a unit goes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Whither {
    Server,
    Standby,
    /// It waits until traffic is open.
    Waits,
    /// That has to be asked first.
    Asked(Step),
}

impl<S> Away<S> {
    pub(super) fn new(way: Arc<dyn Way<S>>) -> Away<S> {
        Away {
            way,
            standby: Standby::None,
            holds: None,
            asked_in_vain: 0,
        }
    }
}

impl<C: Socket, S: Socket> Relay<C, S> {
    /// Lets this session read from a standby.
    pub(in crate::session) fn may_go_away(&mut self, way: Arc<dyn Way<S>>) {
        self.away = Some(Box::new(Away::new(way)));
    }

    /// Whether the standby's connection is in the place of the server's.
    pub(super) fn is_away(&self) -> bool {
        let away = self.away.as_ref().map(|away| &away.standby);
        matches!(away, Some(Standby::InUse(_)))
    }

    /// Where a read of so many bytes at the front goes, in no transaction.
    pub(super) fn whither(&mut self, bytes: usize) -> Whither {
        let Some(away) = &mut self.away else {
            return Whither::Server;
        };
        if bytes > UNIT_MAX || !is_portable(&self.kept[..bytes]) {
            away.holds = None;
            return Whither::Server;
        }
        let Some(holds) = away.holds else {
            return self.ask_what_is_held();
        };
        match (holds, away.way.stateful()) {
            (true, Stateful::Stay) => Whither::Server,
            (true, Stateful::Wait) => Whither::Waits,
            (false, _) if self.standby_is_ready() => Whither::Standby,
            (false, _) => Whither::Server,
        }
    }

    /// The question needs a permit: it takes a snapshot. It also closes the unnamed statement, which the
    /// unit at the front would replace at the server.
    fn ask_what_is_held(&mut self) -> Whither {
        if !self.may_inject() {
            return Whither::Asked(Step::Stuck);
        }
        let Some(away) = &mut self.away else {
            return Whither::Server;
        };
        let messages = [
            parse(NAME, HOLDS),
            bind_text(NAME, NAME, away.way.user().as_bytes()),
            execute(NAME),
            close(Named::Portal, NAME),
            close(Named::Statement, NAME),
            close(Named::Statement, ""),
            SYNC.to_vec(),
        ];
        self.inject(&messages.concat(), Ours::All, Purpose::AskWhatIsHeld);
        Whither::Asked(Step::Moved)
    }

    /// The server has told; when it will not, it is taken to hold something.
    pub(super) fn known_what_is_held(&mut self, answers: &Answers) {
        self.tell_settings(answers);
        // One column, as text.
        let none = answers.row.as_deref() == Some(b"\0\x01\0\0\0\x01f");
        let Some(away) = &mut self.away else {
            return;
        };
        away.asked_in_vain += u32::from(answers.error.is_some());
        if answers.error.is_some() && away.asked_in_vain < TRIES_MAX {
            // It is asked again when the unit is looked at.
            return;
        }
        away.asked_in_vain = 0;
        away.holds = Some(!none || answers.error.is_some());
    }

    /// Something else went to the server: what it holds may have changed.
    pub(super) fn forget_what_is_held(&mut self) {
        if let Some(away) = &mut self.away {
            away.holds = None;
        }
    }

    /// Logs in when there is no connection.
    fn standby_is_ready(&mut self) -> bool {
        let Some(away) = &mut self.away else {
            return false;
        };
        if !away.way.is_usable() {
            away.standby = Standby::None;
            return false;
        }
        match &mut away.standby {
            Standby::Ready(_) => return true,
            Standby::InUse(_) => return false,
            Standby::Failed(until) if Instant::now() < *until => return false,
            Standby::Coming(coming) => match coming.try_recv() {
                Ok(there) => {
                    away.standby = Standby::Ready(Box::new(there));
                    return true;
                }
                Err(TryRecvError::Empty) => return false,
                Err(TryRecvError::Closed) => {
                    away.standby = Standby::Failed(Instant::now() + TRY_AGAIN);
                    return false;
                }
            },
            Standby::None | Standby::Failed(_) => {}
        }
        let coming = Arc::clone(&away.way).log_in(&self.common.tasks);
        away.standby = Standby::Coming(coming);
        false
    }

    /// The unit at the front goes to the standby next: its connection takes the place of the server's.
    /// When that cannot be now, it goes to the server.
    pub(super) fn go_away(&mut self, bytes: usize) {
        if !self.may_inject() {
            return;
        }
        let Some(away) = &mut self.away else {
            return;
        };
        let there = match std::mem::replace(&mut away.standby, Standby::None) {
            Standby::Ready(there) => *there,
            other @ (Standby::None
            | Standby::Coming(_)
            | Standby::InUse(_)
            | Standby::Failed(_)) => {
                away.standby = other;
                return;
            }
        };
        let AtStandby { stream, route, key } = there;
        away.standby = Standby::InUse(Box::new(InUse {
            server: std::mem::replace(&mut self.server, stream),
            route,
            key,
            unit: self.kept[..bytes].to_vec(),
        }));
    }

    /// Puts the server's connection back when the standby has answered.
    pub(super) fn come_home(&mut self) {
        let answered = self.is_away() && self.tracker.at_boundary() && self.may_inject();
        if !answered {
            return;
        }
        if let Some((AtStandby { stream, route, key }, _unit)) = self.back_at_server()
            && let Some(away) = &mut self.away
        {
            away.standby = Standby::Ready(Box::new(AtStandby { stream, route, key }));
        }
    }

    fn back_at_server(&mut self) -> Option<(AtStandby<S>, Vec<u8>)> {
        let away = self.away.as_mut()?;
        let in_use = match std::mem::replace(&mut away.standby, Standby::None) {
            Standby::InUse(in_use) => *in_use,
            other @ (Standby::None
            | Standby::Coming(_)
            | Standby::Ready(_)
            | Standby::Failed(_)) => {
                away.standby = other;
                return None;
            }
        };
        let stream = std::mem::replace(&mut self.server, in_use.server);
        let (route, key) = (in_use.route, in_use.key);
        Some((AtStandby { stream, route, key }, in_use.unit))
    }

    /// The standby sent this, or has ended when it is empty. True when the unit goes to the server
    /// instead, because the standby has answered nothing but an error.
    pub(super) fn falls_back(&mut self, bytes: &[u8]) -> bool {
        let Some(away) = &mut self.away else {
            return false;
        };
        let Standby::InUse(in_use) = &mut away.standby else {
            return false;
        };
        if in_use.unit.is_empty() {
            return false;
        }
        if !matches!(bytes.first(), None | Some(&tag::ERROR)) {
            in_use.unit = Vec::new();
            return false;
        }
        let Some((_standby, unit)) = self.back_at_server() else {
            return false;
        };
        if let Some(away) = &mut self.away {
            away.standby = Standby::Failed(Instant::now() + TRY_AGAIN);
        }
        tracing::debug!(
            session = self.session.id.0,
            "the standby refused; sent to the server"
        );
        // The tracker has seen it already.
        self.to_server.clear();
        self.to_server.push(&unit);
        true
    }

    /// Where the running statement can be cancelled, if it is at the standby.
    pub(super) fn standby_key(&self) -> Option<(Route, Option<CancelKey>)> {
        match &self.away.as_ref()?.standby {
            Standby::InUse(in_use) => Some((in_use.route.clone(), in_use.key.clone())),
            Standby::None | Standby::Coming(_) | Standby::Ready(_) | Standby::Failed(_) => None,
        }
    }

    /// Nobody wants the client to read only any more: the connection to the standby is closed.
    pub(super) fn stay_home(&mut self) {
        if let Some(away) = &mut self.away
            && !matches!(away.standby, Standby::InUse(_))
        {
            away.standby = Standby::None;
            away.holds = None;
        }
    }
}
