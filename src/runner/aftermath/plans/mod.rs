//! How the server would run statements: their plans by EXPLAIN, which runs none of them.
//!
//! Statements are asked for without their constants. From 16 on `EXPLAIN (GENERIC_PLAN)` plans them so; a
//! 15 is given them to PREPARE, and asked for the plan for any parameters (`plan_cache_mode`), with
//! nulls for them. A text with a constant that only a literal can be (`interval $1`) cannot be planned
//! without it, and is left out with the server's reason.

mod compare;
mod shape;

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio_postgres::{Client, Error, SimpleQueryMessage};

use super::baseline;
use crate::runner::report::chain;
use crate::runner::split::split;
use crate::session::class::normal;

pub use compare::{LeftOut, PlanChange, PlanCompared, PlanComparison};

/// How long a plan waits for each lock, and may take.
const LOCK: Duration = Duration::from_millis(200);
const TIME: Duration = Duration::from_secs(2);

/// How much of a statement's text is told.
const TEXT: usize = 300;

/// The first server that plans without parameters.
const GENERIC_PLAN: i32 = 160_000;

/// What can be planned; whatever else is a command that would be carried out.
const PLANNED: [&str; 8] = [
    "select", "insert", "update", "delete", "merge", "with", "values", "table",
];

/// A statement, and how it would be run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Explained {
    /// The statement.
    pub text: String,
    /// The nodes of its plan, what they read and by which index.
    pub plan: Vec<String>,
    /// What the planner thinks it costs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<f64>,
    /// Why there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The same as the server says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sqlstate: Option<String>,
}

impl Explained {
    fn failed(text: &str, why: impl Into<String>) -> Self {
        Self {
            text: text.to_owned(),
            error: Some(why.into()),
            ..Self::default()
        }
    }

    /// Its text on one line, without constants, cut.
    fn headline(&self) -> String {
        normal(self.text.as_bytes())
            .text
            .chars()
            .take(TEXT)
            .collect()
    }
}

/// The statements that are to be planned: those that took most time, and those that are configured.
///
/// # Errors
/// When the server cannot be asked; without pg_stat_statements there are none of it.
pub(in crate::runner) async fn statements(
    client: &Client,
    top: usize,
    configured: &[String],
) -> Result<Vec<String>, Error> {
    let mut all = match top {
        0 => Vec::new(),
        top => baseline::texts(client, top, &PLANNED).await?,
    };
    for text in configured {
        if !all.contains(text) {
            all.push(text.clone());
        }
    }
    Ok(all)
}

/// Plans statements in a transaction of its own that can write nothing.
///
/// # Errors
/// When the session is of no more use; what cannot be planned is told with its reason.
pub(in crate::runner) async fn explain(
    client: &Client,
    statements: &[String],
) -> Result<Vec<Explained>, Error> {
    let begin = "begin transaction isolation level read committed read only";
    client.batch_execute(begin).await?;
    let explained = explain_within(client, statements).await;
    client.batch_execute("rollback").await?;
    explained
}

/// Plans statements in the transaction that is open, and leaves nothing behind in it: not a lock that it
/// did not have.
///
/// # Errors
/// As for `explain`.
pub(in crate::runner) async fn explain_within(
    client: &Client,
    statements: &[String],
) -> Result<Vec<Explained>, Error> {
    let version = "select current_setting('server_version_num')::int4";
    let version: i32 = client.query_one(version, &[]).await?.get(0);
    let mut all = Vec::new();
    for (number, text) in statements.iter().enumerate() {
        all.push(one(client, version, number, text).await?);
    }
    Ok(all)
}

