//! What checks of the surroundings know: the sessions that ask, the limits, and what files touch.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio_postgres::types::ToSql;

use crate::config::{Backup, Preflight};
use crate::runner::catalog::{Catalog, Found, Reader, Relation};
use crate::runner::connect::{Connector, Session};
use crate::runner::plan::{LockMode, Plan, StudiedStep};
use crate::runner::shape::Act;

/// What checks know that need no plan.
pub(super) struct Ground<'a> {
    /// Sees everybody's transactions, and waits up to ten seconds.
    pub(super) session: &'a Session,
    pub(super) limits: &'a Preflight,
    pub(super) connector: &'a Arc<Connector>,
    pub(super) database: &'a str,
    /// How backups are made, and whether the run makes one.
    pub(super) backup: &'a Backup,
    pub(super) makes_backup: bool,
    /// The role that files run as, if not our own.
    pub(super) owner: Option<&'a str>,
    /// Server processes of this proxy's runs.
    pub(super) own: Vec<i32>,
    /// Whether a file runs in open traffic, for which nobody is waited for.
    pub(super) open: bool,
}

impl Ground<'_> {
    /// The first column of each row.
    pub(super) async fn lines(
        &self,
        sql: &str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<String>, tokio_postgres::Error> {
        let rows = self.session.client.query(sql, parameters).await?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }
}

/// What files do, with what the database said about it.
pub(super) struct Work<'a> {
    pub(super) plan: &'a Plan,
    pub(super) studied: &'a [StudiedStep<'a>],
    pub(super) catalog: &'a Catalog,
    /// Asks as the role that files run as, waits for nobody, and only reads.
    pub(super) reader: &'a Reader,
    /// The strongest lock on each relation that is there.
    touched: BTreeMap<u32, LockMode>,
    /// Whether a statement is not understood, and may touch anything.
    pub(super) unknown: bool,
}

impl<'a> Work<'a> {
    pub(super) fn new(
        plan: &'a Plan,
        studied: &'a [StudiedStep<'a>],
        catalog: &'a Catalog,
        reader: &'a Reader,
    ) -> Self {
        let mut touched = BTreeMap::new();
        let mut unknown = false;
        for statement in studied.iter().flat_map(|it| &it.statements) {
            unknown |= statement.effect.unknown;
            let held = statement.effect.locks.values();
            for (oid, mode) in held.filter_map(|it| Some((it.oid?, it.mode))) {
                let strongest = touched.entry(oid).or_insert(mode);
                *strongest = mode.max(*strongest);
            }
        }
        Self {
            plan,
            studied,
            catalog,
            reader,
            touched,
            unknown,
        }
    }

    /// The relations that are there and are locked at least like this.
    pub(super) fn locked(&self, at_least: LockMode) -> Vec<u32> {
        let strong = self.touched.iter().filter(|(_, mode)| **mode >= at_least);
        strong.map(|(oid, _)| *oid).collect()
    }

    /// The relations whose rows or shape change.
    pub(super) fn changed(&self) -> Vec<u32> {
        self.locked(LockMode::RowExclusive)
    }

    /// Every act on a relation that is there before the first file runs.
    pub(super) fn acts(
        &self,
    ) -> impl Iterator<Item = (&'a StudiedStep<'a>, &'a Act, &'a Relation)> {
        let studied: &'a [StudiedStep<'a>] = self.studied;
        studied.iter().flat_map(|step| {
            step.statements.iter().flat_map(move |statement| {
                statement.acts.iter().filter_map(move |act| {
                    match statement.world.look(act.on.as_ref()?) {
                        Found::There(relation) => Some((step, act, relation)),
                        Found::New | Found::Missing | Found::Unknown => None,
                    }
                })
            })
        })
    }
}

/// Bytes for people.
pub(super) fn bytes(bytes: u64) -> String {
    const UNITS: [(u32, &str); 4] = [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")];
    let unit = UNITS.iter().find(|(shift, _)| bytes >> shift > 0);
    match unit {
        Some((shift, name)) => format!("{} {name}", bytes >> shift),
        None => format!("{bytes} bytes"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_told_in_the_largest_unit_that_fits() {
        let told = [
            (0, "0 bytes"),
            (1023, "1023 bytes"),
            (1024, "1 KiB"),
            (5 << 20, "5 MiB"),
        ];
        for (number, text) in told {
            assert_eq!(bytes(number), text);
        }
        assert_eq!(bytes(u64::MAX), "16777215 TiB");
    }
}
