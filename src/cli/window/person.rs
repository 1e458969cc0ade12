//! `pgdrain window hold`: a window that a person works in, by whatever connects.

use std::fs::{self, OpenOptions};
use std::io::{IsTerminal, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Args;
use tokio::sync::oneshot;

use super::Wanted;
use super::exec::Leading;
use super::holder::Signals;
use super::way::Way;
use crate::cli::arguments::Asking;
use crate::cli::exit::Exit;
use crate::cli::output::{self, millis, note};

#[derive(Args, Debug)]
pub(super) struct Hold {
    /// The database.
    #[arg(value_name = "DB")]
    database: String,
    #[command(flatten)]
    wanted: Wanted,
    #[command(flatten)]
    leading: Leading,
    /// Write how to connect to this new file, which nobody else can read and which is removed at
    /// the end; needed where the output is no terminal.
    #[arg(long, value_name = "FILE")]
    to: Option<PathBuf>,
    #[command(flatten)]
    asking: Asking,
}

/// A file with the key, removed when it is dropped.
struct KeyFile(PathBuf);

impl Drop for KeyFile {
    fn drop(&mut self) {
        // The key in it is worth nothing by now.
        let _ = fs::remove_file(&self.0);
    }
}

impl Hold {
    pub(super) async fn run(self) -> anyhow::Result<Exit> {
        if self.to.is_none() && !std::io::stdout().is_terminal() {
            bail!("the key would be written to what is no terminal: write it to a file, --to FILE");
        }
        let client = self.asking.client()?;
        let opened = self.leading.open(client, self.database, &self.wanted);
        let (holder, way, mut signals) = match opened.await? {
            Ok(opened) => opened,
            Err(none) => return Ok(none.exit()),
        };
        let shown = show(&way, self.to.as_deref());
        let _file = holder.unless_failed(shown).await?;
        let left = holder
            .view
            .left_ms
            .map_or_else(String::new, |left| format!(" for {} at most", millis(left)));
        note(&format!(
            "window {} is yours{left}; Ctrl-C or the end of the input finishes it",
            holder.view.id
        ));
        tokio::select! {
            why = holder.lost() => {
                note(&format!("error: the window was lost: {why}"));
                Ok(Exit::MIGRATION)
            }
            () = ended(&mut signals) => match holder.end("finish", None).await {
                true => Ok(Exit::SUCCESS),
                false => Ok(Exit::MIGRATION),
            },
        }
    }
}

/// The lines that a shell reads: `. FILE`, or pasted.
fn show(way: &Way, to: Option<&Path>) -> anyhow::Result<Option<KeyFile>> {
    let set = way.environment(|name| std::env::var(name).ok());
    let lines = set.iter().map(|(name, value)| match value {
        Some(value) => format!("export {name}={}\n", quoted(value)),
        None => format!("unset {name}\n"),
    });
    let lines: String = lines.collect();
    let Some(path) = to else {
        output::line(&lines)?;
        return Ok(None);
    };
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| file.write_all(lines.as_bytes()));
    written.with_context(|| format!("{} cannot be written", path.display()))?;
    Ok(Some(KeyFile(path.to_owned())))
}

/// For a shell, whatever is in it.
fn quoted(value: &str) -> String {
    format!("'{}'", value.replace('\'', r"'\''"))
}

/// Waits for a signal or the end of standard input.
async fn ended(signals: &mut Signals) {
    let (input_ends, told) = oneshot::channel::<()>();
    // A thread that nobody waits for: reading a terminal cannot be given up.
    std::thread::spawn(move || {
        // An error is an end too.
        let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
        drop(input_ends);
    });
    tokio::select! {
        _ended = told => {}
        _signal = signals.next() => {}
    }
}
