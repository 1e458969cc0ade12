//! libpq's password file: its format, its place, and its refusal of files that others can read.
//!
//! Source: "The Password File" in the libpq chapter of the Postgres documentation, and
//! `passwordFromFile` in `fe-connect.c`.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::address::Host;
use super::secret::Secret;

/// The lines of a password file, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Passfile {
    entries: Vec<Entry>,
}

/// One line: four fields to match, and the password.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    host: Field,
    port: Field,
    database: Field,
    user: Field,
    password: Secret,
}

/// A field of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Field {
    Any,
    Text(String),
}

/// Why a password file is left alone, as libpq leaves it alone with a warning.
#[derive(Debug, thiserror::Error)]
pub(super) enum PassfileError {
    /// It cannot be read.
    #[error("the password file {} cannot be read", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// It is a directory, a pipe or a device.
    #[error("the password file {} is not a plain file", .0.display())]
    NotPlain(PathBuf),
    /// Others may read it.
    #[error(
        "the password file {} has group or world access and is ignored; permissions should be \
         u=rw (0600) or less", .0.display()
    )]
    Readable(PathBuf),
}

impl Passfile {
    /// Reads a file; one that is not there is an empty one.
    ///
    /// # Errors
    /// When the file must not be used; the caller warns and goes on without it.
    pub(super) fn read(path: &Path) -> Result<Self, PassfileError> {
        let unreadable = |source| PassfileError::Unreadable {
            path: path.to_owned(),
            source,
        };
        let about = match std::fs::metadata(path) {
            Ok(about) => about,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Self::default());
            }
            Err(error) => return Err(unreadable(error)),
        };
        if !about.is_file() {
            return Err(PassfileError::NotPlain(path.to_owned()));
        }
        if about.permissions().mode() & 0o077 != 0 {
            return Err(PassfileError::Readable(path.to_owned()));
        }
        let text = std::fs::read_to_string(path).map_err(unreadable)?;
        Ok(Self::parse(&text))
    }

    /// Reads the text of a file; lines that are no entries are passed over, as libpq does.
    pub(super) fn parse(text: &str) -> Self {
        Self {
            entries: text.lines().filter_map(Entry::parse).collect(),
        }
    }

    /// The password of the first line that matches.
    pub(super) fn find(&self, host: &Host, database: &str, user: &str) -> Option<&Secret> {
        let port = host.port().to_string();
        self.entries
            .iter()
            .find(|entry| {
                entry.matches_host(host)
                    && entry.port.matches(&port)
                    && entry.database.matches(database)
                    && entry.user.matches(user)
            })
            .map(|entry| &entry.password)
    }
}

impl Entry {
    fn parse(line: &str) -> Option<Self> {
        if line.starts_with('#') {
            return None;
        }
        let (host, rest) = Field::take(line)?;
        let (port, rest) = Field::take(rest)?;
        let (database, rest) = Field::take(rest)?;
        let (user, password) = Field::take(rest)?;
        let password = unescape(password);
        (!password.is_empty()).then(|| Self {
            host,
            port,
            database,
            user,
            password: Secret::new(password),
        })
    }

    /// libpq calls the socket in its built-in directory `localhost`; builds differ in which that
    /// is, so the known ones count. Any directory matches by its path.
    fn matches_host(&self, host: &Host) -> bool {
        match host {
            Host::Tcp { name, .. } => self.host.matches(name),
            Host::Unix(unix) => {
                let directory = unix.directory.to_string_lossy();
                let built_in = ["/run/postgresql", "/var/run/postgresql", "/tmp"];
                self.host.matches(&directory)
                    || (built_in.contains(&&*directory) && self.host.matches("localhost"))
            }
        }
    }
}

impl Field {
    /// Splits a line behind its first colon that no backslash escapes.
    fn take(line: &str) -> Option<(Self, &str)> {
        let mut escaped = false;
        for (at, byte) in line.bytes().enumerate() {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b':' => {
                    let field = match &line[..at] {
                        "*" => Self::Any,
                        text => Self::Text(unescape(text)),
                    };
                    return Some((field, &line[at + 1..]));
                }
                _ => {}
            }
        }
        None
    }

    fn matches(&self, value: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Text(text) => text == value,
        }
    }
}

/// Takes the escaping backslashes out.
fn unescape(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        plain.extend(if c == '\\' { rest.next() } else { Some(c) });
    }
    plain
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::upstream;
    use super::*;

    fn host(url: &str) -> Host {
        upstream::parse(url).expect(url).hosts.remove(0)
    }

    #[test]
    fn the_first_line_that_matches_gives_the_password() {
        let file = Passfile::parse(
            "# comment\n\
             db:5432:shop:app:first\n\
             db:*:*:app:second:with\\:colons\\\\\n\
             broken line\n\
             localhost:*:*:*:socket\n\
             /srv/pg:*:*:*:by path\n\
             weird\\:host:*:*:*:x\n",
        );
        let find = |url: &str, database: &str, user: &str| {
            file.find(&host(url), database, user).map(Secret::expose)
        };
        assert_eq!(find("postgres://db", "shop", "app"), Some("first"));
        assert_eq!(
            find("postgres://db:1", "shop", "app"),
            Some("second:with:colons\\")
        );
        assert_eq!(find("postgres://db", "shop", "other"), None);
        assert_eq!(find("postgres://%2Ftmp", "a", "b"), Some("socket"));
        assert_eq!(find("postgres://%2Fsrv%2Fpg", "a", "b"), Some("by path"));
        assert_eq!(find("postgres://%2Fother", "a", "b"), None);
    }

    #[test]
    fn a_file_that_others_can_read_is_refused() {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        std::fs::write(file.path(), "*:*:*:*:pw\n").expect("writable");
        let mode = |mode| {
            let permissions = std::fs::Permissions::from_mode(mode);
            std::fs::set_permissions(file.path(), permissions).expect("ours to change");
            Passfile::read(file.path())
        };
        assert!(matches!(mode(0o640), Err(PassfileError::Readable(_))));
        assert!(matches!(mode(0o604), Err(PassfileError::Readable(_))));
        let read = mode(0o600).expect("private");
        assert!(read.find(&host("postgres://db"), "d", "u").is_some());
    }

    #[test]
    fn a_missing_file_is_an_empty_one() {
        let read = Passfile::read(Path::new("/nonexistent/pgpass"));
        assert_eq!(read.ok(), Some(Passfile::default()));
    }

    proptest! {
        #[test]
        fn any_text_is_read(text in ".*") {
            let _ = Passfile::parse(&text);
        }
    }
}
