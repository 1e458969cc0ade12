//! `CREATE TABLE` and `ALTER TABLE`: columns, constraints, partitions.

use squawk_syntax::{SyntaxKind, SyntaxNode};

use super::kind::{ConstraintKind, Kind, NewColumn, NewConstraint, Renamed};
use super::name::Name;
use super::tree::{bare, calls, child, columns, has, name, names, text};

/// What `CREATE TABLE` makes.
pub(super) fn create(node: &SyntaxNode) -> Kind {
    let list = child(node, SyntaxKind::TABLE_ARG_LIST);
    let args: Vec<_> = list.into_iter().flat_map(|it| it.children()).collect();
    let mut made = Vec::new();
    let mut constraints = Vec::new();
    for arg in &args {
        if arg.kind() == SyntaxKind::COLUMN {
            let (column, more) = column(arg);
            made.push(column);
            constraints.extend(more);
        } else {
            constraints.extend(constraint(arg, None));
        }
    }
    Kind::CreateTable {
        columns: made,
        constraints,
        partition_of: child(node, SyntaxKind::PARTITION_OF).and_then(|it| name(&it)),
        inherits: child(node, SyntaxKind::INHERITS)
            .map(|it| names(&it, SyntaxKind::TABLE_NAME_REF))
            .unwrap_or_default(),
    }
}

/// A column with the constraints that are written at it: under `ADD COLUMN` or `CREATE TABLE`.
fn column(node: &SyntaxNode) -> (NewColumn, Vec<NewConstraint>) {
    let name = bare(node, SyntaxKind::COLUMN_NAME).unwrap_or_default();
    let ty = node.children().find(is_type).map(|it| text(&it));
    let ty = ty.unwrap_or_default();
    let default = child(node, SyntaxKind::DEFAULT_CONSTRAINT);
    let expression = default.as_ref().and_then(|it| it.last_child());
    let generated = child(node, SyntaxKind::GENERATED_CONSTRAINT);
    // A virtual column (PostgreSQL 18) is computed when it is read.
    let filled = generated.is_some_and(|it| !text(&it).to_lowercase().ends_with("virtual"));
    let serial = ty.to_lowercase().ends_with("serial")
        || matches!(
            ty.to_lowercase().as_str(),
            "serial2" | "serial4" | "serial8"
        );
    let column = NewColumn {
        ty,
        not_null: has(node, SyntaxKind::NOT_NULL_CONSTRAINT)
            || has(node, SyntaxKind::PRIMARY_KEY_CONSTRAINT),
        filled: filled || serial,
        calls: expression.as_ref().map(calls).unwrap_or_default(),
        default: expression.as_ref().map(text),
        name: name.clone(),
    };
    let constraints = node
        .children()
        // Part of the column, and no scan: its values are known.
        .filter(|it| it.kind() != SyntaxKind::NOT_NULL_CONSTRAINT)
        .filter_map(|it| constraint(&it, Some(&name)))
        .collect();
    (column, constraints)
}

fn is_type(node: &SyntaxNode) -> bool {
    format!("{:?}", node.kind()).ends_with("_TYPE")
}

/// A constraint, at a column or of the table.
fn constraint(node: &SyntaxNode, column: Option<&str>) -> Option<NewConstraint> {
    let own = || column.map(str::to_owned).into_iter().collect::<Vec<_>>();
    let listed = |list: Option<SyntaxNode>| match list.as_ref().map(columns) {
        Some(found) if !found.is_empty() => found,
        Some(_) | None => own(),
    };
    let kind = match node.kind() {
        SyntaxKind::CHECK_CONSTRAINT => {
            let expression = node.children().find(|it| {
                !matches!(
                    it.kind(),
                    SyntaxKind::CONSTRAINT_NAME_CLAUSE | SyntaxKind::NOT_VALID
                )
            })?;
            ConstraintKind::Check(text(&expression))
        }
        SyntaxKind::UNIQUE_CONSTRAINT | SyntaxKind::PRIMARY_KEY_CONSTRAINT => {
            ConstraintKind::Unique {
                columns: listed(child(node, SyntaxKind::INDEX_PARAMETERS)),
                primary: node.kind() == SyntaxKind::PRIMARY_KEY_CONSTRAINT,
                using_index: has(node, SyntaxKind::USING_INDEX_NAME),
            }
        }
        SyntaxKind::FOREIGN_KEY_CONSTRAINT => {
            let mut lists = node
                .children()
                .filter(|it| it.kind() == SyntaxKind::FOREIGN_KEY_COLUMN_LIST);
            ConstraintKind::ForeignKey {
                columns: lists.next().as_ref().map(columns).unwrap_or_default(),
                references: child(node, SyntaxKind::TABLE_NAME_REF).and_then(|it| name(&it))?,
                to: lists.next().as_ref().map(columns).unwrap_or_default(),
            }
        }
        SyntaxKind::REFERENCES_CONSTRAINT => ConstraintKind::ForeignKey {
            columns: own(),
            references: child(node, SyntaxKind::TABLE_NAME_REF).and_then(|it| name(&it))?,
            to: columns(node),
        },
        SyntaxKind::NOT_NULL_CONSTRAINT => {
            ConstraintKind::NotNull(columns(node).pop().or_else(|| column.map(str::to_owned))?)
        }
        SyntaxKind::EXCLUDE_CONSTRAINT => ConstraintKind::Exclude,
        _ => return None,
    };
    Some(NewConstraint {
        name: child(node, SyntaxKind::CONSTRAINT_NAME_CLAUSE)
            .and_then(|it| bare(&it, SyntaxKind::CONSTRAINT_NAME)),
        kind,
        not_valid: has(node, SyntaxKind::NOT_VALID),
    })
}

