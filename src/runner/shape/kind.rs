//! The vocabulary: everything that a statement can do, as far as locks and rules care.

use std::fmt;
use std::ops::Range;

use super::Name;
use crate::runner::plan::LockMode;

/// One thing that a statement does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Act {
    /// To what; `None` where it is to no relation.
    pub on: Option<Name>,
    /// What.
    pub kind: Kind,
    /// Whether it stands in the body of a `DO`, and so may run or not.
    pub inside: bool,
    /// Bytes of the statement that say so.
    pub range: Range<usize>,
}

/// The things that can be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// CREATE TABLE, also AS a query.
    CreateTable {
        /// Its columns.
        columns: Vec<NewColumn>,
        /// Its constraints, also those written at a column.
        constraints: Vec<NewConstraint>,
        /// Of which table it is a partition.
        partition_of: Option<Name>,
        /// From which it inherits.
        inherits: Vec<Name>,
    },
    /// CREATE VIEW.
    CreateView {
        /// In place of one that may be there.
        replace: bool,
    },
    /// CREATE MATERIALIZED VIEW or SEQUENCE: a new relation that nobody uses yet.
    CreateOther,
    /// CREATE INDEX, on the table.
    CreateIndex {
        /// Its name, if it is given.
        name: Option<String>,
        /// Whether two equal rows are an error.
        unique: bool,
        /// Without keeping writers out.
        concurrently: bool,
        /// Whether one that is there is taken for it.
        if_not_exists: bool,
        /// Its columns; `None` if one is an expression.
        columns: Option<Vec<String>>,
        /// Its WHERE, without the word.
        predicate: Option<String>,
    },
    /// ADD COLUMN.
    AddColumn(NewColumn, Vec<NewConstraint>),
    /// DROP COLUMN.
    DropColumn {
        /// Which.
        column: String,
        /// With all that depends on it.
        cascade: bool,
    },
    /// ALTER COLUMN TYPE.
    SetType {
        /// Which column.
        column: String,
        /// To which type, as written.
        ty: String,
        /// The USING expression, as written.
        using: Option<String>,
    },
    /// ALTER COLUMN SET NOT NULL.
    SetNotNull {
        /// Which column.
        column: String,
    },
    /// SET STATISTICS, SET (n_distinct), SET (fillfactor), CLUSTER ON: settings that keep nobody out.
    Tune,
    /// A change in the catalog alone, behind the strongest lock: defaults, storage, identity,
    /// OWNER, REPLICA IDENTITY, OPTIONS.
    Change(String),
    /// ADD CONSTRAINT.
    AddConstraint(NewConstraint),
    /// VALIDATE CONSTRAINT.
    Validate {
        /// Which.
        constraint: String,
    },
    /// DROP CONSTRAINT.
    DropConstraint {
        /// Which.
        constraint: String,
        /// With all that depends on it.
        cascade: bool,
    },
    /// ATTACH PARTITION.
    Attach {
        /// The table that becomes a partition.
        partition: Name,
    },
    /// DETACH PARTITION.
    Detach {
        /// The partition.
        partition: Name,
        /// Without keeping anybody out of the parent.
        concurrently: bool,
    },
    /// INHERIT a parent, or NO INHERIT.
    Inherit {
        /// The parent.
        parent: Name,
        /// Whether the tie is cut.
        end: bool,
    },
    /// RENAME.
    Rename {
        /// What of it.
        what: Renamed,
        /// The new name.
        to: String,
    },
    /// SET SCHEMA.
    SetSchema {
        /// The new schema.
        to: String,
    },
    /// SET LOGGED, UNLOGGED, ACCESS METHOD, TABLESPACE: every row is written again.
    Rewrite(&'static str),
    /// ENABLE or DISABLE TRIGGER.
    ToggleTrigger {
        /// Whether it fires from now on.
        enable: bool,
    },
    /// ROW LEVEL SECURITY on, off or forced.
    RowSecurity,
    /// DROP of a relation, or of anything else.
    Drop(Dropped),
    /// TRUNCATE.
    Truncate {
        /// With all tables that refer to it.
        cascade: bool,
    },
    /// INSERT.
    Insert {
        /// From a query, so that it may be long.
        from_query: bool,
    },
    /// UPDATE.
    Update {
        /// Without WHERE.
        whole: bool,
    },
    /// DELETE.
    Delete {
        /// Without WHERE.
        whole: bool,
    },
    /// MERGE.
    Merge,
    /// Read by a query.
    Read,
    /// Read by a query that locks the rows.
    ReadForUpdate,
    /// LOCK TABLE.
    Lock(LockMode),
    /// CLUSTER.
    Cluster,
    /// VACUUM.
    Vacuum {
        /// FULL: every row is written again.
        full: bool,
    },
    /// ANALYZE.
    Analyze,
    /// REFRESH MATERIALIZED VIEW.
    Refresh {
        /// Without keeping readers out.
        concurrently: bool,
    },
    /// REINDEX of a table or an index (`None` as the target: of a schema or database).
    Reindex {
        /// The target is an index.
        index: bool,
        /// Without keeping writers out.
        concurrently: bool,
    },
    /// CREATE TRIGGER.
    CreateTrigger,
    /// ALTER or DROP TRIGGER, CREATE or DROP RULE: behind the strongest lock.
    TriggerOrRule(&'static str),
    /// CREATE, ALTER or DROP POLICY.
    Policy,
    /// COMMENT, CREATE STATISTICS, a publication, SECURITY LABEL.
    Annotate,
    /// ALTER SEQUENCE.
    AlterSequence,
    /// ALTER DOMAIN: a constraint that every column of the domain is scanned for.
    Domain {
        /// Whether columns of the domain are scanned.
        scans: bool,
    },
    /// ALTER TYPE ADD VALUE.
    EnumValue {
        /// The new value.
        value: String,
    },
    /// SET or RESET.
    Setting {
        /// Which, in lower case.
        name: String,
        /// To what, as written; empty for RESET.
        value: String,
    },
    /// A query calls a function.
    Call(Name),
    /// EXECUTE of a text that is made at run time.
    Dynamic,
    /// CREATE FUNCTION, TYPE, EXTENSION, ROLE, GRANT ...: no table is locked.
    NoTable(&'static str),
    /// Not understood.
    Unknown(String),
}

/// A column that comes to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewColumn {
    /// Its name.
    pub name: String,
    /// Its type, as written.
    pub ty: String,
    /// Its default, as written.
    pub default: Option<String>,
    /// Functions that the default calls.
    pub calls: Vec<Name>,
    /// NOT NULL or PRIMARY KEY.
    pub not_null: bool,
    /// GENERATED ... STORED, or an identity: every row gets a value.
    pub filled: bool,
}

/// A constraint that comes to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewConstraint {
    /// Its name, if it is given.
    pub name: Option<String>,
    /// What it demands.
    pub kind: ConstraintKind,
    /// NOT VALID: of new rows only.
    pub not_valid: bool,
}

