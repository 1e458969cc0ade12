//! Who has been in a transaction for so long that the drain may wait for it? They are named; that
//! stops nothing, since waiting for them is what a drain is for.

use tokio_postgres::Row;

use super::{Check, Session, Subject};

const NAME: &str = "long_transactions";

/// Names listed at most.
const NAMES_MAX: usize = 20;

pub(super) async fn check(session: &Session, subject: &Subject<'_>) -> Check {
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
    let seconds = subject.long_transaction.as_secs_f64();
    let rows = match session.client.query(sql, &[&seconds, &subject.own]).await {
        Ok(rows) => rows,
        Err(error) => return Check::unknown(NAME, &error),
    };
    if rows.iter().any(|row| row.get(6)) {
        return Check {
            outcome: super::CheckOutcome::Unknown,
            ..Check::failed(
                NAME,
                "some sessions cannot be seen: grant pg_read_all_stats",
            )
        };
    }
    let mut details: Vec<_> = rows.iter().take(NAMES_MAX).map(name).collect();
    match prepared(session, seconds).await {
        Ok(more) => details.extend(more),
        Err(error) => return Check::unknown(NAME, &error),
    }
    let limit = humantime::format_duration(subject.long_transaction);
    let text = match details.len() {
        0 => format!("no transaction is older than {limit}"),
        many => format!("older than {limit}, so that a drain may have to wait: {many}"),
    };
    Check::passed(NAME, text).with(details)
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
async fn prepared(session: &Session, seconds: f64) -> Result<Vec<String>, tokio_postgres::Error> {
    let sql = "select format('prepared transaction %L of %s, for %s s', gid, owner, \
                      extract(epoch from clock_timestamp() - prepared)::int8) \
               from pg_prepared_xacts \
               where database = current_database() \
                 and prepared < clock_timestamp() - make_interval(secs => $1) \
               order by prepared limit 20";
    let rows = session.client.query(sql, &[&seconds]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}
