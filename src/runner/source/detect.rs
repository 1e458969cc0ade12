//! Which format a directory is in, told by names and by the markers that some formats put into the
//! text. What could be two of them is refused: guessing wrong would run the wrong half of a file.

use std::collections::BTreeMap;

use super::gather::base_name;
use super::{Format, MigrationSet, PostedFile, SourceError, SourceProblem, dbmate, goose, sqlx};

pub(super) use super::flyway::is_flyway;
pub(super) use super::prisma::is_prisma;

/// A directory that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    /// The migrations.
    pub set: MigrationSet,
    /// Whether the format was asked for, and not told by names.
    pub asked: bool,
    /// The same files as sqlx reads them: pairs are named alike by golang-migrate and by sqlx, so a
    /// history of sqlx in the database decides. `None` if there is nothing to decide.
    pub as_sqlx: Option<MigrationSet>,
}

/// Reads posted files in the format asked for, or in the one that they are in.
///
/// # Errors
/// Every fault found; files of several formats, or of none.
pub fn read(files: &[PostedFile], asked: Option<Format>) -> Result<Reading, Vec<SourceError>> {
    let format = match asked {
        Some(format) => format,
        None => tell(files)?,
    };
    let set = format.collect(files)?;
    if let Some(first) = files.first().filter(|_| set.is_empty()) {
        let text = format!(
            "none of the files is a migration: expected {} for {format}, or say --format",
            format.names()
        );
        return Err(vec![SourceProblem::Rule(text).of(&first.name)]);
    }
    let as_sqlx = (asked.is_none() && format == Format::GolangMigrate)
        .then(|| sqlx::collect(files).ok())
        .flatten();
    Ok(Reading {
        set,
        asked: asked.is_some(),
        as_sqlx,
    })
}

/// The format of files, if it is one.
fn tell(files: &[PostedFile]) -> Result<Format, Vec<SourceError>> {
    let mut found: BTreeMap<&str, (Format, &str)> = BTreeMap::new();
    let mut strangers = Vec::new();
    for file in files.iter().filter(|it| it.name.ends_with(".sql")) {
        match kind(file) {
            Kind::Of(format) => {
                let first = (format, file.name.as_str());
                found.entry(format.as_str()).or_insert(first);
            }
            Kind::Stranger(tool) => strangers.push(stranger(file, tool)),
            // Only the format can say whether this is a typing error.
            Kind::Unknown => {}
        }
    }
    if !strangers.is_empty() {
        return Err(strangers);
    }
    let mut formats = found.values();
    match (formats.next(), formats.next()) {
        (Some((format, _)), None) => Ok(*format),
        (Some((_, file)), Some(_)) => {
            let of: Vec<_> = found
                .values()
                .map(|(format, file)| format!("{format} ({})", file.escape_debug()))
                .collect();
            let text = format!(
                "the files could be of several formats: {}; say which with --format",
                of.join(", ")
            );
            Err(vec![SourceProblem::Rule(text).of(*file)])
        }
        // The home format's rule says what is wrong with each name.
        (None, _) => Ok(Format::GolangMigrate),
    }
}

enum Kind {
    Of(Format),
    /// In the manner of a tool whose files are not read.
    Stranger(&'static str),
    Unknown,
}

fn kind(file: &PostedFile) -> Kind {
    let (base, nested) = base_name(&file.name);
    if is_prisma(&file.name) {
        return Kind::Of(Format::Prisma);
    }
    if is_flyway(base) {
        return Kind::Of(Format::Flyway);
    }
    if nested || !base.starts_with(|it: char| it.is_ascii_digit()) {
        return Kind::Unknown;
    }
    for line in file.sql.lines() {
        if goose::annotation(line).is_some() {
            return Kind::Of(Format::Goose);
        }
        if ["up", "down"]
            .iter()
            .any(|it| dbmate::marker(line, it).is_some())
        {
            return Kind::Of(Format::Dbmate);
        }
        if let Some(tool) = other_tool(line) {
            return Kind::Stranger(tool);
        }
    }
    if base.ends_with(".up.sql") || base.ends_with(".down.sql") {
        Kind::Of(Format::GolangMigrate)
    } else if base.contains('_') {
        Kind::Of(Format::Sqlx)
    } else {
        Kind::Unknown
    }
}

/// Markers of tools whose files are not read: taken for anything else, both directions would run.
fn other_tool(line: &str) -> Option<&'static str> {
    let comment = line.trim().strip_prefix("--")?.trim().to_ascii_lowercase();
    match comment.trim_start_matches('-').trim() {
        it if it.starts_with("create above / drop below") => Some("tern"),
        it if it == "up migration" || it == "down migration" => Some("node-pg-migrate"),
        it if it.starts_with("! previous:") => Some("graphile-migrate"),
        it if it.starts_with("+migrate ") => Some("sql-migrate"),
        it if it.starts_with("atlas:txtar") => Some("Atlas"),
        it if it.starts_with("liquibase formatted sql") => Some("Liquibase"),
        _ => None,
    }
}

