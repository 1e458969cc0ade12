//! What a statement locks and how much it has to do, by the statement and the catalog: pure.
//!
//! Lock modes are those of `AlterTableGetLockLevel` in `tablecmds.c` and of the pages of each command
//! in the documentation; a test runs the statements on a server and compares. What is not known is
//! taken for the strongest.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::lock::LockMode;
use super::types::{is_volatile, rewrites};
use crate::runner::catalog::{Found, Relation, World};
use crate::runner::shape::{
    Act, ConstraintKind, Dropped, Kind, Name, NewColumn, NewConstraint, ObjectKind, Renamed,
};

/// How much there is to do while the locks are held, least first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Work {
    /// The catalog alone, or a handful of rows.
    #[default]
    None,
    /// Rows are changed, as many as a query finds.
    Rows,
    /// Every row is read.
    Scan,
    /// Every row is written again.
    Rewrite,
    /// It cannot be told: as much as a rewrite, to be careful.
    Unknown,
}

impl Work {
    /// The word used in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Rows => "rows",
            Self::Scan => "scan",
            Self::Rewrite => "rewrite",
            Self::Unknown => "unknown",
        }
    }
}

/// A lock on a relation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// How strong.
    pub mode: LockMode,
    /// The relation, if the database knows it.
    pub oid: Option<u32>,
    /// Made by an earlier statement of the plan: nobody can be waiting for it.
    pub new: bool,
}

/// Everything that one statement takes and does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Effect {
    /// The strongest lock on each relation.
    pub locks: BTreeMap<String, Held>,
    /// The most work on any relation that is not new.
    pub work: Work,
    /// Why there is work, or why something is not known.
    pub reasons: Vec<String>,
    /// Whether something could not be told.
    pub unknown: bool,
}

/// Reads off what a statement does.
pub(super) fn effect(world: &World<'_>, acts: &[Act]) -> Effect {
    let mut reader = Reading {
        world,
        effect: Effect::default(),
    };
    for act in acts {
        reader.act(act);
    }
    reader.effect
}

struct Reading<'a> {
    world: &'a World<'a>,
    effect: Effect,
}

impl<'a> Reading<'a> {
    fn unknown(&mut self, why: impl Into<String>) {
        self.effect.unknown = true;
        self.effect.work = Work::Unknown;
        self.because(why);
    }

    fn because(&mut self, why: impl Into<String>) {
        let why = why.into();
        if !self.effect.reasons.contains(&why) {
            self.effect.reasons.push(why);
        }
    }

