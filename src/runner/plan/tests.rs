//! What is run, reverted, skipped or refused.

use super::*;
use crate::runner::script::TxMode;
use crate::runner::source::{PostedFile, Sha256, golang_migrate};
use crate::runner::status::status;

const TODAY: Date = jiff::civil::date(2026, 11, 21);

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
        format: Format::GolangMigrate,
        adopted: false,
        version: Version::number(version),
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
        partly_run: None,
        finished_at: None,
    }
}

fn wish(direction: Direction, steps: Option<u32>) -> Wish {
    Wish {
        direction,
        steps,
        traffic: TrafficMode::Auto,
        today: TODAY,
        down_required: false,
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
    let report = status(&set, &history, TODAY);
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

#[test]
fn a_disabled_file_waits_for_its_day_and_holds_nobody_up() {
    let two = [
        (
            "1_m.up.sql",
            "-- pgdrain:disabled-until 2026-11-22\nselect 1",
        ),
        ("2_m.up.sql", "select 2"),
    ];
    let set = set(&two);
    let plan = build(&set, &[], wish(Direction::Up, Some(1))).unwrap();
    assert_eq!(files(&plan), ["2_m.up.sql"]);
    assert_eq!(plan.notes, ["1_m.up.sql is disabled until 2026-11-22"]);
    let pending = status(&set, &[], TODAY).pending;
    assert_eq!(
        pending[0].detail.as_deref(),
        Some("disabled until 2026-11-22")
    );

    let later = Wish {
        today: TODAY.tomorrow().unwrap(),
        ..wish(Direction::Up, None)
    };
    let history = [row(2, "select 2", RowState::Applied)];
    assert_eq!(
        files(&build(&set, &history, later).unwrap()),
        ["1_m.up.sql"]
    );
}

#[test]
fn a_new_migration_leads_back_or_says_why_not() {
    let set = set(&[
        ("1_m.up.sql", "select 1"),
        ("2_m.up.sql", "select 2"),
        (
            "3_m.up.sql",
            "-- pgdrain:irreversible the data is gone\nselect 3",
        ),
        ("4_m.up.sql", "select 4"),
        ("4_m.down.sql", "select -4"),
    ]);
    let strict = Wish {
        down_required: true,
        ..wish(Direction::Up, None)
    };
    // The first is applied, and excused.
    let history = [row(1, "select 1", RowState::Applied)];
    let found = problems(&set, &history, strict);
    assert_eq!(found.len(), 1, "{found:#?}");
    assert!(
        found[0].starts_with("2_m.up.sql has no down file"),
        "{}",
        found[0]
    );
    let history = [row(
        3,
        &set.get(&Version::number(3)).unwrap().up.sql,
        RowState::Applied,
    )];
    assert_eq!(
        problems(&set, &history, wish(Direction::Down, None)),
        ["version 3 (3_m) has no down file: it is irreversible, the data is gone"]
    );
}

#[test]
fn a_file_says_what_traffic_it_meets() {
    let set = set(&[
        ("1_m.up.sql", "-- pgdrain:traffic open\nselect 1"),
        ("2_m.up.sql", "-- pgdrain:traffic read_only\nselect 2"),
        ("3_m.up.sql", "select 3"),
    ]);
    let traffic = |asked| {
        let wish = Wish {
            traffic: asked,
            ..wish(Direction::Up, None)
        };
        build(&set, &[], wish)
            .map(|plan| plan.steps.iter().map(|it| it.traffic).collect::<Vec<_>>())
    };
    let own = vec![
        StepTraffic::Open,
        StepTraffic::ReadOnly,
        StepTraffic::Exclusive,
    ];
    assert_eq!(traffic(TrafficMode::Auto), Ok(own));
    assert_eq!(
        traffic(TrafficMode::Exclusive),
        Ok(vec![StepTraffic::Exclusive; 3])
    );
    assert_eq!(
        traffic(TrafficMode::ReadOnly),
        Ok(vec![StepTraffic::ReadOnly; 3])
    );
    let refused: Vec<_> = traffic(TrafficMode::Open)
        .unwrap_err()
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(
        refused,
        ["2_m.up.sql needs traffic read_only, the run was asked for open"]
    );
}

#[test]
fn what_cannot_be_done_yet_is_refused_and_not_passed_over() {
    let set = set(&[
        (
            "1_m.up.sql",
            "\n-- pgdrain:batch table=t size=100\nupdate t set a = 1 where :batch or b;",
        ),
        (
            "2_m.up.sql",
            "-- pgdrain:rows t +1\n-- pgdrain:traffic open\ninsert into t values (1)",
        ),
    ]);
    let found = problems(&set, &[], wish(Direction::Up, None));
    assert_eq!(
        found,
        [
            "1_m.up.sql, line 3, column 33: pgdrain:batch: only AND may join :batch with other \
             conditions",
            "2_m.up.sql, line 1: pgdrain:rows cannot be told in open traffic, where others \
             write too",
        ]
    );
}

#[test]
fn repeatable_files_run_when_they_changed_and_stand_in_nobodys_way() {
    let posted = |name: &str, sql: &str| PostedFile {
        name: name.to_owned(),
        sql: sql.to_owned(),
        sha256: Sha256::of(sql.as_bytes()).to_string(),
    };
    let files = [
        posted("V1__a.sql", "select 1"),
        posted("R__v.sql", "select 'new'"),
    ];
    let set = Format::Flyway.collect(&files).unwrap();
    let repeatable = |sql: &str| Row {
        version: Version::repeatable("v"),
        format: Format::Flyway,
        ..row(1, sql, RowState::Applied)
    };
    let names = |history: &[Row], direction| {
        let plan = build(&set, history, wish(direction, None)).unwrap();
        plan.steps
            .iter()
            .map(|it| it.file.clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(names(&[], Direction::Up), ["V1__a.sql", "R__v.sql"]);
    assert_eq!(
        names(&[repeatable("select 'old'")], Direction::Up),
        ["V1__a.sql", "R__v.sql"]
    );
    assert_eq!(
        names(&[repeatable("select 'new'")], Direction::Up),
        ["V1__a.sql"]
    );
    assert!(names(&[repeatable("select 'new'")], Direction::Down).is_empty());
}
