//! The server's answers to messages of ours, picked out of what it sends: the client sees none of
//! them.

use crate::session::transaction::Status;
use crate::wire::backend::{error_field, tag};
use crate::wire::frame::{BadLength, Header, Scanner};

/// The longest message that is looked into.
const KEPT_MAX: usize = 64 * 1024;

/// Which of the server's messages are answers to ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ours {
    /// All up to `ReadyForQuery`: the client is owed nothing.
    All,
    /// `ReadyForQuery` alone: the rest answers what the client sent.
    Ready,
}

/// What becomes of the message that is being read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// It is looked into once it is whole.
    Keep,
    /// The client gets it.
    Pass,
    Drop,
}

/// What the server has answered so far.
#[derive(Debug)]
pub(super) struct Answers {
    ours: Ours,
    scanner: Scanner,
    /// The header of the message that is being read, and of one that is kept the body too.
    message: Vec<u8>,
    fate: Fate,
    /// How many `CommandComplete` there were.
    pub(super) completed: u32,
    /// The SQLSTATE of the error, if there was one.
    pub(super) error: Option<Vec<u8>>,
    /// The error as a whole message, if there was one.
    pub(super) refusal: Vec<u8>,
    /// Whether there was an error, also one that the client has got.
    pub(super) failed: bool,
    /// The body of the last row, if there was one and it was not too long.
    pub(super) row: Option<Vec<u8>>,
    /// That of the row before it.
    pub(super) row_before: Option<Vec<u8>>,
    /// `ParameterStatus` messages, whole: what they tell is true for the client too.
    pub(super) settings: Vec<u8>,
}

/// The end of the answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ready {
    /// What `ReadyForQuery` said.
    pub(super) status: Status,
    /// How many bytes of the chunk they were; the rest is for the client.
    pub(super) bytes: usize,
}

impl Answers {
    /// To messages that were just sent; the server is between two messages.
    #[must_use]
    pub(super) fn to(ours: Ours) -> Answers {
        Answers {
            ours,
            scanner: Scanner::of_server(),
            message: Vec::new(),
            fate: Fate::Drop,
            completed: 0,
            error: None,
            refusal: Vec::new(),
            failed: false,
            row: None,
            row_before: None,
            settings: Vec::new(),
        }
    }

    /// Reads on through `bytes`; what the client gets of them is added to `pass`. `None` while
    /// the end is still to come.
    pub(super) fn read(
        &mut self,
        bytes: &[u8],
        pass: &mut Vec<u8>,
    ) -> Result<Option<Ready>, BadLength> {
        let mut at = 0;
        while at < bytes.len() {
            let from = at;
            if self.scanner.in_body() {
                let whole = self.scanner.body(bytes, &mut at);
                self.take(&bytes[from..at], pass);
                if whole && let Some(status) = self.end(pass) {
                    return Ok(Some(Ready { status, bytes: at }));
                }
                continue;
            }
            let header = self.scanner.header(bytes, &mut at)?;
            self.message.extend_from_slice(&bytes[from..at]);
            let Some(header) = header else {
                continue;
            };
            self.fate = self.fate_of(header, pass)?;
            if header.body == 0
                && let Some(status) = self.end(pass)
            {
                return Ok(Some(Ready { status, bytes: at }));
            }
        }
        Ok(None)
    }

    /// Decides about a message by its header.
    fn fate_of(&mut self, header: Header, pass: &mut Vec<u8>) -> Result<Fate, BadLength> {
        let length = usize::try_from(header.body).unwrap_or(usize::MAX);
        self.failed |= header.tag == tag::ERROR;
        let fate = match (self.ours, header.tag) {
            (Ours::All, tag::DATA_ROW) if length <= KEPT_MAX => Fate::Keep,
            (_, tag::READY_FOR_QUERY) | (Ours::All, tag::ERROR | tag::PARAMETER_STATUS) => {
                Fate::Keep
            }
            (Ours::Ready, _) | (Ours::All, tag::NOTIFICATION) => Fate::Pass,
            (Ours::All, tag) => {
                self.completed += u32::from(tag == tag::COMMAND_COMPLETE);
                Fate::Drop
            }
        };
        if fate == Fate::Keep && length > KEPT_MAX {
            return Err(BadLength {
                tag: header.tag,
                length: header.body.saturating_add(4),
            });
        }
        if fate == Fate::Pass {
            pass.append(&mut self.message);
        }
        Ok(fate)
    }

    fn take(&mut self, part: &[u8], pass: &mut Vec<u8>) {
        match self.fate {
            Fate::Keep => self.message.extend_from_slice(part),
            Fate::Pass => pass.extend_from_slice(part),
            Fate::Drop => {}
        }
    }

