//! `pgdrain window` as a person types it: a command that is alone, its exit code, its signals, and a
//! window that is lost while it runs.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Stdio};

use pgdrain::cli::demo::cluster::process::{self, Signal};
use serde_json::json;

use crate::support::cluster::Postgres;
use crate::support::holds::DB;
use crate::support::message;
use crate::support::poll::{SOON, eventually, until};
use crate::support::proxy::{Proxy, Ran};

/// Runs `pgdrain window exec` with a shell script as its command.
async fn exec(proxy: &Proxy, flags: &[&str], script: &str) -> Ran {
    let command = ["--", "sh", "-c", script];
    let all = [&["window", "exec", DB][..], flags, &command[..]].concat();
    proxy.run(&all).await
}

/// The same, not waited for; its output is read when it has ended.
fn start(proxy: &Proxy, flags: &[&str], script: &str) -> Child {
    let command = ["--", "sh", "-c", script];
    let all = [&["window", "exec", DB][..], flags, &command[..]].concat();
    let mut command = proxy.command(&all);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().expect("the binary starts")
}

/// Waits for the end of a command that was started.
async fn end(mut child: Child) -> Ran {
    until("the command to end", SOON, async || {
        child.try_wait().expect("a child of ours").is_some()
    })
    .await;
    let output = child.wait_with_output().expect("it has ended");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ran {
        code: output.status.code(),
        stdout: text(&output.stdout),
        stderr: text(&output.stderr),
    }
}

/// The state and the end of the only window.
async fn only_window(proxy: &Proxy) -> serde_json::Value {
    let list = proxy
        .admin()
        .get("/v1/databases/*/windows")
        .await
        .expect(200);
    list["windows"][0].clone()
}

const MIGRATE: &str = "psql -X -q -U postgres -v ON_ERROR_STOP=1 -c";

#[tokio::test]
async fn a_command_is_alone_and_its_exit_code_is_passed_on() {
    let mut postgres = Postgres::start().await;
    let proxy = Proxy::start(&postgres).await;
    let script = format!(
        "{MIGRATE} 'CREATE TABLE t (a int)' && {MIGRATE} 'INSERT INTO t VALUES (1)' \
         && env | grep -c '^DATABASE_URL=postgres://postgres@'"
    );
    let ran = exec(&proxy, &["--user", "postgres", "--reason", "t"], &script).await;
    assert_eq!((ran.code, ran.stdout.trim()), (Some(0), "1"), "{ran:?}");
    assert_eq!(postgres.count("SELECT count(*) FROM t").await, 1);
    let window = only_window(&proxy).await;
    assert_eq!(
        (&window["state"], &window["why"]),
        (&json!("closed"), &json!("finished"))
    );
    assert_eq!(window["connections_used"], 2);
    proxy.session(DB).await.execute("SELECT 1").await;

    let ran = exec(&proxy, &[], "exit 7").await;
    assert_eq!(ran.code, Some(7), "{ran:?}");
    let ran = exec(&proxy, &[], "kill -9 $$").await;
    assert_eq!(ran.code, Some(137), "{ran:?}");
    proxy.session(DB).await.execute("SELECT 1").await;

    let ran = exec(&proxy, &["--on-failure", "stay"], "exit 7").await;
    assert_eq!(ran.code, Some(7), "{ran:?}");
    assert!(ran.stderr.contains("stays held"), "{ran:?}");
    assert_eq!(proxy.status(DB).await["mode"], "hold");
    let ran = exec(&proxy, &[], "true").await;
    assert_eq!(ran.code, Some(6), "{ran:?}");
    proxy.open(DB).await;

    let nothing = ["window", "exec", DB, "--", "/nonexistent/tool"];
    let ran = proxy.run(&nothing).await;
    assert_eq!(ran.code, Some(5), "{ran:?}");
    proxy.until_mode(DB, "open").await;
}

