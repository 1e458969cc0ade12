//! The journal in the moment in which it goes from one process to the next.

use std::fs::File;
use std::io;

use tokio::sync::MutexGuard;

use crate::config::Scope;
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
    /// Holds on some clients, in a database or in all.
    pub scopes: Vec<(Option<String>, Scope)>,
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

    /// Of the holds that the journal names, those that stand.
    pub async fn standing(&self) -> Standing {
        let mut record = self.journal.lock().await.1.clone();
        self.keep_held(&mut record);
        Standing::of(&record)
    }

    /// Ends the holds that were taken up and that the former process has ended meanwhile.
    pub async fn keep_standing(&self, standing: &Standing) {
        let record = self.journal.lock().await.1.clone();
        let taken_up = Standing::of(&record);
        if taken_up.everywhere && !standing.everywhere {
            self.gates.end_hold_everywhere(&Scope::default());
        }
        let ended = |name: &&String| !standing.databases.contains(name);
        for name in taken_up.databases.iter().filter(ended) {
            self.end_operators(name, &Scope::default());
        }
        let ended = |it: &&(Option<String>, Scope)| !standing.scopes.contains(it);
        for (database, scope) in taken_up.scopes.iter().filter(ended) {
            match database {
                Some(name) => self.end_operators(name, scope),
                None => self.gates.end_hold_everywhere(scope),
            }
        }
        self.forget_ended().await;
    }

    fn end_operators(&self, database: &str, scope: &Scope) {
        if let Some(gate) = self.gates.find_scope(database, scope) {
            gate.end_hold(Holder::Operator, None);
        }
    }
}

impl Standing {
    fn of(record: &Record) -> Standing {
        let scopes = record.scopes.iter();
        Standing {
            everywhere: record.everywhere.is_some(),
            databases: record.databases.keys().cloned().collect(),
            scopes: scopes
                .map(|it| (it.database.clone(), it.scope.clone()))
                .collect(),
        }
    }
}
