//! What a window's task waits for. All of it may not be there: then it is waited for without an end.

use std::future::Future;
use std::pin::Pin;

use tokio::sync::{mpsc, oneshot, watch};

use super::Lent;
use crate::drain::report::DrainReport;
use crate::window::steps::Stage;

/// Something that is under way, if it is.
pub(super) type Under<T> = Option<Pin<Box<dyn Future<Output = T> + Send>>>;

/// The outcome of what is under way; never, while nothing is.
pub(super) async fn under_way<T>(task: &mut Under<T>) -> T {
    match task {
        Some(running) => {
            let outcome = running.await;
            *task = None;
            outcome
        }
        None => std::future::pending().await,
    }
}

/// The next thing that is told, if there is anybody to tell it.
pub(super) async fn told<T>(receiver: &mut Option<mpsc::UnboundedReceiver<T>>) -> Option<T> {
    let told = match receiver {
        Some(waiting) => waiting.recv().await,
        None => std::future::pending().await,
    };
    if told.is_none() {
        *receiver = None;
    }
    told
}

/// Waits until this is said; for ever, if nobody is left to say it.
pub(super) async fn said(word: oneshot::Receiver<()>) {
    if word.await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Waits until traffic is opened from under the window.
pub(super) async fn lost(receiver: &mut Option<watch::Receiver<Option<String>>>) {
    let taken = match receiver {
        Some(lost) => lost.wait_for(Option::is_some).await.is_ok(),
        None => std::future::pending().await,
    };
    *receiver = None;
    if !taken {
        std::future::pending().await
    }
}

/// Waits until a window is somewhere else.
pub(super) async fn moved_on(news: &mut watch::Receiver<u64>, window: &Lent, from: Stage) {
    // Its sender is the window's.
    let _told = news.wait_for(|_| window.stage() != from).await.is_ok();
}

/// Waits for the drain's next piece of news.
pub(super) async fn changed(receiver: &mut Option<watch::Receiver<DrainReport>>) {
    let more = match receiver {
        Some(drain) => drain.changed().await.is_ok(),
        None => std::future::pending().await,
    };
    if !more {
        *receiver = None;
        std::future::pending().await
    }
}
