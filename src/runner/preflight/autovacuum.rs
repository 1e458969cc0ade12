//! Does an autovacuum against wraparound work on what files need? An ordinary one makes way for DDL,
//! this one does not ([documentation](https://www.postgresql.org/docs/current/routine-vacuuming.html)).

use super::Check;
use super::ground::{Ground, Work};
use crate::runner::plan::LockMode;

const NAME: &str = "autovacuum";

pub(super) async fn check(
    ground: &Ground<'_>,
    work: &Work<'_>,
) -> Result<Check, tokio_postgres::Error> {
    let sql = "select format('process %s: %s, for %s s', a.pid, a.query, \
                      extract(epoch from clock_timestamp() - a.xact_start)::int8), \
                      exists (select from pg_locks l where l.pid = a.pid and l.granted \
                              and l.locktype = 'relation' and l.mode = 'ShareUpdateExclusiveLock' \
                              and l.relation = any ($1)) \
               from pg_stat_activity a \
               where a.backend_type = 'autovacuum worker' and a.datname = current_database() \
                 and a.query like '%(to prevent wraparound)%' order by a.xact_start limit 20";
    let needed = work.locked(LockMode::ShareUpdateExclusive);
    let rows = ground.session.client.query(sql, &[&needed]).await?;
    let (mut wrong, mut others) = (Vec::new(), Vec::new());
    for row in &rows {
        let text: String = row.get(0);
        match row.get(1) {
            true => wrong.push(text),
            false => others.push(text),
        }
    }
    let well = match others.len() {
        0 => "no autovacuum against wraparound is running".to_owned(),
        many => format!("{many} against wraparound, none on what the files need"),
    };
    Ok(Check::of(NAME, wrong, well)
        .hint("let it end: cancelled, it comes back; vacuum_cost_delay = 0 makes it faster")
        .with_notes(others))
}
