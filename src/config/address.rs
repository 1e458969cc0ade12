//! Where we listen and where Postgres is: TCP addresses and Unix socket directories.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Deserializer};

use super::quantity::from_text;

/// The port we listen on when none is named.
pub const LISTEN_PORT: u16 = 6432;

/// What `sun_path` holds on Linux, less its terminating zero (`unix(7)`).
const SOCKET_PATH_MAX: usize = 107;

/// A Unix socket as libpq finds it: a directory, and a port that is a part of the file's name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct UnixAddress {
    /// The directory, an absolute path.
    pub directory: PathBuf,
    /// The number in the file's name.
    pub port: u16,
}

impl UnixAddress {
    /// The socket's file, named as Postgres does (`UNIXSOCK_PATH` in `libpq/pqcomm.h`).
    pub fn path(&self) -> PathBuf {
        self.directory.join(format!(".s.PGSQL.{}", self.port))
    }

    /// Checks what the operating system will ask for.
    pub(super) fn new(directory: &Path, port: u16) -> Result<Self, AddressError> {
        let address = Self {
            directory: directory.to_owned(),
            port,
        };
        let path = address.path();
        if !directory.is_absolute() {
            Err(AddressError::RelativeDirectory(directory.to_owned()))
        } else if path.as_os_str().len() > SOCKET_PATH_MAX {
            Err(AddressError::SocketPathTooLong(path))
        } else {
            Ok(address)
        }
    }
}

/// Why a text is no address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Neither `HOST:PORT` nor `unix:/dir`.
    #[error(
        "\"{0}\" is not an address to listen on; write IP:PORT (0.0.0.0 or [::] for every \
         interface), localhost:PORT or unix:/DIRECTORY"
    )]
    Listen(String),
    /// Not `HOST:PORT`.
    #[error("\"{0}\" is not a TCP address to listen on; write IP:PORT or localhost:PORT")]
    Tcp(String),
    /// A Unix socket's directory that depends on where we were started.
    #[error("the socket directory {} must be an absolute path", .0.display())]
    RelativeDirectory(PathBuf),
    /// A socket's file that depends on where we were started, or that is a directory.
    #[error("unix:{} names no socket; write the absolute path of its file", .0.display())]
    RelativeSocket(PathBuf),
    /// A path that no socket can have.
    #[error("the socket {} has a path of more than {SOCKET_PATH_MAX} bytes", .0.display())]
    SocketPathTooLong(PathBuf),
}

/// An address that clients connect to.
///
/// Written `HOST:PORT`, `unix:/DIRECTORY` (the socket is `/DIRECTORY/.s.PGSQL.6432`), or
/// `unix:/DIRECTORY:PORT` for another number in the file's name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ListenAddress {
    /// A TCP port; 0 lets the system choose.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix(UnixAddress),
}

impl FromStr for ListenAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let Some(rest) = text.strip_prefix("unix:") else {
            return match text.parse::<TcpAddress>() {
                Ok(TcpAddress(address)) => Ok(Self::Tcp(address)),
                Err(_narrower) => Err(AddressError::Listen(text.to_owned())),
            };
        };
        let (directory, port) = match rest.rsplit_once(':') {
            Some((directory, port)) => match port.parse() {
                Ok(port) => (directory, port),
                // A directory may carry a colon in its name.
                Err(_not_a_port) => (rest, LISTEN_PORT),
            },
            None => (rest, LISTEN_PORT),
        };
        UnixAddress::new(Path::new(directory), port).map(Self::Unix)
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(unix) if unix.port == LISTEN_PORT => {
                write!(f, "unix:{}", unix.directory.display())
            }
            Self::Unix(unix) => write!(f, "unix:{}:{}", unix.directory.display(), unix.port),
        }
    }
}

impl<'de> Deserialize<'de> for ListenAddress {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        from_text(deserializer)
    }
}

/// A TCP address to listen on; `localhost` stands for 127.0.0.1, other names are refused because
/// a server should not choose its interface by a look-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpAddress(pub SocketAddr);

impl FromStr for TcpAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let localhost = text
            .strip_prefix("localhost:")
            .and_then(|port| port.parse().ok())
            .map(|port| SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port));
        localhost
            .or_else(|| text.parse().ok())
            .map(Self)
            .ok_or_else(|| AddressError::Tcp(text.to_owned()))
    }
}

impl<'de> Deserialize<'de> for TcpAddress {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        from_text(deserializer)
    }
}

/// Where a Postgres server is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Host {
    /// By TCP; the name is resolved anew for each connection.
    Tcp {
        /// A name or an IP address, without brackets.
        name: String,
        /// The server's port.
        port: u16,
    },
    /// By a Unix socket.
    Unix(UnixAddress),
}

impl Host {
    /// The server's port, for a Unix socket the number in its name.
    pub fn port(&self) -> u16 {
        match self {
            Self::Tcp { port, .. } => *port,
            Self::Unix(unix) => unix.port,
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { name, port } if name.contains(':') => write!(f, "[{name}]:{port}"),
            Self::Tcp { name, port } => write!(f, "{name}:{port}"),
            Self::Unix(unix) => write!(f, "{}", unix.path().display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_read_as_written() {
        let good = [
            ("127.0.0.1:6432", "127.0.0.1:6432"),
            ("localhost:0", "127.0.0.1:0"),
            ("[::1]:6432", "[::1]:6432"),
            ("unix:/run/pgdrain", "unix:/run/pgdrain"),
            ("unix:/run/pgdrain:7000", "unix:/run/pgdrain:7000"),
            ("unix:/run/a:b", "unix:/run/a:b"),
        ];
        for (text, printed) in good {
            let address: ListenAddress = text.parse().expect(text);
            assert_eq!(address.to_string(), printed);
        }
        let long = format!("unix:/{}", "x".repeat(120));
        for bad in [
            "",
            "6432",
            "127.0.0.1",
            "*:6432",
            "db.example:6432",
            "unix:run",
            &long,
        ] {
            assert!(bad.parse::<ListenAddress>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_socket_is_named_as_libpq_looks_for_it() {
        let address = "unix:/run/pgdrain".parse::<ListenAddress>();
        let Ok(ListenAddress::Unix(unix)) = address else {
            panic!("a Unix address, not {address:?}");
        };
        assert_eq!(unix.path(), Path::new("/run/pgdrain/.s.PGSQL.6432"));
    }
}
