//! Where each file stands: files held against history, without a wish.

use std::collections::BTreeMap;

use super::history::Row;
use super::source::MigrationSet;
use super::types::{FileStatus, StatusReport};

/// Lists files by where they stand.
pub(super) fn status(set: &MigrationSet, history: &[Row]) -> StatusReport {
    let rows: BTreeMap<_, _> = history.iter().map(|row| (row.version, row)).collect();
    let mut report = StatusReport::default();
    for migration in set.iter() {
        let row = rows.get(&migration.version).copied();
        if !row.is_some_and(Row::is_applied) {
            report
                .pending
                .push(FileStatus::pending(migration.version, &migration.up.name));
        }
    }
    for row in history {
        let file = set.get(row.version);
        let name = file.map_or_else(|| format!("{}.up.sql", row.name), |it| it.up.name.clone());
        let entry = FileStatus {
            version: row.version,
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
        report.applied.push(entry);
    }
    report
}
