//! What is kept of a password, in the forms of `pg_authid.rolpassword` and one more: itself.
//!
//! Source: `get_password_type` in `crypt.c` and `parse_scram_secret` in `auth-scram.c`.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::secret::Secret;

/// The most iterations that a verifier may have, and that a server may ask of us. Each costs about
/// a quarter of a microsecond, and who logs in has to wait for them.
pub const ITERATIONS_MAX: u32 = 1_000_000;

/// What is kept of one user's password.
#[derive(Clone, PartialEq, Eq)]
pub enum Stored {
    /// A SCRAM-SHA-256 verifier.
    Scram(Verifier),
    /// `md5` and 32 hexadecimal digits: the hash of the password and the user's name.
    Md5(Secret),
    /// The password itself.
    Plain(Secret),
}

/// What a server keeps to check SCRAM-SHA-256 (RFC 5802, section 3). Who has it cannot log in with
/// it, but can pretend to be the server.
#[derive(Clone, PartialEq, Eq)]
pub struct Verifier {
    /// How often the password is hashed, 1 to [`ITERATIONS_MAX`].
    pub iterations: u32,
    /// What it is hashed with.
    pub salt: Box<[u8]>,
    /// The hash of the client's key.
    pub stored_key: [u8; 32],
    /// The server's key.
    pub server_key: [u8; 32],
}

/// A secret that claims to be a SCRAM verifier and is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadStored {
    /// Nothing at all.
    #[error("the secret is empty")]
    Empty,
    /// Not the form that `pg_authid` has.
    #[error("it begins as a SCRAM verifier but is not SCRAM-SHA-256$ITERATIONS:SALT$KEY:KEY")]
    Form,
    /// More than anybody would wait for.
    #[error("the verifier does not have 1 to {ITERATIONS_MAX} iterations")]
    Iterations,
}

impl Stored {
    /// Reads a secret. As in the server, what is neither a verifier nor an MD5 hash is a password;
    /// but what begins as a verifier must be one.
    ///
    /// # Errors
    /// Without the secret.
    pub fn parse(text: &str) -> Result<Stored, BadStored> {
        let hex = |digit: u8| matches!(digit, b'0'..=b'9' | b'a'..=b'f');
        if text.is_empty() {
            Err(BadStored::Empty)
        } else if let Some(rest) = text.strip_prefix("SCRAM-SHA-256$") {
            Verifier::parse(rest).map(Stored::Scram)
        } else if text.starts_with("SCRAM-SHA-") {
            Err(BadStored::Form)
        } else if text.len() == 35 && text.starts_with("md5") && text.bytes().skip(3).all(hex) {
            Ok(Stored::Md5(Secret::new(text)))
        } else {
            Ok(Stored::Plain(Secret::new(text)))
        }
    }
}

impl Verifier {
    /// Reads what follows the name of the mechanism.
    fn parse(text: &str) -> Result<Verifier, BadStored> {
        let (salted, keys) = text.split_once('$').ok_or(BadStored::Form)?;
        let (iterations, salt) = salted.split_once(':').ok_or(BadStored::Form)?;
        let (stored_key, server_key) = keys.split_once(':').ok_or(BadStored::Form)?;
        let key = |text: &str| {
            let bytes = STANDARD.decode(text).ok();
            bytes
                .and_then(|bytes| <[u8; 32]>::try_from(bytes).ok())
                .ok_or(BadStored::Form)
        };
        let salt = STANDARD.decode(salt).ok().filter(|salt| !salt.is_empty());
        let iterations = iterations
            .parse()
            .ok()
            .filter(|iterations| (1..=ITERATIONS_MAX).contains(iterations));
        Ok(Verifier {
            salt: salt.ok_or(BadStored::Form)?.into(),
            stored_key: key(stored_key)?,
            server_key: key(server_key)?,
            iterations: iterations.ok_or(BadStored::Iterations)?,
        })
    }
}

impl fmt::Debug for Stored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Stored::Scram(verifier) => verifier.fmt(f),
            Stored::Md5(_) => f.write_str("Md5(***)"),
            Stored::Plain(_) => f.write_str("Plain(***)"),
        }
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Verifier {{ iterations: {}, keys: *** }}",
            self.iterations
        )
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Of the password `secret`, as PostgreSQL 15 wrote it.
    const VERIFIER: &str = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$\
        WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";

    #[test]
    fn each_form_is_told_by_its_text() {
        let Ok(Stored::Scram(verifier)) = Stored::parse(VERIFIER) else {
            panic!("a verifier")
        };
        assert_eq!((verifier.iterations, verifier.salt.len()), (4096, 16));
        let md5 = "md50123456789abcdef0123456789abcdef";
        assert!(matches!(Stored::parse(md5), Ok(Stored::Md5(hash)) if hash.expose() == md5));
        for plain in ["secret", "md5secret", &md5.to_uppercase(), "scram-sha-256$"] {
            let stored = Stored::parse(plain);
            assert!(matches!(stored, Ok(Stored::Plain(text)) if text.expose() == plain));
        }
    }

    #[test]
    fn what_begins_as_a_verifier_must_be_one() {
        let broken = [
            ("4096:", "0:", BadStored::Iterations),
            ("4096:", "-1:", BadStored::Iterations),
            ("4096:", "1000001:", BadStored::Iterations),
            ("4096:", "x:", BadStored::Iterations),
            ("W22ZaJ0SNY7soEsUEjb6gQ==", "", BadStored::Form),
            ("gQ==", "gQ=", BadStored::Form),
            ("WG5d", "", BadStored::Form),
            ("2dU=", "2dU=:", BadStored::Form),
            ("SHA-256$", "SHA-512$", BadStored::Form),
        ];
        for (part, other, expected) in broken {
            let text = VERIFIER.replacen(part, other, 1);
            assert_eq!(Stored::parse(&text), Err(expected), "{text}");
        }
        assert_eq!(Stored::parse(""), Err(BadStored::Empty));
    }

    #[test]
    fn nothing_of_it_shows_in_a_debug_text() {
        let stored = [
            VERIFIER,
            "md50123456789abcdef0123456789abcdef",
            "plain text",
        ];
        let shown = format!("{:?}", stored.map(Stored::parse));
        assert_eq!(
            shown,
            "[Ok(Verifier { iterations: 4096, keys: *** }), Ok(Md5(***)), Ok(Plain(***))]"
        );
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in ".*", at in 0usize..140, noise in "\\PC{0,4}") {
            let _ = Stored::parse(&text);
            let at = at.min(VERIFIER.len());
            let _ = Stored::parse(&format!("{}{noise}{}", &VERIFIER[..at], &VERIFIER[at..]));
        }
    }
}
