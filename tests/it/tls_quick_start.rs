//! The quick start of `docs/tls.md`, followed as it is written.

use std::fs;
use std::path::{Path, PathBuf};

use tokio::process::Command;

use crate::support::certificates::{Pair, text};
use crate::support::cluster::Postgres;
use crate::support::poll::{PATIENCE, within};
use crate::support::proxy::Proxy;

/// The block of the document that is marked so.
fn block(mark: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/tls.md");
    let document = fs::read_to_string(path).expect("a file of the repository");
    let (_, behind) = document
        .split_once(&format!("```{mark}\n"))
        .unwrap_or_else(|| panic!("no block {mark}"));
    let (block, _) = behind.split_once("```").expect("an end");
    block.to_owned()
}

/// Runs blocks of the document with the names of this test instead of its own.
async fn shell(dir: &Path, port: u16, script: &str) -> String {
    let script = script.replace("port=6432", &format!("port={port}"));
    let mut command = Command::new("bash");
    command
        .arg("-c")
        .arg(script)
        .env("dir", dir)
        .env("proxy", "localhost")
        .env("server", "localhost")
        .env("PGHOST", "127.0.0.1")
        .env("PGPORT", port.to_string())
        .env("PGUSER", "postgres")
        .env("PGPASSWORD", "secret")
        .kill_on_drop(true);
    let output = within("a block of the document", PATIENCE, command.output()).await;
    let output = output.expect("bash");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

#[tokio::test]
async fn the_quick_start_leads_to_encryption_on_both_sides() {
    let names = block("sh names");
    for name in ["dir=", "proxy=", "server="] {
        assert!(names.contains(name), "{names}");
    }
    let dir = tempfile::tempdir().expect("a temporary directory");
    let hba = [
        "local all all trust",
        "host all postgres 127.0.0.1/32 trust",
        "hostssl all all 127.0.0.1/32 scram-sha-256",
    ];
    let mut postgres = Postgres::start_with(&[], &hba).await;
    postgres.execute("create user app password 'secret'").await;
    let port = postgres.addr().port();

    shell(dir.path(), port, &block("sh certificates")).await;
    let server = Pair {
        certificate: dir.path().join("localhost.crt"),
        key: dir.path().join("localhost.key"),
    };
    postgres.encrypt(&server, None).await;
    shell(dir.path(), port, &block("sh users")).await;

    let config = block("toml config")
        .replace("/etc/pgdrain", text(dir.path()))
        .replace("pgdrain.example.com", "localhost")
        .replace(
            "pgdrain@db.example.com:5432",
            &format!("postgres@localhost:{port}"),
        )
        .replace("0.0.0.0:6432", "127.0.0.1:0");
    let proxy = Proxy::configured("", &config).await;
    let answer = shell(dir.path(), proxy.addr().port(), &block("sh client")).await;
    assert!(answer.contains(" t   | t"), "{answer}");
}
