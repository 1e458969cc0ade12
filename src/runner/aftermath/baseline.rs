//! How the database was before a run, and how it compares since: transactions rolled back, and the
//! statements that took most time (pg_stat_statements, where it is installed).

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use tokio_postgres::{Client, Error};

use super::catalog::{LockWaits, Snapshot, Span};
use super::plans::Explained;
use crate::metrics::statements::Measured;

/// Over which time the share of transactions that are rolled back is taken.
const SPAN: Duration = Duration::from_secs(30);

/// A share of fewer transactions, or a mean of fewer calls, says nothing.
const ENOUGH: i64 = 20;

/// Statements that are compared.
const TOP: i64 = 10;

/// Section 28.2 of the documentation (`pg_stat_database`).
const TRANSACTIONS: &str = "\
    select xact_commit, xact_rollback from pg_catalog.pg_stat_database \
    where datname = pg_catalog.current_database()";

/// Section 20.3.1: what is reserved is nobody's who works.
const POOL: &str = "\
    select count(*) * 100.0::float8 / (current_setting('max_connections')::int \
        - current_setting('superuser_reserved_connections')::int) \
    from pg_catalog.pg_stat_activity where backend_type = 'client backend'";

const EXTENSION: &str = "\
    select quote_ident(n.nspname) from pg_catalog.pg_extension e \
    join pg_catalog.pg_namespace n on n.oid = e.extnamespace where e.extname = 'pg_stat_statements'";

/// Transactions of a database since its statistics began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transactions {
    /// Those that committed.
    pub committed: i64,
    /// Those that were rolled back.
    pub rolled_back: i64,
}

impl Transactions {
    fn since(self, before: Self) -> Self {
        Self {
            committed: self.committed - before.committed,
            rolled_back: self.rolled_back - before.rolled_back,
        }
    }

    /// How many percent were rolled back; none of too few, or after the statistics were reset.
    #[expect(clippy::cast_precision_loss, reason = "a percentage")]
    fn percent(self) -> Option<f64> {
        let all = self.committed + self.rolled_back;
        let counts = self.committed >= 0 && self.rolled_back >= 0 && all >= ENOUGH;
        counts.then(|| self.rolled_back as f64 * 100.0 / all as f64)
    }
}

/// What pg_stat_statements says of one statement since its statistics began.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TopStatement {
    /// User, query and level, by which it is found again.
    pub key: String,
    /// Its text, without constants; cut.
    pub text: String,
    /// How often it ran.
    pub calls: i64,
    /// How long all of these took, in milliseconds.
    pub total_ms: f64,
}

/// How the database was before the first file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Baseline {
    /// Transactions until then; none if they could not be asked for.
    pub transactions: Option<Transactions>,
    /// The ten statements that had taken most time; none without pg_stat_statements.
    pub statements: Vec<TopStatement>,
    /// What the proxy measured until then of the statements that took most time; none where it did not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub measured: Option<Measured>,
    /// The server's counters when the time before began; none where it began with the counters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub earlier: Option<Snapshot>,
    /// The same at its end; none where the database is not compared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub catalog: Option<Snapshot>,
    /// Who waited for locks in that time.
    #[serde(default)]
    pub lock_waits: LockWaits,
    /// How statements were planned.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub plans: Vec<Explained>,
}

impl Baseline {
    /// Asks the server; what cannot be had is not known.
    pub(in crate::runner) async fn take(client: &Client) -> Self {
        Self {
            transactions: transactions(client).await.ok(),
            statements: statements(client, None).await.unwrap_or_default(),
            ..Self::default()
        }
    }

    /// The statements again, as they stand now.
    pub(in crate::runner) async fn again(
        &self,
        client: &Client,
    ) -> Result<Vec<TopStatement>, Error> {
        if self.statements.is_empty() {
            return Ok(Vec::new());
        }
        let keys: Vec<String> = self.statements.iter().map(|it| it.key.clone()).collect();
        statements(client, Some(&keys)).await
    }

