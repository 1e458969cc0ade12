//! Whether there is a database of some name, for requests that name one.

use std::time::Duration;

use tokio::time::timeout;

use super::App;

/// A server that has not said by then whether it has a database is not waited for: whoever holds before a
/// server answers has to be able to.
const PATIENCE: Duration = Duration::from_secs(2);

impl App {
    /// Whether no database has this name: `[databases]` leaves it out, or its server says that it has none.
    /// Nobody is asked about one that has a gate or sessions, unless it is `doubted`. A server that cannot be
    /// asked says nothing against it.
    pub(super) async fn lacks(&self, database: &str, doubted: bool) -> bool {
        let used = || {
            self.controller.gates().find(database).is_some()
                || !self.sessions.of(database).is_empty()
        };
        if database == "*" || !doubted && used() {
            return false;
        }
        // No name in a Postgres holds a zero byte, and none can be asked about.
        if database.contains('\0') || self.config.load().target(database).is_none() {
            return true;
        }
        let control = self.controller.control(database);
        let asked = timeout(PATIENCE, control.connection_limit(database)).await;
        matches!(asked, Ok(Ok(None)))
    }
}
