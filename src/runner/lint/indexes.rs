//! Rules about indexes.

use super::{File, Hit, place};
use crate::runner::catalog::Found;
use crate::runner::plan::Needs;
use crate::runner::shape::{Act, Kind};

pub(super) fn check(file: &File<'_>, hits: &mut Vec<Hit>) {
    for studied in file.statements {
        for act in &studied.acts {
            let at = place(studied, act);
            match &act.kind {
                Kind::CreateIndex {
                    name,
                    concurrently,
                    if_not_exists,
                    ..
                } => {
                    let named = name.as_deref().unwrap_or("it");
                    if *concurrently && *if_not_exists {
                        let message = format!(
                            "{named} is not built if one of its name is there, valid or not"
                        );
                        hits.push(Hit::new("concurrently-if-not-exists", at, message));
                    }
                    if *concurrently && file.traffic == Needs::Exclusive {
                        let message =
                            format!("{named} is built CONCURRENTLY, with nobody else there");
                        hits.push(Hit::new("concurrently-in-window", at, message));
                    }
                    if let Some(Found::There(table)) =
                        act.on.as_ref().map(|on| studied.world.look(on))
                        && table
                            .indexes
                            .iter()
                            .any(|it| !it.valid && Some(&it.name) == name.as_ref())
                        && !dropped_before(file, act, named)
                    {
                        let message =
                            format!("{named} is there and invalid, from a build that failed");
                        hits.push(Hit::new("invalid-index", at, message));
                    }
                }
                Kind::Reindex {
                    concurrently: false,
                    ..
                } => hits.push(Hit::new("reindex", at, "REINDEX without CONCURRENTLY")),
                _ => {}
            }
        }
    }
}

/// Whether an earlier statement of the file drops the index that is there.
fn dropped_before(file: &File<'_>, act: &Act, name: &str) -> bool {
    let acts = file.statements.iter().flat_map(|it| &it.acts);
    acts.take_while(|it| *it != act)
        .any(|it| matches!(&it.kind, Kind::Drop(drop) if drop.name.name == name))
}
