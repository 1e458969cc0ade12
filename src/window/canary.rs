//! A canary: while a window still holds everybody, the connections of one scope are let in, and those that
//! show the window's key.
//!
//! They come in as connections of the window do: past the gate, counted, and ended with it. So nobody else
//! is let in by mistake, and what they do is over before anybody decides.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::timeout;

use super::Controller;
use crate::config::{Scope, Secret};
use crate::session::passes::{Arrived, Passes, hash};
use crate::wire::window_key;

/// How many connections may arrive in the same instant.
const ARRIVALS: usize = 64;

/// How long connections of a canary may take to end, which are told to end at once.
const END_TIME: Duration = Duration::from_secs(30);

impl Controller {
    /// Lets new connections of this scope into the database of a window, and those that show the key.
    /// They stay until [`Controller::end_canary`]. The key comes back in the form in which libpq takes it
    /// (`PGOPTIONS`).
    pub fn begin_canary(
        self: &Arc<Self>,
        (database, window): (&str, &str),
        scope: Option<Scope>,
        passes: &Passes,
    ) -> Secret {
        let secret = [
            super::WindowRequest::new_id(),
            super::WindowRequest::new_id(),
        ]
        .concat();
        let (arrivals, mut arrived) = mpsc::channel::<Arrived>(ARRIVALS);
        passes.issue(window, database, (hash(&secret), None), arrivals);
        if let Some(scope) = scope {
            passes.admit(window, scope);
        }
        // They are clients like any other: a crash ends the window, and they go on like the rest.
        self.tasks.spawn("canary", async move {
            while let Some(arrived) = arrived.recv().await {
                let _gone = arrived.answer.send(true);
            }
        });
        Secret::new(format!("-c {}={window}.{secret}", window_key::NAME))
    }

    /// Lets nobody in any more, and ends those who came in; false when one of them would not end in time.
    pub async fn end_canary(&self, (database, window): (&str, &str), passes: &Passes) -> bool {
        passes.shut(window);
        let backends: Vec<i32> = self
            .sessions
            .in_window(window)
            .iter()
            .filter_map(|it| it.pid())
            .collect();
        let ended = self.end_connections((database, window), &backends, passes);
        let ended = timeout(END_TIME, ended).await.is_ok();
        passes.forget(window);
        ended
    }
}
