//! tokio-postgres, encrypted by rustls.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use futures_util::future::{poll_fn, try_join_all};
use futures_util::{SinkExt, TryStreamExt, pin_mut};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use rustls::{ClientConfig, RootCertStore};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio_postgres::config::{SslMode, SslNegotiation};
use tokio_postgres::{AsyncMessage, Client, Config, Error, IsolationLevel};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::exercise::*;

fn encryption() -> anyhow::Result<MakeRustlsConnect> {
    let mut roots = RootCertStore::empty();
    if let Some(file) = root() {
        for certificate in CertificateDer::pem_file_iter(file)? {
            roots.add(certificate?)?;
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"postgresql".to_vec()];
    Ok(MakeRustlsConnect::new(config))
}

fn config() -> anyhow::Result<Config> {
    let mut config = Config::new();
    config
        .host(set("PGHOST")?)
        .port(set("PGPORT")?.parse()?)
        .user(set("PGUSER")?)
        .dbname(set("PGDATABASE")?)
        .ssl_mode(root().map_or(SslMode::Disable, |_| SslMode::Require));
    if std::env::var("PGSSLNEGOTIATION").is_ok_and(|value| value == "direct") {
        config.ssl_negotiation(SslNegotiation::Direct);
    }
    if let Some(password) = password() {
        config.password(password);
    }
    Ok(config)
}

/// A client, and what the server says to it beside answers.
async fn open(config: &Config) -> anyhow::Result<(Client, UnboundedReceiver<AsyncMessage>)> {
    let (client, mut connection) = config.connect(encryption()?).await?;
    let (heard, hear) = unbounded_channel();
    tokio::spawn(async move {
        while let Some(Ok(message)) = poll_fn(|cx| connection.poll_message(cx)).await {
            // Most clients here listen to nothing.
            drop(heard.send(message));
        }
    });
    Ok((client, hear))
}

async fn connect() -> anyhow::Result<Client> {
    Ok(open(&config()?).await?.0)
}

fn fails<T>(code: &str, result: Result<T, Error>) -> anyhow::Result<()> {
    match result {
        Err(error) if error.code().is_some_and(|seen| seen.code() == code) => Ok(()),
        Err(error) => Err(error.into()),
        Ok(_) => bail!("no error instead of {code}"),
    }
}

async fn queries(client: &Client) -> anyhow::Result<()> {
    step("simple query");
    ensure!(client.simple_query("select 1; select 2").await?.len() == 6);
    step("parameters");
    for word in WORDS {
        let row = client.query_one("select $1::text, $2::int[]", &[&word, &vec![1]]).await?;
        ensure!(row.get::<_, Option<&str>>(0) == word && row.get::<_, Vec<i32>>(1) == [1]);
    }
    step("prepared statements");
    let plus = client.prepare("select $1::int + 1").await?;
    for number in 0..20 {
        ensure!(client.query_one(&plus, &[&number]).await?.get::<_, i32>(0) == number + 1);
    }
    Ok(())
}

async fn transactions(client: &mut Client) -> anyhow::Result<()> {
    step("commit and rollback");
    client.batch_execute("create table notes (id int primary key, body text)").await?;
    let kept = client.transaction().await?;
    kept.execute("insert into notes values (1, 'kept')", &[]).await?;
    kept.commit().await?;
    let lost = client.build_transaction().isolation_level(IsolationLevel::Serializable).start().await?;
    lost.execute("insert into notes values (2, 'lost')", &[]).await?;
    lost.rollback().await?;
    step("error in a transaction");
    let mut outer = client.transaction().await?;
    let inner = outer.savepoint("inside").await?;
    fails("22012", inner.query("select 1 / $1::int", &[&0]).await)?;
    fails("25P02", inner.query("select 1", &[]).await)?;
    inner.rollback().await?;
    outer.execute("insert into notes values (3, 'after the savepoint')", &[]).await?;
    outer.commit().await?;
    let ids = client.query("select id from notes order by id", &[]).await?;
    ensure!(ids.iter().map(|row| row.get::<_, i32>(0)).collect::<Vec<_>>() == [1, 3]);
    Ok(())
}

async fn copy_in(client: &Client, duplicate: bool) -> Result<u64, Error> {
    let sink = client.copy_in("copy notes from stdin").await?;
    pin_mut!(sink);
    sink.send(Bytes::from(lines(duplicate))).await?;
    sink.finish().await
}

async fn bulk(client: &mut Client) -> anyhow::Result<()> {
    step("COPY in with an error");
    fails("23505", copy_in(client, true).await)?;
    step("COPY in");
    ensure!(copy_in(client, false).await? == ROWS.unsigned_abs().into());
    step("COPY out");
    let out = client.copy_out("copy notes to stdout").await?;
    let chunks: Vec<Bytes> = out.try_collect().await?;
    let lines = chunks.concat().iter().filter(|byte| **byte == b'\n').count();
    ensure!(lines == ROWS.unsigned_abs() as usize + 2);
    step("cursor");
    let transaction = client.transaction().await?;
    let portal = transaction.bind("select id from notes", &[]).await?;
    let mut count = 0;
    loop {
        let rows = transaction.query_portal(&portal, 777).await?;
        count += rows.len();
        if rows.len() < 777 {
            break;
        }
    }
    ensure!(count == ROWS.unsigned_abs() as usize + 2);
    transaction.commit().await?;
    step("large values");
    let large = pattern();
    let row = client.query_one("select $1::bytea, repeat('é', 3000000)", &[&large]).await?;
    ensure!(row.get::<_, Vec<u8>>(0) == large && row.get::<_, &str>(1).len() == 6_000_000);
    Ok(())
}

async fn others(mut hear: UnboundedReceiver<AsyncMessage>, client: &Client) -> anyhow::Result<()> {
    step("pipeline");
    let answers = (0..500).map(|number| async move {
        let row = client.query_one("select $1::int", &[&number]).await?;
        Ok::<_, Error>((number, row.get::<_, i32>(0)))
    });
    ensure!(try_join_all(answers).await?.iter().all(|(asked, answer)| asked == answer));
    step("LISTEN and NOTIFY");
    client.batch_execute("listen news").await?;
    connect().await?.batch_execute("notify news, 'ä payload'").await?;
    let note = tokio::time::timeout(Duration::from_secs(10), hear.recv()).await?;
    let Some(AsyncMessage::Notification(note)) = note else { bail!("{note:?}") };
    ensure!(note.channel() == "news" && note.payload() == "ä payload");
    step("cancel");
    let token = client.cancel_token();
    let cancel = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        token.cancel_query(encryption()?).await.context("the cancel request")
    };
    let (slept, cancelled) = tokio::join!(client.query("select pg_sleep(60)", &[]), cancel);
    cancelled?;
    fails("57014", slept)?;
    step("many connections");
    try_join_all((0..CONNECTIONS).map(|number| async move {
        let row = connect().await?.query_one("select $1::int", &[&number]).await?;
        ensure!(row.get::<_, i32>(0) == number);
        Ok(())
    }))
    .await?;
    Ok(())
}

