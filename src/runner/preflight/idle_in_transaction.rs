//! Who sits in a transaction and does nothing? Before a window they are named, since a drain ends
//! them as its ladder says; in open traffic nobody does.

use super::Check;
use super::ground::Ground;

const NAME: &str = "idle_in_transaction";

pub(super) async fn check(ground: &Ground<'_>) -> Result<Check, tokio_postgres::Error> {
    let sql = "select format('process %s (%s, %s, %s): idle for %s s', pid, usename, \
                      coalesce(nullif(application_name, ''), 'no application name'), \
                      coalesce(host(client_addr), 'local'), \
                      extract(epoch from clock_timestamp() - state_change)::int8) \
               from pg_stat_activity \
               where datname = current_database() and pid <> all ($2) \
                 and state like 'idle in transaction%' \
                 and state_change < clock_timestamp() - make_interval(secs => $1) \
               order by state_change limit 20";
    let limit = ground.limits.idle_in_transaction;
    let details = ground
        .lines(sql, &[&limit.as_secs_f64(), &ground.own])
        .await?;
    let limit = humantime::format_duration(limit);
    let check = match (details.len(), ground.open) {
        (0, _) => Check::passed(NAME, format!("nobody is idle in a transaction for {limit}")),
        (many, true) => Check::failed(
            NAME,
            format!("idle for {limit}, and a file runs in open traffic: {many}"),
        ),
        (many, false) => Check::passed(
            NAME,
            format!("idle for {limit}, so that a drain may have to end them: {many}"),
        ),
    };
    let hint = "end their transactions, or run the files in a window: --traffic exclusive";
    Ok(check.hint(hint).with(details))
}
