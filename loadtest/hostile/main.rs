//! What hostile load costs the others: calm and attack in turn, on a Postgres and a proxy of its own.
//!
//! ```text
//! cargo build --release && cargo run --release --example hostile [-- ROUNDS SECONDS]
//! ```
//!
//! While eight clients ask a fixed number of statements a second, twenty sit in long statements, and
//! new ones log in, an attack is 1 000 connections that send one byte a second, 1 000 TLS handshakes
//! that stop in the middle, and 10 000 cancel requests with random keys. Latencies count from the
//! time at which a statement was due, so that a stall is not hidden by those who wait for it.
#![allow(clippy::print_stdout, reason = "a report is printed")]
#![allow(clippy::disallowed_methods, reason = "the tasks of a tool end with it")]

mod attack;

use std::fs;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context;
use pgdrain::cli::demo::cluster::{Cluster, Options};
use tokio_postgres::NoTls;

/// Clients that are measured, and the pause between two statements of each.
const CLIENTS: u64 = 8;
const EVERY: Duration = Duration::from_millis(20);
/// Clients in long statements, which nobody may cancel.
const SLEEPERS: usize = 20;

/// What was seen since it was last taken.
#[derive(Default)]
struct Seen {
    latencies: Mutex<Vec<Duration>>,
    logins: Mutex<Vec<Duration>>,
    slept: AtomicU64,
    errors: Mutex<Vec<String>>,
    resident_kib: AtomicU64,
}

/// The proxy's process, killed when dropped.
struct Proxy {
    child: Child,
    addr: SocketAddr,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn main() -> anyhow::Result<()> {
    let mut numbers = std::env::args().skip(1).map(|text| text.parse::<u64>());
    let rounds = numbers.next().transpose()?.unwrap_or(5);
    let seconds = numbers.next().transpose()?.unwrap_or(8);
    rlimit::increase_nofile_limit(20_000)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    runtime.block_on(run(rounds, Duration::from_secs(seconds)))
}

async fn run(rounds: u64, phase: Duration) -> anyhow::Result<()> {
    let settings = [("max_connections", "200"), ("fsync", "off"), ("jit", "off")];
    let options = Options {
        settings: settings
            .map(|(name, value)| (name.into(), value.into()))
            .into(),
        ..Options::default()
    };
    let directory = tempfile::tempdir()?;
    let cluster = Cluster::from_template(options, directory.path()).await?;
    let proxy = proxy(&cluster, directory.path()).await?;
    let seen = Arc::new(Seen::default());
    let stop = Arc::new(AtomicBool::new(false));
    honest(&proxy, &seen, &stop).await?;
    watch(proxy.child.id(), Arc::clone(&seen));

    println!(
        "| phase | statements | p50 ms | p99 ms | max ms | logins | login p99 ms | long statements | errors | RSS MiB |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|");
    let mut medians = [Vec::new(), Vec::new()];
    for round in 0..=rounds {
        for hostile in [false, true] {
            if round == 0 && hostile {
                continue;
            }
            let attack = hostile.then(|| attack::Attack::start(proxy.addr));
            seen.take();
            tokio::time::sleep(phase).await;
            let row = seen.take();
            let name = if hostile { "attack" } else { "calm" };
            // The first one warms up.
            if round > 0 {
                medians[usize::from(hostile)].push(row.p99());
                println!("| {name} {round} {}", row.line());
            }
            if let Some(attack) = attack {
                println!("<!-- {} -->", attack.stop());
                // What is left of it is not the next phase's.
                tokio::time::sleep(Duration::from_secs(3)).await;
            }
        }
    }
    stop.store(true, Ordering::Relaxed);
    let [calm, attacked] = medians.map(median);
    println!(
        "\nmedian p99: calm {calm:.2} ms, attack {attacked:.2} ms, {:.2} times",
        attacked / calm
    );
    Ok(())
}

async fn proxy(cluster: &Cluster, directory: &std::path::Path) -> anyhow::Result<Proxy> {
    let pair = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    let (certificate, key) = (directory.join("proxy.crt"), directory.join("proxy.key"));
    fs::write(&certificate, pair.cert.pem())?;
    fs::write(&key, pair.signing_key.serialize_pem())?;
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600))?;
    let binary = std::env::var("PGDRAIN").unwrap_or_else(|_| "target/release/pgdrain".into());
    let state = directory.join("state");
    let child = Command::new(&binary)
        .args([
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--admin",
            "127.0.0.1:0",
            "--state-dir",
        ])
        .arg(&state)
        .args([
            "--upstream",
            &format!("postgres://postgres@{}", cluster.addr()),
        ])
        .env("PGDRAIN_TLS_CERTIFICATE", &certificate)
        .env("PGDRAIN_TLS_KEY", &key)
        .env("PGDRAIN_LOG_LEVEL", "warn")
        .stdin(Stdio::null())
        .spawn()
        .with_context(|| format!("{binary}: cargo build --release makes it"))?;
    let file = state.join("endpoints.json");
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        let text = fs::read_to_string(&file).unwrap_or_default();
        if let Ok(endpoints) = serde_json::from_str::<serde_json::Value>(&text)
            && let Some(addr) = endpoints["listen"][0].as_str()
        {
            let addr = addr.parse()?;
            return Ok(Proxy { child, addr });
        }
        anyhow::ensure!(Instant::now() < end, "the proxy does not start");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Starts those who are measured.
