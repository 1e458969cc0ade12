//! The encrypted side of clients.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use rustls::RootCertStore;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, ServerConfig, WebPkiClientVerifier};
use tokio_rustls::{TlsAcceptor, TlsStream};

use super::expiry::first_end;
use super::files::{FileError, Identity, Print, certificates};
use super::stream::Stream;
use super::{ALPN, Encryption, HTTP, Names, end_point, provider};

/// The most plain bytes that one record carries to a client: 8 KiB, as many as the server's own; the
/// rest is the record's header, which rustls counts too.
///
/// libpq makes room for so many before each read. Of a larger record a part stays decrypted in OpenSSL,
/// and a program that then waits for the socket, as `pg_basebackup` does, waits for ever.
const RECORD: usize = 8 * 1024 + 5;

/// Answers handshakes with our certificate.
#[derive(Clone)]
pub struct Acceptor {
    config: Arc<ServerConfig>,
    end_point: Option<Vec<u8>>,
    print: Print,
    ends: Ends,
}

/// When what an acceptor goes by ends; nothing where there is no such certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ends {
    /// Of our certificate, or of what stands between it and its authority.
    pub certificate: Option<SystemTime>,
    /// Of the first of the authorities that sign for clients.
    pub client_ca: Option<SystemTime>,
}

/// What became of a handshake.
#[derive(Debug)]
pub struct Accepted {
    /// The encrypted connection.
    pub stream: Stream,
    /// What it tells of its two ends.
    pub encryption: Encryption,
    /// Whether the two agreed on the name `postgresql`, without which a connection that began
    /// with the handshake is refused.
    pub named: bool,
}

impl Acceptor {
    /// With this certificate; clients may show one that an authority in `client_ca` has signed.
    /// One that another has signed ends the handshake.
    ///
    /// # Errors
    /// When the files do not fit together.
    pub fn new(identity: Identity, client_ca: Option<&Path>) -> Result<Acceptor, FileError> {
        Acceptor::speaking(ALPN, identity, client_ca)
    }

    /// The same for HTTP.
    ///
    /// # Errors
    /// When the files do not fit together.
    pub fn for_web(identity: Identity, client_ca: Option<&Path>) -> Result<Acceptor, FileError> {
        Acceptor::speaking(HTTP, identity, client_ca)
    }

    fn speaking(
        protocol: &[u8],
        identity: Identity,
        client_ca: Option<&Path>,
    ) -> Result<Acceptor, FileError> {
        let authorities = client_ca.map(certificates).transpose()?.unwrap_or_default();
        let key = identity.key.secret_der();
        let parts = identity.chain.iter().map(AsRef::as_ref).chain([key]);
        let print = Print::of(parts.chain(authorities.iter().map(AsRef::as_ref)));
        let end_point = identity.chain.first().and_then(end_point::of);
        let ends = Ends {
            certificate: first_end(&identity.chain),
            client_ca: first_end(&authorities),
        };
        let unusable = |path: &Path, error| FileError::Unusable {
            path: path.to_owned(),
            error,
        };
        let verifier = match client_ca {
            Some(path) => client_verifier(&authorities, path)?,
            None => WebPkiClientVerifier::no_client_auth(),
        };
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|error| unusable(&identity.path, error))?
            .with_client_cert_verifier(verifier)
            .with_single_cert(identity.chain, identity.key)
            .map_err(|error| unusable(&identity.path, error))?;
        config.alpn_protocols = vec![protocol.to_vec()];
        // As the server does: a connection lives long, and resuming would cost memory.
        config.send_tls13_tickets = 0;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.max_fragment_size = Some(RECORD);
        Ok(Acceptor {
            config: Arc::new(config),
            end_point,
            print,
            ends,
        })
    }

    /// When what it goes by ends.
    #[must_use]
    pub fn ends(&self) -> Ends {
        self.ends
    }

    /// Answers the handshake that comes next on this connection. Not cancel safe.
    ///
    /// # Errors
    /// When the client does not come to terms with us, of which it was told by an alert; or when
    /// the connection broke. A connection that is no TCP is refused.
    pub async fn accept(&self, stream: Stream) -> io::Result<Accepted> {
        let Stream::Tcp(tcp) = stream else {
            return Err(io::ErrorKind::Unsupported.into());
        };
        let stream = TlsAcceptor::from(Arc::clone(&self.config))
            .accept(tcp)
            .await?;
        let (_, session) = stream.get_ref();
        let certificate = session.peer_certificates().and_then(<[_]>::first);
        let encryption = Encryption {
            end_point: self.end_point.clone(),
            client: certificate.map(Names::of),
        };
        Ok(Accepted {
            named: session.alpn_protocol() == Some(ALPN),
            encryption,
            stream: Stream::Tls(Box::new(TlsStream::Server(stream))),
        })
    }
}

