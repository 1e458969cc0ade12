//! From a statement's text to what it does.

use std::ops::Range;

use squawk_syntax::ast::{self, AstNode as _};
use squawk_syntax::{SourceFile, SyntaxKind, SyntaxNode};

use super::guard::is_readable;
use super::kind::{Act, Dropped, Kind, ObjectKind};
use super::name::Name;
use super::table;
use super::tree::{bare, calls, child, has, name, names, says, text};
use crate::runner::plan::LockMode;

/// Reads one statement. What the grammar has no rule for is one unknown act.
pub fn read(sql: &str) -> Vec<Act> {
    let everything = 0..sql.len();
    let unknown = |why: &str| {
        vec![Act {
            on: None,
            kind: Kind::Unknown(why.to_owned()),
            inside: false,
            range: everything.clone(),
        }]
    };
    if !is_readable(sql) {
        return unknown("too long or nested too deeply to be read");
    }
    let parsed = SourceFile::parse(sql);
    if !parsed.errors().is_empty() {
        return unknown("not understood by the grammar of this version");
    }
    let Some(statement) = parsed.tree().stmts().next() else {
        return unknown("not understood by the grammar of this version");
    };
    let mut reader = Reader {
        acts: Vec::new(),
        inside: None,
    };
    reader.statement(statement.syntax());
    if let ast::Stmt::Do(block) = &statement {
        reader.body(block);
    }
    reader.acts
}

struct Reader {
    acts: Vec<Act>,
    /// Where the `DO` is whose body is read.
    inside: Option<Range<usize>>,
}

impl Reader {
    fn add(&mut self, node: &SyntaxNode, on: Option<Name>, kind: Kind) {
        let range = self.inside.clone();
        self.acts.push(Act {
            on,
            kind,
            inside: range.is_some(),
            range: range.unwrap_or_else(|| node.text_range().into()),
        });
    }

    fn add_all(&mut self, node: &SyntaxNode, on: Vec<Name>, kind: &Kind) {
        for name in on {
            self.add(node, Some(name), kind.clone());
        }
    }

    /// What a `DO` would run: each statement in its body, and that there may be more.
    fn body(&mut self, block: &ast::Do) {
        let Some(body) = block.plpgsql() else {
            return;
        };
        self.inside = Some(block.syntax().text_range().into());
        for node in body.syntax().descendants() {
            if node.kind() == SyntaxKind::PLPGSQL_DYN_EXECUTE_STMT {
                self.add(&node, None, Kind::Dynamic);
            } else if ast::Stmt::can_cast(node.kind()) {
                self.statement(&node);
            }
        }
    }

