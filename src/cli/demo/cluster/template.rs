//! Data directories: made by `initdb`, or copied from one that was made before.

use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use super::account::Account;
use super::{Cluster, SUPERUSER};

/// No locale of the machine, so that tests see the same order and texts everywhere; no fsync, since
/// nothing here outlives the machine; small WAL segments, since most clusters write little.
const INITDB: [&str; 8] = [
    "--username",
    SUPERUSER,
    "--auth=trust",
    "--encoding=UTF8",
    "--locale=C",
    "--no-sync",
    "--no-instructions",
    "--wal-segsize=4",
];

/// Makes the data directory of `cluster` with `initdb`.
///
/// # Errors
/// `initdb` failed; its words are part of the error.
pub(super) fn initdb(cluster: &Cluster) -> anyhow::Result<()> {
    let output = cluster
        .command("initdb")
        .args(INITDB)
        .arg("--pgdata")
        .arg(cluster.data_dir())
        .output()
        .context("starting initdb")?;
    if !output.status.success() {
        bail!(
            "initdb failed: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(())
}

/// Copies the data directory from `templates`; whoever comes first makes it and leaves the copy.
///
/// # Errors
/// As for [`initdb`], and when `templates` cannot be written.
pub(super) fn copy_or_initdb(cluster: &Cluster, templates: &Path) -> anyhow::Result<()> {
    let template = templates.join(template_name(cluster)?);
    if !template.is_dir() {
        fs::create_dir_all(templates)?;
        // Other test processes use the same directory; the lock ends with the file handle.
        let lock = File::create(templates.join("lock"))?;
        lock.lock().context("locking the template directory")?;
        if !template.is_dir() {
            initdb(cluster)?;
            return publish(&cluster.data_dir(), &template);
        }
    }
    copy_tree(&template, &cluster.data_dir(), cluster.account)
        .with_context(|| format!("copying {}", template.display()))
}

/// The template appears whole or not at all: a killed process leaves only a `.partial`.
fn publish(data: &Path, template: &Path) -> anyhow::Result<()> {
    let partial = template.with_extension("partial");
    if partial.exists() {
        fs::remove_dir_all(&partial)?;
    }
    copy_tree(data, &partial, Account::Own)?;
    fs::rename(&partial, template).context("publishing the template")
}

/// Differs by the server's exact version and by how we call `initdb`.
fn template_name(cluster: &Cluster) -> anyhow::Result<PathBuf> {
    let output = cluster.command("postgres").arg("--version").output()?;
    let mut hasher = DefaultHasher::new();
    (&output.stdout, INITDB).hash(&mut hasher);
    Ok(PathBuf::from(format!("cluster-{:016x}", hasher.finish())))
}

/// Copies a directory of plain files and directories, permissions included, for `account`.
fn copy_tree(from: &Path, to: &Path, account: Account) -> anyhow::Result<()> {
    fs::create_dir(to)?;
    fs::set_permissions(to, fs::metadata(from)?.permissions())?;
    account.give(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_tree(&entry.path(), &target, account)?;
        } else {
            fs::copy(entry.path(), &target)?;
            account.give(&target)?;
        }
    }
    Ok(())
}
