//! Rules about constraints: what the rows say, which index is missing, what is kept locked.

use super::{File, Hit, Probe, place};
use crate::runner::catalog::{Found, Relation};
use crate::runner::plan::Studied;
use crate::runner::script::TxMode;
use crate::runner::shape::{Act, ConstraintKind, Kind, Name, NewConstraint, quote};

pub(super) fn check(file: &File<'_>, hits: &mut Vec<Hit>) {
    for (number, studied) in file.statements.iter().enumerate() {
        for act in &studied.acts {
            match &act.kind {
                Kind::AddConstraint(constraint) => {
                    without_index(file, number, act, constraint, hits);
                }
                Kind::Validate { constraint } => {
                    same_transaction(file, number, act, constraint, hits)
                }
                Kind::AddColumn(column, _)
                    if is_old(studied, act)
                        && column.not_null
                        && column.default.is_none()
                        && !column.filled =>
                {
                    let message = format!("column {} is NOT NULL and has no default", column.name);
                    hits.push(Hit::new("required-column", place(studied, act), message));
                }
                _ => {}
            }
        }
    }
}

/// Whether the relation is one that others may use.
fn is_old(studied: &Studied<'_>, act: &Act) -> bool {
    act.on
        .as_ref()
        .is_some_and(|on| studied.world.look(on) != Found::New)
}

/// The index that a lookup from the other table would want: a DELETE there reads this table.
fn without_index(
    file: &File<'_>,
    number: usize,
    act: &Act,
    it: &NewConstraint,
    hits: &mut Vec<Hit>,
) {
    let studied = &file.statements[number];
    let ConstraintKind::ForeignKey { columns, .. } = &it.kind else {
        return;
    };
    let Some(Found::There(table)) = act.on.as_ref().map(|on| studied.world.look(on)) else {
        return;
    };
    let numbers: Option<Vec<_>> = columns
        .iter()
        .map(|name| table.column(name).map(|it| it.number))
        .collect();
    // A column that the plan adds: its index can only be in the plan.
    let leads = |index: &crate::runner::catalog::Index| {
        numbers.as_ref().is_some_and(|numbers| {
            let front: Vec<_> = index.columns.iter().take(numbers.len()).collect();
            index.valid && index.whole && numbers.iter().all(|it| front.contains(&it))
        })
    };
    let planned = file.statements.iter().flat_map(|it| &it.acts).any(|other| {
        let Kind::CreateIndex {
            columns: Some(made),
            predicate: None,
            ..
        } = &other.kind
        else {
            return false;
        };
        other.on == act.on
            && columns
                .iter()
                .all(|it| made.iter().take(columns.len()).any(|m| m == it))
    });
    if !table.indexes.iter().any(leads) && !planned {
        let message = format!(
            "no index of {} leads with {}",
            table.full_name(),
            columns.join(", ")
        );
        hits.push(Hit::new(
            "foreign-key-without-index",
            place(studied, act),
            message,
        ));
    }
}

/// NOT VALID keeps its lock until the commit, so that VALIDATE reads every row behind it.
fn same_transaction(file: &File<'_>, number: usize, act: &Act, name: &str, hits: &mut Vec<Hit>) {
    if file.step.script.mode() != TxMode::File {
        return;
    }
    let before = file.statements[..number].iter().flat_map(|it| &it.acts);
    let added = before.filter(|it| it.on == act.on).any(|it| {
        matches!(&it.kind, Kind::AddConstraint(new)
            if new.not_valid && new.name.as_deref() == Some(name))
    });
    if added {
        let message = format!("{name} was added by the same transaction, which keeps its lock");
        hits.push(Hit::new(
            "validate-in-same-transaction",
            place(&file.statements[number], act),
            message,
        ));
    }
}

