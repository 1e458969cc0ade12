//! The fence: the server keeps new sessions out of a database while a hold lasts.
//!
//! `ALTER DATABASE .. CONNECTION LIMIT 0`. The former limit is in the journal before, and is put back
//! when the last hold that asked for it has ended, however that came; after a crash too. Holds of one
//! database share one fence.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio::sync::Mutex as AsyncMutex;

use super::controller::Controller;
use super::journal::{JournalError, Record};
use crate::audit::{Event, Kind};
use crate::clock;
use crate::drain::with_causes;
use crate::gate::mode::{Generation, Holder};
use crate::server::control::ControlError;

/// The pause before a limit is put back again that could not be.
const AGAIN: Duration = Duration::from_secs(1);

/// How long an order whose answer was lost may still be carried out: longer than `statement_timeout`
/// of the control connection.
const LATE: Duration = Duration::from_secs(10);

/// Who has to come in while the fence is up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FenceFor {
    /// Nobody whose role is known.
    Others,
    /// The role that runs migrations.
    Migration,
}

/// What has to be put back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FenceRecord {
    /// The connection limit that the database had.
    pub limit: i32,
}

/// How a fence stands, for those who ask.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FenceStatus {
    /// The connection limit that is put back in the end.
    pub former_limit: i32,
    /// How many logins through us wait in front of it.
    pub parked: u64,
    /// Why it could not be put back so far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
}

