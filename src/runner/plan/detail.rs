//! From studied statements to what is said about them: needs, risks, phases, sizes. Pure.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "it names the few kinds of acts that it is about"
)]

use std::collections::BTreeMap;

use super::effect::Work;
use super::lock::LockMode;
use super::report::{
    Back, Needs, Phase, PlanReport, PlannedLock, PlannedStatement, PlannedStep, Risk, TableSize,
    WayDown, hash,
};
use super::study::{Studied, StudiedStep};
use super::{Action, Plan};
use crate::runner::catalog::{Catalog, Found, Relation};
use crate::runner::script::headline;
use crate::runner::shape::{Act, Kind, ObjectKind};
use crate::runner::source::{Checksums, Sha256};
use crate::runner::types::StepTraffic;

/// Tables up to this size are done in no time (10 MB, as `pg_ha_migrations` draws the line).
pub(in crate::runner) const SMALL_BYTES: i64 = 10 << 20;

/// What is said about a plan.
pub(in crate::runner) fn report(
    database: &str,
    plan: &Plan,
    catalog: Option<&Catalog>,
    studied: &[StudiedStep<'_>],
) -> PlanReport {
    let steps: Vec<_> = studied.iter().map(step).collect();
    let mut notes = plan.notes.clone();
    for step in &steps {
        let wider = match (step.traffic, step.needs) {
            (StepTraffic::Exclusive, Needs::Open) => "open traffic",
            (StepTraffic::Exclusive, Needs::ReadOnly) => "read-only traffic",
            (StepTraffic::ReadOnly, Needs::Open) => "open traffic",
            _ => continue,
        };
        notes.push(format!(
            "{} could run in {wider}; it is given less",
            step.file
        ));
    }
    PlanReport {
        database: database.to_owned(),
        direction: plan.direction,
        hash: Some(hash(plan.direction, &steps)),
        server_version: catalog.map(|it| it.server_version),
        phases: phases(&steps),
        tables: catalog.map(|it| tables(it, studied)).unwrap_or_default(),
        steps,
        notes,
        canary: None,
        problems: Vec::new(),
    }
}

fn step(studied: &StudiedStep<'_>) -> PlannedStep {
    let step = studied.step;
    let mut statements = Vec::new();
    for (at, it) in studied.statements.iter().enumerate() {
        let number = u32::try_from(at + 1).unwrap_or(u32::MAX);
        statements.push(statement(number, it, step.script.mode()));
    }
    let acts = studied
        .statements
        .iter()
        .flat_map(|it| it.acts.iter().map(|act| (act, is_new(it, act))));
    let mut old = acts.filter(|(_, new)| !new).map(|(act, _)| act);
    let loses_data = old.any(loses);
    let by = match &step.action {
        Action::Apply {
            down_sql: Some(_), ..
        } => Back::DownFile,
        Action::Apply { down_sql: None, .. } => Back::Backup,
        Action::Revert { .. } => Back::UpFile,
    };
    PlannedStep {
        version: step.version.clone(),
        file: step.file.clone(),
        sha256: Checksums::of(step.script.text()).normalised.to_string(),
        mode: step.script.mode(),
        traffic: step.traffic,
        needs: statements
            .iter()
            .map(|it| it.needs)
            .max()
            .unwrap_or_default(),
        risk: statements
            .iter()
            .map(|it| it.risk)
            .max()
            .unwrap_or_default(),
        way_down: WayDown { by, loses_data },
        batches: step.script.batch().map(|it| it.directive.to_string()),
        statements,
    }
}

fn is_new(studied: &Studied<'_>, act: &Act) -> bool {
    act.on
        .as_ref()
        .is_some_and(|on| studied.world.look(on) == Found::New)
}

fn statement(
    number: u32,
    studied: &Studied<'_>,
    mode: crate::runner::script::TxMode,
) -> PlannedStatement {
    let effect = &studied.effect;
    let mut locks: Vec<_> = effect
        .locks
        .iter()
        .map(|(relation, held)| PlannedLock {
            relation: relation.clone(),
            mode: held.mode,
            new: held.new,
        })
        .collect();
    if effect.unknown {
        locks.push(PlannedLock {
            relation: "*".to_owned(),
            mode: LockMode::AccessExclusive,
            new: false,
        });
    }
    let needs = needs(studied);
    PlannedStatement {
        number,
        line: studied.statement.line,
        text: headline(studied.sql),
        sha256: Sha256::of(studied.sql.as_bytes()).to_string(),
        transaction: mode == crate::runner::script::TxMode::File,
        work: effect.work,
        known: !effect.unknown,
        needs,
        risk: risk(studied, needs),
        reasons: effect.reasons.clone(),
        triggers: triggers(studied),
        cascade: studied.cascade.clone(),
        expected: None,
        locks,
    }
}

/// The most traffic beside which a statement keeps nobody waiting.
pub(in crate::runner) fn needs(studied: &Studied<'_>) -> Needs {
    let effect = &studied.effect;
    if effect.unknown {
        return Needs::Exclusive;
    }
    let locks = effect
        .locks
        .values()
        .filter(|held| !held.new)
        .map(|held| held.mode);
    let by_locks = match locks.max() {
        Some(mode) if mode.blocks_reads() => Needs::Exclusive,
        Some(mode) if mode.blocks_writes() => Needs::ReadOnly,
        Some(_) | None => Needs::Open,
    };
    // Row locks of many rows keep whoever writes one of them waiting until the commit.
    match effect.work {
        Work::Rows if studied.batched => by_locks,
        Work::Rows => by_locks.max(Needs::ReadOnly),
        Work::None | Work::Scan | Work::Rewrite | Work::Unknown => by_locks,
    }
}

fn risk(studied: &Studied<'_>, needs: Needs) -> Risk {
    let effect = &studied.effect;
    let loses = studied
        .acts
        .iter()
        .any(|act| loses(act) && !is_new(studied, act));
    let takes_more = studied.cascade.as_ref().is_some_and(|it| !it.is_empty());
    if effect.unknown || loses || takes_more {
        return Risk::High;
    }
    let large = effect.locks.values().filter(|it| !it.new).any(|held| {
        held.mode.blocks_writes()
            && held
                .oid
                .is_none_or(|oid| studied.world.relation(oid).is_none_or(is_large))
    });
    match (needs, effect.work) {
        (Needs::Open, Work::None | Work::Scan | Work::Rewrite | Work::Unknown) => Risk::Low,
        (Needs::Open, Work::Rows) => Risk::Medium,
        (_, Work::Scan | Work::Rewrite | Work::Unknown) if large => Risk::High,
        (Needs::ReadOnly | Needs::Exclusive, _) => Risk::Medium,
    }
}

/// More than a moment's work, or of a size that nobody knows.
pub(in crate::runner) fn is_large(relation: &Relation) -> bool {
    relation.is_table() && (relation.rows.is_none() || relation.bytes > SMALL_BYTES)
}

/// Whether rows or values are gone afterwards.
fn loses(act: &Act) -> bool {
    match &act.kind {
        Kind::DropColumn { .. }
        | Kind::Truncate { .. }
        | Kind::Update { .. }
        | Kind::Delete { .. }
        | Kind::Merge => true,
        Kind::Drop(dropped) => matches!(
            dropped.what,
            ObjectKind::Table | ObjectKind::Schema | ObjectKind::Owned | ObjectKind::Extension
        ),
        _ => false,
    }
}

/// The triggers that the rows of a backfill fire.
pub(in crate::runner) fn triggers(studied: &Studied<'_>) -> Vec<String> {
    let mut found = Vec::new();
    for act in &studied.acts {
        let (insert, update, delete) = match &act.kind {
            Kind::Insert { .. } => (true, false, false),
            Kind::Update { .. } => (false, true, false),
            Kind::Delete { .. } => (false, false, true),
            Kind::Merge => (true, true, true),
            _ => continue,
        };
        let Some(Found::There(table)) = act.on.as_ref().map(|on| studied.world.look(on)) else {
            continue;
        };
        for trigger in &table.triggers {
            let fires =
                trigger.insert && insert || trigger.update && update || trigger.delete && delete;
            let often = if trigger.each_row { "row" } else { "statement" };
            let text = format!(
                "{} on {}, which calls {}() for each {often}",
                trigger.name,
                table.full_name(),
                trigger.function
            );
            if fires && !found.contains(&text) {
                found.push(text);
            }
        }
    }
    found
}

fn phases(steps: &[PlannedStep]) -> Vec<Phase> {
    let mut phases: Vec<Phase> = Vec::new();
    for step in steps {
        match phases.last_mut() {
            Some(phase) if phase.traffic == step.traffic => phase.files.push(step.file.clone()),
            Some(_) | None => phases.push(Phase {
                traffic: step.traffic,
                files: vec![step.file.clone()],
            }),
        }
    }
    phases
}

fn tables(catalog: &Catalog, studied: &[StudiedStep<'_>]) -> Vec<TableSize> {
    let statements = studied.iter().flat_map(|it| &it.statements);
    let held = statements.flat_map(|it| it.effect.locks.values());
    let mut found = BTreeMap::new();
    for relation in held.filter_map(|it| catalog.relations.get(&it.oid?)) {
        if !relation.is_table() {
            continue;
        }
        let known = |bytes: i64| relation.rows.map(|_| bytes);
        let name = relation.full_name().to_string();
        let size = TableSize {
            relation: name.clone(),
            rows: relation.rows,
            bytes: known(relation.bytes),
            index_bytes: known(relation.index_bytes),
        };
        found.insert(name, size);
    }
    found.into_values().collect()
}