    fn statement(&mut self, node: &SyntaxNode) {
        match node.kind() {
            SyntaxKind::ALTER_TABLE
            | SyntaxKind::ALTER_FOREIGN_TABLE
            | SyntaxKind::ALTER_VIEW
            | SyntaxKind::ALTER_MATERIALIZED_VIEW
            | SyntaxKind::ALTER_INDEX => self.alter(node),
            SyntaxKind::CREATE_TABLE | SyntaxKind::CREATE_TABLE_AS => {
                self.add_one(node, table::target(node), table::create(node));
                self.query(node);
            }
            SyntaxKind::CREATE_VIEW => {
                let replace = has(node, SyntaxKind::OR_REPLACE);
                self.add(
                    node,
                    first(node, SyntaxKind::VIEW),
                    Kind::CreateView { replace },
                );
                self.query(node);
            }
            SyntaxKind::CREATE_MATERIALIZED_VIEW => {
                self.add(node, first(node, SyntaxKind::VIEW), Kind::CreateOther);
                self.query(node);
            }
            SyntaxKind::CREATE_SEQUENCE => {
                self.add(node, first(node, SyntaxKind::SEQUENCE), Kind::CreateOther);
            }
            SyntaxKind::CREATE_INDEX => self.create_index(node),
            kind if dropped(kind).is_some() => self.drop(node),
            SyntaxKind::TRUNCATE => {
                let cascade = has(node, SyntaxKind::CASCADE);
                let list = child(node, SyntaxKind::TABLE_LIST);
                let tables = list.map(|it| names(&it, SyntaxKind::TABLE_RELATION_NAME));
                self.add_all(
                    node,
                    tables.unwrap_or_default(),
                    &Kind::Truncate { cascade },
                );
            }
            SyntaxKind::LOCK => self.lock(node),
            SyntaxKind::INSERT
            | SyntaxKind::UPDATE
            | SyntaxKind::DELETE
            | SyntaxKind::MERGE
            | SyntaxKind::SELECT
            | SyntaxKind::SELECT_INTO
            | SyntaxKind::COMPOUND_SELECT
            | SyntaxKind::PAREN_SELECT
            | SyntaxKind::VALUES
            | SyntaxKind::TABLE
            | SyntaxKind::EXPLAIN
            | SyntaxKind::CALL
            | SyntaxKind::COPY
            | SyntaxKind::PREPARE
            | SyntaxKind::DECLARE => self.query_statement(node),
            SyntaxKind::CLUSTER => self.add_one(node, table::target(node), Kind::Cluster),
            SyntaxKind::VACUUM => {
                let full = ast::Vacuum::cast(node.clone()).is_some_and(|it| it.is_full());
                self.maintenance(node, &Kind::Vacuum { full });
            }
            SyntaxKind::ANALYZE => self.maintenance(node, &Kind::Analyze),
            SyntaxKind::REFRESH => {
                let concurrently = says(node, "concurrently");
                let view = first(node, SyntaxKind::VIEW_REF);
                self.add_one(node, view, Kind::Refresh { concurrently });
            }
            SyntaxKind::REINDEX => self.reindex(node),
            SyntaxKind::DO => self.add(node, None, Kind::Unknown("DO".to_owned())),
            _ => self.rest(node),
        }
    }

    /// Triggers, rules, policies, comments, settings, and what touches no table.
    fn rest(&mut self, node: &SyntaxNode) {
        match node.kind() {
            SyntaxKind::CREATE_TRIGGER => {
                let table = first(node, SyntaxKind::ON_RELATION);
                self.add_one(node, table, Kind::CreateTrigger);
                let other = first(node, SyntaxKind::FROM_TABLE);
                self.add_all(node, other.into_iter().collect(), &Kind::CreateTrigger);
            }
            SyntaxKind::DROP_TRIGGER | SyntaxKind::ALTER_TRIGGER => {
                let table = first(node, SyntaxKind::ON_RELATION);
                let what = match node.kind() {
                    SyntaxKind::DROP_TRIGGER => "DROP TRIGGER",
                    _ => "ALTER TRIGGER",
                };
                self.add_one(node, table, Kind::TriggerOrRule(what));
            }
            SyntaxKind::CREATE_RULE => {
                let table = child(node, SyntaxKind::RULE_ON)
                    .and_then(|it| first(&it, SyntaxKind::RELATION_NAME_REF));
                self.add_one(node, table, Kind::TriggerOrRule("CREATE RULE"));
            }
            SyntaxKind::DROP_RULE | SyntaxKind::ALTER_RULE => {
                let table = first(node, SyntaxKind::ON_RELATION);
                let table = table.or_else(|| first(node, SyntaxKind::ON_TABLE));
                self.add_one(node, table, Kind::TriggerOrRule("DROP or ALTER RULE"));
            }
            SyntaxKind::CREATE_POLICY | SyntaxKind::ALTER_POLICY | SyntaxKind::DROP_POLICY => {
                self.add_one(node, first(node, SyntaxKind::ON_TABLE), Kind::Policy);
            }
            SyntaxKind::COMMENT_ON => self.comment(node),
            SyntaxKind::CREATE_STATISTICS => {
                self.add_one(node, first(node, SyntaxKind::FROM_TABLE), Kind::Annotate);
            }
            SyntaxKind::CREATE_PUBLICATION | SyntaxKind::ALTER_PUBLICATION => {
                let tables = node
                    .descendants()
                    .filter(|it| it.kind() == SyntaxKind::TABLE_NAME_REF)
                    .filter_map(|it| name(&it))
                    .collect();
                self.add_all(node, tables, &Kind::Annotate);
                self.add(node, None, Kind::NoTable("a publication"));
            }
            SyntaxKind::ALTER_SEQUENCE => {
                let sequence = first(node, SyntaxKind::SEQUENCE_REF);
                let kind = node.children().find_map(|it| table::rename(&it));
                self.add_one(node, sequence, kind.unwrap_or(Kind::AlterSequence));
            }
            SyntaxKind::ALTER_DOMAIN => {
                let scans = has(node, SyntaxKind::ADD_CONSTRAINT)
                    || has(node, SyntaxKind::SET_NOT_NULL)
                    || has(node, SyntaxKind::VALIDATE_CONSTRAINT);
                let domain = first(node, SyntaxKind::DOMAIN_REF);
                self.add(node, domain, Kind::Domain { scans });
            }
            SyntaxKind::ALTER_TYPE => {
                let ty = first(node, SyntaxKind::TYPE_NAME_REF);
                let kind = match child(node, SyntaxKind::ADD_VALUE) {
                    Some(add) => Kind::EnumValue {
                        value: bare_literal(&add),
                    },
                    None => Kind::Unknown(table::headline(node)),
                };
                self.add(node, ty, kind);
            }
            SyntaxKind::SET => self.setting(node),
            SyntaxKind::RESET => {
                let name = text(node)
                    .split_whitespace()
                    .nth(1)
                    .unwrap_or("all")
                    .to_lowercase();
                let value = String::new();
                self.add(node, None, Kind::Setting { name, value });
            }
            kind => match no_table(kind) {
                Some(what) => self.add(node, None, Kind::NoTable(what)),
                None => self.add(node, None, Kind::Unknown(table::headline(node))),
            },
        }
    }

