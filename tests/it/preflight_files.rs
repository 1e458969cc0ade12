//! Preflight and what files touch: roles, owners, extensions, indexes, constraints, rows, room.

use std::time::Duration;

use pgdrain::config::Preflight;
use pgdrain::runner::preflight::CheckOutcome::{Failed, Passed, Unknown};

use crate::support::migrations::{DATABASE, Site, file};
use crate::support::preflight::{Look, check, outcome, text};

#[tokio::test]
async fn roles_that_files_name_are_there_and_ours_to_take() {
    let site = Site::start().await;
    site.sql(
        "create role runner login; create role app; create role other; \
              grant app, pg_read_all_stats to runner; grant create on database postgres to runner",
    )
    .await;
    let runner = site.as_role("runner", Preflight::default());
    let named = |role: &str| {
        [file(
            "1_a.up.sql",
            &format!("-- pgdrain:owner {role}\nselect 1"),
        )]
    };
    let report = runner.look(&named("app")).await;
    assert!(report.passed, "{report:#?}");
    let report = runner.look(&named("other")).await;
    assert_eq!(outcome(&report, "owners"), Failed);
    assert_eq!(
        text(&report, "owners"),
        "1_a.up.sql: we may not SET ROLE to \"other\""
    );
    let report = runner.look(&named("nobody")).await;
    assert_eq!(
        text(&report, "owners"),
        "1_a.up.sql: role \"nobody\" does not exist"
    );
    assert!(check(&report, "owners").hint.is_some());
}

#[tokio::test]
async fn what_is_changed_belongs_to_the_role_that_changes_it() {
    let site = Site::start().await;
    site.sql(
        "create role runner login; create role app; \
              grant app, pg_read_all_stats to runner; grant create on database postgres to runner; \
              create table t (a int); create table u (a int); alter table u owner to app; \
              grant select, insert on t to runner",
    )
    .await;
    let runner = site.as_role("runner", Preflight::default());
    let alter = [file(
        "1_a.up.sql",
        "alter table t add b int; alter table u add b int",
    )];
    let report = runner.look(&alter).await;
    assert_eq!(outcome(&report, "ownership"), Failed);
    let said = text(&report, "ownership");
    assert_eq!(
        said,
        "public.t belongs to postgres, and the file runs as runner"
    );
    // Rows may be changed by others than the owner.
    let insert = [file("1_a.up.sql", "insert into t values (1)")];
    assert_eq!(outcome(&runner.look(&insert).await, "ownership"), Passed);
    // As another role, also one that is a member of the owner.
    let as_app = [file(
        "1_a.up.sql",
        "-- pgdrain:owner app\nalter table t add b int",
    )];
    let report = runner.look(&as_app).await;
    assert!(
        text(&report, "ownership").ends_with("the file runs as app"),
        "{report:#?}"
    );
    site.sql("alter table t owner to app").await;
    assert_eq!(outcome(&runner.look(&alter).await, "ownership"), Passed);
}

#[tokio::test]
async fn extensions_that_are_needed_can_be_had() {
    let site = Site::start().await;
    let plain = [file("1_a.up.sql", "create table a ()")];
    let needs = |name: &str| {
        site.with(Preflight {
            extensions: vec![name.to_owned()],
            ..Preflight::default()
        })
    };
    assert_eq!(
        outcome(&needs("plpgsql").look(&plain).await, "extensions"),
        Passed
    );
    let report = needs("nonesuch").look(&plain).await;
    assert_eq!(
        text(&report, "extensions"),
        "nonesuch is required and not installed"
    );
    let create = [file(
        "1_a.up.sql",
        "create extension if not exists \"nonesuch\"",
    )];
    let report = site.look(&create).await;
    assert_eq!(outcome(&report, "extensions"), Failed);
    assert_eq!(
        text(&report, "extensions"),
        "nonesuch is not available on this server"
    );
    let there = [file("1_a.up.sql", "create extension if not exists plpgsql")];
    assert_eq!(outcome(&site.look(&there).await, "extensions"), Passed);
}

#[tokio::test]
async fn an_invalid_index_counts_unless_a_file_is_about_it() {
    let site = Site::start().await;
    site.sql("create table t (a int); insert into t values (1), (1); create table u (a int)")
        .await;
    let broken = "create unique index concurrently t_a on t (a)";
    assert!(site.client.batch_execute(broken).await.is_err());
    let alter = [file("1_a.up.sql", "alter table t add b int")];
    let report = site.look(&alter).await;
    assert_eq!(outcome(&report, "indexes"), Failed);
    assert!(
        text(&report, "indexes").starts_with("t_a on t is invalid"),
        "{report:#?}"
    );
    for sql in [
        "alter table u add b int",
        "drop index t_a; alter table t add b int",
    ] {
        let report = site.look(&[file("1_a.up.sql", sql)]).await;
        assert_eq!(outcome(&report, "indexes"), Passed, "{sql}");
    }
    site.sql("drop index t_a").await;
    assert_eq!(outcome(&site.look(&alter).await, "indexes"), Passed);
}

