//! Runs of migrations as traces, made of their progress: a run is a trace, and its phases, files and
//! statements are spans in one another. Of SQL there is a fingerprint alone: a constant in it, or in what the
//! server says of it, may be anybody's data.

use std::time::Duration;

use jiff::Timestamp;
use opentelemetry::KeyValue;
use opentelemetry_sdk::trace::SpanData;
use serde_json::Value;

use super::span::Span;
use crate::runner::types::{Event, EventKind, RunState, RunView};

/// A run that is followed.
#[derive(Debug)]
pub(super) struct Course {
    root: Span,
    phase: Option<(RunState, Span)>,
    file: Option<Span>,
    /// When the last statement of the file ended, or the file began.
    before: Timestamp,
    trouble: Option<String>,
    over: bool,
}

impl Course {
    /// One that begins.
    pub(super) fn new(view: &RunView, begin: Timestamp) -> Course {
        let (direction, database) = (view.direction.as_str(), &view.database);
        let root = Span::root(format!("migrate {direction} {database}"), begin)
            .of_database(database)
            .with("pgdrain.run", view.id.clone())
            .with("pgdrain.direction", direction);
        Course {
            root,
            phase: None,
            file: None,
            before: begin,
            trouble: None,
            over: false,
        }
    }

    /// Whether nothing more will come.
    pub(super) fn is_over(&self) -> bool {
        self.over
    }

    /// Takes in a line of progress; returns the spans that ended by it.
    pub(super) fn take(&mut self, event: &Event) -> Vec<SpanData> {
        let (at, data) = (event.at, &event.data);
        match event.kind {
            EventKind::State => match serde_json::from_value(data["state"].clone()) {
                Ok(state) => self.enter(state, at),
                Err(_unknown) => Vec::new(),
            },
            EventKind::FileStarted => {
                let ended = self.end_file(at, None);
                let file = Span::with(
                    self.here()
                        .child(format!("file {}", text(data, "file")), at),
                    "pgdrain.file",
                    text(data, "file"),
                );
                self.file = Some(file.with("pgdrain.statements", number(data, "statements")));
                self.before = at;
                ended
            }
            EventKind::Statement => {
                let took = Duration::from_millis(data["elapsed_ms"].as_u64().unwrap_or(0));
                let begin = at.checked_sub(took).unwrap_or(at);
                self.before = at;
                vec![self.statement(data, begin).ended(at, None)]
            }
            EventKind::FileDone => self.end_file(at, None),
            EventKind::Failure => self.fail(event),
            EventKind::Batch => {
                let count = |key| KeyValue::new(key, number(data, key));
                self.happened(at, "batch", vec![count("batches"), count("rows")]);
                Vec::new()
            }
            EventKind::Progress => {
                let percent = data["percent"].as_f64().unwrap_or(f64::NAN);
                self.happened(at, "progress", vec![KeyValue::new("percent", percent)]);
                Vec::new()
            }
            EventKind::Check => {
                let word = |key| KeyValue::new(key, text(data, key));
                self.happened(at, "check", vec![word("name"), word("outcome")]);
                Vec::new()
            }
            EventKind::Watch | EventKind::Notice | EventKind::Note => Vec::new(),
        }
    }

    /// The drain of its window reached a step of the ladder.
    pub(super) fn step(&mut self, at: Timestamp, step: &'static str) {
        self.happened(at, "ladder", vec![KeyValue::new("step", step)]);
    }

    /// The run is known no more: what there is, is told as far as it came.
    pub(super) fn left(&mut self, at: Timestamp) -> Vec<SpanData> {
        if self.over {
            return Vec::new();
        }
        self.trouble
            .get_or_insert("its end was not seen".to_owned());
        self.end(at)
    }

