//! Each rule that needs no database finds what it is for, and not what only looks like it.

use std::collections::BTreeSet;

use pgdrain::runner::lint::{Asks, LintReport, RULES, Severity};
use pgdrain::runner::lint_offline;
use pgdrain::runner::source::PostedFile;
use pgdrain::runner::types::{Direction, PlanRequest, TrafficMode};

use crate::support::migrations::file;

fn lint_files(files: Vec<PostedFile>, traffic: TrafficMode) -> LintReport {
    let request = PlanRequest {
        direction: Direction::Up,
        steps: None,
        files,
        format: None,
        history: None,
        traffic,
    };
    lint_offline(&request).expect("files that can be read")
}

fn lint(sql: &str, traffic: TrafficMode) -> LintReport {
    let files = vec![
        file("1_one.up.sql", sql),
        file("1_one.down.sql", "select 1"),
    ];
    lint_files(files, traffic)
}

fn rules(report: &LintReport) -> BTreeSet<&str> {
    report.findings.iter().map(|it| it.rule.as_str()).collect()
}

/// A rule, and a file that breaks it in open traffic.
const BREAKS: [(&str, &str); 51] = [
    ("blocking-lock", "alter table t add column a int"),
    (
        "table-rewrite",
        "alter table t add column a float default random()",
    ),
    ("table-scan", "alter table t alter a set not null"),
    ("unknown-statement", "select my_function()"),
    (
        "validate-in-same-transaction",
        "alter table t add constraint c check (a > 0) not valid; alter table t validate constraint c",
    ),
    ("required-column", "alter table t add column a int not null"),
    ("drop-without-deprecation", "alter table t drop column a"),
    ("drop-without-deprecation", "drop table t"),
    (
        "drop-without-deprecation",
        "alter table t drop constraint c",
    ),
    ("drop-cascade", "drop view v cascade"),
    ("truncate", "truncate t"),
    ("dangerous-statement", "alter system set work_mem = '1GB'"),
    ("dangerous-statement", "drop schema old"),
    ("update-without-where", "update t set a = 1"),
    ("delete-without-where", "do $$ begin delete from t; end $$"),
    (
        "concurrently-if-not-exists",
        "create index concurrently if not exists i on t (a)",
    ),
    ("reindex", "reindex table t"),
    ("lock-table", "lock table t"),
    ("table-maintenance", "vacuum full t"),
    ("table-maintenance", "cluster t using i"),
    ("refresh-blocks", "refresh materialized view v"),
    (
        "create-trigger",
        "create trigger x before insert on t for each row execute function f()",
    ),
    ("create-rule", "create rule r as on insert to t do nothing"),
    ("policy-change", "drop policy p on t"),
    ("policy-change", "alter table t disable row level security"),
    ("disable-trigger", "alter table t disable trigger all"),
    ("replication-role", "set session_replication_role = replica"),
    ("set-tablespace", "alter table t set tablespace fast"),
    (
        "attach-partition",
        "alter table t attach partition p for values from (1) to (2)",
    ),
    ("do-block", "do $$ begin execute 'x'; end $$"),
    ("timeout-off", "set lock_timeout = 0"),
    ("json-column", "alter table t add column a json"),
    (
        "enum-value-used",
        "alter type mood add value 'calm'; insert into t values ('calm')",
    ),
    ("object-name", "create table \"Orders\" (id int)"),
    ("suppression", "-- pgdrain:allow truncate\ntruncate t"),
    (
        "unused-suppression",
        "-- pgdrain:allow truncate it was a cache\nselect 1",
    ),
    (
        "require-concurrent-index-creation",
        "create index i on t (a)",
    ),
    ("require-concurrent-index-deletion", "drop index i"),
    (
        "require-concurrent-partition-detach",
        "alter table t detach partition p",
    ),
    (
        "constraint-missing-not-valid",
        "alter table t add constraint c check (a > 0)",
    ),
    (
        "disallowed-unique-constraint",
        "alter table t add constraint c unique (a)",
    ),
    (
        "adding-serial-primary-key-field",
        "alter table t add column id serial primary key",
    ),
    ("renaming-column", "alter table t rename column a to b"),
    ("renaming-table", "alter table t rename to u"),
    ("ban-set-schema", "alter table t set schema other"),
    ("ban-drop-function", "drop function f()"),
    ("ban-drop-type", "drop type mood"),
    ("ban-drop-sequence", "drop sequence s"),
    ("ban-drop-trigger", "drop trigger x on t"),
    ("ban-revoke", "revoke select on t from app"),
    (
        "ban-replica-identity",
        "alter table t replica identity full",
    ),
];

/// Rules that need another file than one statement in open traffic, tested below or with a database.
const ELSEWHERE: [&str; 7] = [
    "concurrently-in-window",
    "file-name",
    "missing-down",
    "ban-drop-database",
    "ban-alter-domain-with-add-constraint",
    "ban-duplicate-column-assignments",
    "identifier-too-long",
];

