//! `pgdrain sessions`: who is connected, and what is done about one of them.

use clap::{Args, Subcommand};
use hyper::Method;

use super::arguments::{Asking, operator, words};
use super::client::{Client, ClientError, Patience, path};
use super::colour;
use super::describe::pid;
use super::exit::Exit;
use super::output::{Format, millis_or_dash, note, plain, table};
use super::running::{self, Running};
use super::watching::Watching;
use crate::admin::types::{
    self, Action, ActionRequest, ClientAt, Effect, SessionActed, SessionSort, SessionState,
    SessionView,
};
use crate::config::HumanDuration;

/// What one answer brings at most.
const PAGE_MAX: usize = 1000;

/// List the sessions of a database, or end what one of them does
#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct Sessions {
    /// The database, or '*' for all, which is also what no name means.
    #[arg(value_name = "DB", default_value = "*")]
    database: String,
    #[command(flatten)]
    filter: Filter,
    /// Show what those in a transaction run, the oldest first, and what it waits for.
    #[arg(long)]
    running: bool,
    #[command(flatten)]
    watching: Watching,
    #[command(flatten)]
    asking: Asking,
    #[command(subcommand)]
    act: Option<Act>,
}

/// Which of them are shown, and in what order; all that is given has to fit.
#[derive(Args, Debug)]
struct Filter {
    /// Only those that do this.
    #[arg(long, value_name = "STATE", value_parser = words::<SessionState>(SessionState::WORDS))]
    state: Option<SessionState>,
    /// Only those of this user.
    #[arg(long, value_name = "USER")]
    user: Option<String>,
    /// Only those that gave this application_name.
    #[arg(long, value_name = "NAME")]
    application: Option<String>,
    /// Only clients at this address, in this network (10.0.0.0/8), or on the Unix socket (unix).
    #[arg(long, value_name = "WHERE")]
    address: Option<ClientAt>,
    /// Only those whose transaction has run, or that have waited at the gate, for longer, such as 5s.
    #[arg(long, value_name = "TIME")]
    longer_than: Option<HumanDuration>,
    /// The order: by number, or the oldest transaction, the longest wait, the most traffic first.
    #[arg(long, value_name = "BY", value_parser = words::<SessionSort>(SessionSort::WORDS))]
    sort: Option<SessionSort>,
    /// Show so many at most; all if that is not said.
    #[arg(long, value_name = "NUMBER")]
    limit: Option<usize>,
}

/// What may be done to one session.
#[derive(Subcommand, Debug)]
enum Act {
    /// Cancel the statement that a session runs or waits with; its connection stays
    ///
    /// The client gets the error 57014. A statement that waited at the gate was not executed; one that
    /// ran is undone, and a transaction block around it has failed.
    Cancel(One),
    /// End a session; its client has to connect again
    ///
    /// The client gets the error 57P01 and is disconnected; what it had not committed is undone.
    Terminate(One),
    /// Abort the transaction that a session sits idle in; its connection stays
    ///
    /// Locks and snapshot are gone at once. The client gets the error 40001 at its next statement,
    /// which says that nothing was committed and that the whole transaction may be run again.
    Abort(One),
}

/// Which session, and why.
#[derive(Args, Debug)]
struct One {
    /// The session's number: the first column of `pgdrain sessions`.
    #[arg(value_name = "ID")]
    id: u64,
    /// Why, for the audit.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    #[command(flatten)]
    asking: Asking,
}

impl Sessions {
    pub(super) async fn run(self) -> anyhow::Result<Exit> {
        match self.act {
            Some(Act::Cancel(one)) => one.act(Action::Cancel).await,
            Some(Act::Terminate(one)) => one.act(Action::Terminate).await,
            Some(Act::Abort(one)) => one.act(Action::Abort).await,
            None if self.running => {
                let ask = async |client: &Client| {
                    let found = self.filter.ask(client, &self.database).await?;
                    Running::ask(client, found.sessions).await
                };
                let text = |ran: &Running| running::described(ran);
                self.watching.show(&self.asking, ask, text).await
            }
            None => {
                let ask = async |client: &Client| self.filter.ask(client, &self.database).await;
                let text = |sessions: &types::Sessions| {
                    colour::column(&described(sessions), "state", colour::of_state)
                };
                self.watching.show(&self.asking, ask, text).await
            }
        }
    }
}