    /// Adds what is to one relation; without the relation it is unknown.
    fn add_one(&mut self, node: &SyntaxNode, on: Option<Name>, kind: Kind) {
        match on {
            Some(on) => self.add(node, Some(on), kind),
            None => self.add(node, None, Kind::Unknown(table::headline(node))),
        }
    }

    fn alter(&mut self, node: &SyntaxNode) {
        let kinds = [SyntaxKind::VIEW_REF, SyntaxKind::INDEX_REF];
        let on = table::target(node).or_else(|| kinds.iter().find_map(|kind| first(node, *kind)));
        let Some(on) = on else {
            return self.add(node, None, Kind::Unknown(table::headline(node)));
        };
        let skip = [
            SyntaxKind::TABLE_RELATION_NAME,
            SyntaxKind::IF_EXISTS,
            SyntaxKind::VIEW_REF,
            SyntaxKind::INDEX_REF,
        ];
        for action in node.children().filter(|it| !skip.contains(&it.kind())) {
            let kind = if action.kind() == SyntaxKind::ATTACH_INDEX_PARTITION {
                first(&action, SyntaxKind::INDEX_REF).map_or_else(
                    || Kind::Unknown(table::headline(node)),
                    |partition| Kind::Attach { partition },
                )
            } else {
                table::action(&action)
            };
            self.add(&action, Some(on.clone()), kind);
        }
    }

    fn create_index(&mut self, node: &SyntaxNode) {
        let items = child(node, SyntaxKind::PARTITION_ITEM_LIST);
        let items: Vec<_> = items.into_iter().flat_map(|it| it.children()).collect();
        let column = |item: &SyntaxNode| {
            let first = item.first_child()?;
            (first.kind() == SyntaxKind::NAME_REF).then(|| name(&first).map(|it| it.name))?
        };
        let kind = Kind::CreateIndex {
            name: bare(node, SyntaxKind::INDEX),
            unique: says(node, "unique"),
            concurrently: says(node, "concurrently"),
            if_not_exists: has(node, SyntaxKind::IF_NOT_EXISTS),
            columns: items.iter().map(column).collect(),
            predicate: child(node, SyntaxKind::WHERE_CLAUSE)
                .and_then(|it| it.first_child())
                .map(|it| text(&it)),
        };
        self.add_one(node, table::target(node), kind);
    }

