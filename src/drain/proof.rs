//! What the server says of our sessions, held against what we know of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::escalation::Proof;
use super::report::Blocker;
use crate::config::{Bypass, Scope};
use crate::server::connect::Endpoint;
use crate::server::control::{Activity, Backend, Control, ControlError, Seen};
use crate::session::registry::{self, Departed, Enforcement, Session, Sessions};

/// The server's view of one database at one moment.
#[derive(Debug)]
pub(super) struct View {
    /// What it proves.
    pub proof: Proof,
    /// Backends of ours that are in a transaction, or that we left and that are not gone.
    pub busy: Vec<Backend>,
    /// Sessions that did not come through us and are in a transaction.
    pub bypass: Vec<Backend>,
    /// Replication connections of ours that holds do not stop and that are in a transaction.
    pub unheld: Vec<Blocker>,
    /// Sessions that no hold stops and that are in a transaction.
    pub exempt: Vec<Blocker>,
    /// Why the proof is unknown.
    pub unknown: Option<String>,
    /// Whether process ids mean nothing, because a pooler is in between.
    pub pooled: bool,
    /// Whether the server did not answer.
    pub failed: bool,
}

impl View {
    /// Those at work past the hold, for reports.
    pub(super) fn past_us(&self) -> Vec<Blocker> {
        let bypass = self.bypass.iter().map(Blocker::past_us);
        bypass.chain(self.unheld.iter().cloned()).collect()
    }
}

/// Which sessions of ours a proof is about.
#[derive(Debug, Clone, Copy)]
pub(super) enum About<'a> {
    /// All of them.
    All,
    /// Those whose writes the server would not refuse, but for these process ids, which are known to read.
    Writers(&'a BTreeSet<i32>),
}

impl About<'_> {
    fn session(self, session: &Session) -> bool {
        match self {
            About::All => true,
            About::Writers(but) => {
                session.enforcement() != Enforcement::Enforced
                    && session.pid().is_none_or(|pid| !but.contains(&pid))
            }
        }
    }

    fn departed(self, gone: &Departed) -> bool {
        match self {
            About::All => true,
            About::Writers(_) => !gone.enforced,
        }
    }
}

/// Asks the server about the sessions of `database` that `scope` is for. Those that did not come through us belong to the
/// proof unless they are to be ignored.
pub(super) async fn look(
    database: &str,
    (scope, about): (&Scope, About<'_>),
    sessions: &Sessions,
    control: &Control,
    bypass: Bypass,
) -> View {
    // Taken before the server is asked: whoever logs in later cannot be missed by the answer.
    let ours = sessions.of(database);
    match control.backends(database).await {
        Ok(seen) => compare((database, scope, about), sessions, &ours, seen, bypass),
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
                unheld: Vec::new(),
                exempt: Vec::new(),
                unknown,
                pooled: false,
                failed: true,
            }
        }
    }
}

fn compare(
    (database, scope, about): (&str, &Scope, About<'_>),
    sessions: &Sessions,
    ours: &[Arc<Session>],
    seen: Seen,
    bypass: Bypass,
) -> View {
    let Seen {
        endpoint,
        backends,
        pooled,
    } = seen;
    let endpoint = &endpoint;
    let seen: BTreeMap<i32, Backend> = backends
        .into_iter()
        .map(|backend| (backend.pid, backend))
        .collect();
    let mut view = View {
        proof: Proof::Clear,
        busy: vec![],
        bypass: vec![],
        unheld: vec![],
        exempt: vec![],
        unknown: None,
        pooled,
        failed: false,
    };
    if pooled {
        view.unknown("a pooler stands between the control connection and the server".into());
    }
    sessions.forget_departed(|gone| {
        *gone.database != *database || &gone.endpoint != endpoint || seen.contains_key(&gone.pid)
    });
    let departed = sessions.departed_of(database);
    let meant = |gone: &&Departed| scope.fits(gone.who()) && about.departed(gone);
    for gone in departed.iter().filter(meant) {
        match seen.get(&gone.pid) {
            // Also one that is shown idle: a statement may lie in its socket that it has not read
            // yet, and it would run whatever became of its client.
            Some(backend) => view.busy(backend),
            None => view.unknown(format!("the backend {} is at another server", gone.pid)),
        }
    }
    let held = ours.iter().filter(|session| session.held_by_holds);
    // Asked after the server was: whoever reads by then with the server's consent was not writing.
    for session in held.filter(|it| scope.fits(it.who()) && about.session(it)) {
        view.count_session(session, sessions, endpoint, &seen);
    }
    for backend in seen.values().filter(|backend| !backend.sends_changes) {
        let is_ours = sessions.by_pid(backend.pid).is_some()
            || sessions.is_elsewhere(backend.pid)
            || ours.iter().any(|session| session.pid() == Some(backend.pid))
            // As it is now: it may have left since the first look.
            || sessions.departed_of(database).iter().any(|gone| gone.pid == backend.pid);
        if !is_ours {
            view.count_bypass(backend, bypass);
        }
    }
    // Replication connections take SQL too; one that is not held is to be seen then.
    // Those of a window are let in by whoever drains, and ended with it.
    let unheld = ours
        .iter()
        .filter(|session| !session.held_by_holds && session.window.is_none());
    let (replicates, exempt): (Vec<_>, Vec<_>) = unheld
        .filter(|session| session.transaction_age().is_some())
        .partition(|session| session.replication.is_some());
    let blocker = |session: &Arc<Session>| Blocker::from(&**session);
    view.unheld = replicates.into_iter().map(blocker).collect();
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

    /// One that did not come through us.
    fn count_bypass(&mut self, backend: &Backend, policy: Bypass) {
        if backend.in_transaction() {
            self.bypass.push(backend.clone());
        }
        match (policy, backend.activity) {
            (Bypass::Ignore, _) | (_, Activity::Idle | Activity::Aborted) => {}
            (_, Activity::Active | Activity::IdleInTransaction) => self.is_busy(),
            (_, Activity::Unknown) => self.unknown(format!(
                "the server does not show what the session {} of {:?} does, which did not come \
                 through pgdrain: the control role needs pg_read_all_stats",
                backend.pid, backend.user
            )),
        }
    }

    fn busy(&mut self, backend: &Backend) {
        self.busy.push(backend.clone());
        self.is_busy();
    }

    fn is_busy(&mut self) {
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
#[must_use]
pub fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
