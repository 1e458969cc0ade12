//! Whether the server itself refuses the writes of a session, as read-only mode wants it.

use std::sync::atomic::{AtomicU8, Ordering};

/// How far the enforcement of read-only mode has come for one session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Enforcement {
    /// It is not wanted, or the session has not looked yet.
    No = 0,
    /// It is wanted, and the server does not refuse writes yet: the session is in a transaction that is
    /// older than the mode, or its server did not do as it was told. It starts nothing that may write.
    Pending = 1,
    /// The server refuses writes in every transaction that the session starts from now on.
    Enforced = 2,
}

impl Enforcement {
    /// The word that reports use.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Enforcement::No => "no",
            Enforcement::Pending => "pending",
            Enforcement::Enforced => "enforced",
        }
    }
}

/// An [`Enforcement`] that others may read.
#[derive(Debug, Default)]
pub(super) struct Shared(AtomicU8);

impl Shared {
    pub(super) fn get(&self) -> Enforcement {
        match self.0.load(Ordering::Acquire) {
            0 => Enforcement::No,
            2 => Enforcement::Enforced,
            _ => Enforcement::Pending,
        }
    }

    pub(super) fn set(&self, enforcement: Enforcement) {
        self.0.store(enforcement as u8, Ordering::Release);
    }
}

/// How many sessions of a database the read-only mode has reached.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Their server refuses writes.
    pub enforced: usize,
    /// It does not yet, or the session has not looked yet.
    pub pending: usize,
    /// The mode is not for them: holds do not stop them, or they work in a window.
    pub exempt: usize,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Scope;
    use crate::server::connect::{Endpoint, Route};
    use crate::session::registry::{Login, Sessions};
    use crate::tls::stream::Peer;

    fn login(user: &str, held_by_holds: bool) -> Login {
        Login {
            database: "shop".into(),
            user: user.into(),
            application_name: "".into(),
            replication: None,
            held_by_holds,
            pass: None,
            client: Peer::Unix,
            route: Route::plain(Endpoint::Unix("/nowhere".into())),
            server_key: None,
            client_key: None,
        }
    }

    #[test]
    fn sessions_count_by_how_far_they_are_and_who_does_not_take_part_is_exempt() {
        let sessions = Sessions::default();
        let enforced = sessions.add(login("anna", true));
        enforced.set_enforcement(Enforcement::Enforced);
        let pending = sessions.add(login("anna", true));
        pending.set_enforcement(Enforcement::Pending);
        let _unseen = sessions.add(login("ben", true));
        let _exempt = sessions.add(login("ben", false));
        let counts = |enforced, pending, exempt| Counts {
            enforced,
            pending,
            exempt,
        };
        let all = Scope::default();
        assert_eq!(sessions.enforcements("shop", &all), counts(1, 2, 1));
        assert_eq!(sessions.enforcements("else", &all), counts(0, 0, 0));
        let ben = Scope {
            user: Some("ben".into()),
            ..all
        };
        assert_eq!(sessions.enforcements("shop", &ben), counts(0, 1, 1));
    }
}
