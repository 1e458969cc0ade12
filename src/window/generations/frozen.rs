//! The journal in the moment in which it goes from one process to the next.

use std::fs::File;
use std::io;

use tokio::sync::MutexGuard;

use crate::gate::mode::Holder;
use crate::window::controller::Controller;
use crate::window::journal::{Journal, Record};

/// A journal that nobody writes meanwhile: commands that close traffic wait for it.
#[derive(Debug)]
pub struct Frozen<'a> {
    journal: MutexGuard<'a, (Journal, Record)>,
}

/// Which holds stand at the end of a hand-over, for the newer process to end the others.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Standing {
    /// Whether every database is held.
    pub everywhere: bool,
    /// The databases that are held by a command for them.
    pub databases: Vec<String>,
}

impl Frozen<'_> {
    /// The databases with a window: somebody works in it, or somebody has to look.
    #[must_use]
    pub fn windows(&self) -> Vec<String> {
        self.journal.1.windows.keys().cloned().collect()
    }

    /// This process writes no more: the directory is another's.
    pub fn give_away(mut self) {
        self.journal.0.give_away();
    }
}

impl Controller {
    /// Stops the journal where it is.
    pub async fn freeze(&self) -> Frozen<'_> {
        Frozen {
            journal: self.journal.lock().await,
        }
    }

    /// The lock of the state directory, to be shared with the process that takes over.
    ///
    /// # Errors
    /// `PermissionDenied` when it is not this process's any more.
    pub async fn directory_lock(&self) -> io::Result<File> {
        let journal = self.journal.lock().await;
        let gone = || io::Error::from(io::ErrorKind::PermissionDenied);
        journal.0.lock().ok_or_else(gone)?.try_clone()
    }

    /// The holds of commands that stand now.
    #[must_use]
    pub fn standing(&self) -> Standing {
        let gates = self.gates.all();
        let held = |holder: Holder| {
            let of_holder = gates.iter().filter(move |gate| {
                let (_, holds) = gate.holds();
                holds.iter().any(|(by, _)| *by == holder)
            });
            of_holder.map(|gate| gate.database().to_owned())
        };
        Standing {
            everywhere: self
                .gates
                .standing_hold(std::time::Instant::now())
                .is_some(),
            databases: held(Holder::Operator).collect(),
        }
    }

    /// Ends the holds that were taken up and that the former process has ended meanwhile.
    pub async fn keep_standing(&self, standing: &Standing) {
        if !standing.everywhere {
            self.gates.end_hold_everywhere();
        }
        for gate in self.gates.all() {
            if !standing
                .databases
                .iter()
                .any(|name| name == gate.database())
            {
                gate.end_hold(Holder::Operator, None);
            }
        }
        self.forget_ended().await;
    }
}
