//! Postgres's MD5 authentication (documentation, section 55.2.1, `AuthenticationMD5Password`).

use std::fmt::Write;

use md5::{Digest, Md5};

use crate::config::Secret;

/// What a server keeps of a password: `md5` and the hash of the password and the user's name.
pub(super) fn hash(password: &[u8], user: &str) -> Secret {
    Secret::new(hashed(password, user.as_bytes()))
}

/// The answer to a question with this salt, from what is kept.
pub(super) fn answer(hash: &Secret, salt: [u8; 4]) -> String {
    let digits = hash.expose().strip_prefix("md5").unwrap_or_default();
    hashed(digits.as_bytes(), &salt)
}

fn hashed(first: &[u8], second: &[u8]) -> String {
    let hash = Md5::new()
        .chain_update(first)
        .chain_update(second)
        .finalize();
    let mut text = String::from("md5");
    for byte in hash {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

#[cfg(test)]
mod tests {
    use postgres_protocol::authentication::md5_hash;

    use super::*;

    #[test]
    fn answers_are_those_of_another_client() {
        for (user, password) in [("postgres", "secret"), ("", ""), ("ünser", "pässword")] {
            let salt = [1, 2, 3, 0xff];
            let expected = md5_hash(user.as_bytes(), password.as_bytes(), salt);
            assert_eq!(answer(&hash(password.as_bytes(), user), salt), expected);
        }
    }
}
