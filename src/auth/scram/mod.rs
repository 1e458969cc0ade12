//! SCRAM-SHA-256 and SCRAM-SHA-256-PLUS, both sides: messages in, messages out.
//!
//! RFC 5802 and 7677, channel binding by `tls-server-end-point` (RFC 5929); where they leave a
//! choice it is made as in `auth-scram.c` and `fe-auth-scram.c` of Postgres (documentation, section
//! 55.3). Randomness is an argument, and the one long computation goes in steps.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

use crate::config::Verifier;

pub mod client;
mod message;
pub mod server;
#[cfg(test)]
mod tests;

/// The mechanism without channel binding.
pub const SCRAM_SHA_256: &str = "SCRAM-SHA-256";
/// The mechanism with channel binding.
pub const SCRAM_SHA_256_PLUS: &str = "SCRAM-SHA-256-PLUS";

/// Random bytes of a nonce, as `SCRAM_RAW_NONCE_LEN` in Postgres.
pub const NONCE_BYTES: usize = 18;

/// Random bytes of a salt, as `SCRAM_DEFAULT_SALT_LEN` in Postgres.
pub const SALT_BYTES: usize = 16;

/// A SHA-256 hash, or a key of that length.
pub type Key = [u8; 32];

/// What a client shows while it proves that it knows a password: enough to log in with, wherever
/// the verifier has the same salt and iterations.
#[derive(Clone, PartialEq, Eq)]
pub struct Keys {
    /// `ClientKey` of RFC 5802.
    pub client_key: Key,
    /// `ServerKey` of RFC 5802.
    pub server_key: Key,
    /// The salt they belong to.
    pub salt: Box<[u8]>,
    /// The iterations they belong to.
    pub iterations: u32,
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keys {{ iterations: {}, keys: *** }}", self.iterations)
    }
}

impl Keys {
    /// The keys of a password that was hashed by a [`Derivation`].
    #[must_use]
    pub fn of(salted: &Key, salt: &[u8], iterations: u32) -> Keys {
        Keys {
            client_key: hmac(salted, &[b"Client Key"]),
            server_key: hmac(salted, &[b"Server Key"]),
            salt: salt.into(),
            iterations,
        }
    }

    /// What a server would keep of them.
    #[must_use]
    pub fn verifier(&self) -> Verifier {
        Verifier {
            iterations: self.iterations,
            salt: self.salt.clone(),
            stored_key: sha256(&self.client_key),
            server_key: self.server_key,
        }
    }
}

/// A nonce as it is sent, from random bytes.
#[must_use]
pub fn nonce(random: [u8; NONCE_BYTES]) -> String {
    STANDARD.encode(random)
}

/// The salt that a name is shown when there is no verifier: always the same for the same name, and
/// like any other to whoever does not know `secret`.
#[must_use]
pub fn made_up_salt(secret: &Key, user: &str) -> [u8; SALT_BYTES] {
    let hash = hmac(secret, &[b"salt", user.as_bytes()]);
    *hash.first_chunk().expect("a hash is longer than a salt")
}

/// A verifier that no password fits, for users whose absence nobody is told.
#[must_use]
pub fn made_up_verifier(secret: &Key, user: &str, iterations: u32) -> Verifier {
    Verifier {
        iterations,
        salt: made_up_salt(secret, user).into(),
        stored_key: hmac(secret, &[b"stored key", user.as_bytes()]),
        server_key: hmac(secret, &[b"server key", user.as_bytes()]),
    }
}

/// `Hi` of RFC 5802 (PBKDF2): the long computation from a password to its salted hash. It goes in
/// steps, so that a thread that serves others too can turn to them in between.
pub struct Derivation {
    keyed: Hmac<Sha256>,
    previous: Key,
    sum: Key,
    left: u32,
}

impl Derivation {
    /// Of this password. Zero iterations count as one.
    #[must_use]
    pub fn new(password: &[u8], salt: &[u8], iterations: u32) -> Derivation {
        let keyed = keyed(&normalized(password));
        let mut first = keyed.clone();
        first.update(salt);
        first.update(&1_u32.to_be_bytes());
        let first: Key = first.finalize().into_bytes().into();
        Derivation {
            keyed,
            previous: first,
            sum: first,
            left: iterations.saturating_sub(1),
        }
    }

    /// Goes on for so many iterations at most; the salted password when it is done.
    pub fn advance(&mut self, iterations: u32) -> Option<Key> {
        let now = iterations.min(self.left);
        for _ in 0..now {
            let mut next = self.keyed.clone();
            next.update(&self.previous);
            self.previous = next.finalize().into_bytes().into();
            for (sum, byte) in self.sum.iter_mut().zip(self.previous) {
                *sum ^= byte;
            }
        }
        self.left -= now;
        (self.left == 0).then_some(self.sum)
    }
}

/// SASLprep (RFC 4013). What it does not allow is used as it is, as Postgres does: passwords may be
/// in any encoding.
fn normalized(password: &[u8]) -> Vec<u8> {
    let text = std::str::from_utf8(password).ok();
    text.and_then(|text| stringprep::saslprep(text).ok())
        .filter(|prepared| !prepared.is_empty())
        .map_or_else(
            || password.to_vec(),
            |prepared| prepared.into_owned().into_bytes(),
        )
}

fn keyed(key: &[u8]) -> Hmac<Sha256> {
    Hmac::new_from_slice(key).expect("HMAC takes keys of every length")
}

fn hmac(key: &[u8], parts: &[&[u8]]) -> Key {
    let mut mac = keyed(key);
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

fn sha256(bytes: &[u8]) -> Key {
    Sha256::digest(bytes).into()
}

fn xor(a: &Key, b: &Key) -> Key {
    std::array::from_fn(|at| a[at] ^ b[at])
}
