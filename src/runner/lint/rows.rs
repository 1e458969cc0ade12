//! Rules about changes of rows.

use super::{File, Hit, place};
use crate::runner::catalog::Found;
use crate::runner::plan::{is_large, triggers};
use crate::runner::shape::Kind;

pub(super) fn check(file: &File<'_>, hits: &mut Vec<Hit>) {
    for studied in file.statements {
        for act in &studied.acts {
            let Some(on) = &act.on else { continue };
            let found = studied.world.look(on);
            if found == Found::New {
                continue;
            }
            let at = place(studied, act);
            let verb = match &act.kind {
                Kind::Update { whole: true } => {
                    let message = format!("UPDATE of every row of {on}");
                    hits.push(Hit::new("update-without-where", at, message));
                    "UPDATE"
                }
                Kind::Delete { whole: true } => {
                    let message = format!("DELETE of every row of {on}");
                    hits.push(Hit::new("delete-without-where", at, message));
                    "DELETE"
                }
                Kind::Update { .. } => "UPDATE",
                Kind::Delete { .. } => "DELETE",
                Kind::Merge => "MERGE",
                _ => continue,
            };
            if let Found::There(table) = found
                && is_large(table)
                && file.step.script.batch().is_none()
            {
                let rows = table.rows.map_or_else(
                    || "of unknown size, since it was never analyzed".to_owned(),
                    |rows| format!("of about {rows} rows"),
                );
                let message = format!("{verb} on {on} {rows}");
                hits.push(Hit::new("backfill-in-one-transaction", at, message));
            }
        }
        let fired = triggers(studied);
        if !fired.is_empty() {
            let at = studied.statement.range.start;
            hits.push(Hit::new("backfill-fires-triggers", at, fired.join("; ")));
        }
    }
}