    fn drop(&mut self, node: &SyntaxNode) {
        let Some((what, reference)) = dropped(node.kind()) else {
            return;
        };
        let mut found: Vec<_> = node
            .descendants()
            .filter(|it| it.kind() == reference)
            .filter_map(|it| name(&it))
            .collect();
        if found.is_empty() {
            found.push(Name::bare(""));
        }
        for name in found {
            let dropped = Dropped {
                what,
                name: name.clone(),
                cascade: has(node, SyntaxKind::CASCADE),
                concurrently: says(node, "concurrently"),
                if_exists: has(node, SyntaxKind::IF_EXISTS),
            };
            let on = what.is_relation().then_some(name);
            self.add(node, on, Kind::Drop(dropped));
        }
    }

    fn lock(&mut self, node: &SyntaxNode) {
        let mode = child(node, SyntaxKind::LOCK_MODE_CLAUSE).and_then(|it| it.first_child());
        let mode = match mode {
            Some(mode) => LockMode::parse(&text(&mode)),
            None => Some(LockMode::AccessExclusive),
        };
        let tables = child(node, SyntaxKind::RELATION_LIST)
            .map(|it| names(&it, SyntaxKind::RELATION_NAME))
            .unwrap_or_default();
        match mode {
            Some(mode) if !tables.is_empty() => self.add_all(node, tables, &Kind::Lock(mode)),
            Some(_) | None => self.add(node, None, Kind::Unknown(table::headline(node))),
        }
    }

    fn reindex(&mut self, node: &SyntaxNode) {
        let concurrently = ast::Reindex::cast(node.clone()).is_some_and(|it| it.is_concurrently());
        let table =
            child(node, SyntaxKind::REINDEX_TARGET_TABLE).and_then(|it| name(&it.last_child()?));
        let index =
            child(node, SyntaxKind::REINDEX_TARGET_INDEX).and_then(|it| name(&it.last_child()?));
        let kind = Kind::Reindex {
            index: index.is_some(),
            concurrently,
        };
        self.add(node, table.or(index), kind);
    }

    fn maintenance(&mut self, node: &SyntaxNode, kind: &Kind) {
        let tables = child(node, SyntaxKind::TABLE_AND_COLUMNS_LIST)
            .map(|it| names(&it, SyntaxKind::TABLE_AND_COLUMNS))
            .unwrap_or_default();
        match tables.is_empty() {
            true => self.add(node, None, kind.clone()),
            false => self.add_all(node, tables, kind),
        }
    }

    fn comment(&mut self, node: &SyntaxNode) {
        let Some(object) = node.first_child() else {
            return self.add(node, None, Kind::Unknown(table::headline(node)));
        };
        let on = match object.kind() {
            SyntaxKind::OBJECT_TABLE
            | SyntaxKind::OBJECT_VIEW
            | SyntaxKind::OBJECT_MATERIALIZED_VIEW
            | SyntaxKind::OBJECT_INDEX
            | SyntaxKind::OBJECT_SEQUENCE
            | SyntaxKind::OBJECT_FOREIGN_TABLE => name(&object),
            // `schema.table.column`
            SyntaxKind::OBJECT_COLUMN => object
                .descendants()
                .filter(|it| it.kind() == SyntaxKind::PATH_REF)
                .nth(1)
                .and_then(|it| Name::parse(&text(&it))),
            SyntaxKind::OBJECT_TRIGGER
            | SyntaxKind::OBJECT_CONSTRAINT
            | SyntaxKind::OBJECT_POLICY
            | SyntaxKind::OBJECT_RULE => object
                .descendants()
                .filter(|it| it.kind() == SyntaxKind::PATH_REF)
                .last()
                .and_then(|it| Name::parse(&text(&it))),
            _ => return self.add(node, None, Kind::NoTable("COMMENT")),
        };
        self.add_one(node, on, Kind::Annotate);
    }

    fn setting(&mut self, node: &SyntaxNode) {
        let config = child(node, SyntaxKind::SET_CONFIG);
        let name = config
            .as_ref()
            .and_then(|it| first(it, SyntaxKind::CONFIG_PARAMETER_REF));
        let value = config
            .as_ref()
            .and_then(|it| it.last_child())
            .map(|it| text(&it));
        let value = value.unwrap_or_default();
        let value = value
            .trim_start_matches('=')
            .trim_start_matches("to ")
            .trim()
            .to_owned();
        let name = name.map_or_else(|| "schema".to_owned(), |it| it.name);
        self.add(node, None, Kind::Setting { name, value });
    }

