//! `pgdrain migrate`: reads the files, posts them, and follows what the runner does with them.

use std::path::{Path, PathBuf};

use anyhow::bail;
use clap::{Args, Subcommand};
use hyper::Method;

use super::account::Accounting;
use super::advice;
use super::approvals::{Acknowledging, Approved, Approving, Deciding, Going, Revoking};
use super::arguments::{Asking, LadderArguments, operator};
use super::backups::{Listing, Pruning, Restoring};
use super::ci::Ci;
use super::client::{Client, ClientError, Patience, path};
use super::describe;
use super::drift::Drifting;
use super::exit::Exit;
use super::follow::Follower;
use super::new_migration::New;
use super::objects::Objects;
use super::output::{self, note, plain};
use super::planning::{Linting, Planning};
use super::preflight::Preflight;
use super::rehearse::Rehearse;
use super::repair::Repairing;
use super::timing::TimingArguments;
use super::verify::Verifying;
use crate::admin::types::{CancelRequest, Cancelling, MigrationStarted, Migrations};
use crate::config::{HumanDuration, Scope, typed_scope};
use crate::runner::aftermath::WatchView;
use crate::runner::source::{self, Format, PostedFile};
use crate::runner::types::{
    Direction, MigrationRequest, RunState, RunSummary, StatusReport, StatusRequest, TrafficMode,
};

/// Apply migrations alone in the database, or revert them
///
/// The files are golang-migrate's, Flyway's, dbmate's, sqlx's, Prisma's or goose's, told by their
/// names. The migration runs in the process of pgdrain: a closed shell ends nothing.
#[derive(Args, Debug)]
pub(super) struct Migrate {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Apply what is pending
    Up(Run),
    /// Revert what was applied last
    Down(Run),
    /// Show what a run would lock, scan and drop, and the traffic it needs; writes nothing
    Plan(Planning),
    /// Look for what goes wrong with migrations; writes nothing
    Lint(Linting),
    /// Make every check that a run makes before it; writes nothing
    Preflight(Preflight),
    /// Run the files up, down and up again in a copy of the database, and tell what they lock and take
    Rehearse(Rehearse),
    /// Check files for a pull request: names, pairs, lint, and a rehearsal in a Postgres of their own
    Ci(Ci),
    /// Look at what stands part-way after a crash or a failure, and say how to go on
    Repair(Repairing),
    /// Look whether the database is as it should be, and compare it with another; writes nothing
    Verify(Verifying),
    /// Show what was changed past the migrations since the last run, and accept it
    Drift(Drifting),
    /// List the backups that runs have made
    Backups(Listing),
    /// Remove the backups that need not be kept; never the newest
    Prune(Pruning),
    /// Restore the backup of a run into a database that is made for it
    Restore(Restoring),
    /// Show or put back the views, policies, grants ... that were saved before a run
    Objects(Objects),
    /// Write the files of a new migration, both directions, from a template
    New(New),
    /// Show which files are applied, pending, changed or dirty
    Status(Status),
    /// Tell a run on one page: timeline, figures, locks, checks, what clients felt
    Report(Accounting),
    /// Follow the migration that runs, or show the last one
    Attach(One),
    /// Cancel the migration that runs: its statement is cancelled and rolled back
    Cancel(One),
    /// Say that you look after a migration, so that nobody else is called
    Ack(Acknowledging),
    /// Decide by what is known whether to go: a line for each thing that has to be so; writes nothing
    Gonogo(Going),
    /// Approve a plan, named by its hash
    Approve(Approving),
    /// List what was approved, by whom and until when
    Approvals(Approved),
    /// Take an approval back
    Revoke(Revoking),
    /// Record what is to be done about a migration that failed
    Decide(Deciding),
    /// End the watch after the last migration
    Unwatch(One),
}

