//! `pgdrain migrate ci`: everything that can be said about migration files without the database that
//! they are for, for a pull request.
//!
//! It needs no pgdrain that serves: the runner works in this process, in a Postgres that is made for
//! it and thrown away, where there is no traffic.

mod summary;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use tokio_util::task::TaskTracker;

use super::arguments::operator;
use super::demo::cluster::{self, Cluster};
use super::exit::Exit;
use super::follow::sentence;
use super::migrate::read_files;
use super::output::{self, note};
use super::rehearse::{LimitArguments, keep};
use super::report_files::save;
use crate::config::{HumanDuration, Secret};
use crate::runner::lint::LintReport;
use crate::runner::rehearse::{Data, RehearseRequest, endpoint};
use crate::runner::source::{Format, PostedFile};
use crate::runner::types::{Direction, Event, PlanRequest, RunView, TrafficMode};
use crate::runner::{Connector, Endpoint, Nobody, Options, Runner};
use crate::server::own::OwnBackends;

/// How long one look at the rehearsal waits for news.
const WAIT: Duration = Duration::from_secs(10);

/// Whatever somebody made in a database.
const OBJECTS: &str = "\
    select count(*) from pg_catalog.pg_class c \
    join pg_catalog.pg_namespace n on n.oid = c.relnamespace \
    where n.nspname !~ '^pg_' and n.nspname <> 'information_schema' \
      and not exists (select from pg_catalog.pg_depend d \
                      where d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass \
                        and d.objid = c.oid and d.deptype = 'e')";

#[derive(Args, Debug)]
pub(super) struct Ci {
    /// The directory of the migration files.
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// How the files are named and written; told by their names if it is not said.
    #[arg(long, value_name = "FORMAT")]
    format: Option<Format>,
    /// SQL that makes what the first file begins with; without psql's commands.
    #[arg(long, value_name = "FILE")]
    schema: Option<PathBuf>,
    /// An empty database to use, instead of a Postgres that is made for it: a connection URL, better
    /// given as PGDRAIN_CI_URL.
    #[arg(
        long,
        value_name = "URL",
        env = "PGDRAIN_CI_URL",
        hide_env_values = true
    )]
    url: Option<Secret>,
    /// Where postgres and initdb are; else PG_BIN, /usr/lib/postgresql, PATH.
    #[arg(long, value_name = "DIR", conflicts_with = "url")]
    pg_bin: Option<PathBuf>,
    /// Rehearse files too that are disabled until a later day.
    #[arg(long)]
    disabled: bool,
    /// End with 1 for warnings of lint too.
    #[arg(long)]
    strict: bool,
    /// From which time on the files are called slow; that is no failure.
    #[arg(long, value_name = "TIME", default_value = "5m")]
    warn_after: HumanDuration,
    #[command(flatten)]
    limits: LimitArguments,
    /// Write a summary in Markdown into this file, for a comment on the pull request.
    #[arg(long, value_name = "FILE")]
    summary: Option<PathBuf>,
    /// Write the reports into this directory: lint-report.json, rehearsal-report-TIME.json and .md,
    /// migrations.jsonl.
    #[arg(long, value_name = "DIR")]
    report: Option<PathBuf>,
    /// Print the summary as JSON: what lint found, and the rehearsal.
    #[arg(long)]
    json: bool,
}

impl Ci {
    pub(super) async fn run(self) -> anyhow::Result<Exit> {
        let files = read_files(&self.dir, self.format)?;
        let schema = match &self.schema {
            Some(path) => {
                let text = std::fs::read_to_string(path);
                Some(text.with_context(|| format!("{} cannot be read", path.display()))?)
            }
            None => None,
        };
        let place = self.place().await?;
        place.prepare(schema.as_deref()).await?;
        let tasks = TaskTracker::new();
        let runner = place.runner(&tasks);
        let checked = self.check(&runner, &place.database, files).await;
        // Sessions end before the server does.
        runner.stop_all();
        tasks.close();
        tasks.wait().await;
        self.tell(checked?)
    }

    /// Lint first: it looks at a database in which nothing was applied.
    async fn check(
        &self,
        runner: &Runner<Nobody>,
        database: &str,
        files: Vec<PostedFile>,
    ) -> anyhow::Result<Checked> {
        let asked = PlanRequest {
            direction: Direction::Up,
            steps: None,
            files: files.clone(),
            format: self.format,
            history: None,
            traffic: TrafficMode::Auto,
        };
        let lint = runner.lint(database, &asked).await?;
        if !lint.problems.is_empty() {
            bail!(
                "the files cannot be used:\n  {}",
                lint.problems.join("\n  ")
            );
        }
        let request = RehearseRequest {
            files,
            format: self.format,
            history: None,
            steps: None,
            data: Data::None,
            on: None,
            scale: Vec::new(),
            limits: self.limits.limits(),
            disabled: self.disabled,
            statement_timeout: None,
            rls_role: None,
            record: false,
            by: Some(operator()),
        };
        let id = runner.rehearse_here(database, request)?;
        let (view, events) = self.follow(runner, &id).await?;
        Ok(Checked { lint, view, events })
    }

