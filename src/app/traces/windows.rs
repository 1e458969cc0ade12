//! Windows as traces, made of the events that tell what was done: a window is a trace, each of its stages a
//! span, and what was done to traffic meanwhile events of the stage.

use std::collections::BTreeMap;

use jiff::Timestamp;
use opentelemetry::KeyValue;
use opentelemetry_sdk::trace::SpanData;

use super::span::Span;
use crate::audit::{Kind, Told};
use crate::window::steps::{Stage, Why};

/// Windows that are followed at once. Each database has one that is open, and any number may wait.
const WINDOWS_MAX: usize = 1000;

/// The windows that are not over.
#[derive(Debug, Default)]
pub(super) struct Windows {
    open: BTreeMap<String, Course>,
}

#[derive(Debug)]
struct Course {
    database: String,
    root: Span,
    stage: Stage,
    span: Span,
}

impl Windows {
    /// Takes in an event; returns the spans that ended by it. `since` says when a window was asked for.
    pub(super) fn take(
        &mut self,
        told: &Told,
        since: impl FnOnce(&str) -> Option<Timestamp>,
    ) -> Vec<SpanData> {
        let event = &told.event;
        let Some(database) = &event.database else {
            return Vec::new();
        };
        let stage = |text: &Option<String>| text.as_deref()?.parse::<Stage>().ok();
        match (event.kind, stage(&event.before), stage(&event.after)) {
            (Kind::Window, Some(before), Some(after)) => {
                let (id, why) = parts(event.outcome.as_deref().unwrap_or_default());
                if !self.open.contains_key(id) {
                    if self.open.len() >= WINDOWS_MAX {
                        return Vec::new();
                    }
                    let begin = since(id).unwrap_or(told.at).min(told.at);
                    let root = Span::root(format!("window {database}"), begin)
                        .of_database(database)
                        .with("pgdrain.window", id.to_owned())
                        .with("pgdrain.by", event.by.clone().unwrap_or_default())
                        .with("pgdrain.reason", event.reason.clone().unwrap_or_default());
                    let span = root.child(name(before), begin);
                    let database = database.clone();
                    let stage = before;
                    let course = Course {
                        database,
                        root,
                        stage,
                        span,
                    };
                    self.open.insert(id.to_owned(), course);
                }
                self.enter(id, after, told.at, why)
            }
            _ => {
                let outcome = event.after.clone().map(|it| KeyValue::new("outcome", it));
                self.happened(database, told.at, event.kind.as_str(), outcome.into_iter());
                Vec::new()
            }
        }
    }

    /// A drain in a database reached a step of its ladder.
    pub(super) fn step(&mut self, database: &str, at: Timestamp, step: &'static str) {
        let step = [KeyValue::new("step", step)];
        self.happened(database, at, "ladder", step.into_iter());
    }

    /// Nobody follows any more: what goes on is told as far as it came.
    pub(super) fn left(&mut self, at: Timestamp) -> Vec<SpanData> {
        let left = std::mem::take(&mut self.open);
        let why = || Some("pgdrain stopped while it was open".to_owned());
        let spans = left.into_values();
        spans
            .flat_map(|course| [course.span.ended(at, None), course.root.ended(at, why())])
            .collect()
    }

    fn enter(&mut self, id: &str, after: Stage, at: Timestamp, why: Option<&str>) -> Vec<SpanData> {
        let Some(mut course) = self.open.remove(id) else {
            return Vec::new();
        };
        if course.stage == after {
            self.open.insert(id.to_owned(), course);
            return Vec::new();
        }
        let trouble = why
            .filter(|why| *why != Why::Finished.as_str())
            .map(str::to_owned);
        if after == Stage::Closed {
            // Which stage it ended in says where the trouble was.
            let stage = course.span.ended(at, trouble.clone());
            let root = course
                .root
                .with("pgdrain.why", why.unwrap_or_default().to_owned());
            return vec![stage, root.ended(at, trouble)];
        }
        let next = course.root.child(name(after), at);
        let stage = std::mem::replace(&mut course.span, next);
        course.stage = after;
        self.open.insert(id.to_owned(), course);
        vec![stage.ended(at, None)]
    }

