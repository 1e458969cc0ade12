//! `verify` says whether a database is as it should be after its migrations, and whether another one
//! is like it.

use crate::support::shop::{DATABASE, Shop};

#[tokio::test]
async fn a_database_is_checked_and_compared_with_another_and_with_a_file() {
    let mut shop = Shop::open().await;
    shop.write("001_a.up.sql", "create table a (id int primary key);");
    shop.migrate(&["up"]).await.assert(0, &[]);
    let verified = shop.migrate(&["verify"]).await;
    let said = [
        "passed  dirty",
        "passed  checksums",
        "passed  indexes",
        "passed  constraints",
    ];
    verified.assert(0, &said);

    // pgdrain's own tables are no difference.
    shop.sql("create database other").await;
    let other = shop.postgres.connect("other").await;
    let differs = shop.migrate(&["verify", "--against", "other"]).await;
    differs.assert(
        3,
        &[
            "- only in postgres, + only in other:",
            "- column public.a.id #1 integer",
        ],
    );
    let schema = shop
        .ask(
            "select string_agg(format('%I', relname), ',') from pg_class \
                           where relnamespace = 'pgdrain'::regnamespace and relkind = 'r'",
        )
        .await;
    assert!(schema.contains("migration") && !differs.stdout.contains("pgdrain.migration"));

    // A report is compared with what the database is now.
    let reports = shop.files().with_file_name("reports");
    let directory = reports.to_str().expect("a path in UTF-8");
    shop.migrate(&["verify", "--report", directory])
        .await
        .assert(0, &["wrote "]);
    let mut written = std::fs::read_dir(&reports).expect("a directory");
    let file = written.next().expect("a report").expect("an entry").path();
    assert!(
        file.file_name()
            .is_some_and(|it| it.to_string_lossy().starts_with("postflight-report-"))
    );
    let file = file.to_str().expect("a path in UTF-8");
    let same = shop.migrate(&["verify", "--against", file]).await;
    same.assert(0, &["the schema is that of"]);
    shop.sql("alter table a add column note text").await;
    let drifted = shop.migrate(&["verify", "--against", file]).await;
    drifted.assert(3, &["- column public.a.note #2 text"]);
    other.batch_execute("select 1").await.expect("an answer");
}

#[tokio::test]
async fn what_is_not_as_it_should_be_is_named() {
    let shop = Shop::open().await;
    shop.write("001_a.up.sql", "create table a (id int);");
    shop.migrate(&["up"]).await.assert(0, &[]);
    shop.sql(
        "insert into a values (1), (1); alter table a add constraint c check (id > 5) not valid",
    )
    .await;
    let broken = shop
        .direct
        .batch_execute("create unique index concurrently a_i on a (id)")
        .await;
    assert!(broken.is_err());
    shop.write("001_a.up.sql", "create table a (id bigint);");
    shop.sql("update pgdrain.migration set state = 'applied'")
        .await;
    let verified = shop.migrate(&["verify"]).await;
    let said = [
        "FAILED  checksums",
        "001_a.up.sql has changed",
        "FAILED  indexes",
        "public.a_i on public.a is invalid",
        "FAILED  constraints",
        "c on public.a is NOT VALID",
    ];
    verified.assert(3, &said);
    shop.sql("update pgdrain.migration set state = 'dirty'")
        .await;
    let dirty = shop.proxy.run(&["migrate", "verify", DATABASE]).await;
    dirty.assert(3, &["FAILED  dirty", "pgdrain migrate repair"]);
    let unknown = shop.proxy.run(&["migrate", "verify", "nowhere"]).await;
    unknown.assert(5, &["There is no database called \"nowhere\""]);
}

#[tokio::test]
async fn another_environment_is_compared_by_its_url() {
    let mut shop = Shop::open().await;
    shop.write("001_a.up.sql", "create table a (id int primary key);");
    shop.migrate(&["up"]).await.assert(0, &[]);
    shop.sql("create database other").await;
    let other = shop.postgres.connect("other").await;
    let made = "create table a (id int primary key, note text)";
    other.batch_execute(made).await.expect("a table");
    let url = format!("postgres://postgres:hunter2@{}/other", shop.postgres.addr());
    let differs = shop.migrate(&["verify", "--against", &url]).await;
    differs.assert(
        3,
        &[
            "+ only in other at 127.0.0.1",
            "+ column public.a.note #2 text",
        ],
    );
    assert!(!differs.stdout.contains("hunter2") && !differs.stderr.contains("hunter2"));
    let nobody = "postgres://postgres:hunter2@127.0.0.1:1/other";
    let unknown = shop.migrate(&["verify", "--against", nobody]).await;
    unknown.assert(5, &["the other database: cannot connect"]);
    assert!(!unknown.stderr.contains("hunter2"));
}
