//! What comes to an end by itself, certificates and tokens: said in the log in time, and shown as metrics.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::App;
use crate::metrics::EndFigure;

/// How often an end that is near is said again: a log that is read daily shows it.
const AGAIN: Duration = Duration::from_secs(24 * 3600);

impl App {
    /// Says now and each day what ends soon or has ended.
    pub(super) fn watch_ends(self: &Arc<Self>) {
        let app = Arc::clone(self);
        let stop = self.tasks.shutdown_token();
        self.tasks.spawn("ends", async move {
            let mut due = tokio::time::interval(AGAIN);
            loop {
                tokio::select! {
                    _ = due.tick() => app.say_ends(),
                    () = stop.cancelled() => return,
                }
            }
        });
    }

    /// Says what ends soon or has ended.
    pub(super) fn say_ends(&self) {
        let now = Timestamp::now();
        for ending in self.config.load().endings() {
            if let Some(warning) = ending.warning(now) {
                tracing::warn!("{warning}");
            }
        }
    }

    /// Sets the metrics of all ends, and of who is in the console.
    pub(super) fn measure_access(&self) {
        let ends = self.config.load().endings().into_iter();
        let ends: Vec<_> = ends
            .map(|ending| EndFigure {
                key: ending.key,
                token: ending.token,
                at: ending.at.as_duration().as_secs_f64(),
            })
            .collect();
        self.metrics.set_ends(&ends);
        self.metrics.set_console_visitors(self.visitors.now());
    }
}
