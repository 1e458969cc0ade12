//! Do replication slots hold back WAL that a migration would add to? Nobody frees it while the one
//! whose slot it is stays away, and then the disk is full.

use super::Check;
use super::ground::{Ground, bytes};

const NAME: &str = "slots";

pub(super) async fn check(ground: &Ground<'_>) -> Result<Check, tokio_postgres::Error> {
    let sql = "select slot_name::text, active, coalesce(wal_status, ''), \
                      pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn)::int8 \
               from pg_replication_slots order by 1";
    let rows = ground.session.client.query(sql, &[]).await?;
    if rows.is_empty() {
        return Ok(Check::does_not_apply(NAME, "there is no replication slot"));
    }
    let limit = ground.limits.slot_bytes;
    let mut wrong = Vec::new();
    for row in &rows {
        let (name, active, status): (&str, bool, &str) = (row.get(0), row.get(1), row.get(2));
        let held: Option<i64> = row.get(3);
        let held = held.map(|it| u64::try_from(it).unwrap_or(0));
        let told = held.map_or_else(|| "no WAL".to_owned(), bytes);
        match held {
            _ if matches!(status, "lost" | "unreserved") => wrong.push(format!(
                "slot {name} is {status}: WAL that its receiver needs is gone, or goes next"
            )),
            Some(_) if !active => {
                wrong.push(format!("slot {name} is inactive and holds back {told}"))
            }
            Some(held) if held > limit => wrong.push(format!(
                "slot {name} holds back {told}, more than {}",
                bytes(limit)
            )),
            // One that nobody has used yet holds nothing back.
            Some(_) | None => {}
        }
    }
    let well = format!("{} replication slots, none far behind", rows.len());
    Ok(Check::of(NAME, wrong, well)
        .hint("bring its receiver back, or drop the slot: pg_drop_replication_slot()"))
}
