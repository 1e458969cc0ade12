//! Does a prepared transaction hold what files need? It has no session: no drain can end it, and it
//! stays over a restart of the server.

use super::Check;
use super::ground::{Ground, Work};
use crate::runner::plan::LockMode;

const NAME: &str = "prepared_transactions";

pub(super) async fn check(
    ground: &Ground<'_>,
    work: &Work<'_>,
) -> Result<Check, tokio_postgres::Error> {
    // The locks of a prepared transaction have no process; its transaction number ties them together.
    let sql = "select format('%L of %s, for %s s', p.gid, p.owner, \
                      extract(epoch from clock_timestamp() - p.prepared)::int8), \
                      (select string_agg(distinct format('%s on %s', l.mode, l.relation::regclass), \
                              ', ') \
                       from pg_locks x join pg_locks l on l.pid is null \
                            and l.virtualtransaction = x.virtualtransaction \
                       where x.pid is null and x.locktype = 'transactionid' \
                         and x.transactionid = p.transaction and l.locktype = 'relation' \
                         and l.relation = any ($1)) \
               from pg_prepared_xacts p where p.database = current_database() \
               order by p.prepared limit 100";
    // Rows that it inserted keep nobody from inserting others.
    let needed = work.locked(LockMode::ShareUpdateExclusive);
    let rows = ground.session.client.query(sql, &[&needed]).await?;
    let (mut wrong, mut others) = (Vec::new(), Vec::new());
    for row in &rows {
        let name: &str = row.get(0);
        match row.get::<_, Option<&str>>(1) {
            Some(locks) => wrong.push(format!("{name}, holds {locks}")),
            None => others.push(format!("{name}, on other tables")),
        }
    }
    let well = match others.len() {
        0 => "there is none".to_owned(),
        many => format!("{many}, and none holds what the files need"),
    };
    Ok(Check::of(NAME, wrong, well)
        .hint("COMMIT PREPARED or ROLLBACK PREPARED it, as whoever prepared it wants")
        .with_notes(others))
}
