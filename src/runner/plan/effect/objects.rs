//! What changes rows, empties, builds anew or drops.

use super::{Reading, Work, concurrent};
use crate::runner::catalog::{Found, Relation};
use crate::runner::plan::lock::LockMode;
use crate::runner::shape::{Dropped, Name, ObjectKind};

impl Reading<'_> {
    pub(super) fn truncate(&mut self, on: &Name, cascade: bool) {
        let table = self.lock_tree(on, LockMode::AccessExclusive);
        if cascade && let Some(table) = table {
            let referring = self.referring(table.oid);
            self.lock_oids(referring, LockMode::AccessExclusive);
        }
    }

    /// INSERT, UPDATE, DELETE, and what their foreign keys look into.
    pub(super) fn change_rows(&mut self, on: &Name, work: Work, children: bool) {
        let relation = match children {
            true => self.lock_tree(on, LockMode::RowExclusive),
            false => self.lock(on, LockMode::RowExclusive),
        };
        if let Some(relation) = relation {
            self.lock_oids(relation.refers_to(), LockMode::RowShare);
        }
        self.work(on, work, "");
    }

    pub(super) fn reindex(&mut self, on: &Name, index: bool, concurrently: bool) {
        let mode = concurrent(concurrently, LockMode::Share);
        if index {
            let relation = self.lock(on, concurrent(concurrently, LockMode::AccessExclusive));
            self.lock_oids(relation.and_then(|it| it.table), mode);
        } else if let Some(table) = self.lock(on, mode)
            && !concurrently
        {
            // Whoever plans a query opens every index, and waits.
            for index in &table.indexes {
                let name = Name::bare(&index.name).beside(&table.full_name());
                self.hold(
                    name.to_string(),
                    LockMode::AccessExclusive,
                    Some(table.oid),
                    false,
                );
            }
        }
        self.work(on, Work::Scan, "the index is built from every row");
    }

    pub(super) fn domain(&mut self, on: Option<&Name>, scans: bool) {
        if !scans {
            return;
        }
        let used = on.and_then(|name| {
            let types = &self.world.catalog()?.types;
            types.get(&name.to_string()).map(|it| it.used_by.clone())
        });
        match used {
            Some(tables) => {
                if !tables.is_empty() {
                    self.effect.work = self.effect.work.max(Work::Scan);
                    self.because("every table with a column of the domain is read");
                }
                self.lock_oids(tables, LockMode::Share);
            }
            None => self.unknown("the tables that use the domain are not known"),
        }
    }

    pub(super) fn drop(&mut self, dropped: &Dropped, on: Option<&Name>) {
        match (dropped.what, on) {
            (ObjectKind::Index, Some(on)) => {
                let mode = concurrent(dropped.concurrently, LockMode::AccessExclusive);
                match self.world.look(on) {
                    Found::There(index) => self.lock_oids(index.table, mode),
                    Found::New => {}
                    Found::Missing if dropped.if_exists => {}
                    Found::Missing | Found::Unknown => {
                        self.lock(on, mode);
                    }
                }
            }
            (_, Some(on)) => {
                if dropped.if_exists && self.world.look(on) == Found::Missing {
                    return;
                }
                let Some(relation) = self.lock(on, LockMode::AccessExclusive) else {
                    return;
                };
                if relation.kind == 'p' || dropped.cascade {
                    self.lock_oids(relation.children.iter().copied(), LockMode::AccessExclusive);
                }
                self.lock_oids(relation.refers_to(), LockMode::AccessExclusive);
                let parents = relation.parents.iter().copied();
                let partitioned =
                    |oid: &u32| self.world.relation(*oid).is_some_and(|it| it.kind == 'p');
                let parents: Vec<_> = parents.filter(partitioned).collect();
                self.lock_oids(parents, LockMode::AccessExclusive);
                if dropped.cascade {
                    let referring = self.referring(relation.oid);
                    self.lock_oids(referring, LockMode::AccessExclusive);
                }
            }
            (ObjectKind::Schema | ObjectKind::Extension | ObjectKind::Owned, None) => {
                self.unknown(format!(
                    "DROP of {} {}: with all that is in it",
                    dropped.what, dropped.name
                ));
            }
            (_, None) if dropped.cascade => {
                self.unknown(format!("DROP of {} {} CASCADE", dropped.what, dropped.name));
            }
            (_, None) => {}
        }
    }

    /// Tables whose foreign keys refer to one.
    pub(super) fn referring(&self, oid: u32) -> Vec<u32> {
        let Some(catalog) = self.world.catalog() else {
            return Vec::new();
        };
        let refers = |it: &&Relation| it.refers_to().any(|to| to == oid);
        catalog
            .relations
            .values()
            .filter(refers)
            .map(|it| it.oid)
            .collect()
    }
}
