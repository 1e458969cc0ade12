//! What happens in runs, written down in files: `migrations.jsonl` for programs, a line for each event of
//! any run, and `migrate-safe-TIME.log` for people, one for each run.
//!
//! A task beside the run reads its events and writes them. A disk that is full or slow is noted in the
//! run, once, and keeps no run waiting.

mod files;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::json;

use self::files::{Lines, RunFile};
use super::record::Run;
use super::types::{Event, RunView};
use crate::config::RunLog;

/// The version of the form of a line of `migrations.jsonl`.
const SCHEMA: u32 = 1;

/// The file of all events.
const EVENTS: &str = "migrations.jsonl";

/// How long news of a run are waited for at once.
const WAIT: Duration = Duration::from_secs(60);

/// Writes down what happens in the runs of this process.
#[derive(Debug)]
pub(super) struct Log {
    dir: PathBuf,
    settings: RunLog,
    /// One writer at a time; runs in several databases go on at once.
    events: Arc<Mutex<Lines>>,
}

impl Log {
    /// A log in the directory that is configured; none without one.
    pub(super) fn new(settings: &RunLog) -> Option<Arc<Self>> {
        let dir = settings.dir.clone()?;
        let events = Lines::new(dir.join(EVENTS), settings.max_bytes, settings.keep);
        Some(Arc::new(Self {
            dir,
            settings: settings.clone(),
            events: Arc::new(Mutex::new(events)),
        }))
    }

    /// Follows a run to its end.
    pub(super) async fn follow(self: Arc<Self>, run: Arc<Run>) {
        let mut own = RunFile::new(&self.dir, run.started_at, &run.id, &self.settings);
        let (mut seen, mut told) = (0, false);
        loop {
            run.news(seen, WAIT).await;
            let view = run.view(seen);
            seen = view.events.last().map_or(seen, |last| last.seq);
            let over = view.state.is_final() && view.report.is_some();
            let events = Arc::clone(&self.events);
            let written = tokio::task::spawn_blocking(move || {
                let outcome = write(&events, &mut own, &view);
                (own, outcome)
            });
            let outcome = match written.await {
                Ok((back, outcome)) => {
                    own = back;
                    outcome.map_err(|error| error.to_string())
                }
                // A panic of the writer, or a runtime that ends.
                Err(error) => return tracing::error!(%error, "a run is no longer written down"),
            };
            if let Err(error) = outcome
                && !told
            {
                told = true;
                run.note(format!(
                    "what happens is not written down in {}: {error}",
                    self.dir.display()
                ));
            }
            if over {
                return;
            }
        }
    }
}

/// Writes what is new of a run into both files; the first thing that went wrong.
fn write(events: &Mutex<Lines>, own: &mut RunFile, view: &RunView) -> std::io::Result<()> {
    let mut lines: Vec<Vec<u8>> = Vec::new();
    for event in &view.events {
        lines.push(line(view, event)?);
    }
    let for_all = {
        // A panic while it was locked left a torn line at worst, which the next opening ends.
        let mut events = events.lock().unwrap_or_else(PoisonError::into_inner);
        let mut write = || lines.iter().try_for_each(|line| events.append(line));
        write()
    };
    for_all.and(own.append(&view.events))
}

/// An event as one line of JSON.
fn line(view: &RunView, event: &Event) -> std::io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(&json!({
        "schema": SCHEMA,
        "run": view.id,
        "database": view.database,
        "direction": view.direction,
        "seq": event.seq,
        "at": event.at,
        "kind": event.kind,
        "text": event.text,
        "data": event.data,
    }))?;
    line.push(b'\n');
    Ok(line)
}

#[cfg(test)]
mod tests {
    use serde_json::Value;
    use tokio_util::task::TaskTracker;

    use super::*;
    use crate::runner::types::{Direction, EventKind};

    fn settings(dir: &std::path::Path) -> RunLog {
        RunLog {
            dir: Some(dir.to_owned()),
            max_bytes: 100_000,
            keep: 2,
        }
    }

    fn run() -> Arc<Run> {
        Arc::new(Run::new("r-1".to_owned(), "shop", Direction::Up, "me"))
    }

    fn over(run: &Run) {
        let mut report = crate::runner::report::Report::for_test(run);
        report.state = crate::runner::types::RunState::Succeeded;
        run.finish(report);
    }

    fn names(dir: &std::path::Path) -> Vec<String> {
        let found = std::fs::read_dir(dir).expect("the directory");
        let mut names: Vec<_> = found
            .map(|it| {
                it.expect("a file")
                    .file_name()
                    .to_string_lossy()
                    .into_owned()
            })
            .collect();
        names.sort();
        names
    }

    #[tokio::test]
    async fn every_event_is_a_line_in_both_files() {
        let dir = tempfile::tempdir().expect("a directory");
        let place = dir.path().join("logs");
        let log = Log::new(&settings(&place)).expect("a log");
        let run = run();
        run.note("before");
        let following = TaskTracker::new().spawn(Arc::clone(&log).follow(Arc::clone(&run)));
        run.tell(EventKind::Failure, "first\nsecond", json!({"a": 1}));
        over(&run);
        following.await.expect("the end");
        let lines = std::fs::read_to_string(place.join(EVENTS)).expect("the events");
        let lines: Vec<Value> = lines
            .lines()
            .map(|it| serde_json::from_str(it).expect("JSON"))
            .collect();
        assert_eq!(lines.len(), 3);
        assert_eq!(
            (
                &lines[1]["schema"],
                &lines[1]["run"],
                &lines[1]["seq"],
                &lines[1]["data"]["a"]
            ),
            (&json!(1), &json!("r-1"), &json!(2), &json!(1))
        );
        assert_eq!(lines[2]["data"]["state"], "succeeded");
        let found = names(&place);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].starts_with("migrate-safe-2"), "{found:?}");
        let text = std::fs::read_to_string(place.join(&found[0])).expect("the log");
        assert!(text.contains("Z note before\n"), "{text}");
        assert!(
            text.contains("failure first\\nsecond {\"a\":1}\n"),
            "{text}"
        );
    }

    #[tokio::test]
    async fn a_disk_that_is_full_is_noted_once_and_nothing_fails() {
        let dir = tempfile::tempdir().expect("a directory");
        // Every write to it fails with ENOSPC.
        let full = dir.path().join(EVENTS);
        std::os::unix::fs::symlink("/dev/full", full).expect("a link");
        let log = Log::new(&settings(dir.path())).expect("a log");
        let run = run();
        let following = TaskTracker::new().spawn(Arc::clone(&log).follow(Arc::clone(&run)));
        run.note("one");
        run.news(1, Duration::from_secs(30)).await;
        let noted = run.view(0).events;
        let noted = noted
            .iter()
            .filter(|it| it.text.contains("is not written down in"));
        assert_eq!(noted.count(), 1);
        run.note("two");
        over(&run);
        following.await.expect("the end");
        let all = run.view(0).events;
        let noted: Vec<_> = all
            .iter()
            .filter(|it| it.text.contains("No space left"))
            .collect();
        assert_eq!(noted.len(), 1, "{all:?}");
        // What the other file can take is there all the same.
        let found = names(dir.path());
        let text = std::fs::read_to_string(dir.path().join(&found[0])).expect("the log");
        assert!(text.contains("note two"), "{text}");
    }

    #[test]
    fn without_a_directory_nothing_is_written() {
        assert!(Log::new(&RunLog::default()).is_none());
    }
}