    /// `SELECT`, DML and what wraps them: every level, since a CTE may write.
    fn query_statement(&mut self, node: &SyntaxNode) {
        let before = self.acts.len();
        for part in node.descendants() {
            match part.kind() {
                SyntaxKind::INSERT => {
                    let source = child(&part, SyntaxKind::VALUES);
                    let from_query = source.is_none() && !has(&part, SyntaxKind::DEFAULT_VALUES);
                    self.add_one(&part, table::target(&part), Kind::Insert { from_query });
                }
                SyntaxKind::UPDATE | SyntaxKind::DELETE if table::target(&part).is_some() => {
                    let whole = !has(&part, SyntaxKind::WHERE_CLAUSE)
                        && !has(&part, SyntaxKind::WHERE_CURRENT_OF);
                    let kind = match part.kind() {
                        SyntaxKind::UPDATE => Kind::Update { whole },
                        _ => Kind::Delete { whole },
                    };
                    self.add(&part, table::target(&part), kind);
                }
                SyntaxKind::MERGE => self.add_one(&part, table::target(&part), Kind::Merge),
                _ => {}
            }
        }
        match node.kind() {
            SyntaxKind::COPY => self.copy(node),
            SyntaxKind::CALL => {
                let routine = node.first_child().and_then(|it| name(&it));
                let kind = routine.map_or_else(|| Kind::Unknown("CALL".to_owned()), Kind::Call);
                self.add(node, None, kind);
            }
            _ => {}
        }
        self.query(node);
        if self.acts.len() == before {
            self.add(node, None, Kind::NoTable("a query of no table"));
        }
    }

    fn copy(&mut self, node: &SyntaxNode) {
        let table = child(node, SyntaxKind::COPY_TABLE).and_then(|it| name(&it));
        let into = node
            .descendants_with_tokens()
            .any(|it| it.kind() == SyntaxKind::FROM_KW);
        match table {
            Some(table) if into => self.add(node, Some(table), Kind::Insert { from_query: true }),
            Some(table) => self.add(node, Some(table), Kind::Read),
            None => {}
        }
    }

    /// What the queries under a node read and call.
    fn query(&mut self, node: &SyntaxNode) {
        let locking = node
            .descendants()
            .any(|it| it.kind() == SyntaxKind::LOCKING_CLAUSE);
        let ctes: Vec<_> = node
            .descendants()
            .filter(|it| it.kind() == SyntaxKind::CTE_NAME)
            .filter_map(|it| name(&it))
            .collect();
        for item in node.descendants() {
            if item.kind() != SyntaxKind::RELATION_FROM_ITEM {
                continue;
            }
            let Some(table) = name(&item).filter(|it| !ctes.contains(it)) else {
                continue;
            };
            let kind = match locking {
                true => Kind::ReadForUpdate,
                false => Kind::Read,
            };
            self.add(&item, Some(table), kind);
        }
        for function in calls(node) {
            self.add(node, None, Kind::Call(function));
        }
    }
}

fn first(node: &SyntaxNode, kind: SyntaxKind) -> Option<Name> {
    child(node, kind).and_then(|it| name(&it))
}

/// The text of a literal under a node, without its quotes.
fn bare_literal(node: &SyntaxNode) -> String {
    let literal = child(node, SyntaxKind::LITERAL).map(|it| text(&it));
    literal.unwrap_or_default().trim_matches('\'').to_owned()
}

