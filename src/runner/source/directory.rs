//! Reads migration files for the command line.

use std::path::Path;

use super::detect::{is_flyway, is_prisma};
use super::gather::base_name;
use super::{FILE_BYTES_MAX, Format, PostedFile, Sha256, SourceError, SourceProblem, read};

/// How deep directories are looked into: Flyway's may be grouped, nobody's are that deep.
const DEPTH_MAX: usize = 8;

/// Reads a directory and checks that it forms a set of migrations of a format, or of the one that
/// its names tell.
///
/// Files that do not end in `.sql` (or `.sql.conf`) are passed over, and so are those of
/// subdirectories unless they are named as Flyway's or Prisma's are.
///
/// # Errors
/// Every fault found, not only the first.
pub fn read_directory(
    directory: &Path,
    format: Option<Format>,
) -> Result<Vec<PostedFile>, Vec<SourceError>> {
    let mut names = Vec::new();
    list(directory, "", 0, &mut names)
        .map_err(|error| vec![SourceProblem::from(error).of(directory.display().to_string())])?;
    names.sort();
    let mut files = Vec::new();
    let mut errors = Vec::new();
    for name in names.into_iter().filter(|it| is_wanted(it, format)) {
        match read_file(&directory.join(&name)) {
            Ok(sql) => {
                let sha256 = Sha256::of(sql.as_bytes()).to_string();
                files.push(PostedFile { name, sql, sha256 });
            }
            Err(problem) => errors.push(problem.of(name)),
        }
    }
    if !files.is_empty()
        && let Err(more) = read(&files, format)
    {
        errors.extend(more);
    }
    if errors.is_empty() {
        Ok(files)
    } else {
        Err(errors)
    }
}

/// Collects the names below a directory.
fn list(
    directory: &Path,
    prefix: &str,
    depth: usize,
    names: &mut Vec<String>,
) -> std::io::Result<()> {
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        if entry.path().is_dir() {
            if depth < DEPTH_MAX {
                list(&entry.path(), &format!("{name}/"), depth + 1, names)?;
            }
        } else {
            names.push(name);
        }
    }
    Ok(())
}

/// Whether a file may belong to a migration of a format, or of any.
fn is_wanted(name: &str, format: Option<Format>) -> bool {
    let (base, nested) = base_name(name);
    let flyway = || {
        (base.ends_with(".sql") || base.ends_with(".sql.conf"))
            && is_flyway(base.trim_end_matches(".conf"))
    };
    // Also where the directory is named wrongly, so that it is told and not passed over.
    let prisma = || is_prisma(name) || (base == "migration.sql" && name.matches('/').count() == 1);
    match format {
        Some(Format::Flyway) if nested => flyway(),
        Some(Format::Flyway) => base.ends_with(".sql") || base.ends_with(".sql.conf"),
        Some(Format::Prisma) => prisma() || name == "migration_lock.toml",
        Some(Format::GolangMigrate | Format::Dbmate | Format::Sqlx | Format::Goose) => {
            !nested && base.ends_with(".sql")
        }
        None if nested => prisma() || flyway(),
        None => {
            base.ends_with(".sql") || base.ends_with(".sql.conf") || name == "migration_lock.toml"
        }
    }
}

fn read_file(path: &Path) -> Result<String, SourceProblem> {
    if std::fs::metadata(path)?.len() > FILE_BYTES_MAX as u64 {
        return Err(SourceProblem::TooLarge);
    }
    String::from_utf8(std::fs::read(path)?)
        .map_err(|error| SourceProblem::Encoding(error.utf8_error().valid_up_to()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_read_with_its_faults() {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, bytes: &[u8]| {
            std::fs::write(directory.path().join(name), bytes).unwrap();
        };
        write("002_b.up.sql", b"select 2");
        write("001_a.up.sql", b"select 1");
        write("atlas.sum", b"\xff");
        std::fs::create_dir(directory.path().join("old.sql")).unwrap();
        write("old.sql/0001_x.up.sql", b"select 1");
        let files = read_directory(directory.path(), None).unwrap();
        assert_eq!(
            files.iter().map(|it| &*it.name).collect::<Vec<_>>(),
            ["001_a.up.sql", "002_b.up.sql"]
        );

        write("003_c.up.sql", b"select '\xff'");
        let found = read_directory(directory.path(), None).unwrap_err();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].to_string(), "003_c.up.sql: is not UTF-8 (byte 8)");
    }

    #[test]
    fn directories_below_are_looked_into_for_those_who_have_them() {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = directory.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        let names = |format| -> Vec<String> {
            let files = read_directory(directory.path(), format).unwrap();
            files.into_iter().map(|it| it.name).collect()
        };
        write("20240101000000_init/migration.sql", "select 1");
        write("20240101000000_init/down.sql", "select -1");
        write("20240101000000_init/notes.sql", "select 'passed over'");
        write("migration_lock.toml", "provider = \"postgresql\"");
        let prisma = [
            "20240101000000_init/down.sql",
            "20240101000000_init/migration.sql",
            "migration_lock.toml",
        ];
        assert_eq!(names(None), prisma);
        assert_eq!(names(Some(Format::Prisma)), prisma);

        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("2024/q1");
        std::fs::create_dir_all(&path).unwrap();
        std::fs::write(path.join("V1__a.sql"), "select 1").unwrap();
        std::fs::write(path.join("V1__a.sql.conf"), "executeInTransaction=false").unwrap();
        let files = read_directory(directory.path(), None).unwrap();
        assert_eq!(files.len(), 2);
    }
}