#[tokio::test]
async fn the_key_is_nowhere_but_in_the_environment() {
    let postgres = Postgres::start().await;
    let proxy = Proxy::start(&postgres).await;
    let script = format!(
        "echo \"$PGOPTIONS\"; {MIGRATE} \"SELECT count(*) FROM pg_stat_activity WHERE query NOT LIKE \
         '%pg_stat_activity%' AND (query || application_name) LIKE '%pgdrain.window%'\" -At; \
         cat /proc/*/cmdline 2>/dev/null | tr '\\0' ' ' > \"$SEEN\""
    );
    let seen = proxy.state_dir().join("seen");
    let mut command = proxy.command(&["window", "exec", DB, "--", "sh", "-c", &script]);
    command.env("SEEN", &seen);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let ran = end(command.spawn().expect("the binary starts")).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let mut lines = ran.stdout.lines();
    let key = lines
        .next()
        .expect("PGOPTIONS")
        .trim_start_matches("-c pgdrain.window=");
    let secret = key.split_once('.').expect("two parts").1;
    assert_eq!((secret.len(), lines.next()), (22, Some("0")), "{ran:?}");
    let seen = fs::read_to_string(seen).expect("the command lines of all processes");
    assert!(seen.contains("window exec") && !seen.contains(secret));
    assert!(!proxy.log().contains(secret));
}

#[tokio::test]
async fn what_is_in_the_way_is_told_and_nothing_is_run() {
    let postgres = Postgres::start().await;
    let proxy = Proxy::start(&postgres).await;
    let mut busy = proxy.session(DB).await;
    busy.execute("BEGIN").await;
    let ran = exec(&proxy, &["--wait", "300ms"], "echo ran").await;
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(6), ""), "{ran:?}");
    assert!(ran.stderr.contains(&busy.key().0.to_string()), "{ran:?}");
    busy.execute("COMMIT").await;

    let first = proxy.exclusive(DB, json!({})).await;
    let ran = exec(&proxy, &[], "echo ran").await;
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(6), ""), "{ran:?}");
    assert!(ran.stderr.contains(&first.id), "{ran:?}");
    let queued = start(&proxy, &["--queue"], "echo ran");
    until("the second to wait", SOON, async || {
        let list = proxy
            .admin()
            .get("/v1/databases/*/windows")
            .await
            .expect(200);
        let windows = list["windows"].as_array().expect("a list").clone();
        windows.iter().any(|window| window["state"] == "queued")
    })
    .await;
    proxy.command_window(&first, "finish").await;
    let ran = end(queued).await;
    assert_eq!(
        (ran.code, ran.stdout.as_str()),
        (Some(0), "ran\n"),
        "{ran:?}"
    );
}

/// Waits until the script has made a file, and gives what is in it.
async fn made(proxy: &Proxy, name: &str) -> String {
    let path = proxy.state_dir().join(name);
    eventually("the script to get there", SOON, async || {
        fs::read_to_string(&path)
            .ok()
            .filter(|text| text.ends_with('\n'))
    })
    .await
}

fn path(proxy: &Proxy, name: &str) -> String {
    proxy.state_dir().join(name).display().to_string()
}

#[tokio::test]
async fn signals_reach_the_command_and_traffic_flows_after_it() {
    let postgres = Postgres::start().await;
    let proxy = Proxy::start(&postgres).await;
    for (signal, name) in [
        (Signal::Interrupt, "INT"),
        (Signal::Terminate, "TERM"),
        (Signal::Hangup, "HUP"),
    ] {
        let ready = path(&proxy, name);
        let script = format!(
            "trap 'echo caught; exit 9' {name}; echo > {ready}; while true; do sleep 0.05; done"
        );
        let child = start(&proxy, &[], &script);
        made(&proxy, name).await;
        process::send(signal, &[child.id()]).expect("a shell");
        let ran = end(child).await;
        assert_eq!(
            (ran.code, ran.stdout.as_str()),
            (Some(9), "caught\n"),
            "{name}: {ran:?}"
        );
        proxy.session(DB).await.execute("SELECT 1").await;
    }
    // While it is still waited for, a signal gives the window up.
    let mut busy = proxy.session(DB).await;
    busy.execute("BEGIN").await;
    let child = start(&proxy, &["--wait", "10m"], "echo ran");
    proxy.until_mode(DB, "hold").await;
    process::send(Signal::Terminate, &[child.id()]).expect("a shell");
    let ran = end(child).await;
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(143), ""), "{ran:?}");
    proxy.until_mode(DB, "open").await;
    busy.execute("COMMIT").await;
}

