//! What a table is cut by: a key in the order of its unique index, or blocks.

use super::super::Executor;
use super::Work;
use crate::runner::directives::By;
use crate::runner::report::Failure;
use crate::runner::script::BatchScript;
use crate::runner::shape::{Name, quote};
use crate::runner::stop::Stop;

/// Types of keys whose text means the same in every session, by their names in `pg_catalog`.
const TYPES: [&str; 7] = ["int2", "int4", "int8", "numeric", "uuid", "text", "varchar"];

/// The first version whose plans read a range of `ctid` without the rest of the table.
const TID_RANGES: i32 = 140_000;

/// Rows of a block where nobody knows better.
const ROWS_OF_A_BLOCK: i64 = 100;

/// What a table is cut by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Cut {
    /// Ranges of a column.
    Key {
        /// Its name.
        column: String,
        /// Its type in `pg_catalog`.
        ty: String,
    },
    /// Ranges of blocks.
    Blocks {
        /// Blocks in one batch.
        each: i64,
    },
}

impl Cut {
    /// The column, if there is one.
    pub(super) fn column(&self) -> Option<&str> {
        match self {
            Self::Key { column, .. } => Some(column),
            Self::Blocks { .. } => None,
        }
    }
}

/// What the catalogs say of a table.
pub(super) struct Table {
    name: String,
    kind: String,
    has_children: bool,
    /// Rows and blocks by the last VACUUM or ANALYZE; below zero without one.
    rows: i64,
    blocks: i64,
    server_version: i32,
    keys: Vec<UniqueKey>,
}

/// A unique index without a condition or an expression.
struct UniqueKey {
    primary: bool,
    /// Its first column, and how many there are.
    column: String,
    columns: i32,
    not_null: bool,
    /// The type's name, if it is one of `pg_catalog`.
    ty: Option<String>,
}

impl Table {
    /// Asks the catalogs, as the file's role.
    pub(super) async fn look(
        executor: &Executor<'_>,
        script: &BatchScript,
        stop: &Stop,
    ) -> Result<Self, Failure> {
        let name = &script.directive.table;
        let literal = literal(name);
        let table = "select c.relkind::text, c.relhassubclass, c.reltuples::int8, \
                            c.relpages::int8, current_setting('server_version_num')::int4 \
                     from pg_catalog.pg_class c where c.oid = pg_catalog.to_regclass";
        let found = executor.ask(&format!("{table}({literal})"), stop).await?;
        let Some(row) = found.first() else {
            let text = format!("pgdrain:batch: there is no table {name}");
            return Err(Failure::new(text));
        };
        let keys = "select i.indisprimary, a.attname::text, i.indnkeyatts::int4, a.attnotnull, \
                           case when n.nspname = 'pg_catalog' then t.typname::text end \
                    from pg_catalog.pg_index i \
                    join pg_catalog.pg_attribute a \
                      on a.attrelid = i.indrelid and a.attnum = i.indkey[0] \
                    join pg_catalog.pg_type t on t.oid = a.atttypid \
                    join pg_catalog.pg_namespace n on n.oid = t.typnamespace \
                    where i.indisunique and i.indisvalid and i.indpred is null \
                      and i.indexprs is null and i.indrelid = pg_catalog.to_regclass";
        let keys = executor.ask(&format!("{keys}({literal})"), stop).await?;
        Ok(Self {
            name: name.clone(),
            kind: row.get(0),
            has_children: row.get(1),
            rows: row.get(2),
            blocks: row.get(3),
            server_version: row.get(4),
            keys: keys
                .iter()
                .map(|row| UniqueKey {
                    primary: row.get(0),
                    column: row.get(1),
                    columns: row.get(2),
                    not_null: row.get(3),
                    ty: row.get(4),
                })
                .collect(),
        })
    }

