//! The commands that look and steer: status, hold, open.

use std::path::PathBuf;

use clap::Args;
use hyper::Method;

use super::advice;
use super::arguments::{Asking, LadderArguments, ScopeArguments, operator, words};
use super::break_glass;
use super::client::{Client, ClientError, Patience, path};
use super::colour;
use super::describe;
use super::exit::Exit;
use super::output::{Format, note};
use super::pace::{self, Paced};
use super::watching::Watching;
use crate::admin::types::{
    self, ErrorBody, HoldRequest, ModeName, ModeRequest, ModeResults, OpenRequest,
};
use crate::config::{Blocked, HumanDuration, Then};
use crate::wire::refusal::Sqlstate;

/// Show every database: its mode, its sessions, who waits and why
#[derive(Args, Debug)]
pub(super) struct Status {
    /// Show the last minutes of every database too: how much ran, how long, who waited.
    #[arg(long)]
    pace: bool,
    #[command(flatten)]
    watching: Watching,
    #[command(flatten)]
    asking: Asking,
}

impl Status {
    pub(super) async fn run(self) -> anyhow::Result<Exit> {
        if self.pace {
            let text =
                |paced: &Paced| colour::column(&pace::described(paced), "mode", colour::of_state);
            let ask = async |client: &Client| Paced::ask(client).await;
            return self.watching.show(&self.asking, ask, text).await;
        }
        let text = |status: &types::Status| {
            colour::column(&describe::status(status), "mode", colour::of_state)
        };
        let ask = async |client: &Client| client.get(&path(&["v1", "status"])).await;
        self.watching.show(&self.asking, ask, text).await
    }
}

/// Hold a database and wait until nothing runs in it
///
/// Clients wait at the start of their next transaction and notice nothing but a pause. Ends with 0
/// when the database is drained; with 6 when something is in the way, which is named, or when it
/// cannot be proved that nothing is: then traffic flows again. What is not said here is as configured
/// (`pgdrain config show hold`). `pgdrain open DB` ends it.
#[derive(Args, Debug)]
pub(super) struct Hold {
    /// The database, or '*' for all.
    #[arg(value_name = "DB")]
    database: String,
    /// The hold's own end, from now, such as 5m.
    #[arg(long = "for", value_name = "TIME")]
    duration: Option<HumanDuration>,
    /// What happens at that end.
    #[arg(long, value_name = "WHAT", value_parser = words::<Then>(Then::WORDS))]
    then: Option<Then>,
    /// What happens to transactions that may not start.
    #[arg(long, value_name = "WHAT", value_parser = words::<Blocked>(Blocked::WORDS))]
    blocked: Option<Blocked>,
    /// The SQLSTATE that rejected transactions are told.
    #[arg(long, value_name = "CODE")]
    sqlstate: Option<Sqlstate>,
    #[command(flatten)]
    scope: ScopeArguments,
    #[command(flatten)]
    ladder: LadderArguments,
    /// Why, for logs and for those who wait.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Let the server keep new sessions out meanwhile (CONNECTION LIMIT 0); superusers get in all the
    /// same.
    #[arg(long)]
    fence: bool,
    /// Be content when the server cannot be asked whether anything still runs.
    #[arg(long)]
    unproved: bool,
    #[command(flatten)]
    asking: Asking,
}

impl Hold {
    pub(super) async fn run(self) -> anyhow::Result<Exit> {
        let client = self.asking.client()?;
        let request = ModeRequest::Hold(HoldRequest {
            user: self.scope.user,
            application_name: self.scope.application,
            client: self.scope.client,
            sqlstate: self.sqlstate,
            duration: self.duration,
            then: self.then,
            blocked: self.blocked,
            ladder: self.ladder.ladder,
            autocommit: self.ladder.autocommit,
            wait: self.ladder.wait,
            cancel: self.ladder.cancel,
            stuck: self.ladder.stuck,
            abort: self.ladder.abort,
            terminate: self.ladder.terminate,
            bypass: self.ladder.bypass,
            fence: self.fence.then_some(true),
            reason: self.reason,
            by: Some(operator()),
            unproved: self.unproved,
        });
        hold_until_drained(&client, self.asking.format(), &self.database, &request).await
    }
}

