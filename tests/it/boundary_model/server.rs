//! A server as far as its types of messages go: `PostgresMain` and `CopyGetData`.

use crate::support::message::tagged;

/// What a server does with a statement, or with any message that may fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Does {
    Succeed,
    Fail,
    Begin,
    Commit,
    CopyIn,
    CopyOut,
    Suspend,
    Nothing,
}

impl Does {
    const ALL: [Does; 8] = [
        Does::Succeed,
        Does::Fail,
        Does::Begin,
        Does::Commit,
        Does::CopyIn,
        Does::CopyOut,
        Does::Suspend,
        Does::Nothing,
    ];
}

/// The server as its messages tell: a quiescent one has said `ReadyForQuery 'I'` and read nothing
/// since that counts.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) unread: Vec<u8>,
    pub(super) says: Vec<u8>,
    /// The number of the message that it is at, which its answers carry.
    reads: u8,
    status: u8,
    ready: bool,
    skips: bool,
    /// The type of the message whose COPY reads data.
    copies: Option<u8>,
    pub(super) lost: bool,
}

impl Server {
    pub(super) fn new() -> Self {
        Self {
            unread: Vec::new(),
            says: Vec::new(),
            reads: 0,
            status: b'I',
            ready: true,
            skips: false,
            copies: None,
            lost: false,
        }
    }

    pub(super) fn is_quiescent(&self) -> bool {
        let mut rest = self.unread.as_slice();
        let mut ignored = true;
        while let Some((tag, _)) = take_message(&mut rest) {
            ignored &= b"dcfH".contains(&tag);
        }
        self.ready && self.status == b'I' && ignored
    }

    /// Reads one message, if it is all there.
    pub(super) fn read(&mut self) -> bool {
        let mut rest = self.unread.as_slice();
        let Some((tag, body)) = take_message(&mut rest) else {
            return false;
        };
        let does = Does::ALL[usize::from(body[0])];
        self.reads = body[1];
        self.unread = rest.to_vec();
        match self.copies {
            Some(by) => self.copy(by, tag, does),
            None => self.obey(tag, does),
        }
        true
    }

    fn obey(&mut self, tag: u8, does: Does) {
        match tag {
            b'd' | b'c' | b'f' | b'H' => {}
            b'S' => {
                self.skips = false;
                self.say_ready();
            }
            _ if self.skips => {}
            b'Q' | b'F' => {
                self.ready = false;
                self.run(tag, does);
            }
            b'E' => {
                self.ready = false;
                self.run(tag, does);
            }
            _ if does == Does::Fail => self.fail(tag),
            _ => {
                self.ready = false;
                let answer: &[u8] = match tag {
                    b'P' => b"1",
                    b'B' => b"2",
                    b'C' => b"3",
                    b'D' if does == Does::Nothing => b"tn",
                    _ => b"T",
                };
                self.say_all(answer);
            }
        }
    }

    /// A statement, by Query or Execute, or a function call.
    fn run(&mut self, tag: u8, does: Does) {
        let fails = does == Does::Fail || (self.status == b'E' && does != Does::Commit);
        match does {
            _ if fails => return self.fail(tag),
            _ if tag == b'F' => self.say(b'V'),
            Does::CopyIn => {
                self.say(b'G');
                self.copies = Some(tag);
                return;
            }
            Does::CopyOut => self.say_all(b"HddcC"),
            Does::Suspend if tag == b'E' => self.say_all(b"Ds"),
            Does::Nothing => self.say(b'I'),
            Does::Begin => {
                self.status = b'T';
                self.say(b'C');
            }
            Does::Commit => {
                self.status = b'I';
                self.say(b'C');
            }
            Does::Succeed | Does::Suspend | Does::Fail if tag == b'Q' => self.say_all(b"TDDC"),
            Does::Succeed | Does::Suspend | Does::Fail => self.say_all(b"DC"),
        }
        if tag != b'E' {
            self.say_ready();
        }
    }

    /// In COPY IN Sync and Flush are ignored; anything that is not of a COPY ends the connection.
    fn copy(&mut self, by: u8, tag: u8, does: Does) {
        match tag {
            b'd' if does != Does::Fail => {}
            b'H' | b'S' => {}
            b'c' => {
                self.copies = None;
                self.say(b'C');
                if by == b'Q' {
                    self.say_ready();
                }
            }
            b'd' | b'f' => self.fail(by),
            _ => self.lost = true,
        }
    }

    fn fail(&mut self, tag: u8) {
        self.copies = None;
        self.ready = false;
        self.say(b'E');
        if self.status == b'T' {
            self.status = b'E';
        }
        if b"QF".contains(&tag) {
            self.say_ready();
        } else {
            self.skips = true;
        }
    }

    fn say_all(&mut self, tags: &[u8]) {
        tags.iter().for_each(|tag| self.say(*tag));
    }

    fn say(&mut self, tag: u8) {
        self.says.extend(tagged(tag, &[self.reads, 7, 7]));
    }

    fn say_ready(&mut self) {
        self.ready = true;
        self.says.extend(tagged(b'Z', &[self.status]));
    }
}

/// Takes a whole message off the front.
pub(super) fn take_message<'a>(bytes: &mut &'a [u8]) -> Option<(u8, &'a [u8])> {
    let (header, rest) = bytes.split_first_chunk::<5>()?;
    let length = u32::from_be_bytes([header[1], header[2], header[3], header[4]]) as usize - 4;
    let body = rest.get(..length)?;
    *bytes = &rest[length..];
    Some((header[0], body))
}