#[tokio::test]
async fn what_is_validated_can_be_validated() {
    let site = Site::start().await;
    site.sql(
        "create table t (a int); insert into t values (-1); \
              alter table t add constraint positive check (a > 0) not valid",
    )
    .await;
    let validate = [file(
        "1_a.up.sql",
        "alter table t validate constraint positive",
    )];
    let report = site.look(&validate).await;
    assert_eq!(outcome(&report, "constraints"), Failed);
    assert_eq!(text(&report, "constraints"), "rows of t violate positive");
    // A step on the way is named, and stops nothing.
    let other = [file("1_a.up.sql", "alter table t add b int")];
    let report = site.look(&other).await;
    assert!(report.passed, "{report:#?}");
    assert_eq!(
        check(&report, "constraints").details,
        ["positive on t is NOT VALID, and no file validates it"]
    );
    site.sql("delete from t").await;
    assert!(site.look(&validate).await.passed);
}

#[tokio::test]
async fn rows_that_lead_nowhere_are_found_before() {
    let mut site = Site::start().await;
    site.sql(
        "create table p (a int primary key); create table c (a int); \
              insert into c values (7); \
              alter table c add constraint c_p foreign key (a) references p not valid",
    )
    .await;
    let alter = [file("1_a.up.sql", "alter table c add b int")];
    let report = site.look(&alter).await;
    assert_eq!(outcome(&report, "orphans"), Failed);
    assert_eq!(
        text(&report, "orphans"),
        "c_p of c: there are rows that lead nowhere"
    );
    let mend = [file("1_a.up.sql", "delete from c where a = 7")];
    assert_eq!(outcome(&site.look(&mend).await, "orphans"), Passed);

    // What has to wait is not waited for, and not known.
    let other = site.postgres.connect(DATABASE).await;
    other
        .batch_execute("begin; lock table p")
        .await
        .expect("a lock");
    let report = site.look(&alter).await;
    assert_eq!(outcome(&report, "orphans"), Unknown);
    assert!(
        check(&report, "orphans").details[0].contains("lock timeout"),
        "{report:#?}"
    );
    other.batch_execute("commit").await.expect("its end");
    let hasty = site.with(Preflight {
        rows_time: Duration::from_nanos(1),
        ..Preflight::default()
    });
    assert_eq!(outcome(&hasty.look(&alter).await, "orphans"), Unknown);

    site.sql("insert into p values (7); alter table c validate constraint c_p")
        .await;
    let report = site.look(&alter).await;
    assert!(report.passed, "{report:#?}");
    assert_eq!(
        text(&report, "orphans"),
        "1 foreign keys looked at, no orphan found"
    );
    // The server keeps it, so that it may be left open.
    let report = hasty.look(&alter).await;
    assert_eq!(outcome(&report, "orphans"), Passed);
    assert!(
        check(&report, "orphans").details[0].contains("no time left"),
        "{report:#?}"
    );
}

#[tokio::test]
async fn indexes_and_rewrites_need_room() {
    let site = Site::start().await;
    site.sql(
        "create table t (a int, b text); \
              insert into t select n, repeat('x', 100) from generate_series(1, 5000) n",
    )
    .await;
    let index = [file("1_a.up.sql", "create index t_a on t (a)")];
    let rewrite = [file("1_a.up.sql", "alter table t alter a type bigint")];
    // The cluster is on this machine, and has room.
    for files in [&index, &rewrite] {
        let report = site.look(files).await;
        assert_eq!(outcome(&report, "disk"), Passed, "{report:#?}");
        assert!(
            text(&report, "disk").contains("KiB needed and"),
            "{report:#?}"
        );
    }
    let told = |command: &str, unasked| {
        site.with(Preflight {
            disk_free_command: Some(command.to_owned()),
            disk_unasked: unasked,
            ..Preflight::default()
        })
    };
    // A fifth of some 700 KiB fits, all of it does not.
    let some = told("test -d \"$PGDRAIN_DISK_PATH\" && echo 300000", 0);
    assert_eq!(outcome(&some.look(&index).await, "disk"), Passed);
    let report = some.look(&rewrite).await;
    assert_eq!(outcome(&report, "disk"), Failed, "{report:#?}");
    assert!(
        text(&report, "disk").ends_with("KiB needed and 292 KiB free"),
        "{report:#?}"
    );
    let nothing = [file("1_a.up.sql", "alter table t add c int")];
    let report = some.look(&nothing).await;
    assert_eq!(
        text(&report, "disk"),
        "does not apply: nothing is built or written again"
    );

    for broken in ["exit 3", "echo much"] {
        let report = told(broken, 0).look(&index).await;
        assert_eq!(outcome(&report, "disk"), Unknown, "{report:#?}");
        // Of little, nobody needs to know.
        let report = told(broken, 1 << 30).look(&index).await;
        assert_eq!(outcome(&report, "disk"), Passed, "{report:#?}");
    }
}
