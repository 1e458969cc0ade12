//! So many transactions through one session in memory, for a program that counts instructions.
//!
//! `callgrind relay|unlogged|read-only|pump|none simple|extended TRANSACTIONS`; `relay` logs at `info`, as a
//! proxy does by default, `unlogged` nowhere; `read-only` is the relay in that mode, `none` what the counting
//! itself takes. Two runs of different length tell what one transaction takes; see `count`.

mod line;
#[path = "../../tests/model/parts.rs"]
mod parts;
#[path = "../../benches/support/pgbench.rs"]
mod pgbench;
mod proxy;

use std::error::Error;
use std::task::{Context, Waker};

use pgdrain::logging::{self, Format};
use tracing::level_filters::LevelFilter;

use self::line::Line;
use self::pgbench::Protocol;
use self::proxy::Proxy;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [what, protocol, transactions_wanted] = &arguments[..] else {
        return Err(
            "usage: callgrind relay|unlogged|read-only|pump|none simple|extended TRANSACTIONS"
                .into(),
        );
    };
    let protocol = match protocol.as_str() {
        "simple" => Protocol::Simple,
        "extended" => Protocol::Extended,
        _ => return Err("simple or extended".into()),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()?;
    let _entered = runtime.enter();
    let (client, server) = (Line::default(), Line::default());
    if matches!(what.as_str(), "relay" | "read-only") {
        logging::install(Format::Text, LevelFilter::INFO)?;
    }
    let mut proxy: Proxy = match what.as_str() {
        "relay" | "unlogged" => proxy::relay(client.clone(), server.clone(), false)?,
        "read-only" => proxy::relay(client.clone(), server.clone(), true)?,
        "pump" => proxy::pump(client.clone(), server.clone()),
        "none" => Box::pin(std::future::pending()),
        _ => return Err("relay, unlogged, read-only, pump or none".into()),
    };
    let messages = (protocol.query(), protocol.answer());
    let passes = what != "none";
    // The first ones find buffers that have not grown yet.
    for _ in 0..10 {
        transaction((&client, &server), &mut proxy, &messages, passes)?;
    }
    transactions(
        transactions_wanted.parse()?,
        (&client, &server),
        &mut proxy,
        &messages,
        passes,
    )
}

/// What is counted.
#[inline(never)]
fn transactions(
    count: u64,
    sides: (&Line, &Line),
    proxy: &mut Proxy,
    messages: &(Vec<u8>, Vec<u8>),
    passes: bool,
) -> Result<(), Box<dyn Error>> {
    for _ in 0..count {
        transaction(sides, proxy, messages, passes)?;
    }
    Ok(())
}

fn transaction(
    (client, server): (&Line, &Line),
    proxy: &mut Proxy,
    (query, answer): &(Vec<u8>, Vec<u8>),
    passes: bool,
) -> Result<(), Box<dyn Error>> {
    pass(client, server, proxy, query, passes)?;
    pass(server, client, proxy, answer, passes)
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
