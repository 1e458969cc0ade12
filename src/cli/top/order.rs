//! What `pgdrain top` can ask for, and what it says before it does: what clients will see.

use hyper::Method;

use crate::admin::types::{
    DatabaseStatus, DrainOutcome, DrainRequest, HoldRequest, HoldStatus, Holder, ModeName,
    ModeRequest, ModeResults, OpenRequest, ReadOnlyRequest,
};
use crate::cli::arguments::operator;
use crate::cli::client::{Client, ClientError, Patience, path};
use crate::cli::output::millis_or_dash;
use crate::config::Preset;

/// What is done to a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Hold,
    ReadOnly,
    Open,
    /// How far the drain under way goes.
    Ladder(Preset),
}

/// An action on a database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Order {
    pub(super) database: String,
    pub(super) action: Action,
}

impl Action {
    /// The action of a key.
    pub(super) fn of_key(letter: char) -> Option<Self> {
        match letter {
            'h' => Some(Self::Hold),
            'r' => Some(Self::ReadOnly),
            'o' => Some(Self::Open),
            'g' => Some(Self::Ladder(Preset::Gentle)),
            'f' => Some(Self::Ladder(Preset::Firm)),
            't' => Some(Self::Ladder(Preset::Force)),
            _ => None,
        }
    }

    /// Why it makes no sense as things are.
    pub(super) fn objection(self, database: &DatabaseStatus) -> Option<String> {
        let name = &database.database;
        match self {
            Self::Hold | Self::ReadOnly => None,
            Self::Open if database.holds.is_empty() && database.mode == ModeName::Open => {
                Some(format!("{name} is open"))
            }
            Self::Open => None,
            Self::Ladder(_) if draining(database).is_none() => {
                Some(format!("no drain is under way in {name}: hold it first"))
            }
            Self::Ladder(_) => None,
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
        let what = match self.action {
            Action::Hold => "hold",
            Action::ReadOnly => "read-only",
            Action::Open => "open",
            Action::Ladder(Preset::Gentle) => "gentle",
            Action::Ladder(Preset::Firm) => "firm",
            Action::Ladder(Preset::Force) => "force",
        };
        format!("{what} {}", self.database)
    }

    /// What clients will see of it, as things are.
    pub(super) fn consequence(&self, database: &DatabaseStatus) -> String {
        let in_the_way = draining(database)
            .and_then(|hold| hold.drain.as_ref())
            .map_or(0, |drain| drain.in_the_way.len());
        match self.action {
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
                 window first, or `pgdrain open --force`.",
                database.held
            ),
            Action::Open => format!(
                "{} clients that wait ({} the longest) go on, oldest first.",
                database.held,
                millis_or_dash(database.oldest_wait_ms)
            ),
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
            Ok(ModeResults { results, .. }) => {
                let modes = results
                    .iter()
                    .map(|result| format!("{} is {}", result.database, result.mode));
                format!("{}: {}", self.name(), modes.collect::<Vec<_>>().join(", "))
            }
            Err(error) => format!("{}: {error}", self.name()),
        }
    }

    async fn ask(&self, client: &Client) -> Result<ModeResults, ClientError> {
        let by = Some(operator());
        let mode = match self.action {
            Action::Hold => ModeRequest::Hold(HoldRequest {
                by,
                ..HoldRequest::default()
            }),
            Action::ReadOnly => ModeRequest::ReadOnly(ReadOnlyRequest {
                by,
                ..ReadOnlyRequest::default()
            }),
            Action::Open => ModeRequest::Open(OpenRequest {
                by,
                ..OpenRequest::default()
            }),
            Action::Ladder(preset) => {
                let request = DrainRequest {
                    ladder: Some(preset),
                    by,
                    ..DrainRequest::default()
                };
                let path = path(&["v1", "databases", &self.database, "drain"]);
                let put = client.send(Method::PUT, &path, &request, Patience::Short);
                return put.await;
            }
        };
        let path = path(&["v1", "databases", &self.database, "mode"]);
        client
            .send(Method::PUT, &path, &mode, Patience::Short)
            .await
    }
}
