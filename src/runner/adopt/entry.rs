//! What a tool is told of a migration that ran here: the row that it would have written itself, as
//! part of the statement that writes ours, so that both are there or neither is.

use super::ToolTable;
use crate::runner::plan::{Action, Step};
use crate::runner::source::{Format, Version};
use crate::runner::types::Direction;

/// Tells a tool what is applied and reverted.
#[derive(Clone, Debug)]
pub(in crate::runner) struct WriteBack {
    /// Its table.
    pub(in crate::runner) table: ToolTable,
    /// Every version of the directory, in order: a tool that keeps only the newest one needs the one
    /// before it.
    pub(in crate::runner) versions: Vec<Version>,
}

impl WriteBack {
    /// Parts of a WITH clause, each with a comma before it. They read `done`, which has a row exactly
    /// if ours was written.
    pub(in crate::runner) fn parts(&self, step: &Step) -> String {
        let table = self.table.quoted();
        let up = step.direction() == Direction::Up;
        match self.table.format {
            Format::GolangMigrate => self.golang_migrate(&table, step),
            Format::Dbmate => {
                let digits: String = step.name.chars().take_while(char::is_ascii_digit).collect();
                one_row(&table, "version", &literal(&digits), up)
            }
            Format::Sqlx => sqlx(&table, step),
            Format::Prisma => prisma(&table, step),
            Format::Goose if up => insert(
                &table,
                "version_id, is_applied",
                &format!("{}, true", step.version),
            ),
            Format::Goose => delete(&table, &format!("version_id = {}", step.version)),
            Format::Flyway => flyway(&table, step),
        }
    }

    fn golang_migrate(&self, table: &str, step: &Step) -> String {
        let newest = match step.direction() {
            Direction::Up => Some(&step.version),
            Direction::Down => self.versions.iter().filter(|it| **it < step.version).max(),
        };
        match newest {
            Some(newest) => format!(
                ", told as (update {table} set version = {newest}, dirty = false \
                            where exists (select from done)), \
                 told_first as (insert into {table} (version, dirty) select {newest}, false \
                                from done where not exists (select from {table}))"
            ),
            None => delete(table, "true"),
        }
    }
}

fn sqlx(table: &str, step: &Step) -> String {
    match &step.action {
        Action::Apply { tool_checksum, .. } => {
            let description = step.name.split_once('_').map_or("", |(_, text)| text);
            let values = format!(
                "{}, {}, true, decode('{}', 'hex'), \
                 (extract(epoch from clock_timestamp() - done.started_at) * 1000000000)::int8",
                step.version,
                literal(&description.replace('_', " ")),
                checksum(tool_checksum.as_ref()),
            );
            let columns = "version, description, success, checksum, execution_time";
            insert(table, columns, &values)
        }
        Action::Revert { .. } => delete(table, &format!("version = {}", step.version)),
    }
}

fn prisma(table: &str, step: &Step) -> String {
    let name = literal(&step.name);
    match &step.action {
        Action::Apply { tool_checksum, .. } => insert(
            table,
            "id, checksum, finished_at, migration_name, started_at, applied_steps_count",
            &format!(
                "gen_random_uuid()::text, '{}', clock_timestamp(), {name}, done.started_at, 1",
                checksum(tool_checksum.as_ref())
            ),
        ),
        // It has no way back of its own; this is how it marks what is to run again.
        Action::Revert { .. } => format!(
            ", told as (update {table} set rolled_back_at = clock_timestamp() \
                        where migration_name = {name} and rolled_back_at is null \
                          and exists (select from done))"
        ),
    }
}

fn flyway(table: &str, step: &Step) -> String {
    let (head, description) = step.name.split_once("__").unwrap_or((&step.name, ""));
    let version = match step.version.is_repeatable() {
        true => "null".to_owned(),
        // As it is written in the name, with its zeros.
        false => literal(&head.get(1..).unwrap_or_default().replace('_', ".")),
    };
    let (kind, checksum) = match &step.action {
        Action::Apply { tool_checksum, .. } => ("SQL", checksum(tool_checksum.as_ref())),
        Action::Revert { .. } => ("UNDO_SQL", "null".to_owned()),
    };
    let script = literal(&step.file);
    let description = literal(&description.replace('_', " "));
    let columns = "installed_rank, version, description, type, script, checksum, installed_by, \
                   execution_time, success";
    let values = format!(
        "coalesce((select max(installed_rank) from {table}), 0) + 1, {version}, {description}, \
         '{kind}', {script}, {checksum}, session_user, \
         (extract(epoch from clock_timestamp() - done.started_at) * 1000)::int4, true"
    );
    insert(table, columns, &values)
}

/// A tool's checksum as text; nothing that needs quoting is in one.
fn checksum(of: Option<&crate::runner::source::ToolChecksum>) -> String {
    of.map_or_else(|| "null".to_owned(), ToString::to_string)
}

fn one_row(table: &str, column: &str, value: &str, up: bool) -> String {
    if up {
        insert(table, column, value)
    } else {
        delete(table, &format!("{column} = {value}"))
    }
}

fn insert(table: &str, columns: &str, values: &str) -> String {
    format!(", told as (insert into {table} ({columns}) select {values} from done)")
}

fn delete(table: &str, condition: &str) -> String {
    format!(", told as (delete from {table} where {condition} and exists (select from done))")
}

/// A string for the server, which reads backslashes as they stand (`standard_conforming_strings`).
fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
