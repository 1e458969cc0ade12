//! What the live database says about the relations, functions and types that a plan names.
//!
//! Only catalogs and statistics are read, never a relation of anybody's: this session must not wait
//! behind DDL, and DDL must not wait behind it. Sizes are those of the last VACUUM or ANALYZE.

mod load;
mod world;

use std::collections::BTreeMap;

use super::shape::Name;

pub(super) use load::{Reader, Wanted};
pub use world::{Found, World};

/// What was found out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Catalog {
    /// `server_version_num`.
    pub server_version: i32,
    /// The first schema of the search path, where things without a schema are created.
    pub default_schema: String,
    /// The relations, by `oid`.
    pub relations: BTreeMap<u32, Relation>,
    /// What names mean: each name that was asked for and exists.
    pub names: BTreeMap<Name, u32>,
    /// Functions that were asked for and exist, the least stable of those of one name.
    pub functions: BTreeMap<Name, Function>,
    /// Types that were asked for and exist, as they were written.
    pub types: BTreeMap<String, TypeFacts>,
}

/// A relation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Relation {
    /// Its row in `pg_class`.
    pub oid: u32,
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// `relkind`: `r`, `p`, `i`, `I`, `v`, `m`, `S`, `f`, `t`.
    pub kind: char,
    /// Rows, as last estimated; `None` if never.
    pub rows: Option<i64>,
    /// Bytes of the table and its TOAST.
    pub bytes: i64,
    /// Bytes of its indexes.
    pub index_bytes: i64,
    /// Whether our role may run DDL on it.
    pub owned: bool,
    /// Its columns.
    pub columns: Vec<Column>,
    /// Its triggers that somebody made.
    pub triggers: Vec<Trigger>,
    /// Its constraints.
    pub constraints: Vec<Constraint>,
    /// Its indexes.
    pub indexes: Vec<Index>,
    /// The table of an index.
    pub table: Option<u32>,
    /// Parents by inheritance or partitioning.
    pub parents: Vec<u32>,
    /// Children, grandchildren and so on.
    pub children: Vec<u32>,
    /// The partition that takes what no other takes.
    pub default_partition: Option<u32>,
    /// Publications that send its rows, or those of a parent.
    pub publications: Vec<String>,
    /// Scans since the statistics were reset, as the server counts them.
    pub scans: i64,
}

impl Relation {
    /// Its full name.
    pub fn full_name(&self) -> Name {
        Name {
            schema: Some(self.schema.clone()),
            name: self.name.clone(),
        }
    }

    /// Whether it holds rows, itself or in its partitions.
    pub fn is_table(&self) -> bool {
        matches!(self.kind, 'r' | 'p' | 'm' | 'f')
    }

    /// A column by its name.
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|it| it.name == name)
    }

    /// A constraint by its name.
    pub fn constraint(&self, name: &str) -> Option<&Constraint> {
        self.constraints.iter().find(|it| it.name == name)
    }

    /// Tables that its foreign keys refer to.
    pub fn refers_to(&self) -> impl Iterator<Item = u32> {
        self.constraints.iter().filter_map(|it| it.references)
    }
}

/// A column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// Its number in the table.
    pub number: i16,
    /// Its name.
    pub name: String,
    /// Its type, as `format_type` writes it.
    pub ty: String,
    /// Whether it is NOT NULL.
    pub not_null: bool,
}

/// A trigger that somebody made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trigger {
    /// Its name.
    pub name: String,
    /// The function that it calls.
    pub function: String,
    /// For each row, not for each statement.
    pub each_row: bool,
    /// Fires on INSERT.
    pub insert: bool,
    /// Fires on UPDATE.
    pub update: bool,
    /// Fires on DELETE.
    pub delete: bool,
}

/// A constraint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Constraint {
    /// Its name.
    pub name: String,
    /// `contype`: `c`, `f`, `n`, `p`, `u`, `x`, `t`.
    pub kind: char,
    /// Whether all rows are known to obey.
    pub validated: bool,
    /// The columns.
    pub columns: Vec<i16>,
    /// The table that a foreign key refers to.
    pub references: Option<u32>,
    /// Its row in `pg_constraint`.
    pub oid: u32,
    /// The column, if it is a CHECK that says that one column IS NOT NULL.
    pub says_not_null: Option<i16>,
}

/// An index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Index {
    /// Its name.
    pub name: String,
    /// False after a CREATE INDEX CONCURRENTLY that failed.
    pub valid: bool,
    /// Its columns in order; an expression is 0.
    pub columns: Vec<i16>,
    /// Whether it covers every row.
    pub whole: bool,
}

/// A function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Function {
    /// `provolatile`: `i`, `s`, `v`.
    pub volatile: char,
    /// Whether it came with the server.
    pub builtin: bool,
}

/// What matters of a type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TypeFacts {
    /// A domain that refuses values.
    pub constrained_domain: bool,
    /// Tables with columns of it, if it is a domain.
    pub used_by: Vec<u32>,
}
