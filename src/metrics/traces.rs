//! What became of the spans of windows and migrations.

use super::{Metrics, counter, names};

impl Metrics {
    /// A collector took so many spans.
    pub fn spans_sent(&self, spans: usize) {
        self.spans("sent", spans);
    }

    /// So many spans were dropped.
    pub fn spans_dropped(&self, spans: usize) {
        self.spans("dropped", spans);
    }

    fn spans(&self, outcome: &'static str, spans: usize) {
        let spans = u64::try_from(spans).unwrap_or(u64::MAX);
        counter(&self.recorder, names::TRACE_SPANS, &[("outcome", outcome)]).increment(spans);
    }

    /// Shows what has not happened yet as 0.
    pub(super) fn no_spans_yet(self) -> Self {
        self.spans_sent(0);
        self.spans_dropped(0);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_counted_from_zero() {
        let metrics = Metrics::new();
        metrics.spans_sent(3);
        metrics.spans_sent(2);
        let text = metrics.render();
        for line in ["{outcome=\"sent\"} 5", "{outcome=\"dropped\"} 0"] {
            let line = format!("pgdrain_trace_spans_total{line}");
            assert!(text.lines().any(|it| it == line), "{line} in\n{text}");
        }
    }
}
