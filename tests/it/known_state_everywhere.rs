//! Whatever is killed at whichever step of a migration: what is in the database then is the state before
//! the migration or behind it, or, outside of a transaction, the state between two statements that `repair`
//! names; and from there `up` leads on and `repair --back` leads back.
//!
//! Each step waits for a lock that the test holds, so that a step is found and not guessed. The suite
//! makes each step and each kill, in turn; `KILL_ALL=1` (`make kills`) every kill at every step.

use std::env;

use pgdrain::cli::demo::cluster::Shutdown;
use pgdrain::cli::demo::cluster::process::{self, Signal};
use serde_json::Value;
use tokio_postgres::Client;

use crate::support::following::Following;
use crate::support::poll::{PATIENCE, until};
use crate::support::shop::{DATABASE, Shop};

const STEPS: usize = 10;

/// Ten tables with rows, made anew for each case; each step works on one of its own.
const GROUND: &str = "do $$ begin \
    drop schema if exists pgdrain cascade; \
    for i in 1..10 loop \
        execute format('drop table if exists g%s', i); \
        execute format('create table g%s (id int not null, w text)', i); \
        execute format('insert into g%1$s select n, ''w'' || n from generate_series(1, 50) n', i); \
    end loop; end $$";

/// Statements, and the lock that keeps each from its end.
const WHOLE: [(&str, &str); STEPS] = [
    ("alter table g1 add column v int default 1", "row exclusive"),
    ("update g2 set id = id + 100", "share"),
    ("create index g3_i on g3 (id)", "row exclusive"),
    ("insert into g4 select id + 50, 'x' from g4", "share"),
    (
        "alter table g5 add constraint g5_c check (id > 0)",
        "row exclusive",
    ),
    ("truncate g6", "row exclusive"),
    (
        "alter table g7 alter column id type bigint",
        "row exclusive",
    ),
    ("delete from g8 where id <= 5", "share"),
    (
        "alter table g9 alter column w set not null",
        "row exclusive",
    ),
    ("alter table g10 drop column w", "row exclusive"),
];
const WHOLE_BACK: &str = "select 1";

const SINGLE: [(&str, &str); STEPS] = [
    ("alter table g1 add column v int default 1", "row exclusive"),
    ("create index concurrently g2_i on g2 (id)", "row exclusive"),
    (
        "alter table g3 add constraint g3_c check (id > 0) not valid",
        "row exclusive",
    ),
    (
        "create unique index concurrently g4_i on g4 (id, w)",
        "row exclusive",
    ),
    ("vacuum g5", "share"),
    (
        "alter table g6 add column v text default 'v'",
        "row exclusive",
    ),
    ("create index concurrently g7_i on g7 (w)", "share"),
    ("create index g8_i on g8 (id)", "row exclusive"),
    (
        "create index concurrently g9_i on g9 (id) where id > 7",
        "row exclusive",
    ),
    ("alter table g10 add column v int", "row exclusive"),
];
const SINGLE_BACK: &str = "alter table g10 drop column v;\ndrop index concurrently g9_i;\n\
    drop index concurrently g8_i;\ndrop index concurrently g7_i;\nalter table g6 drop column v;\n\
    drop index concurrently g4_i;\nalter table g3 drop constraint g3_c;\n\
    drop index concurrently g2_i;\nalter table g1 drop column v;";

/// What is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Victim {
    /// `pgdrain migrate up`.
    Command,
    /// The server process that runs the file, by `pg_terminate_backend`.
    Backend,
    /// The same by SIGKILL: the server ends every process and recovers.
    BackendByKill,
    /// `pgdrain serve`, by SIGKILL.
    Proxy,
    /// Postgres, stopped at once and started again.
    Postgres,
}

const VICTIMS: [Victim; 5] = [
    Victim::Command,
    Victim::Backend,
    Victim::BackendByKill,
    Victim::Proxy,
    Victim::Postgres,
];

