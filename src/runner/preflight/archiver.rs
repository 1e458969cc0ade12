//! Is WAL archived? Without it there is no way back to a point in time, and what is not archived stays
//! on the disk.

use super::Check;
use super::ground::Ground;

const NAME: &str = "archiver";

pub(super) async fn check(ground: &Ground<'_>) -> Result<Check, tokio_postgres::Error> {
    let sql = "select current_setting('archive_mode'), failed_count, \
                      coalesce(last_failed_wal, ''), \
                      last_failed_time is not null \
                          and (last_archived_time is null or last_failed_time > last_archived_time), \
                      coalesce(last_archived_wal, 'nothing yet') \
               from pg_stat_archiver";
    let row = ground.session.client.query_one(sql, &[]).await?;
    let (mode, failed): (&str, i64) = (row.get(0), row.get(1));
    if mode == "off" {
        return Ok(Check::does_not_apply(NAME, "archive_mode is off"));
    }
    let failing: bool = row.get(3);
    let wrong = failing.then(|| {
        let wal: &str = row.get(2);
        format!("the archiver fails at {wal}, {failed} times so far")
    });
    let last: &str = row.get(4);
    let well = format!("WAL is archived; the last was {last}");
    Ok(Check::of(NAME, wrong.into_iter().collect(), well)
        .hint("see the server's log for archive_command or archive_library"))
}
