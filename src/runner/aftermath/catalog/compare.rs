//! Two spans of what the server counts, held against each other: before a run, and since. Pure.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::{IndexCounters, Snapshot, TableCounters};

/// A share of fewer scans or blocks says nothing.
const ENOUGH: i64 = 20;

/// Smaller tables are scanned whole, whatever indexes they have.
const SMALL: i64 = 1000;

/// A shorter span says nothing.
const SHORTEST_S: f64 = 1.0;

/// How the database and the tables of a run were used before it, and are since.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CatalogComparison {
    /// Before the run.
    pub before: Period,
    /// Since.
    pub since: Period,
    /// The tables that it touches, the largest first.
    pub tables: Vec<TableCompared>,
    /// Their indexes.
    pub indexes: Vec<IndexCompared>,
}

/// The database in a span. What is not known is absent, and never zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Period {
    /// How long it is; zero if nothing was counted.
    pub seconds: f64,
    /// How many percent of the blocks were found in the server's memory.
    pub cache_hit_percent: Option<f64>,
    /// How many percent of the scans of these tables were by an index, those of fewer than 1000 rows left
    /// out.
    pub index_use_percent: Option<f64>,
    /// Whether all of these tables have fewer rows.
    pub all_small: bool,
    /// Deadlocks.
    pub deadlocks: Option<i64>,
    /// How often somebody waited for a lock.
    pub lock_waits: LockWaits,
}

/// Looks at who waits for locks, pgdrain's own sessions left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockWaits {
    /// How often it was looked, a second apart.
    pub looks: u64,
    /// How often somebody waited then.
    pub with_waits: u64,
    /// The most that waited at once.
    pub blocked_max: i64,
    /// The longest wait that was seen, in milliseconds.
    pub wait_max_ms: i64,
}

/// One table before and since.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TableCompared {
    /// Its name now, or what it was.
    pub table: String,
    /// Before the run; none of one that is new.
    pub before: Option<TableFigures>,
    /// Since; none of one that is gone.
    pub since: Option<TableFigures>,
}

/// A table in a span.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TableFigures {
    /// Its size at the end, as of its last VACUUM or ANALYZE, without indexes.
    pub bytes: i64,
    /// Its rows at the end, as the server guesses.
    pub rows: i64,
    /// How many percent of its rows were dead then.
    pub dead_percent: Option<f64>,
    /// How many percent of its size its rows would not need, by an estimate.
    pub bloat_percent: Option<f64>,
    /// Scans of the whole of it in a minute.
    pub seq_scans_per_minute: Option<f64>,
    /// Rows that each of them read.
    pub rows_per_seq_scan: Option<f64>,
    /// Scans by an index in a minute.
    pub index_scans_per_minute: Option<f64>,
    /// How many percent of its scans were by an index.
    pub index_use_percent: Option<f64>,
    /// How many percent of its blocks and those of its indexes were found in memory.
    pub cache_hit_percent: Option<f64>,
}

/// One index before and since.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct IndexCompared {
    /// Its name now, or what it was.
    pub index: String,
    /// Its table.
    pub table: String,
    /// Before the run; none of one that is new.
    pub before: Option<IndexFigures>,
    /// Since; none of one that is gone.
    pub since: Option<IndexFigures>,
}

/// An index in a span.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct IndexFigures {
    /// Its size at the end, as of its last VACUUM or ANALYZE.
    pub bytes: i64,
    /// Whether queries may use it.
    pub valid: bool,
    /// Scans by it in a minute.
    pub scans_per_minute: Option<f64>,
}

impl LockWaits {
    /// Takes in a look.
    pub(in crate::runner) fn add(&mut self, blocked: i64, wait_ms: i64) {
        self.looks += 1;
        self.with_waits += u64::from(blocked > 0);
        self.blocked_max = self.blocked_max.max(blocked);
        self.wait_max_ms = self.wait_max_ms.max(wait_ms);
    }
}

/// A span that ends with a snapshot.
#[derive(Clone, Copy, Debug)]
pub(in crate::runner) struct Span<'a> {
    /// None if it began with the server's statistics.
    pub(in crate::runner) first: Option<&'a Snapshot>,
    pub(in crate::runner) last: &'a Snapshot,
    pub(in crate::runner) lock_waits: LockWaits,
}