impl Filter {
    /// All that fit, page by page, up to the limit.
    async fn ask(&self, client: &Client, database: &str) -> Result<types::Sessions, ClientError> {
        let path = path(&["v1", "databases", database, "sessions"]);
        let wanted = self.limit.unwrap_or(usize::MAX);
        let mut all: Option<types::Sessions> = None;
        loop {
            let (found, cursor) = match &all {
                Some(all) => (all.sessions.len(), all.next.as_deref()),
                None => (0, None),
            };
            let query = self.query((wanted - found).clamp(1, PAGE_MAX), cursor);
            let page: types::Sessions = client.get(&format!("{path}?{query}")).await?;
            let all = match &mut all {
                Some(all) => {
                    all.sessions.extend(page.sessions);
                    all.next = page.next;
                    all
                }
                none @ None => none.insert(page),
            };
            if all.next.is_none() || all.sessions.len() >= wanted {
                return Ok(all.clone());
            }
        }
    }

    fn query(&self, limit: usize, cursor: Option<&str>) -> String {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        let text = |it: Option<&str>| it.map(str::to_owned);
        for (key, value) in [
            ("state", text(self.state.map(SessionState::as_str))),
            ("user", self.user.clone()),
            ("application", self.application.clone()),
            ("address", self.address.map(|it| it.to_string())),
            ("longer_than", self.longer_than.map(|it| it.to_string())),
            ("sort", text(self.sort.map(SessionSort::as_str))),
            ("limit", Some(limit.to_string())),
            ("cursor", text(cursor)),
        ] {
            if let Some(value) = value {
                query.append_pair(key, &value);
            }
        }
        query.finish()
    }
}

impl One {
    async fn act(self, action: Action) -> anyhow::Result<Exit> {
        let request = ActionRequest {
            reason: self.reason,
            by: Some(operator()),
        };
        let path = path(&["v1", "sessions", &self.id.to_string(), action.as_str()]);
        let client = self.asking.client()?;
        let answer = client.send(Method::POST, &path, &request, Patience::Short);
        let acted: SessionActed = match answer.await {
            Ok(acted) => acted,
            Err(ClientError::Refused { status, body }) if status.is_client_error() => {
                match self.asking.format() {
                    Format::Text => note(&body.error.message),
                    json @ Format::Json => json.print(&body, |_| String::new())?,
                }
                return Ok(Exit::NOT_GRANTED);
            }
            Err(error) => return Err(error.into()),
        };
        self.asking.format().print(&acted, done)?;
        Ok(match acted.effect {
            Effect::Asked => Exit::NOT_GRANTED,
            Effect::Cancelled | Effect::Terminated | Effect::Aborted => Exit::SUCCESS,
        })
    }
}

/// What was done, and what the client gets.
fn done(acted: &SessionActed) -> String {
    let who = format!(
        "session {} ({} {}, {})",
        acted.id,
        plain(&acted.user),
        plain(&acted.application_name),
        plain(&acted.client)
    );
    let what = match acted.effect {
        Effect::Asked => format!("{} was asked for and goes on", acted.action),
        Effect::Cancelled | Effect::Terminated | Effect::Aborted => acted.effect.to_string(),
    };
    let client_sees = plain(&acted.client_sees);
    format!("{who}: {what}\nthe client gets {client_sees}")
}

fn described(sessions: &types::Sessions) -> String {
    if sessions.sessions.is_empty() {
        return "no sessions".to_owned();
    }
    let row = |session: &SessionView| {
        [
            session.id.to_string(),
            pid(session.pid),
            session.user.clone(),
            session.application_name.clone(),
            session.client.clone(),
            match session.replication {
                Some(kind) => format!("{}, {kind}", session.state),
                None => session.state.to_string(),
            },
            millis_or_dash(session.held_ms.or(session.transaction_age_ms)),
            session.transactions.to_string(),
        ]
    };
    let header = [
        "id",
        "pid",
        "user",
        "application",
        "client",
        "state",
        "for",
        "tx",
    ];
    let mut text = table(header, sessions.sessions.iter().map(row));
    let shown = sessions.sessions.len() as u64;
    if sessions.total > shown {
        text += &format!("\n\n{shown} of {} sessions", sessions.total);
    }
    text
}
