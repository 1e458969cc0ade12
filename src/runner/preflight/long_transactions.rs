//! Who has been in a transaction for so long that it stands in the way?
//!
//! Before a window they are named, which stops nothing: waiting for them, or ending them, is what a
//! drain is for. A file in open traffic has no drain: its DDL would queue behind them, and everybody
//! behind it.

use tokio_postgres::Row;

use super::Check;
use super::ground::Ground;

const NAME: &str = "long_transactions";

/// Names listed at most.
const NAMES_MAX: usize = 20;

pub(super) async fn check(ground: &Ground<'_>) -> Result<Check, tokio_postgres::Error> {
    // With no right to see others xact_start is null, and nobody would seem to be there; a null
    // backend_type is somebody whom we may not see.
    let sql = "select pid, usename::text, application_name, host(client_addr), state, \
                      extract(epoch from clock_timestamp() - xact_start)::int8, \
                      backend_type is null \
               from pg_stat_activity \
               where datname = current_database() and pid <> pg_backend_pid() \
                 and pid <> all ($2) \
                 and (backend_type is null or (backend_type = 'client backend' \
                      and xact_start < clock_timestamp() - make_interval(secs => $1))) \
               order by xact_start limit 1000";
    let limit = ground.limits.long_transaction;
    let seconds = limit.as_secs_f64();
    let client = &ground.session.client;
    let rows = client.query(sql, &[&seconds, &ground.own]).await?;
    if rows.iter().any(|row| row.get(6)) {
        let text = "some sessions cannot be seen: grant pg_read_all_stats";
        return Ok(Check::not_known(NAME, text).hint("grant pg_read_all_stats to the role"));
    }
    let mut details: Vec<_> = rows.iter().take(NAMES_MAX).map(name).collect();
    let sessions = details.len();
    details.extend(prepared(ground, seconds).await?);
    let limit = humantime::format_duration(limit);
    let check = match (details.len(), ground.open) {
        (0, _) => Check::passed(NAME, format!("no transaction is older than {limit}")),
        (many, true) if sessions > 0 => Check::failed(
            NAME,
            format!("older than {limit}, and a file runs in open traffic: {many}"),
        ),
        (many, _) => Check::passed(
            NAME,
            format!("older than {limit}, so that a drain may have to wait: {many}"),
        ),
    };
    let hint = "end them, or run the files in a window: --traffic exclusive";
    Ok(check.hint(hint).with(details))
}

fn name(row: &Row) -> String {
    let text = |at: usize| {
        row.get::<_, Option<&str>>(at)
            .filter(|text| !text.is_empty())
    };
    format!(
        "process {} ({}, {}, {}): {}, in a transaction for {} s",
        row.get::<_, i32>(0),
        text(1).unwrap_or("unknown user"),
        text(2).unwrap_or("no application name"),
        text(3).unwrap_or("local"),
        text(4).unwrap_or("unknown state"),
        row.get::<_, Option<i64>>(5).unwrap_or(0),
    )
}

/// Prepared transactions hold locks without a session.
async fn prepared(ground: &Ground<'_>, seconds: f64) -> Result<Vec<String>, tokio_postgres::Error> {
    let sql = "select format('prepared transaction %L of %s, for %s s', gid, owner, \
                      extract(epoch from clock_timestamp() - prepared)::int8) \
               from pg_prepared_xacts \
               where database = current_database() \
                 and prepared < clock_timestamp() - make_interval(secs => $1) \
               order by prepared limit 20";
    ground.lines(sql, &[&seconds]).await
}
