//! Starts the migration, follows it, and keeps what it says about its window.

use std::path::Path;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::live::Screen;
use super::scene::DATABASE;
use crate::admin::types::DrainReport;
use crate::cli::client::Client;
use crate::cli::exit::Exit;
use crate::cli::follow::{News, sentence};
use crate::cli::{arguments, migrate};
use crate::runner::report::Report;
use crate::runner::types::{
    Direction, Event, EventKind, MigrationRequest, RunState, RunView, TrafficMode,
};

/// How a migration went.
#[derive(Debug)]
pub(super) struct Course {
    /// Its exit code as `pgdrain migrate up` would give it.
    pub(super) exit: Exit,
    /// What went wrong, in a sentence.
    pub(super) failure: Option<String>,
    /// Its window, if it was granted one.
    pub(super) window: Option<Window>,
}

/// An exclusive window, as the proxy's own report has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Window {
    /// When the gate was closed.
    pub(super) held_at: Timestamp,
    /// When nothing ran any more.
    pub(super) drained_at: Timestamp,
    /// When the files were done and the gate was about to be opened.
    pub(super) reopened_at: Timestamp,
    /// How long the files ran.
    pub(super) migration: Duration,
}

impl Window {
    /// How long the drain took.
    pub(super) fn drain(self) -> Duration {
        between(self.held_at, self.drained_at)
    }
}

/// Does what `pgdrain migrate up` does: reads the files, posts them, and shows what happens.
///
/// # Errors
/// The files cannot be used, or the proxy cannot tell any more how it goes.
pub(super) async fn migrate(
    screen: &Screen,
    admin: &Client,
    directory: &Path,
) -> anyhow::Result<Course> {
    let request = MigrationRequest {
        direction: Direction::Up,
        steps: None,
        files: migrate::read_files(directory)?,
        traffic: TrafficMode::Exclusive,
        window: None,
        ladder: None,
        wait: None,
        cancel: None,
        terminate: None,
        lock_timeout: None,
        statement_timeout: None,
        reason: Some("demo".to_owned()),
        by: Some(arguments::operator()),
    };
    let started = migrate::start(admin, DATABASE, &request).await?;
    let mut news = News::new(admin, &started.id);
    let mut reopening = None;
    loop {
        let view = news.next().await?;
        for event in &view.events {
            show(screen, event)?;
            if enters(event) == Some(RunState::Reopening) {
                reopening = Some(event.at);
            }
        }
        if let Some(exit) = view.exit_code {
            return Ok(course(exit, view, reopening));
        }
    }
}

/// The state that an event tells of.
fn enters(event: &Event) -> Option<RunState> {
    match event.kind {
        EventKind::State => serde_json::from_value(event.data.get("state")?.clone()).ok(),
        EventKind::Check
        | EventKind::FileStarted
        | EventKind::Statement
        | EventKind::FileDone
        | EventKind::Failure
        | EventKind::Notice
        | EventKind::Note => None,
    }
}

fn show(screen: &Screen, event: &Event) -> anyhow::Result<()> {
    if let Some(state) = enters(event) {
        screen.phase(state.as_str());
    }
    match event.kind {
        // Every file of the demo is one statement.
        EventKind::Statement => Ok(()),
        EventKind::State
        | EventKind::Check
        | EventKind::FileStarted
        | EventKind::FileDone
        | EventKind::Failure
        | EventKind::Notice
        | EventKind::Note => screen.say(&sentence(event)),
    }
}

fn course(exit: u8, view: RunView, reopening: Option<Timestamp>) -> Course {
    let report = view.report.as_ref();
    let failure = match (exit, report) {
        (0, _) => None,
        (_, Some(report)) => Some(report.to_string()),
        (_, None) => Some(view.state.as_str().to_owned()),
    };
    Course {
        exit: Exit(exit),
        failure,
        window: report.and_then(|report| window(report, reopening?)),
    }
}

/// The window of a report; all files share one, since all of them need it.
fn window(report: &Report, reopened_at: Timestamp) -> Option<Window> {
    let window = report.windows.first()?;
    let drain: DrainReport = serde_json::from_value(window.drain.clone()).ok()?;
    let files = report.files.iter().map(|file| file.elapsed_ms);
    Some(Window {
        held_at: drain.held_at,
        drained_at: drain.drained_at?,
        reopened_at,
        migration: Duration::from_millis(files.sum()),
    })
}

/// Two clocks read at the same moment: reports have the wall's time, clients a steady one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clocks {
    steady: Instant,
    wall: Timestamp,
}

impl Clocks {
    /// Reads both.
    pub(super) fn now() -> Self {
        Self {
            steady: Instant::now(),
            wall: Timestamp::now(),
        }
    }

    /// The moment of a time after this reading; one from before becomes the reading itself.
    pub(super) fn instant(self, at: Timestamp) -> Instant {
        self.steady + between(self.wall, at)
    }
}

/// The time from one moment to a later one; none if it is earlier.
fn between(from: Timestamp, to: Timestamp) -> Duration {
    Duration::try_from(to.duration_since(from)).unwrap_or_default()
}