    /// Shows how the rehearsal goes, to its end.
    async fn follow(
        &self,
        runner: &Runner<Nobody>,
        id: &str,
    ) -> anyhow::Result<(RunView, Vec<Event>)> {
        let mut events: Vec<Event> = Vec::new();
        loop {
            let after = events.last().map_or(0, |it| it.seq);
            let view = tokio::select! {
                view = runner.follow(id, after, WAIT) => view,
                _ = tokio::signal::ctrl_c() => {
                    runner.cancel(id, &operator());
                    continue;
                }
            };
            let view = view.context("the rehearsal is not known any more")?;
            for event in &view.events {
                note(&sentence(event));
            }
            events.extend(view.events.iter().cloned());
            if view.state.is_final() {
                return Ok((view, events));
            }
        }
    }

    /// Prints and keeps what was found, and says how it ends.
    fn tell(&self, checked: Checked) -> anyhow::Result<Exit> {
        let Checked { lint, view, events } = &checked;
        let report = view
            .report
            .as_ref()
            .context("the rehearsal has no report")?;
        let slow = Duration::from_millis(report.elapsed_ms) > self.warn_after.0;
        if slow {
            note(&format!(
                "warning: the files are slow: {}",
                self.slow(report.elapsed_ms)
            ));
        }
        let text = summary::summary(lint, report, slow.then(|| self.slow(report.elapsed_ms)));
        let both = serde_json::json!({ "lint": lint, "rehearsal": report, "slow": slow });
        match self.json {
            true => output::line(&serde_json::to_string_pretty(&both)?)?,
            false => output::line(&text)?,
        }
        if let Some(path) = &self.summary {
            let written = std::fs::write(path, &text);
            written.with_context(|| format!("{} cannot be written", path.display()))?;
        }
        if let Some(directory) = &self.report {
            keep(directory, report)?;
            let lint = serde_json::to_vec_pretty(lint)?;
            save(directory, "lint-report", &[("json", lint)])?;
            let lines = events.iter().map(serde_json::to_string);
            let lines: Result<Vec<_>, _> = lines.collect();
            let lines = (lines?.join("\n") + "\n").into_bytes();
            save(directory, "migrations", &[("jsonl", lines)])?;
        }
        let lint_failed = lint.errors > 0 || (self.strict && lint.warnings > 0);
        Ok(match (report.exit_code, lint_failed) {
            (0, true) => Exit::PREFLIGHT,
            (code, _) => Exit(code),
        })
    }

    fn slow(&self, elapsed_ms: u64) -> String {
        let took = output::millis(elapsed_ms);
        format!("up, down and up took {took}, more than {}", self.warn_after)
    }

    /// The database that was named, or one in a Postgres that is made for it.
    async fn place(&self) -> anyhow::Result<Stage> {
        match &self.url {
            Some(url) => {
                let found = endpoint(url).map_err(anyhow::Error::msg)?;
                let (endpoint, database) = found;
                Ok(Stage {
                    endpoint,
                    database,
                    _cluster: None,
                })
            }
            None => {
                let options = cluster::Options {
                    bin_dir: self.pg_bin.clone(),
                    ..cluster::Options::default()
                };
                note("making a Postgres of its own (as root, run as user postgres or nobody)");
                let made = Cluster::create(options).await.context(
                    "no Postgres could be made; name an empty database with --url instead",
                )?;
                let url = Secret::new(made.url("postgres"));
                let (endpoint, database) = endpoint(&url).map_err(anyhow::Error::msg)?;
                Ok(Stage {
                    endpoint,
                    database,
                    _cluster: Some(made),
                })
            }
        }
    }
}

/// What was found.
struct Checked {
    lint: LintReport,
    view: RunView,
    events: Vec<Event>,
}

/// The database for it, and the server if it is ours: it ends with this value.
struct Stage {
    endpoint: Endpoint,
    database: String,
    _cluster: Option<Cluster>,
}

impl Stage {
    /// Makes sure that nothing is there which the files' way down could take away, and makes what
    /// they begin with.
    async fn prepare(&self, schema: Option<&str>) -> anyhow::Result<()> {
        let tasks = TaskTracker::new();
        let connector = self.connector(&tasks);
        let found = connector.run_script(&self.database, OBJECTS).await?;
        if let Some(relations) = found.filter(|it| it != "0") {
            bail!(
                "{} is not empty: {relations} relations are there, and ways down may drop what is \
                 not theirs",
                self.database
            );
        }
        if let Some(schema) = schema {
            let made = connector.run_script(&self.database, schema).await;
            made.context("--schema")?;
        }
        tasks.close();
        tasks.wait().await;
        Ok(())
    }

    fn connector(&self, tasks: &TaskTracker) -> Connector {
        let endpoint = self.endpoint.clone();
        let find = Arc::new(move |_: &str| Some(endpoint.clone()));
        Connector::new(find, OwnBackends::default(), tasks.clone())
    }

    fn runner(&self, tasks: &TaskTracker) -> Runner<Nobody> {
        let connector = self.connector(tasks);
        let nobody = Arc::new(Nobody::default());
        Runner::new(nobody, connector, Options::default(), tasks.clone())
    }
}
