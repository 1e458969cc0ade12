//! Is a backup being taken? What it copies would be half before and half after, `pg_dump` keeps a lock
//! on every table until it is done, and both take what the disk can give.

use super::Check;
use super::ground::Ground;

const NAME: &str = "backups";

pub(super) async fn check(ground: &Ground<'_>) -> Result<Check, tokio_postgres::Error> {
    // A base backup is one of the whole server, a dump one of its database. What other tools copy
    // after pg_backup_start() shows in no catalog.
    let sql = "select format('a base backup by process %s (%s), %s', a.pid, a.application_name, \
                      coalesce(p.phase, 'running')) \
               from pg_stat_activity a left join pg_stat_progress_basebackup p on p.pid = a.pid \
               where p.pid is not null \
                  or a.pid in (select pid from pg_stat_replication where state = 'backup') \
               union all \
               select format('%s by process %s, for %s s', application_name, pid, \
                      extract(epoch from clock_timestamp() - xact_start)::int8) \
               from pg_stat_activity \
               where datname = current_database() and pid <> all ($1) \
                 and application_name in ('pg_dump', 'pg_dumpall', 'pg_restore') \
                 and xact_start is not null \
               limit 20";
    let running = ground.lines(sql, &[&ground.own]).await?;
    Ok(Check::of(NAME, running, "no backup is being taken").hint("wait until it is done"))
}
