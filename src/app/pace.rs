//! Answers how the last minutes of a database were.

use std::time::Duration;

use super::App;
use crate::admin::ApiError;
use crate::admin::types::PaceView;
use crate::drain::report::millis;
use crate::window::pace;

impl App {
    /// What was seen of a database in the last minutes.
    pub(super) fn pace(&self, database: String) -> Result<PaceView, ApiError> {
        if self.controller.gates().find(&database).is_none() {
            let message = format!("Nobody has connected to a database called {database:?} yet.");
            return Err(ApiError::not_found(message));
        }
        let course = self.controller.course(&database);
        Ok(PaceView {
            database,
            every_ms: millis(pace::EVERY),
            running: course.seen.iter().map(|it| it.running).collect(),
            longest_ms: course.longest.into_iter().map(millis).collect(),
            waiting: course.seen.iter().map(|it| it.waiting).collect(),
            transactions: course.transactions,
            latency_us: course
                .latency
                .into_iter()
                .map(|it| it.map(micros))
                .collect(),
        })
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
