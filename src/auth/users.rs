//! What clients are checked against: as much for a user that does not exist as for one that does.

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use subtle::ConstantTimeEq;

use super::md5;
use super::scram::{self, Derivation, Key, Keys};
use crate::config::{AuthMethod, Secret, Stored, Users, Verifier};

/// How many iterations are done before others get their turn: about a tenth of a millisecond.
const STEP: u32 = 512;

/// The file of the disguise, in the state directory.
const FILE: &str = "disguise";

/// A secret of ours, by which users that do not exist get a salt that stays the same: also over a
/// restart, for who asks twice would see that only theirs has changed.
#[derive(Clone)]
pub struct Disguise(Key);

impl fmt::Debug for Disguise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Disguise(***)")
    }
}

impl Disguise {
    /// From random bytes.
    #[must_use]
    pub fn new(random: Key) -> Disguise {
        Disguise(random)
    }

    /// A new one.
    #[must_use]
    pub fn random() -> Disguise {
        Disguise(rand::random())
    }

    /// The one that is kept in this directory, or a new one that is kept from now on.
    ///
    /// # Errors
    /// When it cannot be read or written.
    pub fn kept_in(directory: &Path) -> io::Result<Disguise> {
        let path = directory.join(FILE);
        match fs::read(&path).map(Key::try_from) {
            Ok(Ok(kept)) => return Ok(Disguise(kept)),
            // Half of one is none.
            Ok(Err(_)) => fs::remove_file(&path)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let new = Disguise::random();
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)?;
        file.write_all(&new.0)?;
        Ok(new)
    }
}

/// How a client is asked for its password.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Question {
    /// By SCRAM.
    Scram,
    /// By an MD5 hash with a salt.
    Md5,
    /// To send it.
    Cleartext,
}

/// What one login is checked against.
pub struct Account {
    /// What is kept of the password; `None` for a user that may not log in.
    stored: Option<Stored>,
    /// The user's, or a made-up one where there is none.
    verifier: Verifier,
    question: Question,
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Account {{ question: {:?} }}", self.question)
    }
}

/// What all accounts have in common.
#[derive(Debug, Clone, Copy)]
pub struct Accounts<'a> {
    /// The salt of users that have none.
    pub disguise: &'a Disguise,
    /// The users file, which also says what kinds of secrets there are.
    pub users: &'a Users,
    /// The iterations of users that have no verifier.
    pub iterations: u32,
}

impl Accounts<'_> {
    /// The account of a user, for one of the methods that ask for a password; `stored` is what was
    /// found for it, in whatever way.
    ///
    /// The work does not depend on the user: where the users file has passwords as they are, one of
    /// which has to be hashed for SCRAM, something is hashed for everybody.
    pub async fn open(&self, user: &str, stored: Option<Stored>, method: AuthMethod) -> Account {
        let question = self.question(stored.as_ref(), method);
        let made_up = scram::made_up_verifier(&self.disguise.0, user, self.iterations);
        let hashed = if question == Question::Scram && self.users.hold_plain() {
            let password = match &stored {
                Some(Stored::Plain(password)) => password.expose(),
                Some(Stored::Md5(_) | Stored::Scram(_)) | None => "",
            };
            let keys = derive(password.as_bytes(), &made_up.salt, self.iterations).await;
            Some(keys.verifier())
        } else {
            None
        };
        let verifier = match (&stored, hashed) {
            (Some(Stored::Scram(verifier)), _) => verifier.clone(),
            (Some(Stored::Plain(_)), Some(hashed)) => hashed,
            (Some(Stored::Plain(_) | Stored::Md5(_)) | None, _) => made_up,
        };
        Account {
            stored,
            verifier,
            question,
        }
    }

    fn question(&self, stored: Option<&Stored>, method: AuthMethod) -> Question {
        match (method, stored) {
            (AuthMethod::Password, _) => Question::Cleartext,
            (AuthMethod::Md5, Some(Stored::Md5(_) | Stored::Plain(_))) => Question::Md5,
            // A user that does not exist is asked as most others are.
            (AuthMethod::Md5, None) if !self.users.is_empty() && !self.users.hold_scram() => {
                Question::Md5
            }
            (
                AuthMethod::Md5
                | AuthMethod::ScramSha256
                | AuthMethod::PassThrough
                | AuthMethod::Cert
                | AuthMethod::Trust
                | AuthMethod::Reject,
                _,
            ) => Question::Scram,
        }
    }
}

impl Account {
    /// How its user is asked.
    #[must_use]
    pub fn question(&self) -> Question {
        self.question
    }

    /// What SCRAM is spoken with: like any other, also where no password fits it.
    #[must_use]
    pub fn verifier(&self) -> &Verifier {
        &self.verifier
    }

    /// The password, where it is kept as it is.
    #[must_use]
    pub fn password(&self) -> Option<&Secret> {
        match &self.stored {
            Some(Stored::Plain(password)) => Some(password),
            Some(Stored::Md5(_) | Stored::Scram(_)) | None => None,
        }
    }

    /// Whether an answer to an MD5 question is right; the hash that it was checked against.
    #[must_use]
    pub fn check_md5(&self, user: &str, salt: [u8; 4], answer: &[u8]) -> Option<Secret> {
        let hash = match &self.stored {
            Some(Stored::Md5(hash)) => hash.clone(),
            Some(Stored::Plain(password)) => md5::hash(password.expose().as_bytes(), user),
            // Nobody knows a password for this one.
            Some(Stored::Scram(_)) | None => md5::hash(&rand::random::<Key>(), user),
        };
        let right = md5::answer(&hash, salt);
        let fits = bool::from(right.as_bytes().ct_eq(answer));
        fits.then_some(hash)
    }

    /// Whether this is the password. One hash of it by SCRAM is made whatever is kept.
    pub async fn check_password(&self, user: &str, password: &[u8]) -> bool {
        let Verifier {
            iterations, salt, ..
        } = &self.verifier;
        let keys = derive(password, salt, *iterations).await;
        let by_scram = keys.verifier().stored_key.ct_eq(&self.verifier.stored_key);
        bool::from(match &self.stored {
            Some(Stored::Scram(_)) => by_scram,
            Some(Stored::Md5(hash)) => {
                let theirs = md5::hash(password, user);
                hash.expose().as_bytes().ct_eq(theirs.expose().as_bytes())
            }
            Some(Stored::Plain(kept)) => kept.expose().as_bytes().ct_eq(password),
            None => return false,
        })
    }
}

/// The keys of a password, made in steps: a thousand logins at once must not stop the thread that
/// carries the traffic of others.
pub(super) async fn derive(password: &[u8], salt: &[u8], iterations: u32) -> Keys {
    let mut derivation = Derivation::new(password, salt, iterations);
    loop {
        if let Some(salted) = derivation.advance(STEP) {
            return Keys::of(&salted, salt, iterations);
        }
        tokio::task::yield_now().await;
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_disguise_is_kept_and_private() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let kept = || Disguise::kept_in(directory.path()).expect("writable").0;
        let first = kept();
        assert_eq!(kept(), first);
        let file = directory.path().join(FILE);
        let mode = fs::metadata(&file).expect("written").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        fs::write(&file, b"half").expect("ours");
        let second = kept();
        assert_ne!(second, first);
        assert_eq!(kept(), second);
        let shown = format!("{:?}", Disguise::new(first));
        assert_eq!(shown, "Disguise(***)");
    }
}
