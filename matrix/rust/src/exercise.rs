//! What both programs share: where to connect, how much to send, and the hold under traffic.

use std::env;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, ensure};
use tokio::io::{AsyncBufReadExt, BufReader, stdin};

/// More than any socket buffer takes, in both directions.
pub const LARGE: usize = 5 * 1024 * 1024;
pub const ROWS: i32 = 20_000;
pub const CONNECTIONS: i32 = 20;
pub const WRITERS: i32 = 4;
pub const WORDS: [Option<&str>; 6] = [
    Some(""),
    Some("plain"),
    Some("Ünïcödé ✓"),
    Some("quote ' \" \\"),
    Some("tab\tline\nend"),
    None,
];
pub const COUNTERS: &str = "create table counters (id int primary key, n int not null)";
pub const FILL_COUNTERS: &str = "insert into counters select i, 0 from generate_series(0, 3) i";

/// Set when the runner has opened again.
pub static OPENED: AtomicBool = AtomicBool::new(false);

pub fn set(name: &str) -> anyhow::Result<String> {
    env::var(name).with_context(|| name.to_owned())
}

pub fn password() -> Option<String> {
    env::var("PGPASSWORD").ok()
}

/// The test CA, when the connection is to be encrypted and the certificate checked in full.
pub fn root() -> Option<String> {
    env::var("PGSSLROOTCERT").ok()
}

pub fn step(name: &str) {
    println!("step {name}");
}

pub fn skip(name: &str, why: &str) {
    println!("skip {name}: {why}");
}

pub fn pattern() -> Vec<u8> {
    (0..=255).cycle().take(LARGE).collect()
}

/// Lines for COPY, of which the last may be a duplicate key.
pub fn lines(duplicate: bool) -> String {
    let mut text: String = (10..10 + ROWS).map(|n| format!("{n}\trow {n}\n")).collect();
    if duplicate {
        text.push_str("1\ttwice\n");
    }
    text
}

/// Asks the runner for a hold, and returns when it has opened again.
pub async fn opened() -> anyhow::Result<i32> {
    println!("hold");
    let mut line = String::new();
    let read = BufReader::new(stdin()).read_line(&mut line).await;
    OPENED.store(true, Ordering::SeqCst);
    read?;
    ensure!(line == "opened\n", "{line:?} instead of opened");
    Ok(0)
}

/// Whether a writer that committed goes on: two more after the opening, of which the first may have
/// waited in the hold.
pub async fn goes_on(after: &mut i32) -> bool {
    *after += i32::from(OPENED.load(Ordering::SeqCst));
    tokio::time::sleep(Duration::from_millis(2)).await;
    *after < 2
}
