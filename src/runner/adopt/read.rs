//! Reads the history of each tool, as the tool itself understands it.

use std::collections::BTreeMap;

use tokio_postgres::Row;

use super::{ToolRow, ToolState, ToolTable};
use crate::runner::connect::Session;
use crate::runner::source::{Format, MigrationSet, Version};

/// What a tool has applied, and what it left failed.
pub(super) async fn rows(
    session: &Session,
    table: &ToolTable,
    set: &MigrationSet,
) -> Result<Vec<ToolRow>, tokio_postgres::Error> {
    let from = table.quoted();
    let sql = match table.format {
        Format::GolangMigrate => format!("select version::int8, dirty from {from}"),
        Format::Dbmate => format!("select version::text from {from}"),
        Format::Sqlx => format!(
            "select version::int8, description, success, encode(checksum, 'hex'), \
                    to_char(installed_on at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"') \
             from {from} order by version"
        ),
        Format::Prisma => format!(
            "select migration_name::text, checksum::text, finished_at is not null, logs, \
                    to_char(finished_at at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"') \
             from {from} where rolled_back_at is null order by started_at"
        ),
        Format::Goose => format!(
            "select version_id::int8, is_applied, to_char(tstamp, 'YYYY-MM-DD\"T\"HH24:MI:SS') \
             from {from} where version_id > 0 order by id"
        ),
        Format::Flyway => format!(
            "select version::text, description::text, type::text, script::text, checksum::int4, \
                    success, to_char(installed_on, 'YYYY-MM-DD\"T\"HH24:MI:SS') \
             from {from} order by installed_rank"
        ),
    };
    let rows = session.client.query(&sql, &[]).await?;
    Ok(match table.format {
        Format::GolangMigrate => golang_migrate(&rows, set),
        Format::Dbmate => dbmate(&rows),
        Format::Sqlx => rows.iter().filter_map(sqlx).collect(),
        Format::Prisma => rows.iter().map(prisma).collect(),
        Format::Goose => goose(&rows),
        Format::Flyway => flyway(&rows, set),
    })
}

/// A text that is no version of ours sorts and is named as it stands, and no file belongs to it.
fn version(text: &str) -> Version {
    text.parse().unwrap_or_else(|_| Version::repeatable(text))
}

fn number(number: i64) -> Version {
    Version::number(u64::try_from(number).unwrap_or(0))
}

/// It keeps one row: everything up to that version is applied.
fn golang_migrate(rows: &[Row], set: &MigrationSet) -> Vec<ToolRow> {
    let Some(row) = rows.first() else {
        return Vec::new();
    };
    let (newest, dirty): (i64, bool) = (row.get(0), row.get(1));
    // What it writes before its first migration, and after its last one was taken back.
    if newest < 0 {
        return Vec::new();
    }
    let newest = number(newest);
    let applied = |version: &Version, name: &str| ToolRow {
        version: version.clone(),
        name: name.to_owned(),
        state: ToolState::Applied,
        checksum: None,
        at: None,
    };
    let mut all: Vec<_> = set
        .iter()
        .filter(|it| it.version <= newest)
        .map(|it| applied(&it.version, &it.name))
        .collect();
    if all.last().is_none_or(|it| it.version != newest) {
        all.push(applied(&newest, &format!("version {newest}")));
    }
    if let Some(last) = all.last_mut().filter(|_| dirty) {
        last.state = ToolState::Failed(
            "it is dirty: it stopped part-way; put the database right, then run `migrate force`"
                .to_owned(),
        );
    }
    all
}

fn dbmate(rows: &[Row]) -> Vec<ToolRow> {
    let row = |row: &Row| {
        let text: &str = row.get(0);
        ToolRow {
            version: version(text),
            name: format!("version {text}"),
            state: ToolState::Applied,
            checksum: None,
            at: None,
        }
    };
    rows.iter().map(row).collect()
}

fn sqlx(row: &Row) -> Option<ToolRow> {
    let (version, description): (i64, &str) = (row.get(0), row.get(1));
    let failed = "it failed: put the database right, then delete the row";
    Some(ToolRow {
        version: Version::number(u64::try_from(version).ok()?),
        name: format!("{version} ({description})"),
        state: match row.get(2) {
            true => ToolState::Applied,
            false => ToolState::Failed(failed.to_owned()),
        },
        checksum: row.get(3),
        at: row.get(4),
    })
}

fn prisma(row: &Row) -> ToolRow {
    let name: &str = row.get(0);
    let digits = name.split_once('_').map_or(name, |(digits, _)| digits);
    let logs: Option<&str> = row.get(3);
    let said = logs.and_then(|it| it.lines().find(|it| !it.trim().is_empty()));
    let failed = || {
        format!(
            "it began and did not finish{}: put the database right, then run `prisma migrate \
             resolve`",
            said.map(|it| format!(" ({})", it.trim()))
                .unwrap_or_default()
        )
    };
    ToolRow {
        version: version(digits),
        name: name.to_owned(),
        state: match row.get(2) {
            true => ToolState::Applied,
            false => ToolState::Failed(failed()),
        },
        checksum: row.get(1),
        at: row.get(4),
    }
}

/// Older releases add a row for the way back, newer ones delete the row: the last one counts.
fn goose(rows: &[Row]) -> Vec<ToolRow> {
    let mut last = BTreeMap::new();
    for row in rows {
        let (number_of, applied): (i64, bool) = (row.get(0), row.get(1));
        let at: Option<String> = row.get(2);
        last.insert(number(number_of), applied.then_some(at));
    }
    last.into_iter()
        .filter_map(|(version, at)| {
            Some(ToolRow {
                name: format!("version {version}"),
                version,
                state: ToolState::Applied,
                checksum: None,
                at: at?,
            })
        })
        .collect()
}

/// Rows follow each other: a way back, a repair or a new run of a repeatable one replaces what was
/// before.
fn flyway(rows: &[Row], set: &MigrationSet) -> Vec<ToolRow> {
    let mut now: BTreeMap<Version, ToolRow> = BTreeMap::new();
    for row in rows {
        let (number_of, description): (Option<&str>, &str) = (row.get(0), row.get(1));
        let (kind, script): (&str, &str) = (row.get(2), row.get(3));
        let checksum: Option<i32> = row.get(4);
        let key = number_of.map_or_else(|| Version::repeatable(description), version);
        let entry = |key: &Version, name: &str, state| ToolRow {
            version: key.clone(),
            name: name.to_owned(),
            state,
            checksum: checksum.map(|it| it.to_string()),
            at: row.get(6),
        };
        let success: bool = row.get(5);
        if !success {
            let text = "it failed: put the database right, then run `flyway repair`";
            let failed = ToolState::Failed(text.to_owned());
            now.insert(key.clone(), entry(&key, script, failed));
        } else if kind.starts_with("UNDO") || kind == "DELETE" {
            now.remove(&key);
        } else if kind.ends_with("BASELINE") {
            // Everything up to it was there before.
            for migration in set.iter().filter(|it| it.version <= key) {
                let below = ToolRow {
                    checksum: None,
                    ..entry(&migration.version, &migration.name, ToolState::Applied)
                };
                now.insert(migration.version.clone(), below);
            }
        } else if kind != "SCHEMA" {
            now.insert(key.clone(), entry(&key, script, ToolState::Applied));
        }
    }
    now.into_values().collect()
}