    /// The message is whole. Returns the status of a `ReadyForQuery`.
    fn end(&mut self, pass: &mut Vec<u8>) -> Option<Status> {
        let message = std::mem::take(&mut self.message);
        match (self.fate, message.split_at_checked(5)) {
            (Fate::Keep, Some((header, body))) => match header[0] {
                tag::READY_FOR_QUERY => return body.first().map(|byte| Status::from_byte(*byte)),
                tag::PARAMETER_STATUS => self.settings.extend_from_slice(&message),
                tag::DATA_ROW => self.row_before = self.row.replace(body.to_vec()),
                // The server ends the connection: these are its last words to the client.
                _ if is_fatal(body) => pass.extend_from_slice(&message),
                _ => {
                    self.error = error_field(body, b'C').map(<[u8]>::to_vec);
                    self.refusal = message;
                }
            },
            (Fate::Keep | Fate::Pass | Fate::Drop, _) => {}
        }
        None
    }
}

/// The field `V` is never translated.
fn is_fatal(error: &[u8]) -> bool {
    matches!(error_field(error, b'V'), Some(b"FATAL" | b"PANIC"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn message(tag: u8, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len() + 4).expect("test messages are short");
        [&[tag][..], &length.to_be_bytes(), body].concat()
    }

    /// The answers to an abort in place, with what may come between them; what the client gets.
    fn aborted() -> (Vec<u8>, Vec<u8>) {
        let setting = message(b'S', b"TimeZone\0UTC\0");
        let notification = message(b'A', b"\0\0\0\x01a\0b\0");
        let stream = [
            message(b'1', b""),
            message(b'2', b""),
            setting,
            message(b'C', b"ROLLBACK\0"),
            notification.clone(),
            message(b'N', b"SWARNING\0\0"),
            message(b'C', b"BEGIN\0"),
            message(b'E', b"SFEHLER\0VERROR\0C42601\0\0"),
            message(b'Z', b"E"),
        ];
        (stream.concat(), notification)
    }

    proptest! {
        #[test]
        fn answers_are_picked_out_wherever_the_stream_is_cut(
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
        ) {
            let (stream, for_client) = aborted();
            let mut cuts: Vec<usize> = cuts.iter().map(|c| c.index(stream.len())).collect();
            cuts.sort_unstable();
            cuts.push(stream.len());
            let (mut answers, mut pass) = (Answers::to(Ours::All), Vec::new());
            let (mut from, mut ready) = (0, None);
            for to in cuts {
                prop_assert_eq!(ready, None);
                ready = answers.read(&stream[from..to], &mut pass).expect("good lengths");
                from = to;
            }
            prop_assert_eq!(ready.map(|ready| ready.status), Some(Status::Failed));
            prop_assert_eq!(pass, for_client);
            prop_assert_eq!(answers.completed, 2);
            prop_assert_eq!(answers.error.as_deref(), Some(&b"42601"[..]));
            prop_assert_eq!(answers.settings, message(b'S', b"TimeZone\0UTC\0"));
        }
    }

    #[test]
    fn what_comes_behind_the_answers_is_not_of_them() {
        let ready = message(b'Z', b"I");
        let both = [ready.clone(), message(b'A', b"more")].concat();
        let mut pass = Vec::new();
        let read = Answers::to(Ours::All).read(&both, &mut pass);
        let (status, bytes) = (Status::Idle, ready.len());
        assert_eq!(read, Ok(Some(Ready { status, bytes })));
        assert!(pass.is_empty());
    }

    #[test]
    fn the_last_words_of_a_server_are_for_the_client() {
        let words = message(b'E', b"SFATAL\0VFATAL\0C57P01\0\0");
        let mut pass = Vec::new();
        let mut answers = Answers::to(Ours::All);
        assert_eq!(answers.read(&words, &mut pass), Ok(None));
        assert_eq!((pass, answers.error), (words, None));
    }

    #[test]
    fn of_a_sync_of_ours_the_client_misses_nothing_but_its_ready() {
        let stream = [
            message(b'1', b""),
            message(b'D', b"row"),
            message(b'Z', b"T"),
        ]
        .concat();
        let mut pass = Vec::new();
        let read = Answers::to(Ours::Ready).read(&stream, &mut pass);
        assert_eq!(
            read.map(|ready| ready.map(|it| it.status)),
            Ok(Some(Status::InTransaction))
        );
        assert_eq!(pass, stream[..stream.len() - 6]);
    }

    #[test]
    fn a_message_that_is_kept_is_not_of_any_length() {
        let mut pass = Vec::new();
        for (tag, good) in [(b'E', false), (b'N', true)] {
            let read = Answers::to(Ours::All).read(&[tag, 0, 1, 0, 5], &mut pass);
            assert_eq!(read.is_ok(), good);
        }
    }
}