impl Migrate {
    pub(super) async fn run(self) -> anyhow::Result<Exit> {
        match self.command {
            Command::Up(run) => run.start(Direction::Up).await,
            Command::Down(run) => run.start(Direction::Down).await,
            Command::Plan(planning) => planning.show().await,
            Command::Lint(linting) => linting.show().await,
            Command::Preflight(preflight) => preflight.show().await,
            Command::Rehearse(rehearse) => rehearse.run().await,
            Command::Ci(ci) => ci.run().await,
            Command::Repair(repairing) => repairing.ask().await,
            Command::Verify(verifying) => verifying.show().await,
            Command::Drift(drifting) => drifting.show().await,
            Command::Backups(listing) => listing.show().await,
            Command::Prune(pruning) => pruning.ask().await,
            Command::Restore(restoring) => restoring.ask().await,
            Command::Objects(objects) => objects.show().await,
            Command::New(new) => new.write(),
            Command::Status(status) => status.show().await,
            Command::Report(accounting) => accounting.show().await,
            Command::Attach(one) => one.attach().await,
            Command::Cancel(one) => one.cancel().await,
            Command::Ack(acknowledging) => acknowledging.ask().await,
            Command::Gonogo(going) => going.show().await,
            Command::Approve(approving) => approving.ask().await,
            Command::Approvals(approved) => approved.show().await,
            Command::Revoke(revoking) => revoking.ask().await,
            Command::Decide(deciding) => deciding.ask().await,
            Command::Unwatch(one) => one.unwatch().await,
        }
    }
}

#[derive(Args, Debug)]
struct Run {
    #[command(flatten)]
    files: Files,
    /// What traffic the files may meet: open, read_only, exclusive, or auto, which decides for each
    /// file.
    #[arg(long, value_name = "HOW", default_value = "auto")]
    traffic: TrafficMode,
    /// How long a window may last, such as 5m; then the migration is cancelled.
    #[arg(long = "for", value_name = "TIME")]
    duration: Option<HumanDuration>,
    #[command(flatten)]
    ladder: LadderArguments,
    /// Let the server keep new sessions out meanwhile (CONNECTION LIMIT 0); superusers get in all the
    /// same.
    #[arg(long)]
    fence: bool,
    /// How many migrations at most; without it all of them up, one of them down.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    steps: Option<u32>,
    /// Tell the tool that the files are written for, in its own table, of what is done.
    #[arg(long)]
    write_back: bool,
    /// Back the database up first, and do not run without; as configured if it is not said.
    #[arg(long, conflicts_with = "no_backup")]
    backup: bool,
    /// Do not back the database up first.
    #[arg(long)]
    no_backup: bool,
    /// How long a statement waits for each lock.
    #[arg(long, value_name = "TIME")]
    lock_timeout: Option<HumanDuration>,
    /// How long a statement may run.
    #[arg(long, value_name = "TIME")]
    statement_timeout: Option<HumanDuration>,
    /// Go on although a check of preflight was not passed; the reason is recorded. Files, history and
    /// the lock cannot be forced.
    #[arg(long, requires = "reason")]
    force: bool,
    #[command(flatten)]
    timing: TimingArguments,
    /// Who would lead the database back, for the report.
    #[arg(long, value_name = "NAME")]
    rollback_by: Option<String>,
    /// For how long figures are held against migrate.triggers after it, such as 30m; at most 48h.
    #[arg(long, value_name = "TIME")]
    watch: Option<HumanDuration>,
    /// How long what clients feel is measured before it, such as 5m, to be compared with the time after; as
    /// configured if it is not said.
    #[arg(long, value_name = "TIME")]
    measure: Option<HumanDuration>,
    /// Whose new connections are let in before everybody's: application=NAME, user=NAME, client=CIDR, or
    /// several of them, parted by commas.
    #[arg(long, value_name = "SCOPE", value_parser = typed_scope)]
    canary: Option<Scope>,
    /// If postflight is not passed, go back by the down files, in the same window.
    #[arg(long)]
    down_on_failure: bool,
    /// Analyze the tables that the files touch before anything is held.
    #[arg(long)]
    analyze_first: bool,
    /// Copy the tables that the files touch within the database, just before the first file.
    #[arg(long)]
    copy_tables: bool,
    /// Why, for logs and for those who wait.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    #[command(flatten)]
    asking: Asking,
}

