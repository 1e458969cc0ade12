//! Sockets that systemd passes are used; one that fits nothing is an error that names it.

use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::support::cluster::Postgres;
use crate::support::holds::DB;
use crate::support::poll::{SOON, eventually};
use crate::support::proxy::pgdrain;
use crate::support::wire::Wire;

/// What systemd does: listens, and becomes the service with the sockets as 3 and above.
const ACTIVATE: &str = r#"
import os, socket, sys
sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
ports = [str(s.getsockname()[1]) for s in sockets]
for at, s in enumerate(sockets):
    os.dup2(s.fileno(), 20 + at)
for at in range(2):
    os.dup2(20 + at, 3 + at)
    os.close(20 + at)
os.environ.update(LISTEN_FDS="2", LISTEN_PID=str(os.getpid()), LISTEN_FDNAMES="clients:admin")
command = [a.replace("LISTEN", ports[0]).replace("ADMIN", ports[1]) for a in sys.argv[1:]]
os.execv(command[0], command)
"#;

fn activated(serve: &[&str], state_dir: &str, upstream: &str) -> Command {
    let pgdrain = pgdrain();
    let mut command = Command::new("python3");
    command
        .args(["-c", ACTIVATE])
        .arg(pgdrain.get_program())
        .arg("serve")
        .args(serve)
        .args(["--state-dir", state_dir, "--upstream", upstream])
        .stdin(Stdio::null())
        .process_group(0);
    command
}

#[tokio::test]
async fn passed_sockets_are_used() {
    let postgres = Postgres::start().await;
    let directory = tempfile::tempdir().expect("a directory");
    let state_dir = directory.path().display().to_string();
    let upstream = format!("postgres://postgres@{}", postgres.addr());
    let serve = ["--listen", "127.0.0.1:LISTEN", "--admin", "127.0.0.1:ADMIN"];
    let mut child = activated(&serve, &state_dir, &upstream)
        .spawn()
        .expect("python3");
    let endpoints: Value = eventually("endpoints.json", SOON, async || {
        let text = std::fs::read_to_string(directory.path().join("endpoints.json")).ok()?;
        serde_json::from_str(&text).ok()
    })
    .await;
    let addr = endpoints["listen"][0].as_str().expect("an address");
    let mut session = Wire::login(addr.parse().expect("an address"), "postgres", DB).await;
    session.execute("SELECT 1").await;
    child.kill().expect("a child of ours");
    child.wait().expect("a child of ours");
}

#[tokio::test]
async fn a_socket_that_fits_nothing_is_named() {
    let directory = tempfile::tempdir().expect("a directory");
    let state_dir = directory.path().display().to_string();
    let serve = ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:ADMIN"];
    let output = activated(&serve, &state_dir, "postgres://postgres@127.0.0.1:1").output();
    let output = output.expect("python3");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "{said}");
    assert!(said.contains("no setting listens on: 127.0.0.1:"), "{said}");
    assert!(said.contains("(clients)"), "{said}");
}
