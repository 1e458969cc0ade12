//! What `pgdrain top` can ask for, and what it says before it does: what clients will see.

use hyper::Method;

use super::view::View;
use crate::admin::types::{
    self, ActionRequest, CancelRequest, Cancelling, CapRequest, CapResult, DatabaseStatus,
    DrainOutcome, DrainRequest, HoldRequest, HoldStatus, Holder, ModeName, ModeRequest,
    ModeResults, OpenRequest, ReadOnlyRequest, SessionActed, WindowCommand, WindowView,
};
use crate::cli::arguments::operator;
use crate::cli::client::{Client, ClientError, Patience, path};
use crate::cli::output::millis_or_dash;
use crate::config::{AskedCap, Preset};

/// What is done to a database, or to one thing in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Hold,
    ReadOnly,
    Open,
    /// Open against a window too.
    OpenByForce,
    /// How far the drain under way goes.
    Ladder(Preset),
    /// A cap of this many, or none.
    Cap(AskedCap),
    /// The window ends, its work given up.
    AbortWindow {
        id: String,
        term: u64,
    },
    /// The migration stops.
    CancelMigration(String),
    /// Something is done to one session.
    Session(u64, types::Action),
}

/// An action on a database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Order {
    pub(super) database: String,
    pub(super) action: Action,
}

/// Half of what was usual: who wants another number says it by `pgdrain cap`.
const HALF: AskedCap = AskedCap::Percent(50);

impl Action {
    /// The action of a key, or why there is none as things are.
    pub(super) fn of_key(letter: char, view: &View) -> Option<Result<Self, String>> {
        if !"hroOgftcwm".contains(letter) {
            return None;
        }
        let Some(database) = view.current() else {
            return Some(Err("no database is chosen".to_owned()));
        };
        let name = &database.database;
        Some(match letter {
            'h' => Ok(Self::Hold),
            'r' => Ok(Self::ReadOnly),
            'o' => Ok(Self::Open),
            'O' => Ok(Self::OpenByForce),
            'g' => Ok(Self::Ladder(Preset::Gentle)),
            'f' => Ok(Self::Ladder(Preset::Firm)),
            't' => Ok(Self::Ladder(Preset::Force)),
            'c' => Ok(Self::Cap(match database.cap {
                None => HALF,
                Some(_) => AskedCap::Off,
            })),
            'w' => match view.window() {
                Some(window) => Ok(Self::AbortWindow {
                    id: window.id.clone(),
                    term: window.term,
                }),
                None => Err(format!("there is no window in {name}")),
            },
            'm' => match &database.migration {
                Some(id) => Ok(Self::CancelMigration(id.clone())),
                None => Err(format!("no migration runs in {name}")),
            },
            _ => return None,
        })
    }

    /// What a key does to the session that is marked.
    pub(super) fn of_session(letter: char, session: u64) -> Option<Self> {
        let action = match letter {
            'c' => types::Action::Cancel,
            'a' => types::Action::Abort,
            'x' => types::Action::Terminate,
            _ => return None,
        };
        Some(Self::Session(session, action))
    }

    /// Why it makes no sense as things are.
    pub(super) fn objection(&self, database: &DatabaseStatus) -> Option<String> {
        let name = &database.database;
        let is_open = database.holds.is_empty() && database.mode == ModeName::Open;
        match self {
            Self::Open | Self::OpenByForce if is_open => Some(format!("{name} is open")),
            Self::Ladder(_) if draining(database).is_none() => {
                Some(format!("no drain is under way in {name}: hold it first"))
            }
            Self::Hold
            | Self::ReadOnly
            | Self::Open
            | Self::OpenByForce
            | Self::Ladder(_)
            | Self::Cap(_)
            | Self::AbortWindow { .. }
            | Self::CancelMigration(_)
            | Self::Session(..) => None,
        }
    }
}

/// The hold whose drain goes on.
pub(super) fn draining(database: &DatabaseStatus) -> Option<&HoldStatus> {
    let goes_on = |hold: &&HoldStatus| {
        let drain = hold.drain.as_ref();
        drain.is_some_and(|drain| drain.outcome == DrainOutcome::Draining)
    };
    database.holds.iter().find(goes_on)
}

impl Order {
    /// What it is called.
    pub(super) fn name(&self) -> String {
        let what = match &self.action {
            Action::Hold => "hold",
            Action::ReadOnly => "read-only",
            Action::Open => "open",
            Action::OpenByForce => "open by force",
            Action::Ladder(Preset::Gentle) => "gentle",
            Action::Ladder(Preset::Firm) => "firm",
            Action::Ladder(Preset::Force) => "force",
            Action::Cap(AskedCap::Off) => "no cap on",
            Action::Cap(_) => "cap",
            Action::AbortWindow { id, .. } => return format!("abort window {id}"),
            Action::CancelMigration(id) => return format!("cancel migration {id}"),
            Action::Session(id, action) => return format!("{action} session {id}"),
        };
        format!("{what} {}", self.database)
    }

