//! The five characters by which drivers know errors.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A five-character SQLSTATE (Postgres documentation, appendix A).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Sqlstate([u8; 5]);

/// A text that is not the SQLSTATE of an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "it is not the SQLSTATE of an error: five of 0-9 and A-Z, and not of the classes 00, 01 and 02, \
     which stand for success, a warning and no data"
)]
pub struct BadSqlstate;

impl Sqlstate {
    /// `lock_not_available`, which lets pools keep the connection.
    pub const HOLD_REJECTS: Sqlstate = Sqlstate(*b"55P03");

    /// `read_only_sql_transaction`, as the server itself refuses a write.
    pub const READ_ONLY: Sqlstate = Sqlstate(*b"25006");

    /// One of our own refusals.
    pub(super) fn of(text: &'static str) -> Sqlstate {
        text.parse().expect("ours are valid")
    }

    /// Its characters.
    #[must_use]
    pub fn as_str(&self) -> &str {
        str::from_utf8(&self.0).expect("digits and letters")
    }
}

impl FromStr for Sqlstate {
    type Err = BadSqlstate;

    fn from_str(text: &str) -> Result<Sqlstate, BadSqlstate> {
        let bytes: [u8; 5] = text.as_bytes().try_into().map_err(|_length| BadSqlstate)?;
        let is_one = |byte: &u8| byte.is_ascii_digit() || byte.is_ascii_uppercase();
        let no_error = matches!(&bytes[..2], b"00" | b"01" | b"02");
        match bytes.iter().all(is_one) && !no_error {
            true => Ok(Sqlstate(bytes)),
            false => Err(BadSqlstate),
        }
    }
}

impl fmt::Display for Sqlstate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Sqlstate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Sqlstate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Sqlstate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Sqlstate, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_errors_are_taken() {
        for good in ["55P03", "57P03", "25006", "ZZZZZ", "03000"] {
            assert_eq!(
                good.parse::<Sqlstate>().map(|it| it.to_string()).as_deref(),
                Ok(good)
            );
        }
        for bad in [
            "",
            "55P0",
            "55P033",
            "55p03",
            "00000",
            "01004",
            "02000",
            "55P0\u{e9}",
            "55 03",
        ] {
            assert_eq!(bad.parse::<Sqlstate>(), Err(BadSqlstate), "{bad}");
        }
    }
}
