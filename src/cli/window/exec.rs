//! `pgdrain window exec`: a command that is alone in its database for as long as it runs.

use std::ffi::OsString;
use std::io::IsTerminal;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;

use anyhow::{Context, anyhow};
use clap::Args;
use tokio::process::Child;
use tokio::time::timeout;

use super::Wanted;
use super::holder::{Holder, NoWindow, Signals, listen};
use super::way::{By, Place, Way};
use crate::admin::types::After;
use crate::cli::arguments::{Asking, words};
use crate::cli::client::Client;
use crate::cli::demo::cluster::process::{self, Signal};
use crate::cli::exit::Exit;
use crate::cli::output::note;

/// How long a command whose window is lost may take to end by itself.
const END_TIME: Duration = Duration::from_secs(10);

#[derive(Args, Debug)]
pub(super) struct Exec {
    /// The database.
    #[arg(value_name = "DB")]
    database: String,
    #[command(flatten)]
    wanted: Wanted,
    #[command(flatten)]
    leading: Leading,
    /// What happens to traffic when the command ends with another exit code than 0.
    #[arg(long, value_name = "WHAT", default_value = "reopen", value_parser = words::<After>(After::WORDS))]
    on_failure: After,
    #[command(flatten)]
    asking: Asking,
    /// The command, behind `--`.
    #[arg(value_name = "COMMAND", required = true, last = true)]
    command: Vec<OsString>,
}

/// How a connection is led through the window.
#[derive(Args, Debug)]
pub(super) struct Leading {
    /// Where in the start of a connection the key stands.
    #[arg(long, value_name = "WHERE", default_value = "options")]
    by: By,
    /// Where pgdrain takes clients, as HOST:PORT; without it, the first place it listens at.
    #[arg(long, value_name = "PLACE")]
    connect: Option<String>,
    /// A connection string whose user, password and settings DATABASE_URL keeps; without it, the
    /// DATABASE_URL that is set.
    #[arg(
        long,
        value_name = "URL",
        env = "PGDRAIN_WINDOW_URL",
        hide_env_values = true
    )]
    url: Option<String>,
    /// The user, where no connection string names one; without it, PGUSER.
    #[arg(long, value_name = "USER")]
    user: Option<String>,
}

impl Leading {
    /// Opens the window that is wanted; with the way through it, and with the signals that end it, which are
    /// heard from before traffic is held.
    pub(super) async fn open(
        self,
        client: Client,
        database: String,
        wanted: &Wanted,
    ) -> anyhow::Result<Result<(Holder, Way, Signals), NoWindow>> {
        let place = self.place(&client).await?;
        let mut signals = Signals::install()?;
        let opened = Holder::open(client, &database, wanted, &mut signals).await?;
        Ok(opened.map(|holder| {
            let way = self.way(place, database, holder.key.clone());
            (holder, way, signals)
        }))
    }

    /// Where the proxy of this window takes clients: found before traffic is held.
    async fn place(&self, client: &Client) -> anyhow::Result<Place> {
        if let Some(place) = &self.connect {
            return Place::parse(place).ok_or_else(|| anyhow!("\"{place}\" is not HOST:PORT"));
        }
        let places = listen(client).await?;
        let mut places = places.iter().filter_map(|place| Place::parse(place));
        places
            .next()
            .context("pgdrain does not say where it takes clients; say it with --connect")
    }

    /// The way through this window.
    fn way(self, place: Place, database: String, key: String) -> Way {
        Way {
            place,
            database,
            key,
            by: self.by,
            url: self.url,
            user: self.user,
        }
    }
}

/// How a command came to its end.
enum Ended {
    ByItself(ExitStatus),
    /// The window was lost for this reason.
    Lost(String),
}

impl Exec {
    pub(super) async fn run(self) -> anyhow::Result<Exit> {
        let client = self.asking.client()?;
        let opened = self.leading.open(client, self.database, &self.wanted);
        let (holder, way, mut signals) = match opened.await? {
            Ok(opened) => opened,
            Err(none) => return Ok(none.exit()),
        };
        let mut child = holder.unless_failed(start(&self.command, &way)).await?;
        match accompany(&mut child, &holder, &mut signals).await? {
            Ended::ByItself(status) if status.success() => match holder.end("finish", None).await {
                true => Ok(Exit::SUCCESS),
                // Its connections may have been ended before it was done.
                false => Ok(Exit::MIGRATION),
            },
            Ended::ByItself(status) => {
                holder.end("abort", Some(self.on_failure)).await;
                Ok(code(status))
            }
            Ended::Lost(why) => {
                note(&format!(
                    "error: the window was lost, and the command ended: {why}"
                ));
                Ok(Exit::MIGRATION)
            }
        }
    }
}

/// Starts the command; the key is in its environment alone, where other users cannot see it.
fn start(command: &[OsString], way: &Way) -> anyhow::Result<Child> {
    let (program, arguments) = command.split_first().context("no command")?;
    let mut starting = tokio::process::Command::new(program);
    starting.args(arguments).kill_on_drop(true);
    for (name, value) in way.environment(|name| std::env::var(name).ok()) {
        match value {
            Some(value) => starting.env(name, value),
            None => starting.env_remove(name),
        };
    }
    let named = program.display();
    starting
        .spawn()
        .with_context(|| format!("{named} cannot be started"))
}

/// Waits for the end of the command, passes signals on to it, and ends it when the window is lost.
async fn accompany(
    child: &mut Child,
    holder: &Holder,
    signals: &mut Signals,
) -> anyhow::Result<Ended> {
    let mut lost = Box::pin(holder.lost());
    // A terminal has told every process in front of it.
    let told_by_terminal = std::io::stdin().is_terminal();
    loop {
        let pid = child.id();
        tokio::select! {
            status = child.wait() => return Ok(Ended::ByItself(status?)),
            signal = signals.next() => {
                if signal != Signal::Interrupt || !told_by_terminal {
                    pass_on(signal, pid);
                }
            }
            why = &mut lost => {
                pass_on(Signal::Terminate, pid);
                if timeout(END_TIME, child.wait()).await.is_err() {
                    child.kill().await?;
                }
                return Ok(Ended::Lost(why));
            }
        }
    }
}

fn pass_on(signal: Signal, pid: Option<u32>) {
    // Without a number it has ended, and its number may be another's.
    if let Some(pid) = pid
        && let Err(error) = process::send(signal, &[pid])
    {
        note(&format!(
            "error: the command could not be sent a signal: {error}"
        ));
    }
}

/// As a shell counts it: its own code, or 128 and the signal that ended it.
fn code(status: ExitStatus) -> Exit {
    let code = status
        .code()
        .unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
    Exit(u8::try_from(code).unwrap_or(u8::MAX))
}
