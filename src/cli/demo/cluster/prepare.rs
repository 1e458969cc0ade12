//! Everything a cluster needs before its first start: directory, data, settings, port.

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use super::account::Account;
use super::process::Leash;
use super::{Cluster, Options, binaries, port_is_free, template};

/// Ports to choose from: below Linux's usual ephemeral range, so that no outgoing connection takes
/// the port of a cluster that is down for a moment.
const PORTS: std::ops::Range<u16> = 15_000..32_000;

/// A stopped cluster with its data and settings in place.
///
/// # Errors
/// As for [`Cluster::from_template`], short of starting it.
pub(super) fn stopped_cluster(
    options: &Options,
    templates: Option<&Path>,
) -> anyhow::Result<Cluster> {
    let mut cluster = Cluster {
        bin_dir: binaries::find(options.bin_dir.as_deref())?,
        port: free_port()?,
        dir: private_dir()?,
        account: Account::Own,
        postmaster: None,
        leash: None,
    };
    // From here on the guard removes the directory, also on an early return.
    cluster.leash = Some(tie(&cluster.dir)?);
    cluster.account = Account::for_owner_of(&cluster.dir)?;
    cluster.account.give(&cluster.dir)?;
    match templates {
        None => template::initdb(&cluster)?,
        Some(templates) => template::copy_or_initdb(&cluster, templates)?,
    }
    write_settings(&cluster, &options.settings)?;
    write_pg_hba(&cluster, &options.pg_hba)?;
    Ok(cluster)
}

/// A port on which nobody listens now.
///
/// # Errors
/// A thousand attempts found none.
pub(super) fn free_port() -> anyhow::Result<u16> {
    for _ in 0..1000 {
        let port = rand::random_range(PORTS);
        if port_is_free(port) {
            return Ok(port);
        }
    }
    bail!(
        "no free port found between {} and {}",
        PORTS.start,
        PORTS.end
    )
}

/// A directory that only its owner enters, with a name short enough for a socket in it (a socket's
/// path ends after 107 bytes).
fn private_dir() -> anyhow::Result<PathBuf> {
    let name = format!("pgdrain-{:012x}", rand::random::<u64>() >> 16);
    let dir = std::env::temp_dir().join(name);
    fs::DirBuilder::new()
        .mode(0o700)
        .create(&dir)
        .with_context(|| format!("creating {}", dir.display()))?;
    Ok(dir)
}

/// Ends the cluster and removes its directory if this process dies without dropping it.
fn tie(dir: &Path) -> anyhow::Result<Leash> {
    // Postgres works in its data directory: a process there is no stranger with a reused number.
    let script = r#"
        file=$0/data/postmaster.pid
        pid=$(head -n 1 "$file")
        if [ "$(readlink "/proc/$pid/cwd")" = "$0/data" ]; then
            kill -s QUIT "$pid"
            while kill -s 0 "$pid"; do sleep 0.1; done
        fi
        ipcrm -m "$(sed -n '7s/.* //p' "$file")"
        # An initdb that lost us may still be writing.
        until rm -rf "$0"; do sleep 0.1; done"#;
    Leash::new(script, &[dir.as_os_str()]).context("starting the shell that watches over us")
}

/// The last line for a name wins, so that what we depend on comes last.
fn write_settings(cluster: &Cluster, settings: &[(String, String)]) -> anyhow::Result<()> {
    let mut text = String::from("dynamic_shared_memory_type = mmap\n");
    for (name, value) in settings {
        text += &format!("{name} = '{}'\n", value.replace('\'', "''"));
    }
    text += "listen_addresses = '127.0.0.1'\nlogging_collector = off\n";
    text += &format!("unix_socket_directories = '{}'\n", cluster.dir.display());
    write(&cluster.data_dir().join("postgresql.conf"), &text)
}

fn write_pg_hba(cluster: &Cluster, lines: &[String]) -> anyhow::Result<()> {
    let text = match lines {
        [] => "local all all trust\nhost all all 127.0.0.1/32 trust".to_owned(),
        lines => lines.join("\n"),
    };
    write(&cluster.data_dir().join("pg_hba.conf"), &(text + "\n"))
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    fs::write(path, text).with_context(|| format!("writing {}", path.display()))
}
