//! Where each file stands: files held against history, without a wish.

use std::collections::BTreeMap;

use jiff::civil::Date;

use super::history::{Row, RowState};
use super::script::Script;
use super::source::{Migration, MigrationSet};
use super::types::{FileStatus, StatusReport};

/// Lists files by where they stand on a day.
pub(super) fn status(set: &MigrationSet, history: &[Row], today: Date) -> StatusReport {
    let mut report = StatusReport::default();
    let rows: BTreeMap<_, _> = history.iter().map(|row| (&row.version, row)).collect();
    let waits = |it: &&Migration| match rows.get(&it.version) {
        Some(row) => {
            let changed = it.up.checksums.normalised != row.checksums.normalised;
            !row.is_applied() || (it.version.is_repeatable() && changed)
        }
        None => true,
    };
    for migration in set.iter().filter(waits) {
        let pending = FileStatus::pending(&migration.version, &migration.up.name);
        let begun = rows
            .get(&migration.version)
            .filter(|row| matches!(row.state, RowState::Begun | RowState::Partial));
        report.pending.push(FileStatus {
            state: begun.map(|row| row.state),
            at: begun.and_then(|row| row.finished_at.clone()),
            detail: begun
                .and_then(|row| row.failed_message.clone())
                .or_else(|| disabled(migration, today)),
            ..pending
        });
    }
    for row in history {
        let file = set.get(&row.version);
        let name = file.map_or_else(|| row.name.clone(), |it| it.up.name.clone());
        let entry = FileStatus {
            version: row.version.clone(),
            file: name,
            state: Some(row.state),
            at: row.finished_at.clone(),
            detail: row.failed_message.clone(),
        };
        if let Some(detail) = row.dirty() {
            report.dirty.push(FileStatus {
                detail: Some(detail),
                ..entry
            });
            continue;
        }
        if !row.is_applied() {
            continue;
        }
        let changed = match file {
            _ if row.version.is_repeatable() => None,
            None => Some("the file is missing".to_owned()),
            Some(it) if it.up.checksums.normalised != row.checksums.normalised => {
                Some("the file has changed since it was applied".to_owned())
            }
            Some(_) => None,
        };
        if changed.is_some() {
            report.changed.push(FileStatus {
                detail: changed,
                ..entry.clone()
            });
        }
        let adopted = format!("applied by {}", row.format);
        report.applied.push(FileStatus {
            detail: row.adopted.then_some(adopted).or(entry.detail.clone()),
            ..entry
        });
    }
    report
}

/// Until when a file does not run, if it says so.
fn disabled(migration: &Migration, today: Date) -> Option<String> {
    let script = Script::of(&migration.up).ok()?;
    let until = script.directives().disabled_until?;
    (today < until).then(|| format!("disabled until {until}"))
}
