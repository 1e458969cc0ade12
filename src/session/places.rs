//! A session's places among all that is limited.

use std::net::IpAddr;
use std::sync::Arc;

use super::life::Host;
use super::room::{RoomTaken, Tallied};
use crate::auth::passthrough::Failed;
use crate::config::Config;
use crate::wire::refusal::Refusal;
use crate::wire::startup::{Replication, Startup};

/// What a session takes of what is limited, given back with it.
pub(super) struct Places {
    _session: RoomTaken,
    database: Option<Tallied<Arc<str>>>,
    user: Tallied<Arc<str>>,
    _address: Option<Tallied<IpAddr>>,
}

#[cfg(test)]
impl Places {
    /// As a session takes them that nothing limits.
    pub(super) fn for_tests(rooms: &super::room::Rooms) -> Places {
        let user = rooms.users.take("anna".into(), None);
        Places {
            _session: rooms.sessions.take(usize::MAX).expect("no limit"),
            database: rooms.databases.take("shop".into(), None),
            user: user.expect("no limit"),
            _address: None,
        }
    }
}

impl Places {
    /// The user's name, shared by all the sessions of that user.
    pub(super) fn user(&self) -> Arc<str> {
        Arc::clone(self.user.key())
    }

    /// The database's name, shared in the same way; `None` of a session that is in none.
    pub(super) fn database(&self) -> Option<Arc<str>> {
        self.database.as_ref().map(|place| Arc::clone(place.key()))
    }
}

impl Host {
    /// Places for a session in its database and of its user. The server has accepted both names:
    /// before that they are anybody's.
    pub(super) fn places(
        &self,
        (session, address): (RoomTaken, Option<Tallied<IpAddr>>),
        startup: &Startup,
        config: &Config,
    ) -> Result<Places, Failed> {
        let (database, user) = (startup.database(), startup.user());
        let limit = config.limits.connections_per_database;
        let in_database = match startup.replication() {
            Some(Replication::Physical) => None,
            Some(Replication::Logical) | None => {
                let place = self.rooms.databases.take(database.into(), limit);
                Some(place.ok_or_else(|| {
                    let refusal = Refusal::TooManyInDatabase(database.to_owned());
                    self.full("connections_per_database", refusal)
                })?)
            }
        };
        let limit = config.limits.connections_per_user;
        let of_user = self.rooms.users.take(user.into(), limit);
        let of_user = of_user.ok_or_else(|| {
            let refusal = Refusal::TooManyOfUser(user.to_owned());
            self.full("connections_per_user", refusal)
        })?;
        Ok(Places {
            _session: session,
            database: in_database,
            user: of_user,
            _address: address,
        })
    }
}
