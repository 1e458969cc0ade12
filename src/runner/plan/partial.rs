//! Files without a transaction of which a part is in the database: where they go on, and what leads back.

use super::back;
use crate::runner::history::{Row, RowState};
use crate::runner::script::{Script, TxMode};
use crate::runner::source::{Migration, SqlFile, Version};
use crate::runner::types::Direction;

/// How many statements of an up file are done, which is where it goes on.
///
/// # Errors
/// Why it cannot.
pub(super) fn goes_on(
    version: &Version,
    script: &Script,
    history: &[Row],
) -> Result<usize, String> {
    let partial = |row: &&Row| row.version == *version && row.state == RowState::Partial;
    let Some(row) = history.iter().find(partial) else {
        return Ok(0);
    };
    if row.direction == Direction::Down {
        return Err("is reverted in part: `migrate down` goes on with it".to_owned());
    }
    let done = row.statements.1 as usize;
    let then = row.partly_run.as_deref().unwrap_or_default();
    let then = Script::of(&SqlFile::new(&row.name, then)).ok();
    let written = |script: &Script| -> Vec<String> {
        let done = script.statements().iter().take(done);
        done.map(|it| script.written(it).to_owned()).collect()
    };
    if then.is_none_or(|then| written(&then) != written(script)) {
        return Err(format!(
            "is done up to statement {done}, and those statements are no longer what they were"
        ));
    }
    if script.mode() != TxMode::None {
        return Err(format!(
            "is done up to statement {done}, and would now run in one transaction: let it say \
             -- pgdrain:tx none"
        ));
    }
    if script.directives().rows.is_empty() {
        Ok(done)
    } else {
        Err("goes on where it stopped: pgdrain:rows cannot be told of a part of it".to_owned())
    }
}

/// What leads back from a migration of which a part is there, and how much of it is done: all of its
/// file for a whole one.
pub(super) fn way_back(
    migration: Option<&Migration>,
    row: &Row,
    file: SqlFile,
    notes: &mut Vec<String>,
) -> Result<(SqlFile, usize), String> {
    if row.state != RowState::Partial {
        return Ok((file, 0));
    }
    let (done, name) = (row.statements.1 as usize, file.name.clone());
    let run = row.partly_run.clone().ok_or("nobody knows what was run")?;
    if row.direction == Direction::Down {
        notes.push(format!(
            "{name} goes on behind statement {done}, as it was run"
        ));
        return Ok((SqlFile::new(name, &run), done));
    }
    let cut = |file: &SqlFile| {
        Script::of(file).map_err(|faults| {
            let faults: Vec<_> = faults.iter().map(ToString::to_string).collect();
            format!("{}: {}", file.name, faults.join("; "))
        })
    };
    let up = migration.map_or_else(|| row.name.clone(), |it| it.up.name.clone());
    let text = back::text(&cut(&SqlFile::new(up, &run))?, done, &cut(&file)?)?;
    notes.push(format!(
        "{name}: only what takes back the first {done} statements of {}",
        row.name
    ));
    Ok((SqlFile::new(name, &text), 0))
}
