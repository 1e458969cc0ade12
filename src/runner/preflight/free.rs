//! How much room is left where the server keeps its data: asked of a command that was configured for
//! it, or of the kernel when the server is on this machine. SQL cannot tell.

use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

use super::ground::Ground;

/// How long a command or a file system may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// What was found out.
pub(super) enum Free {
    /// As much is free for those who are not root.
    Bytes(u64),
    /// It could not be found out, and why.
    NotKnown(String),
}

/// What is free at a tablespace's directory; empty stands for the data directory.
pub(super) async fn free(ground: &Ground<'_>, place: &str) -> Result<Free, tokio_postgres::Error> {
    let place = match place {
        "" => match data_directory(ground).await? {
            Some(directory) => directory,
            None if ground.limits.disk_free_command.is_some() => String::new(),
            None => {
                let why = "we may not see where the data directory is: grant pg_read_all_settings";
                return Ok(Free::NotKnown(why.to_owned()));
            }
        },
        place => place.to_owned(),
    };
    if let Some(command) = &ground.limits.disk_free_command {
        return Ok(told(command, &place).await);
    }
    if !ground.session.is_here().await? {
        let why = "the server is not on this machine, and no command tells (disk_free_command)";
        return Ok(Free::NotKnown(why.to_owned()));
    }
    // A file system of the network may keep whoever asks waiting.
    let path = place.clone();
    let asked = tokio::task::spawn_blocking(move || rustix::fs::statvfs(path.as_str()));
    Ok(match tokio::time::timeout(PATIENCE, asked).await {
        Ok(Ok(Ok(found))) => Free::Bytes(found.f_bavail.saturating_mul(found.f_frsize)),
        Ok(Ok(Err(error))) => Free::NotKnown(format!("{place}: {error}")),
        Ok(Err(error)) => Free::NotKnown(format!("{place}: {error}")),
        Err(_elapsed) => Free::NotKnown(format!("{place}: no answer")),
    })
}

/// Where the server keeps its data; `None` if our role may not know.
async fn data_directory(ground: &Ground<'_>) -> Result<Option<String>, tokio_postgres::Error> {
    let sql = "select case when pg_has_role('pg_read_all_settings', 'USAGE') \
                      then (select setting from pg_settings where name = 'data_directory') end";
    Ok(ground.session.client.query_one(sql, &[]).await?.get(0))
}

/// What a command says.
async fn told(command: &str, place: &str) -> Free {
    let run = Command::new("sh")
        .args(["-c", command])
        .env("PGDRAIN_DISK_PATH", place)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = match tokio::time::timeout(PATIENCE, run).await {
        Ok(Ok(output)) => output,
        Ok(Err(error)) => return Free::NotKnown(format!("disk_free_command: {error}")),
        Err(_elapsed) => {
            return Free::NotKnown("disk_free_command did not answer in 10s".to_owned());
        }
    };
    if !output.status.success() {
        return Free::NotKnown(format!("disk_free_command ended with {}", output.status));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    match text.trim().parse() {
        Ok(bytes) => Free::Bytes(bytes),
        Err(_no_number) => {
            let said: String = text.trim().chars().take(40).collect();
            Free::NotKnown(format!(
                "disk_free_command said {said:?}, which is no number"
            ))
        }
    }
}
