//! From files, history and a wish to the list of files that will run: pure, decided before any of
//! them runs.

mod detail;
mod effect;
mod lock;
mod report;
mod study;
mod types;

use std::collections::BTreeMap;
use std::sync::Arc;

pub use effect::{Effect, Held, Work};
pub use lock::LockMode;
pub use report::{
    Back, Needs, Phase, PlanReport, PlannedLock, PlannedStatement, PlannedStep, Risk, TableSize,
    WayDown,
};

pub(super) use detail::{is_large, needs, report, triggers};
pub(super) use study::{Falling, Studied, StudiedStep, falling, study, wanted};

use super::history::{Row, RowState};
use super::script::Script;
use super::source::{Checksums, Migration, MigrationSet, Version};
use super::split::ScriptError;
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
    /// The migration's version.
    pub version: Version,
    /// The migration's name.
    pub name: String,
    /// The file to run, to name it.
    pub file: String,
    /// Its statements.
    pub script: Script,
    /// What running it means for the history.
    pub action: Action,
    /// What traffic it meets.
    pub traffic: StepTraffic,
}

impl Step {
    /// Towards newer or older versions.
    pub fn direction(&self) -> Direction {
        match self.action {
            Action::Apply { .. } => Direction::Up,
            Action::Revert => Direction::Down,
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
        /// The down file's text, kept so that the migration can be reverted without its files.
        down_sql: Option<Arc<str>>,
    },
    /// A down file: the migration will be reverted.
    Revert,
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
    /// Nothing leads back from a version.
    #[error("version {0} ({1}) has no down file")]
    NoDown(Version, String),
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
        Direction::Up => up(set, history, wish, &mut problems),
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
        match set.get(row.version) {
            // What is to be reverted may belong to a newer release than the files at hand.
            None if direction == Direction::Down => {}
            None => problems.push(Problem::Missing(row.version, row.name.clone())),
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
}

fn up(set: &MigrationSet, history: &[Row], wish: Wish, problems: &mut Vec<Problem>) -> Vec<Step> {
    let states: BTreeMap<_, _> = history.iter().map(|row| (row.version, row.state)).collect();
    let newest = history
        .iter()
        .filter(|row| row.is_applied())
        .map(|row| row.version)
        .max();
    let waits = |migration: &&Migration| match states.get(&migration.version) {
        None | Some(RowState::Failed | RowState::Reverted) => true,
        Some(RowState::Applied | RowState::Running | RowState::Dirty) => false,
    };
    let limit = wish.steps.map_or(usize::MAX, |steps| steps as usize);
    let mut steps = Vec::new();
    for migration in set.iter().filter(waits).take(limit) {
        if let Some(newest) = newest.filter(|newest| *newest > migration.version) {
            problems.push(Problem::OutOfOrder {
                file: migration.up.name.clone(),
                newest,
            });
        }
        if let Some((script, traffic)) =
            prepare(&migration.up.name, &migration.up.sql, wish, problems)
        {
            let down_sql = migration.down.as_ref().map(|it| Arc::clone(&it.sql));
            steps.push(Step {
                version: migration.version,
                name: migration.name.clone(),
                file: migration.up.name.clone(),
                script,
                action: Action::Apply {
                    checksums: migration.up.checksums,
                    down_sql,
                },
                traffic,
            });
        }
    }
    steps
}

fn down(
    set: &MigrationSet,
    history: &[Row],
    wish: Wish,
    problems: &mut Vec<Problem>,
    notes: &mut Vec<String>,
) -> Vec<Step> {
    let mut rows: Vec<_> = history.iter().filter(|row| row.is_applied()).collect();
    rows.sort_by_key(|row| std::cmp::Reverse(row.version));
    let mut steps = Vec::new();
    for row in rows.into_iter().take(wish.steps.unwrap_or(1) as usize) {
        let posted = set.get(row.version).and_then(|it| it.down.as_ref());
        let (file, sql) = match (posted, &row.down_sql) {
            (Some(file), kept) => {
                if kept.as_deref().is_some_and(|kept| *kept != *file.sql) {
                    notes.push(format!(
                        "{} is not what it was when its up file ran",
                        file.name
                    ));
                }
                (file.name.clone(), Arc::clone(&file.sql))
            }
            (None, Some(kept)) => {
                notes.push(format!(
                    "{} is reverted by the down file kept in the history",
                    row.name
                ));
                (format!("{}.down.sql", row.name), Arc::from(kept.as_str()))
            }
            (None, None) => {
                problems.push(Problem::NoDown(row.version, row.name.clone()));
                continue;
            }
        };
        if let Some((script, traffic)) = prepare(&file, &sql, wish, problems) {
            let (version, name) = (row.version, row.name.clone());
            steps.push(Step {
                version,
                name,
                file,
                script,
                action: Action::Revert,
                traffic,
            });
        }
    }
    steps
}

fn prepare(
    file: &str,
    sql: &Arc<str>,
    wish: Wish,
    problems: &mut Vec<Problem>,
) -> Option<(Script, StepTraffic)> {
    let script = match Script::prepare(sql) {
        Ok(script) => script,
        Err(error) => {
            problems.push(Problem::Script {
                file: file.to_owned(),
                error,
            });
            return None;
        }
    };
    let traffic = match wish.traffic {
        TrafficMode::Open => StepTraffic::Open,
        TrafficMode::Exclusive => StepTraffic::Exclusive,
        TrafficMode::Auto if script.is_concurrent() => StepTraffic::Open,
        TrafficMode::Auto => StepTraffic::Exclusive,
    };
    Some((script, traffic))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runner::script::TxMode;
    use crate::runner::source::{PostedFile, Sha256, golang_migrate};
    use crate::runner::status::status;

    fn set(files: &[(&str, &str)]) -> MigrationSet {
        let files: Vec<_> = files
            .iter()
            .map(|(name, sql)| PostedFile {
                name: (*name).to_owned(),
                sql: (*sql).to_owned(),
                sha256: Sha256::of(sql.as_bytes()).to_string(),
            })
            .collect();
        golang_migrate::collect(&files).unwrap()
    }

    fn row(version: u64, up_sql: &str, state: RowState) -> Row {
        Row {
            version: Version(version),
            name: format!("{version}_m"),
            checksums: Checksums::of(up_sql),
            mode: TxMode::File,
            state,
            run: String::new(),
            direction: Direction::Up,
            statements: (3, 1),
            failed_statement: None,
            failed_message: None,
            down_sql: None,
            finished_at: None,
        }
    }

    fn wish(direction: Direction, steps: Option<u32>) -> Wish {
        Wish {
            direction,
            steps,
            traffic: TrafficMode::Auto,
        }
    }

    fn files(plan: &Plan) -> Vec<&str> {
        plan.steps.iter().map(|it| it.file.as_str()).collect()
    }

    fn problems(set: &MigrationSet, history: &[Row], wish: Wish) -> Vec<String> {
        let problems = build(set, history, wish).unwrap_err();
        problems.iter().map(ToString::to_string).collect()
    }

    const THREE: [(&str, &str); 4] = [
        ("1_m.up.sql", "select 1"),
        ("1_m.down.sql", "select -1"),
        ("2_m.up.sql", "create index concurrently i on t (a)"),
        ("10_m.up.sql", "select 10"),
    ];

    #[test]
    fn what_waits_runs_in_order_and_meets_the_traffic_it_needs() {
        let set = set(&THREE);
        let plan = build(&set, &[], wish(Direction::Up, None)).unwrap();
        assert_eq!(files(&plan), ["1_m.up.sql", "2_m.up.sql", "10_m.up.sql"]);
        let traffic: Vec<_> = plan.steps.iter().map(|it| it.traffic).collect();
        assert_eq!(
            traffic,
            [
                StepTraffic::Exclusive,
                StepTraffic::Open,
                StepTraffic::Exclusive
            ]
        );
        let modes: Vec<_> = plan.steps.iter().map(|it| it.script.mode()).collect();
        assert_eq!(modes, [TxMode::File, TxMode::None, TxMode::File]);

        let open = Wish {
            traffic: TrafficMode::Open,
            ..wish(Direction::Up, Some(1))
        };
        let plan = build(&set, &[], open).unwrap();
        assert_eq!(files(&plan), ["1_m.up.sql"]);
        assert_eq!(plan.steps[0].traffic, StepTraffic::Open);
    }

    #[test]
    fn failed_and_reverted_wait_again() {
        let set = set(&THREE);
        let history = [
            row(1, "select 1", RowState::Applied),
            row(2, "anything", RowState::Failed),
            row(10, "anything", RowState::Reverted),
        ];
        let plan = build(&set, &history, wish(Direction::Up, None)).unwrap();
        assert_eq!(files(&plan), ["2_m.up.sql", "10_m.up.sql"]);
        let report = status(&set, &history);
        assert_eq!((report.applied.len(), report.pending.len()), (1, 2));
    }

    #[test]
    fn everything_in_the_way_is_named_at_once() {
        let set = set(&[
            ("1_m.up.sql", "select 1"),
            ("2_m.up.sql", "select 2"),
            ("4_m.up.sql", "select 4;\ncommit;"),
        ]);
        let history = [
            row(2, "select 'two'", RowState::Applied),
            row(3, "select 3", RowState::Applied),
            row(5, "select 5", RowState::Dirty),
        ];
        let found = problems(&set, &history, wish(Direction::Up, None));
        assert_eq!(found.len(), 5, "{found:#?}");
        assert!(found[0].starts_with("2_m.up.sql has changed since it was applied"));
        assert_eq!(
            found[1],
            "version 3 (3_m) is applied but its file is missing"
        );
        assert_eq!(
            found[2],
            "5_m (up) stopped at statement 2 of 3: no message was recorded"
        );
        assert!(found[3].starts_with("1_m.up.sql is older than version 3"));
        assert!(found[4].starts_with("4_m.up.sql, line 2: COMMIT: the runner begins"));
    }

    #[test]
    fn line_ends_are_noted_and_stop_nothing() {
        let set = set(&[("1_m.up.sql", "select 1;\r\n")]);
        let history = [row(1, "select 1;\n", RowState::Applied)];
        let plan = build(&set, &history, wish(Direction::Up, None)).unwrap();
        assert!(plan.steps.is_empty());
        assert_eq!(plan.notes.len(), 1);
    }

    #[test]
    fn down_goes_back_one_step_from_the_newest() {
        let set = set(&THREE);
        let mut newest = row(10, "select 10", RowState::Applied);
        let history = [row(1, "select 1", RowState::Applied), newest.clone()];
        let found = problems(&set, &history, wish(Direction::Down, Some(2)));
        assert_eq!(found, ["version 10 (10_m) has no down file"]);

        newest.down_sql = Some("select -10".to_owned());
        let history = [row(1, "select 1", RowState::Applied), newest];
        let plan = build(&set, &history, wish(Direction::Down, None)).unwrap();
        assert_eq!(files(&plan), ["10_m.down.sql"]);
        assert_eq!(plan.steps[0].script.text(), "select -10");
        let plan = build(&set, &history, wish(Direction::Down, Some(5))).unwrap();
        assert_eq!(files(&plan), ["10_m.down.sql", "1_m.down.sql"]);
        assert_eq!(plan.steps[1].direction(), Direction::Down);
    }

    #[test]
    fn a_newer_release_can_be_reverted_without_its_files() {
        let mut newer = row(11, "select 11", RowState::Applied);
        newer.down_sql = Some("select -11".to_owned());
        let plan = build(&set(&THREE), &[newer], wish(Direction::Down, None)).unwrap();
        assert_eq!(files(&plan), ["11_m.down.sql"]);
        assert_eq!(plan.notes.len(), 1);
    }
}
