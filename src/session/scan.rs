//! Chunks of bytes to messages, both ways: how much of what a client sent may go on to the server,
//! and what the server's answer says.
//!
//! A transaction needs a permit before the *last* byte of its first message is forwarded: until
//! then the server only waits for the rest. So a client that sends half a message and stops is
//! not in anybody's way.

use crate::session::transaction::{Status, Tracker};
use crate::session::verb::{Opens, opens};
use crate::wire::backend::tag as from_server;
use crate::wire::frame::{BadLength, HEADER_LEN, Header, Scanner};
use crate::wire::frontend::tag as from_client;

/// A `ReadyForQuery` with its header: its body is the status.
const READY_LEN: usize = HEADER_LEN + 1;

/// The gate as one session sees it.
pub trait Door {
    /// Whether this session has a permit.
    fn has_permit(&self) -> bool;
    /// Asks for a permit; true when the session has one afterwards.
    fn admit(&mut self) -> bool;
    /// Whether the gate is open. A stale answer delays a closing by one chunk at most.
    fn is_open(&self) -> bool;
    /// Whether a transaction that begins no block may start although the gate is not open.
    fn lets_statements_in(&self) -> bool {
        false
    }
    /// Asks for a permit for one; true when the session has one afterwards.
    fn admit_statement(&mut self) -> bool {
        false
    }
}

/// Why the rest of a chunk may not go on yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pause {
    /// All of it may.
    Nothing,
    /// A unit has to be answered first: the gate is closed, or too many are unanswered.
    Answer,
    /// Whether a transaction block would start shows when more of it is there.
    Text,
    /// A transaction would start and the gate does not let it; `mid_message` when the server has
    /// part of its first message already.
    Gate {
        /// The server waits for the rest of the message.
        mid_message: bool,
    },
}

/// How much of a chunk may be forwarded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Taken {
    /// Bytes from the front of the chunk.
    pub bytes: usize,
    /// What stopped it there.
    pub pause: Pause,
}

/// A length that cannot be one, in the middle of a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{bad}")]
pub struct Nonsense {
    /// The bytes in front of that message: they are good, and were taken or read.
    pub after: usize,
    /// What they held, if a server sent them.
    pub seen: Seen,
    /// The length.
    pub bad: BadLength,
}

/// Reads what a client sends.
#[derive(Debug, Default)]
pub struct ClientScan {
    scanner: Scanner,
}

impl ClientScan {
    /// Whether the client's next byte begins a message.
    #[must_use]
    pub fn at_message_start(&self) -> bool {
        self.scanner.at_frame_start()
    }

    /// The type of the message that the server has the front of.
    #[must_use]
    pub fn tag(&self) -> Option<u8> {
        self.scanner.tag()
    }

    /// How many bytes at the front of `bytes` belong to a message whose front has gone on already, and
    /// whether it ends with them.
    #[must_use]
    pub fn rest_of_message(&self, bytes: &[u8]) -> (usize, bool) {
        self.scanner.rest(bytes)
    }

    /// Takes from the front of `bytes` what may be forwarded now, and records it as sent.
    #[inline]
    pub fn take(
        &mut self,
        tracker: &mut Tracker,
        door: &mut impl Door,
        bytes: &[u8],
    ) -> Result<Taken, Nonsense> {
        let open = door.is_open();
        let mut at = 0;
        while at < bytes.len() {
            let nonsense = |bad| Nonsense {
                after: at,
                seen: Seen::default(),
                bad,
            };
            if self.scanner.at_frame_start()
                && (tracker.is_full()
                    || (!open && door.has_permit() && !tracker.may_send_in_step()))
            {
                return Ok(Taken {
                    bytes: at,
                    pause: Pause::Answer,
                });
            }
            if !door.has_permit()
                && let Some(pause) = self.may_start(door, open, &bytes[at..]).map_err(nonsense)?
            {
                return Ok(Taken { bytes: at, pause });
            }
            at += match self.scanner.whole(&bytes[at..]) {
                Some((tag, length)) => {
                    tracker.sent(tag);
                    length
                }
                None => self.step(tracker, &bytes[at..]).map_err(nonsense)?,
            };
        }
        Ok(Taken {
            bytes: at,
            pause: Pause::Nothing,
        })
    }