/// What a constraint demands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConstraintKind {
    /// CHECK, with its expression.
    Check(String),
    /// UNIQUE or PRIMARY KEY.
    Unique {
        /// Of these columns.
        columns: Vec<String>,
        /// PRIMARY KEY.
        primary: bool,
        /// By an index that is there.
        using_index: bool,
    },
    /// FOREIGN KEY.
    ForeignKey {
        /// These columns,
        columns: Vec<String>,
        /// of a row of this table,
        references: Name,
        /// in these columns (its primary key if empty).
        to: Vec<String>,
    },
    /// NOT NULL of a column.
    NotNull(String),
    /// EXCLUDE.
    Exclude,
}

/// A DROP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dropped {
    /// Of what.
    pub what: ObjectKind,
    /// The name, without a relation's too.
    pub name: Name,
    /// With all that depends on it.
    pub cascade: bool,
    /// Without keeping anybody out (an index).
    pub concurrently: bool,
    /// Nothing happens if it is not there.
    pub if_exists: bool,
}

/// Kinds of objects that can be dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ObjectKind {
    /// A table, also a foreign one.
    Table,
    /// An index.
    Index,
    /// A view.
    View,
    /// A materialized view.
    MaterializedView,
    /// A sequence.
    Sequence,
    /// A type or a domain.
    Type,
    /// A function, procedure or aggregate.
    Function,
    /// A schema.
    Schema,
    /// An extension.
    Extension,
    /// All objects of a role.
    Owned,
    /// A role.
    Role,
    /// Anything else that is no relation.
    Other,
}

impl ObjectKind {
    /// Whether it has a row in `pg_class`.
    pub fn is_relation(self) -> bool {
        matches!(
            self,
            Self::Table | Self::Index | Self::View | Self::MaterializedView | Self::Sequence
        )
    }
}

impl fmt::Display for ObjectKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Table => "table",
            Self::Index => "index",
            Self::View => "view",
            Self::MaterializedView => "materialized view",
            Self::Sequence => "sequence",
            Self::Type => "type",
            Self::Function => "function",
            Self::Schema => "schema",
            Self::Extension => "extension",
            Self::Owned => "everything owned by",
            Self::Role => "role",
            Self::Other => "object",
        })
    }
}

/// What is renamed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Renamed {
    /// The table, view or index itself.
    Relation,
    /// A column of it.
    Column(String),
    /// A constraint or anything else that no query names.
    Other,
}
