//! The schema before a run, behind each of its files, and behind the last: for the history, and for the next
//! run's look at what has drifted. What cannot be read fails nothing here; it is noted and not known.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use super::{End, Findings, Job};
use crate::config::Fingerprints;
use crate::runner::artefacts::{self, Artefact};
use crate::runner::drift::{self, Schema};
use crate::runner::execute::Executor;
use crate::runner::history::Ledger;
use crate::runner::plan::Step;
use crate::runner::preflight::PreflightReport;
use crate::runner::report::{Report, chain};
use crate::runner::source::Sha256;
use crate::runner::stop::Stop;
use crate::runner::traffic::Traffic;
use crate::runner::types::{Direction, EventKind, RunState};
use crate::runner::verify::differences;

/// How long a cancelled question may take to end.
const CANCEL_WAIT: Duration = Duration::from_secs(5);

/// So many lines are named that a down file leaves behind.
const STRANGE_MAX: usize = 20;

/// The schema before a migration was applied, and behind it.
type Applied = (Sha256, Sha256);

/// The schemas that a run has seen.
#[derive(Clone, Debug, Default)]
pub(super) struct Schemas {
    /// As its first file found it.
    pub(super) before: Option<Arc<Schema>>,
    /// As the file that ended last left it; none if nobody has looked since.
    pub(super) now: Option<Arc<Schema>>,
    /// Ways back that left another schema than there had been: the file, and the lines that differ.
    pub(super) strange: Vec<(String, Vec<String>)>,
    /// Whether a file was begun: from then on the schema is ours.
    begun: bool,
}

impl Schemas {
    /// Whether the schema as it is could be read; none if that was not to be.
    pub(super) fn read(&self) -> Option<bool> {
        self.begun.then_some(self.now.is_some())
    }

    pub(super) fn fp_before(&self) -> Option<String> {
        self.before.as_ref().map(|it| it.fingerprint.to_string())
    }

    pub(super) fn fp_after(&self) -> Option<String> {
        self.now.as_ref().map(|it| it.fingerprint.to_string())
    }
}

impl<T: Traffic> Job<T> {
    /// Just before the first file.
    pub(super) async fn schema_before(
        &self,
        executor: &Executor<'_>,
        stop: &Stop,
        findings: &mut Findings,
    ) {
        if self.options.postflight.fingerprints == Fingerprints::None {
            return;
        }
        let ledger = executor.ledger();
        let found = self.read_schema(ledger, stop).await;
        if let Err(error) = drift::begin_run(ledger, &self.run.id, found.as_deref()).await {
            self.not_kept(&error);
        }
        if let Some(found) = &found {
            let fingerprint = found.fingerprint.to_string();
            let data = json!({ "fp_before": fingerprint });
            let text = format!("the schema before: {fingerprint}");
            self.run.tell(EventKind::Note, text, data);
        }
        findings.schemas = Schemas {
            before: found.clone(),
            now: found,
            strange: Vec::new(),
            begun: true,
        };
    }

    /// Before a down file: the schema before and after the migration was applied.
    pub(super) async fn schema_led_from(&self, ledger: &Ledger, step: &Step) -> Option<Applied> {
        if step.direction() == Direction::Up {
            return None;
        }
        let known = drift::left_by_file(ledger, &step.key()).await;
        // Without it there is one thing less to look at.
        known.ok().flatten()
    }

    /// Behind a file that ended well; `applied` is what a down file has to lead back to and from.
    pub(super) async fn schema_behind(
        &self,
        ledger: &Ledger,
        (step, alone, applied): (&Step, bool, Option<Applied>),
        stop: &Stop,
        findings: &mut Findings,
    ) {
        let before = findings.schemas.now.take();
        // A run of one file has nothing in between that would be left out.
        if !findings.schemas.begun
            || (self.options.postflight.fingerprints == Fingerprints::Run && !alone)
        {
            return;
        }
        let now = self.read_schema(ledger, stop).await;
        if let (Some(before), Some(now)) = (&before, &now) {
            let both = (before.fingerprint, now.fingerprint);
            if let Err(error) = drift::file(ledger, &step.key(), &self.run.id, both).await {
                self.not_kept(&error);
            }
            // What others have changed since is not the down file's to lead back from.
            if let Some((there, from)) = applied
                && from == before.fingerprint
                && there != now.fingerprint
            {
                let lines = self.strange_lines(ledger, &there, now).await;
                findings.schemas.strange.push((step.file.clone(), lines));
            }
        }
        findings.schemas.now = now;
    }

