//! From files, history and a wish to the list of files that will run: pure, decided before any of
//! them runs.

mod back;
mod detail;
mod effect;
mod lock;
mod partial;
mod report;
mod study;
mod types;

use std::collections::BTreeMap;
use std::sync::Arc;

pub use effect::{Effect, Held, Work};
pub use lock::LockMode;
pub use report::PlannedCanary;
pub use report::{
    Back, Expected, Needs, Phase, PlanReport, PlannedLock, PlannedStatement, PlannedStep, Risk,
    TableSize, WayDown,
};

pub(super) use detail::{is_large, needs, report, triggers};
pub(super) use study::{Falling, Studied, StudiedStep, falling, study, wanted};

use jiff::civil::Date;

use super::history::{Key, Row, RowState};
use super::script::Script;
use super::source::{Checksums, Format, Migration, MigrationSet, SqlFile, ToolChecksum, Version};
use super::split::{ScriptError, ScriptProblem};
use super::types::{Direction, StepTraffic, TrafficMode};

/// What somebody wants done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wish {
    /// Towards newer or older versions.
    pub direction: Direction,
    /// How many migrations at most; `None` is all of them up, one of them down.
    pub steps: Option<u32>,
    /// What traffic the files may meet.
    pub traffic: TrafficMode,
    /// The day in UTC: files may wait for one.
    pub today: Date,
    /// Whether each new up file needs a down file, or a reason why there is none.
    pub down_required: bool,
}

/// Files that may run, in the order in which they will. It exists only if the files of what is
/// applied are what they were, nothing is dirty, and every file to run can be cut into statements.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Towards newer or older versions.
    pub direction: Direction,
    /// What will run; empty when there is nothing to do.
    pub steps: Vec<Step>,
    /// What is worth knowing but stops nothing.
    pub notes: Vec<String>,
}

/// One file to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// How the migration's files are named and written.
    pub format: Format,
    /// The migration's version.
    pub version: Version,
    /// The migration's name.
    pub name: String,
    /// The file to run, to name it.
    pub file: String,
    /// Its statements.
    pub script: Script,
    /// How many of them are done already: it goes on behind them.
    pub from: usize,
    /// What running it means for the history.
    pub action: Action,
    /// What traffic it meets.
    pub traffic: StepTraffic,
    /// Whether an earlier run did some of its batches.
    pub begun: bool,
}

impl Step {
    /// Towards newer or older versions.
    pub fn direction(&self) -> Direction {
        match self.action {
            Action::Apply { .. } => Direction::Up,
            Action::Revert { .. } => Direction::Down,
        }
    }

    /// What finds the migration in the history.
    pub fn key(&self) -> Key {
        Key {
            format: self.format,
            version: self.version.clone(),
        }
    }
}

/// What running a file means for the history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// An up file: the migration will be applied.
    Apply {
        /// The up file's checksums.
        checksums: Checksums,
        /// What the format's own tool keeps of the up file.
        tool_checksum: Option<ToolChecksum>,
        /// The down file's text, kept so that the migration can be reverted without its files.
        down_sql: Option<Arc<str>>,
    },
    /// A down file: the migration will be reverted.
    Revert {
        /// The up file, if another tool applied it, so that our history does not know it yet.
        adopted: Option<Box<SqlFile>>,
    },
}

