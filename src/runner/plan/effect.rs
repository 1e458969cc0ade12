//! What a statement locks and how much it has to do, by the statement and the catalog: pure.
//!
//! Lock modes are those of `AlterTableGetLockLevel` in `tablecmds.c` and of the pages of each command
//! in the documentation; a test runs the statements on a server and compares. What is not known is
//! taken for the strongest.

mod alter;
mod kinds;
mod objects;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::lock::LockMode;
use crate::runner::catalog::{Found, Relation, World};
use crate::runner::shape::{Act, Kind, Name};

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

    fn is_index(&self, name: &Name) -> bool {
        matches!(self.world.look(name), Found::There(it) if matches!(it.kind, 'i' | 'I'))
    }
}

/// CONCURRENTLY takes `ShareUpdateExclusive` in place of another.
fn concurrent(concurrently: bool, otherwise: LockMode) -> LockMode {
    match concurrently {
        true => LockMode::ShareUpdateExclusive,
        false => otherwise,
    }
}