/// The schema without pgdrain's own, and the rows of every table.
async fn state(client: &Client) -> Vec<String> {
    let schema = client
        .query(include_str!("../../src/runner/backup/fingerprint.sql"), &[])
        .await
        .expect("the fingerprint");
    let mut lines: Vec<String> = schema.iter().map(|row| row.get(0)).collect();
    lines.retain(|it| !it.contains("pgdrain"));
    for table in 1..=STEPS {
        let sql = format!(
            "select count(*) || ' ' || coalesce(sum(hashtextextended(t::text, 0)::numeric), 0) \
             from g{table} t"
        );
        let row = client.query_one(&sql, &[]).await.expect("the rows");
        lines.push(format!("g{table} {}", row.get::<_, String>(0)));
    }
    lines
}

/// The two sets of files.
#[derive(Clone, Copy, Debug)]
struct Set {
    statements: &'static [(&'static str, &'static str); STEPS],
    back: &'static str,
    /// Whether all is one transaction.
    whole: bool,
}

/// The state before each statement and behind the last.
async fn boundaries(shop: &Shop, set: Set) -> Vec<Vec<String>> {
    shop.sql(GROUND).await;
    let mut states = vec![state(&shop.direct).await];
    for (statement, _) in set.statements {
        shop.sql(statement).await;
        states.push(state(&shop.direct).await);
    }
    states
}

/// Begins the migration and waits until it stands at a step; returns its server process too.
async fn stand_at(shop: &mut Shop, set: Set, step: usize) -> (Following, i32, Client) {
    let (statement, mode) = set.statements[step];
    let holder = shop.postgres.connect(DATABASE).await;
    let lock = format!("begin; lock table g{} in {mode} mode", step + 1);
    holder.batch_execute(&lock).await.expect("a lock");
    let up = shop.begin(&["up", "--bypass", "ignore", "--lock-timeout", "10m"]);
    let pid = shop.running(&statement.replace('\'', "''")).await;
    let waits = format!("select wait_event_type = 'Lock' from pg_stat_activity where pid = {pid}");
    until("the step to wait", PATIENCE, async || {
        shop.ask(&waits).await == "true"
    })
    .await;
    (up, pid, holder)
}

/// Kills, lets go of the lock, and waits until the migration is over for whoever it was left to.
async fn strike(shop: &mut Shop, victim: Victim, up: Following, pid: i32, holder: Client) {
    match victim {
        Victim::Command => {
            up.signal(Signal::Kill);
            assert_eq!(up.ended().await.code, None);
            holder
                .batch_execute("rollback")
                .await
                .expect("the lock's end");
        }
        Victim::Backend => {
            shop.kill_backend(pid).await;
            holder
                .batch_execute("rollback")
                .await
                .expect("the lock's end");
            up.ended().await;
        }
        Victim::BackendByKill => {
            let pid = u32::try_from(pid).expect("a process");
            process::send(Signal::Kill, &[pid]).expect("a shell");
            until("the server to notice", PATIENCE, async || {
                holder.is_closed()
            })
            .await;
            let url = format!("postgres://postgres@{}/{DATABASE}", shop.postgres.addr());
            until("the server to recover", PATIENCE, async || {
                tokio_postgres::connect(&url, tokio_postgres::NoTls)
                    .await
                    .is_ok()
            })
            .await;
            shop.direct = shop.postgres.connect(DATABASE).await;
            up.ended().await;
        }
        Victim::Proxy => {
            let up = shop.relaunch(Vec::new(), up).await;
            assert_eq!(up.code, Some(2), "{up:#?}");
            holder
                .batch_execute("rollback")
                .await
                .expect("the lock's end");
        }
        Victim::Postgres => {
            shop.postgres
                .stop(Shutdown::Immediate)
                .await
                .expect("an end");
            shop.postgres.start().await.expect("a start");
            shop.direct = shop.postgres.connect(DATABASE).await;
            up.ended().await;
        }
    }
    until("the migration to be over", PATIENCE, async || {
        let status = shop.status().await;
        let running = "select count(*) from pgdrain.run where finished_at is null";
        status["migration"].is_null() && shop.ask(running).await == "0"
    })
    .await;
}

