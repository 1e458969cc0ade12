//! What the server says of our sessions, held against what we know of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::escalation::Proof;
use super::report::Blocker;
use crate::config::Scope;
use crate::server::connect::Endpoint;
use crate::server::control::{Activity, Backend, Control, ControlError};
use crate::session::registry::{self, Session, Sessions};

/// The server's view of one database at one moment.
#[derive(Debug)]
pub(super) struct View {
    /// What it proves.
    pub proof: Proof,
    /// Backends of ours that are in a transaction, or that we left and that are not gone.
    pub busy: Vec<Backend>,
    /// Sessions that did not come through us and are in a transaction.
    pub bypass: Vec<Blocker>,
    /// Sessions that no hold stops and that are in a transaction.
    pub exempt: Vec<Blocker>,
    /// Why the proof is unknown.
    pub unknown: Option<String>,
}

/// Asks the server about the sessions of `database` that `scope` is for.
pub(super) async fn look(
    database: &str,
    scope: &Scope,
    sessions: &Sessions,
    control: &Control,
) -> View {
    // Taken before the server is asked: whoever logs in later cannot be missed by the answer.
    let ours = sessions.of(database);
    match control.backends(database).await {
        Ok((endpoint, backends)) => {
            compare((database, scope), sessions, &ours, &endpoint, backends)
        }
        Err(error) => {
            let proof = match error {
                ControlError::NoRole => Proof::Impossible,
                ControlError::Unreachable(_)
                | ControlError::Postgres(_)
                | ControlError::Timeout => Proof::Unknown,
            };
            let unknown = Some(with_causes(&error));
            View {
                proof,
                busy: Vec::new(),
                bypass: Vec::new(),
                exempt: Vec::new(),
                unknown,
            }
        }
    }
}

fn compare(
    (database, scope): (&str, &Scope),
    sessions: &Sessions,
    ours: &[Arc<Session>],
    endpoint: &Endpoint,
    backends: Vec<Backend>,
) -> View {
    let seen: BTreeMap<i32, Backend> = backends
        .into_iter()
        .map(|backend| (backend.pid, backend))
        .collect();
    let mut view = View {
        proof: Proof::Clear,
        busy: vec![],
        bypass: vec![],
        exempt: vec![],
        unknown: None,
    };
    sessions.forget_departed(|gone| {
        gone.database != database || &gone.endpoint != endpoint || seen.contains_key(&gone.pid)
    });
    let departed = sessions.departed_of(database);
    for gone in departed.iter().filter(|gone| scope.fits(gone.who())) {
        match seen.get(&gone.pid) {
            // Also one that is shown idle: a statement may lie in its socket that it has not read
            // yet, and it would run whatever became of its client.
            Some(backend) => view.busy(backend),
            None => view.unknown(format!("the backend {} is at another server", gone.pid)),
        }
    }
    let held = ours.iter().filter(|session| session.held_by_holds);
    for session in held.filter(|session| scope.fits(session.who())) {
        view.count_session(session, sessions, endpoint, &seen);
    }
    let is_ours = |pid: i32| {
        sessions.by_pid(pid).is_some()
            || sessions.is_elsewhere(pid)
            || ours.iter().any(|session| session.pid() == Some(pid))
            || departed.iter().any(|gone| gone.pid == pid)
    };
    let in_transaction =
        |activity| matches!(activity, Activity::Active | Activity::IdleInTransaction);
    view.bypass = seen
        .values()
        .filter(|backend| in_transaction(backend.activity) && !is_ours(backend.pid))
        .filter(|backend| !backend.sends_changes)
        .map(Blocker::from)
        .collect();
    // Replication connections take SQL too; one that is not held is to be seen then.
    // Those of a window are let in by whoever drains, and ended with it.
    let unheld = ours
        .iter()
        .filter(|session| !session.held_by_holds && session.window.is_none());
    let (replicates, exempt): (Vec<_>, Vec<_>) = unheld
        .filter(|session| session.transaction_age().is_some())
        .partition(|session| session.replication.is_some());
    let blocker = |session: &Arc<Session>| Blocker::from(&**session);
    view.bypass.extend(replicates.into_iter().map(blocker));
    view.exempt = exempt.into_iter().map(blocker).collect();
    view
}

impl View {
    fn count_session(
        &mut self,
        session: &Session,
        sessions: &Sessions,
        endpoint: &Endpoint,
        seen: &BTreeMap<i32, Backend>,
    ) {
        if session.replication.is_some() {
            // The server shows a stream as active and has no transaction for it; what such a session
            // runs besides has a permit.
            return;
        }
        let Some(pid) = session.pid() else {
            return self.unknown("a server gave no process id".into());
        };
        if &session.route.endpoint != endpoint {
            return self.unknown(format!("the backend {pid} is at another server"));
        }
        match seen.get(&pid) {
            Some(backend) => self.count(backend),
            // It may have ended between the two looks.
            None if session.activity() == registry::Activity::Closing => {}
            None if sessions.by_pid(pid).is_none() => {}
            None => self.unknown(format!(
                "the server does not know the backend {pid}: a pooler may stand in between"
            )),
        }
    }

    fn count(&mut self, backend: &Backend) {
        match backend.activity {
            Activity::Idle | Activity::Aborted => {}
            Activity::Active | Activity::IdleInTransaction => self.busy(backend),
            Activity::Unknown => self.unknown(format!(
                "the server does not show what the backend {} does: \
                 the control role needs pg_read_all_stats",
                backend.pid
            )),
        }
    }

    fn busy(&mut self, backend: &Backend) {
        self.busy.push(backend.clone());
        if self.proof == Proof::Clear {
            self.proof = Proof::Busy;
        }
    }

    fn unknown(&mut self, why: String) {
        self.proof = Proof::Unknown;
        self.unknown.get_or_insert(why);
    }
}

/// An error and its causes in one line.
fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