/// Why there is no fence. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum NoFence {
    /// The control role may not.
    #[error("no fence: the control role {role} is neither superuser nor owner of {database}")]
    NotOwner {
        /// The role.
        role: String,
        /// The database.
        database: String,
    },
    /// Nobody could take the fence down again if the control connection broke.
    #[error(
        "no fence: the control connection is in {0} itself, and could not come back as it is no superuser"
    )]
    LockedOut(String),
    /// Migrations could not connect.
    #[error("no fence: the role {0} of [migrate] is no superuser, and could not connect")]
    Runner(String),
    /// There is no such database.
    #[error("no fence: the server has no database {0}")]
    NoDatabase(String),
    /// Nothing may be changed that a crash would forget.
    #[error("no fence: the journal cannot be written")]
    Journal(#[from] JournalError),
    /// The server could not be asked, or said no.
    #[error("no fence")]
    Server(#[from] ControlError),
}

/// The fences of this proxy.
#[derive(Debug, Default)]
pub(super) struct Fencing {
    of: Mutex<BTreeMap<String, Up>>,
    /// One is raised or taken down at a time.
    turn: AsyncMutex<()>,
}

#[derive(Debug)]
struct Up {
    users: usize,
    former: i32,
    trouble: Option<String>,
    /// Until then it may still be raised by an order whose answer was lost.
    unsure_until: Option<Instant>,
}

impl Up {
    fn of_one(former: i32) -> Up {
        Up {
            users: 1,
            former,
            trouble: None,
            unsure_until: None,
        }
    }
}

impl Fencing {
    fn of(&self) -> MutexGuard<'_, BTreeMap<String, Up>> {
        self.of.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a share of a fence that is there; how many have one then.
    fn share(&self, database: &str) -> Option<usize> {
        let mut fences = self.of();
        let up = fences.get_mut(database)?;
        up.users += 1;
        Some(up.users)
    }
}

/// A share of a fence; without [`Fence::keep`] it is given back when dropped.
#[derive(Debug)]
pub struct Fence {
    controller: Arc<Controller>,
    database: String,
    kept: bool,
}

impl Fence {
    /// Keeps it up until this hold is gone.
    pub fn keep(mut self, holder: Holder, generation: Generation) {
        self.kept = true;
        let holds = vec![(holder, generation)];
        Controller::release_after(&self.controller, self.database.clone(), holds);
    }
}

impl Drop for Fence {
    fn drop(&mut self) {
        if !self.kept {
            Controller::release_after(&self.controller, self.database.clone(), Vec::new());
        }
    }
}

impl Controller {
    /// Raises a fence around a database, or shares the one that is there. When this returns, the
    /// server lets nobody but superusers in. Cancel safe: what was begun is taken back.
    ///
    /// # Errors
    /// See [`NoFence`].
    pub async fn fence(self: &Arc<Self>, database: &str, whom: FenceFor) -> Result<Fence, NoFence> {
        let _turn = self.fencing.turn.lock().await;
        let former = self.may_fence(database, whom).await?;
        let shared = self.fencing.share(database);
        if shared.is_none() {
            let note = |record: &mut Record| {
                let noted = FenceRecord { limit: former };
                record.fences.insert(database.to_owned(), noted);
            };
            let begin = || {
                let up = Up::of_one(former);
                self.fencing.of().insert(database.to_owned(), up);
                self.gates.fences().raise(database);
            };
            self.record(note, begin).await?;
        }
        // From here on what was begun is taken back when this is dropped.
        let fence = Fence {
            controller: Arc::clone(self),
            database: database.to_owned(),
            kept: false,
        };
        // One that nobody shared any more may be on its way down.
        if shared.is_none_or(|users| users == 1) {
            self.raise(database).await?;
        }
        Ok(fence)
    }

    async fn raise(&self, database: &str) -> Result<(), ControlError> {
        let control = self.control(database);
        // Before it is sent: a caller that leaves meanwhile hears no answer either.
        self.unsure(database, Some(clock::now() + LATE));
        let raised = control.set_connection_limit(database, 0).await;
        if raised.as_ref().map_or_else(was_answered, |()| true) {
            self.unsure(database, None);
        }
        raised?;
        let outcome = "the server lets superusers in alone".to_owned();
        self.tell_fence(database, "up", outcome);
        Ok(())
    }

    fn unsure(&self, database: &str, until: Option<Instant>) {
        if let Some(up) = self.fencing.of().get_mut(database) {
            up.unsure_until = until;
        }
    }

    /// What a fence needs; returns the limit that is to be put back.
    pub(super) async fn may_fence(&self, database: &str, whom: FenceFor) -> Result<i32, NoFence> {
        let control = self.control(database);
        let rights = control.rights(database).await?;
        let rights = rights.ok_or_else(|| NoFence::NoDatabase(database.to_owned()))?;
        if !rights.owns {
            let (role, database) = (rights.role, database.to_owned());
            return Err(NoFence::NotOwner { role, database });
        }
        if !rights.superuser && control.home() == Some(database) {
            return Err(NoFence::LockedOut(database.to_owned()));
        }
        let target = self.config().target(database);
        if whom == FenceFor::Migration
            && let Some(migrate) = target.and_then(|target| target.migrate)
            && !control.is_superuser(&migrate.user).await?
        {
            return Err(NoFence::Runner(migrate.user));
        }
        let limit = control.connection_limit(database).await?;
        limit.ok_or_else(|| NoFence::NoDatabase(database.to_owned()))
    }

    /// Knows of the fences that the last process left, before anything is forgotten.
    pub(super) fn find_fences(&self, record: &Record) {
        for (database, FenceRecord { limit }) in &record.fences {
            tracing::warn!(database, limit, "a fence was up before the restart");
            let up = Up::of_one(*limit);
            self.fencing.of().insert(database.clone(), up);
            self.gates.fences().raise(database);
        }
    }

    /// Takes each of them down when the holds that are on its database again have ended, or at once.
    pub(super) fn watch_fences(self: &Arc<Self>, record: &Record) {
        for database in record.fences.keys() {
            // A gate too, so that it is shown.
            let (_, holds) = self.gates.of(database).holds();
            let holds = holds
                .into_iter()
                .map(|(holder, hold)| (holder, hold.generation));
            Controller::release_after(self, database.clone(), holds.collect());
        }
    }

    /// Gives a share back when these holds are gone.
    fn release_after(
        controller: &Arc<Controller>,
        database: String,
        holds: Vec<(Holder, Generation)>,
    ) {
        let (this, stop) = (Arc::clone(controller), controller.tasks.shutdown_token());
        controller.tasks.spawn("fence", async move {
            let released = async {
                if let Some(gate) = this.gates.find(&database) {
                    for (holder, generation) in holds {
                        gate.gone(holder, generation).await;
                    }
                }
                this.release(&database).await;
            };
            tokio::select! {
                () = released => {}
                // The journal knows of it: the next process puts it back.
                () = stop.cancelled() => {}
            }
        });
    }

    async fn release(&self, database: &str) {
        if let Some(up) = self.fencing.of().get_mut(database) {
            up.users -= 1;
        }
        while !self.taken_down(database).await {
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// Takes a fence down that nobody wants any more; false when that is to be tried again.
    async fn taken_down(&self, database: &str) -> bool {
        let _turn = self.fencing.turn.lock().await;
        let (former, unsure) = match self.fencing.of().get(database) {
            Some(up) if up.users == 0 => (up.former, up.unsure_until),
            // Somebody else wants it, or has taken it down.
            Some(_) | None => return true,
        };
        match self.put_back(database, former).await {
            Ok(true) if unsure.is_none_or(|until| until <= clock::now()) => {
                self.is_down(database, former).await;
                true
            }
            Ok(_) => false,
            Err(error) => {
                self.trouble(database, &error);
                false
            }
        }
    }

    /// Done once: whoever has set another limit meanwhile meant it. False when it is not done yet.
    async fn put_back(&self, database: &str, former: i32) -> Result<bool, ControlError> {
        let control = self.control(database);
        match control.connection_limit(database).await? {
            // It is the newer process's to do, which knows of other holds too.
            Some(0) if former != 0 && self.gave_away().await => Ok(false),
            Some(0) => {
                control.set_connection_limit(database, former).await?;
                Ok(true)
            }
            Some(_) | None => Ok(true),
        }
    }

    /// Whether another process has taken over from this one.
    async fn gave_away(&self) -> bool {
        self.journal.lock().await.0.lock().is_none()
    }

    async fn is_down(&self, database: &str, former: i32) {
        self.fencing.of().remove(database);
        self.gates.fences().lower(database);
        self.forget_ended().await;
        let outcome = format!("its connection limit is {former} again");
        self.tell_fence(database, "down", outcome);
    }

    /// Takes every fence down, whoever wants it: this process ends. What cannot be reached stays in
    /// the journal.
    pub async fn lower_fences(&self) {
        if self.gave_away().await {
            return;
        }
        let up = |(database, up): (&String, &Up)| (database.clone(), up.former);
        let fences: Vec<(String, i32)> = self.fencing.of().iter().map(up).collect();
        for (database, former) in fences {
            let _turn = self.fencing.turn.lock().await;
            match self.put_back(&database, former).await {
                Ok(_) => self.is_down(&database, former).await,
                Err(error) => self.trouble(&database, &error),
            }
        }
    }

    fn trouble(&self, database: &str, error: &ControlError) {
        let why = with_causes(error);
        if let Some(up) = self.fencing.of().get_mut(database)
            && up.trouble.as_ref() != Some(&why)
        {
            tracing::error!(database, why, "the fence is still up: trying again");
            up.trouble = Some(why);
        }
    }

    fn tell_fence(&self, database: &str, after: &str, outcome: String) {
        tracing::warn!(database, "fence {after}: {outcome}");
        self.audit.tell(Event {
            after: Some(after.to_owned()),
            outcome: Some(outcome),
            ..Event::of(Kind::Fence, database)
        });
    }

    /// Whether there is a fence around a database, or is still to be taken down.
    pub(super) fn has_fence(&self, database: &str) -> bool {
        self.fencing.of().contains_key(database)
    }

    /// How the fence of a database stands, if there is one.
    pub fn fence_status(&self, database: &str) -> Option<FenceStatus> {
        let fences = self.fencing.of();
        let up = fences.get(database)?;
        Some(FenceStatus {
            former_limit: up.former,
            parked: self.gates.fences().parked(database) as u64,
            trouble: up.trouble.clone(),
        })
    }
}

/// Whether the server has said no, so that nothing comes later.
fn was_answered(error: &ControlError) -> bool {
    match error {
        ControlError::Postgres(error) => error.as_db_error().is_some(),
        ControlError::NoRole | ControlError::Unreachable(_) => true,
        ControlError::Timeout => false,
    }
}
