//! Is there room on the disk for what files build and write again?
//!
//! An index needs a part of its table's size (document 3 says 20 %), a rewrite all of it a second
//! time. What WAL and replicas need comes on top and is not counted.

use std::collections::BTreeMap;

use super::Check;
use super::free::{Free, free};
use super::ground::{Ground, Work, bytes};
use crate::runner::catalog::{Found, Relation};
use crate::runner::plan::Work as Amount;
use crate::runner::shape::{Act, ConstraintKind, Kind};

const NAME: &str = "disk";

/// What one relation needs, in parts of its own size.
#[derive(Clone, Copy, Default)]
struct Needs {
    /// Indexes that are built.
    indexes: u64,
    /// Times that it is written again.
    rewrites: u64,
}

pub(super) async fn check(
    ground: &Ground<'_>,
    work: &Work<'_>,
) -> Result<Check, tokio_postgres::Error> {
    let needs = needs(work);
    let percent = u64::try_from(ground.limits.index_percent).unwrap_or(u64::MAX);
    let by_place = sized(work, &needs, percent).await?;
    let total: u64 = by_place.values().sum();
    if needs.is_empty() {
        return Ok(Check::does_not_apply(
            NAME,
            "nothing is built or written again",
        ));
    }
    let (mut wrong, mut unknown, mut well) = (Vec::new(), Vec::new(), Vec::new());
    for (place, need) in &by_place {
        let told = bytes(*need);
        match free(ground, place).await? {
            Free::Bytes(free) if free < *need => {
                wrong.push(format!("{told} needed and {} free", bytes(free)));
            }
            Free::Bytes(free) => well.push(format!("{told} needed and {} free", bytes(free))),
            Free::NotKnown(why) if *need < ground.limits.disk_unasked => well.push(format!(
                "does not apply: {why}, and {told} is little (migrate.preflight.disk_unasked)"
            )),
            Free::NotKnown(why) => unknown.push(format!("{told} needed; {why}")),
        }
    }
    let check = match unknown.len() {
        0 => Check::of(NAME, wrong, well.join("; ")),
        _ if wrong.is_empty() => Check::not_known(NAME, unknown.join("; ")),
        _ => Check::of(NAME, wrong, "").with_notes(unknown),
    };
    let note = format!("all together {}, WAL not counted", bytes(total));
    Ok(check
        .hint("make room, or name a migrate.preflight.disk_free_command where the disk is not ours")
        .with_notes(vec![note]))
}

/// The relations that need room.
fn needs(work: &Work<'_>) -> BTreeMap<u32, Needs> {
    let mut needs: BTreeMap<u32, Needs> = BTreeMap::new();
    for step in work.studied {
        for statement in &step.statements {
            let rewrite = statement.effect.work == Amount::Rewrite;
            for act in &statement.acts {
                let Some(on) = act.on.as_ref() else { continue };
                let Found::There(relation) = statement.world.look(on) else {
                    continue;
                };
                let relation = table_of(work, relation);
                if !relation.is_table() {
                    continue;
                }
                // Partitions hold the rows.
                for oid in relation.children.iter().chain([&relation.oid]) {
                    let entry = needs.entry(*oid).or_default();
                    entry.indexes += u64::from(builds_index(act));
                    entry.rewrites += u64::from(rewrite && writes(act));
                }
            }
        }
    }
    needs.retain(|_, it| it.indexes + it.rewrites > 0);
    needs
}

/// The table of an index, and of anything else itself.
fn table_of<'a>(work: &Work<'a>, relation: &'a Relation) -> &'a Relation {
    let table = relation
        .table
        .and_then(|it| work.catalog.relations.get(&it));
    table.unwrap_or(relation)
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "it names the few kinds of acts that it is about"
)]
fn builds_index(act: &Act) -> bool {
    match &act.kind {
        Kind::CreateIndex { .. } | Kind::Reindex { .. } => true,
        Kind::AddConstraint(constraint) => matches!(
            constraint.kind,
            ConstraintKind::Unique {
                using_index: false,
                ..
            } | ConstraintKind::Exclude
        ),
        _ => false,
    }
}

/// Whether an act of a statement that rewrites may be the one that does.
fn writes(act: &Act) -> bool {
    !matches!(
        act.kind,
        Kind::Read | Kind::ReadForUpdate | Kind::Lock(_) | Kind::Annotate
    )
}

/// How much is needed at each place: the directory of a tablespace, empty for the data directory.
///
/// These sizes wait for whoever alters the table, up to the session's lock_timeout.
async fn sized(
    work: &Work<'_>,
    needs: &BTreeMap<u32, Needs>,
    percent: u64,
) -> Result<BTreeMap<String, u64>, tokio_postgres::Error> {
    let sql = "select c.oid, pg_catalog.pg_table_size(c.oid), \
                      pg_catalog.pg_total_relation_size(c.oid), \
                      pg_catalog.pg_tablespace_location(case c.reltablespace when 0 \
                          then d.dattablespace else c.reltablespace end) \
               from pg_catalog.pg_class c cross join pg_catalog.pg_database d \
               where d.datname = pg_catalog.current_database() and c.oid = any ($1)";
    let oids: Vec<u32> = needs.keys().copied().collect();
    let mut by_place: BTreeMap<String, u64> = BTreeMap::new();
    for row in work.reader.client().query(sql, &[&oids]).await? {
        let size = |at: usize| u64::try_from(row.get::<_, i64>(at)).unwrap_or(0);
        let needs = needs.get(&row.get(0)).copied().unwrap_or_default();
        let index = size(1).saturating_mul(percent) / 100;
        let need = index
            .saturating_mul(needs.indexes)
            .saturating_add(size(2).saturating_mul(needs.rewrites));
        let place = by_place.entry(row.get(3)).or_default();
        *place = place.saturating_add(need);
    }
    Ok(by_place)
}
