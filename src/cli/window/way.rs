//! The way through a window, as the environment of a command: where to connect, and the key.

use std::path::Path;

use clap::ValueEnum;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use url::Url;

use crate::wire::window_key;

/// Where the key stands in what a connection says at its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum By {
    /// In `options`: what nearly every driver can send.
    Options,
    /// In `application_name`: for tools that cannot.
    ApplicationName,
}

/// What stays as it is in a URL. A blank is `%20`: not every driver reads `+` as one.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// Where a proxy takes clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    host: String,
    port: u16,
}

impl Place {
    /// From `HOST:PORT`, or the path of a Unix socket.
    pub(super) fn parse(text: &str) -> Option<Place> {
        if text.starts_with('/') {
            let path = Path::new(text);
            let port = path.file_name()?.to_str()?.strip_prefix(".s.PGSQL.")?;
            return Some(Place {
                host: path.parent()?.to_str()?.to_owned(),
                port: port.parse().ok()?,
            });
        }
        let (host, port) = text.rsplit_once(':')?;
        let host = match host.trim_matches(['[', ']']) {
            // Every address of its machine, on which we are.
            "0.0.0.0" => "127.0.0.1",
            "::" => "::1",
            host => host,
        };
        Some(Place {
            host: host.to_owned(),
            port: port.parse().ok()?,
        })
    }

    /// As the authority of a URL has it.
    fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            let host = utf8_percent_encode(&self.host, ESCAPED);
            format!("{host}:{}", self.port)
        }
    }
}

/// The way of one window.
#[derive(Clone)]
pub(super) struct Way {
    pub(super) place: Place,
    pub(super) database: String,
    pub(super) key: String,
    pub(super) by: By,
    /// A connection string whose user, password and settings are kept.
    pub(super) url: Option<String>,
    /// The user, where no connection string names one.
    pub(super) user: Option<String>,
}

impl Way {
    /// The variables of a command; those without a value are taken away, because they would lead
    /// elsewhere. `now` is what is set.
    pub(super) fn environment(
        &self,
        now: impl Fn(&str) -> Option<String>,
    ) -> Vec<(&'static str, Option<String>)> {
        let mut set = vec![
            ("PGHOST", Some(self.place.host.clone())),
            ("PGPORT", Some(self.place.port.to_string())),
            ("PGDATABASE", Some(self.database.clone())),
            ("PGHOSTADDR", None),
            ("PGSERVICE", None),
        ];
        let setting = format!("{}={}", window_key::NAME, self.key);
        match self.by {
            By::Options => {
                let setting = format!("-c {setting}");
                set.push(("PGOPTIONS", Some(joined(now("PGOPTIONS"), &setting))));
            }
            By::ApplicationName => {
                set.push(("PGAPPNAME", Some(joined(now("PGAPPNAME"), &setting))));
            }
        }
        if let Some(user) = &self.user {
            set.push(("PGUSER", Some(user.clone())));
        }
        let kept = self.url.clone().or_else(|| now("DATABASE_URL"));
        let user = self.user.clone().or_else(|| now("PGUSER"));
        if let Some(url) = self.database_url(kept.as_deref(), user.as_deref()) {
            set.push(("DATABASE_URL", Some(url)));
        }
        set
    }

    /// A connection string through the window: the user, the password and the settings of `kept`, or
    /// nothing but this user. `None` where no user is known.
    fn database_url(&self, kept: Option<&str>, user: Option<&str>) -> Option<String> {
        let kept = kept.and_then(|url| Url::parse(url).ok());
        let kept = kept.filter(|url| url.scheme().starts_with("postgres"));
        let scheme = kept.as_ref().map_or("postgres", |url| url.scheme());
        let account = match &kept {
            Some(url) if !url.username().is_empty() => match url.password() {
                Some(password) => format!("{}:{password}", url.username()),
                None => url.username().to_owned(),
            },
            Some(_) | None => utf8_percent_encode(user?, ESCAPED).to_string(),
        };
        let mut settings = String::new();
        let mut add = |name: &str, value: &str| {
            settings.push(if settings.is_empty() { '?' } else { '&' });
            settings.extend(utf8_percent_encode(name, ESCAPED));
            settings.push('=');
            settings.extend(utf8_percent_encode(value, ESCAPED));
        };
        let carrier = match self.by {
            By::Options => "options",
            By::ApplicationName => "application_name",
        };
        let mut before = None;
        for (name, value) in kept.iter().flat_map(Url::query_pairs) {
            match &*name {
                // They would lead elsewhere.
                "host" | "hostaddr" | "port" | "dbname" | "service" => {}
                name if name == carrier => before = Some(value.into_owned()),
                name => add(name, &value),
            }
        }
        let setting = format!("{}={}", window_key::NAME, self.key);
        let setting = match self.by {
            // In one word: a blank in a URL is where drivers differ.
            By::Options => format!("-c{setting}"),
            By::ApplicationName => setting,
        };
        add(carrier, &joined(before, &setting));
        let database = utf8_percent_encode(&self.database, ESCAPED);
        let authority = self.place.authority();
        Some(format!(
            "{scheme}://{account}@{authority}/{database}{settings}"
        ))
    }
}