    /// Locks what a name means, and returns it if the database knows it.
    fn lock(&mut self, name: &Name, mode: LockMode) -> Option<&'a Relation> {
        match self.world.look(name) {
            Found::There(relation) => {
                self.lock_relation(relation, mode);
                Some(relation)
            }
            Found::New => {
                self.hold(name.to_string(), mode, None, true);
                None
            }
            Found::Missing => {
                self.hold(name.to_string(), mode, None, false);
                self.because(format!("{name} does not exist yet, or not under this name"));
                None
            }
            Found::Unknown => {
                self.hold(name.to_string(), mode, None, false);
                None
            }
        }
    }

    fn lock_relation(&mut self, relation: &Relation, mode: LockMode) {
        let name = relation.full_name().to_string();
        self.hold(name, mode, Some(relation.oid), false);
    }

    fn lock_oids(&mut self, oids: impl IntoIterator<Item = u32>, mode: LockMode) {
        for oid in oids {
            if let Some(relation) = self.world.relation(oid) {
                self.lock_relation(relation, mode);
            }
        }
    }

    /// The table with all its children, which most of ALTER TABLE goes down to.
    fn lock_tree(&mut self, name: &Name, mode: LockMode) -> Option<&'a Relation> {
        let relation = self.lock(name, mode)?;
        self.lock_oids(relation.children.iter().copied(), mode);
        Some(relation)
    }

    fn hold(&mut self, name: String, mode: LockMode, oid: Option<u32>, new: bool) {
        let held = Held { mode, oid, new };
        let entry = self
            .effect
            .locks
            .entry(name)
            .or_insert_with(|| held.clone());
        entry.mode = entry.mode.max(mode);
    }

    /// Work on a relation counts unless it is new and so empty, or as good as.
    fn work(&mut self, on: &Name, work: Work, why: &str) {
        if self.world.look(on) == Found::New {
            return;
        }
        self.effect.work = self.effect.work.max(work);
        if !why.is_empty() {
            self.because(format!("{why}: {on}"));
        }
    }

    fn act(&mut self, act: &Act) {
        match (&act.kind, &act.on) {
            (Kind::Unknown(what), _) => self.unknown(format!("{what}: not understood")),
            (Kind::Dynamic, _) => self.unknown("EXECUTE runs a text that is made at run time"),
            (Kind::Call(function), _) => self.call(function),
            (Kind::NoTable(_) | Kind::Setting { .. } | Kind::EnumValue { .. }, _) => {}
            (Kind::Domain { scans }, on) => self.domain(on.as_ref(), *scans),
            (Kind::Drop(dropped), on) => self.drop(dropped, on.as_ref()),
            (Kind::Reindex { concurrently, .. }, None) => match concurrently {
                true => {}
                false => self.unknown("REINDEX of a whole schema or database"),
            },
            (Kind::Vacuum { full: false } | Kind::Analyze, None) => {
                self.effect.work = self.effect.work.max(Work::Scan);
            }
            (kind, None) => self.unknown(format!("{kind:?} without a table")),
            (kind, Some(on)) => self.on(kind, on),
        }
    }

    fn on(&mut self, kind: &Kind, on: &Name) {
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

    fn is_index(&self, name: &Name) -> bool {
        matches!(self.world.look(name), Found::There(it) if matches!(it.kind, 'i' | 'I'))
    }

    /// Functions of the server's own lock no table, and what is not volatile cannot write.
    fn call(&mut self, function: &Name) {
        let known = self
            .world
            .catalog()
            .and_then(|it| it.functions.get(function));
        let harmless = match known {
            Some(it) => it.builtin || it.volatile != 'v',
            None => super::types::BUILTIN.contains(&function.name.as_str()),
        };
        if !harmless {
            self.unknown(format!("{function}() may do anything"));
        }
    }

    fn create_table(
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

    fn add_column(&mut self, on: &Name, column: &NewColumn, constraints: &[NewConstraint]) {
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

    fn set_type(&mut self, on: &Name, column: &str, ty: &str, using: Option<&str>) {
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

    fn set_not_null(&mut self, on: &Name, column: &str) {
        let relation = self.lock_tree(on, LockMode::AccessExclusive);
        let proved = relation.is_some_and(|table| {
            table.column(column).is_some_and(|column| {
                let says = |it: &crate::runner::catalog::Constraint| {
                    it.validated && it.says_not_null == Some(column.number)
                };
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

    fn add_constraint(&mut self, on: &Name, constraint: &NewConstraint) {
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

    fn validate(&mut self, on: &Name, constraint: &str) {
        let relation = self.lock_tree(on, LockMode::ShareUpdateExclusive);
        let other = relation.and_then(|it| it.constraint(constraint)?.references);
        self.lock_oids(other, LockMode::RowShare);
        self.work(on, Work::Scan, "every row is checked");
    }

    fn drop_constraint(&mut self, on: &Name, constraint: &str) {
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

    fn attach(&mut self, on: &Name, partition: &Name) {
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

    fn truncate(&mut self, on: &Name, cascade: bool) {
        let table = self.lock_tree(on, LockMode::AccessExclusive);
        if cascade && let Some(table) = table {
            let referring = self.referring(table.oid);
            self.lock_oids(referring, LockMode::AccessExclusive);
        }
    }

    /// INSERT, UPDATE, DELETE, and what their foreign keys look into.
    fn change_rows(&mut self, on: &Name, work: Work, children: bool) {
        let relation = match children {
            true => self.lock_tree(on, LockMode::RowExclusive),
            false => self.lock(on, LockMode::RowExclusive),
        };
        if let Some(relation) = relation {
            self.lock_oids(relation.refers_to(), LockMode::RowShare);
        }
        self.work(on, work, "");
    }

    fn reindex(&mut self, on: &Name, index: bool, concurrently: bool) {
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

    fn domain(&mut self, on: Option<&Name>, scans: bool) {
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

    fn drop(&mut self, dropped: &Dropped, on: Option<&Name>) {
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
    fn referring(&self, oid: u32) -> Vec<u32> {
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

/// CONCURRENTLY takes `ShareUpdateExclusive` in place of another.
fn concurrent(concurrently: bool, otherwise: LockMode) -> LockMode {
    match concurrently {
        true => LockMode::ShareUpdateExclusive,
        false => otherwise,
    }
}
