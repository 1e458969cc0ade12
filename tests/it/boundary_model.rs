//! The tracker of transaction boundaries against a model of a server, on random conversations that
//! are cut into random chunks and cross each other on the way.
//!
//! The model does what `PostgresMain` and `CopyGetData` do with the types of messages. The tracker
//! must never take a session for quiescent while the server is busy or has something unread, and
//! must take it for quiescent when it is.

mod conversations;
mod server;

use std::collections::VecDeque;

use pgdrain::session::scan::{ClientScan, Door, ServerScan};
use pgdrain::session::transaction::Tracker;
use proptest::collection::vec;
use proptest::prelude::*;

use self::conversations::{Step, conversation};
use self::server::{Does, Server, take_message};
use crate::support::message::tagged;

/// A gate that nobody closes.
struct Open;

impl Door for Open {
    fn has_permit(&self) -> bool {
        true
    }
    fn admit(&mut self) -> bool {
        true
    }
    fn is_open(&self) -> bool {
        true
    }
}

/// A client, the proxy's view, and a server, with bytes on the way between them.
struct Conversation {
    steps: VecDeque<Step>,
    /// Counts what the client sends; Bind and Execute count with their Parse.
    sent: u8,
    /// The last COPY, and whether its data was asked for or refused, as far as the client has seen.
    copy: (u8, Option<bool>),
    to_proxy: Vec<u8>,
    to_client: Vec<u8>,
    client_scan: ClientScan,
    server_scan: ServerScan,
    tracker: Tracker,
    server: Server,
}

impl Conversation {
    fn new(steps: Vec<Step>) -> Self {
        Self {
            steps: steps.into(),
            sent: 0,
            copy: (0, None),
            to_proxy: Vec::new(),
            to_client: Vec::new(),
            client_scan: ClientScan::default(),
            server_scan: ServerScan::default(),
            tracker: Tracker::default(),
            server: Server::new(),
        }
    }

    /// Lets one of the four do something; false when there is nothing for it to do.
    fn turn(&mut self, whose: u8, bytes: usize) -> bool {
        match whose {
            0 => self.client_acts(),
            1 => self.proxy_sends(bytes),
            2 => self.server.read(),
            _ => self.proxy_reads(bytes),
        }
    }

    fn client_acts(&mut self) -> bool {
        match self.steps.pop_front() {
            None => false,
            Some(Step::Send(tag, does)) => {
                self.send(tag, does);
                true
            }
            Some(step @ Step::Copy { waits: true, .. }) if self.copy.1.is_none() => {
                self.steps.push_front(step);
                false
            }
            Some(Step::Copy {
                waits,
                data,
                end,
                sync,
            }) => {
                if sync {
                    self.steps.push_front(Step::Send(b'S', Does::Succeed));
                }
                if !waits || self.copy.1 == Some(true) {
                    self.steps.push_front(Step::Send(end, Does::Succeed));
                    for does in data {
                        self.steps.push_front(Step::Send(b'd', does));
                    }
                }
                true
            }
        }
    }

    fn send(&mut self, tag: u8, does: Does) {
        if !b"BE".contains(&tag) {
            self.sent += 1;
        }
        if does == Does::CopyIn {
            self.copy = (self.sent, None);
        }
        self.to_proxy.extend(tagged(tag, &[does as u8, self.sent]));
    }

    fn proxy_sends(&mut self, bytes: usize) -> bool {
        let bytes: Vec<u8> = self
            .to_proxy
            .drain(..bytes.min(self.to_proxy.len()))
            .collect();
        let taken = self.client_scan.take(&mut self.tracker, &mut Open, &bytes);
        assert_eq!(taken.expect("good lengths").bytes, bytes.len());
        self.server.unread.extend(&bytes);
        !bytes.is_empty()
    }

    fn proxy_reads(&mut self, bytes: usize) -> bool {
        let bytes = bytes.min(self.server.says.len());
        let bytes: Vec<u8> = self.server.says.drain(..bytes).collect();
        let seen = self.server_scan.read(&mut self.tracker, &bytes);
        seen.expect("good lengths");
        self.to_client.extend(&bytes);
        let mut rest = self.to_client.as_slice();
        while let Some((tag, body)) = take_message(&mut rest) {
            if body[0] == self.copy.0 && b"GE".contains(&tag) {
                self.copy.1 = Some(tag == b'G');
            }
        }
        self.to_client = rest.to_vec();
        !bytes.is_empty()
    }

    fn check(&self) {
        if self.tracker.at_boundary() {
            let quiescent = self.server.is_quiescent() && self.server.says.is_empty();
            assert!(
                quiescent,
                "taken for quiescent: {:?} {:?}",
                self.tracker, self.server
            );
        }
    }

    /// Plays the schedule, then lets everybody take turns until nobody has anything left to do.
    fn run(mut self, schedule: &[(u8, usize)]) {
        for (whose, bytes) in schedule {
            self.turn(*whose, *bytes);
            self.check();
        }
        let mut busy = true;
        while std::mem::take(&mut busy) {
            for whose in 0..4 {
                busy |= !self.server.lost && self.turn(whose, usize::MAX);
                self.check();
            }
        }
        let (tracker, server) = (&self.tracker, &self.server);
        if !server.lost {
            let both = (tracker.at_boundary(), server.is_quiescent());
            assert_eq!(both.0, both.1, "at the end: {tracker:?} {server:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 15_000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn a_boundary_is_where_the_server_is_quiescent(
        steps in conversation(),
        schedule in vec((0u8..4, 1usize..40), 0..120),
    ) {
        Conversation::new(steps).run(&schedule);
    }
}