/// Why there is no plan.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// An applied file is not what it was when it ran.
    #[error("{file} has changed since it was applied: SHA-256 {now} now, {then} then")]
    Changed {
        /// The up file.
        file: String,
        /// The normalised checksum kept in the history.
        then: String,
        /// The normalised checksum of the file.
        now: String,
    },
    /// An applied version has no file, so that nothing can be said about it.
    #[error("version {0} ({1}) is applied but its file is missing")]
    Missing(Version, String),
    /// A run stopped part-way.
    #[error("{0}")]
    Dirty(String),
    /// An older version than the newest applied one waits to be applied.
    #[error("{file} is older than version {newest}, which is applied: give it a newer number")]
    OutOfOrder {
        /// The up file.
        file: String,
        /// The newest applied version.
        newest: Version,
    },
    /// Nothing leads back from a version; why, if its file says so.
    #[error("version {0} ({1}) has no down file{why}", why = .2.as_ref().map(|it| format!(": it is irreversible, {it}")).unwrap_or_default())]
    NoDown(Version, String, Option<String>),
    /// A new migration says neither how to go back nor why nobody can.
    #[error(
        "{0} has no down file: write one, or say why there is none with `-- pgdrain:irreversible \
         REASON` (migrate.down_required = false asks for neither)"
    )]
    NoWayBack(String),
    /// The run was asked to meet more traffic than a file can.
    #[error("{file} needs traffic {needs}, the run was asked for {asked}")]
    Traffic {
        /// The file.
        file: String,
        /// What it says of itself.
        needs: TrafficMode,
        /// What the run was asked for.
        asked: TrafficMode,
    },
    /// The history that another tool keeps in the database stands in the way.
    #[error("{0}")]
    Tool(String),
    /// A file to run cannot be cut into statements that may run.
    #[error("{file}, {error}")]
    Script {
        /// The file.
        file: String,
        /// Where and why.
        #[source]
        error: ScriptError,
    },
}

/// Decides what runs.
///
/// # Errors
/// Everything that stands in the way, not only the first.
pub fn build(set: &MigrationSet, history: &[Row], wish: Wish) -> Result<Plan, Vec<Problem>> {
    let mut problems = Vec::new();
    let mut notes = Vec::new();
    compare(set, history, wish.direction, &mut problems, &mut notes);
    problems.extend(history.iter().filter_map(Row::dirty).map(Problem::Dirty));
    let steps = match wish.direction {
        Direction::Up => up(set, history, wish, &mut problems, &mut notes),
        Direction::Down => down(set, history, wish, &mut problems, &mut notes),
    };
    if problems.is_empty() {
        Ok(Plan {
            direction: wish.direction,
            steps,
            notes,
        })
    } else {
        Err(problems)
    }
}

/// Holds each applied row against its file.
fn compare(
    set: &MigrationSet,
    history: &[Row],
    direction: Direction,
    problems: &mut Vec<Problem>,
    notes: &mut Vec<String>,
) {
    for row in history.iter().filter(|row| row.is_applied()) {
        match set.get(&row.version) {
            // It runs again.
            Some(_) | None if row.version.is_repeatable() => {}
            // What is to be reverted may belong to a newer release than the files at hand.
            None if direction == Direction::Down => {}
            None => problems.push(Problem::Missing(row.version.clone(), row.name.clone())),
            Some(it) if it.up.checksums.normalised != row.checksums.normalised => {
                problems.push(Problem::Changed {
                    file: it.up.name.clone(),
                    then: row.checksums.normalised.to_string(),
                    now: it.up.checksums.normalised.to_string(),
                });
            }
            Some(it) if it.up.checksums.raw != row.checksums.raw => notes.push(format!(
                "{} differs from what was applied in line ends or byte order mark only",
                it.up.name
            )),
            Some(_) => {}
        }
    }
    // Newer files would build on rows that are not done yet.
    for row in history.iter().filter(|row| open(row)) {
        if direction == Direction::Up && set.get(&row.version).is_none() {
            let text = format!("{} is begun, but its file is missing", row.name);
            problems.push(Problem::Dirty(text));
        }
    }
}