    /// The span before the run, by the server's counters.
    pub(in crate::runner) fn span(&self) -> Option<Span<'_>> {
        Some(Span {
            first: self.earlier.as_ref(),
            last: self.catalog.as_ref()?,
            lock_waits: self.lock_waits,
        })
    }

    /// By how many percentage points more transactions are rolled back than before.
    pub(super) fn more_rolled_back(&self, lately: Transactions) -> Option<f64> {
        let before = self.transactions?.percent()?;
        Some(lately.percent()? - before)
    }
}

pub(super) async fn transactions(client: &Client) -> Result<Transactions, Error> {
    let row = client.query_one(TRANSACTIONS, &[]).await?;
    Ok(Transactions {
        committed: row.get(0),
        rolled_back: row.get(1),
    })
}

/// How many percent of the server's connections are in use.
pub(super) async fn pool_percent(client: &Client) -> Result<f64, Error> {
    let row = client.query_one(POOL, &[]).await?;
    Ok(row.get(0))
}

/// The statements that took most time, or those that are asked for; none without the extension.
async fn statements(client: &Client, keys: Option<&[String]>) -> Result<Vec<TopStatement>, Error> {
    let Some(schema) = client.query_opt(EXTENSION, &[]).await? else {
        return Ok(Vec::new());
    };
    let schema: String = schema.get(0);
    let sql = format!(
        "select s.key, left(s.query, 200), s.calls, s.total_exec_time from ( \
             select concat_ws(' ', userid, queryid, toplevel) as key, query, calls, total_exec_time \
             from {schema}.pg_stat_statements \
             where dbid = (select oid from pg_catalog.pg_database \
                           where datname = pg_catalog.current_database()) \
               and queryid is not null) s \
         where $1::text[] is null or s.key = any ($1) \
         order by s.total_exec_time desc limit $2"
    );
    let rows = client.query(&sql, &[&keys, &TOP]).await?;
    let statement = |row: &tokio_postgres::Row| TopStatement {
        key: row.get(0),
        text: row.get(1),
        calls: row.get(2),
        total_ms: row.get(3),
    };
    Ok(rows.iter().map(statement).collect())
}

