//! The place of a migration in the order: a number, a dotted number, or behind all of them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// How a repeatable migration's version begins, as its file's name does.
const REPEATABLE: &str = "R__";

/// A migration's version. Leading zeros do not count, nor do zeros at the end of a dotted one: `1.0`
/// is `1`, as Flyway has it. Whatever is repeatable comes behind all that is numbered.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// Its parts, the most significant first; at least one.
    Numbered(Vec<u64>),
    /// Runs again whenever its text changes (Flyway's `R__`); the description, with `_` for blanks.
    Repeatable(String),
}

/// A text that is no version: no number, or one that does not fit in 64 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the version does not fit in 64 bits")]
pub struct NoVersion;

impl Version {
    /// The version of a plain number.
    pub fn number(number: u64) -> Self {
        Self::Numbered(vec![number])
    }

    /// A version of numbers between dots (or underscores, as in a file's name).
    ///
    /// # Errors
    /// A part is no number, or too large a one.
    pub fn dotted(text: &str) -> Result<Self, NoVersion> {
        let mut parts = text
            .split(['.', '_'])
            .map(digits)
            .collect::<Result<Vec<_>, _>>()?;
        while parts.len() > 1 && parts.last() == Some(&0) {
            parts.pop();
        }
        Ok(Self::Numbered(parts))
    }

    /// A repeatable migration.
    pub fn repeatable(description: &str) -> Self {
        Self::Repeatable(description.replace(' ', "_"))
    }

    /// Whether it runs again when its text changes.
    pub fn is_repeatable(&self) -> bool {
        match self {
            Self::Repeatable(_) => true,
            Self::Numbered(_) => false,
        }
    }

    /// The number, if it is a plain one.
    pub fn as_number(&self) -> Option<u64> {
        match self {
            Self::Numbered(parts) if parts.len() == 1 => parts.first().copied(),
            Self::Numbered(_) | Self::Repeatable(_) => None,
        }
    }

    /// The order as an array of numbers for the server: `{1,2}`, or infinity for what is repeatable.
    pub fn key(&self) -> String {
        match self {
            Self::Numbered(parts) => {
                let parts: Vec<_> = parts.iter().map(ToString::to_string).collect();
                format!("{{{}}}", parts.join(","))
            }
            Self::Repeatable(_) => "{Infinity}".to_owned(),
        }
    }
}

/// Digits alone: no sign, which `u64::from_str` would take.
fn digits(text: &str) -> Result<u64, NoVersion> {
    if text.is_empty() || !text.bytes().all(|it| it.is_ascii_digit()) {
        return Err(NoVersion);
    }
    text.parse().or(Err(NoVersion))
}

impl From<u64> for Version {
    fn from(number: u64) -> Self {
        Self::number(number)
    }
}

impl FromStr for Version {
    type Err = NoVersion;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.strip_prefix(REPEATABLE) {
            Some(description) => Ok(Self::repeatable(description)),
            None => Self::dotted(text),
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Numbered(parts) => {
                let parts: Vec<_> = parts.iter().map(ToString::to_string).collect();
                f.pad(&parts.join("."))
            }
            Self::Repeatable(description) => f.pad(&format!("{REPEATABLE}{description}")),
        }
    }
}

/// As text: a number of 64 bits does not survive in every JSON reader.
impl Serialize for Version {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Version {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn parts_are_numbers_and_zeros_at_the_end_do_not_count() {
        let read = |text: &str| text.parse::<Version>().unwrap();
        assert_eq!(read("001"), Version::number(1));
        assert_eq!(read("1.0"), read("1"));
        assert_eq!(read("1_2"), read("1.2.0"));
        assert!(read("1.10") > read("1.9"));
        assert!(read("2") > read("1.9.9"));
        assert!(read("R__a view") > read("18446744073709551615"));
        assert_eq!(read("R__a view").to_string(), "R__a_view");
        for wrong in ["", "1.", "a", "+1", "-1", "1..2", "18446744073709551616"] {
            assert_eq!(wrong.parse::<Version>(), Err(NoVersion), "{wrong}");
        }
    }

    #[test]
    fn the_server_orders_as_we_do() {
        assert_eq!(Version::number(7).key(), "{7}");
        assert_eq!(Version::dotted("1.2").unwrap().key(), "{1,2}");
        assert_eq!(Version::repeatable("v").key(), "{Infinity}");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(parts in prop::collection::vec(any::<u64>(), 1..5)) {
            let text: Vec<_> = parts.iter().map(ToString::to_string).collect();
            let version = Version::dotted(&text.join(".")).unwrap();
            prop_assert_eq!(version.to_string().parse::<Version>(), Ok(version.clone()));
            let json = serde_json::to_string(&version).unwrap();
            prop_assert_eq!(serde_json::from_str::<Version>(&json).unwrap(), version);
        }
    }
}
