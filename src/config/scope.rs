//! What a hold is on within a database: all of it, or the sessions of some clients.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// Whom a hold is for within its database. Each part that is set has to fit; with none it is for all.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scope {
    /// The user a session was opened as.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The `application_name` a session was opened with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub application_name: Option<String>,
    /// Where the client is. A client on our Unix socket is nowhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<IpNet>,
}

/// A session as scopes see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Who<'a> {
    /// Its user.
    pub user: &'a str,
    /// Its `application_name`.
    pub application_name: &'a str,
    /// Where its client is; `None` is a Unix socket.
    pub address: Option<IpAddr>,
}

/// Sessions that no hold stops.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(from = "RawExempt")]
pub struct Exempt {
    /// In this database; everywhere when absent.
    pub database: Option<String>,
    /// Those that this fits.
    pub scope: Scope,
}

/// The same as it is written: flat, so that a misspelt key is refused.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawExempt {
    database: Option<String>,
    user: Option<String>,
    application_name: Option<String>,
    client: Option<IpNet>,
}

impl From<RawExempt> for Exempt {
    fn from(raw: RawExempt) -> Exempt {
        Exempt {
            database: raw.database,
            scope: Scope {
                user: raw.user,
                application_name: raw.application_name,
                client: raw.client,
            },
        }
    }
}

impl Scope {
    /// Whether it is for all sessions of its database.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        let Scope {
            user,
            application_name,
            client,
        } = self;
        user.is_none() && application_name.is_none() && client.is_none()
    }

    /// Whether it is for this session.
    #[must_use]
    pub fn fits(&self, who: Who<'_>) -> bool {
        let is = |wanted: &Option<String>, is: &str| wanted.as_ref().is_none_or(|it| it == is);
        let there = |net: &IpNet| {
            let address = who.address.map(|address| address.to_canonical());
            address.is_some_and(|address| net.contains(&address))
        };
        is(&self.user, who.user)
            && is(&self.application_name, who.application_name)
            && self.client.as_ref().is_none_or(there)
    }
}

impl fmt::Display for Scope {
    /// As a person reads it behind the name of a database; nothing for all of it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        if let Some(user) = &self.user {
            parts.push(format!("user {user:?}"));
        }
        if let Some(name) = &self.application_name {
            parts.push(format!("application {name:?}"));
        }
        if let Some(net) = &self.client {
            parts.push(format!("client {net}"));
        }
        f.write_str(&parts.join(", "))
    }
}

impl Exempt {
    /// Whether this session is one of them.
    #[must_use]
    pub fn fits(&self, database: &str, who: Who<'_>) -> bool {
        self.database.as_ref().is_none_or(|it| it == database) && self.scope.fits(who)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope(text: &str) -> Scope {
        toml::from_str(text).expect(text)
    }

    #[test]
    fn every_part_that_is_set_has_to_fit() {
        let app = Who {
            user: "app",
            application_name: "web",
            address: Some([10, 0, 0, 7].into()),
        };
        let local = Who {
            address: None,
            ..app
        };
        for (text, fits_app, fits_local) in [
            ("", true, true),
            ("user = 'app'", true, true),
            ("user = 'APP'", false, false),
            ("application_name = 'web'", true, true),
            ("application_name = ''", false, false),
            ("client = '10.0.0.0/8'", true, false),
            ("client = '10.0.0.8/32'", false, false),
            ("client = '::/0'", false, false),
            ("user = 'app'\nclient = '10.0.0.7/32'", true, false),
            ("user = 'app'\napplication_name = 'job'", false, false),
        ] {
            let scope = scope(text);
            assert_eq!(scope.is_whole(), text.is_empty(), "{text}");
            assert_eq!(
                (scope.fits(app), scope.fits(local)),
                (fits_app, fits_local),
                "{text}"
            );
        }
        let mapped = Who {
            address: Some("::ffff:10.0.0.7".parse().expect("an address")),
            ..app
        };
        assert!(scope("client = '10.0.0.0/8'").fits(mapped));
    }

    #[test]
    fn what_is_misspelt_is_refused_and_what_is_written_reads_back() {
        for text in ["usr = 'app'", "client = '10.0.0.0/40'", "client = 'ten'"] {
            assert!(toml::from_str::<Scope>(text).is_err(), "{text}");
            assert!(toml::from_str::<Exempt>(text).is_err(), "{text}");
        }
        let all = scope("user = 'a'\napplication_name = 'b'\nclient = '10.0.0.0/8'");
        let json = serde_json::to_string(&all).expect("JSON");
        assert_eq!(serde_json::from_str::<Scope>(&json).ok(), Some(all.clone()));
        let told = "user \"a\", application \"b\", client 10.0.0.0/8";
        assert_eq!(all.to_string(), told);
    }

    #[test]
    fn an_exemption_may_be_for_one_database() {
        let who = Who {
            user: "monitor",
            application_name: "",
            address: None,
        };
        let exempt: Exempt =
            toml::from_str("user = 'monitor'\ndatabase = 'shop'").expect("written as documented");
        assert!(exempt.fits("shop", who) && !exempt.fits("other", who));
    }
}
