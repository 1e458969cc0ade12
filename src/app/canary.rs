//! How canaries come in: by the passes of the process, at a socket that it listens on.

use std::sync::{Arc, OnceLock};

use super::traffic::Windows;
use crate::config::{LISTEN_PORT, Scope};
use crate::runner::{CanaryDoor, Grant};
use crate::session::passes::Passes;

/// What canaries need of the rest of the process.
#[derive(Debug, Clone)]
pub(super) struct Canaries {
    passes: Arc<Passes>,
    /// The names of the sockets, once they are there.
    listen: Arc<OnceLock<Vec<String>>>,
}

impl Canaries {
    pub(super) fn new(passes: &Arc<Passes>) -> Canaries {
        Canaries {
            passes: Arc::clone(passes),
            listen: Arc::default(),
        }
    }

    /// To be called once.
    pub(super) fn listen_on(&self, names: Vec<String>) {
        let _ = self.listen.set(names);
    }

    /// Where a program of this machine finds us, as libpq takes it.
    fn address(&self) -> Option<(String, u16)> {
        let names = self.listen.get()?;
        names.iter().find_map(|name| address(name))
    }
}

/// The host, or the directory of a Unix socket, and the port.
fn address(name: &str) -> Option<(String, u16)> {
    if let Some(unix) = name.strip_prefix("unix:") {
        return Some(match unix.rsplit_once(':') {
            Some((directory, port)) => (directory.to_owned(), port.parse().ok()?),
            None => (unix.to_owned(), LISTEN_PORT),
        });
    }
    let (host, port) = name.rsplit_once(':')?;
    let host = match host.trim_matches(['[', ']']) {
        "0.0.0.0" => "127.0.0.1",
        "::" => "::1",
        host => host,
    };
    Some((host.to_owned(), port.parse().ok()?))
}

impl Windows {
    pub(super) fn let_canary_in(
        &self,
        grant: &Grant,
        scope: Option<Scope>,
    ) -> Result<CanaryDoor, String> {
        let database = self.database_of(grant).ok_or("the window is over")?;
        let address = self.canaries.address();
        let address = address.ok_or("there is no socket to come in by")?;
        let window = (database.as_str(), grant.id.as_str());
        let passes = &self.canaries.passes;
        Ok(CanaryDoor {
            address,
            options: self.controller.begin_canary(window, scope, passes),
        })
    }

    pub(super) async fn put_canary_out(&self, grant: &Grant) -> bool {
        let Some(database) = self.database_of(grant) else {
            return true;
        };
        let window = (database.as_str(), grant.id.as_str());
        let passes = &self.canaries.passes;
        self.controller.end_canary(window, passes).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_is_found_by_what_it_is_called() {
        for (name, host, port) in [
            ("127.0.0.1:6432", "127.0.0.1", 6432),
            ("0.0.0.0:5432", "127.0.0.1", 5432),
            ("[::]:5432", "::1", 5432),
            ("[fe80::1]:7", "fe80::1", 7),
            ("unix:/run/pgdrain", "/run/pgdrain", LISTEN_PORT),
            ("unix:/run/pgdrain:7432", "/run/pgdrain", 7432),
        ] {
            assert_eq!(address(name), Some((host.to_owned(), port)), "{name}");
        }
        assert_eq!(address("nowhere"), None);
    }
}
