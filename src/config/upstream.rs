//! Connection URLs of Postgres, as libpq reads them, several hosts and socket directories included.
//!
//! No error here quotes the URL: a password with an unescaped `@` or `/` in it ends up in any part.
//! Syntax: "Connection URIs" in the libpq chapter of the Postgres documentation.

use std::net::Ipv6Addr;
use std::path::Path;

use super::address::{AddressError, Host, UnixAddress};
use super::secret::Secret;
use crate::tls::connector::{Negotiation, SslMode};

/// The port of a server when none is named.
const SERVER_PORT: u16 = 5432;

/// What a connection URL says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamUrl {
    /// At least one, in the order in which they are tried.
    pub hosts: Vec<Host>,
    /// The user, if named.
    pub user: Option<String>,
    /// The password, if given.
    pub password: Option<Secret>,
    /// The database, if named.
    pub database: Option<String>,
    /// What it says about encryption.
    pub tls: UrlTls,
}

/// The parameters of a URL that are about encryption, named as libpq's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UrlTls {
    /// `sslmode`
    pub mode: Option<SslMode>,
    /// `sslnegotiation`
    pub negotiation: Negotiation,
    /// `sslrootcert`: a file, or `system`.
    pub root_cert: Option<String>,
    /// `sslcert`
    pub cert: Option<String>,
    /// `sslkey`
    pub key: Option<String>,
}

impl UrlTls {
    /// The same as libpq's environment variables ("Environment Variables" in the libpq chapter of
    /// the Postgres documentation); what is not written is not set.
    pub fn variables(&self) -> Vec<(&'static str, String)> {
        let negotiation = match self.negotiation {
            // The only one before libpq 17, which does not know the variable.
            Negotiation::Postgres => None,
            Negotiation::Direct => Some("direct".to_owned()),
        };
        [
            ("PGSSLMODE", self.mode.map(|it| it.as_str().to_owned())),
            ("PGSSLNEGOTIATION", negotiation),
            ("PGSSLROOTCERT", self.root_cert.clone()),
            ("PGSSLCERT", self.cert.clone()),
            ("PGSSLKEY", self.key.clone()),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
        .collect()
    }
}

/// Why a text is no connection URL.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// It starts with something else.
    #[error("it must start with postgres:// or postgresql://")]
    Scheme,
    /// No host in the URL and none in its parameters.
    #[error(
        "it names no host; write postgres://USER@HOST:PORT, or postgres://USER@/?host=/DIRECTORY \
         for a Unix socket"
    )]
    NoHost,
    /// A host with a character no name has.
    #[error("a host name in it is malformed; in a password write @ as %40, / as %2F, : as %3A")]
    HostName,
    /// A port that is no number from 1 to 65535.
    #[error("a port in it is not a number from 1 to 65535")]
    Port,
    /// More ports than one, and not as many as hosts.
    #[error("it names {ports} ports for {hosts} hosts; write one port, or one for each host")]
    PortCount {
        /// How many ports it names.
        ports: usize,
        /// How many hosts it names.
        hosts: usize,
    },
    /// A `%` that no two hexadecimal digits follow, or bytes that are not UTF-8, or a zero byte.
    #[error("it holds a malformed % escape; write % itself as %25")]
    Escape,
    /// A parameter without a value.
    #[error("a parameter in it lacks its value; write ?NAME=VALUE&NAME=VALUE")]
    Parameter,
    /// A parameter that means nothing here.
    #[error(
        "its parameter \"{0}\" is not known here; known are host, port, user, password, dbname, sslmode, \
         sslrootcert, sslcert, sslkey, sslnegotiation"
    )]
    UnknownParameter(String),
    /// An `sslmode` that is none.
    #[error("its sslmode is not one of disable, allow, prefer, require, verify-ca, verify-full")]
    SslMode,
    /// An `sslnegotiation` that is none.
    #[error("its sslnegotiation is not one of postgres, direct")]
    SslNegotiation,
    /// A socket directory that cannot hold a socket.
    #[error(transparent)]
    Socket(#[from] AddressError),
}

