//! Do standbys and subscribers keep up?
//!
//! By bytes, and by a time of our own: how long they take to replay what was written when we looked.
//! `pg_stat_replication.replay_lag` tells too little: it is the lag of what was replayed last, and
//! null when nothing was.

use std::time::Duration;

use tokio::time::Instant;

use super::Check;
use super::ground::{Ground, bytes};

const NAME: &str = "replication";

/// The pause between two looks.
const PAUSE: Duration = Duration::from_millis(100);

/// One who receives.
struct Receiver {
    pid: i32,
    name: String,
    /// Bytes behind what was written; `None` if it does not say.
    behind: Option<i64>,
    /// Whether it has replayed what was written at the first look.
    caught_up: bool,
    replays: bool,
}

pub(super) async fn check(ground: &Ground<'_>) -> Result<Check, tokio_postgres::Error> {
    let client = &ground.session.client;
    let row = client
        .query_one("select pg_current_wal_flush_lsn()::text", &[])
        .await?;
    let mark: String = row.get(0);
    let first = look(ground, &mark).await?;
    if first.is_empty() {
        return Ok(Check::does_not_apply(
            NAME,
            "nobody replicates from this server",
        ));
    }
    let silent: Vec<_> = first.iter().filter(|it| it.behind.is_none()).collect();
    if let Some(one) = silent.first() {
        let text = format!("{} does not say how far it is", one.name);
        return Ok(Check::not_known(NAME, text).hint("look at it, or grant us pg_read_all_stats"));
    }
    let limit = ground.limits.replication_bytes;
    let mut wrong = Vec::new();
    for it in &first {
        let behind = u64::try_from(it.behind.unwrap_or(0)).unwrap_or(0);
        if behind > limit {
            let (behind, limit) = (bytes(behind), bytes(limit));
            wrong.push(format!("{} is {behind} behind, more than {limit}", it.name));
        }
    }
    if wrong.is_empty() {
        wrong = late(ground, &mark, &first).await?;
    }
    let well = format!(
        "{} keep up",
        first
            .iter()
            .map(|it| it.name.as_str())
            .collect::<Vec<_>>()
            .join(", ")
    );
    Ok(Check::of(NAME, wrong, well)
        .hint("wait until they have caught up: what a migration writes comes on top"))
}

/// Those that have not replayed what was written at the first look, after the time for it.
async fn late(
    ground: &Ground<'_>,
    mark: &str,
    first: &[Receiver],
) -> Result<Vec<String>, tokio_postgres::Error> {
    let limit = ground.limits.replication_lag;
    let deadline = Instant::now() + limit;
    loop {
        let now = look(ground, mark).await?;
        // Who has gone away meanwhile is behind for good.
        let caught_up = |it: &&Receiver| {
            let same = now.iter().find(|other| other.pid == it.pid);
            !it.replays || same.is_some_and(|it| it.caught_up)
        };
        let behind: Vec<_> = first.iter().filter(|it| !caught_up(it)).collect();
        if behind.is_empty() {
            return Ok(Vec::new());
        }
        if Instant::now() >= deadline {
            let limit = humantime::format_duration(limit);
            let text = |it: &&Receiver| {
                format!(
                    "{} has not replayed within {limit} what was written",
                    it.name
                )
            };
            return Ok(behind.iter().map(text).collect());
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn look(ground: &Ground<'_>, mark: &str) -> Result<Vec<Receiver>, tokio_postgres::Error> {
    // pg_receivewal replays nothing, and says how far it has written.
    let sql = "select pid, format('%s (%s, %s)', \
                      coalesce(nullif(application_name, ''), 'a receiver without a name'), \
                      coalesce(host(client_addr), 'local'), coalesce(state, 'unknown state')), \
                      pg_wal_lsn_diff(pg_current_wal_flush_lsn(), \
                          coalesce(replay_lsn, flush_lsn, write_lsn))::int8, \
                      coalesce(coalesce(replay_lsn, flush_lsn, write_lsn) >= $1::text::pg_lsn, \
                               false), \
                      replay_lsn is not null \
               from pg_stat_replication where state is distinct from 'backup' order by 2";
    let rows = ground.session.client.query(sql, &[&mark]).await?;
    let receiver = |row: &tokio_postgres::Row| Receiver {
        pid: row.get(0),
        name: row.get(1),
        behind: row.get(2),
        caught_up: row.get(3),
        replays: row.get(4),
    };
    Ok(rows.iter().map(receiver).collect())
}
