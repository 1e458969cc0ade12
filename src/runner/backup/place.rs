//! Where backups are: `DIR/DATABASE/RUN`, each with its dump and its manifest.
//!
//! ```text
//! shop/latest-backup.txt          the path of the newest whole backup
//! shop/RUN/manifest.json          written last
//! shop/RUN/dump/...               what pg_dump or the command wrote
//! shop/RUN.partial/lock           locked (flock) by the process that writes it
//! ```
//!
//! A backup is whole when it has its name: the directory is renamed after everything in it has
//! reached the disk. Whoever dies before leaves a partial one whose lock is free.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::manifest::Manifest;

/// What may stand in the name of a directory as it is.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'_').remove(b'-');

const PARTIAL: &str = ".partial";
const MANIFEST: &str = "manifest.json";
const LATEST: &str = "latest-backup.txt";

/// A partial backup without a lock file is one that is just being made, or else this old.
const UNLOCKED_AGE: Duration = Duration::from_secs(3600);

/// The backups of a database.
#[derive(Clone, Debug)]
pub(super) struct Place {
    root: PathBuf,
}

/// What is there.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Whole backups, oldest first.
    pub(super) whole: Vec<(PathBuf, Manifest)>,
    /// Partial ones, and whether somebody writes them.
    pub(super) partial: Vec<(PathBuf, bool)>,
    /// What bears the name of a backup and cannot be read, with the reason.
    pub(super) unreadable: Vec<(PathBuf, String)>,
}

/// What pruning did.
#[derive(Debug, Default)]
pub(super) struct Swept {
    /// The runs whose backups were removed.
    pub(super) removed: Vec<String>,
    /// Partial backups that nobody writes any more, removed.
    pub(super) abandoned: Vec<PathBuf>,
    /// What could not be removed, with the reason.
    pub(super) failed: Vec<String>,
}

impl Place {
    /// The place of a database below the directory of backups.
    pub(super) fn of(dir: &Path, database: &str) -> Self {
        let name = utf8_percent_encode(database, PLAIN).to_string();
        Self {
            root: dir.join(name),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.root
    }

    /// Begins a backup: an empty directory that nobody else can read, and a lock on it.
    pub(super) fn begin(&self, run: &str) -> io::Result<Partial> {
        let mut builder = DirBuilder::new();
        builder.mode(0o700);
        builder.recursive(true).create(&self.root)?;
        let path = self.root.join(format!("{run}{PARTIAL}"));
        builder.recursive(false).create(&path)?;
        // Locked before it has its name: one that is free means that nobody is there any more.
        let new = path.join("lock.new");
        let lock = create(&new)?;
        lock.lock()?;
        fs::rename(&new, path.join("lock"))?;
        Ok(Partial {
            path,
            whole: self.root.join(run),
            root: self.root.clone(),
            lock,
        })
    }

    /// Writes into `latest-backup.txt` which one is the newest: its path, in a line. It is whole or
    /// the former one.
    pub(super) fn point_to(&self, newest: &Path) -> io::Result<()> {
        let new = self.root.join(format!("{LATEST}.new"));
        let mut file = create(&new)?;
        writeln!(file, "{}", newest.display())?;
        file.sync_all()?;
        fs::rename(&new, self.root.join(LATEST))?;
        sync_directory(&self.root)
    }

    /// Everything that is there; nothing where no backup was ever made.
    pub(super) fn look(&self) -> io::Result<Found> {
        let mut found = Found::default();
        let entries = match fs::read_dir(&self.root) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(found),
            Err(error) => return Err(error),
        };
        for entry in entries {
            let entry = entry?;
            let path = entry.path();
            if !entry.file_type()?.is_dir() {
                continue;
            }
            if entry.file_name().to_string_lossy().ends_with(PARTIAL) {
                let written = is_written(&path);
                found.partial.push((path, written));
                continue;
            }
            match read_manifest(&path) {
                Ok(manifest) => found.whole.push((path, manifest)),
                // Somebody else's directory, or a backup whose manifest was taken away.
                Err(error) => found.unreadable.push((path, error.to_string())),
            }
        }
        found.whole.sort_by_key(|(_, it)| it.finished_at);
        found.partial.sort();
        Ok(found)
    }