#[tokio::test]
async fn a_command_whose_window_is_lost_is_ended_and_told_so() {
    let postgres = Postgres::start().await;
    let mut proxy = Proxy::start(&postgres).await;
    for way in ["opened by force", "the proxy is killed"] {
        let ready = path(&proxy, "ready");
        let script = format!("echo > {ready}; exec sleep 600");
        let child = start(&proxy, &["--lease", "3s"], &script);
        made(&proxy, "ready").await;
        match way {
            "opened by force" => {
                assert_eq!(proxy.run(&["open", DB, "--force"]).await.code, Some(0))
            }
            _ => proxy.kill(),
        }
        let ran = end(child).await;
        assert_eq!(ran.code, Some(2), "{way}: {ran:?}");
        assert!(ran.stderr.contains("the window was lost"), "{way}: {ran:?}");
        fs::remove_file(ready).expect("it is there");
    }
    proxy.launch().await;
    proxy.until_mode(DB, "open").await;
}

#[tokio::test]
async fn a_killed_holder_is_followed_by_its_policy() {
    let postgres = Postgres::start().await;
    let proxy = Proxy::start(&postgres).await;
    let ready = path(&proxy, "ready");
    let script = format!("echo > {ready}; exec sleep 5");
    let mut child = start(&proxy, &["--lease", "1s", "--on-lost", "stay"], &script);
    made(&proxy, "ready").await;
    child.kill().expect("a child of ours");
    child.wait().expect("a child of ours");
    until("the lease to be lost", SOON, async || {
        only_window(&proxy).await["why"] == "lease_lost"
    })
    .await;
    assert_eq!(proxy.status(DB).await["mode"], "hold");
}

#[tokio::test]
async fn a_person_holds_a_window_by_a_file_that_nobody_else_can_read() {
    let mut postgres = Postgres::start().await;
    let proxy = Proxy::start(&postgres).await;
    let refused = proxy.run(&["window", "hold", DB]).await;
    assert_eq!(refused.code, Some(5), "{refused:?}");
    assert!(refused.stderr.contains("--to FILE"), "{refused:?}");
    assert_eq!(proxy.run(&["window", "list"]).await.stdout, "no windows\n");

    let file = path(&proxy, "key.sh");
    let mut hold = proxy.command(&["window", "hold", DB, "--to", &file]);
    hold.stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut hold = hold.spawn().expect("the binary starts");
    made(&proxy, "key.sh").await;
    let mode = fs::metadata(&file).expect("the file").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let mut waiting = proxy.session(DB).await;
    waiting.send(&message::query("SELECT 1")).await;
    proxy.until_held(DB, 1).await;
    let script = format!(". {file}; {MIGRATE} 'CREATE TABLE t (a int)'");
    let mut person = proxy.command(&[]);
    person = {
        let mut shell = std::process::Command::new("sh");
        shell.args(["-c", &script]);
        for (name, value) in person.get_envs() {
            match value {
                Some(value) => shell.env(name, value),
                None => shell.env_remove(name),
            };
        }
        shell
    };
    assert!(person.status().expect("a shell").success());
    assert_eq!(postgres.count("SELECT count(*) FROM t").await, 0);

    drop(hold.stdin.take());
    let ran = end(hold).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    waiting.read_until_ready().await;
    assert!(fs::metadata(&file).is_err());
}

#[tokio::test]
async fn windows_are_listed_renewed_and_ended_by_hand() {
    let postgres = Postgres::start().await;
    let proxy = Proxy::start(&postgres).await;
    let ran = proxy.run(&["window", "list"]).await;
    assert_eq!(ran.stdout, "no windows\n");
    let window = proxy.exclusive(DB, json!({"by": "anna"})).await;
    let ran = proxy.run(&["window", "list", DB]).await;
    assert!(
        ran.stdout.contains(&window.id) && ran.stdout.contains("anna"),
        "{ran:?}"
    );
    assert!(!ran.stdout.contains(&window.key));
    let late = (window.term - 1).to_string();
    let ran = proxy
        .run(&["window", "finish", &window.id, "--term", &late])
        .await;
    assert_eq!(ran.code, Some(5), "{ran:?}");
    assert_eq!(
        proxy.run(&["window", "renew", &window.id]).await.code,
        Some(0)
    );
    assert_eq!(
        proxy.run(&["window", "abort", &window.id]).await.code,
        Some(0)
    );
    let view = proxy.until_window(&window, "closed").await;
    assert_eq!(view["why"], "aborted");
    assert_eq!(
        proxy.run(&["window", "abort", &window.id]).await.code,
        Some(5)
    );
    assert_eq!(proxy.run(&["window", "abort", "w0"]).await.code, Some(5));
}
