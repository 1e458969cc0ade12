//! Settings of a connection: what drivers set and ask for at their start, and nothing that pgdrain
//! goes by.

use std::collections::BTreeMap;

use bytes::BytesMut;

use super::complaint::Complaint;
use crate::wire::rows::parameter_status;
use crate::wire::startup::Startup;

/// What is told at the login, and when it changes, as the server does.
const REPORTED: [&str; 9] = [
    "server_version",
    "client_encoding",
    "server_encoding",
    "DateStyle",
    "TimeZone",
    "IntervalStyle",
    "integer_datetimes",
    "standard_conforming_strings",
    "application_name",
];

/// The oldest server that pgdrain supports: drivers choose by it how they speak, and psql warns of
/// servers that are newer than itself.
const SERVER_VERSION: &str = concat!("14.0 (pgdrain ", env!("CARGO_PKG_VERSION"), ")");

/// What there is, and what it is until it is set.
const KNOWN: [(&str, &str); 25] = [
    ("server_version", SERVER_VERSION),
    ("server_version_num", "140000"),
    ("client_encoding", "UTF8"),
    ("server_encoding", "UTF8"),
    ("DateStyle", "ISO, MDY"),
    ("TimeZone", "UTC"),
    ("IntervalStyle", "postgres"),
    ("integer_datetimes", "on"),
    ("standard_conforming_strings", "on"),
    ("application_name", ""),
    ("extra_float_digits", "1"),
    ("bytea_output", "hex"),
    ("search_path", ""),
    ("statement_timeout", "0"),
    ("lock_timeout", "0"),
    ("idle_in_transaction_session_timeout", "0"),
    ("client_min_messages", "notice"),
    ("transaction", ""),
    ("transaction_isolation", "read committed"),
    ("transaction_read_only", "off"),
    ("default_transaction_isolation", "read committed"),
    ("default_transaction_read_only", "off"),
    ("is_superuser", "off"),
    ("session_authorization", ""),
    ("max_identifier_length", "63"),
];

/// What cannot be set.
const FIXED: [&str; 8] = [
    "server_version",
    "server_version_num",
    "server_encoding",
    "integer_datetimes",
    "is_superuser",
    "session_authorization",
    "max_identifier_length",
    "standard_conforming_strings",
];

/// A setting by any spelling of its name.
pub(super) fn known(name: &str) -> Option<&'static str> {
    let mut names = KNOWN.iter().map(|(name, _)| *name);
    names.find(|known| known.eq_ignore_ascii_case(name))
}

/// The settings of one connection.
#[derive(Debug, Default)]
pub(super) struct Parameters(BTreeMap<&'static str, String>);

impl Parameters {
    /// As a start-up packet sets them. It always speaks UTF-8, which clients learn from what they are
    /// told.
    pub(super) fn of(startup: &Startup) -> Parameters {
        let mut parameters = Parameters::default();
        parameters
            .0
            .insert("session_authorization", startup.user().to_owned());
        for name in [
            "application_name",
            "DateStyle",
            "TimeZone",
            "extra_float_digits",
        ] {
            let spellings = [name.to_owned(), name.to_ascii_lowercase()];
            let mut values = spellings.iter().filter_map(|name| startup.parameter(name));
            if let Some(value) = values.next() {
                parameters.0.insert(name, value.to_owned());
            }
        }
        parameters
    }

    /// The value of a setting that is known.
    pub(super) fn get(&self, name: &str) -> &str {
        let default = KNOWN.iter().find(|(known, _)| *known == name);
        let default = default.map_or("", |(_, value)| value);
        self.0.get(name).map_or(default, String::as_str)
    }

    /// Sets one; what clients are told of is told again.
    pub(super) fn set(
        &mut self,
        name: &str,
        value: &str,
        told: &mut BytesMut,
    ) -> Result<(), Complaint> {
        let Some(name) = known(name) else {
            let complaint = Complaint::new("42704", format!("there is no setting \"{name}\" here"));
            return Err(complaint.hint(
                "Settings of pgdrain are in its configuration: SHOW CONFIG shows them, and after a \
                 change of the file SIGHUP takes them over.",
            ));
        };
        let utf8 = ["utf8", "utf-8", "unicode", "default"];
        let is_utf8 = utf8.iter().any(|known| value.eq_ignore_ascii_case(known));
        if FIXED.contains(&name) && !value.eq_ignore_ascii_case(self.get(name)) {
            return Err(Complaint::value(format!("\"{name}\" cannot be changed")));
        }
        if name == "client_encoding" {
            return match is_utf8 {
                true => Ok(()),
                false => Err(Complaint::value("the console speaks UTF8 alone")),
            };
        }
        self.0.insert(name, value.to_owned());
        if REPORTED.contains(&name) {
            parameter_status(told, name, &value.replace('\0', " "));
        }
        Ok(())
    }

    /// Tells a client all that it has to know.
    pub(super) fn tell(&self, into: &mut BytesMut) {
        for name in REPORTED {
            parameter_status(into, name, &self.get(name).replace('\0', " "));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_drivers_set_is_kept_and_told() {
        let (mut parameters, mut told) = (Parameters::default(), BytesMut::new());
        for (name, value) in [
            ("extra_float_digits", "3"),
            ("application_name", "psql"),
            ("client_encoding", "UTF8"),
            ("datestyle", "ISO"),
            ("standard_conforming_strings", "on"),
        ] {
            assert_eq!(parameters.set(name, value, &mut told), Ok(()), "{name}");
        }
        assert_eq!(parameters.get("application_name"), "psql");
        assert_eq!(parameters.get("DateStyle"), "ISO");
        let told = String::from_utf8_lossy(&told).into_owned();
        assert!(told.contains("application_name\0psql"), "{told}");
        assert!(!told.contains("extra_float_digits"), "{told}");
    }

    #[test]
    fn what_is_no_setting_of_a_connection_is_refused() {
        let (mut parameters, mut told) = (Parameters::default(), BytesMut::new());
        for (name, value, sqlstate) in [
            ("max_client_conn", "100", "42704"),
            ("client_encoding", "LATIN1", "22023"),
            ("server_version", "99", "22023"),
        ] {
            let refused = parameters.set(name, value, &mut told).expect_err(name);
            assert_eq!(refused.sqlstate, sqlstate);
        }
        assert!(told.is_empty());
    }
}
