//! Answers what sessions run, from the server's own view.

use std::collections::BTreeSet;

use super::App;
use crate::admin::ApiError;
use crate::admin::types::{RunningStatement, RunningStatements};
use crate::drain::with_causes;

impl App {
    /// What the sessions with these process ids run, ours and others of the database.
    ///
    /// # Errors
    /// 503 when the server cannot be asked, or its process ids are not those that we know.
    pub(super) async fn running(
        &self,
        database: &str,
        pids: &[i32],
    ) -> Result<RunningStatements, ApiError> {
        let control = self.controller.control(database);
        let unknown = |why| ApiError::unavailable("not_known", why);
        let ran = control.statements(database, pids).await;
        let (endpoint, ran) = ran.map_err(|error| unknown(format!("{}.", with_causes(&error))))?;
        if control.is_pooled() {
            let why = "A pooler stands before the server: process ids are not the server's.";
            return Err(unknown(why.to_owned()));
        }
        // A session on another host may have the process id of somebody else on this one.
        let sessions = self.sessions.of(database);
        let elsewhere = sessions.iter().filter(|it| it.route.endpoint != endpoint);
        let elsewhere: BTreeSet<i32> = elsewhere.filter_map(|it| it.pid()).collect();
        let mut statements: Vec<RunningStatement> = ran
            .into_iter()
            .filter(|it| !elsewhere.contains(&it.pid))
            .map(|it| RunningStatement {
                pid: it.pid,
                text: it.text,
                cut: it.cut,
                hidden: false,
                running: it.running,
                waits_for: it.waits_for,
                blocked_by: it.blocked_by,
            })
            .collect();
        statements.sort_by_key(|it| it.pid);
        Ok(RunningStatements { statements })
    }
}
