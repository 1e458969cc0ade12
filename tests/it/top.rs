//! `pgdrain top` in a terminal: it shows what is, its keys do what they say, and the terminal is given
//! back however it ends. `script` (of util-linux) is the terminal.

use std::process::Stdio;

use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout};

use crate::support::cluster::Postgres;
use crate::support::holds::DB;
use crate::support::poll::{PATIENCE, within};
use crate::support::proxy::{Proxy, pgdrain};
use pgdrain::cli::demo::cluster::process::{self, Signal};

/// What switches to the screen of full-screen programs, and back from it (xterm).
const TAKEN: &str = "\x1b[?1049h";
const GIVEN_BACK: &str = "\x1b[?1049l";

/// A `pgdrain top` in a terminal of 24 lines of 80 columns.
struct Top {
    script: Child,
    keys: ChildStdin,
    output: BufReader<ChildStdout>,
    pid: u32,
    seen: String,
    /// Up to where it was looked for something.
    looked: usize,
}

impl Top {
    async fn start(admin: &str) -> Self {
        let binary = pgdrain().get_program().to_string_lossy().into_owned();
        let line = format!(
            "stty rows 24 cols 80; echo $$; exec {binary} top --every 100ms --admin {admin}"
        );
        let mut script = tokio::process::Command::new("script")
            .args(["-qefc", &line, "/dev/null"])
            .env("TERM", "xterm")
            .env("SHELL", "/bin/sh")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("util-linux is everywhere");
        let keys = script.stdin.take().expect("it is piped");
        let mut output = BufReader::new(script.stdout.take().expect("it is piped"));
        let mut first = String::new();
        let read = output.read_line(&mut first);
        within("the process id", PATIENCE, read)
            .await
            .expect("a line");
        Self {
            script,
            keys,
            output,
            pid: first.trim().parse().expect("the shell says its id"),
            seen: String::new(),
            looked: 0,
        }
    }

    async fn press(&mut self, key: &str) {
        let pressed = self.keys.write_all(key.as_bytes()).await;
        pressed.and(self.keys.flush().await).expect("it reads keys");
    }

    /// Reads until this was drawn, behind what was looked for before.
    async fn shows(&mut self, what: &str) {
        let seen = async {
            loop {
                if let Some(place) = self.seen[self.looked..].find(what) {
                    self.looked += place + what.len();
                    return;
                }
                let mut bytes = [0; 4096];
                let read = self.output.read(&mut bytes).await.expect("a terminal");
                assert_ne!(read, 0, "it ended before it showed {what}: {:?}", self.seen);
                self.seen += &String::from_utf8_lossy(&bytes[..read]);
            }
        };
        within(what, PATIENCE, seen).await;
    }

    /// Reads to its end: its exit code, and what it left behind.
    async fn ended(mut self) -> (Option<i32>, String) {
        let mut rest = Vec::new();
        let read = self.output.read_to_end(&mut rest);
        within("its end", PATIENCE, read).await.expect("a terminal");
        let status = self.script.wait().await.expect("it was started");
        let rest = String::from_utf8_lossy(&rest).into_owned();
        (status.code(), self.seen + &rest)
    }
}

#[tokio::test]
async fn it_shows_what_is_and_its_keys_do_what_they_say() {
    let postgres = Postgres::start().await;
    let proxy = Proxy::start(&postgres).await;
    let _client = proxy.session(DB).await;
    let mut top = Top::start(&format!("http://{}", proxy.admin().addr)).await;
    top.shows(TAKEN).await;
    top.shows("longest").await;
    top.press("h").await;
    top.shows("55P03").await;
    top.press("y").await;
    // Cells that stay the same are not drawn again, so that words arrive in pieces.
    top.shows("operator").await;
    let status = proxy.admin().get("/v1/status").await.expect(200);
    assert_eq!(status["databases"][0]["mode"], json!("hold"), "{status}");
    top.press("q").await;
    let (code, left) = top.ended().await;
    assert_eq!(code, Some(0), "{left:?}");
    assert!(left.contains(GIVEN_BACK), "{left:?}");
}

#[tokio::test]
async fn the_terminal_is_given_back_however_it_ends() {
    let postgres = Postgres::start().await;
    let mut proxy = Proxy::start(&postgres).await;
    let admin = format!("http://{}", proxy.admin().addr);

    let mut top = Top::start(&admin).await;
    top.shows(TAKEN).await;
    process::send(Signal::Terminate, &[top.pid]).expect("it runs");
    let (code, left) = top.ended().await;
    assert_eq!(code, Some(143), "{left:?}");
    assert!(left.contains(GIVEN_BACK), "{left:?}");

    let mut top = Top::start(&admin).await;
    top.shows(TAKEN).await;
    proxy.kill();
    top.shows("NO").await;
    top.press("\x03").await;
    let (code, left) = top.ended().await;
    assert_eq!(code, Some(130), "{left:?}");
    assert!(left.contains(GIVEN_BACK), "{left:?}");

    // Nobody answers from the start: the terminal is not touched.
    let top = Top::start(&admin).await;
    let (code, left) = top.ended().await;
    assert_eq!(code, Some(5), "{left:?}");
    assert!(left.contains("is `pgdrain serve` running?"), "{left:?}");
    assert!(!left.contains(TAKEN), "{left:?}");
}
