//! A run as seen from outside: its state, its progress, and the way to stop it.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::sync::watch;

use super::approvals::Decision;
use super::report::Report;
use super::stop::{Stop, StopReason};
use super::types::{Direction, Event, EventKind, RunState, RunSummary, RunView};
use super::watcher::{Line, Now, line_event};

/// Events kept of a run; older ones are dropped. A file of a million statements must not fill the
/// proxy's memory.
const EVENTS_MAX: usize = 2_000;

/// Lines of a migration's own progress that wait to be written.
const LINES_MAX: usize = 100;

/// So often such a line is told; a migration may say one for each row.
const LINE_EVERY: Duration = Duration::from_millis(100);

/// A run, shared by the task that makes it and those who watch it.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) id: String,
    pub(super) database: String,
    pub(super) direction: Direction,
    pub(super) by: String,
    pub(super) started_at: jiff::Timestamp,
    progress: Mutex<Progress>,
    /// The last sequence number; also wakes those who follow when the run is over.
    changed: watch::Sender<u64>,
    stop: watch::Sender<Option<StopReason>>,
    /// When somebody has last said that he looks after it.
    acked: watch::Sender<Option<tokio::time::Instant>>,
}

#[derive(Debug)]
struct Progress {
    state: RunState,
    events: VecDeque<Event>,
    last: u64,
    report: Option<Report>,
    /// What the watcher saw last.
    now: Option<Now>,
    /// What the migration says of its own progress and is not written yet.
    lines: VecDeque<Line>,
    /// When such a line was told last.
    line_told: Option<Instant>,
}

impl Run {
    pub(super) fn new(id: String, database: &str, direction: Direction, by: &str) -> Self {
        Self {
            id,
            database: database.to_owned(),
            direction,
            by: by.to_owned(),
            started_at: jiff::Timestamp::now(),
            progress: Mutex::new(Progress {
                state: RunState::Preflight,
                events: VecDeque::new(),
                last: 0,
                report: None,
                now: None,
                lines: VecDeque::new(),
                line_told: None,
            }),
            changed: watch::Sender::new(0),
            stop: watch::Sender::new(None),
            acked: watch::Sender::new(None),
        }
    }

    /// Adds a line of progress.
    pub(super) fn tell(&self, kind: EventKind, text: impl Into<String>, data: Value) {
        self.change(kind, text.into(), data, |_| {});
    }

    /// Changes the run and adds the line that tells of it, so that nobody sees one without the
    /// other.
    fn change(
        &self,
        kind: EventKind,
        text: String,
        data: Value,
        change: impl FnOnce(&mut Progress),
    ) {
        tracing::info!(run = self.id, database = self.database, ?kind, "{text}");
        let mut progress = self.lock();
        change(&mut progress);
        progress.push(kind, text, data);
        let last = progress.last;
        drop(progress);
        self.changed.send_replace(last);
    }

    /// Adds a sentence.
    pub(super) fn note(&self, text: impl Into<String>) {
        self.tell(EventKind::Note, text, Value::Null);
    }

    /// Changes the state. A run that is over stays over.
    pub(super) fn enter(&self, state: RunState, text: impl Into<String>) {
        let data = json!({ "state": state });
        self.change(EventKind::State, text.into(), data, |progress| {
            if !progress.state.is_final() {
                progress.state = state;
            }
        });
    }

    /// Ends the run.
    pub(super) fn finish(&self, report: Report) {
        let text = report.to_string();
        let data = json!({ "state": report.state, "exit_code": report.exit_code });
        self.change(EventKind::State, text, data, |progress| {
            progress.state = report.state;
            progress.report = Some(report);
            progress.now = None;
        });
    }

    /// What the watcher sees; none when nobody looks any more.
    pub(super) fn seen(&self, now: Option<Now>) {
        let mut progress = self.lock();
        // A watcher that is late finds nobody who waits for it.
        progress.now = now.filter(|_| !progress.state.is_final());
    }

    /// What the watcher saw last.
    pub(super) fn now(&self) -> Option<Now> {
        self.lock().now.clone()
    }

    /// The migration says how far it is. At most ten such lines a second are told, and the last one of
    /// a step in any case.
    pub(super) fn progress(&self, line: Line) {
        let (text, data) = line_event(&line);
        let mut progress = self.lock();
        let now = Instant::now();
        let due = progress.line_told.is_none_or(|it| now - it >= LINE_EVERY);
        let due = due || line.pct.is_some_and(|it| it >= 100.0);
        if progress.lines.len() == LINES_MAX {
            progress.lines.pop_front();
        }
        progress.lines.push_back(line);
        if due {
            progress.line_told = Some(now);
            drop(progress);
            self.tell(EventKind::Progress, text, data);
        }
    }

    /// What the migration said since this was last asked for.
    pub(super) fn take_progress(&self) -> Vec<Line> {
        self.lock().lines.drain(..).collect()
    }

    pub(super) fn state(&self) -> RunState {
        self.lock().state
    }