/// One action of `ALTER TABLE`.
pub(super) fn action(node: &SyntaxNode) -> Kind {
    let cascade = || has(node, SyntaxKind::CASCADE);
    let unknown = || Kind::Unknown(headline(node));
    match node.kind() {
        SyntaxKind::ADD_COLUMN => {
            let (column, constraints) = column(node);
            Kind::AddColumn(column, constraints)
        }
        SyntaxKind::DROP_COLUMN => match bare(node, SyntaxKind::COLUMN_NAME_REF) {
            Some(column) => Kind::DropColumn {
                column,
                cascade: cascade(),
            },
            None => unknown(),
        },
        SyntaxKind::ALTER_COLUMN => alter_column(node).unwrap_or_else(unknown),
        SyntaxKind::ADD_CONSTRAINT => node
            .first_child()
            .and_then(|it| constraint(&it, None))
            .map_or_else(unknown, Kind::AddConstraint),
        SyntaxKind::VALIDATE_CONSTRAINT => bare(node, SyntaxKind::CONSTRAINT_NAME_REF)
            .map_or_else(unknown, |constraint| Kind::Validate { constraint }),
        SyntaxKind::DROP_CONSTRAINT => match bare(node, SyntaxKind::CONSTRAINT_NAME_REF) {
            Some(constraint) => Kind::DropConstraint {
                constraint,
                cascade: cascade(),
            },
            None => unknown(),
        },
        SyntaxKind::ATTACH_PARTITION => child(node, SyntaxKind::TABLE_NAME_REF)
            .and_then(|it| name(&it))
            .map_or_else(unknown, |partition| Kind::Attach { partition }),
        SyntaxKind::DETACH_PARTITION => child(node, SyntaxKind::TABLE_NAME_REF)
            .and_then(|it| name(&it))
            .map_or_else(unknown, |partition| Kind::Detach {
                partition,
                concurrently: has(node, SyntaxKind::DETACH_CONCURRENTLY),
            }),
        SyntaxKind::INHERIT_TABLE | SyntaxKind::NO_INHERIT_TABLE => {
            name(node).map_or_else(unknown, |_| {
                let parent = child(node, SyntaxKind::TABLE_NAME_REF).and_then(|it| name(&it));
                parent.map_or_else(unknown, |parent| Kind::Inherit {
                    parent,
                    end: node.kind() == SyntaxKind::NO_INHERIT_TABLE,
                })
            })
        }
        SyntaxKind::ENABLE_TRIGGER
        | SyntaxKind::ENABLE_ALWAYS_TRIGGER
        | SyntaxKind::ENABLE_REPLICA_TRIGGER => Kind::ToggleTrigger { enable: true },
        SyntaxKind::DISABLE_TRIGGER => Kind::ToggleTrigger { enable: false },
        SyntaxKind::ENABLE_RLS
        | SyntaxKind::DISABLE_RLS
        | SyntaxKind::FORCE_RLS
        | SyntaxKind::NO_FORCE_RLS => Kind::RowSecurity,
        SyntaxKind::SET_LOGGED => Kind::Rewrite("SET LOGGED"),
        SyntaxKind::SET_UNLOGGED => Kind::Rewrite("SET UNLOGGED"),
        SyntaxKind::SET_ACCESS_METHOD => Kind::Rewrite("SET ACCESS METHOD"),
        SyntaxKind::SET_TABLESPACE => Kind::Rewrite("SET TABLESPACE"),
        SyntaxKind::CLUSTER_ON | SyntaxKind::SET_WITHOUT_CLUSTER => Kind::Tune,
        SyntaxKind::SET_OPTIONS | SyntaxKind::RESET_OPTIONS => options(node),
        other => rename(node).unwrap_or_else(|| match other {
            SyntaxKind::SET_SCHEMA => {
                bare(node, SyntaxKind::SCHEMA_REF).map_or_else(unknown, |to| Kind::SetSchema { to })
            }
            SyntaxKind::OWNER_TO
            | SyntaxKind::REPLICA_IDENTITY
            | SyntaxKind::OF_TYPE
            | SyntaxKind::NOT_OF
            | SyntaxKind::ENABLE_RULE
            | SyntaxKind::ENABLE_ALWAYS_RULE
            | SyntaxKind::ENABLE_REPLICA_RULE
            | SyntaxKind::DISABLE_RULE
            | SyntaxKind::ALTER_CONSTRAINT
            | SyntaxKind::SET_WITHOUT_OIDS
            | SyntaxKind::ALTER_OPTION_LIST => Kind::Change(headline(node)),
            _ => unknown(),
        }),
    }
}

