//! Messages out of chunks: the front of each that somebody wants to read, whole or cut.

use crate::wire::frame::{HEADER_LEN, Scanner};

/// So much of a message is kept that comes in pieces; of a longer text the front is read.
const FRONT_MAX: usize = 16 * 1024;

/// One direction of a conversation.
#[derive(Debug)]
pub(super) struct Messages {
    scanner: Scanner,
    /// The front of the body that is under way.
    front: Vec<u8>,
    /// A length could not be one: nothing behind it can be read.
    lost: bool,
}

impl Messages {
    pub(super) fn of_client() -> Messages {
        Messages::of(Scanner::default())
    }

    pub(super) fn of_server() -> Messages {
        Messages::of(Scanner::of_server())
    }

    fn of(scanner: Scanner) -> Messages {
        Messages {
            scanner,
            front: Vec::new(),
            lost: false,
        }
    }

    /// The next byte begins a message.
    pub(super) fn rest(&mut self) {
        self.scanner = self.scanner.anew();
        self.front = Vec::new();
        self.lost = false;
    }

    /// Reads on, and tells each message that ends of a type that is wanted: its type, and the front of its
    /// body.
    pub(super) fn read(
        &mut self,
        bytes: &[u8],
        wanted: impl Fn(u8) -> bool,
        mut tell: impl FnMut(u8, &[u8]),
    ) {
        let mut at = 0;
        while at < bytes.len() && !self.lost {
            let rest = &bytes[at..];
            if let Some((tag, length)) = self.scanner.whole(rest) {
                if wanted(tag) {
                    let end = length.min(HEADER_LEN + FRONT_MAX);
                    tell(tag, &rest[HEADER_LEN..end]);
                }
                at += length;
                continue;
            }
            if !self.scanner.in_body() {
                match self.scanner.header(bytes, &mut at) {
                    Ok(Some(_)) => {}
                    Ok(None) => return,
                    Err(_) => {
                        self.lost = true;
                        return;
                    }
                }
            }
            let begin = at;
            let ended = self.scanner.body(bytes, &mut at);
            let tag = self.scanner.last_tag();
            if wanted(tag) {
                let room = FRONT_MAX.saturating_sub(self.front.len());
                let end = at.min(begin + room);
                self.front.extend_from_slice(&bytes[begin..end]);
            }
            if ended {
                if wanted(tag) {
                    tell(tag, &self.front);
                }
                self.front = Vec::new();
            }
        }
    }
}
