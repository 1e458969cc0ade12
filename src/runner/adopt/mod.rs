//! The history that another tool keeps in the database: found, read, and taken over without a change.
//!
//! What the tool has applied counts as applied, if its file is still what the tool's own checksum
//! says. What it left failed or dirty stands in the way. Where rows of our own know better (we ran the
//! migration since), they count. On request the tool is told what we did ([`entry`]).

pub(super) mod entry;
mod find;
mod read;

use std::collections::BTreeMap;

pub(super) use find::{ToolTable, find};

use super::connect::Session;
use super::history::{Row, RowState};
use super::plan::Problem;
use super::script::TxMode;
use super::source::{Checksums, Format, MigrationSet, Reading, SqlFile, Version};
use super::types::Direction;

/// One migration as another tool knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ToolRow {
    pub(super) version: Version,
    /// What the tool calls it.
    pub(super) name: String,
    pub(super) state: ToolState,
    /// The tool's checksum, as text.
    pub(super) checksum: Option<String>,
    /// When it was applied.
    pub(super) at: Option<String>,
}

/// Where a migration stands for the tool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ToolState {
    Applied,
    /// It stopped part-way or failed: what is wrong and what to do.
    Failed(String),
}

/// Everything the database knows about migrations: our own history and a tool's.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// Rows of the set's format, ours and adopted.
    pub(super) rows: Vec<Row>,
    /// What stands in the way.
    pub(super) problems: Vec<Problem>,
    /// What is worth knowing but stops nothing.
    pub(super) notes: Vec<String>,
    /// The tool's table, if there is one.
    pub(super) table: Option<ToolTable>,
}

/// Holds our own history and what tools left against the files; decides between readings.
///
/// # Errors
/// When the server does not answer, or a tool's table cannot be read.
pub(super) async fn learn<'a>(
    session: &Session,
    reading: &'a Reading,
    asked_table: Option<&str>,
    own: Vec<Row>,
) -> Result<(&'a MigrationSet, Known), tokio_postgres::Error> {
    let found = find(session, asked_table).await?;
    let mut known = Known::default();
    let (set, table) = find::choose(reading, &found, asked_table, &own, &mut known);
    let (own, foreign): (Vec<_>, Vec<_>) =
        own.into_iter().partition(|it| it.format == set.format());
    other_formats(reading, set.format(), &foreign, &mut known);
    known.rows = own;
    if let Some(table) = table {
        let rows = read::rows(session, &table, set).await?;
        merge(set, &table, rows, &mut known);
        known.table = Some(table);
    }
    Ok((set, known))
}

/// Our own history counts versions for each format: files of another one would all run again.
fn other_formats(reading: &Reading, format: Format, rows: &[Row], known: &mut Known) {
    let applied = rows.iter().filter(|it| it.state != RowState::Reverted);
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for row in applied {
        *counts.entry(row.format.as_str()).or_default() += 1;
    }
    for (other, count) in counts {
        let text = format!(
            "pgdrain's history holds {count} migrations of {other} files, these are {format} files"
        );
        if reading.asked {
            known.notes.push(text);
        } else {
            let way_out = format!("{text}: if both are meant, say --format {format}");
            known.problems.push(Problem::Tool(way_out));
        }
    }
}

/// Adds to our rows what the tool knows.
fn merge(set: &MigrationSet, table: &ToolTable, rows: Vec<ToolRow>, known: &mut Known) {
    let tool = table.format;
    let told: Vec<_> = rows.iter().map(|it| it.version.clone()).collect();
    for row in rows {
        let own = known.rows.iter().position(|it| it.version == row.version);
        if let ToolState::Failed(why) = &row.state {
            let text = format!("{table} ({tool}): {}: {why}", row.name);
            known.problems.push(Problem::Tool(text));
            continue;
        }
        match own.map(|at| (at, known.rows[at].state)) {
            // Ours ran it; a copy there changes nothing.
            Some((
                _,
                RowState::Applied
                | RowState::Running
                | RowState::Dirty
                | RowState::Begun
                | RowState::Partial,
            )) => {}
            Some((_, RowState::Reverted)) => known.notes.push(format!(
                "{} was reverted by pgdrain, {table} still lists it (--write-back tells {tool})",
                row.name
            )),
            Some((at, RowState::Failed)) => {
                let adopted = adopt(set, tool, table, row, known);
                match adopted {
                    Some(adopted) => known.rows[at] = adopted,
                    None => continue,
                }
            }
            None => {
                let adopted = adopt(set, tool, table, row, known);
                known.rows.extend(adopted);
            }
        }
    }
    let unknown = known
        .rows
        .iter()
        .filter(|it| it.state == RowState::Applied && !it.adopted && !told.contains(&it.version));
    let unknown: Vec<_> = unknown.map(|it| it.name.clone()).collect();
    if !unknown.is_empty() {
        known.notes.push(format!(
            "{table} does not know what pgdrain applied: {} ({tool} would apply it again; \
             --write-back tells it of what comes)",
            unknown.join(", ")
        ));
    }
    known.rows.sort_by(|a, b| a.version.cmp(&b.version));
}

/// The row of a migration that only the tool knows, if its file is what the tool says.
fn adopt(
    set: &MigrationSet,
    tool: Format,
    table: &ToolTable,
    row: ToolRow,
    known: &mut Known,
) -> Option<Row> {
    let migration = set.get(&row.version);
    let up = migration.map(|it| &it.up);
    if up.is_none() && tolerates_missing(tool) {
        known.notes.push(format!(
            "{table} lists {}, which has no file any more: {tool} takes no notice of that",
            row.name
        ));
    }
    if let Some((up, then)) = up.zip(row.checksum.as_ref())
        && let Some(now) = up.tool_checksum.as_ref().filter(|it| !it.is(then))
    {
        if row.version.is_repeatable() {
            // It waits to run again.
            return None;
        }
        known.problems.push(Problem::Tool(format!(
            "{} has changed since {tool} applied it: its checksum is {now}, {table} has {then}",
            up.name
        )));
    }
    if up.is_none() && (tolerates_missing(tool) || row.version.is_repeatable()) {
        return None;
    }
    let nothing = || Checksums::of("");
    Some(Row {
        format: tool,
        adopted: true,
        version: row.version,
        name: migration.map_or(row.name, |it| it.name.clone()),
        checksums: up.map_or_else(nothing, |it: &SqlFile| it.checksums),
        mode: TxMode::File,
        state: RowState::Applied,
        run: String::new(),
        direction: Direction::Up,
        statements: (0, 0),
        failed_statement: None,
        failed_message: None,
        down_sql: None,
        partly_run: None,
        finished_at: row.at,
    })
}

/// Tools that let old files go once they are applied everywhere.
fn tolerates_missing(tool: Format) -> bool {
    match tool {
        Format::Dbmate | Format::Goose => true,
        Format::GolangMigrate | Format::Flyway | Format::Sqlx | Format::Prisma => false,
    }
}