#[test]
fn each_rule_finds_what_it_is_for() {
    for (rule, sql) in BREAKS {
        let report = lint(sql, TrafficMode::Open);
        let found = rules(&report);
        assert!(found.contains(rule), "{sql}: {found:?} lacks {rule}");
    }
    let long = format!("create table {} (a int)", "x".repeat(64));
    for (rule, sql) in [
        ("ban-drop-database", "drop database d"),
        (
            "ban-alter-domain-with-add-constraint",
            "alter domain d add constraint c check (value > 0)",
        ),
        (
            "ban-duplicate-column-assignments",
            "update t set a = 1, a = 2 where b",
        ),
        ("identifier-too-long", long.as_str()),
    ] {
        let report = lint(sql, TrafficMode::Open);
        assert!(rules(&report).contains(rule), "{sql}: {report:#?}");
    }
}

#[test]
fn every_rule_has_a_test() {
    let tested: BTreeSet<_> = BREAKS.iter().map(|it| it.0).chain(ELSEWHERE).collect();
    for rule in RULES.iter().filter(|it| it.asks == Asks::Text) {
        assert!(tested.contains(rule.id), "{} is tested nowhere", rule.id);
    }
    let page = include_str!("../../docs/migrate.md");
    for rule in RULES {
        assert!(
            page.contains(&format!("| `{}` |", rule.id)),
            "{} is not in docs/migrate.md",
            rule.id
        );
    }
}

#[test]
fn what_is_harmless_is_not_found() {
    let harmless = [
        "create table t (id bigint primary key, a int references t2 (id), b jsonb); \
         create index i on t (a); alter table t add column c int not null; drop table t;",
        "insert into t (a) values (1)",
        "create index concurrently i on t (a)",
        "comment on table t is 'truncate, drop table, set session_replication_role'",
        "update t set a = 'truncate t' where id = 1",
    ];
    for sql in harmless {
        let report = lint(sql, TrafficMode::Auto);
        assert_eq!(report.errors, 0, "{sql}: {:#?}", report.findings);
    }
}

#[test]
fn a_window_changes_what_is_wrong() {
    let sql = "create index i on t (a)";
    let open = lint(sql, TrafficMode::Open);
    assert!(open.errors > 0);
    let exclusive = lint(sql, TrafficMode::Exclusive);
    assert_eq!(
        (exclusive.errors, exclusive.warnings),
        (0, 0),
        "{exclusive:#?}"
    );
    let concurrently = lint(
        "create index concurrently i on t (a)",
        TrafficMode::Exclusive,
    );
    assert!(rules(&concurrently).contains("concurrently-in-window"));
    let never = lint("truncate t", TrafficMode::Exclusive);
    assert!(never.errors > 0);
}

#[test]
fn findings_say_where_and_what_instead() {
    let report = lint(
        "-- first\nselect 1;\n\n  truncate t;\n",
        TrafficMode::Exclusive,
    );
    let found = &report.findings[0];
    assert_eq!(
        (
            found.rule.as_str(),
            found.severity,
            found.line,
            found.column
        ),
        ("truncate", Severity::Error, 4, 3)
    );
    assert_eq!(found.file, "1_one.up.sql");
    assert!(!found.hint.is_empty());
}

#[test]
fn a_reason_allows_a_rule_and_squawks_comment_needs_one_too() {
    let allowed = lint(
        "-- pgdrain:allow truncate the table is a cache\ntruncate t;\n\
         -- squawk-ignore renaming-column -- in no release\nalter table t rename column a to b;",
        TrafficMode::Exclusive,
    );
    assert_eq!((allowed.errors, allowed.warnings), (0, 0), "{allowed:#?}");
    let reasons: Vec<_> = allowed
        .suppressed
        .iter()
        .map(|it| it.reason.as_str())
        .collect();
    assert_eq!(reasons, ["the table is a cache", "in no release"]);

    let without = lint(
        "-- squawk-ignore renaming-column\nalter table t rename column a to b;",
        TrafficMode::Exclusive,
    );
    let found = rules(&without);
    assert!(
        found.contains("renaming-column") && found.contains("suppression"),
        "{found:?}"
    );
}

#[test]
fn names_and_missing_ways_down_are_found() {
    let report = lint_files(
        vec![file("1_AddThing.up.sql", "select 1")],
        TrafficMode::Auto,
    );
    let found = rules(&report);
    assert!(
        found.contains("file-name") && found.contains("missing-down"),
        "{found:?}"
    );
    let good = vec![
        file("001_add_thing.up.sql", "select 1"),
        file("001_add_thing.down.sql", "select 1"),
    ];
    assert!(lint_files(good, TrafficMode::Auto).findings.is_empty());
}

#[test]
fn rules_that_were_not_run_are_named() {
    let report = lint("select 1", TrafficMode::Auto);
    let named: BTreeSet<_> = report.not_run.iter().map(|it| it.rule.as_str()).collect();
    let asking: BTreeSet<_> = RULES
        .iter()
        .filter(|it| it.asks != Asks::Text)
        .map(|it| it.id)
        .collect();
    assert_eq!(named, asking);
}

#[test]
fn files_that_no_parser_should_see_are_looked_at_all_the_same() {
    let deep = format!(
        "select {}1{};\ntruncate t;",
        "(".repeat(100_000),
        ")".repeat(100_000)
    );
    let report = lint(&deep, TrafficMode::Exclusive);
    let found = rules(&report);
    assert!(
        found.contains("truncate") && found.contains("unknown-statement"),
        "{found:?}"
    );
}
