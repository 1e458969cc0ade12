//! Which tools' histories are in a database, and which of them belongs to the files.

use std::fmt;

use super::Known;
use crate::runner::connect::Session;
use crate::runner::history::Row;
use crate::runner::plan::Problem;
use crate::runner::source::{Format, MigrationSet, Reading};

/// The table in which a tool keeps its history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::runner) struct ToolTable {
    /// The tool.
    pub(in crate::runner) format: Format,
    schema: String,
    name: String,
}

impl ToolTable {
    /// The name as SQL has it, quoted.
    pub(in crate::runner) fn quoted(&self) -> String {
        let quote = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
        format!("{}.{}", quote(&self.schema), quote(&self.name))
    }
}

impl fmt::Display for ToolTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.schema, self.name)
    }
}

/// What was found.
#[derive(Debug, Default)]
pub(in crate::runner) struct Found {
    /// Histories of tools whose files are read.
    tables: Vec<ToolTable>,
    /// Tools whose histories are there and whose files are not read.
    others: Vec<&'static str>,
    /// The table that was asked for, if it is there.
    asked: Option<(String, String)>,
}

/// The names under which tools keep their histories, unless told otherwise.
const NAMES: [&str; 13] = [
    "schema_migrations",
    "flyway_schema_history",
    "_sqlx_migrations",
    "_prisma_migrations",
    "goose_db_version",
    "refinery_schema_history",
    "ar_internal_metadata",
    "alembic_version",
    "django_migrations",
    "databasechangelog",
    "pgmigrations",
    "atlas_schema_revisions",
    "schema_version",
];

/// Looks for the histories of tools in every schema.
pub(in crate::runner) async fn find(
    session: &Session,
    asked: Option<&str>,
) -> Result<Found, tokio_postgres::Error> {
    let sql = "select n.nspname::text, c.relname::text, \
                      array(select a.attname::text from pg_attribute a \
                            where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped), \
                      n.nspname || '.' || c.relname is not distinct from $2 \
               from pg_class c join pg_namespace n on n.oid = c.relnamespace \
               where c.relkind in ('r', 'p') \
                 and (c.relname = any ($1) or n.nspname || '.' || c.relname = $2) \
                 and n.nspname not like 'pg\\_%' and n.nspname not in ('information_schema', 'pgdrain') \
               order by 1, 2";
    let names: Vec<_> = NAMES.iter().map(ToString::to_string).collect();
    let rows = session.client.query(sql, &[&names, &asked]).await?;
    let mut found = Found::default();
    let rails: Vec<String> = rows
        .iter()
        .filter(|row| row.get::<_, &str>(1) == "ar_internal_metadata")
        .map(|row| row.get(0))
        .collect();
    for row in &rows {
        let (schema, name): (String, String) = (row.get(0), row.get(1));
        let columns: Vec<String> = row.get(2);
        if row.get(3) {
            found.asked = Some((schema.clone(), name.clone()));
        }
        match recognise(&name, &columns, rails.contains(&schema)) {
            Tool::Read(format) => found.tables.push(ToolTable {
                format,
                schema,
                name,
            }),
            Tool::Other(tool) => found.others.push(tool),
            Tool::None => {}
        }
    }
    found.others.dedup();
    Ok(found)
}