    fn happened(
        &mut self,
        database: &str,
        at: Timestamp,
        name: &'static str,
        attributes: impl Iterator<Item = KeyValue> + Clone,
    ) {
        let here = self.open.values_mut();
        // Whoever waits for another window has no part in it.
        let here = here.filter(|it| it.database == database && it.stage != Stage::Queued);
        for course in here {
            course.span.happened(at, name, attributes.clone().collect());
        }
    }
}

/// What a stage is called.
fn name(stage: Stage) -> &'static str {
    match stage {
        Stage::Queued => "asked",
        Stage::Capped
        | Stage::ReadOnly
        | Stage::Draining
        | Stage::Exclusive
        | Stage::Ending
        | Stage::Closed => stage.as_str(),
    }
}

/// The window that an event is about, and why it ended, as `window::lent` writes them: `ID: WHY: DETAIL`.
fn parts(outcome: &str) -> (&str, Option<&str>) {
    let mut parts = outcome.splitn(3, ": ");
    (parts.next().unwrap_or_default(), parts.next())
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use opentelemetry::trace::Status;

    use super::*;
    use crate::audit::Event;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).expect("a time")
    }

    fn told(second: i64, (before, after): (Stage, Stage), outcome: &str) -> Told {
        Told {
            id: 1,
            at: at(second),
            event: Event {
                before: Some(before.to_string()),
                after: Some(after.to_string()),
                outcome: Some(outcome.to_owned()),
                ..Event::of(Kind::Window, "shop")
            },
        }
    }

    fn names(spans: &[SpanData]) -> Vec<&str> {
        spans.iter().map(|span| &*span.name).collect()
    }

    #[test]
    fn a_window_is_a_trace_with_a_span_for_each_stage() {
        let mut windows = Windows::default();
        let asked = |_: &str| Some(at(0));
        let mut spans = windows.take(&told(2, (Stage::Queued, Stage::Draining), "w1"), asked);
        windows.step("shop", at(3), "cancel");
        windows.step("crm", at(3), "abort");
        spans.extend(windows.take(&told(5, (Stage::Draining, Stage::Exclusive), "w1"), asked));
        let ends = "w1: finished";
        spans.extend(windows.take(&told(9, (Stage::Exclusive, Stage::Ending), ends), asked));
        spans.extend(windows.take(&told(10, (Stage::Ending, Stage::Closed), ends), asked));
        let expected = ["asked", "draining", "exclusive", "ending", "window shop"];
        assert_eq!(names(&spans), expected);
        let root = &spans[4];
        assert_eq!(root.status, Status::Unset);
        assert_eq!(root.start_time, SystemTime::from(at(0)));
        for stage in &spans[..4] {
            assert_eq!(stage.parent_span_id, root.span_context.span_id());
            assert_eq!(stage.span_context.trace_id(), root.span_context.trace_id());
        }
        assert_eq!(spans[0].end_time, SystemTime::from(at(2)));
        let steps: Vec<_> = spans[1]
            .events
            .iter()
            .map(|it| it.attributes[0].value.as_str())
            .collect();
        assert_eq!(steps, ["cancel"]);
        assert!(windows.open.is_empty());
    }

    #[test]
    fn one_that_was_not_granted_ends_in_error() {
        let mut windows = Windows::default();
        windows.take(&told(1, (Stage::Queued, Stage::Draining), "w2"), |_| None);
        let ends = "w2: not_granted: 1 session: in the way";
        let spans = windows.take(&told(4, (Stage::Draining, Stage::Closed), ends), |_| None);
        assert_eq!(names(&spans), ["draining", "window shop"]);
        let error = Status::error("not_granted");
        assert!(spans.iter().all(|span| span.status == error), "{spans:?}");
    }

    #[test]
    fn what_is_open_at_the_end_is_told_as_far_as_it_came() {
        let mut windows = Windows::default();
        // One that was taken up from an earlier process is met in the middle.
        windows.take(&told(1, (Stage::Draining, Stage::Exclusive), "w3"), |_| {
            None
        });
        let spans = windows.left(at(2));
        assert_eq!(names(&spans), ["exclusive", "window shop"]);
        assert!(matches!(spans[1].status, Status::Error { .. }));
        assert!(windows.left(at(3)).is_empty());
    }
}
