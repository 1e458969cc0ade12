//! What each kind of statement does to the table it is about; the longer ones have functions of their own.

use super::{Reading, Work, concurrent};
use crate::runner::catalog::Found;
use crate::runner::plan::lock::LockMode;
use crate::runner::plan::types::BUILTIN;
use crate::runner::shape::{Kind, Name, Renamed};

impl Reading<'_> {
    pub(super) fn on(&mut self, kind: &Kind, on: &Name) {
        use LockMode::{
            AccessExclusive, AccessShare, Exclusive, RowExclusive, RowShare, ShareRowExclusive,
            ShareUpdateExclusive,
        };
        match kind {
            Kind::CreateTable {
                constraints,
                partition_of,
                inherits,
                ..
            } => self.create_table(constraints, partition_of.as_ref(), inherits),
            Kind::CreateView { .. } => {
                if let Found::There(view) = self.world.look(on) {
                    self.lock_relation(view, AccessExclusive);
                }
            }
            Kind::CreateOther => {}
            Kind::CreateIndex { concurrently, .. } => {
                self.lock_tree(on, concurrent(*concurrently, LockMode::Share));
                self.work(on, Work::Scan, "the index is built from every row");
            }
            Kind::AddColumn(column, constraints) => self.add_column(on, column, constraints),
            Kind::SetType { column, ty, using } => self.set_type(on, column, ty, using.as_deref()),
            Kind::SetNotNull { column } => self.set_not_null(on, column),
            Kind::AddConstraint(constraint) => self.add_constraint(on, constraint),
            Kind::Validate { constraint } => self.validate(on, constraint),
            Kind::DropConstraint { constraint, .. } => self.drop_constraint(on, constraint),
            Kind::Attach { partition } => self.attach(on, partition),
            Kind::Detach {
                partition,
                concurrently,
            } => {
                let parent = self.lock(on, concurrent(*concurrently, AccessExclusive));
                self.lock_oids(parent.and_then(|it| it.default_partition), AccessExclusive);
                self.lock(partition, AccessExclusive);
            }
            Kind::Inherit { parent, end } => {
                self.lock(on, AccessExclusive);
                let mode = if *end {
                    AccessShare
                } else {
                    ShareUpdateExclusive
                };
                self.lock(parent, mode);
            }
            Kind::Rename {
                what: Renamed::Relation,
                ..
            } if self.is_index(on) => {
                self.lock(on, ShareUpdateExclusive);
            }
            Kind::Rename {
                what: Renamed::Column(_),
                ..
            }
            | Kind::DropColumn { .. }
            | Kind::Change(_) => {
                self.lock_tree(on, AccessExclusive);
            }
            Kind::Rename { .. }
            | Kind::SetSchema { .. }
            | Kind::RowSecurity
            | Kind::TriggerOrRule(_)
            | Kind::Policy => {
                self.lock(on, AccessExclusive);
            }
            Kind::Rewrite(what) => {
                self.lock_tree(on, AccessExclusive);
                self.work(on, Work::Rewrite, what);
            }
            Kind::Tune | Kind::Annotate => {
                self.lock(on, ShareUpdateExclusive);
            }
            Kind::ToggleTrigger { .. } | Kind::CreateTrigger => {
                self.lock_tree(on, ShareRowExclusive);
            }
            Kind::AlterSequence => {
                self.lock(on, ShareRowExclusive);
            }
            Kind::Truncate { cascade } => self.truncate(on, *cascade),
            Kind::Insert { from_query } => {
                let work = if *from_query { Work::Rows } else { Work::None };
                self.change_rows(on, work, false);
            }
            Kind::Update { .. } | Kind::Delete { .. } | Kind::Merge => {
                self.change_rows(on, Work::Rows, true);
            }
            Kind::Read => {
                self.lock(on, AccessShare);
            }
            Kind::ReadForUpdate => {
                self.lock(on, RowShare);
            }
            Kind::Lock(mode) => {
                self.lock_tree(on, *mode);
            }
            Kind::Cluster | Kind::Vacuum { full: true } => {
                self.lock(on, AccessExclusive);
                self.work(on, Work::Rewrite, "every row is written again");
            }
            Kind::Vacuum { full: false } | Kind::Analyze => {
                self.lock(on, ShareUpdateExclusive);
                self.work(on, Work::Scan, "");
            }
            Kind::Refresh { concurrently } => {
                let mode = if *concurrently {
                    Exclusive
                } else {
                    AccessExclusive
                };
                self.lock(on, mode);
                self.work(on, Work::Rewrite, "the view is computed anew");
            }
            Kind::Reindex {
                index,
                concurrently,
            } => self.reindex(on, *index, *concurrently),
            Kind::Unknown(_)
            | Kind::Dynamic
            | Kind::Call(_)
            | Kind::NoTable(_)
            | Kind::Setting { .. }
            | Kind::EnumValue { .. }
            | Kind::Domain { .. }
            | Kind::Drop(_) => {
                debug_assert!(false, "taken before");
                self.lock(on, RowExclusive);
            }
        }
    }

    /// Functions of the server's own lock no table, and what is not volatile cannot write.
    pub(super) fn call(&mut self, function: &Name) {
        let known = self
            .world
            .catalog()
            .and_then(|it| it.functions.get(function));
        let harmless = match known {
            Some(it) => it.builtin || it.volatile != 'v',
            None => BUILTIN.contains(&function.name.as_str()),
        };
        if !harmless {
            self.unknown(format!("{function}() may do anything"));
        }
    }
}