/// Reads a connection URL.
///
/// # Errors
/// The first thing that is wrong, without quoting what may be a secret.
pub fn parse(url: &str) -> Result<UpstreamUrl, UrlError> {
    let rest = url
        .strip_prefix("postgres://")
        .or_else(|| url.strip_prefix("postgresql://"))
        .ok_or(UrlError::Scheme)?;
    // As libpq does: the first `@` before any `/` ends the credentials.
    let authority_end = rest.find('/').unwrap_or(rest.len());
    let (credentials, rest) = match rest[..authority_end].split_once('@') {
        Some((credentials, _)) => (Some(credentials), &rest[credentials.len() + 1..]),
        None => (None, rest),
    };
    let (rest, query) = match rest.split_once('?') {
        Some((rest, query)) => (rest, Some(query)),
        None => (rest, None),
    };
    let (hosts, database) = rest.split_once('/').unwrap_or((rest, ""));

    let mut parts = Parts::default();
    if let Some(credentials) = credentials {
        parts.credentials(credentials)?;
    }
    parts.authority(hosts)?;
    parts.database = non_empty(decode(database)?);
    for parameter in query.unwrap_or("").split('&').filter(|p| !p.is_empty()) {
        parts.parameter(parameter)?;
    }
    parts.finish()
}

/// The parts as found so far; hosts and ports are matched up at the end.
#[derive(Default)]
struct Parts {
    hosts: Vec<String>,
    ports: Vec<Option<u16>>,
    user: Option<String>,
    password: Option<String>,
    database: Option<String>,
    tls: UrlTls,
}

impl Parts {
    fn credentials(&mut self, text: &str) -> Result<(), UrlError> {
        let (user, password) = match text.split_once(':') {
            Some((user, password)) => (user, Some(password)),
            None => (text, None),
        };
        self.user = non_empty(decode(user)?);
        self.password = password.map(decode).transpose()?.and_then(non_empty);
        Ok(())
    }

    fn authority(&mut self, text: &str) -> Result<(), UrlError> {
        if text.is_empty() {
            return Ok(());
        }
        for item in text.split(',') {
            let (host, port) = split_port(item)?;
            self.hosts.push(decode(host)?);
            self.ports.push(port.map(read_port).transpose()?.flatten());
        }
        Ok(())
    }

    fn parameter(&mut self, text: &str) -> Result<(), UrlError> {
        let (name, value) = text.split_once('=').ok_or(UrlError::Parameter)?;
        let value = decode(value)?;
        match name {
            "host" => self.hosts = value.split(',').map(str::to_owned).collect(),
            "port" => self.ports = value.split(',').map(read_port).collect::<Result<_, _>>()?,
            "user" => self.user = non_empty(value),
            "password" => self.password = non_empty(value),
            "dbname" => self.database = non_empty(value),
            "sslmode" => self.tls.mode = Some(value.parse().map_err(|()| UrlError::SslMode)?),
            "sslnegotiation" => {
                self.tls.negotiation = match &*value {
                    "postgres" => Negotiation::Postgres,
                    "direct" => Negotiation::Direct,
                    _ => return Err(UrlError::SslNegotiation),
                }
            }
            "sslrootcert" => self.tls.root_cert = non_empty(value),
            "sslcert" => self.tls.cert = non_empty(value),
            "sslkey" => self.tls.key = non_empty(value),
            // Only what looks like a name is quoted: the rest may be a piece of a password.
            _ if name.len() <= 32 && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_') => {
                return Err(UrlError::UnknownParameter(name.to_owned()));
            }
            _ => return Err(UrlError::Parameter),
        }
        Ok(())
    }

    fn finish(self) -> Result<UpstreamUrl, UrlError> {
        let ports = match self.ports.len() {
            0 => vec![None; self.hosts.len()],
            1 => vec![self.ports[0]; self.hosts.len()],
            count if count == self.hosts.len() => self.ports,
            count => {
                return Err(UrlError::PortCount {
                    ports: count,
                    hosts: self.hosts.len(),
                });
            }
        };
        let hosts = self
            .hosts
            .into_iter()
            .zip(ports)
            .map(|(name, port)| host(name, port.unwrap_or(SERVER_PORT)))
            .collect::<Result<Vec<_>, _>>()?;
        if hosts.is_empty() {
            return Err(UrlError::NoHost);
        }
        Ok(UpstreamUrl {
            hosts,
            user: self.user,
            password: self.password.map(Secret::new),
            database: self.database,
            tls: self.tls,
        })
    }
}

