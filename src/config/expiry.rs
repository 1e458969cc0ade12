//! When what opens the admin HTTP, or encrypts it and the clients' connections, comes to its end.

use std::str::FromStr;
use std::time::Duration;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, Unit};
use serde::de::Error;
use serde::{Deserialize, Deserializer};

use super::settings::Config;

/// How long before an end it is said: long enough for whoever is away for a week.
const SOON: Duration = Duration::from_secs(14 * 24 * 3600);

/// How a day is written, year first; anything longer is a moment.
const DAY_LENGTH: usize = "2027-01-01".len();

/// The end of a token: from this moment on it counts no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expires(pub Timestamp);

/// Why a text is no such end.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "\"{0}\" is no end; write a day such as 2027-01-01, which is its begin in UTC, or a moment such as \
     2027-01-01T18:00:00+02:00"
)]
pub struct NoEnd(String);

/// Something that comes to an end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ending {
    /// The key of the configuration that it is about.
    pub key: &'static str,
    /// The name of a token; a certificate has none.
    pub token: Option<String>,
    /// When.
    pub at: Timestamp,
}

impl FromStr for Expires {
    type Err = NoEnd;

    fn from_str(text: &str) -> Result<Self, NoEnd> {
        let wrong = |_cause| NoEnd(text.to_owned());
        if text.len() != DAY_LENGTH {
            return text.parse().map(Self).map_err(wrong);
        }
        let day: Date = text.parse().map_err(wrong)?;
        let begin = day.to_zoned(TimeZone::UTC).map_err(wrong)?;
        Ok(Self(begin.timestamp()))
    }
}

impl<'de> Deserialize<'de> for Expires {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // TOML has dates of its own, and quotation marks are easily left out.
        let text = match toml::Value::deserialize(deserializer)? {
            toml::Value::String(text) => text,
            toml::Value::Datetime(moment) => moment.to_string(),
            other @ (toml::Value::Integer(_)
            | toml::Value::Float(_)
            | toml::Value::Boolean(_)
            | toml::Value::Array(_)
            | toml::Value::Table(_)) => other.to_string(),
        };
        text.parse().map_err(D::Error::custom)
    }
}

impl Ending {
    /// A sentence about it when it is near or has passed.
    #[must_use]
    pub fn warning(&self, now: Timestamp) -> Option<String> {
        let left = self.at.duration_since(now);
        if left.unsigned_abs() > SOON && left.is_positive() {
            return None;
        }
        let what = match &self.token {
            Some(name) => format!("the token of {name:?} ({})", self.key),
            None => format!("a certificate of {}", self.key),
        };
        // Whoever reads it plans in days; the second is of no use.
        let at = self.at.round(Unit::Minute).unwrap_or(self.at);
        let hours = left.as_hours();
        Some(match (left.is_positive(), hours) {
            (false, _) => format!("{what} has ended, at {at}"),
            (true, 0..48) => format!("{what} ends in {hours} hours, at {at}"),
            (true, _) => format!("{what} ends in {} days, at {at}", hours / 24),
        })
    }
}

impl Config {
    /// Everything in use that comes to an end, certificates first.
    #[must_use]
    pub fn endings(&self) -> Vec<Ending> {
        let tls = self.tls.acceptor.as_ref().map(|it| it.ends());
        let admin = self.admin.acceptor.as_ref().map(|it| it.ends());
        let (tls, admin) = (tls.unwrap_or_default(), admin.unwrap_or_default());
        let certificates = [
            ("tls.certificate", tls.certificate),
            ("tls.client_ca", tls.client_ca),
            ("admin.certificate", admin.certificate),
            ("admin.client_ca", admin.client_ca),
        ];
        let certificates = certificates.into_iter().filter_map(|(key, at)| {
            // One that ends beyond what a clock counts does not end.
            let at = Timestamp::try_from(at?).ok()?;
            let token = None;
            Some(Ending { key, token, at })
        });
        let tokens = self.admin.tokens.iter().filter_map(|token| {
            Some(Ending {
                key: "admin.tokens",
                token: Some(token.name.clone()),
                at: token.expires?,
            })
        });
        certificates.chain(tokens).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{GOOD, config, problems};
    use super::*;

    const HASH: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    fn at(text: &str) -> Timestamp {
        text.parse().expect(text)
    }

    #[test]
    fn an_end_is_a_day_or_a_moment() {
        let expires = |text: &str| text.parse().map(|Expires(at)| at);
        let begin = at("2027-01-01T00:00:00Z");
        assert_eq!(expires("2027-01-01"), Ok(begin));
        assert_eq!(expires("2027-01-01T01:00:00+01:00"), Ok(begin));
        assert_eq!(expires("2027-01-01T00:00Z"), Ok(begin));
        // A moment without its zone could be any of a day's.
        for wrong in [
            "",
            "90d",
            "2027-01",
            "2027-01-01T00:00",
            "2027-13-01",
            "never",
        ] {
            assert_eq!(expires(wrong), Err(NoEnd(wrong.to_owned())), "{wrong}");
        }
    }

    #[test]
    fn both_ways_to_write_it_are_read_and_mistakes_are_named() {
        let file = |value: &str| {
            format!(
                "{GOOD}[[admin.tokens]]\nname = 'ci'\nrole = 'viewer'\nsha256 = '{HASH}'\n\
                 expires = {value}\n"
            )
        };
        for value in ["'2027-01-01'", "2027-01-01", "2027-01-01T00:00:00Z"] {
            let endings = config(&file(value)).endings();
            let expected = Ending {
                key: "admin.tokens",
                token: Some("ci".to_owned()),
                at: at("2027-01-01T00:00:00Z"),
            };
            assert_eq!(endings, [expected], "{value}");
        }
        for value in ["'soon'", "90", "2027-01-01T00:00:00"] {
            let all = problems(&file(value), &[]).join("\n");
            assert!(all.contains("is no end"), "{value}: {all}");
            assert!(!all.contains(HASH), "{all}");
        }
    }

    #[test]
    fn an_end_is_said_when_it_is_near_and_after() {
        let ending = |token: Option<&str>| Ending {
            key: if token.is_some() {
                "admin.tokens"
            } else {
                "tls.certificate"
            },
            token: token.map(str::to_owned),
            at: at("2027-01-15T00:00:00Z"),
        };
        let said = |now: &str| ending(Some("ci")).warning(at(now));
        assert_eq!(said("2026-12-31T23:00:00Z"), None);
        assert_eq!(
            said("2027-01-10T01:00:00Z").as_deref(),
            Some("the token of \"ci\" (admin.tokens) ends in 4 days, at 2027-01-15T00:00:00Z")
        );
        let hours = ending(None).warning(at("2027-01-14T13:30:00Z"));
        assert_eq!(
            hours.as_deref(),
            Some("a certificate of tls.certificate ends in 10 hours, at 2027-01-15T00:00:00Z")
        );
        let passed = said("2028-01-15T00:00:00Z").expect("it has ended");
        assert!(passed.contains("has ended"), "{passed}");
    }
}
