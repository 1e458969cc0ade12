//! `[admin]`: where the admin HTTP listens, and who may ask it for what.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use jiff::Timestamp;
use serde::de::{SeqAccess, Visitor, value::SeqAccessDeserializer};
use serde::{Deserialize, Deserializer};

use super::address::{AddressError, TcpAddress};
use super::expiry::Expires;
use super::permission::{AdminRole, Permission};
use super::quantity::from_text;
use super::raw::RawAdmin;
use super::token::TokenHash;
use super::validate::Check;
use crate::tls::acceptor::Acceptor;
use crate::tls::files::Identity;

/// What `sun_path` holds on Linux, less its terminating zero (`unix(7)`).
const SOCKET_PATH_MAX: usize = 107;

/// Longer names would be no names.
const NAME_MAX: usize = 100;

/// What may be done on this machine without a token unless it is configured: a first try of everything
/// but migrations works.
const LOCAL: [Permission; 3] = [Permission::Look, Permission::Hold, Permission::Open];

/// The admin HTTP.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Admin {
    /// Where it listens; at least one place.
    pub listen: Vec<AdminAddress>,
    /// What whoever is on this machine may do without a token.
    pub local: Vec<Permission>,
    /// Whether those who may only look see the constants of statements too.
    pub show_constants: bool,
    /// Names of hosts that requests may be sent to, besides IP addresses and `localhost`.
    pub hosts: Vec<String>,
    /// Who may ask by a token.
    pub tokens: Vec<Token>,
    /// Who may ask by a certificate.
    pub clients: Vec<ClientCertificate>,
    /// Answers the handshakes of those who come from other machines.
    pub acceptor: Option<Acceptor>,
}

/// Where the admin HTTP listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AdminAddress {
    /// A TCP port on loopback, not encrypted; port 0 lets the system choose.
    Tcp(SocketAddr),
    /// An encrypted TCP port. Whoever comes there shows who they are, from this machine too.
    Tls(SocketAddr),
    /// A Unix socket: its file. Whom it lets in is up to the mode of the file and of its directory.
    Unix(PathBuf),
}

/// Somebody who is known by a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// Who; stands in the audit log.
    pub name: String,
    /// What they may do.
    pub role: AdminRole,
    /// What the token has to hash to.
    pub sha256: TokenHash,
    /// The roles of `migrate.approvals` that they may speak for.
    pub approves: Vec<String>,
    /// When it stops to count; never, if nothing is said.
    pub expires: Option<Timestamp>,
}

/// Somebody who is known by a certificate that an authority in `admin.client_ca` has signed.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientCertificate {
    /// The common name, or one of the alternative names, in the certificate; stands in the audit log.
    pub name: String,
    /// What they may do.
    pub role: AdminRole,
    /// The roles of `migrate.approvals` that they may speak for.
    #[serde(default)]
    pub approves: Vec<String>,
}

/// A token as it is written.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawToken {
    name: String,
    role: AdminRole,
    sha256: TokenHash,
    #[serde(default)]
    approves: Vec<String>,
    expires: Option<Expires>,
}

impl AdminAddress {
    /// Whether only this machine reaches it, and without encryption.
    #[must_use]
    pub fn is_local(&self) -> bool {
        match self {
            Self::Tcp(_) | Self::Unix(_) => true,
            Self::Tls(_) => false,
        }
    }
}

/// Encryption on loopback has to be asked for; elsewhere there is nothing else.
const HTTPS: &str = "https://";

fn is_loopback(address: &SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}

impl FromStr for AdminAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let Some(path) = text.strip_prefix("unix:") else {
            let (asked, address) = match text.strip_prefix(HTTPS) {
                Some(address) => (true, address),
                None => (false, text),
            };
            let TcpAddress(address) = address.parse()?;
            return Ok(match asked || !is_loopback(&address) {
                true => Self::Tls(address),
                false => Self::Tcp(address),
            });
        };
        let path = Path::new(path);
        if !path.is_absolute() || path.file_name().is_none() {
            return Err(AddressError::RelativeSocket(path.to_owned()));
        }
        if path.as_os_str().len() > SOCKET_PATH_MAX {
            return Err(AddressError::SocketPathTooLong(path.to_owned()));
        }
        Ok(Self::Unix(path.to_owned()))
    }
}

impl fmt::Display for AdminAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tls(address) if is_loopback(address) => write!(f, "{HTTPS}{address}"),
            Self::Tcp(address) | Self::Tls(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl<'de> Deserialize<'de> for AdminAddress {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        from_text(deserializer)
    }
}

/// `admin.listen` as it is written: a place, or a list of them.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct RawPlaces(pub(super) Vec<AdminAddress>);

impl<'de> Deserialize<'de> for RawPlaces {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(PlaceOrPlaces)
    }
}

struct PlaceOrPlaces;

