//! What is written down of a watch: in the middle of a long one, and at its end.
//!
//! ```text
//! DIR/DATABASE/RUN/watch-report-TIME.json    the watch, with what it compared
//! DIR/DATABASE/RUN/watch-report-TIME.html    the account of the run with it, for people
//! DIR/DATABASE/RUN/watch-report-TIME.md
//! ```

use jiff::Timestamp;
use serde_json::json;
use tokio::time::timeout;

use super::plans::{self, PlanComparison};
use super::task::{PATIENCE, Task};
use crate::runner::account::{html, markdown};
use crate::runner::artefacts::{self, Artefact};
use crate::runner::notify;
use crate::runner::report::chain;
use crate::runner::traffic::Traffic;

impl<T: Traffic> Task<T> {
    /// Writes the report of a long watch when it is time, once: also when that time came while nobody ran.
    pub(super) async fn report_if_due(&mut self) {
        let due = self.kept.report_at.is_some_and(|it| it <= Timestamp::now());
        // Without an answer there is nothing to tell yet.
        if !due || self.view.trouble.is_some() {
            return;
        }
        self.kept.report_at = None;
        self.view.plans = self.plans().await;
        self.note("watch_report", &json!(self.view)).await;
        self.save().await;
        self.report("so far").await;
    }

    /// How statements are planned now, against how it was before the run.
    pub(super) async fn plans(&self) -> Option<PlanComparison> {
        let before = &self.kept.baseline.plans;
        if before.is_empty() {
            return None;
        }
        let explained = async {
            let connector = &self.runner.connector;
            let session = connector
                .connect(&self.kept.database, Box::new(|_| {}))
                .await;
            let session = session.map_err(|error| chain(&error))?;
            let texts: Vec<_> = before.iter().map(|it| it.text.clone()).collect();
            let after = plans::explain(&session.client, &texts).await;
            session.close(PATIENCE).await;
            after.map_err(|error| chain(&error))
        };
        match explained.await {
            Ok(after) => Some(PlanComparison::new(before, &after)),
            Err(why) => {
                tracing::warn!(run = self.kept.run, why, "plans are not compared");
                None
            }
        }
    }

    /// Writes the files, and tells those who are told of runs.
    pub(super) async fn report(&self, when: &str) {
        let written = self.write().await;
        let place = match written {
            Ok(None) => String::new(),
            Ok(Some(place)) => format!("; in {place}"),
            Err(why) => {
                tracing::error!(
                    run = self.kept.run,
                    why,
                    "the report of a watch is not written"
                );
                format!("; it could not be written: {why}")
            }
        };
        let text = format!("{}{place}", self.view);
        tracing::info!(run = self.kept.run, when, "report of the watch: {text}");
        let told = notify::Told {
            run: self.kept.run.clone(),
            database: self.kept.database.clone(),
            direction: self.kept.direction,
            by: self.kept.by.clone(),
            since: self.kept.began_at,
            text: format!("the watch after it, {when}: {text}"),
        };
        notify::tell(&self.runner, &told);
    }

    /// Where they are; none if none are to be written.
    async fn write(&self) -> Result<Option<String>, String> {
        let settings = &self.runner.options.reports;
        let (database, run) = (&self.kept.database, &self.kept.run);
        let Some(place) = artefacts::place(settings, database, run) else {
            return Ok(None);
        };
        let account = self.runner.account(database, Some(run));
        let account = timeout(PATIENCE, account).await.ok();
        let account = account.and_then(Result::ok).flatten();
        let file = |extension, bytes| Artefact {
            name: "watch-report",
            extension,
            bytes,
        };
        let json = serde_json::to_vec_pretty(&self.view).map_err(|it| it.to_string())?;
        let mut files = vec![file("json", json)];
        if let Some(account) = &account {
            files.push(file("html", html(account).into_bytes()));
            files.push(file("md", markdown(account).into_bytes()));
        }
        let (keep, shown) = (settings.keep, place.display().to_string());
        let written = tokio::task::spawn_blocking(move || {
            artefacts::keep(&place, keep, Timestamp::now(), files)
        });
        match written.await {
            Ok(Ok(_left)) => Ok(Some(shown)),
            Ok(Err(error)) => Err(error.to_string()),
            Err(error) => Err(error.to_string()),
        }
    }
}
