//! Postgres's own clients, direct and through the proxy: psql, pgbench, pg_dump and pg_restore.

use std::fs;
use std::net::SocketAddr;

use pgdrain::cli::demo::cluster::process::{self, Signal};
use serde_json::json;

use crate::support::alike::Alike;
use crate::support::cluster::Postgres;
use crate::support::holds::DB;
use crate::support::poll::{SOON, until};
use crate::support::tool::{self, Left};

/// Options that leave nothing to a person's files or a terminal.
const PSQL: [&str; 6] = ["-X", "-d", DB, "-v", "ON_ERROR_STOP=1", "-q"];

async fn psql(addr: SocketAddr, args: &[&str]) -> Left {
    tool::run("psql", addr, &[&PSQL, args].concat()).await
}

/// Both addresses of a server with the tables of pgbench.
async fn both() -> (Postgres, Alike) {
    let postgres = Postgres::start().await;
    let alike = Alike::start(&postgres).await;
    let init = ["-i", "-q", "-s", "1", DB];
    tool::run("pgbench", alike.proxy.addr(), &init).await.ok();
    (postgres, alike)
}

#[tokio::test]
async fn psql_prints_the_same_as_directly() {
    let postgres = Postgres::start().await;
    let alike = Alike::start(&postgres).await;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (rows, large) = (dir.path().join("rows"), dir.path().join("large.sql"));
    let lines: String = (0..20_000).map(|n| format!("{n}\tline {n}\n")).collect();
    fs::write(&rows, lines).expect("a file");
    let statements: String = (0..3000)
        .map(|n| format!("INSERT INTO t VALUES ({n}, 'i');\n"))
        .collect();
    let long = format!("SELECT length('{}');\n", "l".repeat(3_000_000));
    fs::write(&large, statements + &long).expect("a file");
    let script = dir.path().join("script.sql");
    let text = format!(
        "CREATE TEMP TABLE t (n int, s text);
         CREATE TEMP SEQUENCE s;
         \\copy t FROM '{rows}'
         SELECT count(*), sum(n) FROM t;
         \\copy (SELECT * FROM t WHERE n < 3) TO STDOUT
         COPY t FROM STDIN;
1\tinline
\\.
         SELECT n, s, now() AS at FROM t \\gdesc
         SELECT format('SELECT %s', n) FROM generate_series(1, 3) n \\gexec
         SELECT 1 AS one, 2 AS two \\gset
         \\echo :one :two
         \\i {large}
         SELECT count(*) FROM t \\; SELECT 'two in one';
         \\set FETCH_COUNT 100
         SELECT n FROM generate_series(1, 1000) n;
         \\d t
         \\errverbose
         \\set ON_ERROR_STOP 0
         SELECT 1/0;
         \\errverbose
         SELECT 1/(3 - nextval('s')) \\watch 0.02
         DO $$ BEGIN RAISE NOTICE 'noticed'; END $$;
         LISTEN c; NOTIFY c, 'payload';
         \\conninfo\n",
        rows = rows.display(),
        large = large.display()
    );
    fs::write(&script, text).expect("a file");
    let mut both = Vec::new();
    for addr in [postgres.addr(), alike.proxy.addr()] {
        let left = psql(addr, &["-f", script.to_str().expect("a plain path")]).await;
        both.push(masked(&left, addr));
    }
    for expected in ["23001", "two in one", "division by zero", "noticed"] {
        assert!(both[0].contains(expected), "no {expected} in {}", both[0]);
    }
    assert_eq!(both[0], both[1]);
}

/// All that was printed, without ports, process ids and times.
fn masked(left: &Left, addr: SocketAddr) -> String {
    let text = format!("{:?}\n{}\n{}", left.code, left.stdout, left.stderr);
    let text = text.replace(&addr.port().to_string(), "PORT");
    let lines = text.lines().filter(|line| !line.contains("(every 0.02s)"));
    let lines = lines.map(|line| match line.find("server process with PID") {
        Some(at) => &line[..at],
        None => line,
    });
    let lines: Vec<&str> = lines.collect();
    let text = lines.join("\n");
    // Names of temporary schemas depend on the backend.
    let mut words = text.split("pg_temp_");
    let first = words.next().unwrap_or_default().to_owned();
    words.fold(first, |text, rest| {
        text + "pg_temp_N" + rest.trim_start_matches(|digit: char| digit.is_ascii_digit())
    })
}

