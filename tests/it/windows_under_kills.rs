//! Windows one after the other under full load, while clients, server backends, the runner's backend
//! and the proxy itself are killed at random, or a window's holder is: acknowledged writes are there
//! exactly once, others at most once, no client is stuck, no hold is left over, in a window nobody else
//! writes, and the history says what the data says.
//!
//! `CHAOS_WINDOWS` is how many windows, `CHAOS_SEED` repeats the choices of a run.

use std::collections::BTreeMap;
use std::env;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::json;
use tokio::task::JoinSet;
use tokio_postgres::{Client, NoTls};

use crate::support::poll::{PATIENCE, until, within};
use crate::support::shop::{DATABASE, Shop};

const CLIENTS: i64 = 64;

/// Windows of one run in the suite; `make chaos` makes more.
const WINDOWS: u64 = 40;

/// Ids of one writer; no run lasts for so many.
const IDS: i64 = 1_000_000_000;

fn from_env(name: &str) -> Option<u64> {
    env::var(name).ok()?.parse().ok()
}

/// What the writers share.
struct Field {
    addr: Mutex<SocketAddr>,
    stop: AtomicBool,
    acknowledged: AtomicU64,
}

/// What became of a writer's ids.
#[derive(Default)]
struct Tried {
    acknowledged: Vec<i64>,
    unknown: Vec<i64>,
    next: i64,
}

/// Writes until it is told to stop, over one connection after the other.
async fn write(field: Arc<Field>, number: i64, seed: u64) -> Tried {
    let mut rng = StdRng::seed_from_u64(seed ^ number.unsigned_abs());
    let mut tried = Tried {
        next: number * IDS,
        ..Tried::default()
    };
    while !field.stop.load(Ordering::Relaxed) {
        let addr = *field.addr.lock().expect("no writer panics");
        let url = format!("postgres://postgres@{addr}/{DATABASE}");
        // The proxy may just be starting again.
        let Ok((client, connection)) =
            within("a login", PATIENCE, tokio_postgres::connect(&url, NoTls)).await
        else {
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        let mut connections = JoinSet::new();
        connections.spawn(connection);
        work(&field, &client, &mut connections, &mut tried, &mut rng).await;
    }
    tried
}

/// Transactions until one fails, or until the client itself vanishes in the middle of one.
async fn work(
    field: &Field,
    client: &Client,
    connections: &mut JoinSet<Result<(), tokio_postgres::Error>>,
    tried: &mut Tried,
    rng: &mut StdRng,
) {
    while !field.stop.load(Ordering::Relaxed) {
        let (id, rows) = (tried.next, if rng.random_bool(0.3) { 2 } else { 1 });
        tried.next += rows;
        let ids = id..id + rows;
        let vanish = rng.random_bool(0.002);
        let pause = Duration::from_micros(rng.random_range(0..3000));
        let outcome = async {
            tokio::select! {
                outcome = transaction(client, id, rows) => outcome.is_ok(),
                () = tokio::time::sleep(pause), if vanish => {
                    connections.shutdown().await;
                    false
                }
            }
        };
        if within("an answer to a client", PATIENCE, outcome).await {
            field
                .acknowledged
                .fetch_add(rows.unsigned_abs(), Ordering::Relaxed);
            tried.acknowledged.extend(ids);
        } else {
            tried.unknown.extend(ids);
            return;
        }
    }
}

async fn transaction(client: &Client, id: i64, rows: i64) -> Result<(), tokio_postgres::Error> {
    let insert = |id: i64| format!("insert into tried values ({id})");
    if rows == 1 {
        return client.batch_execute(&insert(id)).await;
    }
    client.batch_execute("begin").await?;
    for id in id..id + rows {
        client.execute(&insert(id), &[]).await?;
    }
    client.batch_execute("commit").await
}

/// Who is killed in a window, if anybody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Victim {
    Nobody,
    Client,
    Runner,
    /// Who holds a window that anybody may ask for: it renews its lease no more.
    Holder,
    Proxy,
}

impl Victim {
    fn choose(rng: &mut StdRng) -> Victim {
        match rng.random_range(0..10) {
            0..4 => Victim::Nobody,
            4..6 => Victim::Client,
            6 => Victim::Runner,
            7 => Victim::Holder,
            _ => Victim::Proxy,
        }
    }
}

