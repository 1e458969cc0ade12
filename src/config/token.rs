//! Tokens of the admin HTTP: made at random, kept as hashes.

use std::fmt;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde::de::Error;
use serde::{Deserialize, Deserializer};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::secret::Secret;

/// What every token begins with, so that scanners find one that lies about.
const PREFIX: &str = "pgdrain_";

/// Bytes of chance in a token. Nobody guesses these, so that a fast hash is enough to keep it by.
const BYTES: usize = 32;

/// The SHA-256 of a token.
#[derive(Clone, PartialEq, Eq)]
pub struct TokenHash([u8; 32]);

/// A new token; 256 bits from a generator that the operating system seeds.
#[must_use]
pub fn new_token() -> Secret {
    let bytes: [u8; BYTES] = rand::random();
    Secret::new(format!("{PREFIX}{}", BASE64_URL_SAFE_NO_PAD.encode(bytes)))
}

impl TokenHash {
    /// The hash of a text that is a token by its form. Nothing else is: a password that somebody hashed
    /// for the configuration could be guessed.
    #[must_use]
    pub fn of(token: &str) -> Option<TokenHash> {
        let text = token.strip_prefix(PREFIX)?;
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(text).ok()?;
        (bytes.len() == BYTES).then(|| TokenHash(Sha256::digest(token.as_bytes()).into()))
    }

    /// Whether both are the same, in a time that does not tell where they differ.
    #[must_use]
    pub fn is(&self, other: &TokenHash) -> bool {
        self.0.ct_eq(&other.0).into()
    }

    /// As it is written in the configuration.
    #[must_use]
    pub fn hex(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn from_hex(text: &str) -> Option<TokenHash> {
        let mut bytes = [0; 32];
        if text.len() != 64 || !text.bytes().all(|it| it.is_ascii_hexdigit()) {
            return None;
        }
        for (at, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(text.get(2 * at..2 * at + 2)?, 16).ok()?;
        }
        Some(TokenHash(bytes))
    }
}

impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl<'de> Deserialize<'de> for TokenHash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // Read as a secret: who writes the token itself here must not find it in the error.
        let text = Secret::deserialize(deserializer)?;
        let wrong = || D::Error::custom("it is no SHA-256, which are 64 hexadecimal digits");
        TokenHash::from_hex(text.expose()).ok_or_else(wrong)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_token_is_one_and_no_other() {
        let (one, other) = (new_token(), new_token());
        assert!(one.expose().starts_with("pgdrain_"));
        let hash = TokenHash::of(one.expose()).expect("a token");
        assert!(hash.is(&TokenHash::of(one.expose()).expect("a token")));
        assert!(!hash.is(&TokenHash::of(other.expose()).expect("a token")));
    }

    #[test]
    fn a_hash_reads_as_it_is_written() {
        let token = new_token();
        let hash = TokenHash::of(token.expose()).expect("a token");
        assert_eq!(TokenHash::from_hex(&hash.hex()), Some(hash.clone()));
        assert_eq!(format!("{hash:?}"), "***");
        for wrong in ["", "ab", &"g".repeat(64), &"é".repeat(32)] {
            assert_eq!(TokenHash::from_hex(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_password_is_no_token() {
        let token = new_token();
        let cut = &token.expose()[..token.expose().len() - 2];
        for wrong in ["", "hunter2", "pgdrain_", "pgdrain_hunter2", cut] {
            assert_eq!(TokenHash::of(wrong), None, "{wrong}");
        }
    }
}