/// Takes `:PORT` off a host; an IPv6 address stands in brackets.
fn split_port(item: &str) -> Result<(&str, Option<&str>), UrlError> {
    let Some(bracketed) = item.strip_prefix('[') else {
        return Ok(match item.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (item, None),
        });
    };
    let (host, after) = bracketed.split_once(']').ok_or(UrlError::HostName)?;
    if host.parse::<Ipv6Addr>().is_err() {
        return Err(UrlError::HostName);
    }
    match after.strip_prefix(':') {
        Some(port) => Ok((host, Some(port))),
        None if after.is_empty() => Ok((host, None)),
        None => Err(UrlError::HostName),
    }
}

/// An empty port stands for the default one, as in libpq.
fn read_port(text: &str) -> Result<Option<u16>, UrlError> {
    match text {
        "" => Ok(None),
        _ => match text.parse() {
            Ok(0) | Err(_) => Err(UrlError::Port),
            Ok(port) => Ok(Some(port)),
        },
    }
}

/// A host that starts with `/` is a socket directory, as in libpq.
fn host(name: String, port: u16) -> Result<Host, UrlError> {
    if name.starts_with('/') {
        return Ok(Host::Unix(UnixAddress::new(Path::new(&name), port)?));
    }
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
    match name.as_str() {
        "" => Err(UrlError::NoHost),
        _ if name.bytes().all(plain) || name.parse::<Ipv6Addr>().is_ok() => {
            Ok(Host::Tcp { name, port })
        }
        _ => Err(UrlError::HostName),
    }
}