    /// A whole backup, kept from being removed as long as the file is open.
    pub(super) fn open(&self, run: &str) -> io::Result<(PathBuf, Manifest, File)> {
        // The name comes from a stranger; a run is a UUID.
        if run.is_empty() || !run.bytes().all(|it| it.is_ascii_hexdigit() || it == b'-') {
            return Err(io::ErrorKind::NotFound.into());
        }
        let path = self.root.join(run);
        let keep = File::open(path.join(MANIFEST))?;
        keep.lock_shared()?;
        let manifest = read_manifest(&path)?;
        Ok((path, manifest, keep))
    }

    /// Removes backups that are older than `keep`, but not the newest; and partial ones that
    /// nobody writes.
    pub(super) fn prune(&self, keep: Duration, now: jiff::Timestamp) -> io::Result<Swept> {
        let mut swept = Swept::default();
        let mut found = self.look()?;
        found.whole.pop();
        for (path, manifest) in found.whole {
            let age = Duration::try_from(now.duration_since(manifest.finished_at));
            // One from the future has no age.
            if age.is_ok_and(|age| age > keep) {
                match self.remove(&path) {
                    Ok(true) => swept.removed.push(manifest.run),
                    Ok(false) => {}
                    Err(error) => swept.failed.push(format!("{}: {error}", path.display())),
                }
            }
        }
        for (path, _) in found.partial.into_iter().filter(|(_, written)| !written) {
            match fs::remove_dir_all(&path) {
                Ok(()) => swept.abandoned.push(path),
                // Somebody else was faster.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => swept.failed.push(format!("{}: {error}", path.display())),
            }
        }
        Ok(swept)
    }

    /// Removes a whole backup, unless somebody restores it. Its name goes first, so that half of
    /// one is never taken for a whole one.
    fn remove(&self, path: &Path) -> io::Result<bool> {
        let manifest = match File::open(path.join(MANIFEST)) {
            Ok(manifest) => manifest,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        };
        if manifest.try_lock().is_err() {
            return Ok(false);
        }
        let mut gone = path.as_os_str().to_owned();
        gone.push(PARTIAL);
        fs::rename(path, &gone)?;
        fs::remove_dir_all(&gone)?;
        Ok(true)
    }
}

/// A backup that is being written.
#[derive(Debug)]
pub(super) struct Partial {
    pub(super) path: PathBuf,
    whole: PathBuf,
    root: PathBuf,
    lock: File,
}

impl Partial {
    /// Where the dump goes.
    pub(super) fn dump(&self) -> PathBuf {
        self.path.join("dump")
    }

    /// Makes it a whole one, for good: everything is on the disk before it has its name.
    pub(super) fn finish(self, manifest: &Manifest) -> io::Result<PathBuf> {
        let text = serde_json::to_vec_pretty(manifest)?;
        let mut file = create(&self.path.join(MANIFEST))?;
        file.write_all(&text)?;
        file.sync_all()?;
        fs::remove_file(self.path.join("lock"))?;
        sync_directory(&self.path)?;
        fs::rename(&self.path, &self.whole)?;
        sync_directory(&self.root)?;
        drop(self.lock);
        Ok(self.whole)
    }

    /// Removes it.
    pub(super) fn discard(self) -> io::Result<()> {
        fs::remove_dir_all(&self.path)
    }
}

/// Creates a file that only we can read.
fn create(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    options.open(path)
}

/// A name that was made or changed survives a crash of the machine only when its directory has
/// been written too.
pub(super) fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

fn read_manifest(backup: &Path) -> io::Result<Manifest> {
    let text = fs::read(backup.join(MANIFEST))?;
    Ok(serde_json::from_slice(&text)?)
}