/// `RENAME TO`, of whatever relation, column or constraint.
pub(super) fn rename(node: &SyntaxNode) -> Option<Kind> {
    let (what, to) = match node.kind() {
        SyntaxKind::TABLE_RENAME_TO => (Renamed::Relation, SyntaxKind::TABLE_NAME),
        SyntaxKind::VIEW_RENAME_TO => (Renamed::Relation, SyntaxKind::VIEW),
        SyntaxKind::INDEX_RENAME_TO => (Renamed::Relation, SyntaxKind::INDEX),
        SyntaxKind::SEQUENCE_RENAME_TO => (Renamed::Relation, SyntaxKind::SEQUENCE),
        SyntaxKind::RENAME_COLUMN => {
            let column = bare(node, SyntaxKind::COLUMN_NAME_REF)?;
            (Renamed::Column(column), SyntaxKind::COLUMN_NAME)
        }
        SyntaxKind::RENAME_CONSTRAINT => (Renamed::Other, SyntaxKind::CONSTRAINT_NAME),
        _ => return None,
    };
    let to = bare(node, to)?;
    Some(Kind::Rename { what, to })
}

fn alter_column(node: &SyntaxNode) -> Option<Kind> {
    let column = bare(node, SyntaxKind::COLUMN_NAME_REF)?;
    let option = node.children().last()?;
    Some(match option.kind() {
        SyntaxKind::SET_TYPE => Kind::SetType {
            column,
            ty: option.children().find(is_type).map(|it| text(&it))?,
            using: child(&option, SyntaxKind::USING_EXPR)
                .and_then(|it| it.first_child())
                .map(|it| text(&it)),
        },
        SyntaxKind::SET_NOT_NULL => Kind::SetNotNull { column },
        SyntaxKind::SET_STATISTICS => Kind::Tune,
        // SET (n_distinct = ...): attribute options.
        SyntaxKind::SET_OPTIONS | SyntaxKind::SET_OPTIONS_LIST | SyntaxKind::RESET_OPTIONS => {
            Kind::Tune
        }
        SyntaxKind::SET_EXPRESSION => Kind::Rewrite("SET EXPRESSION"),
        SyntaxKind::DROP_DEFAULT
        | SyntaxKind::SET_DEFAULT
        | SyntaxKind::DROP_NOT_NULL
        | SyntaxKind::DROP_EXPRESSION
        | SyntaxKind::DROP_IDENTITY
        | SyntaxKind::ADD_GENERATED
        | SyntaxKind::SET_GENERATED
        | SyntaxKind::SET_GENERATED_OPTIONS
        | SyntaxKind::SET_SEQUENCE_OPTION
        | SyntaxKind::RESTART
        | SyntaxKind::SET_STORAGE
        | SyntaxKind::SET_COMPRESSION => Kind::Change(headline(&option)),
        _ => return None,
    })
}

/// Storage parameters that the server sets behind `ShareUpdateExclusive`, by the lists in
/// `reloptions.c`; all others are behind the strongest lock.
fn options(node: &SyntaxNode) -> Kind {
    let light = |name: &str| {
        name.starts_with("autovacuum_")
            || name.starts_with("toast.autovacuum_")
            || matches!(
                name,
                "fillfactor"
                    | "toast_tuple_target"
                    | "parallel_workers"
                    | "vacuum_index_cleanup"
                    | "vacuum_truncate"
                    | "log_autovacuum_min_duration"
            )
    };
    let mut named = node
        .descendants()
        .filter(|it| it.kind() == SyntaxKind::ATTRIBUTE_NAME)
        .map(|it| text(&it).to_lowercase());
    match named.all(|name| light(&name)) {
        true => Kind::Tune,
        false => Kind::Change("SET (...)".to_owned()),
    }
}

/// The first words of a node: never more, since statements may hold secrets.
pub(super) fn headline(node: &SyntaxNode) -> String {
    crate::runner::script::headline(&text(node))
}

/// The table that a statement is about.
pub(super) fn target(node: &SyntaxNode) -> Option<Name> {
    let kinds = [
        SyntaxKind::TABLE_RELATION_NAME,
        SyntaxKind::RELATION_NAME,
        SyntaxKind::RELATION_NAME_REF,
        SyntaxKind::TABLE_NAME_REF,
        SyntaxKind::TABLE_NAME,
    ];
    kinds.iter().find_map(|kind| name(&child(node, *kind)?))
}
