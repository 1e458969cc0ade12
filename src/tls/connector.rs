//! The encrypted side of servers: libpq's `sslmode`, with its exact meaning.
//!
//! "SSL Support", section 34.19 of the Postgres documentation; where that is silent, `fe-connect.c`
//! and `fe-secure-openssl.c`.

use std::io;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use rustls::client::danger::ServerCertVerifier;
use rustls::client::{ClientConfig, Resumption};
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, TlsStream};

use super::files::{FileError, Identity, Print, certificates};
use super::stream::Stream;
use super::trust::{Anyone, Demand, Known};
use super::{ALPN, end_point, provider};

/// `SSLRequest` (Postgres documentation section 55.7).
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];

/// How much encryption is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SslMode {
    /// None.
    Disable,
    /// None, unless the server insists.
    Allow,
    /// Some, unless the server has none.
    Prefer,
    /// Some, with whoever it is.
    Require,
    /// With a server whose certificate a known authority has signed.
    VerifyCa,
    /// The same, and the certificate is one of that very host.
    VerifyFull,
}

impl SslMode {
    /// libpq's word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Disable => "disable",
            Self::Allow => "allow",
            Self::Prefer => "prefer",
            Self::Require => "require",
            Self::VerifyCa => "verify-ca",
            Self::VerifyFull => "verify-full",
        }
    }
}

impl FromStr for SslMode {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Ok(match text {
            "disable" => Self::Disable,
            "allow" => Self::Allow,
            "prefer" => Self::Prefer,
            "require" => Self::Require,
            "verify-ca" => Self::VerifyCa,
            "verify-full" => Self::VerifyFull,
            _ => return Err(()),
        })
    }
}

/// How encryption begins.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Negotiation {
    /// By `SSLRequest`.
    #[default]
    Postgres,
    /// With the handshake itself: Postgres 17 and later.
    Direct,
}

/// The authorities whose signature counts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Roots {
    /// Nobody's; certificates are not looked at.
    #[default]
    None,
    /// Those of a file.
    File(PathBuf),
    /// Those that the system knows.
    System,
}

/// What one try to connect does about encryption.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attempt {
    /// Nothing.
    Plain,
    /// Encrypts, or goes on without on the same connection if the server has no encryption.
    Offer,
    /// Encrypts or fails.
    Encrypt,
}

/// Begins handshakes with servers.
#[derive(Clone)]
pub struct Connector {
    mode: SslMode,
    negotiation: Negotiation,
    config: Option<Arc<ClientConfig>>,
    print: Print,
}

/// Why a connection is not encrypted.
#[derive(Debug, thiserror::Error)]
pub enum NotEncrypted {
    /// The server has no encryption.
    #[error("the server does not support SSL, but SSL was required")]
    Declined,
    /// The server answered by something else than one byte. What it said is not shown: nobody
    /// knows who said it (CVE-2024-10977).
    #[error("the server did not answer a request for encryption as Postgres does")]
    Answer,
    /// A handshake without a request, and the server did not call itself `postgresql` in it.
    #[error("the server does not take direct SSL connections")]
    NotNamed,
    /// The name cannot stand in a certificate.
    #[error("\"{0}\" is no name of a host that a certificate could have")]
    HostName(String),
    /// The handshake failed.
    #[error("SSL handshake: {0}")]
    Handshake(#[source] io::Error),
    /// The connection broke.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl From<NotEncrypted> for io::Error {
    fn from(error: NotEncrypted) -> io::Error {
        if let NotEncrypted::Io(error) = error {
            error
        } else {
            io::Error::other(error)
        }
    }
}

impl Connector {
    /// One that never encrypts.
    #[must_use]
    pub fn disabled() -> Connector {
        Connector {
            mode: SslMode::Disable,
            negotiation: Negotiation::Postgres,
            config: None,
            print: Print::default(),
        }
    }

    /// With these settings; roots are looked at in every mode that encrypts, as in libpq, where
    /// `require` with a root file means `verify-ca`.
    ///
    /// # Errors
    /// When the files are not what they should be, or a mode that verifies has no roots.
    pub fn new(
        mode: SslMode,
        negotiation: Negotiation,
        roots: &Roots,
        identity: Option<Identity>,
    ) -> Result<Connector, FileError> {
        if mode == SslMode::Disable {
            return Ok(Connector::disabled());
        }
        let (path, authorities) = match roots {
            Roots::None => (PathBuf::new(), Vec::new()),
            Roots::File(path) => (path.clone(), certificates(path)?),
            Roots::System => (PathBuf::from("system"), system_roots()?),
        };
        let print = print(&authorities, identity.as_ref());
        let demand = match mode {
            SslMode::VerifyFull => Demand::SignedAndNamed,
            SslMode::Disable
            | SslMode::Allow
            | SslMode::Prefer
            | SslMode::Require
            | SslMode::VerifyCa => Demand::Signed,
        };
        let verifier: Arc<dyn ServerCertVerifier> = match roots {
            Roots::None => Anyone::new(),
            Roots::File(_) | Roots::System => Known::new(authorities, demand)
                .map_err(|error| FileError::Unusable { path, error })?,
        };
        Ok(Connector {
            mode,
            negotiation,
            config: Some(Arc::new(client_config(verifier, identity)?)),
            print,
        })
    }

