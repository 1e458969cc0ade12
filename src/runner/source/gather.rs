//! What all formats share: the checks of a posted file, and the pairing of up and down.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use super::{
    FILE_BYTES_MAX, Format, Migration, MigrationSet, PostedFile, Sha256, SourceError,
    SourceProblem, SqlFile, Version,
};

/// Files as they are found, until all are, and every fault among them.
pub(super) struct Gathering {
    format: Format,
    ups: BTreeMap<Version, (String, SqlFile)>,
    downs: BTreeMap<Version, SqlFile>,
    errors: Vec<SourceError>,
}

impl Gathering {
    pub(super) fn new(format: Format) -> Self {
        Self {
            format,
            ups: BTreeMap::new(),
            downs: BTreeMap::new(),
            errors: Vec::new(),
        }
    }

    /// Does something with a file, and keeps what is wrong with it.
    pub(super) fn take(
        &mut self,
        file: &PostedFile,
        with: impl FnOnce(&mut Self) -> Result<(), SourceProblem>,
    ) {
        if let Err(problem) = with(self) {
            self.fail(&file.name, problem);
        }
    }

    pub(super) fn fail(&mut self, file: &str, problem: SourceProblem) {
        self.errors.push(problem.of(file));
    }

    /// What holds for the text of every migration, whatever its format.
    pub(super) fn check(&self, file: &PostedFile) -> Result<(), SourceProblem> {
        arrived_whole(file)?;
        if file.sql.contains('\0') {
            return Err(SourceProblem::Nul);
        }
        if file.sql.trim_start_matches('\u{feff}').trim().is_empty() {
            return Err(SourceProblem::Empty);
        }
        Ok(())
    }

    /// Adds one direction of a migration. `stem` names the migration.
    pub(super) fn add(
        &mut self,
        up: bool,
        version: Version,
        stem: &str,
        file: SqlFile,
    ) -> Result<(), SourceProblem> {
        let taken = if up {
            match self.ups.entry(version) {
                Entry::Vacant(entry) => {
                    entry.insert((stem.to_owned(), file));
                    None
                }
                Entry::Occupied(other) => Some(other.get().1.name.clone()),
            }
        } else {
            match self.downs.entry(version) {
                Entry::Vacant(entry) => {
                    entry.insert(file);
                    None
                }
                Entry::Occupied(other) => Some(other.get().name.clone()),
            }
        };
        taken.map_or(Ok(()), |other| Err(SourceProblem::Duplicate(other)))
    }

    /// The set, or every fault found.
    pub(super) fn finish(mut self) -> Result<MigrationSet, Vec<SourceError>> {
        let mut migrations = BTreeMap::new();
        for (version, (name, up)) in self.ups {
            let down = self.downs.remove(&version);
            let migration = Migration {
                version: version.clone(),
                name,
                up,
                down,
            };
            migrations.insert(version, migration);
        }
        // A faulty up file would make its innocent down file look like a second fault.
        if self.errors.is_empty() {
            let alone = self.downs.into_values();
            self.errors
                .extend(alone.map(|it| SourceProblem::DownWithoutUp.of(it.name)));
        }
        if self.errors.is_empty() {
            Ok(MigrationSet {
                format: self.format,
                migrations,
            })
        } else {
            Err(self.errors)
        }
    }
}

/// That a file is not too large and is what was sent.
pub(super) fn arrived_whole(file: &PostedFile) -> Result<(), SourceProblem> {
    if file.sql.len() > FILE_BYTES_MAX {
        return Err(SourceProblem::TooLarge);
    }
    let actual = Sha256::of(file.sql.as_bytes());
    if !file.sha256.eq_ignore_ascii_case(&actual.to_string()) {
        return Err(SourceProblem::Checksum {
            announced: file.sha256.clone(),
            actual,
        });
    }
    Ok(())
}

/// Whether a name may reach terminals and logs.
pub(super) fn plain_name(name: &str) -> bool {
    name.len() <= 255 && !name.chars().any(char::is_control)
}

/// The last part of a name, and whether it lies below another directory.
pub(super) fn base_name(name: &str) -> (&str, bool) {
    match name.rsplit_once('/') {
        Some((_, base)) => (base, true),
        None => (name, false),
    }
}

/// A file as the command line sends it.
#[cfg(test)]
pub(super) fn posted(name: &str, sql: &str) -> PostedFile {
    PostedFile {
        name: name.to_owned(),
        sql: sql.to_owned(),
        sha256: Sha256::of(sql.as_bytes()).to_string(),
    }
}
