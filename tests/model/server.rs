//! The server: `PostgresMain`, `exec_simple_query` and `CopyGetData`, as far as types of messages go.
//!
//! A statement that is cancelled or times out while the server waits for its client fails with the
//! next message that would be worked on, so that needs no place here.

use std::collections::VecDeque;

use super::{tagged, take_message};

/// A client's message begins with its number among the client's and a serial number of two bytes,
/// which the server does not look at.
pub(crate) const DOES_AT: usize = 3;

/// What a server does with a statement, or with any message that may fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Does {
    Succeed,
    Fail,
    Begin,
    /// COMMIT or ROLLBACK: an end in any case.
    Commit,
    CopyIn,
    CopyOut,
    /// An Execute that has more rows.
    Suspend,
    /// An empty statement, or a Describe of one without columns.
    Nothing,
}

impl Does {
    pub(crate) const ALL: [Does; 8] = [
        Does::Succeed,
        Does::Fail,
        Does::Begin,
        Does::Commit,
        Does::CopyIn,
        Does::CopyOut,
        Does::Suspend,
        Does::Nothing,
    ];

    /// The letter that stands for it in a script.
    pub(crate) fn letter(self) -> char {
        match self {
            Does::Succeed => 's',
            Does::Fail => 'x',
            Does::Begin => 'b',
            Does::Commit => 'k',
            Does::CopyIn => 'i',
            Does::CopyOut => 'o',
            Does::Suspend => 'u',
            Does::Nothing => 'n',
        }
    }
}

/// The name of the proxy's own statements and portals.
const OURS: &[u8] = b"__pgdrain\0";

/// What the proxy has the server do between two transactions of its client: with the setting that makes it
/// refuse writes, or nothing but answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    Show,
    Reset,
    On,
    /// About a prepared statement. The model's have no text: it fails.
    Ask,
}

/// The order in a Parse of the proxy's own.
fn order(body: &[u8]) -> Option<Order> {
    let text = body.strip_prefix(OURS)?;
    Some(match text.split(|byte| *byte == 0).next()? {
        b"SHOW default_transaction_read_only" => Order::Show,
        b"RESET default_transaction_read_only" => Order::Reset,
        b"SET default_transaction_read_only = on" => Order::On,
        text if text.starts_with(b"SELECT ") => Order::Ask,
        _ => return None,
    })
}

/// What the server does with a message of the proxy's own, or `None` for one of its client. A Bind
/// and an Execute do what was parsed last.
fn ours(tag: u8, body: &[u8], parsed: Does) -> Option<Does> {
    let text = match tag {
        b'P' => body.strip_prefix(OURS)?,
        b'B' | b'E' => return body.starts_with(OURS).then_some(parsed),
        b'C' => return body.get(1..)?.starts_with(OURS).then_some(Does::Nothing),
        b'f' => return body.starts_with(b"pgdrain").then_some(Does::Fail),
        _ => return None,
    };
    Some(match text.split(|byte| *byte == 0).next() {
        Some(b"ROLLBACK") => Does::Commit,
        Some(b"BEGIN") => Does::Begin,
        _ if order(body).is_some_and(|order| order != Order::Ask) => Does::Succeed,
        _ => Does::Fail,
    })
}

/// A COPY that reads data.
#[derive(Debug, Clone)]
struct Copy {
    /// The type of the message that it came by.
    by: u8,
    /// The statements behind it in the same Query.
    behind: VecDeque<Does>,
}

/// Whether a message is taken in a failed transaction: what is about its end, an empty statement,
/// or a description without columns.
fn survives(tag: u8, does: Does) -> bool {
    match does {
        Does::Commit => true,
        Does::Nothing => tag != b'B',
        Does::Succeed | Does::Fail | Does::Begin | Does::CopyIn | Does::CopyOut | Does::Suspend => {
            false
        }
    }
}

/// How a statement went.
#[derive(Debug, PartialEq, Eq)]
enum Ran {
    Done,
    Failed,
    /// It waits for data.
    Copies,
}

/// A quiescent server has said `ReadyForQuery 'I'` and read nothing since that counts.
#[derive(Debug, Clone)]
pub(crate) struct Server {
    pub(crate) unread: Vec<u8>,
    pub(crate) says: Vec<u8>,
    /// The number of the message that it is at, which its answers carry.
    reads: u8,
    status: u8,
    ready: bool,
    skips: bool,
    copy: Option<Copy>,
    /// What the proxy's own statement does that was parsed last.
    parsed: Does,
    /// The same where it is one of these.
    order: Option<Order>,
    /// The proxy's messages that it is at have not been answered to their end.
    at_order: bool,
    /// Its last ReadyForQuery was behind them.
    pub(crate) obeyed: bool,
    /// Whether it refuses writes, and what it has told of that.
    read_only: bool,
    told_read_only: bool,
    /// Its failed transaction holds nothing: the proxy has aborted it in place.
    pub(crate) aborted: bool,
    /// How often it has said ReadyForQuery.
    pub(crate) readies: usize,
    /// It has ended the connection.
    pub(crate) lost: bool,
}

