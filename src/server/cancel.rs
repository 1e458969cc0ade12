//! Sends cancel requests to servers.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::connect::{Route, connect_again};
use crate::tls::connector::NotEncrypted;
use crate::wire::frontend;
use crate::wire::startup::CancelKey;

/// How long a server may take to end the connection of a cancel request.
const CANCEL_TIME: Duration = Duration::from_secs(10);

/// Asks the server to cancel what the session of `key` runs, and waits until it has acted on it:
/// it closes the connection then (Postgres documentation section 55.2.8). Whether anything was
/// cancelled, nobody learns.
pub async fn cancel(route: &Route, key: &CancelKey) -> io::Result<()> {
    let send = async {
        let mut stream = connect_again(route).await.map_err(|error| match error {
            NotEncrypted::Io(error) => error,
            other => io::Error::other(other),
        })?;
        stream.write_all(&frontend::cancel_request(key)).await?;
        stream.flush().await?;
        let mut end = [0; 64];
        while stream.read(&mut end).await? > 0 {}
        Ok(())
    };
    timeout(CANCEL_TIME, send)
        .await
        .map_err(|_elapsed| io::Error::from(io::ErrorKind::TimedOut))?
}
