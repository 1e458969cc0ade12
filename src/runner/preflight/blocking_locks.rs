//! Does anybody wait for a lock for long? Then something is stuck already, and DDL would make it
//! worse.

use super::Check;
use super::ground::Ground;

const NAME: &str = "blocking_locks";

pub(super) async fn check(ground: &Ground<'_>) -> Result<Check, tokio_postgres::Error> {
    let sql = "select format('process %s (%s) has waited %s s for %s on %s, behind %s', l.pid, \
                      coalesce(nullif(a.application_name, ''), 'no application name'), \
                      extract(epoch from clock_timestamp() - l.waitstart)::int8, l.mode, \
                      coalesce(l.relation::regclass::text, l.locktype), \
                      array_to_string(array(select case b when 0 then 'a prepared transaction' \
                          else 'process ' || b end from unnest(pg_blocking_pids(l.pid)) b), ', ')) \
               from pg_locks l join pg_stat_activity a on a.pid = l.pid \
               where not l.granted and a.datname = current_database() and l.pid <> all ($2) \
                 and l.waitstart < clock_timestamp() - make_interval(secs => $1) \
               order by l.waitstart limit 20";
    let limit = ground.limits.lock_wait;
    let waits = ground
        .lines(sql, &[&limit.as_secs_f64(), &ground.own])
        .await?;
    let limit = humantime::format_duration(limit);
    let well = format!("nobody has waited for a lock for {limit}");
    Ok(Check::of(NAME, waits, well).hint("end the process that is in front of the others"))
}