impl Server {
    pub(crate) fn new() -> Self {
        Self {
            unread: Vec::new(),
            says: Vec::new(),
            reads: 0,
            status: b'I',
            ready: true,
            skips: false,
            copy: None,
            parsed: Does::Nothing,
            order: None,
            at_order: false,
            obeyed: false,
            read_only: false,
            told_read_only: false,
            aborted: false,
            readies: 0,
            lost: false,
        }
    }

    /// Idle outside of a transaction, with nothing unread that could change it.
    pub(crate) fn is_quiescent(&self) -> bool {
        self.is_quiescent_behind(&[])
    }

    /// The status of its last ReadyForQuery, if nothing came after it.
    pub(crate) fn state(&self) -> Option<u8> {
        self.ready.then_some(self.status)
    }

    /// Whether it is at orders of the proxy, or has some before it.
    pub(crate) fn has_orders(&self, more: &[u8]) -> bool {
        let all = [self.unread.as_slice(), more].concat();
        let mut rest = all.as_slice();
        let mut found = self.at_order;
        while let Some((tag, body)) = take_message(&mut rest) {
            found |= tag == b'P' && order(body).is_some();
        }
        found
    }

    /// Whether it refuses writes.
    pub(crate) fn is_read_only(&self) -> bool {
        self.read_only
    }

    /// What was set for the session is reset, and it says so.
    pub(crate) fn reset(&mut self) {
        self.read_only = false;
        self.tell();
    }

    fn tell(&mut self) {
        if self.read_only != self.told_read_only {
            self.told_read_only = self.read_only;
            let value: &[u8] = if self.read_only { b"on\0" } else { b"off\0" };
            let body = [b"default_transaction_read_only\0", value].concat();
            self.says.extend(tagged(b'S', &body));
        }
    }

    /// Whether it waits for data.
    pub(crate) fn copies(&self) -> bool {
        self.copy.is_some()
    }

    /// [`Server::is_quiescent`] when `more` is on its way behind what is unread.
    pub(crate) fn is_quiescent_behind(&self, more: &[u8]) -> bool {
        let all = [self.unread.as_slice(), more].concat();
        let mut rest = all.as_slice();
        let mut ignored = true;
        while let Some((tag, _)) = take_message(&mut rest) {
            ignored &= b"dcfHXy".contains(&tag);
        }
        self.ready && self.status == b'I' && ignored
    }

    /// Reads one message, if it is all there.
    pub(crate) fn read(&mut self) -> bool {
        let mut rest = self.unread.as_slice();
        let Some((tag, body)) = take_message(&mut rest).filter(|_| !self.lost) else {
            return false;
        };
        // A Terminate that is not of our client's making has no body.
        self.reads = body.first().copied().unwrap_or(self.reads);
        let does: VecDeque<Does> = body
            .iter()
            .skip(DOES_AT)
            .map_while(|byte| Does::ALL.get(usize::from(*byte)))
            .copied()
            .collect();
        let ours = ours(tag, body, self.parsed);
        let does = ours.map_or(does, |does| VecDeque::from([does]));
        if let (b'P', Some(ours)) = (tag, ours) {
            // What fails in a transaction that the proxy has just begun leaves nothing behind.
            self.aborted = (self.parsed, ours) == (Does::Begin, Does::Fail);
            self.parsed = ours;
            self.order = order(body);
            self.at_order |= self.order.is_some();
        }
        self.unread = rest.to_vec();
        match self.copy.take() {
            Some(copy) => self.copy(copy, tag, does),
            None => self.obey(tag, does),
        }
        true
    }

    /// Says what may come at any time: a warning, a changed setting, a notification.
    pub(crate) fn mention(&mut self, tag: u8) {
        self.say(tag);
    }

