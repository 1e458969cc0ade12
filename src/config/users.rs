//! The users file: names and what is kept of their passwords, a line each.
//!
//! The form is that of PgBouncer's `userlist.txt`: `"name" "secret"`, where a quote inside is
//! doubled. Empty lines, and those that begin with `;` or `#`, say nothing.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::stored::Stored;

/// The most that is read of a file; a million users need less.
const FILE_MAX: u64 = 256 << 20;

/// Users and what is kept of their passwords.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Users {
    by_name: BTreeMap<String, Stored>,
    hold_plain: bool,
    hold_scram: bool,
}

/// What a file gave.
#[derive(Debug)]
pub(super) struct Reading {
    pub(super) users: Users,
    /// Sentences to log as warnings; they hold no secret.
    pub(super) warnings: Vec<String>,
}

impl Users {
    /// These users.
    pub fn of(users: impl IntoIterator<Item = (impl Into<String>, Stored)>) -> Users {
        let users = users
            .into_iter()
            .map(|(name, stored)| (name.into(), stored));
        let by_name: BTreeMap<String, Stored> = users.collect();
        let any = |kind: fn(&Stored) -> bool| by_name.values().any(kind);
        Users {
            hold_plain: any(|stored| matches!(stored, Stored::Plain(_))),
            hold_scram: any(|stored| matches!(stored, Stored::Scram(_))),
            by_name,
        }
    }

    /// What is kept of this user's password.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Stored> {
        self.by_name.get(name)
    }

    /// Whether there is any user whose password is kept as it is.
    #[must_use]
    pub fn hold_plain(&self) -> bool {
        self.hold_plain
    }

    /// Whether there is any user with a SCRAM verifier.
    #[must_use]
    pub fn hold_scram(&self) -> bool {
        self.hold_scram
    }

    /// Whether there is nobody.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_name.len()
    }

    /// Verifiers whose iterations are not these.
    pub(super) fn with_other_iterations(&self, iterations: u32) -> usize {
        let other =
            |stored: &&Stored| matches!(stored, Stored::Scram(v) if v.iterations != iterations);
        self.by_name.values().filter(other).count()
    }

    /// Reads a file.
    ///
    /// # Errors
    /// Every mistake with its line, without the secret.
    pub(super) fn read(path: &Path) -> Result<Reading, Vec<String>> {
        let shown = path.display();
        let unreadable = |error| vec![format!("{shown} cannot be read: {error}")];
        let about = std::fs::metadata(path).map_err(unreadable)?;
        if !about.is_file() || about.len() > FILE_MAX {
            return Err(vec![format!(
                "{shown} is not a plain file of 256 MiB at most"
            )]);
        }
        let text = std::fs::read_to_string(path).map_err(unreadable)?;
        let users = Users::parse(&text).map_err(|mistakes| {
            mistakes
                .iter()
                .map(|m| format!("{shown}, {m}"))
                .collect::<Vec<_>>()
        })?;
        let mode = about.permissions().mode();
        let mut warnings = Vec::new();
        // A verifier lets its reader pretend to be the server; a password and an MD5 hash let them
        // log in.
        let enough = |stored: &Stored| !matches!(stored, Stored::Scram(_));
        if mode & 0o077 != 0 && users.by_name.values().any(enough) {
            return Err(vec![format!(
                "{shown} holds passwords or MD5 hashes, which are enough to log in with, and has \
                 group or world access; permissions should be u=rw (0600) or less"
            )]);
        } else if mode & 0o007 != 0 && !users.is_empty() {
            warnings.push(format!(
                "{shown} holds verifiers of passwords and every user of this machine can read it; \
                 use chmod o="
            ));
        }
        Ok(Reading { users, warnings })
    }

    fn parse(text: &str) -> Result<Users, Vec<String>> {
        let mut users: BTreeMap<String, (usize, Stored)> = BTreeMap::new();
        let mut mistakes = Vec::new();
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.trim();
            if line.is_empty() || line.starts_with([';', '#']) {
                continue;
            }
            match entry(line) {
                Ok((name, stored)) => {
                    if let Some((first, _)) = users.get(&name) {
                        mistakes.push(format!(
                            "line {number}: {name:?} is on line {first} already"
                        ));
                    } else {
                        users.insert(name, (number, stored));
                    }
                }
                Err(mistake) => mistakes.push(format!("line {number}: {mistake}")),
            }
        }
        if !mistakes.is_empty() {
            return Err(mistakes);
        }
        let users = users.into_iter();
        Ok(Users::of(users.map(|(name, (_, stored))| (name, stored))))
    }
}

/// Reads one line; what is wrong does not quote it.
fn entry(line: &str) -> Result<(String, Stored), String> {
    let form = || "it is not \"name\" \"secret\"".to_owned();
    let (name, rest) = quoted(line).ok_or_else(form)?;
    let secret = rest.trim_start();
    // PgBouncer wants a blank there too.
    if secret.len() == rest.len() {
        return Err(form());
    }
    let (secret, rest) = quoted(secret).ok_or_else(form)?;
    if !rest.trim_start().is_empty() {
        return Err("something follows the secret".to_owned());
    }
    if name.is_empty() || name.contains('\0') {
        return Err("no user has that name".to_owned());
    }
    let stored = Stored::parse(&secret).map_err(|bad| format!("{name:?}: {bad}"))?;
    Ok((name, stored))
}

