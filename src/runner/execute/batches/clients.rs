//! What clients feel while batches run, by the proxy's own measures.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use super::super::Executor;
use super::throttle::{Throttle, Turn};
use super::{Work, pause};
use crate::metrics::statements::Measured;
use crate::runner::aftermath::compare::Recent;
use crate::runner::stop::Stop;
use crate::runner::types::EventKind;

/// How often it is looked: measures are copied for that.
const EVERY: Duration = Duration::from_millis(500);

/// Over which time the percentile is taken.
const SPAN: Duration = Duration::from_secs(10);

/// A percentile of fewer says nothing.
const ENOUGH: u64 = 20;

/// Tells what was measured of clients until now, and has it measured on; `None` where nobody does.
#[derive(Clone)]
pub(in crate::runner) struct Felt(Arc<dyn Fn() -> Option<Measured> + Send + Sync>);

impl Felt {
    pub(in crate::runner) fn new(
        ask: impl Fn() -> Option<Measured> + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(ask))
    }
}

impl fmt::Debug for Felt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Felt")
    }
}

/// What was seen of clients while a file runs.
#[derive(Debug)]
pub(in crate::runner::execute) struct Clients {
    recent: Recent,
    looked: Option<Instant>,
    throttle: Throttle,
    told_unknown: bool,
}

impl Default for Clients {
    fn default() -> Self {
        Self {
            recent: Recent::over(SPAN),
            looked: None,
            throttle: Throttle::default(),
            told_unknown: false,
        }
    }
}

impl Executor<'_> {
    /// Pauses as long as what clients feel asks for, if a limit does.
    pub(super) async fn give_way(&mut self, work: &Work<'_>, stop: &Stop) {
        let own = work.script.directive.limits.p99;
        let Some(limit) = own.or(self.settings.batch.p99) else {
            return;
        };
        let now = Instant::now();
        let clients = &mut self.clients;
        if clients.looked.is_none_or(|it| now - it >= EVERY) {
            clients.looked = Some(now);
            self.look_at_clients(work, limit, now);
        }
        pause(self.clients.throttle.pause(), stop).await;
    }

    fn look_at_clients(&mut self, work: &Work<'_>, limit: Duration, now: Instant) {
        let file = &work.step.file;
        let Some(measured) = self.settings.felt.as_ref().and_then(|felt| (felt.0)()) else {
            if !self.clients.told_unknown {
                self.clients.told_unknown = true;
                self.run.note(format!(
                    "{file}: what clients feel is not measured here, so max_p99 keeps nothing waiting"
                ));
            }
            return;
        };
        let lately = self.clients.recent.add(now, measured);
        let known = lately.latency.count >= ENOUGH;
        let p99_ms = lately.latency.quantile_ms(0.99).filter(|_| known);
        let limit_text = humantime::format_duration(limit);
        let felt = p99_ms.unwrap_or_default();
        match self.clients.throttle.look(p99_ms, limit) {
            Turn::Slows => {
                let text = format!(
                    "{file}: pauses grow, clients feel a p99 of {felt:.1} ms (max_p99={limit_text})"
                );
                let data = json!({ "file": file, "p99_ms": felt });
                self.run.tell(EventKind::Note, text, data);
            }
            Turn::Recovered => {
                let text = format!("{file}: no pauses for clients any more, a p99 of {felt:.1} ms");
                self.run.note(text);
            }
            Turn::Goes => {}
        }
    }
}
