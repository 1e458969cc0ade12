//! What a run keeps of the database before its first file: a backup, and a point to recover to.

use serde_json::json;

use super::{End, Findings, Job};
use crate::config::{HookPhase, SaveObjects};
use crate::runner::backup::{self, BackupError, Tools};
use crate::runner::execute::Executor;
use crate::runner::history::Ledger;
use crate::runner::plan::Plan;
use crate::runner::report::Failure;
use crate::runner::saved::{Saver, Saving};
use crate::runner::stop::Stop;
use crate::runner::traffic::Traffic;
use crate::runner::types::{EventKind, Exit, RunState};

impl<T: Traffic> Job<T> {
    /// Makes a backup if there is to be one. Nothing is held yet.
    pub(super) async fn back_up(
        &self,
        ledger: &Ledger,
        stop: &Stop,
        findings: &mut Findings,
    ) -> Result<(), End> {
        let settings = &self.options.backup;
        let wanted = self.request.backup.unwrap_or(settings.dir.is_some());
        if !wanted {
            return Ok(());
        }
        self.run.enter(RunState::Backup, "backup begins");
        let phase = HookPhase::BeforeBackup;
        self.hooks_before(phase, stop, findings).await?;
        let tools = Tools {
            connector: &self.connector,
            settings,
            database: &self.run.database,
            stop,
        };
        let made = match backup::make(&tools, &self.run).await {
            Ok(made) => made,
            Err(BackupError::Stopped(reason)) => return Err(self.stopped(findings, &reason)),
            Err(error) => {
                return Err(self.failed(findings, error.into_failure(), Exit::Preflight));
            }
        };
        let text = format!(
            "backup {}: {} files, {} KiB, verified by {}, in {} ms",
            made.path,
            made.files,
            made.bytes.div_ceil(1024),
            made.verified.how,
            made.elapsed_ms
        );
        let data = json!({ "backup": made });
        self.run.tell(EventKind::Note, text, data.clone());
        if let Err(error) = ledger.note(&self.run.id, "backup", &data).await {
            self.run
                .note(format!("the backup is not recorded: {error}"));
        }
        findings.backup = Some(made);
        self.prune().await;
        Ok(())
    }

    /// Saves the definitions of what the files touch. Nothing is held yet: they wait for whoever
    /// alters a table.
    pub(super) async fn save_objects(
        &self,
        ledger: &Ledger,
        plan: &Plan,
        stop: &Stop,
        findings: &mut Findings,
    ) -> Result<(), End> {
        let saver = Saver {
            connector: &self.connector,
            database: &self.run.database,
            owner: self.options.owner.as_deref(),
            plan,
            how: self.options.save_objects,
        };
        if saver.how == SaveObjects::None {
            return Ok(());
        }
        let saved = tokio::select! {
            biased;
            reason = stop.fired() => return Err(self.stopped(findings, &reason)),
            saved = saver.save(ledger, &self.run.id) => saved,
        };
        match saved {
            Ok(Saving::Saved(objects)) => {
                let text = format!("saved the definitions of {objects} objects");
                let data = json!({ "saved_objects": objects });
                self.run.tell(EventKind::Note, text, data);
                Ok(())
            }
            Ok(Saving::TooMany(how_many)) => {
                self.run.note(format!("{how_many}; nothing of them is"));
                Ok(())
            }
            Err(error) => {
                let hint = "`migrate.save_objects = \"none\"` runs without";
                let failure = Failure::new(error.to_string()).with_hint(hint);
                Err(self.failed(findings, failure, Exit::Preflight))
            }
        }
    }

    /// Removes what need not be kept now that there is a newer one. Nothing depends on that.
    async fn prune(&self) {
        match backup::prune(&self.options.backup, &self.run.database).await {
            Ok(pruned) => {
                for run in pruned.removed {
                    self.run.note(format!("removed the backup of run {run}"));
                }
                for path in pruned.abandoned {
                    self.run.note(format!("removed {path}, left by a crash"));
                }
                for failed in pruned.failed {
                    self.run.note(format!("an old backup stays: {failed}"));
                }
            }
            Err(error) => self.run.note(format!("old backups stay: {error}")),
        }
    }

    /// Makes the restore point, just before the first file. A role that may not goes on without.
    pub(super) async fn mark(&self, executor: &Executor<'_>, findings: &mut Findings) {
        let ledger = executor.ledger();
        let point = match backup::mark(ledger.session(), &self.run.id).await {
            Ok(point) => point,
            Err(why) => return self.run.note(format!("there is no restore point: {why}")),
        };
        let text = format!("restore point {} at {}", point.name, point.lsn);
        let data = json!({ "restore_point": point });
        self.run.tell(EventKind::Note, text, data.clone());
        if let Err(error) = ledger.note(&self.run.id, "restore_point", &data).await {
            let text = format!("the restore point is not recorded: {error}");
            self.run.note(text);
        }
        findings.restore_point = Some(point);
    }
}
