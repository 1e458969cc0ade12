//! Rules about names: of files, and of what they create.

use super::{File, Hit, place};
use crate::runner::script::Script;
use crate::runner::shape::{Kind, Name};
use crate::runner::source::MigrationSet;
use crate::runner::types::Direction;

/// What the names of the files say.
pub(super) fn directory(set: &MigrationSet) -> Vec<(String, Hit)> {
    let mut hits = Vec::new();
    for migration in set.iter() {
        let file = migration.up.name.clone();
        let words = migration
            .name
            .trim_start_matches(|c: char| c.is_ascii_digit());
        let usual = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-';
        if words.is_empty() || !words.chars().all(usual) {
            let message = format!("{file} is named in letters that are not all lower case");
            hits.push((file.clone(), Hit::new("file-name", 0, message)));
        }
        let explained = Script::of(&migration.up)
            .is_ok_and(|script| script.directives().irreversible.is_some());
        if migration.down.is_none() && !explained {
            let message = format!("{file} has no down file");
            hits.push((file, Hit::new("missing-down", 0, message)));
        }
    }
    hits
}

/// What the names of new things say.
pub(super) fn check(file: &File<'_>, hits: &mut Vec<Hit>) {
    if file.step.direction() == Direction::Down {
        return;
    }
    for studied in file.statements {
        for act in &studied.acts {
            let mut new = Vec::new();
            match &act.kind {
                Kind::CreateTable { columns, .. } => {
                    new.extend(act.on.iter().map(|it| it.name.clone()));
                    new.extend(columns.iter().map(|it| it.name.clone()));
                }
                Kind::AddColumn(column, _) => new.push(column.name.clone()),
                Kind::Rename { to, .. } => new.push(to.clone()),
                Kind::CreateIndex { name, .. } => new.extend(name.clone()),
                Kind::CreateView { .. } | Kind::CreateOther => {
                    new.extend(act.on.iter().map(|it| it.name.clone()));
                }
                _ => {}
            }
            let quoted = |name: &String| Name::bare(name).to_string().starts_with('"');
            let odd: Vec<_> = new.into_iter().filter(quoted).collect();
            if !odd.is_empty() {
                let message = format!("to be quoted wherever it is used: {}", odd.join(", "));
                hits.push(Hit::new("object-name", place(studied, act), message));
            }
        }
    }
}