fn up(
    set: &MigrationSet,
    history: &[Row],
    wish: Wish,
    problems: &mut Vec<Problem>,
    notes: &mut Vec<String>,
) -> Vec<Step> {
    let newest = history
        .iter()
        .filter(|row| row.is_applied() && !row.version.is_repeatable())
        .map(|row| &row.version)
        .max();
    let limit = wish.steps.map_or(usize::MAX, |steps| steps as usize);
    let mut steps = Vec::new();
    for migration in waiting(set, history) {
        if steps.len() == limit {
            break;
        }
        let file = &migration.up.name;
        let Some((script, traffic)) = prepare(&migration.up, wish, problems) else {
            continue;
        };
        let from = partial::goes_on(&migration.version, &script, history).unwrap_or_else(|why| {
            problems.push(Problem::Dirty(format!("{file} {why}")));
            0
        });
        let directives = script.directives();
        if let Some(until) = directives.disabled_until.filter(|it| wish.today < *it) {
            notes.push(format!("{file} is disabled until {until}"));
            continue;
        }
        let newer = newest.filter(|newest| **newest > migration.version);
        // Others went before it while it was disabled, as its author meant it.
        if let Some(newest) = newer.filter(|_| directives.disabled_until.is_none()) {
            problems.push(Problem::OutOfOrder {
                file: file.clone(),
                newest: newest.clone(),
            });
        }
        let explained = directives.irreversible.is_some() || migration.version.is_repeatable();
        if wish.down_required && migration.down.is_none() && !explained {
            problems.push(Problem::NoWayBack(file.clone()));
        }
        if let Some(down) = migration.down.as_ref().filter(|_| wish.down_required) {
            // A way back that cannot be run is none.
            match Script::of(down) {
                Ok(script) => problems.extend(batches_back(&down.name, &script)),
                Err(faults) => problems.extend(script_problems(down, faults)),
            }
        }
        let begun = begun(&migration.version, file, history);
        steps.push(Step {
            format: set.format(),
            version: migration.version.clone(),
            name: migration.name.clone(),
            file: file.clone(),
            script,
            from,
            action: Action::Apply {
                checksums: migration.up.checksums,
                tool_checksum: migration.up.tool_checksum.clone(),
                down_sql: migration.down.as_ref().map(SqlFile::kept),
            },
            traffic,
            begun: begun.is_some(),
        });
        notes.extend(begun);
    }
    steps
}

/// The migrations that are not applied, and the repeatable ones that have changed since.
fn waiting<'a>(set: &'a MigrationSet, history: &[Row]) -> impl Iterator<Item = &'a Migration> {
    let rows: BTreeMap<_, _> = history
        .iter()
        .map(|row| (row.version.clone(), (row.state, row.checksums.normalised)))
        .collect();
    set.iter().filter(move |it| match rows.get(&it.version) {
        None
        | Some((
            RowState::Failed | RowState::Reverted | RowState::Begun | RowState::Partial,
            _,
        )) => true,
        Some((RowState::Applied, then)) => {
            it.version.is_repeatable() && *then != it.up.checksums.normalised
        }
        Some((RowState::Running | RowState::Dirty, _)) => false,
    })
}

fn down(
    set: &MigrationSet,
    history: &[Row],
    wish: Wish,
    problems: &mut Vec<Problem>,
    notes: &mut Vec<String>,
) -> Vec<Step> {
    // What is begun has changed rows, which its down file takes back as well.
    let goes_back = |row: &&Row| (row.is_applied() || open(row)) && !row.version.is_repeatable();
    let mut rows: Vec<_> = history.iter().filter(goes_back).collect();
    // What is there in part goes first, whatever came behind it.
    rows.sort_by(|a, b| {
        let whole = |row: &Row| row.state != RowState::Partial;
        whole(a)
            .cmp(&whole(b))
            .then_with(|| b.version.cmp(&a.version))
    });
    let mut steps = Vec::new();
    for row in rows.into_iter().take(wish.steps.unwrap_or(1) as usize) {
        let migration = set.get(&row.version);
        let Some(file) = down_file(migration, row, notes) else {
            let why = migration
                .and_then(|it| Script::of(&it.up).ok())
                .and_then(|it| it.directives().irreversible.clone());
            let (version, name) = (row.version.clone(), row.name.clone());
            problems.push(Problem::NoDown(version, name, why));
            continue;
        };
        let (file, from) = match partial::way_back(migration, row, file, notes) {
            Ok(rest) => rest,
            Err(why) => {
                let text = format!("there is no way back from {}: {why}", row.name);
                problems.push(Problem::Dirty(text));
                continue;
            }
        };
        if let Some((script, traffic)) = prepare(&file, wish, problems) {
            problems.extend(batches_back(&file.name, &script));
            let up = migration.map(|it| Box::new(it.up.clone()));
            steps.push(Step {
                format: set.format(),
                version: row.version.clone(),
                name: row.name.clone(),
                file: file.name,
                script,
                from,
                action: Action::Revert {
                    adopted: up.filter(|_| row.adopted),
                },
                traffic,
                begun: false,
            });
        }
    }
    steps
}

