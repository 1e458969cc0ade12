//! CREATE TABLE, and the forms of ALTER TABLE that are more than a lock.

use super::{Reading, Work};
use crate::runner::catalog::{Constraint, Relation};
use crate::runner::plan::lock::LockMode;
use crate::runner::plan::types::{is_volatile, rewrites};
use crate::runner::shape::{ConstraintKind, Name, NewColumn, NewConstraint};

impl Reading<'_> {
    pub(super) fn create_table(
        &mut self,
        constraints: &[NewConstraint],
        parent: Option<&Name>,
        inherits: &[Name],
    ) {
        for parent in inherits {
            self.lock(parent, LockMode::ShareUpdateExclusive);
        }
        if let Some(parent) = parent {
            let relation = self.lock(parent, LockMode::AccessExclusive);
            let default = relation.and_then(|it| it.default_partition);
            self.lock_oids(default, LockMode::AccessExclusive);
            if default.is_some() {
                self.work(
                    parent,
                    Work::Scan,
                    "the default partition is searched for its rows",
                );
            }
        }
        for constraint in constraints {
            if let ConstraintKind::ForeignKey { references, .. } = &constraint.kind {
                self.lock(references, LockMode::ShareRowExclusive);
            }
        }
    }

    pub(super) fn add_column(
        &mut self,
        on: &Name,
        column: &NewColumn,
        constraints: &[NewConstraint],
    ) {
        self.lock_tree(on, LockMode::AccessExclusive);
        if column.filled {
            self.work(on, Work::Rewrite, "every row gets a value of its own");
        }
        for function in &column.calls {
            match is_volatile(self.world.catalog(), function) {
                Some(false) => {}
                Some(true) => {
                    self.work(
                        on,
                        Work::Rewrite,
                        &format!("the default calls {function}(), which is volatile"),
                    );
                }
                None => {
                    self.work(
                        on,
                        Work::Rewrite,
                        &format!("it is not known whether {function}() is volatile"),
                    );
                }
            }
        }
        let ty = self.world.catalog().and_then(|it| it.types.get(&column.ty));
        if ty.is_some_and(|it| it.constrained_domain) {
            self.work(on, Work::Rewrite, "the type is a domain with a constraint");
        }
        for constraint in constraints {
            match &constraint.kind {
                ConstraintKind::ForeignKey { references, .. } => {
                    self.lock(references, LockMode::ShareRowExclusive);
                    // Without a default all values are null, and nothing has to be looked up.
                    if column.default.is_some() {
                        self.work(on, Work::Scan, "every row is looked up in the other table");
                    }
                }
                ConstraintKind::Check(_)
                | ConstraintKind::Unique { .. }
                | ConstraintKind::Exclude => {
                    self.work(on, Work::Scan, "every row is checked");
                }
                ConstraintKind::NotNull(_) => {}
            }
        }
    }

    pub(super) fn set_type(&mut self, on: &Name, column: &str, ty: &str, using: Option<&str>) {
        let relation = self.lock_tree(on, LockMode::AccessExclusive);
        let from = relation
            .and_then(|it| it.column(column))
            .map(|it| it.ty.as_str());
        let plain = using
            .is_none_or(|it| Name::parse(it) == Some(Name::bare(column)) && !it.contains("::"));
        match (plain, from) {
            (false, _) => self.work(on, Work::Rewrite, "USING computes every row anew"),
            (true, Some(from)) if !rewrites(from, ty) => {}
            (true, from) => {
                let from = from.unwrap_or("its type");
                self.work(on, Work::Rewrite, &format!("{column} from {from} to {ty}"));
            }
        }
    }

    pub(super) fn set_not_null(&mut self, on: &Name, column: &str) {
        let relation = self.lock_tree(on, LockMode::AccessExclusive);
        let proved = relation.is_some_and(|table| {
            table.column(column).is_some_and(|column| {
                let says =
                    |it: &Constraint| it.validated && it.says_not_null == Some(column.number);
                column.not_null || table.constraints.iter().any(says)
            })
        });
        if !proved {
            self.work(
                on,
                Work::Scan,
                &format!("every row is read for nulls of {column}"),
            );
        }
    }

    pub(super) fn add_constraint(&mut self, on: &Name, constraint: &NewConstraint) {
        let scan = match &constraint.kind {
            ConstraintKind::ForeignKey { references, .. } => {
                self.lock_tree(on, LockMode::ShareRowExclusive);
                self.lock(references, LockMode::ShareRowExclusive);
                "every row is looked up in the other table"
            }
            ConstraintKind::Unique { using_index, .. } => {
                self.lock_tree(on, LockMode::AccessExclusive);
                if *using_index {
                    return;
                }
                "the index is built from every row"
            }
            ConstraintKind::Check(_) | ConstraintKind::NotNull(_) | ConstraintKind::Exclude => {
                self.lock_tree(on, LockMode::AccessExclusive);
                "every row is checked"
            }
        };
        if !constraint.not_valid {
            self.work(on, Work::Scan, scan);
        }
    }

    pub(super) fn validate(&mut self, on: &Name, constraint: &str) {
        let relation = self.lock_tree(on, LockMode::ShareUpdateExclusive);
        let other = relation.and_then(|it| it.constraint(constraint)?.references);
        self.lock_oids(other, LockMode::RowShare);
        self.work(on, Work::Scan, "every row is checked");
    }

    pub(super) fn drop_constraint(&mut self, on: &Name, constraint: &str) {
        let relation = self.lock_tree(on, LockMode::AccessExclusive);
        let Some(table) = relation else {
            return;
        };
        match table.constraint(constraint) {
            Some(it) => self.lock_oids(it.references, LockMode::AccessExclusive),
            // A foreign key would lock its other table too.
            None => self.because(format!(
                "{constraint} is not known: if it is a foreign key, its other table is locked too"
            )),
        }
    }

    pub(super) fn attach(&mut self, on: &Name, partition: &Name) {
        let parent = self.lock(on, LockMode::ShareUpdateExclusive);
        self.lock_tree(partition, LockMode::AccessExclusive);
        if self.is_index(on) {
            return;
        }
        self.lock_oids(
            parent.and_then(|it| it.default_partition),
            LockMode::AccessExclusive,
        );
        self.lock_oids(
            parent.into_iter().flat_map(Relation::refers_to),
            LockMode::ShareRowExclusive,
        );
        self.work(
            partition,
            Work::Scan,
            "every row is checked, unless a CHECK already says it",
        );
    }
}
