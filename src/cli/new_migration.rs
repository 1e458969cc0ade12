//! `pgdrain migrate new`: writes both directions of a new migration from a template.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Args;

use super::exit::Exit;
use super::output::note;
use crate::runner::source::{self, Format, MigrationSet, Version};

/// Write the files of a new migration, both directions, from a template
///
/// The version follows those of the directory: the next number where they are numbered, the time
/// (UTC) where they are timed or where there is none yet. Nothing is ever overwritten.
#[derive(Args, Debug)]
pub(super) struct New {
    /// What the migration does, in a few words.
    #[arg(value_name = "NAME")]
    name: String,
    /// The directory of the migration files; made if it is not there.
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// How the files are named and written: golang-migrate, flyway, dbmate, sqlx, prisma or goose;
    /// as those that are there if it is not said, else golang-migrate.
    #[arg(long, value_name = "FORMAT")]
    format: Option<Format>,
}

/// A file to write, below the directory.
type NewFile = (String, String);

impl New {
    pub(super) fn write(self) -> anyhow::Result<Exit> {
        let name = plain(&self.name)?;
        std::fs::create_dir_all(&self.dir)
            .with_context(|| format!("making {}", self.dir.display()))?;
        let set = present(&self.dir, self.format)?;
        let format = match (&set, self.format) {
            (Some(set), _) => set.format(),
            (None, Some(format)) => format,
            (None, None) => Format::GolangMigrate,
        };
        let digits = next(set.as_ref(), format, &now());
        let pairs = set.as_ref().is_none_or(has_pairs);
        let files = files(format, &digits, &name, pairs);
        for (file, _) in &files {
            let path = self.dir.join(file);
            if path.symlink_metadata().is_ok() {
                bail!("{} is there already", path.display());
            }
        }
        for (file, text) in &files {
            let path = self.dir.join(file);
            create(&path, text).with_context(|| format!("writing {}", path.display()))?;
            note(&format!("wrote {}", path.display()));
        }
        Ok(Exit::SUCCESS)
    }
}

/// Letters, digits and underscores, as every format takes them.
fn plain(name: &str) -> anyhow::Result<String> {
    let words = name
        .split(|it: char| !it.is_ascii_alphanumeric())
        .filter(|it| !it.is_empty());
    let plain = words.collect::<Vec<_>>().join("_").to_ascii_lowercase();
    if plain.is_empty() || plain.len() > 100 {
        bail!("{name:?} cannot name a file: take a few words of letters and digits");
    }
    Ok(plain)
}

/// What the directory holds; `None` if no migrations.
fn present(directory: &Path, format: Option<Format>) -> anyhow::Result<Option<MigrationSet>> {
    let faults = |faults: Vec<source::SourceError>| {
        let faults: String = faults.iter().map(|fault| format!("\n  {fault}")).collect();
        anyhow::anyhow!(
            "the files of {} cannot be used:{faults}",
            directory.display()
        )
    };
    let files = source::read_directory(directory, format).map_err(faults)?;
    if files.is_empty() {
        return Ok(None);
    }
    let reading = source::read(&files, format).map_err(faults)?;
    Ok(Some(reading.set).filter(|set| !set.is_empty()))
}

fn now() -> String {
    jiff::Timestamp::now().strftime("%Y%m%d%H%M%S").to_string()
}

/// The digits of the next version.
fn next(set: Option<&MigrationSet>, format: Format, now: &str) -> String {
    let newest = set.and_then(|set| {
        set.iter()
            .rfind(|it| !it.version.is_repeatable())
            .map(|it| (it.version.clone(), it.name.as_str()))
    });
    let Some((version, name)) = newest else {
        return match (set, format) {
            (Some(_), _) | (None, Format::Flyway) => "1".to_owned(),
            (None, _) => now.to_owned(),
        };
    };
    // Times have at least their date; numbers that people count do not get that far.
    const TIMES: u64 = 19_700_101;
    let first = match &version {
        Version::Numbered(parts) => parts.first().copied().unwrap_or_default(),
        Version::Repeatable(_) => 0,
    };
    if format == Format::Prisma || first >= TIMES {
        // Whatever the clock says, the new one comes behind all others.
        let after = version.as_number().map_or(0, |it| it.saturating_add(1));
        let time = now.parse().unwrap_or(after);
        return time.max(after).to_string();
    }
    // As wide as the newest one is written: 009 is followed by 010.
    let digits = name.trim_start_matches('V');
    let width = digits.chars().take_while(char::is_ascii_digit).count();
    format!("{:0width$}", first.saturating_add(1))
}

