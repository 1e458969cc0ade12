//! The command that lets only reads in.

use clap::Args;

use super::arguments::{Asking, LadderArguments, ScopeArguments, operator, words};
use super::control::hold_until_drained;
use super::exit::Exit;
use crate::admin::types::{ModeRequest, ReadOnlyRequest};
use crate::config::{Blocked, HumanDuration, Then};

/// Let only reads in: writes wait or are refused, and the server enforces it
///
/// Ends with 0 when no transaction is left that began before and may write; with 6 when something is in
/// the way, which is named, or when it cannot be proved that nothing is. `open` ends the mode, `hold`
/// takes its place.
#[derive(Args, Debug)]
pub(super) struct ReadOnly {
    /// The database, or '*' for all.
    #[arg(value_name = "DB")]
    database: String,
    /// What happens to transactions that write.
    #[arg(long, value_name = "WHAT", value_parser = words::<Blocked>(Blocked::WORDS))]
    writes: Option<Blocked>,
    /// Its own end, from now, such as 10m.
    #[arg(long = "for", value_name = "TIME")]
    duration: Option<HumanDuration>,
    /// What happens at that end.
    #[arg(long, value_name = "WHAT", value_parser = words::<Then>(Then::WORDS))]
    then: Option<Then>,
    #[command(flatten)]
    scope: ScopeArguments,
    #[command(flatten)]
    ladder: LadderArguments,
    /// Why, for logs and for those who wait.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Be content when the server cannot be asked whether anything older still runs.
    #[arg(long)]
    unproved: bool,
    #[command(flatten)]
    asking: Asking,
}

impl ReadOnly {
    pub(super) async fn run(self) -> anyhow::Result<Exit> {
        if self.ladder.autocommit.is_some() {
            anyhow::bail!("--autocommit is for `hold`: read-only lets reads in from its beginning");
        }
        let request = ModeRequest::ReadOnly(ReadOnlyRequest {
            user: self.scope.user,
            application_name: self.scope.application,
            client: self.scope.client,
            duration: self.duration,
            then: self.then,
            writes: self.writes,
            ladder: self.ladder.ladder,
            wait: self.ladder.wait,
            cancel: self.ladder.cancel,
            stuck: self.ladder.stuck,
            abort: self.ladder.abort,
            terminate: self.ladder.terminate,
            bypass: self.ladder.bypass,
            reason: self.reason,
            by: Some(operator()),
            unproved: self.unproved,
        });
        let (client, format) = (self.asking.client()?, self.asking.format());
        hold_until_drained(&client, format, &self.database, &request).await
    }
}