/// What to ask the rows.
pub(super) fn probes(file: &File<'_>) -> Vec<Probe> {
    let mut probes = Vec::new();
    for studied in file.statements {
        for act in &studied.acts {
            let Some(Found::There(table)) = act.on.as_ref().map(|on| studied.world.look(on)) else {
                continue;
            };
            let at = place(studied, act);
            match &act.kind {
                Kind::SetNotNull { column } => probes.extend(nulls(table, column, at)),
                Kind::AddConstraint(it) => match &it.kind {
                    ConstraintKind::NotNull(column) => probes.extend(nulls(table, column, at)),
                    ConstraintKind::Unique {
                        columns,
                        using_index: false,
                        ..
                    } => probes.extend(duplicates(table, columns, None, at)),
                    ConstraintKind::Check(expression) if !it.not_valid => {
                        probes.push(violations(table, expression, at));
                    }
                    ConstraintKind::ForeignKey {
                        columns,
                        references,
                        to,
                    } if !it.not_valid => {
                        probes.extend(orphans(studied, table, (columns, references, to), at));
                    }
                    ConstraintKind::Unique { .. }
                    | ConstraintKind::Check(_)
                    | ConstraintKind::ForeignKey { .. }
                    | ConstraintKind::Exclude => {}
                },
                Kind::CreateIndex {
                    unique: true,
                    columns: Some(columns),
                    predicate,
                    ..
                } => probes.extend(duplicates(table, columns, predicate.as_deref(), at)),
                _ => {}
            }
        }
    }
    probes
}

fn nulls(table: &Relation, column: &str, at: usize) -> Option<Probe> {
    // A column that the plan adds has no rows to ask.
    let found = table.column(column)?;
    (!found.not_null).then(|| Probe {
        rule: "set-not-null-with-nulls",
        at,
        query: format!(
            "select from {} where {} is null",
            table.full_name().quoted(),
            quote(column)
        ),
        message: format!("{}.{column} holds nulls", table.full_name()),
    })
}

fn duplicates(
    table: &Relation,
    columns: &[String],
    only: Option<&str>,
    at: usize,
) -> Option<Probe> {
    if columns.is_empty() || columns.iter().any(|it| table.column(it).is_none()) {
        return None;
    }
    let list: Vec<_> = columns.iter().map(|it| quote(it)).collect();
    // Nulls differ from one another.
    let known: Vec<_> = list.iter().map(|it| format!("{it} is not null")).collect();
    let only = only.map(|it| format!(" and ({it})")).unwrap_or_default();
    Some(Probe {
        rule: "unique-over-duplicates",
        at,
        query: format!(
            "select from {} where {}{only} group by {} having count(*) > 1",
            table.full_name().quoted(),
            known.join(" and "),
            list.join(", ")
        ),
        message: format!(
            "rows of {} have the same {}",
            table.full_name(),
            columns.join(", ")
        ),
    })
}

fn violations(table: &Relation, expression: &str, at: usize) -> Probe {
    Probe {
        rule: "check-violated",
        at,
        query: format!(
            "select from {} where not ({expression})",
            table.full_name().quoted()
        ),
        message: format!("rows of {} violate {expression}", table.full_name()),
    }
}

fn orphans(
    studied: &Studied<'_>,
    table: &Relation,
    (columns, references, to): (&[String], &Name, &[String]),
    at: usize,
) -> Option<Probe> {
    let Found::There(other) = studied.world.look(references) else {
        return None;
    };
    let key = other.constraints.iter().find(|it| it.kind == 'p');
    let to: Vec<String> = match to {
        [] => key?
            .columns
            .iter()
            .filter_map(|number| other.columns.iter().find(|it| it.number == *number))
            .map(|it| it.name.clone())
            .collect(),
        given => given.to_vec(),
    };
    if columns.len() != to.len() || columns.iter().any(|it| table.column(it).is_none()) {
        return None;
    }
    let known: Vec<_> = columns
        .iter()
        .map(|it| format!("c.{} is not null", quote(it)))
        .collect();
    let equal: Vec<_> = columns
        .iter()
        .zip(&to)
        .map(|(ours, theirs)| format!("p.{} = c.{}", quote(theirs), quote(ours)))
        .collect();
    Some(Probe {
        rule: "foreign-key-orphans",
        at,
        query: format!(
            "select from {} c where {} and not exists (select from {} p where {})",
            table.full_name().quoted(),
            known.join(" and "),
            other.full_name().quoted(),
            equal.join(" and ")
        ),
        message: format!(
            "rows of {} have no row in {}",
            table.full_name(),
            other.full_name()
        ),
    })
}
