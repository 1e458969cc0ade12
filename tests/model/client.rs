//! The client: sends what its script says, and keeps in mind whether it keeps to the protocol.

use std::collections::VecDeque;

use super::script::Act;
use super::server::Does;
use super::{tagged, take_message};

/// More numbered messages than this are not sent. Below the first byte of an error of the proxy.
const NUMBER_MAX: u8 = 60;

/// Where a client is with a COPY that reads data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Copy {
    No,
    /// Asked for, by a message of this type.
    Asked(u8),
    /// Data was sent.
    Data(u8),
    /// It has ended, and a Sync has to follow.
    Ended,
}

/// A client that reads all it is sent.
#[derive(Debug)]
pub(crate) struct Client {
    acts: VecDeque<Act>,
    /// What it has written and nobody has taken yet.
    pub(crate) outbox: Vec<u8>,
    /// All it has written.
    pub(crate) wrote: Vec<u8>,
    /// All it has read.
    pub(crate) read: Vec<u8>,
    /// How much of that it has understood.
    understood: usize,
    /// Counts its messages; what belongs to a Parse has the number of that.
    number: u8,
    serial: u16,
    longer: usize,
    /// The number of its last COPY, and whether data was asked for or refused.
    awaits: Option<(u8, Option<bool>)>,
    copy: Copy,
    /// Whether the server's state follows from what it sent, for anybody who sees only types.
    pub(crate) orderly: bool,
    /// How often it has read ReadyForQuery.
    pub(crate) readies: usize,
    /// It sends no more.
    pub(crate) has_left: bool,
}

impl Client {
    pub(crate) fn new() -> Self {
        Self {
            acts: VecDeque::new(),
            outbox: Vec::new(),
            wrote: Vec::new(),
            read: Vec::new(),
            understood: 0,
            number: 0,
            serial: 0,
            longer: 0,
            awaits: None,
            copy: Copy::No,
            orderly: true,
            readies: 0,
            has_left: false,
        }
    }

    /// One more thing to do, behind what it has not come to yet.
    pub(crate) fn shall(&mut self, act: Act) {
        self.acts.push_back(act);
        self.act();
    }

    /// Does what it can; true when it did something.
    pub(crate) fn act(&mut self) -> bool {
        let before = self.acts.len();
        while !self.has_left
            && !self.waits()
            && let Some(act) = self.acts.pop_front()
        {
            match act {
                Act::Send(tag, does) => self.send(tag, &does),
                Act::Lengthen(bytes) => self.longer = (self.longer + bytes).min(2000),
                Act::Wait => {}
                Act::Leave => self.has_left = true,
            }
        }
        self.acts.len() < before
    }

    /// Reads; true when there was something.
    pub(crate) fn receive(&mut self, bytes: &[u8]) -> bool {
        self.read.extend_from_slice(bytes);
        let mut rest = &self.read[self.understood..];
        while let Some((tag, body)) = take_message(&mut rest) {
            if tag == b'Z' {
                self.readies += 1;
            }
            let number = body.first().copied();
            if let Some((awaited, answer @ None)) = &mut self.awaits
                && b"GE".contains(&tag)
                && number.is_some_and(|number| number == *awaited || number > NUMBER_MAX)
            {
                *answer = Some(tag == b'G');
            }
        }
        self.understood = self.read.len() - rest.len();
        !bytes.is_empty()
    }

    fn waits(&self) -> bool {
        matches!(self.acts.front(), Some(Act::Wait)) && matches!(self.awaits, Some((_, None)))
    }

    fn send(&mut self, tag: u8, does: &[Does]) {
        let of_copy = b"dcf".contains(&tag);
        if of_copy && matches!(self.awaits, Some((_, Some(false)))) {
            // It knows that the server does not want it.
            return self.keep_order(tag, does);
        }
        if !b"BDECHdcf".contains(&tag) {
            self.number += 1;
        }
        if self.number > NUMBER_MAX {
            self.number = NUMBER_MAX;
            return;
        }
        self.keep_order(tag, does);
        if !of_copy && does.contains(&Does::CopyIn) {
            self.awaits = Some((self.number, None));
        }
        self.serial += 1;
        let mut body = vec![self.number];
        body.extend(self.serial.to_be_bytes());
        body.extend(does.iter().map(|does| *does as u8));
        body.resize(body.len() + std::mem::take(&mut self.longer), 0xff);
        let message = tagged(tag, &body);
        self.wrote.extend_from_slice(&message);
        self.outbox.extend_from_slice(&message);
    }

    /// Between a COPY and the end of its data only data may be sent; Syncs in front of it are what
    /// libpq does. Whoever asks twice, or ends what was not asked for, is in no order.
    fn keep_order(&mut self, tag: u8, does: &[Does]) {
        let copies = does.iter().filter(|does| **does == Does::CopyIn).count();
        let asks = b"QE".contains(&tag) && copies > 0;
        self.copy = match (self.copy, tag) {
            (Copy::No, b'c' | b'f') => return self.orderly = false,
            (Copy::No, _) if asks => {
                let last = tag == b'E' || does.last() == Some(&Does::CopyIn);
                self.orderly &= copies == 1 && last;
                Copy::Asked(tag)
            }
            (copy, b'H') | (copy @ (Copy::No | Copy::Asked(_)), b'S') => copy,
            (Copy::No, _) | (Copy::Ended, b'S') => Copy::No,
            (Copy::Asked(by) | Copy::Data(by), b'd') => Copy::Data(by),
            (Copy::Asked(b'Q') | Copy::Data(b'Q'), b'c' | b'f') => Copy::No,
            (Copy::Asked(_) | Copy::Data(_), b'c' | b'f') => Copy::Ended,
            (Copy::Asked(_) | Copy::Data(_) | Copy::Ended, _) => {
                self.orderly = false;
                Copy::No
            }
        };
    }
}
