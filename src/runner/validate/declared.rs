//! What a file says it changes: by its statements, and by `-- pgdrain:changes`.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "it names the few kinds of acts that it is about"
)]

use std::collections::BTreeSet;

use crate::runner::directives::Changes;
use crate::runner::script::Script;
use crate::runner::shape::{Act, Granted, Kind, Name, ObjectKind, Renamed, granted, read};

/// What may be another afterwards. A name without a schema stands for it in every schema.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::runner) struct Declared {
    grants: BTreeSet<Name>,
    owners: BTreeSet<Name>,
    row_security: BTreeSet<Name>,
    views: BTreeSet<Name>,
    writes: BTreeSet<Name>,
    constraints: BTreeSet<Name>,
    indexes: BTreeSet<Name>,
    /// Schemas all of whose grants may change, and schemas that go.
    schemas_granted: BTreeSet<String>,
    schemas_dropped: BTreeSet<String>,
    /// Whatever a role has goes.
    everything: bool,
    /// Constraints that are added NOT VALID: tables of those without a name.
    not_valid: BTreeSet<String>,
    not_valid_of: BTreeSet<Name>,
    /// In order, columns that get another name, and those that go, which have none.
    columns: Vec<(Name, String, Option<String>)>,
    /// Every relation that a statement is about.
    pub(in crate::runner) touches: BTreeSet<Name>,
    /// Whether it cannot be told what a statement touches.
    pub(in crate::runner) unknown: bool,
}

impl Declared {
    /// What a script says.
    pub(in crate::runner) fn of(script: &Script) -> Self {
        let mut declared = Self::default();
        for statement in script.statements() {
            let sql = script.sql(statement);
            for act in read(sql) {
                declared.act(&act);
            }
            for it in granted(sql) {
                match it {
                    Granted::Named(names) => declared.grants.extend(names),
                    Granted::InSchemas(schemas) => declared.schemas_granted.extend(schemas),
                }
            }
        }
        for it in &script.directives().changes {
            let names = it.value.names.iter().cloned();
            match it.value.what {
                Changes::Grants => declared.grants.extend(names),
                Changes::Owner => declared.owners.extend(names),
                Changes::RowSecurity => declared.row_security.extend(names),
                Changes::View => declared.views.extend(names),
                Changes::Writes => declared.writes.extend(names),
                Changes::Constraint => declared.constraints.extend(names),
                Changes::Index => declared.indexes.extend(names),
            }
        }
        declared
    }

    fn act(&mut self, act: &Act) {
        self.touches.extend(act.on.iter().cloned());
        match (&act.kind, &act.on) {
            (Kind::Unknown(text), _) => {
                self.unknown = true;
                self.everything |= text.to_lowercase().starts_with("reassign");
            }
            (Kind::Dynamic, _) => self.unknown = true,
            (Kind::Policy | Kind::RowSecurity, Some(on)) => {
                self.row_security.insert(on.clone());
            }
            (Kind::Change(text), Some(on)) => {
                if text.to_lowercase().starts_with("owner") {
                    self.owners.insert(on.clone());
                }
                self.views.insert(on.clone());
            }
            (Kind::AlterSequence, Some(on)) => {
                self.owners.insert(on.clone());
            }
            (Kind::AddConstraint(it), Some(on)) if it.not_valid => match &it.name {
                Some(name) => {
                    self.not_valid.insert(name.clone());
                }
                None => {
                    self.not_valid_of.insert(on.clone());
                }
            },
            (Kind::DropColumn { column, .. }, Some(on)) => {
                self.columns.push((on.clone(), column.clone(), None));
            }
            (Kind::Rename { what, to }, Some(on)) => {
                if let Renamed::Column(from) = what {
                    let renamed = (on.clone(), from.clone(), Some(to.clone()));
                    self.columns.push(renamed);
                }
                self.views.insert(on.clone());
            }
            (Kind::Drop(it), _) => match it.what {
                ObjectKind::View | ObjectKind::MaterializedView => {
                    self.views.insert(it.name.clone());
                }
                ObjectKind::Schema => {
                    self.schemas_dropped.insert(it.name.name.clone());
                }
                ObjectKind::Owned | ObjectKind::Extension => self.everything = true,
                _ => {}
            },
            (
                Kind::CreateView { .. }
                | Kind::CreateOther
                | Kind::Tune
                | Kind::SetSchema { .. }
                | Kind::SetType { .. },
                Some(on),
            ) => {
                self.views.insert(on.clone());
            }
            _ => {}
        }
    }

    pub(super) fn grants(&self, name: &Name) -> bool {
        let schema = name.schema.as_ref();
        self.everything
            || has(&self.grants, name)
            || schema.is_some_and(|it| self.schemas_granted.contains(it))
    }

    pub(super) fn owner(&self, name: &Name) -> bool {
        self.everything || has(&self.owners, name)
    }

    pub(super) fn row_security(&self, name: &Name) -> bool {
        has(&self.row_security, name)
    }

    pub(super) fn view(&self, name: &Name) -> bool {
        let schema = name.schema.as_ref();
        self.everything
            || has(&self.views, name)
            || schema.is_some_and(|it| self.schemas_dropped.contains(it))
    }

    pub(super) fn writes(&self, name: &Name) -> bool {
        has(&self.writes, name)
    }

    pub(super) fn constraint(&self, table: &Name, constraint: &str) -> bool {
        has(&self.constraints, table)
            || self.not_valid.contains(constraint)
            || has(&self.not_valid_of, table)
    }

    /// What a column is called afterwards; none if it is dropped. Its table may have two names.
    pub(super) fn column_now<'a>(&'a self, table: &[Name; 2], column: &'a str) -> Option<&'a str> {
        let is_of = |on: &Name| table.iter().any(|it| means(on, it));
        let mut column = column;
        for (on, from, to) in &self.columns {
            if from == column && is_of(on) {
                column = to.as_deref()?;
            }
        }
        Some(column)
    }

    pub(super) fn index(&self, index: &Name, table: &Name) -> bool {
        has(&self.indexes, index) || has(&self.indexes, table)
    }
}

fn has(names: &BTreeSet<Name>, name: &Name) -> bool {
    names.iter().any(|it| means(it, name))
}

/// Whether a name in a file stands for this one.
fn means(written: &Name, name: &Name) -> bool {
    written.name == name.name && (written.schema.is_none() || written.schema == name.schema)
}
