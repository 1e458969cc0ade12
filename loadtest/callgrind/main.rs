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
    let [what, protocol, transactions] = &arguments[..] else {
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
    let (query, answer) = (protocol.query(), protocol.answer());
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