    fn enter(&mut self, state: RunState, at: Timestamp) -> Vec<SpanData> {
        if self.over || self.phase.as_ref().is_some_and(|(now, _)| *now == state) {
            return Vec::new();
        }
        if state.is_final() {
            self.root = self.root.clone().with("pgdrain.state", state.as_str());
            if state != RunState::Succeeded {
                let why = self.trouble.take();
                let why = why.map_or_else(String::new, |why| format!(": {why}"));
                self.trouble = Some(format!("{}{why}", state.as_str()));
            }
            return self.end(at);
        }
        let mut ended = self.end_file(at, None);
        if let Some((_, phase)) = self.phase.take() {
            ended.push(phase.ended(at, None));
        }
        self.phase = Some((state, self.root.child(state.as_str(), at)));
        ended
    }

    fn end(&mut self, at: Timestamp) -> Vec<SpanData> {
        self.over = true;
        let trouble = self.trouble.clone();
        let mut ended = self.end_file(at, trouble.clone());
        if let Some((_, phase)) = self.phase.take() {
            ended.push(phase.ended(at, trouble.clone()));
        }
        ended.push(self.root.clone().ended(at, trouble));
        ended
    }

    fn fail(&mut self, event: &Event) -> Vec<SpanData> {
        let (at, data) = (event.at, &event.data);
        let place = data["statement"].as_u64();
        let place = place.map_or_else(String::new, |number| format!(" at statement {number}"));
        // What is no error of the server has no other words than the state in which the run ends.
        self.trouble = data["sqlstate"].as_str().map(|it| format!("{it}{place}"));
        let why = self.trouble.clone().unwrap_or_else(|| "failed".to_owned());
        let mut ended = Vec::new();
        if self.file.is_some() {
            if !place.is_empty() {
                let statement = self.statement(data, self.before);
                ended.push(statement.ended(at, Some(why.clone())));
            }
            ended.extend(self.end_file(at, Some(why)));
        }
        ended
    }

    fn statement(&self, data: &Value, begin: Timestamp) -> Span {
        let number = number(data, "statement");
        let span = self.here().child(format!("statement {number}"), begin);
        let span = span
            .with("pgdrain.statement", number)
            .with("pgdrain.line", self::number(data, "line"));
        match data["fingerprint"].as_str() {
            Some(fingerprint) => span.with("pgdrain.fingerprint", fingerprint.to_owned()),
            None => span,
        }
    }

    fn end_file(&mut self, at: Timestamp, trouble: Option<String>) -> Vec<SpanData> {
        let file = self.file.take();
        file.map(|file| file.ended(at, trouble))
            .into_iter()
            .collect()
    }

    /// The innermost span that goes on.
    fn here(&self) -> &Span {
        let phase = self.phase.as_ref().map(|(_, phase)| phase);
        self.file.as_ref().or(phase).unwrap_or(&self.root)
    }

    fn happened(&mut self, at: Timestamp, name: &'static str, attributes: Vec<KeyValue>) {
        let phase = self.phase.as_mut().map(|(_, phase)| phase);
        let here = self.file.as_mut().or(phase).unwrap_or(&mut self.root);
        here.happened(at, name, attributes);
    }
}

fn text(data: &Value, key: &str) -> String {
    data[key].as_str().unwrap_or_default().to_owned()
}

