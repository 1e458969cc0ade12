//! Why a running file has to stop, gathered from everybody who may say so.

use std::fmt;

use tokio::sync::watch;
use tokio::time::Instant;

/// Who or what stops a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// Somebody asked for it.
    Operator(String),
    /// The proxy is going down.
    Shutdown,
    /// The window has reached its end.
    WindowEnded,
    /// The window is no longer ours.
    WindowLost(String),
}

impl fmt::Display for StopReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Operator(by) => write!(f, "cancelled by {by}"),
            Self::Shutdown => f.write_str("cancelled because the proxy stops"),
            Self::WindowEnded => f.write_str("cancelled because the window has reached its end"),
            Self::WindowLost(why) => write!(f, "cancelled because the window was lost: {why}"),
        }
    }
}

/// The part of a window that can end a run.
#[derive(Clone, Debug)]
pub(super) struct WindowEnd {
    pub(super) ends_at: Instant,
    pub(super) lost: watch::Receiver<Option<String>>,
}

/// Listens to everybody who may stop a run. Cheap to clone; what has fired stays fired.
#[derive(Clone, Debug)]
pub(super) struct Stop {
    asked: watch::Receiver<Option<StopReason>>,
    window: Option<WindowEnd>,
}

impl Stop {
    /// Listens to requests only.
    pub(super) fn new(asked: watch::Receiver<Option<StopReason>>) -> Self {
        Self {
            asked,
            window: None,
        }
    }

    /// Listens to a window, too, or no longer.
    pub(super) fn with_window(self, window: Option<WindowEnd>) -> Self {
        Self { window, ..self }
    }

    /// What has fired, if anything.
    pub(super) fn now(&self) -> Option<StopReason> {
        if let Some(reason) = &*self.asked.borrow() {
            return Some(reason.clone());
        }
        if let Some(window) = &self.window {
            if let Some(why) = &*window.lost.borrow() {
                return Some(StopReason::WindowLost(why.clone()));
            }
            if Instant::now() >= window.ends_at {
                return Some(StopReason::WindowEnded);
            }
        }
        None
    }

    /// When the window ends by itself, if there is one.
    pub(super) fn window_end(&self) -> Option<Instant> {
        self.window.as_ref().map(|it| it.ends_at)
    }

    /// Waits until something fires. Dropping the future loses nothing.
    pub(super) async fn fired(&self) -> StopReason {
        let mut asked = self.asked.clone();
        tokio::select! {
            biased;
            reason = requested(&mut asked) => reason,
            reason = window_over(self.window.clone()) => reason,
        }
    }
}

async fn requested(asked: &mut watch::Receiver<Option<StopReason>>) -> StopReason {
    match asked.wait_for(Option::is_some).await {
        Ok(reason) => reason
            .clone()
            .expect("wait_for returned because it is some"),
        // Whoever could ask is gone with the runner itself.
        Err(_) => StopReason::Shutdown,
    }
}

async fn window_over(window: Option<WindowEnd>) -> StopReason {
    let Some(WindowEnd { ends_at, mut lost }) = window else {
        return std::future::pending().await;
    };
    tokio::select! {
        biased;
        lost = lost.wait_for(Option::is_some) => {
            let why = lost.ok().and_then(|why| why.clone());
            StopReason::WindowLost(why.unwrap_or_else(|| "its keeper is gone".to_owned()))
        }
        () = tokio::time::sleep_until(ends_at) => StopReason::WindowEnded,
    }
}