/// Whether somebody writes a partial backup: whoever does holds its lock.
fn is_written(partial: &Path) -> bool {
    match File::open(partial.join("lock")) {
        Ok(lock) => lock.try_lock().is_err(),
        Err(_) => {
            let changed = fs::metadata(partial).and_then(|it| it.modified());
            let age = changed.map(|it| SystemTime::now().duration_since(it));
            !matches!(age, Ok(Ok(age)) if age > UNLOCKED_AGE)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runner::backup::manifest::tests::manifest;

    fn make(place: &Place, run: &str, finished_at: &str) -> PathBuf {
        let partial = place.begin(run).expect("a directory");
        fs::create_dir(partial.dump()).expect("a directory");
        let finished_at = finished_at.parse().expect("a time");
        partial
            .finish(&manifest(run, finished_at))
            .expect("a backup")
    }

    fn now() -> jiff::Timestamp {
        "2026-01-10T00:00:00Z".parse().expect("a time")
    }

    const DAY: Duration = Duration::from_secs(24 * 3600);

    #[test]
    fn names_of_databases_cannot_lead_elsewhere() {
        for (database, directory) in [
            ("shop", "shop"),
            ("..", "%2E%2E"),
            ("a/b", "a%2Fb"),
            ("my_shop-2", "my_shop-2"),
        ] {
            let place = Place::of(Path::new("/b"), database);
            assert_eq!(place.path(), Path::new("/b").join(directory));
        }
        for run in ["", "..", "../shop/aa", "aa.partial", "a/b"] {
            assert!(
                Place::of(Path::new("/"), "shop").open(run).is_err(),
                "{run}"
            );
        }
    }

    #[test]
    fn old_ones_go_and_the_newest_stays() {
        let dir = tempfile::tempdir().expect("a directory");
        let place = Place::of(dir.path(), "shop");
        make(&place, "aa", "2026-01-01T00:00:00Z");
        make(&place, "bb", "2026-01-09T12:00:00Z");
        let swept = place.prune(DAY, now()).expect("a look");
        assert_eq!(
            (swept.removed, swept.failed),
            (vec!["aa".to_owned()], vec![])
        );
        // It is old too by then, and the newest there is.
        let later = "2027-01-01T00:00:00Z".parse().expect("a time");
        assert!(place.prune(DAY, later).expect("a look").removed.is_empty());
        assert_eq!(place.look().expect("a look").whole.len(), 1);
    }

    #[test]
    fn what_is_written_or_restored_is_left_alone() {
        let dir = tempfile::tempdir().expect("a directory");
        let place = Place::of(dir.path(), "shop");
        make(&place, "aa", "2026-01-01T00:00:00Z");
        make(&place, "bb", "2026-01-02T00:00:00Z");
        let partial = place.begin("cc").expect("a directory");
        let (_, _, restoring) = place.open("aa").expect("a backup");
        let swept = place.prune(DAY, now()).expect("a look");
        assert!(
            swept.removed.is_empty() && swept.abandoned.is_empty(),
            "{swept:?}"
        );
        assert_eq!(
            place.look().expect("a look").partial,
            [(partial.path.clone(), true)]
        );

        // Both are over: the one was restored, the process that wrote the other was killed.
        drop(restoring);
        let path = partial.path.clone();
        drop(partial);
        let swept = place.prune(DAY, now()).expect("a look");
        assert_eq!(
            (swept.removed, swept.abandoned),
            (vec!["aa".to_owned()], vec![path])
        );
    }

    #[test]
    fn a_directory_of_somebody_else_is_named_and_left_alone() {
        let dir = tempfile::tempdir().expect("a directory");
        let place = Place::of(dir.path(), "shop");
        make(&place, "aa", "2026-01-01T00:00:00Z");
        fs::create_dir(place.path().join("mine")).expect("a directory");
        place.prune(DAY, now()).expect("a look");
        let found = place.look().expect("a look");
        assert_eq!(found.unreadable.len(), 1);
        assert!(found.unreadable[0].0.ends_with("mine"));
    }

    #[test]
    fn the_pointer_names_the_newest() {
        let dir = tempfile::tempdir().expect("a directory");
        let place = Place::of(dir.path(), "shop");
        for run in ["aa", "bb"] {
            let whole = make(&place, run, "2026-01-01T00:00:00Z");
            place.point_to(&whole).expect("room");
            let text = fs::read_to_string(dir.path().join("shop/latest-backup.txt"));
            assert_eq!(text.expect("a file"), format!("{}\n", whole.display()));
        }
    }
}