/// Takes a quoted text off the front, with doubled quotes made single.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut rest = text.strip_prefix('"')?;
    let mut value = String::new();
    loop {
        let (part, behind) = rest.split_once('"')?;
        value.push_str(part);
        match behind.strip_prefix('"') {
            Some(more) => {
                value.push('"');
                rest = more;
            }
            None => return Some((value, behind)),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SCRAM: &str = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$\
        WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";

    fn plain<'a>(users: &'a Users, name: &str) -> Option<&'a str> {
        match users.get(name)? {
            Stored::Plain(secret) => Some(secret.expose()),
            Stored::Md5(_) | Stored::Scram(_) => None,
        }
    }

    #[test]
    fn names_and_secrets_are_read() {
        let text = format!(
            "; from pg_authid\n\n# more\n\"anna\" \"{SCRAM}\"\r\n  \"bob \"\"b\"\" b\"\t\"se;c\"\"ret #1\"  \n\
             \"carl\" \"md50123456789abcdef0123456789abcdef\""
        );
        let users = Users::parse(&text).expect("no mistake");
        assert_eq!(users.len(), 3);
        assert!(matches!(users.get("anna"), Some(Stored::Scram(_))));
        assert!(matches!(users.get("carl"), Some(Stored::Md5(_))));
        assert_eq!(plain(&users, "bob \"b\" b"), Some("se;c\"ret #1"));
        assert_eq!(users.get("Anna"), None);
        assert!(users.hold_plain() && users.hold_scram());
        assert_eq!(users.with_other_iterations(4096), 0);
        assert_eq!(users.with_other_iterations(5000), 1);
        assert!(!format!("{users:?}").contains("ret #1"));
    }

    #[test]
    fn every_mistake_is_named_with_its_line_and_without_the_secret() {
        let text = "\"a\" \"hunter2\"\nanna hunter2\n\"b\"\"hunter2\"\n\"c\" \"hunter2\n\"d\" \"hunter2\" x\n\
                    \"\" \"hunter2\"\n\"e\" \"\"\n\"f\" \"SCRAM-SHA-256$hunter2\"\n\"a\" \"hunter2\"\n\"g\" hunter2";
        let mistakes = Users::parse(text).expect_err("full of mistakes");
        let expected = [
            "line 2: it is not \"name\" \"secret\"",
            "line 3: it is not \"name\" \"secret\"",
            "line 4: it is not \"name\" \"secret\"",
            "line 5: something follows the secret",
            "line 6: no user has that name",
            "line 7: \"e\": the secret is empty",
            "line 8: \"f\": it begins as a SCRAM verifier but is not SCRAM-SHA-256$ITERATIONS:SALT$KEY:KEY",
            "line 9: \"a\" is on line 1 already",
            "line 10: it is not \"name\" \"secret\"",
        ];
        assert_eq!(mistakes, expected);
    }

    #[test]
    fn a_file_with_passwords_must_be_private() {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        let read = |text: &str, mode| {
            std::fs::write(file.path(), text).expect("writable");
            let permissions = std::fs::Permissions::from_mode(mode);
            std::fs::set_permissions(file.path(), permissions).expect("ours to change");
            Users::read(file.path()).map(|reading| reading.warnings.len())
        };
        let scram = format!("\"anna\" \"{SCRAM}\"\n");
        let md5 = "\"carl\" \"md50123456789abcdef0123456789abcdef\"\n";
        assert_eq!(read("\"a\" \"hunter2\"", 0o600), Ok(0));
        for secret in ["\"a\" \"hunter2\"", md5] {
            for mode in [0o640, 0o604] {
                let refused = read(secret, mode).expect_err("open to others");
                assert!(refused[0].contains("group or world access"), "{refused:?}");
            }
        }
        assert_eq!(read(&scram, 0o640), Ok(0));
        assert_eq!(read(&scram, 0o644), Ok(1));
        let missing = Users::read(Path::new("/nonexistent/users")).expect_err("no file");
        assert!(missing[0].starts_with("/nonexistent/users cannot be read"));
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in ".*", lines in "(\"{0,3}[a ]{0,2}){0,6}\n") {
            let _ = Users::parse(&text);
            let _ = Users::parse(&lines);
        }

        #[test]
        fn what_was_written_is_read_back(name in "[^\0\r\n]{1,9}", secret in "[^\r\n]{1,9}") {
            let double = |text: &str| text.replace('"', "\"\"");
            let line = format!("\"{}\" \"{}\"", double(&name), double(&secret));
            let users = Users::parse(&line).expect("well formed");
            prop_assert_eq!(plain(&users, &name), Some(&secret[..]));
        }
    }
}
