//! The demo tells the truth by its exit code, and leaves nothing behind however it ends.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use pgdrain::cli::demo::cluster::process::{self, Signal};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio_postgres::NoTls;

use crate::support::poll::{PATIENCE, SOON, until, within};
use crate::support::proxy::pgdrain;

#[tokio::test]
async fn a_good_end_is_0_and_leaves_nothing() {
    let mut demo = Demo::start(&[]);
    let (code, text) = demo.end().await;
    assert_eq!(code, Some(0), "{text}");
    for sign in [
        "letting traffic in",
        "clients held                            4 of 4",
        "every acknowledged write is there once",
    ] {
        assert!(text.contains(sign), "{sign} in\n{text}");
    }
    demo.has_left_nothing();
}

#[tokio::test]
async fn a_client_that_lost_its_connection_makes_it_fail() {
    let mut demo = Demo::start(&[]);
    demo.read_until("before ").await;
    demo.direct(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
         WHERE application_name = 'demo client 2'",
    )
    .await;
    let (code, text) = demo.end().await;
    assert_eq!(code, Some(3), "{text}");
    assert!(text.contains("NOT AS IT SHOULD BE"), "{text}");
    assert!(text.contains("clients saw 1 errors"), "{text}");
    assert!(text.contains("  client 2: "), "{text}");
    demo.has_left_nothing();
}

#[tokio::test]
async fn a_write_that_vanished_or_came_twice_makes_it_fail() {
    let mut demo = Demo::start(&[]);
    demo.read_until("after ").await;
    demo.direct("WITH one AS (SELECT ctid FROM ledger LIMIT 1) DELETE FROM ledger USING one WHERE ledger.ctid = one.ctid")
        .await;
    demo.direct("INSERT INTO ledger SELECT * FROM ledger ORDER BY id DESC LIMIT 2")
        .await;
    let (code, text) = demo.end().await;
    assert_eq!(code, Some(3), "{text}");
    assert!(text.contains("1 acknowledged writes are missing"), "{text}");
    assert!(
        text.contains("2 acknowledged writes are there more than once"),
        "{text}"
    );
    demo.has_left_nothing();
}

#[tokio::test]
async fn a_failed_migration_makes_it_fail_and_clients_see_nothing_of_it() {
    let mut demo = Demo::start(&[]);
    demo.read_until("before ").await;
    demo.direct("CREATE INDEX accounts_owner_idx ON ledger (id)")
        .await;
    let (code, text) = demo.end().await;
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("already exists"), "{text}");
    assert!(text.contains("the index is missing"), "{text}");
    assert!(
        text.contains("errors seen by clients                  0"),
        "{text}"
    );
    demo.has_left_nothing();
}

#[tokio::test]
async fn a_stopped_demo_leaves_nothing_whatever_it_was_doing() {
    for (at, signal, code) in [
        ("starting a Postgres", Signal::Interrupt, 130),
        ("filling a table", Signal::Terminate, 143),
        ("before ", Signal::Interrupt, 130),
        // Everybody is held, and the migration has begun.
        ("001_widen_balance.up.sql: 1 st", Signal::Terminate, 143),
    ] {
        let mut demo = Demo::start(&[]);
        demo.read_until(at).await;
        process::send(signal, &[demo.pid()]).expect("a shell");
        let (ended, text) = demo.end().await;
        assert_eq!(ended, Some(code), "{at}: {text}");
        demo.has_left_nothing();
    }
}

#[tokio::test]
async fn a_killed_demo_leaves_nothing_after_a_moment() {
    let mut demo = Demo::start(&[]);
    demo.read_until("before ").await;
    process::send(Signal::Kill, &[demo.pid()]).expect("a shell");
    let (ended, text) = demo.end().await;
    assert_eq!(ended, None, "{text}");
    until("the leashes to have pulled", SOON, async || {
        demo.left().is_empty()
    })
    .await;
}

