//! Every statement of a plan with what it does at its place: pure, given what the database said.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "it names the few kinds of acts that it is about"
)]

use super::effect::{Effect, effect};
use super::{Plan, Step};
use crate::runner::catalog::{Catalog, Found, Wanted, World};
use crate::runner::shape::{Act, ConstraintKind, Kind, Name, NewColumn, NewConstraint, read};
use crate::runner::split::Statement;

/// A file with its statements.
#[derive(Debug)]
pub(in crate::runner) struct StudiedStep<'a> {
    pub(in crate::runner) step: &'a Step,
    pub(in crate::runner) statements: Vec<Studied<'a>>,
}

/// A statement with what it does.
#[derive(Debug)]
pub(in crate::runner) struct Studied<'a> {
    pub(in crate::runner) statement: &'a Statement,
    pub(in crate::runner) sql: &'a str,
    pub(in crate::runner) acts: Vec<Act>,
    pub(in crate::runner) effect: Effect,
    /// The relations as the statement finds them.
    pub(in crate::runner) world: World<'a>,
    /// Whether it runs in batches, each of them a short transaction.
    pub(in crate::runner) batched: bool,
    /// What goes with what it drops, in the server's words; `None` if nobody could be asked.
    pub(in crate::runner) cascade: Option<Vec<String>>,
}

/// Reads every statement.
pub(in crate::runner) fn study<'a>(
    plan: &'a Plan,
    catalog: Option<&'a Catalog>,
) -> Vec<StudiedStep<'a>> {
    let mut world = World::new(catalog);
    let mut steps = Vec::new();
    for step in &plan.steps {
        let mut statements = Vec::new();
        // What is done already changes nothing more.
        for statement in step.script.statements().iter().skip(step.from) {
            let sql = step.script.sql(statement);
            let acts = read(sql);
            let effect = effect(&world, &acts);
            let before = world.clone();
            world.after(&acts);
            statements.push(Studied {
                statement,
                sql,
                acts,
                effect,
                world: before,
                batched: step.script.batch().is_some(),
                cascade: catalog.is_some().then(Vec::new),
            });
        }
        // A file's SET ends with its session.
        world.forget_settings();
        steps.push(StudiedStep { step, statements });
    }
    steps
}

/// What has to be looked up for a plan.
pub(in crate::runner) fn wanted(plan: &Plan) -> Wanted {
    let mut wanted = Wanted::default();
    for step in &plan.steps {
        for statement in step.script.statements().iter().skip(step.from) {
            for act in read(step.script.sql(statement)) {
                want(&act, &mut wanted);
            }
        }
    }
    wanted
}

fn want(act: &Act, wanted: &mut Wanted) {
    let of_constraints = |constraints: &[NewConstraint], wanted: &mut Wanted| {
        for constraint in constraints {
            if let ConstraintKind::ForeignKey { references, .. } = &constraint.kind {
                wanted.relations.insert(references.clone());
            }
        }
    };
    let of_column = |column: &NewColumn, wanted: &mut Wanted| {
        wanted.functions.extend(column.calls.iter().cloned());
        wanted.types.insert(column.ty.clone());
    };
    match &act.kind {
        Kind::CreateTable {
            constraints,
            partition_of,
            inherits,
            ..
        } => {
            wanted
                .relations
                .extend(partition_of.iter().chain(inherits).cloned());
            of_constraints(constraints, wanted);
        }
        Kind::AddColumn(column, constraints) => {
            of_column(column, wanted);
            of_constraints(constraints, wanted);
        }
        Kind::AddConstraint(constraint) => of_constraints(std::slice::from_ref(constraint), wanted),
        Kind::Attach { partition } | Kind::Detach { partition, .. } => {
            wanted.relations.insert(partition.clone());
        }
        Kind::Inherit { parent, .. } => {
            wanted.relations.insert(parent.clone());
        }
        Kind::Call(function) => {
            wanted.functions.insert(function.clone());
        }
        Kind::Domain { .. } | Kind::EnumValue { .. } => {
            wanted.types.extend(act.on.iter().map(Name::to_string));
            return;
        }
        _ => {}
    }
    wanted.relations.extend(act.on.iter().cloned());
}

/// An object that is dropped, for the question what goes with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::runner) enum Falling {
    /// A row of a catalog: its class, its oid, its column.
    Known(&'static str, u32, i32),
    /// A type, function or schema by its name.
    Named(&'static str, Name),
}

/// The objects that a statement drops, as far as the catalog knows them.
pub(in crate::runner) fn falling(studied: &Studied<'_>) -> Vec<Falling> {
    use crate::runner::shape::ObjectKind;
    let relation = |name: &Name| match studied.world.look(name) {
        Found::There(relation) => Some(relation),
        Found::New | Found::Missing | Found::Unknown => None,
    };
    let one = |act: &Act| -> Option<Falling> {
        let on = act.on.as_ref();
        match &act.kind {
            Kind::DropColumn { column, .. } => {
                let table = relation(on?)?;
                let column = table.column(column)?.number;
                Some(Falling::Known("pg_class", table.oid, column.into()))
            }
            Kind::DropConstraint { constraint, .. } => {
                let oid = relation(on?)?.constraint(constraint)?.oid;
                Some(Falling::Known("pg_constraint", oid, 0))
            }
            Kind::Drop(dropped) => match (dropped.what, on) {
                (_, Some(on)) => Some(Falling::Known("pg_class", relation(on)?.oid, 0)),
                (ObjectKind::Type, None) => Some(Falling::Named("pg_type", dropped.name.clone())),
                (ObjectKind::Function, None) => {
                    Some(Falling::Named("pg_proc", dropped.name.clone()))
                }
                (ObjectKind::Schema, None) => {
                    Some(Falling::Named("pg_namespace", dropped.name.clone()))
                }
                (_, None) => None,
            },
            _ => None,
        }
    };
    studied.acts.iter().filter_map(one).collect()
}
