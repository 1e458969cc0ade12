//! What an operator does to one session: found, done, told, and written down; and what else the admin HTTP
//! asks besides.

use std::sync::Arc;

use super::api::AppApi;
use super::listing::state_of;
use super::reload::problems;
use crate::admin::types::{
    Action, ActionRequest, ConfigChecked, ConfigReloaded, ConfigView, Effect, IfMatch, ModeRequest,
    ModeResults, ModeStates, SessionActed, Shutdown,
};
use crate::admin::{Answer, ApiError, Caller, Databases, Replays, Surface};
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

    async fn lacks(&self, database: &str, doubted: bool) -> bool {
        self.app.lacks(database, doubted).await
    }

    async fn mode(&self, databases: Databases) -> Result<ModeStates, ApiError> {
        self.mode_states(&databases)
    }

    async fn set_mode_if(
        &self,
        databases: Databases,
        request: ModeRequest,
        answer: Answer,
        caller: Caller,
        condition: IfMatch,
    ) -> Result<ModeResults, ApiError> {
        self.change_mode(databases, request, answer, caller, Some(condition))
            .await
    }

    async fn config(&self) -> ConfigView {
        self.app.config_view()
    }

    async fn validate_config(&self, text: String) -> ConfigChecked {
        self.app.check_config(&text)
    }

    async fn reload_config(
        &self,
        request: ActionRequest,
        caller: Caller,
    ) -> Result<ConfigReloaded, ApiError> {
        let asked = Event {
            by: caller.signs(request.by),
            from: Some(caller.from),
            reason: request.reason,
            ..Event::here(Kind::Reload)
        };
        self.app.reload(asked).map_err(|error| {
            let message = "The configuration cannot be used: nothing was changed.";
            ApiError::invalid_config(message, problems(&error))
        })
    }

    async fn shut_down(
        &self,
        how: Shutdown,
        request: ActionRequest,
        caller: Caller,
    ) -> Result<(), ApiError> {
        let asked = Event {
            by: caller.signs(request.by),
            from: Some(caller.from),
            reason: request.reason,
            ..Event::here(Kind::Stopping)
        };
        self.app.shut_down(how, asked)
    }

    fn replays(&self) -> &Replays {
        &self.replays
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