    /// A file ended badly: whatever it left is to be looked at.
    pub(super) fn schema_is_unknown(findings: &mut Findings) {
        findings.schemas.now = None;
    }

    /// What a down file leaves other than it was, as far as that is kept.
    async fn strange_lines(&self, ledger: &Ledger, there: &Sha256, now: &Schema) -> Vec<String> {
        let client = &ledger.session().client;
        let kept = drift::lines(client, there).await.ok().flatten();
        let mut lines = kept
            .map(|it| differences(&it, &now.lines))
            .unwrap_or_default();
        lines.truncate(STRANGE_MAX);
        lines
    }

    /// The schema behind the last file, unless it is known already.
    pub(super) async fn schema_after(&self, ledger: &Ledger, findings: &mut Findings) {
        if findings.schemas.begun && findings.schemas.now.is_none() {
            findings.schemas.now = self.read_schema(ledger, &self.last_words()).await;
        }
    }

    /// Writes down what the run found and leaves. A state that is not known has no schema.
    pub(super) async fn keep_schemas(
        &self,
        ledger: &mut Ledger,
        (state, _): End,
        findings: &mut Findings,
    ) {
        if !findings.schemas.begun {
            return;
        }
        let deadline = Instant::now() + self.options.lock_wait;
        if let Err(error) = ledger.revive(deadline).await {
            self.run
                .note(format!("the schema's fingerprint is not kept: {error}"));
            return;
        }
        if state == RunState::Unknown {
            findings.schemas.now = None;
        } else {
            self.schema_after(ledger, findings).await;
        }
        let Schemas { before, now, .. } = &findings.schemas;
        let (before, now) = (before.as_deref(), now.as_deref());
        if let Err(error) = drift::end_run(ledger, &self.run.id, before, now).await {
            self.not_kept(&error);
        }
    }

    /// Reads the schema. Whoever stops the run stops this too.
    async fn read_schema(&self, ledger: &Ledger, stop: &Stop) -> Option<Arc<Schema>> {
        let session = ledger.session();
        let mut reading = std::pin::pin!(Schema::read(session, self.options.postflight.time));
        let read = tokio::select! {
            read = &mut reading => read,
            _reason = stop.fired() => {
                session.cancel(CANCEL_WAIT).await;
                // It ends its transaction by itself.
                reading.await
            }
        };
        match read {
            Ok(schema) => Some(Arc::new(schema)),
            Err(error) => {
                let why = chain(&error);
                self.run
                    .note(format!("the schema could not be read: {why}"));
                None
            }
        }
    }

    fn not_kept(&self, error: &tokio_postgres::Error) {
        let why = chain(error);
        self.run
            .note(format!("the schema's fingerprint is not kept: {why}"));
    }

    /// Writes reports and schemas into the directory of reports, if there is one. What cannot be written is
    /// noted.
    pub(super) async fn keep_files(&self, report: &Report, schemas: &Schemas) {
        let settings = &self.options.reports;
        let Some(place) = artefacts::place(settings, &self.run.database, &self.run.id) else {
            return;
        };
        if report.state == RunState::Succeeded && report.files.is_empty() {
            return;
        }
        let mut files = vec![Artefact {
            name: "preflight-report",
            extension: "json",
            bytes: json_of(&PreflightReport::of_run(report)),
        }];
        files.extend(report.postflight.as_ref().map(|it| Artefact {
            name: "postflight-report",
            extension: "json",
            bytes: json_of(it),
        }));
        let both = [
            ("schema-before", &schemas.before),
            ("schema-after", &schemas.now),
        ];
        files.extend(both.into_iter().filter_map(|(name, schema)| {
            Some(Artefact {
                name,
                extension: "txt",
                bytes: (schema.as_ref()?.lines.join("\n") + "\n").into_bytes(),
            })
        }));
        let (at, keep) = (report.finished_at, settings.keep);
        let shown = place.display().to_string();
        let written =
            tokio::task::spawn_blocking(move || artefacts::keep(&place, keep, at, files)).await;
        match written {
            Ok(Ok(left)) => {
                self.run.note(format!("reports are in {shown}"));
                for path in left {
                    self.run.note(format!("old reports stay: {path}"));
                }
            }
            Ok(Err(error)) => self.run.note(format!("no reports in {shown}: {error}")),
            Err(error) => self.run.note(format!("no reports in {shown}: {error}")),
        }
    }
}

fn json_of<S: serde::Serialize>(it: &S) -> Vec<u8> {
    // Nothing in a report can fail to be written.
    serde_json::to_vec_pretty(it).unwrap_or_default()
}
