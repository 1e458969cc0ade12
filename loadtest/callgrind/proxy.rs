//! A byte pump and a relay between two lines, the latter also in read-only mode.

use std::error::Error;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::BytesMut;
use pgdrain::config::{Blocked, Then};
use pgdrain::gate::mode::{HoldSpec, Holder};
use pgdrain::metrics::Metrics;
use pgdrain::session::relay::Relay;
use tokio::io::copy_bidirectional;

use super::line::Line;
use super::parts::{Parts, config};
use super::pgbench::message;

/// It has something to do whenever a byte has come.
pub(crate) type Proxy = Pin<Box<dyn Future<Output = ()>>>;

/// What copies bytes.
pub(crate) fn pump(mut client: Line, mut server: Line) -> Proxy {
    Box::pin(async move {
        // It does not end before we do.
        let _ = copy_bidirectional(&mut client, &mut server).await;
    })
}

/// The product's, in an open gate, or in read-only mode and with a server that enforces it.
pub(crate) fn relay(client: Line, server: Line, read_only: bool) -> Result<Proxy, Box<dyn Error>> {
    let parts = Parts::new(Arc::new(Metrics::new()));
    if read_only {
        parts.gate.hold(Holder::Operator, reads_alone());
    }
    // As in a process where transactions run.
    parts.session.clock.tick();
    let relay = Relay::new(
        (client, BytesMut::new()),
        (server.clone(), BytesMut::new()),
        parts.session,
        (parts.gate, Vec::new()),
        Arc::new(config()),
        parts.common,
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
