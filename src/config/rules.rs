//! Who has to prove what: rules like those of `pg_hba.conf`.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::de::value::SeqAccessDeserializer;
use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::words::{AuthMethod, words};

words! {
    /// Which name of a client's certificate counts.
    CertificateName {
        /// The common name of its subject.
        CommonName = "cn",
        /// Any of its alternative names.
        AlternativeName = "san",
    }
}

/// One rule: whom it is for, and how they have to prove who they are.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// The databases it is for.
    pub databases: Names,
    /// The users it is for.
    pub users: Names,
    /// The places it is for; one of them is enough.
    pub from: Vec<Place>,
    /// Whether it is for encrypted connections, for others, or for both.
    pub tls: Option<bool>,
    /// What is asked of whom it is for.
    pub method: AuthMethod,
}

/// Names of databases or users.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Names {
    /// Every name.
    #[default]
    All,
    /// These names.
    These(Vec<String>),
}

/// Where a client may come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Anywhere.
    All,
    /// A Unix socket.
    Local,
    /// An address of this network.
    Net(IpNet),
}

/// The name of a certificate and the user it may log in as.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CertificateUser {
    /// A name in the certificate.
    pub certificate: String,
    /// The user that it stands for.
    pub user: String,
}

/// A rule as it is written.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawRule {
    #[serde(default)]
    database: Names,
    #[serde(default)]
    user: Names,
    #[serde(default = "anywhere", deserialize_with = "places")]
    from: Vec<Place>,
    tls: Option<bool>,
    method: AuthMethod,
}

impl From<RawRule> for Rule {
    fn from(raw: RawRule) -> Rule {
        Rule {
            databases: raw.database,
            users: raw.user,
            from: raw.from,
            tls: raw.tls,
            method: raw.method,
        }
    }
}

impl Names {
    /// Whether this name is one of them.
    #[must_use]
    pub fn contain(&self, name: &str) -> bool {
        match self {
            Names::All => true,
            Names::These(names) => names.iter().any(|known| known == name),
        }
    }
}

impl Place {
    /// Whether an address lies there; `None` is a client on a Unix socket.
    #[must_use]
    pub fn contains(&self, address: Option<IpAddr>) -> bool {
        match (self, address) {
            (Place::All, _) | (Place::Local, None) => true,
            (Place::Net(net), Some(address)) => net.contains(&address.to_canonical()),
            (Place::Local, Some(_)) | (Place::Net(_), None) => false,
        }
    }
}

fn anywhere() -> Vec<Place> {
    vec![Place::All]
}

/// One text or a list of them.
struct OneOrMore(Vec<String>);

impl<'de> Deserialize<'de> for OneOrMore {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(OneOrMoreVisitor)
    }
}

struct OneOrMoreVisitor;

impl<'de> Visitor<'de> for OneOrMoreVisitor {
    type Value = OneOrMore;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string or a list of strings")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<OneOrMore, E> {
        Ok(OneOrMore(vec![text.to_owned()]))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<OneOrMore, A::Error> {
        let texts = Vec::deserialize(SeqAccessDeserializer::new(items))?;
        if texts.is_empty() {
            let text = "an empty list matches nobody; leave the key out to match all";
            return Err(serde::de::Error::custom(text));
        }
        Ok(OneOrMore(texts))
    }
}

impl<'de> Deserialize<'de> for Names {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let OneOrMore(names) = OneOrMore::deserialize(deserializer)?;
        if names.iter().any(|name| name == "all") {
            return Ok(Names::All);
        }
        if names.iter().any(String::is_empty) {
            return Err(serde::de::Error::custom("an empty name matches nobody"));
        }
        Ok(Names::These(names))
    }
}

fn places<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Place>, D::Error> {
    let OneOrMore(texts) = OneOrMore::deserialize(deserializer)?;
    let place = |text: &String| match text.as_str() {
        "all" => Ok(Place::All),
        "local" => Ok(Place::Local),
        _ => net(text).map(Place::Net).ok_or_else(|| {
            serde::de::Error::custom(format!(
                "\"{text}\" is no place; write a network such as 10.0.0.0/8, an address, \
                 \"local\" for Unix sockets, or \"all\""
            ))
        }),
    };
    texts.iter().map(place).collect()
}

/// A network, or an address that stands for itself alone.
fn net(text: &str) -> Option<IpNet> {
    text.parse().ok().or_else(|| {
        text.parse()
            .ok()
            .map(|address: IpAddr| IpNet::from(address))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Rule, toml::de::Error> {
        toml::from_str::<RawRule>(text).map(Rule::from)
    }

    #[test]
    fn what_is_left_out_matches_all() {
        let rule = read("method = 'reject'").expect("a rule");
        assert_eq!((rule.databases, rule.users), (Names::All, Names::All));
        assert_eq!((rule.from, rule.tls), (vec![Place::All], None));
    }

    #[test]
    fn names_and_places_are_one_or_more() {
        let text = "database = 'shop'\nuser = ['a', 'b']\nfrom = ['local', '10.0.0.0/8', '::1']\n\
                    tls = true\nmethod = 'scram-sha-256'";
        let rule = read(text).expect("a rule");
        assert!(rule.databases.contain("shop") && !rule.databases.contain("Shop"));
        assert!(rule.users.contain("b") && !rule.users.contain("c"));
        let from = |address: Option<&str>| {
            let address = address.map(|text| text.parse().expect("an address"));
            rule.from.iter().any(|place| place.contains(address))
        };
        assert!(from(None) && from(Some("10.1.2.3")) && from(Some("::1")));
        assert!(from(Some("::ffff:10.1.2.3")));
        assert!(!from(Some("11.0.0.1")) && !from(Some("::2")));
        assert_eq!(rule.method, AuthMethod::ScramSha256);
    }

    #[test]
    fn mistakes_are_named() {
        for (text, part) in [
            ("database = 'shop'", "missing field `method`"),
            ("method = 'peer'", "unknown variant `peer`, expected one of"),
            ("method = 'md5'\nfrom = 'home'", "\"home\" is no place"),
            ("method = 'md5'\nfrom = '10.0.0.0/33'", "is no place"),
            ("method = 'md5'\nuser = []", "an empty list matches nobody"),
            (
                "method = 'md5'\nuser = ['']",
                "an empty name matches nobody",
            ),
            ("method = 'md5'\nuser = 5", "a string or a list of strings"),
            ("method = 'md5'\nhost = 'x'", "unknown field `host`"),
        ] {
            let error = read(text).expect_err(text);
            assert!(error.to_string().contains(part), "{text}: {error}");
        }
    }
}
