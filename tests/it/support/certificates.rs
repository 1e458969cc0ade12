//! Certificates of the test's own: an authority, what it signs, and the files they stand in.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, IsCa, KeyPair,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::cluster::Postgres;
use super::message;
use super::poll::{SOON, within};
use super::wire::Wire;

/// Signs certificates; its files live as long as it does.
pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    dir: TempDir,
}

/// A certificate and its key, in files.
#[derive(Debug, Clone)]
pub(crate) struct Pair {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = params(name, &[]);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("a certificate");
        let dir = tempfile::tempdir().expect("a temporary directory");
        fs::write(dir.path().join("root.crt"), issuer.pem()).expect("writable");
        Self { issuer, dir }
    }

    /// The file of its own certificate.
    pub(crate) fn root(&self) -> PathBuf {
        self.dir.path().join("root.crt")
    }

    /// Signs a certificate with this common name and these alternative names.
    pub(crate) fn sign(&self, common: &str, alternative: &[&str]) -> Pair {
        let key = KeyPair::generate().expect("a key");
        let signed = params(common, alternative).signed_by(&key, &self.issuer);
        let signed = signed.expect("a certificate");
        self.write(&signed.pem(), &key)
    }

    /// A certificate that signs itself, as `openssl req -x509` makes them: one of an authority.
    pub(crate) fn self_signed(&self, common: &str, alternative: &[&str]) -> Pair {
        let key = KeyPair::generate().expect("a key");
        let mut params = params(common, alternative);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).expect("a certificate");
        self.write(&certificate.pem(), &key)
    }

    fn write(&self, certificate: &str, key: &KeyPair) -> Pair {
        let dir = tempfile::tempdir_in(self.dir.path()).expect("a temporary directory");
        let dir = dir.keep();
        let pair = Pair {
            certificate: dir.join("crt"),
            key: dir.join("key"),
        };
        fs::write(&pair.certificate, certificate).expect("writable");
        fs::write(&pair.key, key.serialize_pem()).expect("writable");
        private(&pair.key);
        pair
    }
}

impl Pair {
    /// Puts other files in the place of these.
    pub(crate) fn replace_by(&self, other: &Pair) {
        fs::copy(&other.certificate, &self.certificate).expect("readable and writable");
        fs::copy(&other.key, &self.key).expect("readable and writable");
    }

    /// The settings of a proxy that shows this certificate, for `Proxy::start_set`.
    pub(crate) fn settings(&self) -> [(&'static str, &str); 2] {
        [
            ("TLS_CERTIFICATE", text(&self.certificate)),
            ("TLS_KEY", text(&self.key)),
        ]
    }
}

/// A path as a setting.
pub(crate) fn text(path: &Path) -> &str {
    path.to_str().expect("a temporary path is UTF-8")
}

fn private(path: &Path) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).expect("ours");
}

fn params(common: &str, alternative: &[&str]) -> CertificateParams {
    let alternative: Vec<String> = alternative.iter().map(ToString::to_string).collect();
    let mut params = CertificateParams::new(alternative).expect("names");
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common);
    params
}

impl Postgres {
    /// Switches encryption on, with this certificate, and with the authority of its clients.
    pub(crate) async fn encrypt(&mut self, pair: &Pair, client_ca: Option<&Path>) {
        let client = self.connect("postgres").await;
        let row = client.query_one("show data_directory", &[]).await;
        let dir = PathBuf::from(row.expect("a setting").get::<_, String>(0));
        let owner = fs::metadata(&dir).expect("our cluster");
        for (from, to) in [
            (Some(pair.certificate.as_path()), "server.crt"),
            (Some(pair.key.as_path()), "server.key"),
            (client_ca, "client_ca.crt"),
        ] {
            let Some(from) = from else { continue };
            let to = dir.join(to);
            fs::copy(from, &to).expect("readable and writable");
            private(&to);
            chown(&to, Some(owner.uid()), Some(owner.gid())).expect("allowed");
        }
        let ca = client_ca.map_or("", |_| "client_ca.crt");
        for sql in [
            &format!("alter system set ssl_ca_file = '{ca}'"),
            "alter system set ssl = on",
            "select pg_reload_conf()",
        ] {
            client.batch_execute(sql).await.expect(sql);
        }
        super::poll::eventually("encryption", SOON, async || {
            let row = client.query_one("show ssl", &[]).await.expect("a setting");
            (row.get::<_, String>(0) == "on").then_some(())
        })
        .await;
    }
}

/// How a client of the test encrypts.
pub(crate) struct Encrypting {
    config: ClientConfig,
}

impl Encrypting {
    /// Trusts this authority and no other.
    pub(crate) fn trusting(authority: &Authority, own: Option<&Pair>) -> Self {
        let mut roots = RootCertStore::empty();
        let root = CertificateDer::from_pem_file(authority.root()).expect("a certificate");
        roots.add(root).expect("a root");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots);
        let mut config = match own {
            None => builder.with_no_client_auth(),
            Some(pair) => {
                let certificate = CertificateDer::from_pem_file(&pair.certificate);
                let key = PrivateKeyDer::from_pem_file(&pair.key).expect("a key");
                builder
                    .with_client_auth_cert(vec![certificate.expect("a certificate")], key)
                    .expect("they fit")
            }
        };
        config.alpn_protocols = vec![b"postgresql".to_vec()];
        Self { config }
    }

    /// Names these protocols in the handshake.
    pub(crate) fn naming(mut self, protocols: &[&str]) -> Self {
        let protocols = protocols.iter().map(|name| name.as_bytes().to_vec());
        self.config.alpn_protocols = protocols.collect();
        self
    }

    /// Begins with the handshake.
    pub(crate) async fn direct(&self, addr: SocketAddr) -> std::io::Result<TlsStream<TcpStream>> {
        let stream = TcpStream::connect(addr).await?;
        self.handshake(stream).await
    }

    /// Asks first.
    pub(crate) async fn asked(&self, addr: SocketAddr) -> std::io::Result<TlsStream<TcpStream>> {
        let mut wire = Wire::connect(addr).await;
        wire.send(&message::ssl_request()).await;
        assert_eq!(wire.try_read_byte().await, Some(b'S'), "it is granted");
        self.handshake(wire.into_stream()).await
    }

    pub(crate) async fn handshake(
        &self,
        stream: TcpStream,
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let name = ServerName::try_from("localhost").expect("a name");
        let connector = TlsConnector::from(Arc::new(self.config.clone()));
        within("a handshake", SOON, connector.connect(name, stream)).await
    }

    /// A session that begins with the handshake.
    pub(crate) async fn session(
        &self,
        addr: SocketAddr,
        user: &str,
        database: &str,
    ) -> Wire<TlsStream<TcpStream>> {
        let mut wire = Wire::new(self.direct(addr).await.expect("a handshake"));
        let startup = message::startup(&[("user", user), ("database", database)]);
        wire.send(&startup).await;
        wire.authenticate(user, None).await.expect("let in");
        wire
    }
}
