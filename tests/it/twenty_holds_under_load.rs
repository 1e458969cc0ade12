//! Twenty holds in a row under full load: nobody sees an error, and every acknowledged write is there
//! once. How long things took is printed, never asserted.

use std::process::Stdio;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::support::holds::DB;
use crate::support::load::Load;
use crate::support::poll::{PATIENCE, within};
use crate::support::shop::Shop;

const CLIENTS: u64 = 64;
const HOLDS: usize = 20;

fn time(report: &Value, key: &str) -> Option<Timestamp> {
    report[key]
        .as_str()
        .map(|text| text.parse().expect("a time of day"))
}

/// From the end of the last transaction to the proof that it was the last.
fn proof(drain: &Value) -> Option<f64> {
    let proved = time(drain, "drained_at")?;
    let ended = time(drain, "last_permit_released_at")?;
    Some(proved.duration_since(ended).as_secs_f64() * 1000.0)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writers_lose_nothing_over_twenty_holds() {
    let shop = Shop::open().await;
    let load = Load::start(shop.proxy.addr(), CLIENTS.cast_signed()).await;
    let (mut proofs, mut answers) = (Vec::new(), Vec::new());
    for _ in 0..HOLDS {
        let drain = shop.proxy.hold_drained(DB, json!({})).await;
        proofs.extend(proof(&drain));
        shop.proxy.until_held(DB, CLIENTS).await;
        let opened = Instant::now();
        shop.proxy.open(DB).await;
        // As many answers as there are clients: nearly each of them has had one.
        load.goes_on(CLIENTS).await;
        answers.push(opened.elapsed().as_secs_f64() * 1000.0);
    }
    let wrote = load.stop().await;
    println!(
        "proof {:.2} ms, {CLIENTS} answers after reopening {:.1} ms (medians of {HOLDS})",
        median(proofs),
        median(answers)
    );
    assert!(wrote.errors.is_empty(), "{:?}", wrote.errors);
    let found = shop
        .ask("select count(*) || ' ' || count(distinct id) from written")
        .await;
    let acknowledged = wrote.acknowledged;
    assert_eq!(found, format!("{acknowledged} {acknowledged}"));
}

/// pgbench counts failed transactions and ends when a connection is lost.
async fn pgbench_through_holds(protocol: &str) {
    let shop = Shop::open().await;
    let addr = shop.proxy.addr();
    let pgbench = |args: &[&str]| {
        let mut command = shop.postgres.command("pgbench");
        command.args([
            "-h",
            "127.0.0.1",
            "-p",
            &addr.port().to_string(),
            "-U",
            "postgres",
        ]);
        command
            .args(args)
            .arg(DB)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    };
    let filled = pgbench(&["-i", "-q"])
        .output()
        .expect("pgbench is beside the server");
    assert!(
        filled.status.success(),
        "{}",
        String::from_utf8_lossy(&filled.stderr)
    );

    let run = ["-n", "-c", "16", "-j", "2", "-t", "400", "-M", protocol];
    let running = pgbench(&run).spawn().expect("it ran a moment ago");
    let ended = tokio::task::spawn_blocking(|| running.wait_with_output());
    let mut holds = 0;
    while !ended.is_finished() {
        shop.proxy.hold_drained(DB, json!({})).await;
        shop.proxy.open(DB).await;
        holds += 1;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let output = within("pgbench", PATIENCE, ended)
        .await
        .expect("no panic")
        .expect("its output");
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}\n{errors}");
    assert!(
        text.contains("number of transactions actually processed: 6400/6400"),
        "{text}"
    );
    assert!(holds >= 5, "only {holds} holds came in between");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pgbench_simple_notices_nothing() {
    pgbench_through_holds("simple").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pgbench_extended_notices_nothing() {
    pgbench_through_holds("extended").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pgbench_prepared_notices_nothing() {
    pgbench_through_holds("prepared").await;
}
