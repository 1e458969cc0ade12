//! What an operator does to one session: found, done, told, and written down.

use std::sync::Arc;

use super::api::AppApi;
use super::listing::state_of;
use crate::admin::types::{Action, ActionRequest, Effect, SessionActed};
use crate::admin::{ApiError, Caller, Surface};
use crate::audit::{Event, Kind};
use crate::drain::single::{self, NotDone};
use crate::session::registry::{Activity, Session, SessionId};

impl Surface for AppApi {
    async fn act_on_session(
        &self,
        id: u64,
        action: Action,
        request: ActionRequest,
        caller: Caller,
    ) -> Result<SessionActed, ApiError> {
        let session = self.app.sessions.by_id(SessionId(id));
        let session = session.ok_or_else(|| gone(id))?;
        let app = Arc::clone(&self.app);
        // What was begun goes on when whoever asked for it goes away.
        let acting = self.app.tasks.spawn("session action", async move {
            let before = session.activity();
            let control = app.controller.control(&session.database);
            let done = single::act(&session, action, &control).await;
            let event = told(&session, (action, before), &done);
            tracing::info!(
                session = session.id.0,
                ?action,
                ?done,
                "an operator acted on it"
            );
            app.controller.audit().tell(Event {
                by: caller.signs(request.by),
                from: Some(caller.from),
                reason: request.reason,
                ..event
            });
            done.map(|effect| acted(&session, (action, before), effect))
                .map_err(|error| not_done(id, error))
        });
        let lost = |_| ApiError::unavailable("stopping", "pgdrain is stopping.");
        acting.await.map_err(lost)?
    }
}

fn gone(id: u64) -> ApiError {
    ApiError::not_found(format!("There is no session {id}: it may have ended."))
}

fn not_done(id: u64, error: NotDone) -> ApiError {
    let message = format!("Nothing was done to session {id}: {error}.");
    match error {
        NotDone::Nothing { .. } => ApiError::conflict("nothing_to_do", message),
        NotDone::WentOn => ApiError::conflict("not_done", message),
        NotDone::Gone => gone(id),
    }
}

fn acted(session: &Session, did: (Action, Activity), effect: Effect) -> SessionActed {
    SessionActed {
        id: session.id.0,
        pid: session.pid(),
        database: session.database.to_string(),
        user: session.user.to_string(),
        application_name: session.application_name.to_string(),
        client: session.client.to_string(),
        action: did.0,
        effect,
        client_sees: client_sees(did).to_owned(),
    }
}

/// What the client of a session gets that was in this state.
fn client_sees((action, before): (Action, Activity)) -> &'static str {
    match (action, before) {
        (Action::Cancel, Activity::Held) => {
            "57014: its statement was not executed; its connection stays"
        }
        (Action::Cancel, _) => {
            "57014: its statement is undone, and a transaction block around it has failed; its \
             connection stays"
        }
        (Action::Abort, _) => {
            "40001 at its next statement: nothing of its transaction was committed, and it may run the \
             whole transaction again; its connection stays"
        }
        (Action::Terminate, Activity::Held) => {
            "57P01, and its connection is closed; its statement was not executed"
        }
        (Action::Terminate, _) => {
            "57P01, and its connection is closed; what had not been committed is undone"
        }
    }
}

fn told(
    session: &Session,
    (action, before): (Action, Activity),
    done: &Result<Effect, NotDone>,
) -> Event {
    let outcome = match done {
        Ok(effect) => effect.to_string(),
        Err(why) => format!("refused: {why}"),
    };
    let pid = session
        .pid()
        .map_or_else(String::new, |pid| format!(", server process {pid}"));
    Event {
        before: Some(state_of(before).to_string()),
        after: done.is_ok().then(|| match session.has_ended() {
            true => "ended".to_owned(),
            false => state_of(session.activity()).to_string(),
        }),
        outcome: Some(format!(
            "{action} of session {}{pid}, user {:?}, application {:?}, from {}: {outcome}",
            session.id.0, session.user, session.application_name, session.client
        )),
        ..Event::of(Kind::Session, &session.database)
    }
}