fn joined(before: Option<String>, setting: &str) -> String {
    match before.filter(|before| !before.is_empty()) {
        Some(before) => format!("{before} {setting}"),
        None => setting.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn way() -> Way {
        Way {
            place: Place::parse("127.0.0.1:6432").expect("a place"),
            database: "shop".into(),
            key: "w1.s-_".into(),
            by: By::Options,
            url: None,
            user: None,
        }
    }

    fn environment(way: &Way, now: &[(&str, &str)]) -> BTreeMap<&'static str, Option<String>> {
        let now: BTreeMap<_, _> = now.iter().copied().collect();
        let now = |name: &str| now.get(name).map(ToString::to_string);
        way.environment(now).into_iter().collect()
    }

    #[test]
    fn a_place_is_read_as_status_shows_it() {
        for (text, host, port) in [
            ("127.0.0.1:6432", "127.0.0.1", 6432),
            ("0.0.0.0:6432", "127.0.0.1", 6432),
            ("[::]:6432", "::1", 6432),
            ("[::1]:6432", "::1", 6432),
            ("db.example:7000", "db.example", 7000),
            ("/run/pgdrain/.s.PGSQL.6432", "/run/pgdrain", 6432),
        ] {
            let host = host.to_owned();
            assert_eq!(Place::parse(text), Some(Place { host, port }), "{text}");
        }
        for text in ["", "6432", "host:x", "/run/pgdrain", "/run/x.6432"] {
            assert_eq!(Place::parse(text), None, "{text}");
        }
    }

    #[test]
    fn libpqs_variables_lead_through_the_window() {
        let set = environment(&way(), &[("PGOPTIONS", "-c a=b"), ("PGSERVICE", "x")]);
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(set["PGHOST"], some("127.0.0.1"));
        assert_eq!(set["PGPORT"], some("6432"));
        assert_eq!(set["PGDATABASE"], some("shop"));
        assert_eq!(set["PGOPTIONS"], some("-c a=b -c pgdrain.window=w1.s-_"));
        assert_eq!((&set["PGSERVICE"], &set["PGHOSTADDR"]), (&None, &None));
        // Nobody is known who could be named.
        assert!(!set.contains_key("DATABASE_URL") && !set.contains_key("PGUSER"));

        let by_name = Way {
            by: By::ApplicationName,
            ..way()
        };
        let set = environment(&by_name, &[("PGAPPNAME", "tool")]);
        assert_eq!(set["PGAPPNAME"], some("tool pgdrain.window=w1.s-_"));
        assert!(!set.contains_key("PGOPTIONS"));
    }

    #[test]
    fn a_connection_string_keeps_who_it_is_and_leads_through_the_window() {
        let options = "options=-cpgdrain.window%3Dw1.s-_";
        for (url, expected) in [
            (
                "postgres://anna@db/x",
                format!("postgres://anna@127.0.0.1:6432/shop?{options}"),
            ),
            (
                "postgresql+psycopg://anna:p%40ss@db:5432/x?sslmode=require&host=elsewhere",
                format!("postgresql+psycopg://anna:p%40ss@127.0.0.1:6432/shop?sslmode=require&{options}"),
            ),
            (
                "postgres://anna@db/x?options=-c%20a%3Db",
                "postgres://anna@127.0.0.1:6432/shop?options=-c%20a%3Db%20-cpgdrain.window%3Dw1.s-_".into(),
            ),
        ] {
            let set = environment(&way(), &[("DATABASE_URL", url)]);
            assert_eq!(set["DATABASE_URL"], Some(expected.clone()));
            let given = Way {
                url: Some(url.into()),
                ..way()
            };
            let set = environment(&given, &[("DATABASE_URL", "postgres://other@y/z")]);
            assert_eq!(set["DATABASE_URL"], Some(expected));
        }
        let by_name = Way {
            by: By::ApplicationName,
            database: "a b".into(),
            user: Some("anna@x".into()),
            place: Place::parse("/run/pgdrain/.s.PGSQL.6432").expect("a place"),
            ..way()
        };
        let set = environment(&by_name, &[("DATABASE_URL", "mysql://anna@db/x")]);
        let expected = "postgres://anna%40x@%2Frun%2Fpgdrain:6432/a%20b?application_name=pgdrain.window%3Dw1.s-_";
        assert_eq!(set["DATABASE_URL"].as_deref(), Some(expected));
        assert_eq!(set["PGUSER"].as_deref(), Some("anna@x"));
    }
}
