//! The tracker of transactions between a client and a server, in front of a gate that is one flag.

use pgdrain::session::scan::{ClientScan, Door, ServerScan};
use pgdrain::session::transaction::Tracker;

use super::client::Client;
use super::script::{Instruction, read};
use super::server::Server;

/// A gate for one.
struct Flag {
    open: bool,
    permit: bool,
}

impl Door for Flag {
    fn has_permit(&self) -> bool {
        self.permit
    }
    fn admit(&mut self) -> bool {
        self.permit |= self.open;
        self.permit
    }
    fn is_open(&self) -> bool {
        self.open
    }
}

/// A client, the proxy's view, and a server, with bytes on the way between them.
struct Tracked {
    client: Client,
    client_scan: ClientScan,
    server_scan: ServerScan,
    tracker: Tracker,
    door: Flag,
    server: Server,
}

/// Plays a script and checks after every step: the proxy never takes a session for quiescent, and
/// never is without a permit, while the server is busy or is about to be. At the end of a
/// conversation that keeps to the protocol it takes a quiescent one for what it is.
///
/// Returns whether it was one.
///
/// # Panics
/// When one of them does not hold.
pub(crate) fn play(script: &[u8]) -> bool {
    let mut play = Tracked {
        client: Client::new(),
        client_scan: ClientScan::default(),
        server_scan: ServerScan::default(),
        tracker: Tracker::default(),
        door: Flag {
            open: true,
            permit: false,
        },
        server: Server::new(),
    };
    for instruction in read(script) {
        play.step(instruction);
        play.check();
    }
    play.door.open = true;
    play.settle();
    play.check_end();
    play.client.orderly
}

impl Tracked {
    fn step(&mut self, instruction: Instruction) {
        match instruction {
            Instruction::Client(act) => self.client.shall(act),
            Instruction::Forward(bytes) => {
                self.forward(bytes);
            }
            Instruction::Answer(bytes) => {
                self.answer(bytes);
            }
            Instruction::Read(messages) => {
                self.serve(messages);
            }
            Instruction::Settle => self.settle(),
            Instruction::Mention(tag) => self.server.mention(tag),
            Instruction::Hold(_) => self.door.open = false,
            Instruction::Open => self.door.open = true,
            // What only a relay has.
            Instruction::Stage
            | Instruction::ReadOnly
            | Instruction::Reset
            | Instruction::Pass(_)
            | Instruction::Signal(_)
            | Instruction::Collect => {}
        }
    }

    /// The proxy takes what it may of the client's next bytes.
    fn forward(&mut self, bytes: usize) -> bool {
        let bytes = bytes.min(self.client.outbox.len());
        let (tracker, door) = (&mut self.tracker, &mut self.door);
        let chunk = &self.client.outbox[..bytes];
        let taken = self.client_scan.take(tracker, door, chunk);
        let taken = taken.expect("good lengths").bytes;
        self.server.unread.extend(self.client.outbox.drain(..taken));
        taken > 0
    }

    fn serve(&mut self, messages: usize) -> bool {
        let read = (0..messages).take_while(|_| self.server.read());
        read.count() > 0
    }

    fn answer(&mut self, bytes: usize) -> bool {
        let bytes = bytes.min(self.server.says.len());
        let bytes: Vec<u8> = self.server.says.drain(..bytes).collect();
        let seen = self.server_scan.read(&mut self.tracker, &bytes);
        seen.expect("good lengths");
        if self.tracker.at_boundary() {
            self.door.permit = false;
        }
        let received = self.client.receive(&bytes);
        self.client.act();
        received
    }

    fn settle(&mut self) {
        loop {
            let moved = [
                self.forward(usize::MAX),
                self.serve(usize::MAX),
                self.answer(usize::MAX),
            ];
            self.check();
            if self.server.lost || !moved.contains(&true) {
                return;
            }
        }
    }

    fn check(&self) {
        let (tracker, server) = (&self.tracker, &self.server);
        if server.lost {
            return;
        }
        let quiescent = server.is_quiescent() && server.readies == self.client.readies;
        if tracker.at_boundary() {
            assert!(quiescent, "taken for quiescent: {tracker:?} {server:?}");
        }
        if !self.door.permit {
            assert!(quiescent, "without a permit: {tracker:?} {server:?}");
        }
    }

    fn check_end(&self) {
        let (tracker, server) = (&self.tracker, &self.server);
        if self.client.orderly && !server.lost {
            let both = (tracker.at_boundary(), server.is_quiescent());
            assert_eq!(both.0, both.1, "at the end: {tracker:?} {server:?}");
        }
    }
}
