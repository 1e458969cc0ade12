//! Answers what would stand in the way, and says it to other proxies that we are here.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::App;
use crate::admin::types::{Precheck, PrecheckQuery, WindowMode};
use crate::window::pace;
use crate::window::precheck::Question;

/// The pause after a server could not be told.
const TELL_AGAIN: Duration = Duration::from_secs(5);

impl App {
    /// Everything that would stand in the way of a window or of read-only mode now.
    pub(super) async fn precheck(&self, database: String, query: PrecheckQuery) -> Precheck {
        let hold = &self.config.load().hold;
        let mode = query.mode.unwrap_or(WindowMode::Exclusive);
        let question = Question {
            database,
            mode,
            ladder: query.ladder.unwrap_or(hold.ladder.preset),
            bypass: query.bypass.unwrap_or(hold.bypass_of_window()),
            fence: query.fence.unwrap_or(hold.fence) && mode == WindowMode::Exclusive,
            held: hold.client_deadline.min(hold.duration),
        };
        self.controller.precheck(question).await
    }

    /// Once a second: how long transactions run, and, to other proxies, which databases we serve.
    pub(super) fn keep_watch(self: &Arc<Self>) {
        let (app, stop) = (Arc::clone(self), self.tasks.shutdown_token());
        self.tasks.spawn("pace", async move {
            let mut due = tokio::time::interval(pace::EVERY);
            loop {
                tokio::select! {
                    _ = due.tick() => app.controller.look_at_pace(Instant::now()),
                    () = stop.cancelled() => return,
                }
            }
        });
        let (app, stop) = (Arc::clone(self), self.tasks.shutdown_token());
        self.tasks.spawn("announcements", async move {
            let mut pause = pace::EVERY;
            loop {
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    () = stop.cancelled() => return,
                }
                pause = match app.controller.announce().await {
                    true => pace::EVERY,
                    false => TELL_AGAIN,
                };
            }
        });
    }
}
