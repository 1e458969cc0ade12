//! What a transaction costs in an open gate: scanning its messages, and one permit.

use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};
use pgdrain::gate::admission::{Admission, Epoch};
use pgdrain::session::scan::{ClientScan, Door, ServerScan};
use pgdrain::session::transaction::Tracker;
use pgdrain::wire::refusal::Refusal;

fn main() {
    divan::main();
}

/// The gate as a session sees it, without the session.
struct BenchDoor<'a> {
    gate: &'a Admission,
    permit: Option<Epoch>,
}

impl Door for BenchDoor<'_> {
    fn has_permit(&self) -> bool {
        self.permit.is_some()
    }
    fn admit(&mut self) -> bool {
        self.permit = self.gate.admit().ok();
        self.permit.is_some()
    }
    fn is_open(&self) -> bool {
        self.gate.is_open()
    }
}

fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).expect("short messages");
    [&[tag][..], &length.to_be_bytes(), body].concat()
}

/// Parse, Bind, Describe, Execute, Sync as pgbench sends them.
fn extended_query() -> Vec<u8> {
    let parse = b"\0SELECT abalance FROM pgbench_accounts WHERE aid = $1;\0\0\0";
    [
        message(b'P', parse),
        message(
            b'B',
            b"\0\0\0\0\0\x01\0\0\0\x07\x31\x32\x33\x34\x35\x36\x37\0\0",
        ),
        message(b'D', b"P\0"),
        message(b'E', b"\0\0\0\0\0"),
        message(b'S', b""),
    ]
    .concat()
}

/// Its answer with one row.
fn answer() -> Vec<u8> {
    [
        message(b'1', b""),
        message(b'2', b""),
        message(b'T', &[0; 33]),
        message(b'D', &[0; 8]),
        message(b'C', b"SELECT 1\0"),
        message(b'Z', b"I"),
    ]
    .concat()
}

/// A whole transaction through both scanners, with its permit.
#[divan::bench]
fn transaction(bencher: Bencher) {
    let (query, answer) = (extended_query(), answer());
    let gate = Admission::default();
    let mut tracker = Tracker::default();
    let (mut client, mut server) = (ClientScan::default(), ServerScan::default());
    bencher.bench_local(|| {
        let mut door = BenchDoor {
            gate: &gate,
            permit: None,
        };
        client
            .take(&mut tracker, &mut door, &query)
            .expect("well formed");
        server.read(&mut tracker, &answer).expect("well formed");
        assert!(tracker.at_boundary());
        gate.release(door.permit.expect("the gate is open"));
    });
}

/// Rows of 100 bytes in chunks of 64 KiB, as a large result comes in.
#[divan::bench]
fn rows(bencher: Bencher) {
    let chunk = message(b'D', &[0; 95]).repeat(64 * 1024 / 100);
    let mut tracker = Tracker::default();
    tracker.sent(b'Q');
    let mut server = ServerScan::default();
    bencher
        .counter(BytesCount::of_slice(&chunk))
        .bench_local(|| server.read(&mut tracker, &chunk));
}

/// Permits from one gate by many threads at once.
#[divan::bench(threads = [1, 2, 4, 16])]
fn permit(bencher: Bencher) {
    let gate = Admission::default();
    bencher.counter(ItemsCount::new(1_usize)).bench(|| {
        let permit = gate.admit().expect("open");
        gate.release(permit)
    });
}

/// The longest of our errors.
#[divan::bench]
fn refusal() -> usize {
    Refusal::HoldExpired.encode().len()
}