/// Whether sqlx's files here have a way back.
fn has_pairs(set: &MigrationSet) -> bool {
    set.iter().any(|it| it.down.is_some())
}

fn files(format: Format, digits: &str, name: &str, pairs: bool) -> Vec<NewFile> {
    let up = format!("-- {name}: the way there\n");
    let down = "-- The way back. If there is none, take this away and write in the way there, as a\n\
                -- comment: \"pgdrain:irreversible REASON\"\n";
    let simple = "-- pgdrain:irreversible files of this directory have no way back\n";
    match format {
        Format::Sqlx if !pairs => vec![(format!("{digits}_{name}.sql"), format!("{up}{simple}"))],
        Format::GolangMigrate | Format::Sqlx => vec![
            (format!("{digits}_{name}.up.sql"), up),
            (format!("{digits}_{name}.down.sql"), down.to_owned()),
        ],
        Format::Flyway => vec![
            (format!("V{digits}__{name}.sql"), up),
            (format!("U{digits}__{name}.sql"), down.to_owned()),
        ],
        Format::Prisma => vec![
            (format!("{digits}_{name}/migration.sql"), up),
            (format!("{digits}_{name}/down.sql"), down.to_owned()),
        ],
        Format::Dbmate => vec![(
            format!("{digits}_{name}.sql"),
            format!("-- migrate:up\n{up}\n-- migrate:down\n{down}"),
        )],
        Format::Goose => vec![(
            format!("{digits}_{name}.sql"),
            format!("-- +goose Up\n{up}\n-- +goose Down\n{down}"),
        )],
    }
}

/// Writes a file that is not there yet, whoever else may be about to.
fn create(path: &Path, text: &str) -> std::io::Result<()> {
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
    file.write_all(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: &str = "20261121190000";

    /// Names and texts.
    type Files<'a> = &'a [(&'a str, &'a str)];

    fn directory(files: Files<'_>) -> tempfile::TempDir {
        let directory = tempfile::tempdir().expect("a directory");
        for (name, text) in files {
            create(&directory.path().join(name), text).expect("writable");
        }
        directory
    }

    fn next_in(files: Files<'_>, format: Format) -> String {
        let directory = directory(files);
        let set = present(directory.path(), None).expect("sound files");
        next(set.as_ref(), format, NOW)
    }

    #[test]
    fn the_version_follows_the_habit_of_the_directory() {
        let table: [(Files<'_>, Format, &str); 7] = [
            (&[], Format::GolangMigrate, NOW),
            (&[], Format::Flyway, "1"),
            (
                &[("009_a.up.sql", "select 1")],
                Format::GolangMigrate,
                "010",
            ),
            (&[("99_a.up.sql", "select 1")], Format::GolangMigrate, "100"),
            (&[("20240101000000_a.sql", "select 1")], Format::Sqlx, NOW),
            (
                &[("20990101000000_a.sql", "select 1")],
                Format::Sqlx,
                "20990101000001",
            ),
            (
                &[("V2.5__a.sql", "select 1"), ("R__b.sql", "select 1")],
                Format::Flyway,
                "3",
            ),
        ];
        for (files, format, expected) in table {
            assert_eq!(next_in(files, format), expected, "{files:?}");
        }
    }

    #[test]
    fn both_directions_are_written_and_read_again() {
        for format in Format::ALL {
            let directory = directory(&[]);
            let new = |name: &str| New {
                name: name.to_owned(),
                dir: directory.path().join("new"),
                format: Some(format),
            };
            new("Add a Column!").write().expect("written");
            let files = source::read_directory(&directory.path().join("new"), Some(format));
            let set = format.collect(&files.expect("readable")).expect("a set");
            assert_eq!(set.len(), 1, "{format}");
            let migration = set.iter().next().expect("one");
            assert!(
                migration.name.ends_with("add_a_column"),
                "{}",
                migration.name
            );
            // goose's template has no statement yet, and so no way back.
            assert!(
                migration.down.is_some() || format == Format::Goose,
                "{format}"
            );
            new("another").write().expect("written");
            let files = source::read_directory(&directory.path().join("new"), None);
            let set = source::read(&files.expect("readable"), None)
                .expect("told by names")
                .set;
            assert_eq!(set.len(), 2, "{format}");
        }
    }

    #[test]
    fn nothing_is_overwritten() {
        let directory = directory(&[]);
        let path = directory.path().join("1_a.up.sql");
        create(&path, "mine").expect("writable");
        assert!(create(&path, "yours").is_err());
        assert_eq!(std::fs::read_to_string(&path).expect("readable"), "mine");
        assert!(plain("../..").is_err());
        assert_eq!(plain("../etc/Passwd").expect("a name"), "etc_passwd");
    }
}