/// What `repair` says, and that it leaves nothing in doubt.
async fn repair(shop: &Shop) -> Value {
    let repaired = shop
        .proxy
        .run(&["migrate", "repair", DATABASE, "--json"])
        .await;
    repaired.assert(0, &[]);
    serde_json::from_str(&repaired.stdout).expect("a report")
}

/// Kills at a step, repairs, and compares what is there with what may be there.
async fn case(shop: &mut Shop, set: Set, states: &[Vec<String>], step: usize, victim: Victim) {
    let what = format!("{victim:?} at step {} of {set:?}", step + 1);
    shop.sql(GROUND).await;
    let text = |part: &str| match set.whole {
        true => part.to_owned(),
        false => format!("-- pgdrain:tx none\n{part}"),
    };
    let up: Vec<_> = set
        .statements
        .iter()
        .map(|(sql, _)| format!("{sql};\n"))
        .collect();
    shop.write("001_ten.up.sql", &text(&up.concat()));
    shop.write("001_ten.down.sql", set.back);

    let (up, pid, holder) = stand_at(shop, set, step).await;
    strike(shop, victim, up, pid, holder).await;
    let report = repair(shop).await;
    let row = shop.row(1).await;
    let found = state(&shop.direct).await;
    let (before, after) = (&states[0], &states[STEPS]);
    if row.starts_with("applied up") {
        assert_eq!(&found, after, "{what}: {row}");
    } else if row.starts_with("failed up") {
        assert_eq!(&found, before, "{what}: {row}");
    } else {
        assert!(
            !set.whole && row.starts_with("partial up"),
            "{what}: {row}, {report:#}"
        );
        let done = &report["findings"][0]["done"];
        let done = usize::try_from(done.as_u64().expect("a number")).expect("a step");
        assert_eq!(found, states[done], "{what}: {row}, {report:#}");
        assert_eq!(row, format!("partial up {done}/{STEPS}"), "{what}");
    }
    if shop.status().await["mode"] != "open" {
        shop.proxy
            .run(&["open", DATABASE])
            .await
            .assert(0, &["open"]);
    }
    // On or back from there, by turns.
    let files = shop.files();
    let files = files.to_str().expect("a path in UTF-8");
    if row.starts_with("partial up") && step % 2 == 1 {
        let back = ["migrate", "repair", DATABASE, "--back", "--dir", files];
        shop.proxy.run(&back).await.assert(0, &["done: one file"]);
        assert_eq!(&state(&shop.direct).await, before, "{what}: back");
        assert!(shop.row(1).await.starts_with("reverted down"), "{what}");
    } else if !row.starts_with("applied up") {
        shop.migrate(&["up"]).await.assert(0, &["done: one file"]);
        assert_eq!(&state(&shop.direct).await, after, "{what}: on");
        assert_eq!(
            shop.row(1).await,
            format!("applied up {STEPS}/{STEPS}"),
            "{what}"
        );
    }
    let again = repair(shop).await;
    assert_eq!(again["findings"], serde_json::json!([]), "{what}");
}

async fn every_step(set: Set, turn: usize) {
    let all = env::var_os("KILL_ALL").is_some();
    let mut shop = Shop::open().await;
    let states = boundaries(&shop, set).await;
    for step in 0..STEPS {
        for (number, victim) in VICTIMS.into_iter().enumerate() {
            if all || (step + turn) % VICTIMS.len() == number {
                case(&mut shop, set, &states, step, victim).await;
            }
        }
    }
}

#[tokio::test]
async fn of_a_transaction_nothing_is_there_or_all() {
    let set = Set {
        statements: &WHOLE,
        back: WHOLE_BACK,
        whole: true,
    };
    every_step(set, 0).await;
}

#[tokio::test]
async fn without_a_transaction_it_stands_between_two_statements() {
    let set = Set {
        statements: &SINGLE,
        back: SINGLE_BACK,
        whole: false,
    };
    every_step(set, 2).await;
}