async fn one(client: &Client, version: i32, number: usize, text: &str) -> Result<Explained, Error> {
    let sql = match plain(text) {
        Ok(sql) => sql,
        Err(why) => return Ok(Explained::failed(text, why)),
    };
    // Nothing that is planned can write, whatever it calls while it is planned.
    let begin = format!(
        "savepoint pgdrain_explain; set local transaction_read_only = on; \
         set local lock_timeout = {}; set local statement_timeout = {}",
        LOCK.as_millis(),
        TIME.as_millis()
    );
    client.batch_execute(&begin).await?;
    let planned = match version >= GENERIC_PLAN {
        true => {
            ask(
                client,
                &format!("explain (generic_plan, verbose, format json) {sql}"),
            )
            .await
        }
        false => prepared(client, number, sql).await,
    };
    let end = "rollback to savepoint pgdrain_explain; release savepoint pgdrain_explain";
    client.batch_execute(end).await?;
    forget(client).await?;
    match planned {
        Ok(plan) => Ok(Explained {
            text: text.to_owned(),
            plan: shape::shape(&plan),
            cost: shape::cost(&plan),
            ..Explained::default()
        }),
        Err(error) => match error.as_db_error() {
            None => Err(error),
            Some(said) => Ok(Explained {
                sqlstate: Some(said.code().code().to_owned()),
                ..Explained::failed(text, chain(said))
            }),
        },
    }
}

/// The text of the only statement, if it can be planned.
fn plain(text: &str) -> Result<&str, String> {
    let all = split(text).map_err(|error| error.problem.to_string())?;
    let [only] = all.as_slice() else {
        return Err("it is more than one statement".to_owned());
    };
    let sql = &text[only.range.clone()];
    let first = sql.trim_start_matches('(').trim_start();
    let end = first.find(|it: char| !it.is_ascii_alphabetic());
    let word = first[..end.unwrap_or(first.len())].to_ascii_lowercase();
    match PLANNED.contains(&word.as_str()) {
        true => Ok(sql),
        false => Err("it is a command without a plan".to_owned()),
    }
}

/// The plan for any parameters, of a server that has no other way to ask for it.
async fn prepared(client: &Client, number: usize, sql: &str) -> Result<Value, Error> {
    let name = format!("pgdrain_explain_{number}");
    let prepare =
        format!("set local plan_cache_mode = force_generic_plan; prepare {name} as {sql}");
    client.batch_execute(&prepare).await?;
    let count = "select cardinality(parameter_types) from pg_catalog.pg_prepared_statements \
                 where name = $1";
    let count: i32 = client.query_one(count, &[&name]).await?.get(0);
    let nulls = vec!["null"; usize::try_from(count).unwrap_or_default()];
    let nulls = match nulls.is_empty() {
        true => String::new(),
        false => format!("({})", nulls.join(", ")),
    };
    ask(
        client,
        &format!("explain (verbose, format json) execute {name}{nulls}"),
    )
    .await
}

/// What was prepared outlives a rollback.
async fn forget(client: &Client) -> Result<(), Error> {
    let left = "select name from pg_catalog.pg_prepared_statements \
                where name like 'pgdrain\\_explain\\_%' and from_sql";
    for row in client.query(left, &[]).await? {
        let name: String = row.get(0);
        client.batch_execute(&format!("deallocate {name}")).await?;
    }
    Ok(())
}

/// By the simple protocol: the extended one would ask for parameters.
async fn ask(client: &Client, sql: &str) -> Result<Value, Error> {
    let mut text = String::new();
    for message in client.simple_query(sql).await? {
        if let SimpleQueryMessage::Row(row) = message {
            text += row.get(0).unwrap_or_default();
        }
    }
    Ok(serde_json::from_str(&text).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_statement_that_has_a_plan_is_sent() {
        for good in [
            "select 1",
            " select $1;",
            "(select 1) union all select 2",
            "WITH a AS (select 1) select * from a",
            "update t set a = $1",
            "-- a comment\ntable t",
        ] {
            assert!(plain(good).is_ok(), "{good}");
        }
        for bad in [
            "select 1; drop table t",
            "drop table t",
            "commit",
            "selection",
            "",
            "select 'open",
            "explain analyze delete from t",
        ] {
            assert!(plain(bad).is_err(), "{bad}");
        }
    }
}