    /// What clients will see of it, as things are.
    pub(super) fn consequence(&self, database: &DatabaseStatus) -> String {
        let in_the_way = draining(database)
            .and_then(|hold| hold.drain.as_ref())
            .map_or(0, |drain| drain.in_the_way.len());
        match &self.action {
            Action::Hold => format!(
                "{} transactions that run may end; who begins one waits, up to the deadline of \
                 its client (hold.client_deadline, then 55P03). It ends by itself after hold.for.",
                database.permits
            ),
            Action::ReadOnly => "Reads go on; who writes waits, or gets 25006 where \
                                 read_only.writes is reject. It ends by itself after read_only.for."
                .to_owned(),
            Action::Open if database.holds.iter().any(|it| it.holder == Holder::Window) => format!(
                "A window holds it: pgdrain will refuse, and leave {} clients waiting. End the \
                 window first (w), or open by force (O).",
                database.held
            ),
            Action::Open => format!(
                "{} clients that wait ({} the longest) go on, oldest first.",
                database.held,
                millis_or_dash(database.oldest_wait_ms)
            ),
            Action::OpenByForce => format!(
                "{} clients that wait go on, whoever holds it. A window ends too: what works in it is \
                 cancelled, and terminated after 2s.",
                database.held
            ),
            Action::Cap(AskedCap::Off) => {
                "As many transactions may run at once as come; who waits goes on.".to_owned()
            }
            Action::Cap(_) => "Half as many transactions may run at once as ran in the last minute; \
                               more wait in the queue. It ends by itself after hold.for."
                .to_owned(),
            Action::AbortWindow { .. } => format!(
                "What works in it is cancelled, and terminated after 2s. Then traffic flows or stays \
                 held, as was agreed for a lost holder; {} clients wait.",
                database.held
            ),
            Action::CancelMigration(_) => {
                "Its statement is cancelled, and what can be is rolled back; then traffic flows, or \
                 stays held where that cannot be."
                    .to_owned()
            }
            Action::Session(_, types::Action::Cancel) => {
                "57014: what it runs or waits with is cancelled; its connection stays.".to_owned()
            }
            Action::Session(_, types::Action::Abort) => {
                "40001 at its next statement: nothing of its transaction is committed, and it may be \
                 run again; its connection stays."
                    .to_owned()
            }
            Action::Session(_, types::Action::Terminate) => {
                "57P01: its connection is closed, and what was not committed is undone.".to_owned()
            }
            Action::Ladder(Preset::Gentle) => format!(
                "{in_the_way} sessions in the way are waited for, and nothing more is done to them."
            ),
            Action::Ladder(Preset::Firm) => format!(
                "{in_the_way} sessions in the way: their statements are cancelled (57014), idle \
                 transactions aborted (40001, to be run again). Connections live."
            ),
            Action::Ladder(Preset::Force) => format!(
                "{in_the_way} sessions in the way: as firm, and who is left then is terminated: \
                 57P01, the connection ends."
            ),
        }
    }

    /// Asks pgdrain for it, and gives what came of it as a sentence. It is not waited for a drain:
    /// the screen shows how that goes.
    pub(super) async fn carry_out(self, client: &Client) -> String {
        match self.ask(client).await {
            Ok(said) => format!("{}: {said}", self.name()),
            Err(error) => format!("{}: {error}", self.name()),
        }
    }

    async fn ask(&self, client: &Client) -> Result<String, ClientError> {
        let by = Some(operator());
        let force = self.action == Action::OpenByForce;
        let mode = match &self.action {
            Action::Hold => ModeRequest::Hold(HoldRequest {
                by,
                ..HoldRequest::default()
            }),
            Action::ReadOnly => ModeRequest::ReadOnly(ReadOnlyRequest {
                by,
                ..ReadOnlyRequest::default()
            }),
            Action::Open | Action::OpenByForce => ModeRequest::Open(OpenRequest {
                by,
                force,
                ..OpenRequest::default()
            }),
            Action::Ladder(preset) => {
                let request = DrainRequest {
                    ladder: Some(*preset),
                    by,
                    ..DrainRequest::default()
                };
                let path = path(&["v1", "databases", &self.database, "drain"]);
                let put = client.send(Method::PUT, &path, &request, Patience::Short);
                return put.await.map(modes);
            }
            Action::Cap(transactions) => {
                let request = CapRequest {
                    transactions: *transactions,
                    duration: None,
                    reason: None,
                    by,
                };
                let path = path(&["v1", "databases", &self.database, "cap"]);
                let put = client.send(Method::PUT, &path, &request, Patience::Short);
                let CapResult { cap, .. } = put.await?;
                return Ok(match cap {
                    Some(cap) => format!("at most {} transactions at once", cap.transactions),
                    None => "as many as come".to_owned(),
                });
            }
            Action::AbortWindow { id, term } => {
                let body = WindowCommand {
                    term: *term,
                    then: None,
                    by,
                };
                let path = path(&["v1", "windows", id, "abort"]);
                let post = client.send(Method::POST, &path, &body, Patience::Short);
                let window: WindowView = post.await?;
                return Ok(format!("it is {}", window.state));
            }
            Action::CancelMigration(id) => {
                let path = path(&["v1", "migrations", id, "cancel"]);
                let body = CancelRequest { by };
                let post = client.send(Method::POST, &path, &body, Patience::Short);
                let Cancelling { .. } = post.await?;
                return Ok("it was asked to stop".to_owned());
            }
            Action::Session(id, action) => {
                let path = path(&["v1", "sessions", &id.to_string(), action.as_str()]);
                let body = ActionRequest { reason: None, by };
                let post = client.send(Method::POST, &path, &body, Patience::Short);
                let acted: SessionActed = post.await?;
                return Ok(format!(
                    "{}; the client gets {}",
                    acted.effect, acted.client_sees
                ));
            }
        };
        let path = path(&["v1", "databases", &self.database, "mode"]);
        let put = client.send(Method::PUT, &path, &mode, Patience::Short);
        put.await.map(modes)
    }
}

fn modes(ModeResults { results, .. }: ModeResults) -> String {
    let modes = results
        .iter()
        .map(|result| format!("{} is {}", result.database, result.mode));
    modes.collect::<Vec<_>>().join(", ")
}
