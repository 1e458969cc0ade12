//! A span while it goes on: what it is a part of, what happened in it, and how it ended.

use std::borrow::Cow;
use std::time::SystemTime;

use jiff::Timestamp;
use opentelemetry::trace::{
    Event, SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState,
};
use opentelemetry::{InstrumentationScope, KeyValue, Value};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};

/// Events of one span; of more their number is told. A backfill has a million batches.
const EVENTS_MAX: usize = 128;

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Span(SpanData);

impl Span {
    /// The first span of a trace of its own.
    pub(super) fn root(name: impl Into<Cow<'static, str>>, begin: Timestamp) -> Span {
        let trace = TraceId::from_bytes(rand::random());
        Span::new(trace, SpanId::INVALID, name.into(), begin)
    }

    /// A part of this one.
    pub(super) fn child(&self, name: impl Into<Cow<'static, str>>, begin: Timestamp) -> Span {
        let context = &self.0.span_context;
        Span::new(context.trace_id(), context.span_id(), name.into(), begin)
    }

    fn new(trace: TraceId, parent: SpanId, name: Cow<'static, str>, begin: Timestamp) -> Span {
        let id = SpanId::from_bytes(rand::random());
        let state = TraceState::default();
        let scope = InstrumentationScope::builder("pgdrain")
            .with_version(env!("CARGO_PKG_VERSION"))
            .build();
        Span(SpanData {
            span_context: SpanContext::new(trace, id, TraceFlags::SAMPLED, false, state),
            parent_span_id: parent,
            parent_span_is_remote: false,
            span_kind: SpanKind::Internal,
            name,
            start_time: begin.into(),
            end_time: begin.into(),
            attributes: Vec::new(),
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status: Status::Unset,
            instrumentation_scope: scope,
        })
    }

    /// The same, saying this of itself.
    pub(super) fn with(mut self, key: &'static str, value: impl Into<Value>) -> Span {
        self.0.attributes.push(KeyValue::new(key, value));
        self
    }

    /// The same, in this database.
    pub(super) fn of_database(self, database: &str) -> Span {
        // The names of the conventions for databases.
        self.with("db.system.name", "postgresql")
            .with("db.namespace", database.to_owned())
    }

    /// Something happened in it.
    pub(super) fn happened(
        &mut self,
        at: Timestamp,
        name: impl Into<Cow<'static, str>>,
        attributes: Vec<KeyValue>,
    ) {
        let events = &mut self.0.events;
        if events.events.len() < EVENTS_MAX {
            events
                .events
                .push(Event::new(name, at.into(), attributes, 0));
        } else {
            events.dropped_count = events.dropped_count.saturating_add(1);
        }
    }

    /// It is over: well, or by this trouble.
    pub(super) fn ended(mut self, at: Timestamp, trouble: Option<String>) -> SpanData {
        // A clock that was set back makes no span that ends before it began.
        self.0.end_time = SystemTime::from(at).max(self.0.start_time);
        self.0.status = trouble.map_or(Status::Unset, Status::error);
        self.0
    }
}
