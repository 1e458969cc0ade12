//! How many transactions at once: a number, or a part of what was usual.

use std::fmt;
use std::str::FromStr;

use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A cap on concurrent transactions as it is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AskedCap {
    /// So many; at least one.
    Transactions(u32),
    /// So many in a hundred of what was seen; 1 to 100.
    Percent(u32),
    /// None.
    Off,
}

/// A text that is not a cap.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is not a cap: a number from 1 on, 1% to 100%, or off")]
pub struct BadCap(String);

impl AskedCap {
    /// How many transactions it means where `usual` were seen at once; `None` is as many as come.
    #[must_use]
    pub fn of(self, usual: u32) -> Option<u32> {
        match self {
            AskedCap::Transactions(count) => Some(count),
            AskedCap::Percent(percent) => {
                let part = u64::from(usual) * u64::from(percent) / 100;
                Some(u32::try_from(part).unwrap_or(u32::MAX).max(1))
            }
            AskedCap::Off => None,
        }
    }
}

impl FromStr for AskedCap {
    type Err = BadCap;

    fn from_str(text: &str) -> Result<AskedCap, BadCap> {
        let bad = || BadCap(text.to_owned());
        if text == "off" {
            return Ok(AskedCap::Off);
        }
        let (number, percent) = match text.strip_suffix('%') {
            Some(number) => (number, true),
            None => (text, false),
        };
        let number: u32 = number.parse().map_err(|_not_one| bad())?;
        match (number, percent) {
            (0, _) | (101.., true) => Err(bad()),
            (_, true) => Ok(AskedCap::Percent(number)),
            (_, false) => Ok(AskedCap::Transactions(number)),
        }
    }
}

impl fmt::Display for AskedCap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AskedCap::Transactions(count) => write!(f, "{count}"),
            AskedCap::Percent(percent) => write!(f, "{percent}%"),
            AskedCap::Off => f.write_str("off"),
        }
    }
}

impl Serialize for AskedCap {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            AskedCap::Transactions(count) => serializer.serialize_u32(*count),
            AskedCap::Percent(_) | AskedCap::Off => serializer.collect_str(self),
        }
    }
}

impl<'de> Deserialize<'de> for AskedCap {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<AskedCap, D::Error> {
        deserializer.deserialize_any(CapVisitor)
    }
}

struct CapVisitor;

impl Visitor<'_> for CapVisitor {
    type Value = AskedCap;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number from 1 on, 1% to 100%, or off")
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<AskedCap, E> {
        number.to_string().parse().map_err(E::custom)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<AskedCap, E> {
        text.parse().map_err(E::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cap_reads_and_writes_as_documented() {
        for (json, cap) in [
            ("20", AskedCap::Transactions(20)),
            ("\"50%\"", AskedCap::Percent(50)),
            ("\"off\"", AskedCap::Off),
        ] {
            assert_eq!(serde_json::from_str(json).ok(), Some(cap), "{json}");
            assert_eq!(serde_json::to_string(&cap).expect("JSON"), json);
        }
        for bad in [
            "0", "-1", "1.5", "\"0%\"", "\"101%\"", "\"half\"", "null", "\"%\"",
        ] {
            assert!(serde_json::from_str::<AskedCap>(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_part_is_of_what_was_usual_and_never_nothing() {
        assert_eq!(AskedCap::Percent(50).of(41), Some(20));
        assert_eq!(AskedCap::Percent(1).of(0), Some(1));
        assert_eq!(AskedCap::Transactions(7).of(41), Some(7));
        assert_eq!(AskedCap::Off.of(41), None);
    }
}