    /// Advances by a header and its body, as far as the bytes reach; returns how far.
    fn step(&mut self, tracker: &mut Tracker, bytes: &[u8]) -> Result<usize, BadLength> {
        let mut at = 0;
        if !self.scanner.in_body() && self.scanner.header(bytes, &mut at)?.is_none() {
            return Ok(at);
        }
        if self.scanner.body(bytes, &mut at) {
            tracker.sent(self.scanner.last_tag());
        }
        Ok(at)
    }

    /// Whether the message at the front of `rest`, whose front may have gone on, ends in it.
    fn completes(&self, rest: &[u8]) -> Result<bool, BadLength> {
        let (mut probe, mut at) = (self.scanner, 0);
        let in_body = probe.in_body() || probe.header(rest, &mut at)?.is_some();
        Ok(in_body && probe.body(rest, &mut at))
    }

    /// Without a permit: what keeps the message at the front of `rest` from going on as far as it is
    /// there. Asks for the permit when its last byte is.
    fn may_start(
        &self,
        door: &mut impl Door,
        open: bool,
        rest: &[u8],
    ) -> Result<Option<Pause>, BadLength> {
        let tag = self.scanner.tag().unwrap_or(rest[0]);
        if !Tracker::starts_transaction(tag) {
            return Ok(None);
        }
        let complete = self.scanner.whole(rest).is_some() || self.completes(rest)?;
        if if complete { door.admit() } else { open } {
            return Ok(None);
        }
        let mid_message = !self.scanner.at_frame_start();
        // Of a message whose front has gone on nobody reads the text any more.
        let opens = match door.lets_statements_in() {
            false => Opens::Block,
            true if mid_message => Opens::Statement,
            true => opens(rest),
        };
        Ok(match opens {
            Opens::Statement if !complete || door.admit_statement() => None,
            Opens::Statement | Opens::Block => Some(Pause::Gate { mid_message }),
            Opens::More => Some(Pause::Text),
        })
    }
}

/// Reads what a server sends.
#[derive(Debug)]
pub struct ServerScan {
    scanner: Scanner,
}

impl Default for ServerScan {
    fn default() -> ServerScan {
        ServerScan {
            scanner: Scanner::of_server(),
        }
    }
}

impl ServerScan {
    /// Whether a message of ours may be put between the server's.
    #[must_use]
    pub fn at_message_start(&self) -> bool {
        self.scanner.at_frame_start()
    }

    /// How many bytes at the front of `bytes` belong to a message that began before them.
    #[must_use]
    pub fn rest_of_message(&self, bytes: &[u8]) -> usize {
        self.scanner.rest(bytes).0
    }

    /// Tells the tracker what `bytes` hold.
    #[inline]
    pub fn read(&mut self, tracker: &mut Tracker, bytes: &[u8]) -> Result<Seen, Nonsense> {
        let mut seen = Seen::default();
        let mut at = 0;
        while at < bytes.len() {
            let rest = &bytes[at..];
            match self.scanner.whole(rest) {
                // Nearly all of what a server sends, and nothing to the tracker.
                Some((from_server::DATA_ROW | from_server::COPY_DATA, length)) => at += length,
                Some((from_server::READY_FOR_QUERY, READY_LEN)) => {
                    tracker.ready(Status::from_byte(rest[HEADER_LEN]));
                    seen.ready = true;
                    at += READY_LEN;
                }
                None | Some((from_server::READY_FOR_QUERY, _)) => {
                    at = self.piece(tracker, bytes, at, &mut seen)?;
                }
                Some((tag, length)) => {
                    tracker.received(tag);
                    seen.note(tag, Some(at));
                    at += length;
                }
            }
        }
        Ok(seen)
    }