impl Span<'_> {
    fn seconds(&self) -> f64 {
        let seconds = self.first.map_or(self.last.age_s, |first| {
            self.last.at.duration_since(first.at).as_secs_f64()
        });
        if seconds < SHORTEST_S { 0.0 } else { seconds }
    }

    /// What was counted in it; none if it is too short, or statistics were reset in it.
    fn counted(&self, first: Option<i64>, last: i64) -> Option<i64> {
        let begun = match self.first {
            None => 0,
            Some(_) => first.unwrap_or_default(),
        };
        (self.seconds() > 0.0 && last >= begun).then_some(last - begun)
    }

    fn period(&self) -> Period {
        let of = |it: fn(&Snapshot) -> i64| self.counted(self.first.map(it), it(self.last));
        let (hit, read) = (of(|it| it.blocks_hit), of(|it| it.blocks_read));
        let large = self.last.tables.iter().filter(|it| it.live >= SMALL);
        let mut scans = large.clone().map(|it| self.scans(it));
        let sum = scans.try_fold((0, 0), |(seq, index), it| {
            let (a, b) = it?;
            Some((seq + a, index + b))
        });
        Period {
            seconds: self.seconds(),
            cache_hit_percent: share(hit, read),
            index_use_percent: sum.and_then(|(seq, index)| share(Some(index), Some(seq))),
            all_small: large.count() == 0,
            deadlocks: of(|it| it.deadlocks),
            lock_waits: self.lock_waits,
        }
    }

    /// Scans of the whole of a table, and by an index.
    fn scans(&self, table: &TableCounters) -> Option<(i64, i64)> {
        let first = self.table(table.oid);
        let of = |it: fn(&TableCounters) -> i64| self.counted(first.map(it), it(table));
        Some((of(|it| it.seq_scans)?, of(|it| it.index_scans)?))
    }

    fn table(&self, oid: u32) -> Option<&TableCounters> {
        let mut all = self.first.into_iter().flat_map(|it| &it.tables);
        all.find(|it| it.oid == oid)
    }

    fn of_table(&self, table: &TableCounters) -> TableFigures {
        let first = self.table(table.oid);
        let of = |it: fn(&TableCounters) -> i64| self.counted(first.map(it), it(table));
        let (seq, index) = (of(|it| it.seq_scans), of(|it| it.index_scans));
        let rows = of(|it| it.seq_rows);
        TableFigures {
            bytes: table.bytes,
            rows: table.live,
            dead_percent: share(Some(table.dead), Some(table.live)),
            bloat_percent: table.bloat_percent,
            seq_scans_per_minute: self.per_minute(seq),
            rows_per_seq_scan: mean(rows, seq),
            index_scans_per_minute: self.per_minute(index),
            index_use_percent: share(index, seq),
            cache_hit_percent: share(of(|it| it.blocks_hit), of(|it| it.blocks_read)),
        }
    }

    fn of_index(&self, index: &IndexCounters) -> IndexFigures {
        let mut all = self.first.into_iter().flat_map(|it| &it.indexes);
        let first = all.find(|it| it.oid == index.oid).map(|it| it.scans);
        IndexFigures {
            bytes: index.bytes,
            valid: index.valid,
            scans_per_minute: self.per_minute(self.counted(first, index.scans)),
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "a rate")]
    fn per_minute(&self, count: Option<i64>) -> Option<f64> {
        count.map(|it| it as f64 * 60.0 / self.seconds())
    }
}

/// How many percent the first is of both.
#[expect(clippy::cast_precision_loss, reason = "a percentage")]
fn share(part: Option<i64>, rest: Option<i64>) -> Option<f64> {
    let (part, all) = (part?, part? + rest?);
    (all >= ENOUGH).then(|| part as f64 * 100.0 / all as f64)
}

#[expect(clippy::cast_precision_loss, reason = "a mean")]
fn mean(sum: Option<i64>, count: Option<i64>) -> Option<f64> {
    let (sum, count) = (sum?, count?);
    (count > 0).then(|| sum as f64 / count as f64)
}