impl Run {
    async fn start(self, direction: Direction) -> anyhow::Result<Exit> {
        let client = self.asking.client()?;
        let request = MigrationRequest {
            direction,
            steps: self.steps,
            files: read_files(&self.files.dir, self.files.format)?,
            format: self.files.format,
            history: self.files.history.clone(),
            write_back: self.write_back,
            backup: match (self.backup, self.no_backup) {
                (true, _) => Some(true),
                (_, true) => Some(false),
                (false, false) => None,
            },
            traffic: self.traffic,
            window: self.duration,
            ladder: self.ladder.ladder,
            autocommit: self.ladder.autocommit,
            wait: self.ladder.wait,
            cancel: self.ladder.cancel,
            stuck: self.ladder.stuck,
            abort: self.ladder.abort,
            terminate: self.ladder.terminate,
            bypass: self.ladder.bypass,
            fence: self.fence.then_some(true),
            lock_timeout: self.lock_timeout,
            statement_timeout: self.statement_timeout,
            force: self.force,
            when: self.timing.when(),
            rollback_by: self.rollback_by,
            reason: self.reason,
            by: Some(operator()),
            watch: self.watch,
            measure: self.measure,
            canary: self.canary,
            down_on_failure: self.down_on_failure,
            analyze_first: self.analyze_first,
            copy_tables: self.copy_tables,
        };
        let database = &self.files.database;
        let MigrationStarted { id } = match start(&client, database, &request).await {
            Ok(started) => started,
            Err(error) => return not_started(error, database),
        };
        follow(&client, &self.asking, &id, database).await
    }
}

/// Starts a migration.
pub(super) async fn start(
    client: &Client,
    database: &str,
    request: &MigrationRequest,
) -> Result<MigrationStarted, ClientError> {
    let path = path(&["v1", "databases", database, "migrations"]);
    client
        .send(Method::POST, &path, request, Patience::Short)
        .await
}

/// Another migration runs there: nothing was done, and later it may be.
pub(super) fn not_started(error: ClientError, database: &str) -> anyhow::Result<Exit> {
    if !error.has_code("busy") {
        return Err(error.into());
    }
    note(&format!("error: {error}"));
    note(&format!("`pgdrain migrate attach '{database}'` follows it"));
    Ok(Exit::NOT_GRANTED)
}

#[derive(Args, Debug)]
pub(super) struct Files {
    /// The database.
    #[arg(value_name = "DB")]
    pub(super) database: String,
    /// The directory of the migration files.
    #[arg(long, value_name = "DIR")]
    pub(super) dir: PathBuf,
    /// How the files are named and written: golang-migrate, flyway, dbmate, sqlx, prisma or goose;
    /// told by their names and by the history in the database if it is not said.
    #[arg(long, value_name = "FORMAT")]
    pub(super) format: Option<Format>,
    /// The table in which the files' own tool keeps its history, if it is not the usual one.
    #[arg(long, value_name = "SCHEMA.TABLE")]
    pub(super) history: Option<String>,
}

/// Reads the migration files of a directory; tells every fault of them at once.
pub(super) fn read_files(
    directory: &Path,
    format: Option<Format>,
) -> anyhow::Result<Vec<PostedFile>> {
    let place = directory.display();
    match source::read_directory(directory, format) {
        Ok(files) if files.is_empty() => match format {
            Some(format) => bail!("{place} holds no migration files ({})", format.names()),
            None => bail!("{place} holds no migration files (such as NUMBER_name.up.sql)"),
        },
        Ok(files) => Ok(files),
        Err(faults) => {
            let faults: String = faults.iter().map(|fault| format!("\n  {fault}")).collect();
            bail!("the files of {place} cannot be used:{faults}")
        }
    }
}

#[derive(Args, Debug)]
struct Status {
    #[command(flatten)]
    files: Files,
    #[command(flatten)]
    asking: Asking,
}

impl Status {
    async fn show(self) -> anyhow::Result<Exit> {
        let request = StatusRequest {
            files: read_files(&self.files.dir, self.files.format)?,
            format: self.files.format,
            history: self.files.history.clone(),
        };
        let path = path(&[
            "v1",
            "databases",
            &self.files.database,
            "migrations",
            "status",
        ]);
        let client = self.asking.client()?;
        let report: StatusReport = client
            .send(Method::POST, &path, &request, Patience::Short)
            .await?;
        self.asking.format().print(&report, describe::migrations)?;
        // What preflight would refuse, so that a pipeline can ask beforehand.
        match report.changed.is_empty() && report.dirty.is_empty() && report.problems.is_empty() {
            true => Ok(Exit::SUCCESS),
            false => Ok(Exit::PREFLIGHT),
        }
    }
}