#[tokio::test]
async fn a_kept_demo_runs_on_until_it_is_ended_as_it_says() {
    let mut demo = Demo::start(&["--keep"]);
    let (code, text) = demo.end().await;
    assert_eq!(code, Some(0), "{text}");
    demo.direct("SELECT currency FROM accounts LIMIT 1").await;
    let after = |heading: &str| {
        let mut lines = text.lines().skip_while(|line| *line != heading);
        let line = lines.nth(1);
        line.unwrap_or_else(|| panic!("{heading} in\n{text}"))
            .to_owned()
    };
    let (ask, end) = (after("This asks it:"), after("This ends it:"));
    let asked = shell(&ask).await;
    assert!(asked.contains("shop") && asked.contains("open"), "{asked}");
    shell(&end).await;
    demo.has_left_nothing();
}

/// A demo with little to do, in a temporary directory of its own.
struct Demo {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    text: String,
    directory: TempDir,
}

impl Demo {
    fn start(args: &[&str]) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        // Root's demo runs Postgres as somebody else, who has to get in.
        let open = fs::Permissions::from_mode(0o755);
        fs::set_permissions(directory.path(), open).expect("it is ours");
        let mut command = pgdrain();
        command
            .args(["demo", "--rows", "20000", "--clients", "4"])
            .args(["--seconds", "1"])
            .args(args)
            .env("TMPDIR", directory.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        if let Some(bin) = std::env::var_os("PG_BIN") {
            command.env("PG_BIN", bin);
        }
        let mut child = Command::from(command)
            .kill_on_drop(true)
            .spawn()
            .expect("the binary starts");
        let stdout = child.stdout.take().expect("a pipe");
        Self {
            child,
            lines: BufReader::new(stdout).lines(),
            text: String::new(),
            directory,
        }
    }

    fn pid(&self) -> u32 {
        self.child.id().expect("it runs")
    }

    /// Reads until a line begins with this, a time before it aside.
    async fn read_until(&mut self, begin: &str) {
        let reading = async {
            while let Some(line) = self.lines.next_line().await.expect("text") {
                self.text += &(line.clone() + "\n");
                let behind_time = line.split_once("Z ").map_or("", |(_, text)| text);
                if line.starts_with(begin) || behind_time.starts_with(begin) {
                    return;
                }
            }
            panic!("no line begins with {begin:?} in\n{}", self.text);
        };
        within(begin, PATIENCE, reading).await;
    }

    /// Runs a statement beside the proxy.
    async fn direct(&self, sql: &str) {
        let url = self
            .text
            .lines()
            .find_map(|line| line.trim().strip_prefix("beside them"));
        let url = url.expect("the address is told").trim();
        let (client, connection) = tokio_postgres::connect(url, NoTls).await.expect("trust");
        let work = async {
            let done = client.batch_execute(sql).await;
            drop(client);
            done.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
        };
        let ((), _ended) = tokio::join!(work, connection);
    }

    /// Reads to the end; gives the exit code and all that was printed.
    async fn end(&mut self) -> (Option<i32>, String) {
        let reading = async {
            while let Some(line) = self.lines.next_line().await.expect("text") {
                self.text += &(line + "\n");
            }
            self.child.wait().await.expect("a child of ours")
        };
        let status = within("the demo's end", PATIENCE, reading).await;
        (status.code(), self.text.clone())
    }

    fn has_left_nothing(&self) {
        let left = self.left();
        assert!(left.is_empty(), "{left:#?}\n{}", self.text);
    }

    /// Files in its directory, and processes that work in it or name it.
    fn left(&self) -> Vec<String> {
        let directory = self.directory.path();
        let files = entries(directory).map(|path| path.display().to_string());
        let processes = entries(Path::new("/proc")).filter_map(|process| {
            let pid: u32 = process.file_name()?.to_str()?.parse().ok()?;
            let command = fs::read(process.join("cmdline")).unwrap_or_default();
            let command = String::from_utf8_lossy(&command).replace('\0', " ");
            let place = fs::read_link(process.join("cwd")).unwrap_or_default();
            let ours = command.contains(directory.to_str()?) || place.starts_with(directory);
            (ours && !process::is_gone(pid)).then(|| format!("{pid} {command}"))
        });
        files.chain(processes).collect()
    }
}

fn entries(directory: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir(directory).expect("a directory");
    entries.filter_map(|entry| Some(entry.ok()?.path()))
}

/// What a command line prints.
async fn shell(line: &str) -> String {
    let output = Command::new("sh")
        .args(["-c", line])
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = within(line, PATIENCE, output).await.expect("a shell");
    assert!(output.status.success(), "{line}: {output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}