/// The texts of the statements that took most time, of those that begin with one of these words; none
/// without the extension. What our role may not see is left out, what is longer than 32 KiB, and what names
/// something of the server's own: that is monitoring's, and ours.
pub(super) async fn texts(
    client: &Client,
    top: usize,
    words: &[&str],
) -> Result<Vec<String>, Error> {
    let Some(schema) = client.query_opt(EXTENSION, &[]).await? else {
        return Ok(Vec::new());
    };
    let schema: String = schema.get(0);
    let words = format!("^[\\s(]*({})\\M", words.join("|"));
    let sql = format!(
        "select s.query from ( \
             select query, sum(total_exec_time) as total from {schema}.pg_stat_statements \
             where dbid = (select oid from pg_catalog.pg_database \
                           where datname = pg_catalog.current_database()) \
               and queryid is not null and length(query) <= 32768 and query ~* $1 \
               and query !~* '\\m(pg_\\w+|pgdrain|information_schema|to_reg\\w+)\\M' \
             group by query) s \
         order by s.total desc limit $2"
    );
    let top = i64::try_from(top).unwrap_or(TOP);
    let rows = client.query(&sql, &[&words, &top]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// By how many percent statements take longer now than their means in `before`, weighed by how often they
/// ran since `start`; none while they ran too seldom.
#[expect(clippy::cast_precision_loss, reason = "a percentage")]
pub(in crate::runner) fn slower(
    before: &[TopStatement],
    start: &[TopStatement],
    now: &[TopStatement],
) -> Option<f64> {
    let find = |all: &[TopStatement]| -> BTreeMap<String, (i64, f64)> {
        let entries = all.iter();
        entries
            .map(|it| (it.key.clone(), (it.calls, it.total_ms)))
            .collect()
    };
    let (start, now) = (find(start), find(now));
    let (mut calls, mut expected, mut took) = (0, 0.0, 0.0);
    for old in before.iter().filter(|it| it.calls > 0) {
        let (Some(begun), Some(here)) = (start.get(&old.key), now.get(&old.key)) else {
            continue;
        };
        let ran = here.0 - begun.0;
        // Statistics that were reset tell nothing.
        if ran <= 0 || here.1 < begun.1 {
            continue;
        }
        calls += ran;
        expected += ran as f64 * old.total_ms / old.calls as f64;
        took += here.1 - begun.1;
    }
    (calls >= ENOUGH && expected > 0.0).then(|| (took / expected - 1.0) * 100.0)
}

/// Transactions of the last half minute.
#[derive(Debug, Default)]
pub(super) struct Lately {
    seen: VecDeque<(Instant, Transactions)>,
}

impl Lately {
    /// Takes in a look, and returns what happened in the span before it.
    pub(super) fn add(&mut self, now: Instant, seen: Transactions) -> Transactions {
        self.seen.push_back((now, seen));
        while self.seen.len() > 2 && now - self.seen[1].0 >= SPAN {
            self.seen.pop_front();
        }
        let first = self.seen.front().map_or(seen, |(_, first)| *first);
        seen.since(first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(key: &str, calls: i64, total_ms: f64) -> TopStatement {
        TopStatement {
            key: key.to_owned(),
            text: String::new(),
            calls,
            total_ms,
        }
    }

    fn of(committed: i64, rolled_back: i64) -> Transactions {
        Transactions {
            committed,
            rolled_back,
        }
    }

    #[test]
    fn statements_are_held_against_their_own_means() {
        // 2 ms each before; 100 calls at 3 ms since: half as slow again.
        let before = [one("a", 1000, 2000.0), one("b", 10, 1000.0)];
        let now = [one("a", 1100, 2300.0), one("b", 10, 1000.0)];
        assert_eq!(slower(&before, &before, &now), Some(50.0));
        // One that is rare does not hide one that is not: 100 at 2 ms, 10 at 200 ms instead of 100.
        let now = [one("a", 1100, 2200.0), one("b", 20, 3000.0)];
        let slow = slower(&before, &before, &now).expect("enough");
        assert!((slow - 83.3).abs() < 0.1, "{slow}");
        // Too few, none of them, reset, gone.
        for now in [
            vec![one("a", 1019, 9000.0)],
            before.to_vec(),
            vec![one("a", 3, 1.0)],
            Vec::new(),
        ] {
            assert_eq!(slower(&before, &before, &now), None, "{now:?}");
        }
    }

    #[test]
    fn what_is_rolled_back_is_held_against_the_time_before() {
        let baseline = Baseline {
            transactions: Some(of(980, 20)),
            ..Baseline::default()
        };
        assert_eq!(baseline.more_rolled_back(of(90, 10)), Some(8.0));
        assert_eq!(baseline.more_rolled_back(of(100, 0)), Some(-2.0));
        assert_eq!(baseline.more_rolled_back(of(9, 10)), None);
        assert_eq!(baseline.more_rolled_back(of(-900, 30)), None);
        assert_eq!(Baseline::default().more_rolled_back(of(90, 10)), None);
    }

    #[test]
    fn only_what_happened_lately_counts() {
        let start = Instant::now();
        let at = |s| start + Duration::from_secs(s);
        let mut lately = Lately::default();
        assert_eq!(lately.add(at(0), of(100, 0)), of(0, 0));
        assert_eq!(lately.add(at(10), of(150, 5)), of(50, 5));
        assert_eq!(lately.add(at(30), of(200, 5)), of(100, 5));
        // What was before the span is forgotten.
        assert_eq!(lately.add(at(45), of(210, 6)), of(60, 1));
        assert!(lately.seen.len() <= 3);
    }
}