    fn obey(&mut self, tag: u8, mut does: VecDeque<Does>) {
        let first = does.front().copied().unwrap_or(Does::Succeed);
        match tag {
            b'd' | b'c' | b'f' => {}
            b'X' => self.lost = true,
            b'S' => {
                self.skips = false;
                self.say_ready();
            }
            b'H' => {}
            b'Q' | b'F' | b'P' | b'B' | b'D' | b'E' | b'C' if self.skips => {}
            b'Q' => {
                self.ready = false;
                if does.iter().all(|does| *does == Does::Nothing) {
                    self.say(b'I');
                    does.clear();
                }
                self.run_query(does);
            }
            b'F' => {
                self.ready = false;
                if first == Does::Fail || self.status == b'E' {
                    return self.fail(tag);
                }
                self.say(b'V');
                self.say_ready();
            }
            b'E' => {
                self.ready = false;
                if self.run(tag, first) == Ran::Copies {
                    let (by, behind) = (tag, VecDeque::new());
                    self.copy = Some(Copy { by, behind });
                }
            }
            b'P' | b'B' | b'D' | b'C' if first == Does::Fail => self.fail(tag),
            b'P' | b'B' | b'D' if self.status == b'E' && !survives(tag, first) => self.fail(tag),
            b'P' | b'B' | b'D' | b'C' => {
                self.ready = false;
                let answer: &[u8] = match tag {
                    b'P' => b"1",
                    b'B' => b"2",
                    b'C' => b"3",
                    _ if first == Does::Nothing => b"tn",
                    _ => b"T",
                };
                self.say_all(answer);
            }
            // "invalid frontend message type"
            _ => {
                self.say(b'E');
                self.lost = true;
            }
        }
    }

    /// The statements of a Query, up to an error, or to a COPY that reads.
    fn run_query(&mut self, mut statements: VecDeque<Does>) {
        while let Some(does) = statements.pop_front() {
            match self.run(b'Q', does) {
                Ran::Done => {}
                Ran::Failed => return,
                Ran::Copies => {
                    let (by, behind) = (b'Q', statements);
                    self.copy = Some(Copy { by, behind });
                    return;
                }
            }
        }
        self.say_ready();
    }

    /// A statement, by Query or Execute.
    fn run(&mut self, tag: u8, does: Does) -> Ran {
        if does == Does::Fail || (self.status == b'E' && does != Does::Commit) {
            self.fail(tag);
            return Ran::Failed;
        }
        match does {
            Does::CopyIn => {
                self.say(b'G');
                return Ran::Copies;
            }
            Does::CopyOut => self.say_all(b"HddcC"),
            Does::Suspend if tag == b'E' => self.say_all(b"Ds"),
            // An empty statement among others is no statement.
            Does::Nothing if tag == b'Q' => {}
            Does::Nothing => self.say(b'I'),
            Does::Succeed if self.at_order && self.order.is_some() => self.follow(),
            Does::Begin => {
                self.status = b'T';
                self.say(b'C');
            }
            Does::Commit => {
                self.status = b'I';
                self.aborted = false;
                self.say(b'C');
            }
            Does::Succeed | Does::Suspend | Does::Fail if tag == b'Q' => self.say_all(b"TDDC"),
            Does::Succeed | Does::Suspend | Does::Fail => self.say_all(b"DC"),
        }
        Ran::Done
    }

    /// Does what the proxy wants.
    fn follow(&mut self) {
        match self.order {
            Some(Order::Show) if self.read_only => {
                self.says.extend(tagged(b'D', b"\0\x01\0\0\0\x02on"));
            }
            Some(Order::Show) => self.says.extend(tagged(b'D', b"\0\x01\0\0\0\x03off")),
            Some(Order::Reset) => self.read_only = false,
            Some(Order::On) => self.read_only = true,
            Some(Order::Ask) | None => {}
        }
        self.say(b'C');
    }

    /// In COPY IN Sync and Flush are ignored; anything that is not of a COPY ends the connection.
    fn copy(&mut self, copy: Copy, tag: u8, does: VecDeque<Does>) {
        let fails = does.front() == Some(&Does::Fail);
        match tag {
            b'd' | b'c' if fails => self.fail(copy.by),
            b'f' => self.fail(copy.by),
            b'd' | b'H' | b'S' => self.copy = Some(copy),
            b'c' => {
                self.say(b'C');
                if copy.by == b'Q' {
                    self.run_query(copy.behind);
                }
            }
            // "unexpected message type", then "protocol synchronization was lost"
            _ => {
                self.say_all(b"EE");
                self.lost = true;
            }
        }
    }

    fn fail(&mut self, tag: u8) {
        self.copy = None;
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
        self.tell();
        self.obeyed = std::mem::take(&mut self.at_order);
        self.order = None;
        self.ready = true;
        self.readies += 1;
        self.says.extend(tagged(b'Z', &[self.status]));
    }
}