/// What is wrong with the certificate that a client showed, if that is why a handshake failed.
#[must_use]
pub fn refused_certificate(error: &io::Error) -> Option<String> {
    let error = error.get_ref()?.downcast_ref::<rustls::Error>()?;
    if let rustls::Error::InvalidCertificate(_) = error {
        return Some(error.to_string());
    }
    None
}

fn client_verifier(
    authorities: &[rustls::pki_types::CertificateDer<'static>],
    path: &Path,
) -> Result<Arc<dyn ClientCertVerifier>, FileError> {
    let mut roots = RootCertStore::empty();
    for authority in authorities {
        roots
            .add(authority.clone())
            .map_err(|error| FileError::Unusable {
                path: path.to_owned(),
                error,
            })?;
    }
    // A certificate is asked for and may be missing: who needs one is told so in plain words, not
    // by an alert that many drivers show as a broken connection.
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
        .allow_unauthenticated()
        .build()
        .map_err(|_no_roots| FileError::NoCertificate(path.to_owned()))
}

impl PartialEq for Acceptor {
    fn eq(&self, other: &Self) -> bool {
        self.print == other.print
    }
}

impl std::fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Acceptor").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use rcgen::{CertificateParams, KeyPair};
    use rustls::client::Resumption;
    use rustls::pki_types::ServerName;
    use rustls::{ClientConfig, ClientConnection, ServerConnection};

    use super::*;

    /// An acceptor of `localhost`, and a client that trusts it.
    fn both_sides() -> (ServerConnection, ClientConnection) {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
        let certificate = params.self_signed(&key).expect("a certificate");
        let mut roots = RootCertStore::empty();
        roots.add(certificate.der().clone()).expect("a root");
        let identity = Identity {
            chain: vec![certificate.der().clone()],
            key: key.into(),
            path: "localhost.crt".into(),
        };
        let acceptor = Acceptor::new(identity, None).expect("fitting files");
        let mut client = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        client.resumption = Resumption::disabled();
        let name = ServerName::try_from("localhost").expect("a name");
        (
            ServerConnection::new(acceptor.config).expect("a good configuration"),
            ClientConnection::new(Arc::new(client), name).expect("a good configuration"),
        )
    }

    #[test]
    fn a_record_fits_what_libpq_reads_at_once() {
        let (mut server, mut client) = both_sides();
        while server.is_handshaking() || client.is_handshaking() {
            let mut wire = Vec::new();
            client.write_tls(&mut wire).expect("a vector takes all");
            server.read_tls(&mut &wire[..]).expect("room");
            server.process_new_packets().expect("a handshake");
            wire.clear();
            server.write_tls(&mut wire).expect("a vector takes all");
            client.read_tls(&mut &wire[..]).expect("room");
            client.process_new_packets().expect("a handshake");
        }
        assert_eq!(server.writer().write(&[7; 40_000]).expect("room"), 40_000);
        let mut wire = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut wire).expect("a vector takes all");
        }
        let mut rest = &wire[..];
        let mut records = 0;
        while let [_, _, _, high, low, behind @ ..] = rest {
            let length = usize::from(u16::from_be_bytes([*high, *low]));
            // The type of what is inside and the seal: 17 bytes.
            assert!(length <= 8192 + 17, "{length}");
            rest = &behind[length..];
            records += 1;
        }
        assert_eq!(records, 5);
    }
}