#[derive(Args, Debug)]
struct One {
    /// The database.
    #[arg(value_name = "DB")]
    database: String,
    #[command(flatten)]
    asking: Asking,
}

impl One {
    async fn attach(self) -> anyhow::Result<Exit> {
        let client = self.asking.client()?;
        match self.all(&client).await?.pop() {
            Some(last) => follow(&client, &self.asking, &last.id, &self.database).await,
            None => bail!(
                "no migration has run in {} since pgdrain started",
                self.database
            ),
        }
    }

    async fn cancel(self) -> anyhow::Result<Exit> {
        let client = self.asking.client()?;
        let running = self
            .all(&client)
            .await?
            .pop()
            .filter(|last| !last.state.is_final());
        let Some(RunSummary { id, .. }) = running else {
            bail!("no migration runs in {}", self.database);
        };
        let path = path(&["v1", "migrations", &id, "cancel"]);
        let request = CancelRequest {
            by: Some(operator()),
        };
        let _asked: Cancelling = client
            .send(Method::POST, &path, &request, Patience::Short)
            .await?;
        let ended = Follower::new(&client, self.asking.format(), &id)
            .follow()
            .await?;
        // It was to be cancelled: that it was is success here, and failure for who started it.
        match ended {
            Some(view) if view.state == RunState::Cancelled => Ok(Exit::SUCCESS),
            Some(view) => Ok(Exit(view.exit_code.unwrap_or(Exit::MIGRATION.0))),
            None => Ok(Exit::INTERRUPTED),
        }
    }

    async fn unwatch(self) -> anyhow::Result<Exit> {
        let path = path(&["v1", "databases", &self.database, "migrations", "unwatch"]);
        let client = self.asking.client()?;
        let nothing = serde_json::json!({});
        let ended: WatchView = client
            .send(Method::POST, &path, &nothing, Patience::Short)
            .await?;
        self.asking
            .format()
            .print(&ended, |it| plain(&it.to_string()))?;
        Ok(Exit::SUCCESS)
    }

    /// The migrations of the database, the one that runs last.
    async fn all(&self, client: &Client) -> Result<Vec<RunSummary>, ClientError> {
        let path = path(&["v1", "databases", &self.database, "migrations"]);
        let all: Migrations = client.get(&path).await?;
        Ok(all.migrations)
    }
}

/// Follows a migration to its end, or to Ctrl-C, which ends the following alone.
pub(super) async fn follow(
    client: &Client,
    asking: &Asking,
    id: &str,
    database: &str,
) -> anyhow::Result<Exit> {
    match Follower::new(client, asking.format(), id).follow().await {
        Ok(Some(view)) => {
            let exit = Exit(view.exit_code.unwrap_or(Exit::MIGRATION.0));
            if exit == Exit::NOT_GRANTED && asking.format() == output::Format::Text {
                note(&format!("next: {}", advice::in_the_way(database)));
            }
            Ok(exit)
        }
        other => gone_on(other.map(|_| ()), id, database),
    }
}

/// It is not followed any more: by Ctrl-C, or because nobody answers.
pub(super) fn gone_on(ended: anyhow::Result<()>, id: &str, database: &str) -> anyhow::Result<Exit> {
    let attach = format!("`pgdrain migrate attach '{database}'` follows it again");
    match ended {
        Ok(()) => {
            note(&format!(
                "the migration goes on in pgdrain; {attach}, `pgdrain migrate cancel '{database}'` \
                 cancels it"
            ));
            Ok(Exit::INTERRUPTED)
        }
        Err(error) => {
            note(&format!("error: {error:#}"));
            note(&format!(
                "how migration {id} ended is not known here; {attach}, `pgdrain migrate status \
                 '{database}' --dir DIR` shows what the database says"
            ));
            Ok(Exit::MIGRATION)
        }
    }
}