    /// Asks the run to stop; the first reason stays. False if it is over already.
    pub(super) fn ask_to_stop(&self, reason: StopReason) -> bool {
        if self.state().is_final() {
            return false;
        }
        self.stop.send_if_modified(|asked| {
            let first = asked.is_none();
            asked.get_or_insert(reason);
            first
        });
        true
    }

    /// Takes down that somebody looks after the run, also when it is over.
    pub(super) fn acknowledge(&self, by: &str) {
        self.acked.send_replace(Some(tokio::time::Instant::now()));
        self.note(format!("acknowledged by {by}"));
    }

    /// Adds a decision to the report of a run that is over.
    pub(super) fn decide(&self, decision: Decision) {
        let text = format!("{} decided by {}", decision.decision.as_str(), decision.by);
        let data = json!({ "decision": decision });
        self.change(EventKind::Note, text, data, |progress| {
            if let Some(report) = &mut progress.report {
                report.decision = Some(decision);
            }
        });
    }

    /// When somebody has last acknowledged the run.
    pub(super) fn acked(&self) -> watch::Receiver<Option<tokio::time::Instant>> {
        self.acked.subscribe()
    }

    /// Adds a sentence, but not behind the end of the run, which whoever follows has heard.
    pub(super) fn remark(&self, text: String) {
        if !self.state().is_final() {
            self.note(text);
        }
    }

    /// Waits until there is something behind a sequence number.
    pub(super) async fn behind(&self, after: u64) {
        let mut changed = self.changed.subscribe();
        // Nobody closes it before the run is forgotten, and then nobody waits.
        let _ = changed.wait_for(|last| *last > after).await;
    }

    /// Hears requests to stop.
    pub(super) fn stop(&self) -> Stop {
        Stop::new(self.stop.subscribe())
    }

    /// The run and its progress behind a sequence number.
    pub(super) fn view(&self, after: u64) -> RunView {
        let progress = self.lock();
        RunView {
            id: self.id.clone(),
            database: self.database.clone(),
            direction: self.direction,
            state: progress.state,
            exit_code: progress.report.as_ref().map(|it| it.exit_code),
            events: progress
                .events
                .iter()
                .filter(|it| it.seq > after)
                .cloned()
                .collect(),
            report: progress.report.clone(),
            watch: progress.now.clone(),
            after: None,
        }
    }

    pub(super) fn summary(&self) -> RunSummary {
        let progress = self.lock();
        RunSummary {
            id: self.id.clone(),
            database: self.database.clone(),
            direction: self.direction,
            state: progress.state,
            started_at: self.started_at,
            by: self.by.clone(),
            exit_code: progress.report.as_ref().map(|it| it.exit_code),
        }
    }

    /// Waits until there is something behind a sequence number or the run is over, at most `wait`.
    pub(super) async fn news(&self, after: u64, wait: Duration) {
        let mut changed = self.changed.subscribe();
        let news = changed.wait_for(|last| *last > after || self.state().is_final());
        // Neither a timeout nor a closed channel is an error: the caller looks for himself.
        let _ = tokio::time::timeout(wait, news).await;
    }

    fn lock(&self) -> MutexGuard<'_, Progress> {
        // Every operation leaves it whole, so a panic elsewhere cannot have torn it.
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Progress {
    fn push(&mut self, kind: EventKind, text: String, data: Value) {
        self.last += 1;
        if self.events.len() == EVENTS_MAX {
            self.events.pop_front();
        }
        self.events.push_back(Event {
            seq: self.last,
            at: jiff::Timestamp::now(),
            kind,
            text,
            data,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_numbered_and_bounded() {
        let run = Run::new("1".to_owned(), "db", Direction::Up, "me");
        for number in 0..EVENTS_MAX + 5 {
            run.note(number.to_string());
        }
        let all = run.view(0).events;
        assert_eq!((all.len(), all[0].seq), (EVENTS_MAX, 6));
        assert_eq!(run.view(all[0].seq + 1).events[0].seq, 8);
    }

    #[tokio::test(start_paused = true)]
    async fn following_waits_for_news_and_no_longer_than_asked() {
        let run = Run::new("1".to_owned(), "db", Direction::Up, "me");
        let start = tokio::time::Instant::now();
        run.news(0, Duration::from_secs(5)).await;
        assert_eq!(start.elapsed(), Duration::from_secs(5));
        tokio::join!(run.news(0, Duration::from_secs(60)), async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            run.note("here");
        });
        assert_eq!(start.elapsed(), Duration::from_secs(6));
    }

    #[test]
    fn the_first_reason_to_stop_stays() {
        let run = Run::new("1".to_owned(), "db", Direction::Up, "me");
        assert!(run.ask_to_stop(StopReason::Operator("ann".to_owned())));
        assert!(run.ask_to_stop(StopReason::Shutdown));
        assert_eq!(
            run.stop().now(),
            Some(StopReason::Operator("ann".to_owned()))
        );
    }
}
