//! What the admin HTTP tells and asks of the measures of statements.

use std::time::Duration;

use jiff::Timestamp;

use super::api::AppApi;
use crate::admin::types::{MeasureRequest, StatementsView};
use crate::admin::{ApiError, Caller};
use crate::metrics::statements::LONGEST;

impl AppApi {
    /// What was measured in a database; those statements that took most time.
    pub(super) fn statements_of(&self, database: String, most: usize) -> StatementsView {
        let gate = self.app.controller.gates().find(&database);
        let statements = gate.as_ref().map(|gate| gate.statements());
        let left = statements.and_then(|it| it.left());
        StatementsView {
            until: left.and_then(|left| Timestamp::now().checked_add(left).ok()),
            measured: statements
                .map(|it| it.measured().top(most))
                .unwrap_or_default(),
            database,
        }
    }

    /// Measures for a time, or no more.
    pub(super) fn set_measuring(
        &self,
        database: String,
        request: MeasureRequest,
        caller: &Caller,
    ) -> Result<StatementsView, ApiError> {
        let lasting = Duration::from(request.lasting);
        if lasting > LONGEST {
            return Err(ApiError::bad_request(
                "Statements are measured for 48h at most.",
            ));
        }
        let configured = self.app.config.load().migrate.measures.one_in;
        let one_in = request.one_in.unwrap_or(configured);
        if one_in == 0 {
            return Err(ApiError::bad_request("one_in must be at least 1."));
        }
        tracing::info!(database, lasting = %request.lasting, one_in, ?caller, "measure statements");
        let gate = self.app.controller.gates().of(&database);
        if lasting.is_zero() {
            gate.statements().stop();
        } else {
            gate.measure(lasting, one_in);
        }
        Ok(self.statements_of(database, 0))
    }
}