/// Asks for a hold of whatever kind, waits for the end of its drain, and shows what came of it.
pub(super) async fn hold_until_drained(
    client: &Client,
    format: Format,
    database: &str,
    request: &ModeRequest,
) -> anyhow::Result<Exit> {
    let path = mode_path(database) + "?wait=drained";
    let answer = tokio::select! {
        answer = set_mode(client, &path, request, Patience::Endless) => answer,
        _ = tokio::signal::ctrl_c() => {
            note(&format!(
                "the hold goes on; `pgdrain open '{database}'` ends it, `pgdrain status` shows it"
            ));
            return Ok(Exit::INTERRUPTED);
        }
    };
    match answer {
        Ok(results) => {
            format.print(&results, |results| describe::results(&results.results))?;
            Ok(Exit::SUCCESS)
        }
        Err(ClientError::Refused { body, .. }) if !body.results.is_empty() => {
            format.print(&body, not_drained)?;
            if format == Format::Text {
                note(&format!("next: {}", advice::in_the_way(database)));
            }
            Ok(Exit::NOT_GRANTED)
        }
        Err(error) => Err(error.into()),
    }
}

fn not_drained(body: &ErrorBody) -> String {
    let results = describe::results(&body.results);
    format!("{}\n{results}", body.error.message)
}

/// Let transactions start again; who waits goes on
///
/// Ends with 6 when a window works behind the hold or somebody else holds too, and with 0 when the
/// database is open.
#[derive(Args, Debug)]
pub(super) struct Open {
    /// The database, or '*' for all.
    #[arg(value_name = "DB")]
    database: String,
    #[command(flatten)]
    scope: ScopeArguments,
    /// Open even against a maintenance window, and when disk or control connection is broken.
    #[arg(long)]
    force: bool,
    /// With '*' and --force, when the admin HTTP does not answer: the state directory of the
    /// pgdrain that is sent the signal to open (SIGUSR2).
    #[arg(long, value_name = "DIR", requires = "force")]
    state_dir: Option<PathBuf>,
    /// Why, for logs.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    #[command(flatten)]
    asking: Asking,
}

impl Open {
    pub(super) async fn run(self) -> anyhow::Result<Exit> {
        let request = ModeRequest::Open(OpenRequest {
            user: self.scope.user,
            application_name: self.scope.application,
            client: self.scope.client,
            force: self.force,
            reason: self.reason,
            by: Some(operator()),
        });
        let client = self.asking.client()?;
        let path = mode_path(&self.database);
        let results = match set_mode(&client, &path, &request, Patience::Short).await {
            Ok(results) => results,
            Err(error) if self.force && self.database == "*" && error.is_no_answer() => {
                note(&format!("{error}"));
                return break_glass::open(self.state_dir.as_deref()).await;
            }
            Err(ClientError::Refused { body, .. }) if body.error.code == "held" => {
                match self.asking.format() {
                    Format::Text => note(&body.error.message),
                    json @ Format::Json => json.print(&body, |_| String::new())?,
                }
                return Ok(Exit::NOT_GRANTED);
            }
            Err(error) => return Err(error.into()),
        };
        self.asking
            .format()
            .print(&results, |results| describe::results(&results.results))?;
        match results
            .results
            .iter()
            .find(|result| result.mode != ModeName::Open)
        {
            Some(held) => {
                note(&format!(
                    "{} is still held by somebody else; `pgdrain status` shows by whom",
                    held.database
                ));
                Ok(Exit::NOT_GRANTED)
            }
            None => Ok(Exit::SUCCESS),
        }
    }
}

fn mode_path(database: &str) -> String {
    path(&["v1", "databases", database, "mode"])
}

async fn set_mode(
    client: &Client,
    path: &str,
    request: &ModeRequest,
    patience: Patience,
) -> Result<ModeResults, ClientError> {
    client.send(Method::PUT, path, request, patience).await
}
