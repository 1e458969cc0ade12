//! A text that is never printed: passwords, and URLs that may carry one.

use std::fmt;
use std::io;
use std::path::Path;

use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// A password or another text that must reach no log, table or file.
///
/// `Debug` and `Display` print stars and there is no `Serialize`; only [`Secret::expose`] gives
/// the text away, so that a search for it finds every place that does.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself, for the one place that must send it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Reads a secret from a file; the line's end is not a part of it.
    ///
    /// # Errors
    /// Those of reading, and `InvalidData` for a file that is empty or not UTF-8.
    pub fn read(path: &Path) -> io::Result<Self> {
        let text = std::fs::read_to_string(path)?;
        let text = text.strip_suffix('\n').unwrap_or(&text);
        let text = text.strip_suffix('\r').unwrap_or(text);
        if text.is_empty() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "the file is empty",
            ));
        }
        Ok(Self::new(text))
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self::new(text)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SecretVisitor)
    }
}

/// Takes a string and refuses everything else in the same words: serde's own refusals quote the
/// value, which for `password = 12345` is the password.
struct SecretVisitor;

/// What a value that is no string is told.
const NO_STRING: &str = "write the value as a string, in quotes";

impl<'de> Visitor<'de> for SecretVisitor {
    type Value = Secret;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Secret, E> {
        Ok(Secret::new(text))
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Secret, E> {
        Err(E::custom(NO_STRING))
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Secret, E> {
        Err(E::custom(NO_STRING))
    }

    fn visit_i128<E: Error>(self, _: i128) -> Result<Secret, E> {
        Err(E::custom(NO_STRING))
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Secret, E> {
        Err(E::custom(NO_STRING))
    }

    fn visit_u128<E: Error>(self, _: u128) -> Result<Secret, E> {
        Err(E::custom(NO_STRING))
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Secret, E> {
        Err(E::custom(NO_STRING))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Secret, A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Err(A::Error::custom(NO_STRING))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Secret, A::Error> {
        while entries.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Err(A::Error::custom(NO_STRING))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_not_printed() {
        let secret = Secret::new("hunter2");
        assert_eq!(
            format!("{secret} {secret:?} {:?}", Some(&secret)),
            "*** *** Some(***)"
        );
        assert_eq!(secret.expose(), "hunter2");
    }

    #[test]
    fn a_secret_of_another_type_is_refused_without_quoting_it() {
        #[derive(Debug, serde::Deserialize)]
        struct Holder {
            #[expect(dead_code, reason = "only its refusal is looked at")]
            password: Secret,
        }
        for value in [
            "12345",
            "123.45",
            "true",
            "[\"123\"]",
            "{ a = 123 }",
            "2012-03-04",
        ] {
            let error =
                toml::from_str::<Holder>(&format!("password = {value}")).expect_err("not a string");
            assert!(!error.message().contains("12"), "{}", error.message());
        }
    }

    #[test]
    fn a_file_gives_its_text_without_the_line_end() {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        std::fs::write(file.path(), " pass word \r\n").expect("writable");
        assert_eq!(
            Secret::read(file.path()).expect("readable").expose(),
            " pass word "
        );
        std::fs::write(file.path(), "\n").expect("writable");
        assert!(Secret::read(file.path()).is_err());
    }
}
