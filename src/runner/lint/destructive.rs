//! Rules about what is gone afterwards, and what reaches beyond tables (the red flags of
//! document 4, the dangerous SQL of document 2).

use super::{File, Hit, place};
use crate::runner::catalog::Found;
use crate::runner::plan::Studied;
use crate::runner::shape::{Act, Kind, ObjectKind};
use crate::runner::types::Direction;

pub(super) fn check(file: &File<'_>, hits: &mut Vec<Hit>) {
    for studied in file.statements {
        in_use(studied, hits);
        for act in &studied.acts {
            if act
                .on
                .as_ref()
                .is_some_and(|on| studied.world.look(on) == Found::New)
            {
                continue;
            }
            // What a down file drops, its up file has made.
            if file.step.direction() == Direction::Up {
                dropped(studied, act, hits);
            }
            cascade(studied, act, hits);
            dangerous(studied, act, hits);
            if let (Kind::Truncate { .. }, Some(on)) = (&act.kind, &act.on) {
                hits.push(Hit::new(
                    "truncate",
                    place(studied, act),
                    format!("TRUNCATE {on}"),
                ));
            }
        }
    }
}

/// What depends on it: goes with CASCADE, and keeps it from being dropped without.
fn in_use(studied: &Studied<'_>, hits: &mut Vec<Hit>) {
    let Some(all) = studied.cascade.as_ref().filter(|it| !it.is_empty()) else {
        return;
    };
    let cascade = studied.acts.iter().any(|act| match &act.kind {
        Kind::Drop(it) => it.cascade,
        Kind::DropColumn { cascade, .. } | Kind::DropConstraint { cascade, .. } => *cascade,
        _ => false,
    });
    let names = all.join(", ");
    let message = match cascade {
        true => format!("CASCADE takes with it: {names}"),
        false => format!("it fails, because of: {names}"),
    };
    hits.push(Hit::new(
        "drop-in-use",
        studied.statement.range.start,
        message,
    ));
}

fn dropped(studied: &Studied<'_>, act: &Act, hits: &mut Vec<Hit>) {
    let on = act.on.as_ref().map(ToString::to_string).unwrap_or_default();
    let scans = match act.on.as_ref().map(|on| studied.world.look(on)) {
        Some(Found::There(it)) if it.scans > 0 => {
            format!(
                ", which was read {} times since its statistics began",
                it.scans
            )
        }
        _ => String::new(),
    };
    let message = match &act.kind {
        Kind::DropColumn { column, .. } => format!("drops column {column} of {on}{scans}"),
        Kind::DropConstraint { constraint, .. } => format!("drops constraint {constraint} of {on}"),
        Kind::Drop(it)
            if matches!(
                it.what,
                ObjectKind::Table | ObjectKind::View | ObjectKind::MaterializedView
            ) =>
        {
            format!("drops {} {on}{scans}", it.what)
        }
        _ => return,
    };
    hits.push(Hit::new(
        "drop-without-deprecation",
        place(studied, act),
        message,
    ));
}

fn cascade(studied: &Studied<'_>, act: &Act, hits: &mut Vec<Hit>) {
    let what = match &act.kind {
        Kind::Drop(it) if it.cascade => format!("{} {}", it.what, it.name),
        Kind::DropColumn {
            column,
            cascade: true,
        } => format!("column {column}"),
        Kind::DropConstraint {
            constraint,
            cascade: true,
        } => format!("constraint {constraint}"),
        Kind::Truncate { cascade: true } => "TRUNCATE".to_owned(),
        _ => return,
    };
    hits.push(Hit::new(
        "drop-cascade",
        place(studied, act),
        format!("{what} with CASCADE"),
    ));
}

fn dangerous(studied: &Studied<'_>, act: &Act, hits: &mut Vec<Hit>) {
    let what = match &act.kind {
        Kind::Drop(it)
            if matches!(
                it.what,
                ObjectKind::Schema | ObjectKind::Extension | ObjectKind::Owned | ObjectKind::Role
            ) =>
        {
            format!("DROP {} {}", it.what, it.name)
        }
        Kind::NoTable(
            what @ ("ALTER SYSTEM" | "ALTER ROLE" | "ALTER DATABASE" | "CREATE ROLE"),
        ) => (*what).to_owned(),
        _ => return,
    };
    hits.push(Hit::new("dangerous-statement", place(studied, act), what));
}
