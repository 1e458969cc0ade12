//! Windows, as whoever works in them sees them.

use std::sync::{Arc, Mutex, PoisonError};

use pgdrain::gate::mode::Generation;
use pgdrain::window::{Draining, Granted, Refused};
use tokio::sync::{mpsc, oneshot};

/// What a window came to, once it has.
pub(crate) type Answer = Arc<Mutex<Option<Result<Granted, Refused>>>>;

/// A window that was asked for.
pub(crate) struct Window {
    pub(crate) database: &'static str,
    pub(crate) answer: Answer,
    /// Gets its drain.
    pub(crate) begun: mpsc::UnboundedReceiver<Draining>,
    /// Dropped to give it up.
    pub(crate) wanted: Option<oneshot::Sender<()>>,
    /// Its hold, once it is on.
    pub(crate) generation: Option<Generation>,
    pub(crate) granted: Option<Granted>,
    /// Its holder is gone, or it came to nothing.
    pub(crate) over: bool,
}

impl Window {
    /// Takes the answer, if it has come.
    pub(crate) fn look(&mut self) {
        let mut answer = self.answer.lock().unwrap_or_else(PoisonError::into_inner);
        match answer.take() {
            Some(Ok(granted)) => self.granted = Some(granted),
            Some(Err(_refused)) => self.over = true,
            None => {}
        }
    }

    /// Whether it is exclusive.
    pub(crate) fn is_alone_in(&self, database: &str) -> bool {
        let granted = self.granted.as_ref();
        let lost = granted.map(|granted| granted.lost.borrow().is_some());
        self.database == database && lost == Some(false)
    }
}
