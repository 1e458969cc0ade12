//! What keeps the next batch waiting: standbys that fall behind, and others who wait for locks.

use std::time::Duration;

use serde_json::json;

use super::super::Executor;
use super::{Trouble, Work, pause};
use crate::runner::directives::Limits;
use crate::runner::report::Failure;
use crate::runner::stop::Stop;
use crate::runner::types::EventKind;

/// Time between two looks.
const LOOK: Duration = Duration::from_millis(500);

/// One look at both, with our own sessions left out. Neither view takes a lock on a table. A standby
/// that copies a base backup has replayed nothing yet and is left out too. `$1` is our processes.
const PRESSURE: &str = "\
    select coalesce((select max(extract(epoch from replay_lag)) * 1000 from pg_stat_replication \
                     where state = 'streaming'), 0)::int8, \
           coalesce((select max(pg_wal_lsn_diff(pg_current_wal_lsn(), replay_lsn)) \
                     from pg_stat_replication where state = 'streaming'), 0)::int8, \
           (select count(*) from pg_stat_activity where datname = current_database() \
            and wait_event_type = 'Lock' and pid <> all($1)), \
           exists (select from pg_stat_replication where state is null)";

/// What was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Pressure {
    lag_ms: i64,
    lag_bytes: i64,
    blocked: i64,
    /// There are standbys of which our role may not see how far they are.
    hidden: bool,
}

impl Pressure {
    /// What is over a limit, in a sentence.
    fn over(self, limits: &Limits) -> Option<String> {
        let most = i64::try_from(limits.lag.as_millis()).unwrap_or(i64::MAX);
        if self.lag_ms > most {
            let limit = humantime::format_duration(limits.lag);
            return Some(format!(
                "a standby is {} ms behind (max_lag={limit})",
                self.lag_ms
            ));
        }
        if self.lag_bytes > i64::try_from(limits.lag_bytes).unwrap_or(i64::MAX) {
            return Some(format!(
                "a standby is {} bytes behind (max_lag_bytes={})",
                self.lag_bytes, limits.lag_bytes
            ));
        }
        (self.blocked > i64::from(limits.blocked)).then(|| {
            format!(
                "{} sessions wait for locks (max_blocked={})",
                self.blocked, limits.blocked
            )
        })
    }
}

impl Executor<'_> {
    /// Waits until nothing is over its limit, or told to stop.
    pub(super) async fn wait_for_room(
        &mut self,
        work: &Work<'_>,
        stop: &Stop,
    ) -> Result<(), Trouble> {
        let file = &work.step.file;
        let mut waits = false;
        while stop.now().is_none() {
            let seen = self.pressure().await;
            let seen = seen.map_err(|it| Trouble::Lost(it.in_file(work.step)))?;
            if seen.hidden && !self.told_hidden {
                self.told_hidden = true;
                self.run.note(format!(
                    "{file}: how far standbys are behind cannot be seen without pg_monitor"
                ));
            }
            match seen.over(&work.script.directive.limits) {
                Some(why) => {
                    if !waits {
                        let data = json!({
                            "file": file, "lag_ms": seen.lag_ms, "lag_bytes": seen.lag_bytes,
                            "blocked": seen.blocked,
                        });
                        let text = format!("{file}: waits, {why}");
                        self.run.tell(EventKind::Note, text, data);
                    }
                    waits = true;
                    pause(LOOK, stop).await;
                }
                None => {
                    if waits {
                        self.run.note(format!("{file}: goes on"));
                    }
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    async fn pressure(&self) -> Result<Pressure, Failure> {
        let own = self.connector.own_pids();
        let client = &self.ledger.session().client;
        let row = client.query_one(PRESSURE, &[&own]).await;
        let row = row.map_err(|error| Failure::from_error(&error))?;
        Ok(Pressure {
            lag_ms: row.get(0),
            lag_bytes: row.get(1),
            blocked: row.get(2),
            hidden: row.get(3),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_over_a_limit_is_named() {
        let limits = Limits::default();
        let calm = Pressure {
            lag_ms: 10_000,
            lag_bytes: 256 << 20,
            blocked: 5,
            hidden: false,
        };
        assert_eq!(calm.over(&limits), None);
        let over = |seen: Pressure| seen.over(&limits).unwrap_or_default();
        let late = Pressure {
            lag_ms: 10_001,
            ..calm
        };
        assert_eq!(over(late), "a standby is 10001 ms behind (max_lag=10s)");
        let far = Pressure {
            lag_bytes: (256 << 20) + 1,
            ..calm
        };
        assert!(
            over(far).contains("max_lag_bytes=268435456"),
            "{}",
            over(far)
        );
        let queue = Pressure { blocked: 6, ..calm };
        assert_eq!(over(queue), "6 sessions wait for locks (max_blocked=5)");
    }
}