impl CatalogComparison {
    /// Of two spans.
    pub(in crate::runner) fn new(before: Span<'_>, since: Span<'_>) -> Self {
        let then: BTreeMap<u32, &TableCounters> = by(&before.last.tables, |it| it.oid);
        let now: BTreeMap<u32, &TableCounters> = by(&since.last.tables, |it| it.oid);
        let gone = before.last.tables.iter();
        let gone = gone.filter(|it| !now.contains_key(&it.oid));
        let tables = since.last.tables.iter().chain(gone.clone()).map(|it| {
            let (old, new) = (then.get(&it.oid), now.get(&it.oid));
            TableCompared {
                table: it.name.clone(),
                before: old.map(|it| before.of_table(it)),
                since: new.map(|it| since.of_table(it)),
            }
        });
        Self {
            before: before.period(),
            since: since.period(),
            tables: tables.collect(),
            indexes: indexes(&before, &since),
        }
    }
}

fn indexes(before: &Span<'_>, since: &Span<'_>) -> Vec<IndexCompared> {
    let then: BTreeMap<u32, &IndexCounters> = by(&before.last.indexes, |it| it.oid);
    let now: BTreeMap<u32, &IndexCounters> = by(&since.last.indexes, |it| it.oid);
    let tables = before.last.tables.iter().chain(&since.last.tables);
    let names: BTreeMap<u32, &str> = tables.map(|it| (it.oid, it.name.as_str())).collect();
    let gone = before.last.indexes.iter();
    let gone = gone.filter(|it| !now.contains_key(&it.oid));
    let all = since.last.indexes.iter().chain(gone);
    let compared = all.map(|it| IndexCompared {
        index: it.name.clone(),
        table: names.get(&it.table).copied().unwrap_or_default().to_owned(),
        before: then.get(&it.oid).map(|it| before.of_index(it)),
        since: now.get(&it.oid).map(|it| since.of_index(it)),
    });
    compared.collect()
}

fn by<T>(all: &[T], oid: fn(&T) -> u32) -> BTreeMap<u32, &T> {
    all.iter().map(|it| (oid(it), it)).collect()
}

