//! Changes the ladder of a drain under way.

use super::App;
use crate::admin::types::{DrainRequest, ModeResult, ModeResults};
use crate::admin::{ApiError, Caller};
use crate::config::AskedLadder;
use crate::drain::escalation::Ladder;
use crate::gate::mode::Mode;
use crate::window::Target;

impl App {
    /// Gives the drains under way another ladder.
    pub(super) async fn change_drain(
        &self,
        target: &Target,
        body: &DrainRequest,
        caller: &Caller,
    ) -> Result<ModeResults, ApiError> {
        let asked = AskedLadder {
            preset: body.ladder,
            autocommit: body.autocommit,
            wait: body.wait,
            cancel: body.cancel,
            abort: body.abort,
            stuck: body.stuck,
            terminate: body.terminate,
        };
        let ladder = Ladder::new(&self.config.load().hold.ladder.with(&asked));
        let by = body.by.as_deref().unwrap_or("unknown");
        let from = Some(caller.from.as_str());
        let changed = self.controller.change_ladder(target, &ladder, (by, from));
        let there = self.controller.change_ladder_there(target, &ladder, by);
        there.await;
        if changed.is_empty() {
            let message = "No drain is under way there.";
            return Err(ApiError::conflict("not_draining", message));
        }
        let results = changed.iter().map(|draining| ModeResult {
            database: draining.database.clone(),
            scope: None,
            mode: self.mode_of(&draining.database),
            generation: draining.generation.0,
            drain: Some(draining.report.borrow().clone()),
        });
        Ok(ModeResults {
            tag: None,
            results: results.collect(),
        })
    }
    /// What is being drained is held, if not for all then for some.
    fn mode_of(&self, database: &str) -> Mode {
        let gate = self.controller.gates().find(database);
        let mode = gate.map_or(Mode::Open, |gate| gate.holds().0);
        match mode {
            Mode::Open => Mode::Hold,
            mode @ (Mode::ReadOnly | Mode::Hold) => mode,
        }
    }
}
