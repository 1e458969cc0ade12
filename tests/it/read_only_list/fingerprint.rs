//! Everything that a statement could have changed, row by row.

use std::collections::BTreeMap;

use tokio_postgres::{Client, SimpleQueryMessage};

/// All system catalogs, all rows and sequences of the ordinary role, and what the server keeps outside
/// tables. The place and the transaction of each row belong to it: also an update that changes nothing
/// shows. Temporary tables are their session's own and cannot be read by others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fingerprint(BTreeMap<String, i64>);

const TABLES: &str = "select format('select %L || ctid || '' '' || xmin || '' '' || xmax || '' '' || \
    t::text from only %s t', c.oid::regclass || ' ', c.oid::regclass) from pg_class c \
    where relkind in ('r', 'm') and relpersistence <> 't' \
    and relnamespace not in (select oid from pg_namespace where nspname like 'pg\\_toast%')";

/// Of a sequence the row is all there is, and its `xmin` stays.
const SEQUENCES: &str = "select format('select %L || row(last_value, log_cnt, is_called)::text \
    from %s', c.oid::regclass || ' ', c.oid::regclass) from pg_class c where relkind = 'S' and relpersistence <> 't'";

const ELSEWHERE: [&str; 5] = [
    "select 'prepared ' || gid from pg_prepared_xacts",
    "select 'slot ' || slot_name from pg_replication_slots",
    "select 'file ' || f::text from pg_file_settings f",
    "select 'timeline ' || timeline_id from pg_control_checkpoint()",
    "select 'publication ' || p::text from pg_publication p",
];

impl Fingerprint {
    /// As a superuser sees it, in the database in question.
    pub(super) async fn taken(client: &Client) -> Self {
        let mut queries = column(client, TABLES).await;
        queries.extend(column(client, SEQUENCES).await);
        queries.extend(ELSEWHERE.map(str::to_owned));
        let mut found = BTreeMap::new();
        for query in queries {
            for row in column(client, &query).await {
                *found.entry(row).or_default() += 1;
            }
        }
        assert!(found.len() > 10_000, "only {} rows", found.len());
        Self(found)
    }

    /// What is in one and not in the other, at most so many lines.
    pub(super) fn differences(&self, later: &Self) -> Vec<String> {
        let gone = |(row, count): (&String, &i64)| {
            (later.0.get(row) != Some(count)).then(|| format!("- {}", cut(row)))
        };
        let come = |(row, count): (&String, &i64)| {
            (self.0.get(row) != Some(count)).then(|| format!("+ {}", cut(row)))
        };
        let gone = self.0.iter().filter_map(gone);
        gone.chain(later.0.iter().filter_map(come))
            .take(40)
            .collect()
    }
}

fn cut(row: &str) -> String {
    row.chars().take(300).collect()
}

/// The first column of every row, as text.
pub(super) async fn column(client: &Client, sql: &str) -> Vec<String> {
    let answer = client.simple_query(sql).await;
    let answer = answer.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    let row = |message| {
        let SimpleQueryMessage::Row(row) = message else {
            return None;
        };
        Some(row.get(0).unwrap_or_default().to_owned())
    };
    answer.into_iter().filter_map(row).collect()
}
