//! Who the clients are, and whom holds are for.

use std::net::SocketAddr;

use pgdrain::config::Scope;
use pgdrain::tls::stream::Peer;

use crate::dice::Dice;

/// A client, as it said at its login.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Client {
    pub(crate) user: &'static str,
    pub(crate) application: &'static str,
    pub(crate) peer: Peer,
}

impl Client {
    /// One of eight kinds.
    pub(crate) fn new(dice: &mut Dice) -> Self {
        let there = SocketAddr::from(([10, 0, 0, 7], 4_000));
        Self {
            user: dice.one_of(&["app", "report"]),
            application: dice.one_of(&["web", "job"]),
            peer: dice.one_of(&[Peer::Unix, Peer::Tcp(there)]),
        }
    }
}

/// Whom a hold is for: in most seeds everybody, or some of the clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Whom {
    All,
    User,
    Application,
    Network,
    /// Some of both of the first two.
    Both,
}

impl Whom {
    pub(crate) const EACH: [Whom; 5] = [
        Whom::All,
        Whom::User,
        Whom::Application,
        Whom::Network,
        Whom::Both,
    ];

    pub(crate) fn new(dice: &mut Dice, narrow: usize) -> Self {
        if dice.percent(narrow) {
            dice.one_of(&Self::EACH[1..])
        } else {
            Self::All
        }
    }

    pub(crate) fn scope(self) -> Scope {
        let mut scope = Scope::default();
        match self {
            Whom::All => {}
            Whom::User => scope.user = Some("report".into()),
            Whom::Application => scope.application_name = Some("job".into()),
            Whom::Network => scope.client = Some("10.0.0.0/8".parse().expect("a network")),
            Whom::Both => {
                scope.user = Some("app".into());
                scope.application_name = Some("web".into());
            }
        }
        scope
    }
}