    /// Reads on in a message that is not there as a whole, or that nobody can read; returns how far.
    fn piece(
        &mut self,
        tracker: &mut Tracker,
        bytes: &[u8],
        mut at: usize,
        seen: &mut Seen,
    ) -> Result<usize, Nonsense> {
        if self.scanner.in_body() {
            if self.scanner.tag() == Some(from_server::READY_FOR_QUERY) {
                tracker.ready(Status::from_byte(bytes[at]));
                seen.ready = true;
            }
            self.scanner.body(bytes, &mut at);
            return Ok(at);
        }
        let (after, so_far) = (at, *seen);
        let nonsense = |bad| Nonsense {
            after,
            seen: so_far,
            bad,
        };
        // Of a header that is cut the client has the first part already.
        let start = self.scanner.at_frame_start().then_some(at);
        let before = self.scanner;
        let header = self.scanner.header(bytes, &mut at).map_err(nonsense)?;
        if let Some(Header { tag, body }) = header {
            if tag == from_server::READY_FOR_QUERY && body != 1 {
                // Its status would be counted once for each chunk of it.
                self.scanner = before;
                let length = body.saturating_add(4);
                return Err(nonsense(BadLength { tag, length }));
            }
            tracker.received(tag);
            seen.note(tag, start);
        }
        Ok(at)
    }
}

/// What a chunk from the server held.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Seen {
    /// A `ReadyForQuery`.
    pub ready: bool,
    /// Where its first `ErrorResponse` begins, if its header is in one piece.
    pub error_at: Option<usize>,
}

impl Seen {
    /// A message of this type begins there; `None` for one that began in another chunk.
    #[inline]
    fn note(&mut self, tag: u8, start: Option<usize>) {
        if tag == from_server::ERROR && self.error_at.is_none() {
            self.error_at = start;
        }
    }
}

/// What remains to be thrown away of a unit that was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Until {
    /// The end of this one message: a Query, a FunctionCall, or one that nobody answers.
    MessageEnd,
    /// The end of the next Sync, as the server itself does after an error.
    Sync,
}

/// Throws away a refused unit, message by message, without buffering it.
#[derive(Debug)]
pub struct Discard {
    scanner: Scanner,
    until: Until,
}

/// How far a discard came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Discarded {
    /// All the bytes are gone and the unit goes on.
    More,
    /// The unit ended after this many bytes: the client is owed a `ReadyForQuery`.
    Ended(usize),
    /// The client said Terminate instead.
    Terminate,
}

impl Discard {
    /// Of the unit whose first message has this type.
    #[must_use]
    pub fn unit(first_tag: u8) -> Discard {
        let until = match first_tag {
            from_client::QUERY | from_client::FUNCTION_CALL => Until::MessageEnd,
            _ => Until::Sync,
        };
        Discard {
            scanner: Scanner::default(),
            until,
        }
    }

    /// Of one message, whatever it is.
    #[must_use]
    pub fn message() -> Discard {
        Discard {
            scanner: Scanner::default(),
            until: Until::MessageEnd,
        }
    }

    /// Reads on through `bytes`.
    pub fn read(&mut self, bytes: &[u8]) -> Result<Discarded, BadLength> {
        let mut at = 0;
        while at < bytes.len() {
            if !self.scanner.in_body() && self.scanner.header(bytes, &mut at)?.is_none() {
                break;
            }
            if !self.scanner.body(bytes, &mut at) {
                break;
            }
            match (self.until, self.scanner.last_tag()) {
                (_, from_client::TERMINATE) => return Ok(Discarded::Terminate),
                (Until::MessageEnd, _) | (Until::Sync, from_client::SYNC) => {
                    return Ok(Discarded::Ended(at));
                }
                (Until::Sync, _) => {}
            }
        }
        Ok(Discarded::More)
    }
}

#[cfg(test)]
mod tests;
