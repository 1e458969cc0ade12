//! A rule about logical replication, which carries rows and never DDL.

use super::{File, Hit, place};
use crate::runner::catalog::Found;
use crate::runner::shape::{Kind, ObjectKind, Renamed};

/// Subscribers whose table does not have a column that is sent stop replicating, and WAL piles up at
/// the publisher from then on (Postgres documentation, "Logical Replication", Restrictions).
pub(super) fn check(file: &File<'_>, hits: &mut Vec<Hit>) {
    for studied in file.statements {
        for act in &studied.acts {
            let does = match &act.kind {
                Kind::AddColumn(column, _) => format!("adds column {} to", column.name),
                Kind::DropColumn { column, .. } => format!("drops column {column} of"),
                Kind::SetType { column, .. } => format!("changes the type of {column} of"),
                Kind::Rename {
                    what: Renamed::Column(column),
                    ..
                } => format!("renames column {column} of"),
                Kind::Rename {
                    what: Renamed::Relation,
                    ..
                } => "renames".to_owned(),
                Kind::Drop(drop) if drop.what == ObjectKind::Table => "drops".to_owned(),
                _ => continue,
            };
            let Some(on) = &act.on else { continue };
            if let Found::There(table) = studied.world.look(on)
                && !table.publications.is_empty()
            {
                let publications = table.publications.join(", ");
                let message = format!("{does} {on}, which is published by {publications}");
                hits.push(Hit::new("published-table", place(studied, act), message));
            }
        }
    }
}
