//! Whether one statement happened, as the catalogs have it. Only what leaves a trace that is told by a
//! name is known here.

use tokio_postgres::Client;

use crate::runner::execute::ConcurrentIndex;
use crate::runner::shape::{self, Kind, Name};

/// What the catalogs say of a statement.
#[derive(Debug)]
pub(super) enum Probe {
    /// It happened.
    Done(String),
    /// It did not; or it may be run again whatever became of it.
    NotDone(String),
    /// It did not, and left something that has to go first.
    Remains {
        text: String,
        sql: String,
        cleared: String,
    },
    /// It happened but for its last step.
    Finish {
        text: String,
        sql: String,
        cleared: String,
    },
    /// They do not say.
    CannotTell,
}

type Answer = Result<Probe, tokio_postgres::Error>;

/// Looks for what a statement would have done.
pub(super) async fn probe(client: &Client, sql: &str) -> Answer {
    if !shape::is_readable(sql) {
        return Ok(Probe::CannotTell);
    }
    let acts = shape::read(sql);
    let [act] = acts.as_slice() else {
        return Ok(Probe::CannotTell);
    };
    let repeatable = || Ok(Probe::NotDone("it may be run again".to_owned()));
    match (&act.kind, &act.on) {
        (
            Kind::CreateIndex {
                name: Some(name),
                unique,
                columns,
                ..
            },
            Some(on),
        ) => {
            let columns = columns.as_deref();
            index(client, on, name, *unique, columns).await
        }
        (Kind::Drop(it), _) if it.what.is_relation() => {
            let there = relation(client, &it.name).await?;
            Ok(gone(there, &it.name.to_string()))
        }
        (
            Kind::CreateTable { .. } | Kind::CreateView { replace: false } | Kind::CreateOther,
            Some(on),
        ) => Ok(there(relation(client, on).await?, &on.to_string())),
        (Kind::AddColumn(column, _), Some(on)) => {
            let text = format!("column {} of {on}", column.name);
            Ok(there(has_column(client, on, &column.name).await?, &text))
        }
        (Kind::DropColumn { column, .. }, Some(on)) => {
            let text = format!("column {column} of {on}");
            Ok(gone(has_column(client, on, column).await?, &text))
        }
        (Kind::AddConstraint(constraint), Some(on)) => match &constraint.name {
            Some(name) => {
                let text = format!("constraint {name} of {on}");
                Ok(there(validated(client, on, name).await?.is_some(), &text))
            }
            None => Ok(Probe::CannotTell),
        },
        (Kind::DropConstraint { constraint, .. }, Some(on)) => {
            let text = format!("constraint {constraint} of {on}");
            Ok(gone(
                validated(client, on, constraint).await?.is_some(),
                &text,
            ))
        }
        (Kind::Validate { constraint }, Some(on)) => {
            let valid = validated(client, on, constraint).await?;
            Ok(match valid {
                Some(true) => Probe::Done(format!("constraint {constraint} is valid")),
                Some(false) => Probe::NotDone(format!("constraint {constraint} is not valid")),
                None => Probe::CannotTell,
            })
        }
        (
            Kind::Detach {
                partition,
                concurrently: true,
            },
            Some(on),
        ) => detached(client, on, partition).await,
        (
            Kind::Reindex {
                index,
                concurrently: true,
            },
            Some(on),
        ) => rebuilt(client, on, *index).await,
        (
            Kind::Vacuum { .. }
            | Kind::Analyze
            | Kind::Cluster
            | Kind::Refresh { .. }
            | Kind::Reindex { .. },
            _,
        ) => repeatable(),
        _ => Ok(Probe::CannotTell),
    }
}

fn there(is: bool, what: &str) -> Probe {
    match is {
        true => Probe::Done(format!("{what} is there, so it is done")),
        false => Probe::NotDone(format!("{what} is not there, so it is not done")),
    }
}

fn gone(is_there: bool, what: &str) -> Probe {
    match is_there {
        false => Probe::Done(format!("{what} is gone, so it is done")),
        true => Probe::NotDone(format!("{what} is still there, so it is not done")),
    }
}

async fn relation(client: &Client, name: &Name) -> Result<bool, tokio_postgres::Error> {
    let sql = "select pg_catalog.to_regclass($1) is not null";
    Ok(client.query_one(sql, &[&name.quoted()]).await?.get(0))
}

async fn has_column(
    client: &Client,
    on: &Name,
    column: &str,
) -> Result<bool, tokio_postgres::Error> {
    let sql = "select exists (select from pg_catalog.pg_attribute \
                              where attrelid = pg_catalog.to_regclass($1) \
                                and attname = $2::text and not attisdropped)";
    Ok(client
        .query_one(sql, &[&on.quoted(), &column])
        .await?
        .get(0))
}

