//! Waiting for a state instead of for a time.

use std::time::{Duration, Instant};

/// How long a test waits for something that should come at once, on a busy machine.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// How long a test waits for what may take its time: a drain, a migration.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);

/// Polls `condition` until it answers `Some`, and returns what it found.
///
/// Panics after `deadline` and says that it waited for `what`.
pub(crate) async fn eventually<T>(
    what: &str,
    deadline: Duration,
    mut condition: impl AsyncFnMut() -> Option<T>,
) -> T {
    let end = Instant::now() + deadline;
    loop {
        if let Some(found) = condition().await {
            return found;
        }
        assert!(
            Instant::now() < end,
            "waited {deadline:?} in vain for {what}"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Like [`eventually`], for a condition that is only true or false.
pub(crate) async fn until(
    what: &str,
    deadline: Duration,
    mut condition: impl AsyncFnMut() -> bool,
) {
    eventually(what, deadline, async || condition().await.then_some(())).await;
}

/// The result of `future`. Panics after `deadline` and says that it waited for `what`.
pub(crate) async fn within<F: Future>(what: &str, deadline: Duration, future: F) -> F::Output {
    match tokio::time::timeout(deadline, future).await {
        Ok(output) => output,
        Err(_) => panic!("waited {deadline:?} in vain for {what}"),
    }
}