/// What leads back from an applied migration: its file, or what the history kept of it.
fn down_file(migration: Option<&Migration>, row: &Row, notes: &mut Vec<String>) -> Option<SqlFile> {
    let kept = row.down_sql.as_deref();
    if let Some(file) = migration.and_then(|it| it.down.as_ref()) {
        if kept.is_some_and(|kept| *kept != *file.kept()) {
            notes.push(format!(
                "{} is not what it was when its up file ran",
                file.name
            ));
        }
        return Some(file.clone());
    }
    let kept = kept?;
    notes.push(format!(
        "{} is reverted by the down file kept in the history",
        row.name
    ));
    Some(SqlFile::new(format!("{}.down.sql", row.name), kept))
}

fn prepare(
    file: &SqlFile,
    wish: Wish,
    problems: &mut Vec<Problem>,
) -> Option<(Script, StepTraffic)> {
    let script = match Script::of(file) {
        Ok(script) => script,
        Err(errors) => {
            problems.extend(script_problems(file, errors));
            return None;
        }
    };
    let traffic = match traffic(&script, wish.traffic) {
        Ok(traffic) => traffic,
        Err(needs) => {
            problems.push(Problem::Traffic {
                file: file.name.clone(),
                needs,
                asked: wish.traffic,
            });
            return None;
        }
    };
    let not_yet = cannot_be_done(&script, traffic);
    let possible = not_yet.is_none();
    problems.extend(not_yet.map(|error| Problem::Script {
        file: file.name.clone(),
        error,
    }));
    possible.then_some((script, traffic))
}

fn script_problems(file: &SqlFile, errors: Vec<ScriptError>) -> impl Iterator<Item = Problem> {
    let name = file.name.clone();
    errors.into_iter().map(move |error| Problem::Script {
        file: name.clone(),
        error,
    })
}

/// What traffic a file meets; what it needs, if the run was asked for more than that.
fn traffic(script: &Script, asked: TrafficMode) -> Result<StepTraffic, TrafficMode> {
    let of = |mode| match mode {
        TrafficMode::Auto => None,
        TrafficMode::Open => Some(StepTraffic::Open),
        TrafficMode::ReadOnly => Some(StepTraffic::ReadOnly),
        TrafficMode::Exclusive => Some(StepTraffic::Exclusive),
    };
    let needs = script.directives().traffic.unwrap_or_default();
    match (of(asked), of(needs)) {
        (Some(asked), Some(at_least)) if asked < at_least => Err(needs),
        (Some(asked), _) => Ok(asked),
        (None, Some(needed)) => Ok(needed),
        (None, None) if script.is_concurrent() || script.batch().is_some() => Ok(StepTraffic::Open),
        (None, None) => Ok(StepTraffic::Exclusive),
    }
}

/// A way back in batches: nothing could go on with it where it stopped.
fn batches_back(file: &str, script: &Script) -> Option<Problem> {
    let batch = script.batch()?;
    let text = "pgdrain:batch is for the way there: a down file runs whole";
    Some(Problem::Script {
        file: file.to_owned(),
        error: ScriptProblem::Directive(text.to_owned()).at(batch.line),
    })
}

/// Whether a part of it is there, from which it goes on.
fn open(row: &Row) -> bool {
    matches!(row.state, RowState::Begun | RowState::Partial)
}

/// Says that a file goes on where it stopped.
fn begun(version: &Version, file: &str, history: &[Row]) -> Option<String> {
    let row = history
        .iter()
        .find(|row| row.version == *version && open(row))?;
    let why = row.failed_message.as_deref().unwrap_or("it was stopped");
    Some(format!(
        "{file} is begun and goes on where it stopped: {why}"
    ))
}

/// A directive that is understood and cannot be carried out.
fn cannot_be_done(script: &Script, traffic: StepTraffic) -> Option<ScriptError> {
    let rows = script.directives().rows.first()?;
    if traffic == StepTraffic::Open {
        let text = "pgdrain:rows cannot be told in open traffic, where others write too";
        return Some(ScriptProblem::Directive(text.to_owned()).at(rows.line));
    }
    None
}

#[cfg(test)]
mod tests;