/// Counts are far below what a span can say.
fn number(data: &Value, key: &str) -> i64 {
    data[key].as_i64().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use opentelemetry::trace::Status;
    use serde_json::json;

    use super::*;
    use crate::runner::types::Direction;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).expect("a time")
    }

    fn course() -> Course {
        let view = RunView {
            id: "r1".to_owned(),
            database: "shop".to_owned(),
            direction: Direction::Up,
            state: RunState::Preflight,
            exit_code: None,
            events: Vec::new(),
            report: None,
            watch: None,
            after: None,
        };
        Course::new(&view, at(0))
    }

    fn take(course: &mut Course, events: &[(i64, EventKind, Value)]) -> Vec<SpanData> {
        let events = events.iter().map(|(second, kind, data)| Event {
            seq: 1,
            at: at(*second),
            kind: *kind,
            text: "insert into t values ('secret')".to_owned(),
            data: data.clone(),
        });
        events.flat_map(|event| course.take(&event)).collect()
    }

    fn state(state: &str) -> (EventKind, Value) {
        (EventKind::State, json!({ "state": state }))
    }

    fn after(second: i64, (kind, data): (EventKind, Value)) -> (i64, EventKind, Value) {
        (second, kind, data)
    }

    #[test]
    fn phases_files_and_statements_are_spans_in_one_another() {
        let mut course = course();
        let file = json!({"file": "1_a.up.sql", "statements": 1, "index": 1, "of": 1});
        let statement = json!({"file": "1_a.up.sql", "statement": 1, "of": 1, "line": 3,
            "elapsed_ms": 500, "fingerprint": "00ff"});
        let spans = take(
            &mut course,
            &[
                after(0, state("preflight")),
                (
                    1,
                    EventKind::Check,
                    json!({"name": "disk", "outcome": "ok"}),
                ),
                after(2, state("applying")),
                after(2, state("applying")),
                (3, EventKind::FileStarted, file),
                (4, EventKind::Batch, json!({"batches": 2, "rows": 10})),
                (5, EventKind::Statement, statement),
                (6, EventKind::FileDone, Value::Null),
                after(7, state("succeeded")),
            ],
        );
        let names: Vec<_> = spans.iter().map(|span| &*span.name).collect();
        let expected = [
            "preflight",
            "statement 1",
            "file 1_a.up.sql",
            "applying",
            "migrate up shop",
        ];
        assert_eq!(names, expected);
        let [preflight, statement, file, applying, root] = &spans[..] else {
            panic!("five spans");
        };
        let parent = |span: &SpanData| span.parent_span_id;
        let id = |span: &SpanData| span.span_context.span_id();
        assert_eq!((parent(preflight), parent(applying)), (id(root), id(root)));
        assert_eq!((parent(statement), parent(file)), (id(file), id(applying)));
        assert_eq!(
            statement.start_time,
            SystemTime::from(at(5) - Duration::from_millis(500))
        );
        assert_eq!((preflight.events.len(), file.events.len()), (1, 1));
        assert!(
            spans.iter().all(|span| span.status == Status::Unset),
            "{spans:?}"
        );
        assert!(!format!("{spans:?}").contains("secret"));
        assert!(course.is_over() && course.left(at(9)).is_empty());
    }

    #[test]
    fn what_failed_ends_in_error_from_the_statement_to_the_run() {
        let mut course = course();
        let spans = take(
            &mut course,
            &[
                after(1, state("applying")),
                (
                    2,
                    EventKind::FileStarted,
                    json!({"file": "1_a.up.sql", "statements": 2}),
                ),
                (
                    4,
                    EventKind::Failure,
                    json!({"file": "1_a.up.sql", "statement": 1, "line": 1,
                "sqlstate": "23505", "message": "Key (mail)=(secret) already exists."}),
                ),
                after(5, state("failed")),
            ],
        );
        let all: Vec<_> = spans
            .iter()
            .map(|it| (&*it.name, it.status.clone()))
            .collect();
        let (why, end) = ("23505 at statement 1", "failed: 23505 at statement 1");
        let expected = [
            ("statement 1", why),
            ("file 1_a.up.sql", why),
            ("applying", end),
            ("migrate up shop", end),
        ];
        assert_eq!(all, expected.map(|(name, why)| (name, Status::error(why))));
        assert!(!format!("{spans:?}").contains("secret"));
    }

    #[test]
    fn events_of_a_span_are_bounded() {
        let mut course = course();
        for second in 0..1000 {
            course.step(at(second), "wait");
        }
        let spans = course.left(at(2000));
        assert_eq!(spans[0].events.len(), 128);
        assert_eq!(spans[0].events.dropped_count, 872);
    }
}
