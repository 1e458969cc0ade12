//! Sockets to clients and servers, plain or encrypted, and what certificates say.
//!
//! rustls with ring does the work. Both sides speak TLS 1.2 and 1.3; what PostgreSQL adds is small:
//! the request in front of the handshake, `postgresql` as the protocol's name (ALPN), and
//! `tls-server-end-point` as the channel binding of SCRAM.

pub mod acceptor;
pub mod connector;
mod end_point;
mod expiry;
pub mod files;
mod names;
pub mod stream;
pub mod tcp;
mod trust;
pub mod web;

use std::sync::Arc;

use rustls::crypto::CryptoProvider;

pub use names::Names;

/// The protocol's name in TLS (ALPN; Postgres documentation section 55.2.12).
const ALPN: &[u8] = b"postgresql";

/// The name of HTTP/1.1 in TLS (RFC 7301).
const HTTP: &[u8] = b"http/1.1";

/// What an encrypted connection tells of its two ends.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Encryption {
    /// The `tls-server-end-point` of the certificate that the server side showed (RFC 5929);
    /// `None` when its signature names no hash.
    pub end_point: Option<Vec<u8>>,
    /// The names in a certificate of the client that was found valid.
    pub client: Option<Names>,
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}