/// One migration up, or down if it is up, in which somebody may be killed. It ends in a known state.
async fn window(shop: &mut Shop, field: &Field, victim: Victim, delay: Duration) {
    let up = shop.ask("select count(*) from migrated").await == "0";
    let run = shop.begin(if up { &["up"] } else { &["down"] });
    tokio::time::sleep(delay).await;
    let backend = |filter: &str| {
        format!(
            "select count(pg_terminate_backend(pid)) from (select pid from pg_stat_activity \
             where datname = current_database() and pid <> pg_backend_pid() and {filter} \
             order by random() limit 1) one"
        )
    };
    match victim {
        Victim::Nobody | Victim::Holder => {}
        Victim::Client => shop.sql(&backend("application_name = ''")).await,
        Victim::Runner => {
            shop.sql(&backend("application_name = 'pgdrain migrate'"))
                .await
        }
        Victim::Proxy => {
            shop.proxy.kill();
            shop.proxy.launch().await;
            *field.addr.lock().expect("no writer panics") = shop.proxy.addr();
        }
    }
    let ran = run.ended().await;
    // By itself: nobody has to open.
    until(
        "traffic to flow, with nothing left over",
        PATIENCE,
        async || {
            let status = shop.status().await;
            status["mode"] == "open" && status["migration"].is_null()
        },
    )
    .await;
    let state = "select coalesce(max(state), 'none') from pgdrain.migration";
    let exists = "select to_regclass('pgdrain.migration') is not null";
    let known = match shop.ask(exists).await.as_str() {
        "true" => shop.ask(state).await,
        _ => "none".to_owned(),
    };
    let there = shop.ask("select count(*) from migrated").await == "1";
    let fits = match known.as_str() {
        "applied" => there,
        // A way down that failed leaves it applied, or says that it failed: then it is still there.
        "failed" => there != up,
        "reverted" | "none" => !there,
        _ => false,
    };
    assert!(
        fits,
        "{victim:?}: history {known}, there: {there}, up: {up}: {ran:#?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_and_nobody_is_stuck() {
    let seed = from_env("CHAOS_SEED").unwrap_or_else(rand::random);
    let windows = from_env("CHAOS_WINDOWS").unwrap_or(WINDOWS);
    println!("CHAOS_SEED={seed} CHAOS_WINDOWS={windows}");
    let mut rng = StdRng::seed_from_u64(seed);
    let tables = "create table tried (id bigint); create table migrated (id int)";
    let mut shop = Shop::open_with(tables, "").await;
    shop.write(
        "001_a.up.sql",
        "insert into migrated values (1);\nselect pg_sleep(0.02);",
    );
    shop.write(
        "001_a.down.sql",
        "delete from migrated;\nselect pg_sleep(0.02);",
    );
    let field = Arc::new(Field {
        addr: Mutex::new(shop.proxy.addr()),
        stop: AtomicBool::new(false),
        acknowledged: AtomicU64::new(0),
    });
    let mut writers = JoinSet::new();
    for number in 0..CLIENTS {
        writers.spawn(write(Arc::clone(&field), number, seed));
    }
    let mut victims = BTreeMap::new();
    for _ in 0..windows {
        let before = field.acknowledged.load(Ordering::Relaxed);
        until("clients to write on", PATIENCE, async || {
            field.acknowledged.load(Ordering::Relaxed) >= before + 64
        })
        .await;
        let victim = Victim::choose(&mut rng);
        *victims.entry(victim).or_insert(0) += 1;
        let delay = Duration::from_millis(rng.random_range(0..150));
        if victim == Victim::Holder {
            leased_window(&shop, true).await;
        } else {
            window(&mut shop, &field, victim, delay).await;
        }
        if victim == Victim::Client {
            leased_window(&shop, false).await;
        }
    }
    field.stop.store(true, Ordering::Relaxed);
    let (mut acknowledged, mut unknown) = (Vec::new(), Vec::new());
    while let Some(tried) = within("a client", PATIENCE, writers.join_next()).await {
        let tried = tried.expect("no client is stuck");
        acknowledged.extend(tried.acknowledged);
        unknown.extend(tried.unknown);
    }
    println!(
        "{} writes acknowledged, {} of unknown outcome; killed: {victims:?}",
        acknowledged.len(),
        unknown.len()
    );
    assert_written(&shop, &acknowledged).await;
    let status = shop.status().await;
    for none in ["held", "permits"] {
        until(none, PATIENCE, async || shop.status().await[none] == 0).await;
    }
    assert_eq!(
        (&status["mode"], &status["holds"]),
        (&"open".into(), &json!([]))
    );
}

/// A window whose holder looks twice at what others write, and then finishes it, or is heard of no
/// more. Traffic flows again by itself.
async fn leased_window(shop: &Shop, holder_dies: bool) {
    let order = json!({"lease": "2s", "for": "60s", "on_lost": "reopen", "reason": "chaos"});
    let window = shop.proxy.exclusive(DATABASE, order).await;
    let mut inside = shop.proxy.inside(&window).await;
    let count = "select count(*) from tried";
    let before = inside.query_one(count).await;
    tokio::time::sleep(Duration::from_millis(30)).await;
    assert_eq!(
        inside.query_one(count).await,
        before,
        "somebody writes in a window"
    );
    if !holder_dies {
        shop.proxy.command_window(&window, "finish").await;
    }
    let closed = shop.proxy.until_window(&window, "closed").await;
    let why = if holder_dies {
        "lease_lost"
    } else {
        "finished"
    };
    assert_eq!(closed["why"], why, "{closed}");
    until("traffic to flow", PATIENCE, async || {
        shop.status().await["mode"] == "open"
    })
    .await;
}

/// Every acknowledged write is there once; no write is there twice.
async fn assert_written(shop: &Shop, acknowledged: &[i64]) {
    // Statements whose clients are gone may still run.
    let busy = "select count(*) from pg_stat_activity where application_name = '' \
                and datname = current_database() and state <> 'idle' and pid <> pg_backend_pid()";
    until("every backend to rest", PATIENCE, async || {
        shop.ask(busy).await == "0"
    })
    .await;
    let twice = "select count(*) from (select from tried group by id having count(*) > 1) twice";
    assert_eq!(shop.ask(twice).await, "0", "writes that are there twice");
    let rows = shop.direct.query("select id from tried", &[]).await;
    let there: std::collections::HashSet<i64> = rows
        .expect("the rows")
        .iter()
        .map(|row| row.get(0))
        .collect();
    let lost: Vec<_> = acknowledged
        .iter()
        .filter(|id| !there.contains(id))
        .collect();
    assert!(lost.is_empty(), "acknowledged, and not there: {lost:?}");
}