    /// What to try, in this order. The next one is for when the server refuses, before it asked
    /// for anything; or cannot be encrypted with.
    #[must_use]
    pub fn attempts(&self) -> &'static [Attempt] {
        match self.mode {
            SslMode::Disable => &[Attempt::Plain],
            SslMode::Allow => &[Attempt::Plain, Attempt::Encrypt],
            SslMode::Prefer => &[Attempt::Offer, Attempt::Plain],
            SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull => &[Attempt::Encrypt],
        }
    }

    /// Encrypts a connection that has just been made to `host`. Not cancel safe.
    ///
    /// # Errors
    /// When it cannot be encrypted as the attempt demands; the connection is closed then.
    pub async fn secure(
        &self,
        mut tcp: TcpStream,
        host: &str,
        attempt: Attempt,
    ) -> Result<Stream, NotEncrypted> {
        let Some(config) = self.config.as_ref().filter(|_| attempt != Attempt::Plain) else {
            return Ok(Stream::Tcp(tcp));
        };
        if self.negotiation == Negotiation::Postgres && !ask(&mut tcp).await? {
            return match attempt {
                Attempt::Offer => Ok(Stream::Tcp(tcp)),
                Attempt::Plain | Attempt::Encrypt => Err(NotEncrypted::Declined),
            };
        }
        let name = self.name(host, &tcp)?;
        let connected = TlsConnector::from(Arc::clone(config)).connect(name, tcp);
        let stream = connected.await.map_err(NotEncrypted::Handshake)?;
        let named = stream.get_ref().1.alpn_protocol() == Some(ALPN);
        if self.negotiation == Negotiation::Direct && !named {
            return Err(NotEncrypted::NotNamed);
        }
        Ok(Stream::Tls(Box::new(TlsStream::Client(stream))))
    }

    /// The name that the certificate is compared with and that the server is told (SNI).
    fn name(&self, host: &str, tcp: &TcpStream) -> Result<ServerName<'static>, NotEncrypted> {
        match ServerName::try_from(host.to_owned()) {
            Ok(name) => Ok(name),
            Err(_) if self.mode == SslMode::VerifyFull => {
                Err(NotEncrypted::HostName(host.to_owned()))
            }
            // Nobody compares it.
            Err(_) => Ok(ServerName::from(tcp.peer_addr()?.ip())),
        }
    }
}

/// Sends the request; whether the server is willing. Anything behind its one byte was sent by
/// somebody in between (CVE-2021-23222).
async fn ask(tcp: &mut TcpStream) -> Result<bool, NotEncrypted> {
    tcp.write_all(&SSL_REQUEST).await?;
    let mut answer = [0; 2];
    let length = tcp.read(&mut answer).await?;
    match (length, answer[0]) {
        (0, _) => Err(NotEncrypted::Io(io::ErrorKind::UnexpectedEof.into())),
        (1, b'S') => Ok(true),
        (1, b'N') => Ok(false),
        _ => Err(NotEncrypted::Answer),
    }
}

pub(super) fn system_roots() -> Result<Vec<CertificateDer<'static>>, FileError> {
    let found = rustls_native_certs::load_native_certs().certs;
    if found.is_empty() {
        Err(FileError::NoSystemRoots)
    } else {
        Ok(found)
    }
}

fn print(authorities: &[CertificateDer<'static>], identity: Option<&Identity>) -> Print {
    let ours = identity.iter().flat_map(|identity| {
        let chain = identity.chain.iter().map(AsRef::as_ref);
        chain.chain([identity.key.secret_der()])
    });
    Print::of(authorities.iter().map(AsRef::as_ref).chain(ours))
}

pub(super) fn client_config(
    verifier: Arc<dyn ServerCertVerifier>,
    identity: Option<Identity>,
) -> Result<ClientConfig, FileError> {
    let path = identity.as_ref().map(|identity| identity.path.clone());
    let path = path.unwrap_or_default();
    let unusable = |error| FileError::Unusable { path, error };
    let builder = match ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
    {
        Ok(builder) => builder,
        Err(error) => return Err(unusable(error)),
    };
    let builder = builder
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some(Identity { chain, key, .. }) => builder
            .with_client_auth_cert(chain, key)
            .map_err(unusable)?,
    };
    config.alpn_protocols = vec![ALPN.to_vec()];
    // Postgres resumes nothing.
    config.resumption = Resumption::disabled();
    Ok(config)
}

impl Stream {
    /// The channel binding of a server that this connection goes to; `None` on a plain one.
    #[must_use]
    pub fn server_end_point(&self) -> Option<Vec<u8>> {
        let Stream::Tls(stream) = self else {
            return None;
        };
        let (_, session) = stream.get_ref();
        end_point::of(session.peer_certificates()?.first()?)
    }
}

impl PartialEq for Connector {
    fn eq(&self, other: &Self) -> bool {
        (self.mode, self.negotiation, self.print) == (other.mode, other.negotiation, other.print)
    }
}

impl std::fmt::Debug for Connector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connector")
            .field("mode", &self.mode)
            .field("negotiation", &self.negotiation)
            .finish_non_exhaustive()
    }
}
