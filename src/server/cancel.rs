//! Sends cancel requests to servers, so many at a time.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::connect::{Route, connect_again};
use crate::wire::frontend;
use crate::wire::startup::CancelKey;

/// How long a server may take to end the connection of a cancel request.
const CANCEL_TIME: Duration = Duration::from_secs(10);

/// The way of cancel requests to servers.
#[derive(Debug)]
pub struct Cancels {
    places: Semaphore,
}

/// What became of a cancel request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// The server has acted on it. Whether anything was cancelled, nobody learns.
    Yes,
    /// What it was for had ended before it could be sent.
    Needless,
}

impl Cancels {
    /// At most so many connections at a time.
    pub fn new(at_once: usize) -> Cancels {
        let places = Semaphore::new(at_once.min(Semaphore::MAX_PERMITS));
        Cancels { places }
    }

    /// Asks the server to cancel what the session of `key` runs, and waits until it has acted on it:
    /// it closes the connection then (Postgres documentation section 55.2.8).
    ///
    /// The server cancels whatever it finds running. So `still_runs` is asked whenever time has
    /// passed: with a place in hand, and with a connection. A late request would end somebody's next
    /// statement (pgbouncer #245).
    pub async fn send(
        &self,
        route: &Route,
        key: &CancelKey,
        still_runs: impl Fn() -> bool,
    ) -> io::Result<Sent> {
        // The semaphore is never closed; without a place nothing is sent.
        let Ok(_place) = self.places.acquire().await else {
            return Ok(Sent::Needless);
        };
        if !still_runs() {
            return Ok(Sent::Needless);
        }
        let send = async {
            let mut stream = connect_again(route).await?;
            if !still_runs() {
                return Ok(Sent::Needless);
            }
            stream.write_all(&frontend::cancel_request(key)).await?;
            stream.flush().await?;
            let mut end = [0; 64];
            while stream.read(&mut end).await? > 0 {}
            Ok(Sent::Yes)
        };
        timeout(CANCEL_TIME, send)
            .await
            .map_err(|_elapsed| io::Error::from(io::ErrorKind::TimedOut))?
    }
}
