//! sqlx with its pool, encrypted by rustls.

use std::time::Duration;

use anyhow::{bail, ensure};
use futures_util::TryStreamExt;
use futures_util::future::try_join_all;
use sqlx::postgres::{PgConnectOptions, PgListener, PgPool, PgPoolOptions, PgSslMode};
use sqlx::{Connection, Executor, PgConnection, Row};

use crate::exercise::*;

fn options() -> anyhow::Result<PgConnectOptions> {
    let mut options = PgConnectOptions::new_without_pgpass()
        .host(&set("PGHOST")?)
        .port(set("PGPORT")?.parse()?)
        .username(&set("PGUSER")?)
        .database(&set("PGDATABASE")?)
        .ssl_mode(PgSslMode::Disable);
    if let Some(file) = root() {
        options = options.ssl_mode(PgSslMode::VerifyFull).ssl_root_cert(file);
    }
    if let Some(password) = password() {
        options = options.password(&password);
    }
    Ok(options)
}

fn fails<T>(code: &str, result: Result<T, sqlx::Error>) -> anyhow::Result<()> {
    match result {
        Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some(code) => Ok(()),
        Err(error) => Err(error.into()),
        Ok(_) => bail!("no error instead of {code}"),
    }
}

async fn queries(client: &mut PgConnection) -> anyhow::Result<()> {
    step("simple query");
    ensure!(sqlx::raw_sql("select 1; select 2").fetch_all(&mut *client).await?.len() == 2);
    step("parameters");
    for word in WORDS {
        let query = sqlx::query("select $1::text, $2::int[]").bind(word).bind(vec![1]);
        let row = query.fetch_one(&mut *client).await?;
        ensure!(row.get::<Option<&str>, _>(0) == word && row.get::<Vec<i32>, _>(1) == [1]);
    }
    step("prepared statements");
    for number in 0..20 {
        let plus = sqlx::query_scalar::<_, i32>("select $1 + 1").bind(number);
        ensure!(plus.fetch_one(&mut *client).await? == number + 1);
    }
    Ok(())
}

async fn transactions(client: &mut PgConnection) -> anyhow::Result<()> {
    step("commit and rollback");
    client.execute("create table notes (id int primary key, body text)").await?;
    let mut kept = client.begin().await?;
    kept.execute("insert into notes values (1, 'kept')").await?;
    kept.commit().await?;
    let mut lost = client.begin().await?;
    lost.execute("insert into notes values (2, 'lost')").await?;
    // Rolled back by being dropped.
    drop(lost);
    step("error in a transaction");
    let mut outer = client.begin().await?;
    let mut inner = outer.begin().await?;
    fails("22012", sqlx::query("select 1 / $1").bind(0).fetch_one(&mut *inner).await)?;
    fails("25P02", inner.execute("select 1").await)?;
    inner.rollback().await?;
    outer.execute("insert into notes values (3, 'after the savepoint')").await?;
    outer.commit().await?;
    let ids = sqlx::query_scalar("select id from notes order by id");
    let ids: Vec<i32> = ids.fetch_all(client).await?;
    ensure!(ids == [1, 3]);
    Ok(())
}

async fn copy_in(client: &mut PgConnection, duplicate: bool) -> Result<u64, sqlx::Error> {
    let mut copy = client.copy_in_raw("copy notes from stdin").await?;
    copy.send(lines(duplicate).into_bytes()).await?;
    copy.finish().await
}

async fn bulk(client: &mut PgConnection) -> anyhow::Result<()> {
    step("COPY in with an error");
    fails("23505", copy_in(client, true).await)?;
    step("COPY in");
    ensure!(copy_in(client, false).await? == ROWS.unsigned_abs().into());
    step("COPY out");
    let out = client.copy_out_raw("copy notes to stdout").await?;
    let chunks: Vec<_> = out.try_collect().await?;
    let lines = chunks.concat().iter().filter(|byte| **byte == b'\n').count();
    ensure!(lines == ROWS.unsigned_abs() as usize + 2);
    step("rows as a stream");
    let mut rows = sqlx::query("select id from notes").fetch(&mut *client);
    let mut count = 0;
    while rows.try_next().await?.is_some() {
        count += 1;
    }
    drop(rows);
    ensure!(count == ROWS + 2);
    step("large values");
    let large = pattern();
    let query = sqlx::query("select $1::bytea, repeat('é', 3000000)").bind(&large);
    let row = query.fetch_one(client).await?;
    ensure!(row.get::<Vec<u8>, _>(0) == large && row.get::<&str, _>(1).len() == 6_000_000);
    Ok(())
}

async fn others(pool: &PgPool) -> anyhow::Result<()> {
    skip("pipeline", "sqlx has none");
    step("LISTEN and NOTIFY");
    let mut listener = PgListener::connect_with(pool).await?;
    listener.listen("news").await?;
    pool.execute("notify news, 'ä payload'").await?;
    let note = tokio::time::timeout(Duration::from_secs(10), listener.recv()).await??;
    ensure!(note.channel() == "news" && note.payload() == "ä payload");
    skip("cancel", "sqlx has none");
    step("many connections");
    try_join_all((0..4 * CONNECTIONS).map(|number| async move {
        let query = sqlx::query_scalar::<_, i32>("select $1").bind(number);
        ensure!(query.fetch_one(pool).await? == number);
        Ok(())
    }))
    .await?;
    Ok(())
}

async fn write(pool: &PgPool, number: i32) -> anyhow::Result<i32> {
    let (mut told, mut after) = (0, 0);
    loop {
        let mut transaction = pool.begin().await?;
        let read = sqlx::query("select n from counters where id = $1 for update").bind(number);
        read.fetch_one(&mut *transaction).await?;
        let add = sqlx::query("update counters set n = n + 1 where id = $1").bind(number);
        add.execute(&mut *transaction).await?;
        transaction.commit().await?;
        told += 1;
        if !goes_on(&mut after).await {
            return Ok(told);
        }
    }
}

pub async fn run() -> anyhow::Result<()> {
    println!("version 0.9.0");
    if password().is_some() {
        step("wrong password");
        let refused = PgConnection::connect_with(&options()?.password("wrong")).await;
        fails("28P01", refused)?;
    }
    step("connect");
    let mut client = PgConnection::connect_with(&options()?).await?;
    queries(&mut client).await?;
    transactions(&mut client).await?;
    bulk(&mut client).await?;
    let pool = PgPoolOptions::new().max_connections(20).connect_with(options()?).await?;
    others(&pool).await?;
    step("hold");
    client.execute(COUNTERS).await?;
    client.execute(FILL_COUNTERS).await?;
    let writers = try_join_all((0..WRITERS).map(|number| write(&pool, number)));
    let (told, _) = tokio::try_join!(writers, opened())?;
    let counted = sqlx::query_scalar("select sum(n)::int from counters");
    let counted: i32 = counted.fetch_one(&mut client).await?;
    ensure!(counted == told.iter().sum::<i32>(), "{counted} instead of {told:?}");
    pool.close().await;
    Ok(())
}