impl fmt::Display for CatalogComparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent =
            |share: Option<f64>| share.map_or_else(|| "-".to_owned(), |it| format!("{it:.1}%"));
        let (before, since) = (&self.before, &self.since);
        write!(
            f,
            "by the catalog, index use {} (before {}), cache hits {} (before {}), lock waits in {} of {} \
             looks (before {} of {})",
            percent(since.index_use_percent),
            percent(before.index_use_percent),
            percent(since.cache_hit_percent),
            percent(before.cache_hit_percent),
            since.lock_waits.with_waits,
            since.lock_waits.looks,
            before.lock_waits.with_waits,
            before.lock_waits.looks,
        )
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    fn table(oid: u32, seq: i64, index: i64) -> TableCounters {
        TableCounters {
            oid,
            name: format!("public.t{oid}"),
            seq_scans: seq,
            seq_rows: seq * 7,
            index_scans: index,
            live: 5000,
            dead: 5000,
            blocks_hit: 90,
            blocks_read: 10,
            bytes: 8192,
            bloat_percent: Some(1.0),
        }
    }

    fn at(second: i64, tables: Vec<TableCounters>) -> Snapshot {
        let indexes = tables.iter().map(|it| IndexCounters {
            oid: it.oid + 100,
            name: format!("public.i{}", it.oid),
            table: it.oid,
            scans: it.index_scans,
            bytes: 8192,
            valid: true,
        });
        Snapshot {
            at: Timestamp::from_second(second).expect("a time"),
            age_s: 600.0,
            blocks_hit: second * 9,
            blocks_read: second,
            deadlocks: 0,
            indexes: indexes.collect(),
            tables,
        }
    }

    fn span<'a>(first: Option<&'a Snapshot>, last: &'a Snapshot) -> Span<'a> {
        Span {
            first,
            last,
            lock_waits: LockWaits::default(),
        }
    }

    #[test]
    fn spans_of_different_length_are_held_against_each_other_by_rates() {
        // A minute with 10 and 90 scans before; two minutes with 100 and 20 since.
        let earlier = at(0, vec![table(1, 100, 100)]);
        let before = at(60, vec![table(1, 110, 190)]);
        let start = at(100, vec![table(1, 200, 200)]);
        let now = at(220, vec![table(1, 300, 220)]);
        let all = CatalogComparison::new(span(Some(&earlier), &before), span(Some(&start), &now));
        assert_eq!((all.before.seconds, all.since.seconds), (60.0, 120.0));
        assert_eq!(all.before.index_use_percent, Some(90.0));
        assert_eq!(all.since.index_use_percent.map(f64::round), Some(17.0));
        assert_eq!(all.since.cache_hit_percent, Some(90.0));
        let (old, new) = (all.tables[0].before, all.tables[0].since);
        let (old, new) = (old.expect("figures"), new.expect("figures"));
        assert_eq!(old.seq_scans_per_minute, Some(10.0));
        assert_eq!(new.seq_scans_per_minute, Some(50.0));
        assert_eq!(new.rows_per_seq_scan, Some(7.0));
        assert_eq!(new.dead_percent, Some(50.0));
        let index = all.indexes[0].since.expect("figures");
        assert_eq!(index.scans_per_minute, Some(10.0));
        assert!(all.to_string().contains("index use 16.7% (before 90.0%)"));
    }

    #[test]
    fn what_is_new_or_gone_is_compared_with_nothing() {
        let before = at(60, vec![table(1, 0, 40), table(2, 0, 40)]);
        let start = at(100, vec![table(1, 0, 40)]);
        let now = at(160, vec![table(1, 0, 80), table(3, 30, 30)]);
        let all = CatalogComparison::new(span(None, &before), span(Some(&start), &now));
        let known: Vec<_> = all
            .tables
            .iter()
            .map(|it| (it.table.as_str(), it.before.is_some(), it.since.is_some()))
            .collect();
        let expected = [
            ("public.t1", true, true),
            ("public.t3", false, true),
            ("public.t2", true, false),
        ];
        assert_eq!(known, expected);
        // Without a first snapshot the span is all that was counted.
        assert_eq!(all.before.seconds, 600.0);
        // What is new was counted from zero.
        assert_eq!(all.since.index_use_percent, Some(70.0));
        assert_eq!(all.indexes.len(), 3);
    }

    #[test]
    fn too_few_a_reset_and_no_time_are_not_known() {
        let few = at(60, vec![table(1, 1, 1)]);
        let start = at(100, vec![table(1, 50, 50)]);
        let reset = at(160, vec![table(1, 3, 3)]);
        let all = CatalogComparison::new(span(None, &few), span(Some(&start), &reset));
        assert_eq!(all.before.index_use_percent, None);
        assert_eq!(all.since.index_use_percent, None);
        assert_eq!(
            all.tables[0].since.and_then(|it| it.seq_scans_per_minute),
            None
        );
        let all = CatalogComparison::new(span(None, &few), span(Some(&start), &start));
        assert_eq!(
            (all.since.seconds, all.since.cache_hit_percent),
            (0.0, None)
        );
        assert!(!all.since.all_small);
    }

    #[test]
    fn small_tables_are_left_out_of_the_use_of_indexes() {
        let small = TableCounters {
            live: 999,
            ..table(2, 1000, 0)
        };
        let last = at(60, vec![table(1, 0, 40), small.clone()]);
        let all = CatalogComparison::new(span(None, &last), span(None, &at(60, vec![small])));
        assert_eq!(all.before.index_use_percent, Some(100.0));
        assert_eq!(
            (all.since.index_use_percent, all.since.all_small),
            (None, true)
        );
    }

    #[test]
    fn looks_at_locks_are_summed_up() {
        let mut waits = LockWaits::default();
        for (blocked, ms) in [(0, 0), (3, 200), (1, 900)] {
            waits.add(blocked, ms);
        }
        let expected = LockWaits {
            looks: 3,
            with_waits: 2,
            blocked_max: 3,
            wait_max_ms: 900,
        };
        assert_eq!(waits, expected);
    }
}
