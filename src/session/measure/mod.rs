//! Listens to a conversation while statements are measured: which statements its units hold, when they were
//! sent, and how they were answered. Pure; time is an argument.
//!
//! It follows the messages that pass and changes none. A unit is timed from when its Query, or its first
//! Execute, went on to the server until `ReadyForQuery` came. What a prepared statement is it knows from
//! the Parse that it heard; one that was prepared before anybody listened has no text. Where units merge
//! after an error, or are answered by nobody, it may take one for another until the transaction ends, where it
//! begins anew: these are measures, no decisions.

mod messages;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use self::messages::Messages;
use super::class::{Normal, normal};
use crate::wire::backend::tag as from_server;
use crate::wire::frontend::tag as from_client;

/// Statements and portals of one session whose text is known; one more, and all are forgotten.
const NAMES_MAX: usize = 512;

/// A longer name is not kept.
const NAME_MAX: usize = 128;

/// Statements of one unit that are told apart; further ones are not looked at.
const IN_A_UNIT_MAX: usize = 16;

/// Units that are waited for at once.
const UNITS_MAX: usize = 4096;

/// Listens to one session.
#[derive(Debug)]
pub(super) struct Listener {
    client: Messages,
    server: Messages,
    statements: BTreeMap<Box<[u8]>, Arc<Normal>>,
    portals: BTreeMap<Box<[u8]>, Arc<Normal>>,
    /// What has been executed of the unit that goes on.
    open: Vec<Arc<Normal>>,
    /// When the first of these went on.
    open_at: Option<Instant>,
    /// Units that were sent and not answered, oldest first.
    sent: VecDeque<Sent>,
    /// The first error in the answer that goes on.
    error: Option<[u8; 5]>,
    chance: u64,
    /// Whether this transaction is timed.
    timed: bool,
}

#[derive(Debug)]
struct Sent {
    /// Of a unit that is timed.
    timed: Option<(Arc<Normal>, Instant)>,
}

/// A unit that was answered.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Heard {
    /// Which, and how long it took, if it is timed.
    pub(super) timed: Option<(Arc<Normal>, Duration)>,
    /// The SQLSTATE of the first error in its answer.
    pub(super) error: Option<[u8; 5]>,
}

impl Listener {
    /// In front of a message of either side. The seed makes sessions choose different transactions.
    pub(super) fn new(seed: u64) -> Listener {
        Listener {
            client: Messages::of_client(),
            server: Messages::of_server(),
            statements: BTreeMap::new(),
            portals: BTreeMap::new(),
            open: Vec::new(),
            open_at: None,
            sent: VecDeque::new(),
            error: None,
            chance: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            timed: false,
        }
    }

    /// A transaction begins with the next message, of which nothing was sent yet, and nothing is owed: times
    /// one in so many.
    pub(super) fn begin(&mut self, one_in: u32) {
        self.client.rest();
        self.server.rest();
        self.forget_units();
        self.portals.clear();
        // xorshift64: which are timed must not go along with what the client does in turn.
        self.chance ^= self.chance << 13;
        self.chance ^= self.chance >> 7;
        self.chance ^= self.chance << 17;
        self.timed = self.chance.is_multiple_of(u64::from(one_in.max(1)));
    }

    /// The transaction has ended, and nothing is owed.
    pub(super) fn forget_units(&mut self) {
        self.open.clear();
        self.open_at = None;
        self.sent.clear();
        self.error = None;
    }

    /// Whether it wants to know the time of what is sent.
    pub(super) fn times(&self) -> bool {
        self.timed
    }

    /// These bytes of the client went on to the server; the time is there if [`Listener::times`].
    pub(super) fn sent(&mut self, bytes: &[u8], now: Option<Instant>) {
        let mut client = std::mem::replace(&mut self.client, Messages::of_client());
        let wanted = |tag| {
            matches!(
                tag,
                from_client::QUERY
                    | from_client::FUNCTION_CALL
                    | from_client::PARSE
                    | from_client::BIND
                    | from_client::EXECUTE
                    | from_client::CLOSE
                    | from_client::SYNC
            )
        };
        client.read(bytes, wanted, |tag, body| self.message(tag, body, now));
        self.client = client;
    }

