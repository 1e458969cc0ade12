//! The account of a run, told afterwards on one page: what happened when, what it did to others, what
//! clients felt, what was checked and kept. As JSON, as HTML, as Markdown.
//!
//! It is made of what the history keeps, and of what this process still remembers: a run that ended in
//! preflight has left nothing in the database.

mod catalog;
mod compared;
mod page;
mod read;
mod story;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use self::read::Kept;
use super::history::{Ledger, LedgerError};
use super::report::Report;
use super::traffic::Traffic;
use super::types::{Event, EventKind, RunView};
use super::{Runner, StatusError};

pub use page::{html, markdown};

/// Lines that a timeline has at most, the last ones.
const MOMENTS_MAX: usize = 500;

/// Everything that is known of one run. Answer of `GET /v1/databases/{db}/migrations/report`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Account {
    /// The run.
    pub id: String,
    /// The database it ran in.
    pub database: String,
    /// `up` or `down`.
    pub direction: String,
    /// Where it stands, or how it ended.
    pub state: String,
    /// The same for a shell; none while it runs.
    pub exit_code: Option<i64>,
    /// Who asked for it.
    pub by: String,
    /// Why.
    pub reason: Option<String>,
    /// When it began, RFC 3339 in UTC.
    pub started_at: String,
    /// When it was over.
    pub finished_at: Option<String>,
    /// What happened, oldest first.
    pub timeline: Vec<Moment>,
    /// Its report, as it was kept; none while it runs, or if its process died.
    pub report: Option<Value>,
    /// What the history has of it, oldest first.
    pub history: Vec<Entry>,
}

/// A line of the timeline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moment {
    /// When, RFC 3339 in UTC.
    pub at: String,
    /// What happened.
    pub text: String,
}

/// A row of `pgdrain.event`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// When, RFC 3339 in UTC.
    pub at: String,
    /// What kind of thing.
    pub kind: String,
    /// The migration, if it is about one.
    pub version: Option<String>,
    /// What there is to know about it.
    pub data: Value,
}

impl Account {
    /// The report, as far as this version understands it.
    pub(super) fn typed(&self) -> Option<Report> {
        self.report
            .as_ref()
            .and_then(|it| serde_json::from_value(it.clone()).ok())
    }
}

impl<T: Traffic> Runner<T> {
    /// The account of a run of a database, or of its last one; none if there is no such run.
    ///
    /// # Errors
    /// When the history cannot be read and this process does not remember the run either.
    pub async fn account(
        &self,
        database: &str,
        run: Option<&str>,
    ) -> Result<Option<Account>, StatusError> {
        let remembered = match run {
            Some(id) => self.find(id),
            None => self.last(database),
        };
        let remembered = remembered.filter(|it| it.database == database);
        // Without a name the last one is meant, whoever knows of it.
        let asked = run.or(remembered.as_ref().map(|it| it.id.as_str()));
        let kept = self.kept(database, asked).await;
        let Some(remembered) = remembered else {
            return Ok(kept?.map(|kept| of_history(database, kept)));
        };
        let summary = remembered.summary();
        let view = remembered.view(0);
        let history = kept.ok().flatten().map(|it| it.history);
        let report = view.report.as_ref();
        Ok(Some(Account {
            direction: summary.direction.to_string(),
            state: summary.state.as_str().to_owned(),
            exit_code: summary.exit_code.map(i64::from),
            by: summary.by,
            reason: report.and_then(|it| it.reason.clone()),
            started_at: time(summary.started_at),
            finished_at: report.map(|it| time(it.finished_at)),
            timeline: moments(&view),
            report: report.and_then(|it| serde_json::to_value(it).ok()),
            history: history.unwrap_or_default(),
            id: summary.id,
            database: summary.database,
        }))
    }

    async fn kept(&self, database: &str, run: Option<&str>) -> Result<Option<Kept>, LedgerError> {
        let ledger = Ledger::open(&self.connector, database).await?;
        let kept = ledger.kept(run).await;
        ledger.close().await;
        kept
    }

    /// The run that began last, of those that are remembered.
    fn last(&self, database: &str) -> Option<std::sync::Arc<super::record::Run>> {
        let runs = self.runs();
        let live = runs.live.get(database);
        let over = || runs.over.iter().rev().find(|it| it.database == database);
        live.or_else(over).cloned()
    }
}

/// A run of which this process knows nothing.
fn of_history(database: &str, kept: Kept) -> Account {
    let mut timeline = vec![Moment {
        at: kept.started_at.clone(),
        text: "the run begins".to_owned(),
    }];
    timeline.extend(kept.history.iter().map(|it| Moment {
        at: it.at.clone(),
        text: match &it.version {
            Some(version) => format!("{} {version}", it.kind),
            None => it.kind.clone(),
        },
    }));
    if let Some(at) = &kept.finished_at {
        timeline.push(Moment {
            at: at.clone(),
            text: format!("the run ends: {}", kept.state),
        });
    }
    Account {
        id: kept.id,
        database: database.to_owned(),
        direction: kept.direction,
        state: kept.state,
        exit_code: kept.exit_code.map(i64::from),
        by: kept.by,
        reason: kept.reason,
        started_at: kept.started_at,
        finished_at: kept.finished_at,
        timeline,
        report: kept.report,
        history: kept.history,
    }
}

/// The events that tell the story; checks, statements and figures have places of their own.
fn moments(view: &RunView) -> Vec<Moment> {
    let told = |it: &&Event| match it.kind {
        EventKind::State
        | EventKind::FileStarted
        | EventKind::FileDone
        | EventKind::Failure
        | EventKind::Note => true,
        EventKind::Check
        | EventKind::Statement
        | EventKind::Batch
        | EventKind::Watch
        | EventKind::Progress
        | EventKind::Notice => false,
    };
    let all: Vec<_> = view.events.iter().filter(told).collect();
    all[all.len().saturating_sub(MOMENTS_MAX)..]
        .iter()
        .map(|it| Moment {
            at: time(it.at),
            text: it.text.clone(),
        })
        .collect()
}

fn time(at: jiff::Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
}