async fn write(number: i32) -> anyhow::Result<i32> {
    let mut client = connect().await?;
    let (mut told, mut after) = (0, 0);
    loop {
        let transaction = client.transaction().await?;
        transaction.query("select n from counters where id = $1 for update", &[&number]).await?;
        transaction.execute("update counters set n = n + 1 where id = $1", &[&number]).await?;
        transaction.commit().await?;
        told += 1;
        if !goes_on(&mut after).await {
            return Ok(told);
        }
    }
}

pub async fn run() -> anyhow::Result<()> {
    println!("version 0.7.18");
    if password().is_some() {
        step("wrong password");
        let refused = config()?.password("wrong").connect(encryption()?).await;
        fails("28P01", refused.map(drop))?;
    }
    step("connect");
    let (mut client, hear) = open(&config()?).await?;
    queries(&client).await?;
    transactions(&mut client).await?;
    bulk(&mut client).await?;
    others(hear, &client).await?;
    step("hold");
    client.batch_execute(COUNTERS).await?;
    client.batch_execute(FILL_COUNTERS).await?;
    let (told, _) = tokio::try_join!(try_join_all((0..WRITERS).map(write)), opened())?;
    let counted: i32 = client.query_one("select sum(n)::int from counters", &[]).await?.get(0);
    ensure!(counted == told.iter().sum::<i32>(), "{counted} instead of {told:?}");
    Ok(())
}