/// Ctrl-C sends a cancel request and waits for the end of its connection (pgbouncer #1222, PR #786).
#[tokio::test]
async fn ctrl_c_in_psql_cancels_a_statement_that_runs_or_is_held() {
    let mut postgres = Postgres::start().await;
    let alike = Alike::start(&postgres).await;
    let watcher = postgres.connect(DB).await;
    for held in [false, true] {
        if held {
            alike.proxy.hold_drained(DB, json!({})).await;
        }
        let args = [&PSQL[..], &["-c", "SELECT pg_sleep(600)"]].concat();
        let child = tool::spawn("psql", alike.proxy.addr(), &args);
        if held {
            alike.proxy.until_held(DB, 1).await;
        } else {
            let sleeps = "SELECT FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
            until("the statement to sleep", SOON, async || {
                !watcher
                    .query(sleeps, &[])
                    .await
                    .expect("an answer")
                    .is_empty()
            })
            .await;
        }
        let pid = child.id().expect("a running psql");
        process::send(Signal::Interrupt, &[pid]).expect("a shell");
        let left = tool::finish("psql", child).await;
        assert_eq!(left.code, Some(1), "{}", left.stderr);
        assert!(
            left.stderr
                .contains("canceling statement due to user request"),
            "{}",
            left.stderr
        );
    }
    alike.proxy.until_held(DB, 0).await;
}

#[tokio::test]
async fn pgbench_runs_in_every_mode_without_an_error() {
    let (_postgres, alike) = both().await;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let pipeline = dir.path().join("pipeline.sql");
    let script = "\\set n random(1, 100000)
        \\startpipeline
        SELECT abalance FROM pgbench_accounts WHERE aid = :n;
        UPDATE pgbench_accounts SET abalance = abalance + 1 WHERE aid = :n;
        SELECT abalance FROM pgbench_accounts WHERE aid = :n;
        \\endpipeline\n";
    fs::write(&pipeline, script).expect("a file");
    let pipeline = pipeline.to_str().expect("a plain path");
    let common = ["-n", "-c", "4", "-j", "2", "-t", "50"];
    for mode in ["simple", "extended", "prepared"] {
        for script in [
            vec!["-b", "tpcb-like"],
            vec!["-f", pipeline],
            vec!["-C", "-b", "select-only"],
        ] {
            if mode == "simple" && script.contains(&pipeline) {
                // Refused by pgbench itself.
                continue;
            }
            let args = [&common[..], &["-M", mode], &script, &[DB]].concat();
            let printed = tool::run("pgbench", alike.proxy.addr(), &args).await.ok();
            assert!(
                printed.contains("processed: 200/200"),
                "{mode} {script:?}: {printed}"
            );
            assert!(
                printed.contains("failed transactions: 0 "),
                "{mode} {script:?}: {printed}"
            );
        }
    }
    alike.proxy.hold_drained(DB, json!({})).await;
}

#[tokio::test]
async fn a_parallel_dump_and_restore_keep_everything() {
    let (mut postgres, alike) = both().await;
    postgres
        .execute("SELECT lo_from_bytea(4242, '\\x00ff00ff')")
        .await;
    postgres.execute("CREATE DATABASE copy").await;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let dump = dir.path().join("dump");
    let dump = dump.to_str().expect("a plain path");
    let proxy = alike.proxy.addr();
    tool::run("pg_dump", proxy, &["-Fd", "-j", "3", "-f", dump, DB])
        .await
        .ok();
    tool::run("pg_restore", proxy, &["-j", "3", "-d", "copy", dump])
        .await
        .ok();
    let mut both = Vec::new();
    for (addr, database) in [(postgres.addr(), DB), (proxy, "copy")] {
        let text = tool::run("pg_dump", addr, &[database]).await.ok();
        // Against injection a dump is made with words of its own.
        let lines = text.lines().filter(|line| {
            let word = line.strip_prefix('\\').unwrap_or_default();
            !(word.starts_with("restrict") || word.starts_with("unrestrict"))
        });
        both.push(lines.map(ToOwned::to_owned).collect::<Vec<_>>());
    }
    assert!(both[0].len() > 100_000, "{} lines", both[0].len());
    let missing = both[0].iter().zip(&both[1]).find(|(one, two)| one != two);
    assert_eq!(missing, None);
    assert_eq!(both[0].len(), both[1].len());
}