#[derive(Debug, PartialEq, Eq)]
enum Tool {
    Read(Format),
    Other(&'static str),
    None,
}

/// The tool that a table belongs to, by its name and columns: four tools share `schema_migrations`.
fn recognise(name: &str, columns: &[String], rails: bool) -> Tool {
    let has = |column: &str| columns.iter().any(|it| it == column);
    match name {
        "schema_migrations" if has("version") && has("dirty") => Tool::Read(Format::GolangMigrate),
        "schema_migrations" if has("inserted_at") => Tool::Other("Ecto"),
        "schema_migrations" if has("version") && rails => Tool::Other("Rails"),
        "schema_migrations" if has("version") && columns.len() == 1 => Tool::Read(Format::Dbmate),
        "flyway_schema_history" if has("installed_rank") => Tool::Read(Format::Flyway),
        "schema_version" if has("installed_rank") => Tool::Read(Format::Flyway),
        "schema_version" => Tool::Other("tern"),
        "_sqlx_migrations" if has("checksum") => Tool::Read(Format::Sqlx),
        "_prisma_migrations" if has("migration_name") => Tool::Read(Format::Prisma),
        "goose_db_version" if has("version_id") => Tool::Read(Format::Goose),
        "refinery_schema_history" => Tool::Other("refinery"),
        "alembic_version" => Tool::Other("Alembic"),
        "django_migrations" => Tool::Other("Django"),
        "databasechangelog" => Tool::Other("Liquibase"),
        "pgmigrations" => Tool::Other("node-pg-migrate"),
        "atlas_schema_revisions" => Tool::Other("Atlas"),
        _ => Tool::None,
    }
}

/// Which reading of the files is the right one, and which table belongs to it.
pub(super) fn choose<'a>(
    reading: &'a Reading,
    found: &Found,
    asked: Option<&str>,
    own: &[Row],
    known: &mut Known,
) -> (&'a MigrationSet, Option<ToolTable>) {
    let set = match &reading.as_sqlx {
        Some(as_sqlx) if is_sqlx(found, own) => as_sqlx,
        Some(_) | None => &reading.set,
    };
    let format = set.format();
    if let Some(asked) = asked {
        let table = found.asked.clone().map(|(schema, name)| ToolTable {
            format,
            schema,
            name,
        });
        if table.is_none() {
            let text = format!("there is no table {asked} (--history takes SCHEMA.TABLE)");
            known.problems.push(Problem::Tool(text));
        }
        return (set, table);
    }
    if !found.others.is_empty() {
        known.notes.push(format!(
            "the database holds the history of a tool whose files are not read: {}",
            found.others.join(", ")
        ));
    }
    let ours: Vec<_> = found
        .tables
        .iter()
        .filter(|it| it.format == format)
        .collect();
    let told = reading.asked || own.iter().any(|it| it.format == format);
    match ours.as_slice() {
        [] if !told => known.problems.extend(contradiction(format, found)),
        [] => {}
        [table] => return (set, Some((*table).clone())),
        several => {
            let names: Vec<_> = several.iter().map(ToString::to_string).collect();
            let text = format!(
                "several tables could be the history of {format}: {}; say which with --history",
                names.join(", ")
            );
            known.problems.push(Problem::Tool(text));
        }
    }
    (set, None)
}

/// Pairs are named alike by golang-migrate and sqlx: a history of sqlx alone decides.
fn is_sqlx(found: &Found, own: &[Row]) -> bool {
    let has = |format| found.tables.iter().any(|it| it.format == format);
    let runs = |format| own.iter().any(|it| it.format == format);
    (has(Format::Sqlx) || runs(Format::Sqlx))
        && !has(Format::GolangMigrate)
        && !runs(Format::GolangMigrate)
}

/// The names say one tool, the database another.
fn contradiction(format: Format, found: &Found) -> Option<Problem> {
    let other = found.tables.first();
    let text = match other {
        Some(table) => format!(
            "the files are named as {format}'s, but the database holds {table}, the history of \
             {}: say --format {format} if they are, --format {} if not",
            table.format, table.format
        ),
        None if format == Format::Flyway && found.others.contains(&"refinery") => {
            "the files are named as Flyway's and as refinery's, whose history the database holds: \
             to refinery U files are no way back; say --format flyway if they are Flyway's"
                .to_owned()
        }
        None => return None,
    };
    Some(Problem::Tool(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_told_by_their_columns() {
        let tool = |name: &str, columns: &[&str], rails| {
            let columns: Vec<_> = columns.iter().map(ToString::to_string).collect();
            recognise(name, &columns, rails)
        };
        let migrations = "schema_migrations";
        assert_eq!(
            tool(migrations, &["version", "dirty"], false),
            Tool::Read(Format::GolangMigrate)
        );
        assert_eq!(
            tool(migrations, &["version"], false),
            Tool::Read(Format::Dbmate)
        );
        assert_eq!(tool(migrations, &["version"], true), Tool::Other("Rails"));
        assert_eq!(
            tool(migrations, &["version", "inserted_at"], false),
            Tool::Other("Ecto")
        );
        assert_eq!(tool(migrations, &["id", "version"], false), Tool::None);
        assert_eq!(tool("_prisma_migrations", &["id"], false), Tool::None);
        assert_eq!(
            tool("schema_version", &["version"], false),
            Tool::Other("tern")
        );
    }

    #[test]
    fn names_are_quoted() {
        let table = ToolTable {
            format: Format::Flyway,
            schema: "My \"App\"".to_owned(),
            name: "history".to_owned(),
        };
        assert_eq!(table.quoted(), "\"My \"\"App\"\"\".\"history\"");
        assert_eq!(table.to_string(), "My \"App\".history");
    }
}
