//! So many transactions through one session in memory, for a program that counts instructions.
//!
//! `callgrind relay|read-only|pump|none TRANSACTIONS`; `read-only` is the relay in that mode, `none` what the
//! counting itself takes. Two runs of different length tell what one transaction takes; see `count`.

mod line;

use std::error::Error;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::BytesMut;
use pgdrain::audit::Audit;
use pgdrain::config::{Blocked, Source, Surroundings, Then};
use pgdrain::gate::Gate;
use pgdrain::gate::mode::{HoldSpec, Holder};
use pgdrain::metrics::Metrics;
use pgdrain::server::cancel::Cancels;
use pgdrain::server::connect::{Endpoint, Route};
use pgdrain::session::registry::{Login, Sessions};
use pgdrain::session::relay::{Common, Relay};
use pgdrain::tasks::Tasks;
use pgdrain::tls::stream::Peer;
use tokio::io::copy_bidirectional;

use self::line::Line;

type Proxy = Pin<Box<dyn Future<Output = ()>>>;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [what, transactions] = &arguments[..] else {
        return Err("usage: callgrind relay|read-only|pump|none TRANSACTIONS".into());
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()?;
    let _entered = runtime.enter();
    let (client, server) = (Line::default(), Line::default());
    let mut proxy: Proxy = match what.as_str() {
        "relay" => relay(client.clone(), server.clone(), false)?,
        "read-only" => relay(client.clone(), server.clone(), true)?,
        "pump" => pump(client.clone(), server.clone()),
        "none" => Box::pin(std::future::pending()),
        _ => return Err("relay, read-only, pump or none".into()),
    };
    let (query, answer) = (extended_query(), answer());
    let passes = what != "none";
    for _ in 0..transactions.parse::<u64>()? {
        pass(&client, &server, &mut proxy, &query, passes)?;
        pass(&server, &client, &mut proxy, &answer, passes)?;
    }
    Ok(())
}

/// Bytes come in on one side; the other must get them all.
fn pass(
    from: &Line,
    to: &Line,
    proxy: &mut Proxy,
    bytes: &[u8],
    passes: bool,
) -> Result<(), Box<dyn Error>> {
    from.deliver(bytes);
    if proxy
        .as_mut()
        .poll(&mut Context::from_waker(Waker::noop()))
        .is_ready()
    {
        return Err("the session has ended".into());
    }
    let got = if passes {
        to.take_written()
    } else {
        from.take_arrived()
    };
    if got == bytes.len() {
        Ok(())
    } else {
        Err("not all came through".into())
    }
}

fn pump(mut client: Line, mut server: Line) -> Proxy {
    Box::pin(async move {
        // It does not end before we do.
        let _ = copy_bidirectional(&mut client, &mut server).await;
    })
}

fn relay(client: Line, server: Line, read_only: bool) -> Result<Proxy, Box<dyn Error>> {
    let source = Source::new(None)
        .flag(
            "--upstream",
            "upstream.url",
            "postgres://pgdrain@127.0.0.1:1",
        )
        .flag("--state-dir", "state_dir", "/nowhere");
    let loaded = source.load(&Surroundings::default());
    let config = Arc::new(loaded.map_err(|problems| format!("{problems:?}"))?.config);
    let (tasks, metrics) = (Tasks::new(), Arc::new(Metrics::new()));
    let session = Sessions::default().add(Login {
        database: "d".into(),
        user: "u".into(),
        application_name: "".into(),
        client: Peer::Unix,
        replication: None,
        held_by_holds: true,
        pass: None,
        route: Route::plain(Endpoint::Unix("/".into())),
        server_key: None,
        client_key: None,
    });
    let audit = Arc::new(Audit::in_memory());
    let gate = Arc::new(Gate::new("d", tasks.clone(), Arc::clone(&metrics), audit));
    let common = Arc::new(Common {
        tasks,
        metrics,
        cancels: Cancels::new(1),
    });
    if read_only {
        gate.hold(Holder::Operator, reads_alone());
    }
    let relay = Relay::new(
        (client, BytesMut::new()),
        (server.clone(), BytesMut::new()),
        session,
        (gate, Vec::new()),
        config,
        common,
    );
    let mut run = Box::pin(relay.run());
    let mut proxy: Proxy = Box::pin(std::future::poll_fn(move |cx| {
        run.as_mut().poll(cx).map(|_end| ())
    }));
    if read_only {
        enforce(&server, &mut proxy)?;
    }
    Ok(proxy)
}

/// The server is told to refuse writes, and does as it is told.
fn enforce(server: &Line, proxy: &mut Proxy) -> Result<(), Box<dyn Error>> {
    let mut cx = Context::from_waker(Waker::noop());
    if proxy.as_mut().poll(&mut cx).is_ready() || server.take_written() == 0 {
        return Err("the server was told nothing".into());
    }
    let row = message(b'D', b"\0\x01\0\0\0\x03off");
    let one = |row: &[u8], done: &[u8]| {
        let [parsed, bound, closed] = [b'1', b'2', b'3'].map(|tag| message(tag, b""));
        let done = message(b'C', done);
        [&parsed[..], &bound, row, &done, &closed, &closed].concat()
    };
    let answers = [
        one(&row, b"SHOW\0"),
        one(&[], b"RESET\0"),
        one(&row, b"SHOW\0"),
        one(&[], b"SET\0"),
        message(b'S', b"default_transaction_read_only\0on\0"),
        message(b'Z', b"I"),
    ];
    server.deliver(&answers.concat());
    match proxy.as_mut().poll(&mut cx) {
        Poll::Pending => Ok(()),
        Poll::Ready(()) => Err("the session has ended".into()),
    }
}

/// A hold that lets reads in, for longer than this runs.
fn reads_alone() -> HoldSpec {
    HoldSpec {
        read_only: true,
        duration: Duration::from_secs(3600),
        then: Then::Open,
        blocked: Blocked::Queue,
        sqlstate: None,
        first_stage: Duration::ZERO,
        client_deadline: Duration::from_secs(60),
        by: String::new(),
        reason: None,
    }
}

fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).expect("short messages");
    [&[tag][..], &length.to_be_bytes(), body].concat()
}

/// Parse, Bind, Describe, Execute, Sync as pgbench sends them.
fn extended_query() -> Vec<u8> {
    let parse = b"\0SELECT abalance FROM pgbench_accounts WHERE aid = $1;\0\0\0";
    let bind = b"\0\0\0\0\0\x01\0\0\0\x07\x31\x32\x33\x34\x35\x36\x37\0\0";
    [
        message(b'P', parse),
        message(b'B', bind),
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
