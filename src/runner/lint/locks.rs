//! Rules about locks and work, by the effect that the plan has found.

use super::{File, Hit, place};
use crate::runner::catalog::Found;
use crate::runner::plan::{LockMode, Needs, Studied, Work, is_large, needs};
use crate::runner::shape::{Act, Kind};

pub(super) fn check(file: &File<'_>, hits: &mut Vec<Hit>) {
    for studied in file.statements {
        let at = studied.statement.range.start;
        blocking(file, studied, hits);
        let effect = &studied.effect;
        let why = effect.reasons.join("; ");
        if effect.unknown {
            hits.push(Hit::new("unknown-statement", at, why.clone()));
        } else if effect.work == Work::Rewrite && !is_own_rule(studied) {
            let hit = Hit::new("table-rewrite", at, why.clone());
            hits.push(sized(studied, hit));
        } else if effect.work == Work::Scan && keeps_out(studied) && !is_own_rule(studied) {
            hits.push(sized(studied, Hit::new("table-scan", at, why.clone())));
        }
        relations(studied, hits);
    }
}

/// A lock that is stronger than the traffic that goes on beside it.
fn blocking(file: &File<'_>, studied: &Studied<'_>, hits: &mut Vec<Hit>) {
    if studied.effect.unknown || needs(studied) <= file.traffic {
        return;
    }
    for (relation, held) in &studied.effect.locks {
        let (blocks, who) = match file.traffic {
            Needs::Open if held.mode.blocks_reads() => (true, "reads and writes wait"),
            Needs::Open => (held.mode.blocks_writes(), "writes wait"),
            Needs::ReadOnly => (held.mode.blocks_reads(), "reads wait"),
            Needs::Exclusive => (false, ""),
        };
        if blocks && !held.new {
            let message = format!("takes {} on {relation}: {who}", held.mode);
            let at = studied.statement.range.start;
            hits.push(Hit::new("blocking-lock", at, message));
            // One is enough to send the file into a window.
            return;
        }
    }
}

/// Whether a lock keeps others out of a table while the work is done.
fn keeps_out(studied: &Studied<'_>) -> bool {
    let mut held = studied.effect.locks.values().filter(|it| !it.new);
    held.any(|it| it.mode >= LockMode::Share)
}

/// What has a rule of its own, which says more.
fn is_own_rule(studied: &Studied<'_>) -> bool {
    studied.acts.iter().any(|act| {
        matches!(
            act.kind,
            Kind::Cluster
                | Kind::Vacuum { .. }
                | Kind::Refresh { .. }
                | Kind::Reindex { .. }
                | Kind::Attach { .. }
                | Kind::CreateIndex { .. }
                | Kind::Rewrite("SET TABLESPACE")
        )
    })
}

/// Where every table that is locked is known to be small, it matters less.
fn sized(studied: &Studied<'_>, hit: Hit) -> Hit {
    let mut held = studied.effect.locks.values().filter(|it| !it.new);
    let small = held.all(|held| {
        let relation = held.oid.and_then(|oid| studied.world.relation(oid));
        relation.is_some_and(|it| !is_large(it))
    });
    Hit { small, ..hit }
}

/// Names that mean nothing, and relations of others.
fn relations(studied: &Studied<'_>, hits: &mut Vec<Hit>) {
    for act in &studied.acts {
        let Some(on) = &act.on else { continue };
        match studied.world.look(on) {
            Found::Missing if must_exist(act) => {
                let message = format!("{on} does not exist");
                hits.push(Hit::new("missing-relation", place(studied, act), message));
            }
            Found::There(relation) if !relation.owned && is_ddl(act) => {
                let message = format!("{} belongs to another role", relation.full_name());
                hits.push(Hit::new("not-owner", place(studied, act), message));
            }
            Found::There(_) | Found::Missing | Found::New | Found::Unknown => {}
        }
    }
}

fn must_exist(act: &Act) -> bool {
    match &act.kind {
        Kind::CreateTable { .. }
        | Kind::CreateView { .. }
        | Kind::CreateOther
        | Kind::Domain { .. }
        | Kind::EnumValue { .. } => false,
        Kind::Drop(dropped) => !dropped.if_exists,
        // A view of the catalog, a function in FROM: not everything that is read is a relation.
        Kind::Read | Kind::ReadForUpdate => false,
        _ => !act.inside,
    }
}

/// Whether an act takes the owner of what it is about.
pub(in crate::runner) fn is_ddl(act: &Act) -> bool {
    !matches!(
        act.kind,
        Kind::Read
            | Kind::ReadForUpdate
            | Kind::Insert { .. }
            | Kind::Update { .. }
            | Kind::Delete { .. }
            | Kind::Merge
            | Kind::Truncate { .. }
            | Kind::Lock(_)
            | Kind::CreateView { .. }
            | Kind::CreateTrigger
            | Kind::Domain { .. }
            | Kind::EnumValue { .. }
            | Kind::Vacuum { .. }
            | Kind::Analyze
            | Kind::Refresh { .. }
    )
}