fn stranger(file: &PostedFile, tool: &str) -> SourceError {
    let text = format!(
        "is a file of {tool}, whose rules pgdrain does not know: run the tool in a window \
         (`pgdrain window exec DB -- COMMAND`), or write it in one of: {}",
        Format::WORDS.join(", ")
    );
    SourceProblem::Rule(text).of(&file.name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runner::source::gather::posted;

    const DBMATE: &str = "-- migrate:up\nselect 1;\n-- migrate:down\n";
    const GOOSE: &str = "-- +goose Up\nselect 1;\n";

    /// Names and texts.
    type Files<'a> = &'a [(&'a str, &'a str)];

    fn format(files: Files<'_>) -> Result<Format, String> {
        let files: Vec<_> = files.iter().map(|(name, sql)| posted(name, sql)).collect();
        match read(&files, None) {
            Ok(reading) => Ok(reading.set.format()),
            Err(errors) => Err(errors.iter().map(|it| format!("{it}\n")).collect()),
        }
    }

    #[test]
    fn names_and_markers_tell_the_format() {
        let table: [(Files<'_>, Format); 8] = [
            (
                &[("1_a.up.sql", "select 1"), ("1_a.down.sql", "select 1")],
                Format::GolangMigrate,
            ),
            (&[("1_a.sql", "select 1")], Format::Sqlx),
            (&[("1_a.sql", DBMATE)], Format::Dbmate),
            (&[("20240101.sql", DBMATE)], Format::Dbmate),
            (&[("1_a.sql", GOOSE)], Format::Goose),
            (
                &[("V1__a.sql", "select 1"), ("R__b.sql", "select 1")],
                Format::Flyway,
            ),
            (&[("x/V1__a.sql", "select 1")], Format::Flyway),
            (
                &[("20240101000000_a/migration.sql", "select 1")],
                Format::Prisma,
            ),
        ];
        for (files, expected) in table {
            assert_eq!(format(files), Ok(expected), "{files:?}");
        }
        let pairs = [posted("1_a.up.sql", "-- no-transaction\nvacuum")];
        let reading = read(&pairs, None).unwrap();
        assert!(
            reading
                .as_sqlx
                .is_some_and(|it| it.iter().all(|it| it.up.no_transaction))
        );
        assert!(read(&pairs, Some(Format::Sqlx)).unwrap().as_sqlx.is_none());
    }

    #[test]
    fn what_could_be_two_is_refused_with_the_files_and_the_way_out() {
        let mixed = format(&[
            ("1_a.up.sql", "select 1"),
            ("2_b.sql", DBMATE),
            ("V3__c.sql", "select 1"),
        ]);
        assert_eq!(
            mixed.unwrap_err(),
            "2_b.sql: the files could be of several formats: dbmate (2_b.sql), flyway (V3__c.sql), \
             golang-migrate (1_a.up.sql); say which with --format\n"
        );
        let asked = [
            posted("1_a.up.sql", "select 1"),
            posted("2_b.sql", "select 2"),
        ];
        assert!(read(&asked, None).is_err());
        assert_eq!(read(&asked, Some(Format::Sqlx)).unwrap().set.len(), 2);
        let fault = format(&[("init/migration.sql", "select 1")]).unwrap_err();
        assert!(
            fault.starts_with("init/migration.sql: none of the files is a migration"),
            "{fault}"
        );
        let fault = format(&[("notes.sql", "select 1")]).unwrap_err();
        assert!(
            fault.starts_with("notes.sql: is no migration file: expected NUMBER_name.up.sql"),
            "{fault}"
        );
    }

    #[test]
    fn files_of_other_tools_are_named() {
        let table = [
            ("select 1;\n---- create above / drop below ----\n", "tern"),
            ("-- Up Migration\n", "node-pg-migrate"),
            ("--! Previous: -\n", "graphile-migrate"),
            ("-- +migrate Up\n", "sql-migrate"),
            ("--liquibase formatted sql\n", "Liquibase"),
        ];
        for (sql, tool) in table {
            let text = format(&[("1_a.sql", sql)]).unwrap_err();
            assert!(
                text.starts_with(&format!("1_a.sql: is a file of {tool}, whose")),
                "{text}"
            );
        }
    }
}
