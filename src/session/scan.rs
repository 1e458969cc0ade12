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
        let (mut probe, mut at) = (self.scanner, 0);
        if probe.at_frame_start() {
            return (0, false);
        }
        let in_body = probe.in_body() || matches!(probe.header(bytes, &mut at), Ok(Some(_)));
        let ends = in_body && probe.body(bytes, &mut at);
        (at, ends)
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
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A gate that is open or not, and counts what it was asked.
    struct FakeDoor {
        open: bool,
        permit: bool,
        asked: u32,
        statements: bool,
    }

    impl FakeDoor {
        fn new(open: bool) -> FakeDoor {
            FakeDoor {
                open,
                permit: false,
                asked: 0,
                statements: false,
            }
        }
    }

    impl Door for FakeDoor {
        fn has_permit(&self) -> bool {
            self.permit
        }
        fn admit(&mut self) -> bool {
            self.asked += 1;
            self.permit = self.open;
            self.permit
        }
        fn is_open(&self) -> bool {
            self.open
        }
        fn lets_statements_in(&self) -> bool {
            self.statements
        }
        fn admit_statement(&mut self) -> bool {
            self.permit = self.statements;
            self.permit
        }
    }

    fn message(tag: u8, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len() + 4).expect("test messages are short");
        [&[tag][..], &length.to_be_bytes(), body].concat()
    }

    fn messages(tags: &str) -> Vec<u8> {
        tags.bytes().flat_map(|tag| message(tag, b"body")).collect()
    }

    fn take(door: &mut FakeDoor, bytes: &[u8]) -> Taken {
        ClientScan::default()
            .take(&mut Tracker::default(), door, bytes)
            .expect("lengths are right")
    }

    #[test]
    fn an_open_gate_is_asked_once_for_a_whole_pipeline() {
        let mut door = FakeDoor::new(true);
        let bytes = messages("PBESPBESQQ");
        assert_eq!(
            take(&mut door, &bytes),
            Taken {
                bytes: bytes.len(),
                pause: Pause::Nothing
            }
        );
        assert_eq!(door.asked, 1);
    }

    #[test]
    fn a_closed_gate_lets_nothing_of_a_transaction_through() {
        let mut door = FakeDoor::new(false);
        let gate = Pause::Gate { mid_message: false };
        assert_eq!(
            take(&mut door, &messages("Q")),
            Taken {
                bytes: 0,
                pause: gate
            }
        );
        // Also not the first byte of a message that is not all there.
        assert_eq!(
            take(&mut door, b"Q"),
            Taken {
                bytes: 0,
                pause: gate
            }
        );
        assert_eq!(
            take(&mut door, b"P\0\0\0\x09ab"),
            Taken {
                bytes: 0,
                pause: gate
            }
        );
    }

    #[test]
    fn a_closed_gate_lets_terminate_and_late_copy_data_through() {
        let mut door = FakeDoor::new(false);
        let bytes = messages("ddcHX");
        assert_eq!(
            take(&mut door, &bytes),
            Taken {
                bytes: bytes.len(),
                pause: Pause::Nothing
            }
        );
        assert_eq!(door.asked, 0);
    }

    #[test]
    fn in_the_first_stage_blocks_wait_and_statements_go_on() {
        let in_stage = |bytes: &[u8]| {
            let mut door = FakeDoor {
                statements: true,
                ..FakeDoor::new(false)
            };
            let taken = take(&mut door, bytes);
            (taken.bytes, taken.pause, door.permit)
        };
        let gate = Pause::Gate { mid_message: false };
        let (select, begin) = (message(b'Q', b"SELECT 1\0"), message(b'Q', b"BEGIN\0"));
        let batch = [message(b'P', b"\0BEGIN\0\0\0"), messages("BES")].concat();
        assert_eq!(in_stage(&begin), (0, gate, false));
        assert_eq!(in_stage(&batch), (0, gate, false));
        assert_eq!(in_stage(&select), (select.len(), Pause::Nothing, true));
        // One at a time: what comes behind it is looked at when it has been answered.
        let both = [select.clone(), begin.clone()].concat();
        assert_eq!(in_stage(&both), (select.len(), Pause::Answer, true));
        // What has no text yet stays; a statement goes on as far as it is there, without a permit.
        assert_eq!(in_stage(&begin[..7]), (0, Pause::Text, false));
        assert_eq!(in_stage(&select[..8]), (8, Pause::Nothing, false));
    }

    #[test]
    fn half_a_message_passes_without_a_permit_and_the_rest_needs_one() {
        let (mut scan, mut tracker) = (ClientScan::default(), Tracker::default());
        let mut door = FakeDoor::new(true);
        let query = message(b'Q', b"select 1\0");
        let (first, rest) = query.split_at(3);
        assert_eq!(
            scan.take(&mut tracker, &mut door, first).map(|t| t.bytes),
            Ok(3)
        );
        assert!(!door.permit && tracker.at_boundary());

        door.open = false;
        let gate = Pause::Gate { mid_message: true };
        let refused = scan.take(&mut tracker, &mut door, rest);
        assert_eq!(
            refused,
            Ok(Taken {
                bytes: 0,
                pause: gate
            })
        );

        door.open = true;
        assert_eq!(
            scan.take(&mut tracker, &mut door, rest).map(|t| t.bytes),
            Ok(rest.len())
        );
        assert!(door.permit && !tracker.at_boundary());
    }

    #[test]
    fn a_full_pipeline_is_cut_behind_the_unit_in_flight() {
        let mut door = FakeDoor {
            permit: true,
            ..FakeDoor::new(false)
        };
        let one = messages("PBES").len();
        let answer = Pause::Answer;
        assert_eq!(
            take(&mut door, &messages("PBESPBES")),
            Taken {
                bytes: one,
                pause: answer
            }
        );
    }

    #[test]
    fn a_status_byte_may_come_in_a_chunk_of_its_own() {
        let (mut scan, mut tracker) = (ServerScan::default(), Tracker::default());
        tracker.sent(b'Q');
        assert_eq!(scan.read(&mut tracker, b"Z\0\0\0\x05"), Ok(Seen::default()));
        assert!(!tracker.at_boundary());
        assert_eq!(
            scan.read(&mut tracker, b"T").map(|seen| seen.ready),
            Ok(true)
        );
        assert_eq!(tracker.status(), Status::InTransaction);
    }

    #[test]
    fn what_comes_before_a_bad_length_is_good() {
        let bad = BadLength {
            tag: b'D',
            length: 3,
        };
        let stream = [messages("QPBES"), b"D\0\0\0\x03".to_vec()].concat();
        let after = messages("QPBES").len();
        let (mut tracker, mut door) = (Tracker::default(), FakeDoor::new(true));
        let seen = Seen::default();
        assert_eq!(
            ClientScan::default().take(&mut tracker, &mut door, &stream),
            Err(Nonsense { after, seen, bad })
        );
        assert!(tracker.is_busy() && door.permit);

        let stream = [message(b'C', b""), message(b'Z', b"I"), stream].concat();
        let mut scan = ServerScan::default();
        let nonsense = scan.read(&mut tracker, &stream).expect_err("a bad length");
        assert_eq!(nonsense.bad, bad);
        assert_eq!(nonsense.after, stream.len() - 5);
        assert!(nonsense.seen.ready && scan.at_message_start());
    }

    proptest! {
        #[test]
        fn a_chunk_says_what_its_bytes_say_one_by_one(
            sent in "[PBDECSHQFdcf]{0,12}",
            received in "[12nTDCEIsSNGWHdcZ]{0,12}",
        ) {
            let answers: Vec<u8> = received.bytes().flat_map(|tag| match tag {
                b'Z' => message(tag, b"T"),
                tag => message(tag, b"body"),
            }).collect();
            let (mut whole, mut pieces) = (Tracker::default(), Tracker::default());
            let asked = messages(&sent);
            let (mut door, mut scan) = (FakeDoor::new(true), ClientScan::default());
            let taken = take_by(&mut scan, &mut whole, &mut door, &asked, asked.len().max(1));
            let (mut again, mut scan) = (FakeDoor::new(true), ClientScan::default());
            prop_assert_eq!(take_by(&mut scan, &mut pieces, &mut again, &asked, 1), taken);
            prop_assert_eq!(door.permit, again.permit);
            let seen = ServerScan::default().read(&mut whole, &answers);
            let mut scan = ServerScan::default();
            let mut ready = false;
            for byte in answers.chunks(1) {
                ready |= scan.read(&mut pieces, byte).is_ok_and(|seen| seen.ready);
            }
            prop_assert_eq!(seen.map(|seen| seen.ready), Ok(ready));
            prop_assert_eq!(format!("{whole:?}"), format!("{pieces:?}"));
        }
    }

    fn take_by(
        scan: &mut ClientScan,
        tracker: &mut Tracker,
        door: &mut FakeDoor,
        bytes: &[u8],
        step: usize,
    ) -> usize {
        let chunks = bytes.chunks(step);
        let taken =
            chunks.map(|chunk| scan.take(tracker, door, chunk).expect("good lengths").bytes);
        taken.sum()
    }

    #[test]
    fn a_status_that_is_not_one_byte_is_nonsense() {
        for (stream, cut, at_start) in [
            (b"Z\0\0\0\x04", 0, true),
            (b"Z\0\0\0\x06", 0, true),
            (b"Z\0\0\0\x04", 2, false),
            (b"Z\0\0\0\x06", 4, false),
        ] {
            let (mut scan, mut tracker) = (ServerScan::default(), Tracker::default());
            tracker.sent(b'Q');
            let (first, rest) = stream.split_at(cut);
            assert!(scan.read(&mut tracker, first).is_ok());
            let nonsense = scan.read(&mut tracker, rest).map_err(|bad| bad.after);
            assert_eq!(nonsense, Err(0));
            assert!(tracker.is_busy());
            assert_eq!(scan.at_message_start(), at_start, "cut at {cut}");
        }
    }

    #[test]
    fn an_error_begins_where_nothing_of_it_came_before() {
        let error = message(b'E', b"body");
        let mut scan = ServerScan::default();
        let mut error_at = |bytes: &[u8]| {
            let seen = scan.read(&mut Tracker::default(), bytes);
            seen.map(|seen| seen.error_at)
        };
        let notice = message(b'N', b"body");
        let both = [notice.as_slice(), &error].concat();
        assert_eq!(error_at(&both), Ok(Some(notice.len())));
        assert_eq!(error_at(&error[..1]), Ok(None));
        assert_eq!(error_at(&error[1..]), Ok(None));
    }

    #[test]
    fn a_refused_unit_is_discarded_to_its_end_and_no_further() {
        let one_query = message(b'Q', b"x").len();
        let query = [message(b'Q', b"x"), messages("Q")].concat();
        assert_eq!(
            Discard::unit(b'Q').read(&query),
            Ok(Discarded::Ended(one_query))
        );

        let batch = messages("PBDES");
        let two = [batch.clone(), messages("PBES")].concat();
        assert_eq!(
            Discard::unit(b'P').read(&two),
            Ok(Discarded::Ended(batch.len()))
        );

        // A client that waits for the error before it sends its Sync, or leaves.
        let mut discard = Discard::unit(b'P');
        assert_eq!(discard.read(&messages("PDH")), Ok(Discarded::More));
        assert_eq!(
            discard.read(&messages("S")),
            Ok(Discarded::Ended(messages("S").len()))
        );
        assert_eq!(
            Discard::unit(b'P').read(&messages("PX")),
            Ok(Discarded::Terminate)
        );
    }
}
