//! `pgdrain window`: a window for a command or a person, and commands about windows.

mod exec;
mod holder;
mod person;
mod way;

use clap::{Args, Subcommand};
use hyper::Method;

use super::arguments::{Asking, LadderArguments, operator, words};
use super::client::{Client, ClientError, Patience, path};
use super::describe;
use super::exit::Exit;
use super::watching::Watching;
use crate::admin::types::{
    After, IfBusy, WindowCommand, WindowMode, WindowOrder, WindowView, WindowViews,
};
use crate::config::{AskedCap, Blocked, HumanDuration};

/// Work alone in a database, by any tool: traffic waits meanwhile
///
/// A connection that sets pgdrain.window (in PGOPTIONS, in the options of a URL, or in its
/// application_name) goes through the window, and all others wait. `exec` sets that for a command.
#[derive(Args, Debug)]
pub(super) struct Window {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a command that is alone in the database, and reopen
    ///
    /// Ends with the command's own exit code; with 6 when the window was not granted, and with 2
    /// when it was lost while the command ran, which is ended then.
    Exec(exec::Exec),
    /// Keep a window open for a person, until Ctrl-C or the end of the input
    Hold(person::Hold),
    /// List windows
    List(List),
    /// Renew the lease of a window
    Renew(One),
    /// End a window: its work is done
    Finish(One),
    /// Give a window up: what its connections have not committed is rolled back
    Abort(Abort),
}

impl Window {
    pub(super) async fn run(self) -> anyhow::Result<Exit> {
        match self.command {
            Command::Exec(exec) => exec.run().await,
            Command::Hold(hold) => hold.run().await,
            Command::List(list) => list.show().await,
            Command::Renew(one) => one.command("renew", None).await,
            Command::Finish(one) => one.command("finish", None).await,
            Command::Abort(abort) => abort.one.command("abort", abort.then).await,
        }
    }
}

/// What is asked of a window; what is left out is as configured.
#[derive(Args, Debug)]
pub(super) struct Wanted {
    /// Who waits for the window: everybody, or who writes (CREATE INDEX CONCURRENTLY, a backup).
    #[arg(long, value_name = "MODE", value_parser = words::<WindowMode>(WindowMode::WORDS))]
    mode: Option<WindowMode>,
    /// Let reads go on for so long, while writes wait already, before an exclusive window holds all.
    #[arg(long, value_name = "TIME")]
    read_only_for: Option<HumanDuration>,
    /// The window's own end, from the moment in which traffic is held, such as 5m.
    #[arg(long = "for", value_name = "TIME")]
    duration: Option<HumanDuration>,
    /// How long the window lasts when nobody renews it: for when this command is killed.
    #[arg(long, value_name = "TIME", default_value = "30s")]
    lease: HumanDuration,
    /// What happens to traffic when this command, or the window's time, is lost.
    #[arg(long, value_name = "WHAT", value_parser = words::<After>(After::WORDS))]
    on_lost: Option<After>,
    /// Wait for another window to end, instead of giving up at once.
    #[arg(long)]
    queue: bool,
    /// How many connections may go through the window; any number without it.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    connections: Option<u32>,
    /// What happens to transactions that may not start.
    #[arg(long, value_name = "WHAT", value_parser = words::<Blocked>(Blocked::WORDS))]
    blocked: Option<Blocked>,
    /// Cap transactions at once before and after: a number, or a part such as 50% of the most that
    /// were seen at once in the last minute.
    #[arg(long, value_name = "CAP")]
    cap: Option<AskedCap>,
    /// How long before traffic is held; 30s without it.
    #[arg(long, value_name = "TIME", requires = "cap")]
    cap_before: Option<HumanDuration>,
    /// How long after it flows again; 30s without it.
    #[arg(long, value_name = "TIME", requires = "cap")]
    cap_after: Option<HumanDuration>,
    #[command(flatten)]
    ladder: LadderArguments,
    /// Let the server keep new sessions out meanwhile (CONNECTION LIMIT 0); superusers get in all the
    /// same.
    #[arg(long)]
    fence: bool,
    /// Why, for logs and for those who wait.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Be content when the server cannot be asked whether anything still runs.
    #[arg(long)]
    unproved: bool,
}

impl Wanted {
    fn order(&self) -> WindowOrder {
        WindowOrder {
            mode: self.mode,
            read_only_for: self.read_only_for,
            duration: self.duration,
            lease: Some(self.lease),
            on_lost: self.on_lost,
            if_busy: self.queue.then_some(IfBusy::Queue),
            connections: self.connections,
            blocked: self.blocked,
            ladder: self.ladder.ladder,
            autocommit: self.ladder.autocommit,
            wait: self.ladder.wait,
            cancel: self.ladder.cancel,
            abort: self.ladder.abort,
            bypass: self.ladder.bypass,
            fence: self.fence.then_some(true),
            stuck: self.ladder.stuck,
            terminate: self.ladder.terminate,
            cap: self.cap,
            cap_before: self.cap_before,
            cap_after: self.cap_after,
            reason: self.reason.clone(),
            by: Some(operator()),
            unproved: self.unproved,
            // So that an answer that is lost on its way does not leave a window behind.
            idempotency_key: Some(format!("{:032x}", rand::random::<u128>())),
        }
    }
}

#[derive(Args, Debug)]
struct List {
    /// The database; all of them without it.
    #[arg(value_name = "DB", default_value = "*")]
    database: String,
    #[command(flatten)]
    watching: Watching,
    #[command(flatten)]
    asking: Asking,
}

impl List {
    async fn show(self) -> anyhow::Result<Exit> {
        let path = path(&["v1", "databases", &self.database, "windows"]);
        let text = |windows: &WindowViews| describe::windows(windows);
        let ask = async |client: &Client| client.get(&path).await;
        self.watching.show(&self.asking, ask, text).await
    }
}

#[derive(Args, Debug)]
struct Abort {
    #[command(flatten)]
    one: One,
    /// What happens to traffic; without it, what was agreed for a lost holder.
    #[arg(long, value_name = "WHAT", value_parser = words::<After>(After::WORDS))]
    then: Option<After>,
}

#[derive(Args, Debug)]
struct One {
    /// The window, as `pgdrain window list` shows it.
    #[arg(value_name = "WINDOW")]
    id: String,
    /// Its term; without it, the one it has now.
    #[arg(long, value_name = "N")]
    term: Option<u64>,
    #[command(flatten)]
    asking: Asking,
}

impl One {
    async fn command(self, verb: &str, then: Option<After>) -> anyhow::Result<Exit> {
        let client = self.asking.client()?;
        let term = match self.term {
            Some(term) => term,
            None => view(&client, &self.id).await?.term,
        };
        let done = command(&client, &self.id, verb, (term, then)).await?;
        self.asking.format().print(&done, describe::window)?;
        Ok(Exit::SUCCESS)
    }
}

async fn view(client: &Client, id: &str) -> Result<WindowView, ClientError> {
    client.get(&path(&["v1", "windows", id])).await
}

async fn command(
    client: &Client,
    id: &str,
    verb: &str,
    (term, then): (u64, Option<After>),
) -> Result<WindowView, ClientError> {
    let body = WindowCommand {
        term,
        then,
        by: Some(operator()),
    };
    let path = path(&["v1", "windows", id, verb]);
    client
        .send(Method::POST, &path, &body, Patience::Short)
        .await
}
