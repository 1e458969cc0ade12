//! Emergencies of docs/RUNBOOK.md, typed as they are written there: the commands come from the page itself, run by
//! a shell, with this test's names in the place of the page's.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::certificates::text;
use crate::support::cluster::Postgres;
use crate::support::holds::DB;
use crate::support::poll::{SOON, until};
use crate::support::proxy::{Proxy, pgdrain};

/// The commands of a page of the runbook, as they are written, without what is said beside them.
fn page(title: &str) -> Vec<String> {
    let runbook = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/RUNBOOK.md");
    let runbook = fs::read_to_string(runbook).expect("it is there");
    let (_, page) = runbook
        .split_once(&format!("\n### {title}\n"))
        .expect(title);
    let page = page.split("\n### ").next().unwrap_or(page);
    let blocks = page.split("```console\n").skip(1);
    let lines = blocks.flat_map(|it| it.split("```").next().unwrap_or("").lines());
    let command = |line: &str| line.split(" #").next().unwrap_or(line).trim().to_owned();
    let commands: Vec<_> = lines.map(command).filter(|it| !it.is_empty()).collect();
    assert!(!commands.is_empty(), "{title} has no commands");
    commands
}

/// A shell on pgdrain's machine.
struct Shell<'a> {
    proxy: &'a Proxy,
    /// Where `pgdrain` is found.
    path: tempfile::TempDir,
    /// What stands in the place of the page's names.
    names: Vec<(&'static str, String)>,
}

impl<'a> Shell<'a> {
    fn new(proxy: &'a Proxy) -> Self {
        let path = tempfile::tempdir().expect("a directory");
        let program = pgdrain().get_program().to_owned();
        symlink(program, path.path().join("pgdrain")).expect("a new name");
        let state = text(&proxy.state_dir()).to_owned();
        let names = vec![("/var/lib/pgdrain", state), (" DB", format!(" {DB}"))];
        Self { proxy, path, names }
    }

    fn calling(mut self, name: &'static str, here: &str) -> Self {
        self.names.push((name, here.to_owned()));
        self
    }

    /// Types a line; its exit code, and all that it prints.
    fn types(&self, line: &str) -> (Option<i32>, String) {
        let mut line = line.to_owned();
        for (name, here) in &self.names {
            line = line.replace(name, here);
        }
        let path = std::env::var("PATH").unwrap_or_default();
        // The environment of a command to it, with a shell in its place.
        let mut typed = Command::new("sh");
        for (name, value) in self.proxy.command(&[]).get_envs() {
            match value {
                Some(value) => typed.env(name, value),
                None => typed.env_remove(name),
            };
        }
        typed.args(["-c", &line]).stdin(Stdio::null());
        typed.env("PATH", format!("{}:{path}", text(self.path.path())));
        let ran = typed.output().expect("a shell");
        let said = [ran.stdout, ran.stderr].concat();
        (
            ran.status.code(),
            format!("$ {line}\n{}", String::from_utf8_lossy(&said)),
        )
    }

