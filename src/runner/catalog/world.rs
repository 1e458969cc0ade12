//! The relations as a statement in the middle of a plan would find them: the catalog, and what the
//! statements before it made, renamed and dropped. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::{Catalog, Relation};
use crate::runner::shape::{Act, Kind, Name, Renamed};

/// What a name means at some place of a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found<'a> {
    /// A relation of the database.
    There(&'a Relation),
    /// Made by a statement before this one: nobody else knows it yet.
    New,
    /// Neither.
    Missing,
    /// It cannot be told: no database was asked, or the search path was changed.
    Unknown,
}

/// The relations at some place of a plan.
#[derive(Clone, Debug)]
pub struct World<'a> {
    catalog: Option<&'a Catalog>,
    made: BTreeSet<Name>,
    gone: BTreeSet<Name>,
    renamed: BTreeMap<Name, Name>,
    path_changed: bool,
}

impl<'a> World<'a> {
    /// As it is before the first statement.
    pub fn new(catalog: Option<&'a Catalog>) -> Self {
        Self {
            catalog,
            made: BTreeSet::new(),
            gone: BTreeSet::new(),
            renamed: BTreeMap::new(),
            path_changed: false,
        }
    }

    /// What the database says; `None` if none was asked.
    pub fn catalog(&self) -> Option<&'a Catalog> {
        self.catalog
    }

    /// What a name means here.
    pub fn look(&self, name: &Name) -> Found<'a> {
        let full = self.full(name);
        if self.made.contains(&full) {
            return Found::New;
        }
        if self.gone.contains(&full) {
            return Found::Missing;
        }
        let Some(catalog) = self.catalog else {
            return Found::Unknown;
        };
        if self.path_changed && name.schema.is_none() {
            return Found::Unknown;
        }
        let known = match self.renamed.get(&full) {
            Some(origin) => catalog
                .relations
                .values()
                .find(|it| it.full_name() == *origin),
            None => catalog
                .names
                .get(name)
                .and_then(|oid| catalog.relations.get(oid)),
        };
        known.map_or(Found::Missing, Found::There)
    }

    /// A relation of the catalog.
    pub fn relation(&self, oid: u32) -> Option<&'a Relation> {
        self.catalog?.relations.get(&oid)
    }

    /// What a statement changes for those that follow it.
    pub fn after(&mut self, acts: &[Act]) {
        for act in acts {
            match (&act.kind, &act.on) {
                (Kind::Setting { name, .. }, _) if name == "search_path" || name == "schema" => {
                    self.path_changed = true;
                }
                (Kind::Call(function), _) if function.name == "set_config" => {
                    self.path_changed = true;
                }
                (
                    Kind::CreateTable { .. } | Kind::CreateView { .. } | Kind::CreateOther,
                    Some(on),
                    // IF NOT EXISTS, OR REPLACE: what is there stays known.
                ) if self.look(on) == Found::Missing || self.catalog.is_none() => {
                    let full = self.full(on);
                    self.gone.remove(&full);
                    self.made.insert(full);
                }
                (
                    Kind::CreateIndex {
                        name: Some(index), ..
                    },
                    Some(table),
                ) => {
                    let full = self.full(&Name::bare(index).beside(table));
                    self.made.insert(full);
                }
                (Kind::Drop(_), Some(on)) => {
                    let full = self.full(on);
                    self.made.remove(&full);
                    self.gone.insert(full);
                }
                (
                    Kind::Rename {
                        what: Renamed::Relation,
                        to,
                    },
                    Some(on),
                ) => {
                    let to = Name::bare(to).beside(on);
                    self.rename(on, &to);
                }
                (Kind::SetSchema { to }, Some(on)) => {
                    let to = Name {
                        schema: Some(to.clone()),
                        name: on.name.clone(),
                    };
                    self.rename(on, &to);
                }
                _ => {}
            }
        }
    }

    /// A new session: what a file set is over.
    pub fn forget_settings(&mut self) {
        self.path_changed = false;
    }

    fn rename(&mut self, from: &Name, to: &Name) {
        let (from, to) = (self.full(from), self.full(to));
        self.gone.remove(&to);
        if self.made.remove(&from) {
            self.made.insert(to);
        } else {
            let origin = self.renamed.remove(&from).unwrap_or_else(|| from.clone());
            self.renamed.insert(to, origin);
        }
        self.gone.insert(from);
    }

    /// A name with its schema, which is the first of the search path if it names none.
    fn full(&self, name: &Name) -> Name {
        let schema = || {
            let found = self.catalog.and_then(|catalog| {
                let relation = catalog.relations.get(catalog.names.get(name)?)?;
                Some(relation.schema.clone())
            });
            let default = self.catalog.map(|it| it.default_schema.clone());
            found.or(default).unwrap_or_else(|| "public".to_owned())
        };
        Name {
            schema: Some(name.schema.clone().unwrap_or_else(schema)),
            name: name.name.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runner::shape::read;

    fn catalog() -> Catalog {
        let relation = Relation {
            oid: 1,
            schema: "public".to_owned(),
            name: "t".to_owned(),
            kind: 'r',
            ..Relation::default()
        };
        Catalog {
            default_schema: "public".to_owned(),
            relations: BTreeMap::from([(1, relation)]),
            names: BTreeMap::from([(Name::bare("t"), 1)]),
            ..Catalog::default()
        }
    }

    fn look(world: &World<'_>, name: &str) -> &'static str {
        match world.look(&Name::parse(name).unwrap()) {
            Found::There(_) => "there",
            Found::New => "new",
            Found::Missing => "missing",
            Found::Unknown => "unknown",
        }
    }

    #[test]
    fn what_statements_make_rename_and_drop_is_followed() {
        let catalog = catalog();
        let mut world = World::new(Some(&catalog));
        assert_eq!(look(&world, "t"), "there");
        assert_eq!(look(&world, "u"), "missing");
        world.after(&read("create table u (a int)"));
        assert_eq!(
            (look(&world, "u"), look(&world, "public.u")),
            ("new", "new")
        );
        world.after(&read("create table if not exists t (a int)"));
        assert_eq!(look(&world, "t"), "there");
        world.after(&read("alter table t rename to old"));
        assert_eq!(
            (look(&world, "t"), look(&world, "old")),
            ("missing", "there")
        );
        world.after(&read("alter table u rename to t"));
        assert_eq!((look(&world, "t"), look(&world, "u")), ("new", "missing"));
        world.after(&read("drop table t"));
        assert_eq!(look(&world, "t"), "missing");
        world.after(&read("set search_path = other"));
        assert_eq!(
            (look(&world, "x"), look(&world, "public.x")),
            ("unknown", "missing")
        );
    }

    #[test]
    fn without_a_database_only_what_was_made_is_known() {
        let mut world = World::new(None);
        assert_eq!(look(&world, "t"), "unknown");
        world.after(&read("create table t (a int)"));
        assert_eq!(look(&world, "t"), "new");
    }
}
