//! Durations and sizes as people write them: `5m`, `500ms`, `64KiB`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::de::Visitor;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The longest duration accepted: far above any sensible setting, and far below what a clock's
/// arithmetic can overflow.
const DURATION_MAX: Duration = Duration::from_secs(365 * 24 * 3600);

/// A duration that is written as text with units, such as `1m 30s`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HumanDuration(pub Duration);

/// Why a text is no duration or size.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    /// Not a number with units of time.
    #[error("\"{0}\" is not a duration; write a number with a unit, such as 500ms, 30s or 5m")]
    Duration(String),
    /// Longer than a year.
    #[error("\"{0}\" is too long; the longest duration is 365days")]
    TooLong(String),
    /// Neither a number nor `none`.
    #[error("\"{0}\" is not a number; write one, or \"none\"")]
    Count(String),
    /// Not a number with a unit of size.
    #[error("\"{0}\" is not a size; write bytes, or a number with KiB, MiB or GiB")]
    Size(String),
}

impl FromStr for HumanDuration {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // The cause names byte offsets of the text, which help nobody who sees the text itself.
        match humantime::parse_duration(text) {
            Ok(duration) if duration > DURATION_MAX => Err(QuantityError::TooLong(text.to_owned())),
            Ok(duration) => Ok(Self(duration)),
            Err(_cause) => Err(QuantityError::Duration(text.to_owned())),
        }
    }
}

impl fmt::Display for HumanDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&humantime::format_duration(self.0).to_string())
    }
}

impl From<HumanDuration> for Duration {
    fn from(duration: HumanDuration) -> Self {
        duration.0
    }
}

impl Serialize for HumanDuration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for HumanDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        from_text(deserializer)
    }
}

/// A duration that may also be the word `never`, which is `None`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DurationOrNever(pub Option<Duration>);

impl FromStr for DurationOrNever {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "never" => Ok(Self(None)),
            _ => Ok(Self(Some(text.parse::<HumanDuration>()?.0))),
        }
    }
}

impl<'de> Deserialize<'de> for DurationOrNever {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        from_text(deserializer)
    }
}

/// A number that may also be the word `none`, which is `None`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CountOrNone(pub Option<usize>);

impl FromStr for CountOrNone {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match (text, text.parse()) {
            ("none", _) => Ok(Self(None)),
            (_, Ok(count)) => Ok(Self(Some(count))),
            (_, Err(_not_a_number)) => Err(QuantityError::Count(text.to_owned())),
        }
    }
}

impl<'de> Deserialize<'de> for CountOrNone {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Count)
    }
}

/// A file has a number as a number, the environment has it as text.
struct Count;

impl Visitor<'_> for Count {
    type Value = CountOrNone;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number or \"none\"")
    }

    fn visit_u64<E: serde::de::Error>(self, count: u64) -> Result<CountOrNone, E> {
        let count = usize::try_from(count);
        count
            .map(|count| CountOrNone(Some(count)))
            .map_err(E::custom)
    }

    fn visit_i64<E: serde::de::Error>(self, count: i64) -> Result<CountOrNone, E> {
        match usize::try_from(count) {
            Ok(count) => Ok(CountOrNone(Some(count))),
            Err(_negative) => Err(E::custom(QuantityError::Count(count.to_string()))),
        }
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<CountOrNone, E> {
        text.parse().map_err(E::custom)
    }
}

/// A number of bytes that is written with binary units, such as `64KiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ByteSize(pub usize);

impl FromStr for ByteSize {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let unit: usize = match &text[digits.len()..] {
            "" | "B" => 1,
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            "GiB" => 1 << 30,
            _ => return Err(QuantityError::Size(text.to_owned())),
        };
        match digits.trim_end().parse::<usize>() {
            Ok(number) => number.checked_mul(unit).map(Self),
            Err(_not_a_number) => None,
        }
        .ok_or_else(|| QuantityError::Size(text.to_owned()))
    }
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        from_text(deserializer)
    }
}

/// Reads a value that is written as text.
pub(super) fn from_text<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr<Err: fmt::Display>,
{
    let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
    text.parse().map_err(serde::de::Error::custom)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_and_sizes_read_as_written() {
        let duration = |text: &str| text.parse::<HumanDuration>().map(|d| d.0);
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("1m 30s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("0s"), Ok(Duration::ZERO));
        assert_eq!(duration("5"), Err(QuantityError::Duration("5".into())));
        assert_eq!(
            duration("366days"),
            Err(QuantityError::TooLong("366days".into()))
        );

        let size = |text: &str| text.parse::<ByteSize>().map(|s| s.0);
        assert_eq!(size("64KiB"), Ok(65536));
        assert_eq!(size("1 MiB"), Ok(1 << 20));
        assert_eq!(size("100"), Ok(100));
        for bad in ["", "KiB", "64KB", "-1", "99999999999999GiB", "1.5MiB"] {
            assert_eq!(size(bad), Err(QuantityError::Size(bad.into())));
        }
        assert_eq!("never".parse(), Ok(DurationOrNever(None)));
        assert_eq!("none".parse(), Ok(CountOrNone(None)));
        assert_eq!("5".parse(), Ok(CountOrNone(Some(5))));
        for bad in ["", "-1", "many", "never"] {
            assert_eq!(
                bad.parse::<CountOrNone>(),
                Err(QuantityError::Count(bad.into()))
            );
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in ".*") {
            let _ = text.parse::<DurationOrNever>();
            let _ = text.parse::<ByteSize>();
        }

        #[test]
        fn a_printed_duration_reads_back(millis in 0..365 * 24 * 3_600_000u64) {
            let duration = HumanDuration(Duration::from_millis(millis));
            prop_assert_eq!(duration.to_string().parse(), Ok(duration));
        }
    }
}