    /// The same, of which one is expected to end well.
    fn does(&self, line: &str) -> String {
        let (code, said) = self.types(line);
        assert_eq!(code, Some(0), "{said}");
        said
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_is_held_and_nobody_knows_why() {
    let postgres = Postgres::start().await;
    let proxy = Proxy::start(&postgres).await;
    let _client = proxy.session(DB).await;
    let shell = Shell::new(&proxy);
    shell.does("pgdrain hold DB --for 10m --reason 'a new index'");
    let mut said = String::new();
    // The last follows a migration, and there is none.
    for line in page("Everything is held and nobody knows why") {
        said += &match line.contains("migrate attach") {
            true => shell.types(&line).1,
            false => shell.does(&line),
        };
    }
    // Who, why, and until when.
    for part in ["held", "a new index", "operator", "until"] {
        assert!(said.contains(part), "{part} in {said}");
    }
    shell.does("pgdrain open DB");
    let mut client = proxy.session(DB).await;
    client.execute("SELECT 1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_glass_is_broken_in_each_of_the_three_ways() {
    let postgres = Postgres::start().await;
    let proxy = Proxy::start(&postgres).await;
    let mut client = proxy.session(DB).await;
    let shell = Shell::new(&proxy);
    let lines = page("Break the glass");
    assert_eq!(lines.len(), 3, "{lines:?}");
    for line in lines {
        // The page's third way reads the process id by jq, which not every machine has.
        let reads = Command::new("jq").arg("--version").output().is_ok();
        let line = match (line.starts_with("kill"), reads) {
            (true, false) => format!("kill -USR2 {}", proxy.pid()),
            (true, true) | (false, _) => line,
        };
        shell.does("pgdrain hold '*' --for 10m");
        let (_, said) = shell.types(&line);
        until(&format!("traffic to flow after {said}"), SOON, async || {
            let status = proxy.admin().get("/v1/status").await.json();
            status["databases"][0]["mode"] == "open"
        })
        .await;
        client.execute("SELECT 1").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_that_is_stuck_goes_on_by_the_ladder() {
    let postgres = Postgres::start().await;
    let proxy = Proxy::start(&postgres).await;
    let mut idle = proxy.session(DB).await;
    idle.execute("BEGIN").await;
    let shell = Shell::new(&proxy);
    let held = proxy.command(&[
        "hold", DB, "--for", "10m", "--ladder", "gentle", "--wait", "5m",
    ]);
    let mut held = { held }
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("it starts");
    until("the drain to wait", SOON, async || {
        let status = proxy.admin().get("/v1/status").await.json();
        let drain = &status["databases"][0]["holds"][0]["drain"];
        drain["outcome"] == "draining" && drain["step"] == "wait"
    })
    .await;
    let lines = page("PgdrainDrainStuck");
    let said = shell.does(&lines[0]);
    assert!(
        said.contains("draining") || said.contains("in the way") || said.contains("wait"),
        "{said}"
    );
    assert!(lines[1].ends_with("--ladder firm"), "{lines:?}");
    // Its times count from the hold, which is older where somebody is called.
    let sooner = "--wait 100ms --cancel 100ms --stuck 100ms";
    shell.does(&format!("{} {sooner}", lines[1]));
    until("the drain to end", SOON, async || {
        let status = proxy.admin().get("/v1/status").await.json();
        status["databases"][0]["holds"][0]["drain"]["outcome"] == "drained"
    })
    .await;
    // Its connection lives: it was aborted in place.
    assert!(held.wait().expect("a child of ours").success());
    let last = lines.last().expect("a line");
    shell.does(last);
    idle.execute("ROLLBACK").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_migration_is_dirty_and_is_taken_back() {
    let postgres = Postgres::start().await;
    let proxy = Proxy::start(&postgres).await;
    let files = tempfile::tempdir().expect("a directory");
    let file = |name: &str, sql: &str| fs::write(files.path().join(name), sql).expect("writable");
    // Two rows are the same, so that the second statement stops behind the first.
    file(
        "1_t.up.sql",
        "create table t as select 1 as a from generate_series(1, 2);",
    );
    file("1_t.down.sql", "drop table t;");
    file(
        "2_i.up.sql",
        "create table u ();\ncreate unique index concurrently t_a on t (a);",
    );
    file(
        "2_i.down.sql",
        "drop index if exists t_a;\ndrop table if exists u;",
    );
    let shell = Shell::new(&proxy).calling(" DIR", &format!(" {}", text(files.path())));
    let (code, said) = shell.types("pgdrain migrate up DB --dir DIR");
    assert_eq!(code, Some(2), "{said}");
    let lines = page("A migration is dirty");
    let (_, said) = shell.types(&lines[0]);
    assert!(said.contains("dirty"), "{said}");
    let said = shell.does(&lines[1]);
    assert!(said.contains("23505"), "{said}");
    let said = shell.does(&lines[2]);
    assert!(said.contains("2_i (up) was dirty"), "{said}");
    assert!(lines[4].contains("--back"), "{lines:?}");
    shell.does(&lines[3]);
    shell.does(&lines[4]);
    let (_, said) = shell.types(&lines[0]);
    assert!(
        !said.contains("dirty") && said.contains("pending"),
        "{said}"
    );
    let mut client = proxy.session(DB).await;
    client.execute("SELECT 1 FROM t").await;
}