/// What a kind of DROP drops, and the kind of node that names it.
fn dropped(kind: SyntaxKind) -> Option<(ObjectKind, SyntaxKind)> {
    Some(match kind {
        SyntaxKind::DROP_TABLE | SyntaxKind::DROP_FOREIGN_TABLE => {
            (ObjectKind::Table, SyntaxKind::TABLE_NAME_REF)
        }
        SyntaxKind::DROP_INDEX => (ObjectKind::Index, SyntaxKind::INDEX_REF),
        SyntaxKind::DROP_VIEW => (ObjectKind::View, SyntaxKind::VIEW_REF),
        SyntaxKind::DROP_MATERIALIZED_VIEW => (ObjectKind::MaterializedView, SyntaxKind::VIEW_REF),
        SyntaxKind::DROP_SEQUENCE => (ObjectKind::Sequence, SyntaxKind::SEQUENCE_REF),
        SyntaxKind::DROP_TYPE => (ObjectKind::Type, SyntaxKind::TYPE_NAME_REF),
        SyntaxKind::DROP_DOMAIN => (ObjectKind::Type, SyntaxKind::DOMAIN_REF),
        SyntaxKind::DROP_FUNCTION => (ObjectKind::Function, SyntaxKind::FUNCTION_NAME_REF),
        SyntaxKind::DROP_PROCEDURE => (ObjectKind::Function, SyntaxKind::PROCEDURE_NAME_REF),
        SyntaxKind::DROP_SCHEMA => (ObjectKind::Schema, SyntaxKind::SCHEMA_REF),
        SyntaxKind::DROP_EXTENSION => (ObjectKind::Extension, SyntaxKind::EXTENSION_REF),
        SyntaxKind::DROP_OWNED => (ObjectKind::Owned, SyntaxKind::ROLE_REF),
        SyntaxKind::DROP_ROLE | SyntaxKind::DROP_USER | SyntaxKind::DROP_GROUP => {
            (ObjectKind::Role, SyntaxKind::ROLE_REF)
        }
        SyntaxKind::DROP_AGGREGATE | SyntaxKind::DROP_ROUTINE | SyntaxKind::DROP_STATISTICS => {
            (ObjectKind::Other, SyntaxKind::PATH_REF)
        }
        _ => return None,
    })
}

/// Statements that lock no table.
fn no_table(kind: SyntaxKind) -> Option<&'static str> {
    Some(match kind {
        SyntaxKind::CREATE_FUNCTION | SyntaxKind::CREATE_PROCEDURE => "CREATE FUNCTION",
        SyntaxKind::ALTER_FUNCTION | SyntaxKind::ALTER_PROCEDURE | SyntaxKind::ALTER_ROUTINE => {
            "ALTER FUNCTION"
        }
        SyntaxKind::CREATE_TYPE => "CREATE TYPE",
        SyntaxKind::CREATE_DOMAIN => "CREATE DOMAIN",
        SyntaxKind::CREATE_SCHEMA => "CREATE SCHEMA",
        SyntaxKind::CREATE_EXTENSION => "CREATE EXTENSION",
        SyntaxKind::CREATE_AGGREGATE => "CREATE AGGREGATE",
        SyntaxKind::CREATE_OPERATOR => "CREATE OPERATOR",
        SyntaxKind::CREATE_CAST => "CREATE CAST",
        SyntaxKind::CREATE_COLLATION => "CREATE COLLATION",
        SyntaxKind::CREATE_ROLE | SyntaxKind::CREATE_USER | SyntaxKind::CREATE_GROUP => {
            "CREATE ROLE"
        }
        SyntaxKind::ALTER_ROLE | SyntaxKind::ALTER_USER | SyntaxKind::ALTER_GROUP => "ALTER ROLE",
        SyntaxKind::ALTER_DATABASE => "ALTER DATABASE",
        SyntaxKind::ALTER_SYSTEM => "ALTER SYSTEM",
        SyntaxKind::ALTER_DEFAULT_PRIVILEGES => "ALTER DEFAULT PRIVILEGES",
        SyntaxKind::GRANT => "GRANT",
        SyntaxKind::REVOKE => "REVOKE",
        SyntaxKind::NOTIFY | SyntaxKind::LISTEN | SyntaxKind::UNLISTEN => "NOTIFY",
        SyntaxKind::SAVEPOINT_CREATE | SyntaxKind::RELEASE_SAVEPOINT => "SAVEPOINT",
        SyntaxKind::SET_ROLE | SyntaxKind::RESET_ROLE => "SET ROLE",
        SyntaxKind::SET_CONSTRAINTS | SyntaxKind::SET_TRANSACTION | SyntaxKind::SHOW => "SET",
        SyntaxKind::CHECKPOINT | SyntaxKind::DISCARD | SyntaxKind::DEALLOCATE => "DISCARD",
        _ => return None,
    })
}
