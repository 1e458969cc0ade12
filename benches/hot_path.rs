//! What a transaction costs in an open gate: scanning its messages, and one permit; what telling
//! reads from writes costs in read-only mode; and what happens once for a connection or an error.

#[path = "support/pgbench.rs"]
mod pgbench;

use std::time::Duration;

use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};
use pgdrain::gate::admission::{Admission, Epoch};
use pgdrain::metrics::Metrics;
use pgdrain::session::class::{Shape, shape};
use pgdrain::session::scan::{ClientScan, Door, ServerScan};
use pgdrain::session::transaction::Tracker;
use pgdrain::wire::refusal::Refusal;
use pgdrain::wire::startup;

use self::pgbench::{Protocol, message};

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

/// A whole transaction through both scanners, with its permit.
#[divan::bench(args = [Protocol::Simple, Protocol::Extended])]
fn transaction(bencher: Bencher, protocol: Protocol) {
    let (query, answer) = (protocol.query(), protocol.answer());
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

/// What is recorded for a client that waited at the gate, by many threads at once.
#[divan::bench(threads = [1, 2, 4, 16])]
fn metrics_of_a_wait(bencher: Bencher) {
    let metrics = Metrics::new();
    bencher.bench(|| {
        metrics.client_waited(divan::black_box(Duration::from_millis(3)));
        metrics.refused(divan::black_box("55P03"));
    });
    metrics.run_upkeep();
}

/// The totals of a database, as they are set when the metrics are asked for, and the text of them.
#[divan::bench]
fn metrics_rendered(bencher: Bencher) {
    let metrics = Metrics::new();
    let shop = metrics.database("shop");
    bencher.bench_local(|| {
        shop.set_sessions(64);
        shop.set_transactions(1_000_000);
        shop.set_bytes(1 << 30, 1 << 33);
        metrics.render().len()
    });
}

/// A first packet as libpq sends it, checked and taken apart.
#[divan::bench]
fn startup_packet(bencher: Bencher) {
    let parameters = b"user\0app\0database\0shop\0application_name\0web\0client_encoding\0UTF8\0\0";
    let length = u32::try_from(8 + parameters.len()).expect("short");
    // Behind its own length the version, 3.0.
    let packet = [&length.to_be_bytes(), &[0, 3, 0, 0], &parameters[..]].concat();
    bencher.bench_local(|| startup::parse(divan::black_box(&packet)).expect("well formed"));
}

/// The longest of our errors.
#[divan::bench]
fn refusal() -> usize {
    Refusal::HoldExpired.encode().len()
}

/// Statements of 55 bytes, of 370, and of 44 kB: what a pool's clients send, a report, a batch of
/// identifiers.
#[divan::bench(args = ["short", "middle", "long"])]
fn class(bencher: Bencher, length: &str) {
    let sql = match length {
        "short" => "SELECT abalance FROM pgbench_accounts WHERE aid = $1001".to_owned(),
        "middle" => REPORT.to_owned(),
        _ => {
            let ids: Vec<String> = (100_000..106_280).map(|id| id.to_string()).collect();
            format!("select * from t where id in ({})", ids.join(","))
        }
    };
    bencher
        .counter(BytesCount::of_slice(sql.as_bytes()))
        .bench_local(|| assert_eq!(shape(divan::black_box(sql.as_bytes())), Shape::Reads));
}

/// 370 bytes.
const REPORT: &str = "select c.name, count(*) as orders, sum(o.amount)::numeric(9) as total, \
    max(o.created_at) as last_order from customers c join orders o on o.customer_id = c.id \
    left join refunds r on r.order_id = o.id where o.created_at >= now() - interval '7 days' \
    and c.country in ('de', 'fr', 'it') and r.id is null group by c.name \
    having sum(o.amount) > 100 order by total desc limit 5";
