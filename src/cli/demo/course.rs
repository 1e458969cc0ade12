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
use crate::runner::source::Format;
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
    /// When the last transaction ended that was inside; none if there was none.
    pub(super) last_ended_at: Option<Timestamp>,
    /// When it was proved that nothing ran any more.
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

    /// How much of that went into the proof, when all transactions had ended.
    pub(super) fn proof(self) -> Duration {
        between(self.last_ended_at.unwrap_or(self.held_at), self.drained_at)
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
        files: migrate::read_files(directory, Some(Format::GolangMigrate))?,
        format: Some(Format::GolangMigrate),
        history: None,
        write_back: false,
        backup: None,
        traffic: TrafficMode::Exclusive,
        window: None,
        ladder: None,
        autocommit: None,
        stuck: None,
        abort: None,
        wait: None,
        cancel: None,
        terminate: None,
        bypass: None,
        fence: None,
        lock_timeout: None,
        statement_timeout: None,
        force: false,
        when: None,
        rollback_by: None,
        reason: Some("demo".to_owned()),
        by: Some(arguments::operator()),
        watch: None,
        measure: None,
        canary: None,
        down_on_failure: false,
        analyze_first: false,
        copy_tables: false,
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
        | EventKind::Batch
        | EventKind::Watch
        | EventKind::Progress
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
        EventKind::Statement | EventKind::Batch | EventKind::Watch | EventKind::Progress => Ok(()),
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
        last_ended_at: drain.last_permit_released_at,
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

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;
    use serde_json::{Value, json};

    use super::*;

    fn view(state: &str, windows: Value, failure: Value) -> RunView {
        let at = "2026-01-02T03:04:05Z";
        let file = json!({
            "version": "1", "file": "001_x.up.sql", "mode": "file", "traffic": "exclusive",
            "outcome": "applied", "statements": 1, "elapsed_ms": 600,
        });
        let view = json!({
            "id": "r1", "database": DATABASE, "direction": "up", "state": state, "exit_code": 0,
            "events": [],
            "report": {
                "id": "r1", "database": DATABASE, "direction": "up", "traffic": "exclusive",
                "by": "somebody", "reason": null, "started_at": at, "finished_at": at,
                "elapsed_ms": 1000, "state": state, "exit_code": 0, "checks": [],
                "files": [file, file], "windows": windows, "failure": failure, "held": null,
            },
        });
        serde_json::from_value(view).expect("a view")
    }

    #[test]
    fn the_window_is_as_the_report_has_it() {
        let windows = json!([{
            "id": "w1", "granted_after_ms": 40, "lasted_ms": 1300,
            "drain": {
                "outcome": "drained", "step": "wait", "held_at": "2026-01-02T03:04:05.100Z",
                "last_permit_released_at": "2026-01-02T03:04:05.137Z",
                "drained_at": "2026-01-02T03:04:05.140Z", "waited_for": [], "cancelled": [],
                "terminated": [], "bypass": [], "detail": "",
            },
        }]);
        let reopening = "2026-01-02T03:04:06.500Z".parse().expect("a time");
        let course = course(0, view("succeeded", windows, Value::Null), Some(reopening));
        assert_eq!((course.exit, course.failure), (Exit::SUCCESS, None));
        let window = course.window.expect("a window");
        assert_eq!(window.drain(), Duration::from_millis(40));
        assert_eq!(window.proof(), Duration::from_millis(3));
        assert_eq!(window.migration, Duration::from_millis(1200));
        assert_eq!(window.reopened_at, reopening);
    }

    #[test]
    fn without_a_window_there_is_a_reason() {
        let failure = json!({ "message": "no exclusive window: busy" });
        let course = course(6, view("failed", json!([]), failure), None);
        assert_eq!(course.exit, Exit::NOT_GRANTED);
        assert_eq!(course.window, None);
        let failure = course.failure.expect("a reason");
        assert!(failure.contains("no exclusive window: busy"), "{failure}");
    }

    #[test]
    fn a_time_of_the_wall_is_found_on_the_steady_clock() {
        let clocks = Clocks::now();
        let later = clocks.wall + SignedDuration::from_millis(1500);
        let moment = clocks.instant(later);
        assert_eq!(moment - clocks.steady, Duration::from_millis(1500));
        let earlier = clocks.wall - SignedDuration::from_secs(1);
        assert_eq!(clocks.instant(earlier), clocks.steady);
    }
}
