//! A standby of a server, which follows it by streaming.

use std::fs;
use std::path::PathBuf;

use pgdrain::cli::demo::cluster::Shutdown;

use super::cluster::Postgres;

/// What the server has to let in for that, and everybody besides.
pub(crate) const HBA: [&str; 3] = [
    "local all all trust",
    "host all all 127.0.0.1/32 trust",
    "host replication all 127.0.0.1/32 trust",
];

/// A standby of this server, which lets in whom the server lets in.
pub(crate) async fn standby_of(server: &Postgres) -> Postgres {
    let mut standby = Postgres::start_with(&[], &HBA).await;
    standby.stop(Shutdown::Fast).await.expect("stopped");
    let data: PathBuf = standby.dir().join("data");
    fs::rename(&data, standby.dir().join("old")).expect("a directory of ours");
    let mut copy = standby.command("pg_basebackup");
    copy.args(["-h", "127.0.0.1", "-U", "postgres", "-R", "-X", "stream"]);
    copy.args(["-c", "fast", "-p"])
        .arg(server.addr().port().to_string())
        .arg("-D")
        .arg(&data);
    let copied = copy.output().expect("pg_basebackup");
    assert!(copied.status.success(), "{copied:?}");
    let settings = data.join("postgresql.auto.conf");
    let mut text = fs::read_to_string(&settings).expect("settings");
    text += &format!(
        "unix_socket_directories = '{}'\n",
        standby.socket_dir().display()
    );
    fs::write(&settings, text).expect("settings");
    standby.start().await.expect("a standby");
    standby
}