/// Whether a constraint is validated; none if it is not there.
async fn validated(
    client: &Client,
    on: &Name,
    constraint: &str,
) -> Result<Option<bool>, tokio_postgres::Error> {
    let sql = "select convalidated from pg_catalog.pg_constraint \
               where conrelid = pg_catalog.to_regclass($1) and conname = $2::text";
    let row = client.query_opt(sql, &[&on.quoted(), &constraint]).await?;
    Ok(row.map(|row| row.get(0)))
}

/// An index that is valid and has the columns that it was to have is the one; one that is invalid is
/// what a failed statement left.
async fn index(
    client: &Client,
    on: &Name,
    name: &str,
    unique: bool,
    columns: Option<&[String]>,
) -> Answer {
    let wanted = ConcurrentIndex {
        table: on.clone(),
        name: name.to_owned(),
    };
    if let Some(found) = wanted.remains(client).await? {
        return Ok(Probe::Remains {
            text: format!("index {found} is there and invalid, so it is not done"),
            sql: format!("drop index concurrently {found}"),
            cleared: format!("dropped the invalid index {found}"),
        });
    }
    let sql = "select x.indisvalid, x.indisunique, \
                      array(select a.attname::text from pg_catalog.pg_attribute a \
                            where a.attrelid = x.indexrelid and a.attnum <= x.indnkeyatts \
                            order by a.attnum) \
               from pg_catalog.pg_index x join pg_catalog.pg_class c on c.oid = x.indexrelid \
               where x.indrelid = pg_catalog.to_regclass($1) and c.relname = $2::text";
    let Some(row) = client.query_opt(sql, &[&on.quoted(), &name]).await? else {
        return Ok(Probe::NotDone(format!(
            "index {name} is not there, so it is not done"
        )));
    };
    let (valid, is_unique, found): (bool, bool, Vec<String>) = (row.get(0), row.get(1), row.get(2));
    let same = is_unique == unique && columns.is_none_or(|columns| columns == found);
    Ok(match valid && same {
        true => Probe::Done(format!("index {name} is there and valid, so it is done")),
        // Somebody builds it just now, or it is another one.
        false => Probe::CannotTell,
    })
}

/// `DETACH PARTITION CONCURRENTLY` commits once on its way; what is behind that is `FINALIZE`.
async fn detached(client: &Client, on: &Name, partition: &Name) -> Answer {
    let sql = "select inhdetachpending from pg_catalog.pg_inherits \
               where inhparent = pg_catalog.to_regclass($1) \
                 and inhrelid = pg_catalog.to_regclass($2)";
    let row = client
        .query_opt(sql, &[&on.quoted(), &partition.quoted()])
        .await?;
    Ok(match row.map(|row| row.get::<_, bool>(0)) {
        None => Probe::Done(format!(
            "{partition} is no partition of {on} any more, so it is done"
        )),
        Some(false) => Probe::NotDone(format!("{partition} is still a partition of {on}")),
        Some(true) => Probe::Finish {
            text: format!("{partition} is being detached from {on}"),
            sql: format!(
                "alter table {} detach partition {} finalize",
                on.quoted(),
                partition.quoted()
            ),
            cleared: format!("finished the detaching of {partition}"),
        },
    })
}

/// `REINDEX CONCURRENTLY` leaves invalid indexes with names of its own; it may be run again.
async fn rebuilt(client: &Client, on: &Name, is_index: bool) -> Answer {
    let sql = "select pg_catalog.format('%I.%I', n.nspname, c.relname) \
               from pg_catalog.pg_index x \
               join pg_catalog.pg_class c on c.oid = x.indexrelid \
               join pg_catalog.pg_namespace n on n.oid = c.relnamespace \
               where x.indrelid = case when $2 then (select indrelid from pg_catalog.pg_index \
                                                     where indexrelid = pg_catalog.to_regclass($1)) \
                                       else pg_catalog.to_regclass($1) end \
                 and not x.indisvalid and c.relname ~ '_cc(new|old)[0-9]*$' order by 1";
    let rows = client.query(sql, &[&on.quoted(), &is_index]).await?;
    let found: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    Ok(match found.as_slice() {
        [] => Probe::NotDone("it may be run again".to_owned()),
        [one] => Probe::Remains {
            text: format!("index {one} is there and invalid; it may be run again"),
            sql: format!("drop index concurrently {one}"),
            cleared: format!("dropped the invalid index {one}"),
        },
        // DROP INDEX CONCURRENTLY takes one at a time.
        many => Probe::Remains {
            text: format!(
                "{} invalid indexes are there; it may be run again",
                many.len()
            ),
            sql: format!("drop index {}", many.join(", ")),
            cleared: format!("dropped the invalid indexes {}", many.join(", ")),
        },
    })
}