    /// What it is cut by, as a directive asks; why not, in a sentence.
    pub(super) fn cut(&self, script: &BatchScript) -> Result<Cut, String> {
        let (name, directive) = (&self.name, &script.directive);
        let ours = match &directive.by {
            By::Ctid => return self.blocks(directive.size),
            By::PrimaryKey => self.primary()?,
            By::Column(column) => self.named(column)?,
        };
        if !["r", "p"].contains(&self.kind.as_str()) {
            return Err(format!("{name} is no table"));
        }
        let column = ours.column.clone();
        let ty = ours.ty.clone().filter(|ty| TYPES.contains(&ty.as_str()));
        let Some(ty) = ty else {
            let types = TYPES.join(", ");
            return Err(format!(
                "column {column} of {name} is of none of the types {types}: name another with \
                 key=, or use by=ctid"
            ));
        };
        if script.form.sets.contains(&column) {
            return Err(format!(
                "the statement sets {column}, by which {name} is cut: rows would move into later \
                 batches"
            ));
        }
        Ok(Cut::Key { column, ty })
    }

    fn primary(&self) -> Result<&UniqueKey, String> {
        let name = &self.name;
        let instead = "name a column that is NOT NULL and has a unique index with key=, or use \
                       by=ctid";
        match self.keys.iter().find(|it| it.primary) {
            None => Err(format!("{name} has no primary key: {instead}")),
            Some(it) if it.columns > 1 => Err(format!(
                "the primary key of {name} has {} columns: {instead}",
                it.columns
            )),
            Some(it) => Ok(it),
        }
    }

    fn named(&self, column: &str) -> Result<&UniqueKey, String> {
        let asked = Name::parse(column).map(|it| it.name);
        let fits = |it: &&UniqueKey| {
            it.columns == 1 && it.not_null && asked.as_deref() == Some(it.column.as_str())
        };
        self.keys.iter().find(fits).ok_or_else(|| {
            format!(
                "{} has no column {column} that is NOT NULL and has a unique index of its own",
                self.name
            )
        })
    }

    fn blocks(&self, size: u32) -> Result<Cut, String> {
        let name = &self.name;
        if self.server_version < TID_RANGES {
            return Err("by=ctid needs Postgres 14 or later".to_owned());
        }
        // Each partition counts its blocks from zero.
        if self.kind != "r" || self.has_children {
            return Err(format!(
                "by=ctid needs a table without partitions or children, which {name} is not"
            ));
        }
        let dense = match (self.rows, self.blocks) {
            (rows @ 1.., blocks @ 1..) => (rows / blocks).max(1),
            _ => ROWS_OF_A_BLOCK,
        };
        Ok(Cut::Blocks {
            each: (i64::from(size) / dense).max(1),
        })
    }

    /// Rows of the table, if they were counted.
    pub(super) fn rows(&self) -> Option<i64> {
        Some(self.rows).filter(|rows| *rows > 0)
    }
}

impl Work<'_> {
    /// A query for the end of the table: a text, or null if it is empty.
    pub(super) fn end_query(&self) -> String {
        let source = &self.script.form.source;
        match &self.cut {
            Cut::Key { .. } => {
                let key = self.key();
                format!("select {key}::pg_catalog.text from {source} order by {key} desc limit 1")
            }
            Cut::Blocks { .. } => {
                let table = literal(&self.script.directive.table);
                format!(
                    "select nullif(pg_catalog.pg_relation_size(pg_catalog.to_regclass({table})) \
                     / pg_catalog.current_setting('block_size')::pg_catalog.int8, 0)\
                     ::pg_catalog.text"
                )
            }
        }
    }

    /// The condition of the rows behind a place, up to another and with it.
    pub(super) fn range(&self, after: Option<&str>, to: &str) -> String {
        match &self.cut {
            Cut::Key { ty, .. } => {
                let key = self.key();
                let value = |text: &str| format!("{}::pg_catalog.{ty}", literal(text));
                let above = after.map(|it| format!("{key} > {} and ", value(it)));
                format!("{}{key} <= {}", above.unwrap_or_default(), value(to))
            }
            Cut::Blocks { .. } => {
                let (from, alias) = (after.unwrap_or("0"), &self.script.form.alias);
                let tid = |block: &str| format!("'({block},0)'::pg_catalog.tid");
                format!(
                    "{alias}.ctid >= {} and {alias}.ctid < {}",
                    tid(from),
                    tid(to)
                )
            }
        }
    }

    /// The column by which the table is cut, as SQL.
    pub(super) fn key(&self) -> String {
        let alias = &self.script.form.alias;
        let column = self.cut.column().unwrap_or("ctid");
        format!("{alias}.{}", quote(column))
    }
}

/// A text as SQL, where backslashes are themselves (`standard_conforming_strings`).
pub(super) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