    fn message(&mut self, tag: u8, body: &[u8], now: Option<Instant>) {
        match tag {
            from_client::QUERY => {
                if now.is_some() {
                    let (text, _) = text(body);
                    self.open = vec![Arc::new(normal(text))];
                    self.open_at = now;
                }
                self.end_unit(now);
            }
            from_client::FUNCTION_CALL => {
                if now.is_some() {
                    self.open = vec![Arc::new(Normal::named("(function call)"))];
                }
                self.end_unit(now);
            }
            from_client::SYNC => self.end_unit(now),
            from_client::PARSE => self.parse(body),
            from_client::BIND => {
                let (portal, rest) = text(body);
                let (statement, _) = text(rest);
                let known = self.statements.get(statement).cloned();
                let known = known.unwrap_or_else(|| Arc::new(Normal::named(BEFORE)));
                remember(&mut self.portals, portal, known);
            }
            from_client::EXECUTE => self.execute(text(body).0, now),
            from_client::CLOSE => match body.split_first() {
                Some((b'S', rest)) => drop(self.statements.remove(text(rest).0)),
                Some((b'P', rest)) => drop(self.portals.remove(text(rest).0)),
                _ => {}
            },
            _ => {}
        }
    }

    /// Of a statement with a name other transactions will know; the text of another is needed in this.
    fn parse(&mut self, body: &[u8]) {
        let (name, rest) = text(body);
        if name.is_empty() && !self.timed {
            return;
        }
        let known = Arc::new(normal(text(rest).0));
        remember(&mut self.statements, name, known);
    }

    fn execute(&mut self, portal: &[u8], now: Option<Instant>) {
        if now.is_none() {
            return;
        }
        self.open_at = self.open_at.or(now);
        let known = self.portals.get(portal).cloned();
        let known = known.unwrap_or_else(|| Arc::new(Normal::named(BEFORE)));
        if self.open.len() < IN_A_UNIT_MAX && self.open.last() != Some(&known) {
            self.open.push(known);
        }
    }

    fn end_unit(&mut self, now: Option<Instant>) {
        let began = self.open_at.take().or(now);
        let open = std::mem::take(&mut self.open);
        if self.sent.len() >= UNITS_MAX {
            return;
        }
        self.sent.push_back(Sent {
            timed: began.map(|began| (Normal::of_unit(&open), began)),
        });
    }

    /// These bytes of the server went on to the client; `now` is asked once for what ends in them.
    pub(super) fn heard(
        &mut self,
        bytes: &[u8],
        now: impl Fn() -> Instant,
        mut tell: impl FnMut(Heard),
    ) {
        let mut server = std::mem::replace(&mut self.server, Messages::of_server());
        let wanted = |tag| matches!(tag, from_server::ERROR | from_server::READY_FOR_QUERY);
        server.read(bytes, wanted, |tag, body| {
            if tag == from_server::ERROR {
                self.error = self.error.or(Some(sqlstate(body)));
                return;
            }
            let error = self.error.take();
            let Some(sent) = self.sent.pop_front() else {
                return;
            };
            let timed = sent.timed.map(|(statement, began)| {
                let took = now().saturating_duration_since(began);
                (statement, took)
            });
            tell(Heard { timed, error });
        });
        self.server = server;
    }
}

/// What is shown of a statement that was prepared when nobody listened.
const BEFORE: &str = "(prepared before it was measured)";

/// The text up to a zero, and what is behind it; all of it, if its end is cut off.
fn text(body: &[u8]) -> (&[u8], &[u8]) {
    match body.iter().position(|byte| *byte == 0) {
        Some(end) => (&body[..end], &body[end + 1..]),
        None => (body, &[]),
    }
}

/// The field `C` of an ErrorResponse (Postgres documentation section 55.8).
fn sqlstate(body: &[u8]) -> [u8; 5] {
    let mut rest = body;
    while let Some((field, behind)) = rest.split_first() {
        let (value, next) = text(behind);
        if *field == b'C'
            && let Ok(state) = <[u8; 5]>::try_from(value)
        {
            return state;
        }
        rest = next;
    }
    *b"?????"
}

fn remember(names: &mut BTreeMap<Box<[u8]>, Arc<Normal>>, name: &[u8], known: Arc<Normal>) {
    if name.len() > NAME_MAX {
        return;
    }
    if names.len() >= NAMES_MAX && !names.contains_key(name) {
        names.clear();
    }
    names.insert(name.into(), known);
}

#[cfg(test)]
mod tests;