impl<'de> Visitor<'de> for PlaceOrPlaces {
    type Value = RawPlaces;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an address, or a list of addresses")
    }

    /// The environment and flags part a list by commas.
    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<RawPlaces, E> {
        let places = text.split(',').map(|place| place.trim().parse());
        places
            .collect::<Result<_, AddressError>>()
            .map(RawPlaces)
            .map_err(E::custom)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<RawPlaces, A::Error> {
        let places = Vec::deserialize(SeqAccessDeserializer::new(list))?;
        Ok(RawPlaces(places))
    }
}

impl Check<'_> {
    /// Where the admin HTTP listens and who may ask it; every place that others reach has to ask who they
    /// are.
    pub(super) fn admin(&mut self, raw: RawAdmin) -> Admin {
        let default = || vec![AdminAddress::Tcp((Ipv4Addr::LOCALHOST, 6433).into())];
        let listen = raw.listen.map_or_else(default, |RawPlaces(places)| places);
        if listen.is_empty() {
            self.wrong("admin.listen", "it names no address");
        }
        let fixed = |it: &AdminAddress| match it {
            AdminAddress::Tcp(address) | AdminAddress::Tls(address) => address.port() != 0,
            AdminAddress::Unix(_) => true,
        };
        for (at, place) in listen.iter().enumerate() {
            if fixed(place) && listen[..at].contains(place) {
                self.wrong("admin.listen", format!("{place} is named twice"));
            }
        }
        let files = (raw.certificate, raw.key, raw.client_ca);
        let encrypts = files.0.is_some();
        let knows_clients = files.2.is_some();
        let acceptor = self.admin_tls(files);
        let tokens = self.admin_tokens(raw.tokens.unwrap_or_default());
        let clients = raw.clients.unwrap_or_default();
        if !clients.is_empty() && !knows_clients {
            self.wrong("admin.clients", "it is set, but admin.client_ca is not");
        }
        self.admin_names("admin.clients", clients.iter().map(|it| it.name.as_str()));
        let somebody = !tokens.is_empty() || !clients.is_empty();
        for place in listen.iter().filter(|place| !place.is_local()) {
            self.reachable(place, encrypts, somebody);
        }
        let hosts = raw.hosts.unwrap_or_default();
        for host in &hosts {
            if host.is_empty() || host.contains(['/', ':', '*', ' ']) {
                let text = format!("{host:?} is no name of a host; leave out scheme and port");
                self.wrong("admin.hosts", text);
            }
        }
        Admin {
            listen,
            local: raw.local.unwrap_or_else(|| LOCAL.to_vec()),
            show_constants: raw.show_constants.unwrap_or(false),
            hosts,
            tokens,
            clients,
            acceptor,
        }
    }

    /// A place that other machines reach.
    fn reachable(&mut self, place: &AdminAddress, encrypts: bool, somebody: bool) {
        let mut missing = Vec::new();
        if !encrypts {
            missing.push("encryption (admin.certificate and admin.key)");
        }
        if !somebody {
            missing.push(
                "to know who may ask (admin.tokens, which `pgdrain config token` writes, or \
                 admin.clients)",
            );
        }
        if missing.is_empty() {
            return;
        }
        let text = format!(
            "{place} can be reached from other machines, and so it needs {}; without, use a \
             loopback address such as 127.0.0.1:6433, or unix:/PATH",
            missing.join(" and ")
        );
        self.wrong("admin.listen", text);
    }

    fn admin_tls(
        &mut self,
        (certificate, key, client_ca): (Option<PathBuf>, Option<PathBuf>, Option<PathBuf>),
    ) -> Option<Acceptor> {
        let wrong = match (&certificate, &key) {
            (Some(_), None) => Some(("admin.key", "it is missing: admin.certificate is set")),
            (None, Some(_)) => Some(("admin.certificate", "it is missing: admin.key is set")),
            (None, None) if client_ca.is_some() => {
                Some(("admin.client_ca", "it is set, but admin.certificate is not"))
            }
            (Some(_), Some(_)) | (None, None) => None,
        };
        if let Some((key, text)) = wrong {
            self.wrong(key, text);
        }
        let acceptor = Identity::read(&certificate?, &key?)
            .and_then(|identity| Acceptor::for_web(identity, client_ca.as_deref()));
        acceptor
            .map_err(|error| self.wrong("admin.certificate", error.to_string()))
            .ok()
    }

    fn admin_tokens(&mut self, raw: Vec<RawToken>) -> Vec<Token> {
        self.admin_names("admin.tokens", raw.iter().map(|it| it.name.as_str()));
        for (at, token) in raw.iter().enumerate() {
            if raw[..at].iter().any(|it| it.sha256 == token.sha256) {
                let text = format!("{:?} has the token of another", token.name);
                self.wrong("admin.tokens", text);
            }
        }
        let tokens = raw.into_iter().map(|raw| Token {
            name: raw.name,
            role: raw.role,
            sha256: raw.sha256,
            approves: raw.approves,
            expires: raw.expires.map(|Expires(at)| at),
        });
        tokens.collect()
    }

    fn admin_names<'n>(&mut self, key: &str, names: impl Iterator<Item = &'n str>) {
        let mut seen = Vec::new();
        for name in names {
            if name.trim().is_empty() || name.len() > NAME_MAX || name.contains(char::is_control) {
                let text = format!("{name:?} is no name: 1 to {NAME_MAX} bytes of plain text");
                self.wrong(key, text);
            }
            if seen.contains(&name) {
                self.wrong(key, format!("{name:?} is named twice"));
            }
            seen.push(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{GOOD, config, problems};
    use super::*;

    const HASH: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    fn admin(text: &str) -> Admin {
        config(&format!("{GOOD}[admin]\n{text}")).admin
    }

    fn mistakes(text: &str) -> Vec<String> {
        problems(&format!("{GOOD}[admin]\n{text}"), &[])
    }

    #[test]
    fn a_place_is_written_alone_or_in_a_list() {
        let one = admin("listen = '127.0.0.1:7000'");
        assert_eq!(one.listen, admin("listen = ['127.0.0.1:7000']").listen);
        let two = admin("listen = ['localhost:7000', 'unix:/run/pgdrain/admin.sock']");
        let names: Vec<_> = two.listen.iter().map(ToString::to_string).collect();
        assert_eq!(names, ["127.0.0.1:7000", "unix:/run/pgdrain/admin.sock"]);
        assert!(two.listen.iter().all(AdminAddress::is_local));
        for (text, shown) in [
            ("https://127.0.0.1:1", "https://127.0.0.1:1"),
            ("0.0.0.0:1", "0.0.0.0:1"),
            ("https://[::]:1", "[::]:1"),
        ] {
            let place: AdminAddress = text.parse().expect(text);
            assert!(!place.is_local(), "{text}");
            assert_eq!(place.to_string(), shown);
        }
        for text in [
            "unix:admin.sock",
            "unix:/",
            "unix:",
            "6433",
            "http://127.0.0.1:1",
        ] {
            assert!(text.parse::<AdminAddress>().is_err(), "{text}");
        }
    }

    #[test]
    fn what_others_reach_has_to_be_encrypted_and_to_know_them() {
        for listen in [
            "0.0.0.0:6433",
            "[::]:6433",
            "192.0.2.1:6433",
            "https://127.0.0.1:6433",
        ] {
            let all = mistakes(&format!("listen = ['127.0.0.1:1', '{listen}']"));
            let [one] = all.as_slice() else {
                panic!("{all:?}");
            };
            for part in ["can be reached", "admin.certificate", "admin.tokens"] {
                assert!(one.contains(part), "{one}");
            }
        }
        let token = format!("tokens = [{{ name = 'ci', role = 'viewer', sha256 = '{HASH}' }}]");
        let all = mistakes(&format!("listen = '0.0.0.0:6433'\n{token}"));
        assert!(all[0].contains("admin.key"), "{all:?}");
        assert!(!all[0].contains("admin.tokens"), "{all:?}");
    }

    #[test]
    fn who_may_ask_is_read_and_mistakes_are_named_without_the_secret() {
        let read = admin(&format!(
            "local = ['look']\nhosts = ['drain.example']\n[[admin.tokens]]\nname = 'ci'\n\
             role = 'migrator'\nsha256 = '{HASH}'\napproves = ['dba']"
        ));
        assert_eq!(read.local, [Permission::Look]);
        let [token] = read.tokens.as_slice() else {
            panic!("one token");
        };
        assert_eq!(
            (token.name.as_str(), token.role),
            ("ci", AdminRole::Migrator)
        );
        assert_eq!(token.approves, ["dba"]);
        assert_eq!(admin("").local, LOCAL);

        let token = |name: &str, sha256: &str| {
            format!("{{ name = '{name}', role = 'viewer', sha256 = '{sha256}' }}")
        };
        let twice = format!("tokens = [{}, {}]", token("a", HASH), token("a", HASH));
        for (text, part) in [
            (twice.as_str(), "\"a\" is named twice"),
            (twice.as_str(), "\"a\" has the token of another"),
            (&format!("tokens = [{}]", token(" ", HASH)), "is no name"),
            (
                &format!("tokens = [{}]", token("a", "hunter2")),
                "no SHA-256",
            ),
            ("local = ['everything']", "unknown variant `everything`"),
            ("hosts = ['https://drain.example']", "is no name of a host"),
            ("key = '/x'", "admin.certificate: it is missing"),
            ("client_ca = '/x'", "admin.client_ca: it is set"),
            (
                "clients = [{ name = 'a', role = 'viewer' }]",
                "admin.client_ca is not",
            ),
            ("listen = []", "it names no address"),
            ("listen = ['[::1]:1', '[::1]:1']", "is named twice"),
        ] {
            let all = mistakes(text).join("\n");
            assert!(all.contains(part), "{part}: {all}");
            assert!(!all.contains("hunter2"), "{all}");
        }
    }
}