async fn honest(proxy: &Proxy, seen: &Arc<Seen>, stop: &Arc<AtomicBool>) -> anyhow::Result<()> {
    let url = format!("postgres://postgres@{}/postgres", proxy.addr);
    for _ in 0..SLEEPERS {
        let client = connect(&url).await?;
        let (seen, stop) = (Arc::clone(seen), Arc::clone(stop));
        tokio::spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                match client.simple_query("select pg_sleep(0.5)").await {
                    Ok(_) => drop(seen.slept.fetch_add(1, Ordering::Relaxed)),
                    Err(error) => return seen.error(&error),
                }
            }
        });
    }
    for number in 0..CLIENTS {
        let client = connect(&url).await?;
        let (seen, stop) = (Arc::clone(seen), Arc::clone(stop));
        tokio::spawn(async move {
            let begin =
                tokio::time::Instant::now() + EVERY * u32::try_from(number).unwrap_or(0) / 8;
            let mut due = tokio::time::interval_at(begin, EVERY);
            while !stop.load(Ordering::Relaxed) {
                let at = due.tick().await;
                match client.simple_query("select 1").await {
                    Ok(_) => lock(&seen.latencies).push(at.elapsed()),
                    Err(error) => return seen.error(&error),
                }
            }
        });
    }
    let (seen, stop) = (Arc::clone(seen), Arc::clone(stop));
    tokio::spawn(async move {
        let mut due = tokio::time::interval(Duration::from_millis(250));
        while !stop.load(Ordering::Relaxed) {
            let at = due.tick().await;
            match connect(&url).await {
                Ok(_) => lock(&seen.logins).push(at.elapsed()),
                Err(error) => lock(&seen.errors).push(error.to_string()),
            }
        }
    });
    Ok(())
}

async fn connect(url: &str) -> anyhow::Result<tokio_postgres::Client> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

/// Keeps the most memory that the process has.
fn watch(pid: u32, seen: Arc<Seen>) {
    tokio::spawn(async move {
        loop {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
            let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
            seen.resident_kib
                .fetch_max(number.unwrap_or(0), Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
}

/// One phase.
struct Row {
    latencies: Vec<Duration>,
    logins: Vec<Duration>,
    slept: u64,
    errors: Vec<String>,
    resident_kib: u64,
}

impl Seen {
    fn error(&self, error: &tokio_postgres::Error) {
        let code = error.code().map(tokio_postgres::error::SqlState::code);
        lock(&self.errors).push(format!("{error} {code:?}"));
    }

    fn take(&self) -> Row {
        let sorted = |times: &Mutex<Vec<Duration>>| {
            let mut times = std::mem::take(&mut *lock(times));
            times.sort_unstable();
            times
        };
        Row {
            latencies: sorted(&self.latencies),
            logins: sorted(&self.logins),
            slept: self.slept.swap(0, Ordering::Relaxed),
            errors: std::mem::take(&mut *lock(&self.errors)),
            resident_kib: self.resident_kib.swap(0, Ordering::Relaxed),
        }
    }
}

impl Row {
    fn p99(&self) -> f64 {
        percentile(&self.latencies, 99)
    }

    fn line(&self) -> String {
        format!(
            "| {} | {:.2} | {:.2} | {:.2} | {} | {:.2} | {} | {} | {} |{}",
            self.latencies.len(),
            percentile(&self.latencies, 50),
            self.p99(),
            percentile(&self.latencies, 100),
            self.logins.len(),
            percentile(&self.logins, 99),
            self.slept,
            self.errors.len(),
            self.resident_kib / 1024,
            self.errors
                .first()
                .map_or(String::new(), |first| format!(" {first}")),
        )
    }
}

/// Of sorted times, in milliseconds.
fn percentile(sorted: &[Duration], percent: usize) -> f64 {
    let at = (sorted.len() * percent / 100).min(sorted.len().saturating_sub(1));
    sorted
        .get(at)
        .map_or(f64::NAN, |time| time.as_secs_f64() * 1000.0)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
