//! What is done to one session that an operator names: the steps of the ladder one by one, with the
//! gate open or not.
//!
//! | action | for a session that | what is done | what its client gets |
//! | --- | --- | --- | --- |
//! | cancel | runs a statement | a CancelRequest to its server | 57014 |
//! | cancel | waits at the gate | its statement is answered by us | 57014, not executed |
//! | abort | sits idle in a transaction | that is aborted in place | 40001 at its next statement |
//! | terminate | is there | `pg_terminate_backend`; if that does nothing, the connection is ended by us | 57P01 |

use std::time::{Duration, Instant};

use crate::clock;
use crate::config::words;
use crate::server::control::Control;
use crate::session::registry::{Activity, Session, Signals};

words! {
    /// What an operator may do to a session.
    Action {
        /// Its statement is cancelled.
        Cancel = "cancel",
        /// It is ended.
        Terminate = "terminate",
        /// The transaction in which it sits idle is aborted, and its connection survives.
        Abort = "abort",
    }
}

words! {
    /// What came of it.
    Effect {
        /// Its statement has ended.
        Cancelled = "cancelled",
        /// Its server connection is gone; its client may still read why.
        Terminated = "terminated",
        /// Its transaction is aborted and holds nothing any more.
        Aborted = "aborted",
        /// It was asked for, and has not come to pass in the time that an answer may take; it goes on.
        Asked = "asked",
    }
}

/// Why nothing was done to a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotDone {
    /// It is in a state in which there is nothing of the kind to do.
    #[error("{}", nothing(*action, *activity))]
    Nothing {
        /// What was asked for.
        action: Action,
        /// What it does.
        activity: Activity,
    },
    /// It ended by itself meanwhile.
    #[error("the session ended meanwhile")]
    Gone,
    /// It went on with its work before it could be aborted.
    #[error("the session is at work again, and was not aborted")]
    WentOn,
}

/// How long an answer waits for what was asked for to come to pass.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long a server may take to end a session that it was told to terminate.
const SERVER_TIME: Duration = Duration::from_secs(2);

/// The time between two looks at a session.
const LOOK: Duration = Duration::from_millis(10);

/// An abort that met the session in the middle of a message is asked for again.
const AGAIN: Duration = Duration::from_millis(200);

/// Does it, and waits until it has come to pass, for a few seconds at most. `control` is the control
/// connection to the session's server.
///
/// Not cancel safe: a session that its server does not end is ended by us behind a wait.
///
/// # Errors
/// Nothing was done.
pub async fn act(session: &Session, action: Action, control: &Control) -> Result<Effect, NotDone> {
    let activity = session.activity();
    let fits = match activity {
        Activity::Active | Activity::Held => action != Action::Abort,
        Activity::InTransaction => action != Action::Cancel,
        Activity::Idle | Activity::Aborted | Activity::Deferred => action == Action::Terminate,
        // Its client has left, and its server may run on.
        Activity::Closing => action != Action::Abort,
    };
    if !fits {
        return Err(NotDone::Nothing { action, activity });
    }
    match action {
        Action::Cancel => Ok(cancel(session).await),
        Action::Terminate => Ok(terminate(session, control).await),
        Action::Abort => abort(session).await,
    }
}

async fn cancel(session: &Session) -> Effect {
    let (asked, running) = (clock::now(), session.running());
    session.signal(Signals::CANCEL);
    let waits_on = |it: &Session| {
        it.held_for()
            .is_some_and(|held| held >= clock::now().saturating_duration_since(asked))
    };
    let ended = |it: &Session| {
        let works = match it.activity() {
            Activity::Active | Activity::Closing => it.still_runs(running),
            Activity::Held => waits_on(it),
            Activity::Idle | Activity::InTransaction | Activity::Aborted | Activity::Deferred => {
                false
            }
        };
        it.has_looked() && !works
    };
    match until(session, asked + PATIENCE, ended).await {
        true => Effect::Cancelled,
        false => Effect::Asked,
    }
}

/// The server says it best; but it may not be asked by us, or not heed what it was told.
async fn terminate(session: &Session, control: &Control) -> Effect {
    let asked = clock::now();
    let pid = session.pid().filter(|_| !control.is_pooled());
    if let Some(pid) = pid {
        match control.terminate(&[pid]).await {
            Ok(()) => {
                if until(session, asked + SERVER_TIME, Session::is_without_server).await {
                    return Effect::Terminated;
                }
            }
            Err(error) => tracing::warn!(
                session = session.id.0,
                error = &error as &dyn std::error::Error,
                "the server did not take the order to terminate: the session is ended by us"
            ),
        }
    }
    session.signal(Signals::DISMISS);
    match until(session, clock::now() + PATIENCE, Session::is_without_server).await {
        true => Effect::Terminated,
        false => Effect::Asked,
    }
}

async fn abort(session: &Session) -> Result<Effect, NotDone> {
    let asked = clock::now();
    let aborted = |it: &Session| {
        let ago = it.aborted_for();
        ago.is_some_and(|ago| ago <= clock::now().saturating_duration_since(asked))
    };
    let mut due = asked;
    while due < asked + PATIENCE {
        session.signal(Signals::ABORT_ANYWAY);
        due = clock::now() + AGAIN;
        let over = |it: &Session| {
            aborted(it) || it.has_ended() || it.activity() != Activity::InTransaction
        };
        if until(session, due, over).await {
            return match (aborted(session), session.has_ended()) {
                (true, _) => Ok(Effect::Aborted),
                (false, true) => Err(NotDone::Gone),
                (false, false) => Err(NotDone::WentOn),
            };
        }
    }
    Err(NotDone::WentOn)
}

/// Looks at the session until it is so, or the time has come. Says which.
async fn until(session: &Session, deadline: Instant, so: impl Fn(&Session) -> bool) -> bool {
    loop {
        if so(session) {
            return true;
        }
        if clock::now() >= deadline {
            return false;
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn nothing(action: Action, activity: Activity) -> &'static str {
    match (action, activity) {
        (_, Activity::Idle) => "the session is idle, outside of a transaction",
        (Action::Abort, Activity::Active) => {
            "the session runs a statement: cancel that first, or terminate the session"
        }
        (Action::Abort, Activity::Held) => {
            "the session waits at the gate and is in no transaction: cancel refuses its statement"
        }
        (_, Activity::InTransaction) => {
            "the session runs nothing: it sits idle in a transaction, which can be aborted"
        }
        (_, Activity::Aborted) => "the session's transaction is aborted already",
        (_, Activity::Deferred) => "the session's transaction has not begun at the server yet",
        (_, Activity::Closing) => "the session is ending",
        (Action::Cancel | Action::Terminate, Activity::Active | Activity::Held) => {
            "nothing was to be done"
        }
    }
}