fn non_empty(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

/// Undoes percent escapes; `+` stays itself, as in libpq (`conninfo_uri_decode`).
fn decode(text: &str) -> Result<String, UrlError> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digit = |b: Option<u8>| b.and_then(|b| char::from(b).to_digit(16));
        match (digit(rest.next()), digit(rest.next())) {
            (Some(high), Some(low)) if (high, low) != (0, 0) => {
                bytes.push(u8::try_from(high * 16 + low).expect("two digits of 16 fit a byte"));
            }
            _ => return Err(UrlError::Escape),
        }
    }
    match String::from_utf8(bytes) {
        Ok(text) => Ok(text),
        Err(_not_utf8) => Err(UrlError::Escape),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// `user|password|database|host,host` of a URL, or its error.
    fn read(url: &str) -> Result<String, UrlError> {
        let url = parse(url)?;
        let hosts: Vec<_> = url.hosts.iter().map(Host::to_string).collect();
        Ok(format!(
            "{}|{}|{}|{}",
            url.user.as_deref().unwrap_or("-"),
            url.password.as_ref().map_or("-", Secret::expose),
            url.database.as_deref().unwrap_or("-"),
            hosts.join(",")
        ))
    }

    #[test]
    fn urls_read_as_libpq_reads_them() {
        let cases = [
            ("postgres://app@db", "app|-|-|db:5432"),
            ("postgresql://app@db:6000/shop", "app|-|shop|db:6000"),
            ("postgres://app:a%40b%2F@db/", "app|a@b/|-|db:5432"),
            ("postgres://app:a:b@db", "app|a:b|-|db:5432"),
            ("postgres://a@h1:1,h2:2,h3/d", "a|-|d|h1:1,h2:2,h3:5432"),
            ("postgres://a@[::1]:5433/d", "a|-|d|[::1]:5433"),
            (
                "postgres://a@%2Frun%2Fpg:5433/d",
                "a|-|d|/run/pg/.s.PGSQL.5433",
            ),
            (
                "postgres://a@/d?host=/run/pg",
                "a|-|d|/run/pg/.s.PGSQL.5432",
            ),
            ("postgres:///d?host=h1,h2&port=7", "-|-|d|h1:7,h2:7"),
            (
                "postgres://h?user=u&password=p&dbname=d&sslmode=prefer",
                "u|p|d|h:5432",
            ),
            ("postgres://h/d+e", "-|-|d+e|h:5432"),
        ];
        for (url, expected) in cases {
            assert_eq!(read(url).as_deref(), Ok(expected), "{url}");
        }
    }

    #[test]
    fn malformed_urls_are_refused_without_quoting_them() {
        let cases = [
            ("mysql://h", UrlError::Scheme),
            ("postgres://", UrlError::NoHost),
            ("postgres://u@/d", UrlError::NoHost),
            ("postgres://u:hunter@2@h", UrlError::HostName),
            ("postgres://u:hunter/2@h", UrlError::Port),
            ("postgres://h:0", UrlError::Port),
            ("postgres://h:65536", UrlError::Port),
            ("postgres://[::1", UrlError::HostName),
            ("postgres://[db]", UrlError::HostName),
            ("postgres://h/%zz", UrlError::Escape),
            ("postgres://h/%00", UrlError::Escape),
            ("postgres://h/%ff", UrlError::Escape),
            ("postgres://h?hunter2", UrlError::Parameter),
            ("postgres://h?Hunter2=1", UrlError::Parameter),
            (
                "postgres://h?options=x",
                UrlError::UnknownParameter("options".into()),
            ),
            ("postgres://h?sslmode=required", UrlError::SslMode),
            ("postgres://h?sslnegotiation=tls", UrlError::SslNegotiation),
            (
                "postgres://h?host=a,b,c&port=1,2",
                UrlError::PortCount { ports: 2, hosts: 3 },
            ),
        ];
        for (url, expected) in cases {
            let error = parse(url).expect_err(url);
            assert!(!error.to_string().contains("unter"), "{error}");
            assert_eq!(error, expected, "{url}");
        }
    }

    /// The driver's own reader is the oracle: on what both accept, both must agree.
    #[test]
    fn urls_read_as_the_driver_reads_them() {
        use tokio_postgres::config::Host as Theirs;
        for url in [
            "postgres://app:s%20p@db:6000,db2/shop",
            "postgresql://a@%2Frun%2Fpg:5433/d",
            "postgres://a@[::1]:5433/d",
            "postgres://h?user=u&password=p&dbname=d",
        ] {
            let ours = parse(url).expect(url);
            let theirs: tokio_postgres::Config = url.parse().expect(url);
            assert_eq!(ours.user.as_deref(), theirs.get_user(), "{url}");
            assert_eq!(ours.database.as_deref(), theirs.get_dbname(), "{url}");
            let password = ours.password.as_ref().map(|p| p.expose().as_bytes());
            assert_eq!(password, theirs.get_password(), "{url}");
            let hosts: Vec<_> = ours
                .hosts
                .iter()
                .map(|host| match host {
                    Host::Tcp { name, .. } => Theirs::Tcp(name.clone()),
                    Host::Unix(unix) => Theirs::Unix(unix.directory.clone()),
                })
                .collect();
            assert_eq!(hosts, theirs.get_hosts(), "{url}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(rest in ".*", piece in "[a-z0-9:@/?&=,%\\[\\]]{0,40}") {
            let _ = parse(&rest);
            let _ = parse(&format!("postgres://{rest}"));
            let _ = parse(&format!("postgres://{piece}"));
        }
    }
}
