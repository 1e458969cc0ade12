//! How much went through, in all and over the last minute.

use crate::admin::console::averages::Averages;
use crate::admin::console::value::{Row, Value};
use crate::admin::types::Status;

/// `SHOW STATS`
pub(super) fn stats(status: &Status, averages: &Averages) -> Vec<Row> {
    let mut rows = totals(status);
    for (row, more) in rows.iter_mut().zip(self::averages(status, averages)) {
        // But for the database.
        row.extend(more.into_iter().skip(1));
    }
    rows
}

/// `SHOW STATS_TOTALS`: transactions and bytes are counted, queries and times are not.
pub(super) fn totals(status: &Status) -> Vec<Row> {
    let rows = status.databases.iter().map(|database| {
        let counted = [
            Some(database.transactions_total),
            None,
            Some(database.bytes_in_total),
            Some(database.bytes_out_total),
            None,
            None,
            None,
        ];
        let name = Value::from(database.database.as_str());
        let counted = counted.into_iter().map(counted_or_not);
        std::iter::once(name).chain(counted).collect()
    });
    rows.collect()
}

/// `SHOW STATS_AVERAGES`, in a second.
pub(super) fn averages(status: &Status, averages: &Averages) -> Vec<Row> {
    let rows = status.databases.iter().map(|database| {
        let rates = averages.of(&database.database);
        let rates = [
            rates.map(|rates| rates.transactions),
            None,
            rates.map(|rates| rates.bytes_in),
            rates.map(|rates| rates.bytes_out),
            None,
            None,
            None,
        ];
        let name = Value::from(database.database.as_str());
        let rates = rates.into_iter().map(counted_or_not);
        std::iter::once(name).chain(rates).collect()
    });
    rows.collect()
}

/// `SHOW TOTALS`: the sums of `SHOW STATS`.
pub(super) fn all(status: &Status, averages: &Averages) -> Vec<Row> {
    const NAMES: [&str; 14] = [
        "total_xact_count",
        "total_query_count",
        "total_client_bytes",
        "total_server_bytes",
        "total_xact_time",
        "total_query_time",
        "total_wait_time",
        "avg_xact_count",
        "avg_query_count",
        "avg_client_bytes",
        "avg_server_bytes",
        "avg_xact_time",
        "avg_query_time",
        "avg_wait_time",
    ];
    let stats = stats(status, averages);
    let rows = NAMES.iter().enumerate().map(|(at, name)| {
        let column = stats.iter().filter_map(|row| row.get(at + 1));
        vec![(*name).into(), sum(column)]
    });
    rows.collect()
}

/// What is not counted is no number, and never a zero.
fn counted_or_not(count: Option<u64>) -> Value {
    count.map_or(Value::NotANumber, Value::from)
}

/// Null if there is nothing to add; no number if something of it is not known.
fn sum<'a>(values: impl Iterator<Item = &'a Value>) -> Value {
    let mut sum = None;
    for value in values {
        let Value::Number(number) = value else {
            return Value::NotANumber;
        };
        sum = Some(sum.unwrap_or(0_i64).saturating_add(*number));
    }
    sum.into()
}
